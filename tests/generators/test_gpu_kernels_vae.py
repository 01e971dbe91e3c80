"""A GPU's kernels of TVAE, run by Triton's interpreter on the processor, against the plain way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from generators.examples import SMALL_VAE, as_table, mixed

import synthfactory as sf
from synthfactory.generators import fusing, tvae
from synthfactory.generators.drawing import Deck
from synthfactory.generators.representation import Representation
from synthfactory.generators.tvae import TVAETrainer
from synthfactory.generators.variational import Latent, Likelihood
from synthfactory.generators.variational_gpu import GpuLatent, GpuLikelihood

if torch.cuda.is_available():
    pytest.skip("test_on_gpu.py runs the kernels themselves", allow_module_level=True)
pytest.importorskip("triton")

CPU = torch.device("cpu")
SPECS = {
    "small": SMALL_VAE,
    "three layers": dataclasses.replace(
        SMALL_VAE, encoder_dims=(24, 16, 8), decoder_dims=(8, 16), embedding_dim=5, batch_size=30
    ),
    "one row of a kernel": dataclasses.replace(SMALL_VAE, embedding_dim=1, encoder_dims=(1,)),
}
COLUMNS = {
    "all": ["group", "size", "gain", "member"],
    "numeric": ["size", "gain"],
    "one": ["size"],
    "discrete": ["group", "member"],
    "long": ["group", "size", "place"],
}


Tables = Mapping[str, list[sf.Table]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Of each choice of columns three tables of one schema, whose columns have different modes."""
    frames = [mixed(n_rows, seed=seed) for seed, n_rows in ((0, 700), (1, 600), (2, 500))]
    for frame in frames:
        # More levels than the lower of a tile's heights.
        frame["place"] = [f"place-{number % 40}" for number in range(len(frame))]
    return {
        name: [as_table(frame[columns], tmp_path_factory.mktemp("table")) for frame in frames]
        for name, columns in COLUMNS.items()
    }


def _trainer(spec: Any, tables: list[sf.Table]) -> TVAETrainer:
    members = [Representation.fit(table) for table in tables]
    rows = [member.encode(table, seed=1) for member, table in zip(members, tables, strict=True)]
    seeds = list(range(1, len(tables) + 1))
    made: TVAETrainer = spec._trainer(members, Deck(rows, CPU), seeds, CPU)
    return made


def _both(
    spec: Any, tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch
) -> tuple[TVAETrainer, TVAETrainer]:
    made = []
    for loops in (None, fusing.GpuLoops()):
        with monkeypatch.context() as patched:
            patched.setattr(tvae, "loops_of", lambda *_, loops=loops: loops)
            patched.setattr(tvae, "fuses", lambda tensor: False)
            made.append(_trainer(spec, tables))
    plain, kernels = made
    assert type(plain._latent) is Latent
    assert type(plain._likelihood) is Likelihood
    assert type(kernels._latent) is GpuLatent
    assert type(kernels._likelihood) is GpuLikelihood
    return plain, kernels


def _step(trainer: TVAETrainer, state: Mapping[str, torch.Tensor], step: int) -> None:
    """A step from this state; gradients of old steps are gone."""
    trainer.restore(state)
    trainer.losses.zero_()
    trainer.flat.grads.fill_(7.0)
    trainer.prepare(step)
    trainer.step(0)


def _copy(trainer: TVAETrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.tensors.items()}


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("small", "all"),
        ("small", "numeric"),
        ("small", "one"),
        ("small", "discrete"),
        ("small", "long"),
        ("three layers", "all"),
        ("one row of a kernel", "all"),
    ],
)
def test_kernels_make_the_plain_gradients(
    name: str,
    columns: str,
    n_members: int,
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, kernels = _both(SPECS[name], tables[columns][:n_members], monkeypatch)
    if n_members > 1 and columns != "discrete":
        assert plain._layout.is_padded, "members have different modes"
    for step in range(2):
        state = _copy(plain)
        for trainer in (plain, kernels):
            _step(trainer, state, step)
        torch.testing.assert_close(kernels.losses, plain.losses, rtol=1e-5, atol=1e-5)
        assert bool((plain.losses != 0.0).all())
        for part, grad in plain.flat.grad.items():
            other = kernels.flat.grad[part]
            torch.testing.assert_close(other, grad, rtol=1e-4, atol=2e-6, msg=f"{part} {step}")
            # Adam makes much of little: what has no gradient has none.
            assert torch.equal(other == 0.0, grad == 0.0) or part.endswith("bias"), part


@pytest.mark.parametrize("n_members", [1, 3])
def test_steps_of_kernels_follow_the_plain_ones(
    n_members: int,
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, kernels = _both(SMALL_VAE, tables["all"][:n_members], monkeypatch)
    for step in range(6):
        for trainer in (plain, kernels):
            trainer.prepare(step)
            trainer.step(0)
    torch.testing.assert_close(kernels.losses, plain.losses, rtol=1e-4, atol=1e-4)
    sigma = kernels.flat.value["sigma"]
    torch.testing.assert_close(sigma, plain.flat.value["sigma"], rtol=1e-3, atol=1e-4)
    assert bool((sigma != tvae.SIGMA).all()), "deviations are learnt"


@pytest.mark.parametrize("n_members", [1, 3])
def test_kernels_at_lower_precision(
    n_members: int,
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = tables["all"][:n_members]
    exact, _ = _both(SMALL_VAE, members, monkeypatch)
    _, kernels = _both(dataclasses.replace(SMALL_VAE, precision="bf16"), members, monkeypatch)
    state = _copy(exact)
    for trainer in (exact, kernels):
        _step(trainer, state, 0)
    torch.testing.assert_close(kernels.losses, exact.losses, rtol=1e-2, atol=1e-2)
    for part, grad in exact.flat.grad.items():
        # The interpreter cuts numbers off where a GPU rounds them, which errs twice as much.
        error = (kernels.flat.grad[part] - grad).norm() / grad.norm()
        assert float(error) < 0.025, part
    low = kernels.flat.low
    assert low is not None
    torch.testing.assert_close(low.float(), kernels.flat.values, rtol=2.0**-7, atol=0.0)


def test_many_rows_are_summed_in_rounds(
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from synthfactory.generators._kernels import gpu_variational

    monkeypatch.setattr(gpu_variational, "MAX_BLOCKS", 2)
    spec = dataclasses.replace(SMALL_VAE, batch_size=300)
    plain, kernels = _both(spec, tables["long"][:1], monkeypatch)
    assert gpu_variational.blocks_of(kernels._likelihood._widest, 300) == 2
    state = _copy(plain)
    for trainer in (plain, kernels):
        _step(trainer, state, 0)
    torch.testing.assert_close(kernels.losses, plain.losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kernels.flat.grads, plain.flat.grads, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("part", ["encoder.0.bias", "decoder.0.bias", "head.bias", "sigma"])
def test_what_is_no_number_is_told(
    part: str,
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, kernels = _both(SMALL_VAE, tables["all"][:1], monkeypatch)
    kernels.flat.value[part][0, 0] = torch.nan
    kernels.prepare(0)
    kernels.step(0)
    assert bool(torch.isnan(kernels.losses[0]).all())


def test_wide_columns_take_the_plain_way(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = mixed(1200)
    frame["place"] = [f"place-{number % 600}" for number in range(len(frame))]
    table = as_table(frame[["size", "place"]], tmp_path_factory.mktemp("wide"))
    monkeypatch.setattr(tvae, "loops_of", lambda *_: fusing.GpuLoops())
    monkeypatch.setattr(tvae, "fuses", lambda tensor: False)
    trainer = _trainer(SMALL_VAE, [table])
    assert trainer._layout.wide
    assert type(trainer._latent) is Latent
    assert type(trainer._likelihood) is Likelihood
    before = trainer.flat.values.clone()
    trainer.prepare(0)
    trainer.step(0)
    assert bool(torch.isfinite(trainer.losses).all())
    assert not torch.equal(trainer.flat.values, before)
