"""Fits, ensembles and samples on a real GPU; skipped where there is none.

On a machine that has only what the package needs:
``PYTHONPATH=.:tests python -m pytest --noconftest tests/generators/test_on_gpu.py``
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators.examples import SMALL_GAN, SMALL_VAE, related_tables
from torch import Tensor

import synthfactory as sf
from synthfactory.evaluation.neighbours import Points, nearest_k
from synthfactory.generators import ctgan, fit_ensemble, fusing, tvae
from synthfactory.generators.drawing import Deck
from synthfactory.generators.neural import NeuralTrainer
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import Runner, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda", 0)
WHOLE_GAN = dataclasses.replace(
    SMALL_GAN, dropout=0.5, discriminator_steps=2, average_decay=0.99, discriminator_dims=(32, 16)
)
SPECS = {"ctgan": SMALL_GAN, "ctgan-all": WHOLE_GAN, "tvae": SMALL_VAE}
BY_NAME = pytest.mark.parametrize("name", list(SPECS))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[sf.Table]:
    return related_tables(tmp_path_factory)


def _trainer(spec: Any, tables: list[sf.Table], seeds: list[int] | None = None) -> NeuralTrainer:
    members = [Representation.fit(table) for table in tables]
    rows = [member.encode(table, seed=1) for member, table in zip(members, tables, strict=True)]
    seeds = list(range(1, len(tables) + 1)) if seeds is None else seeds
    made: NeuralTrainer = spec._trainer(members, Deck(rows, GPU), seeds, GPU)
    return made


def _grads(trainer: NeuralTrainer) -> dict[str, Tensor]:
    flats = [getattr(trainer, part, None) for part in ("flat", "critic", "generator")]
    return {
        f"{place} {name}": value
        for place, flat in enumerate(flats)
        if flat is not None
        for name, value in flat.grad.items()
    }


@pytest.mark.parametrize("n_members", [1, 3])
@BY_NAME
def test_kernels_make_the_plain_step(
    name: str, n_members: int, tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, some = SPECS[name], tables[:n_members]
    assert isinstance(fusing.loops_of(GPU), fusing.GpuLoops)
    with using_precision("float32", GPU):
        fused = _trainer(spec, some)
        for module in (ctgan, tvae):
            monkeypatch.setattr(module, "loops_of", lambda *_: None)
        plain = _trainer(spec, some)
        for step in range(2):
            fused.restore(plain.tensors)
            for trainer in (plain, fused):
                trainer.prepare(step * trainer.block)
                trainer.step(0)
            ours, theirs = _grads(fused), _grads(plain)
            for part, grad in theirs.items():
                scale = float(grad.abs().max())
                error = float((ours[part] - grad).abs().max())
                assert error <= 1e-4 * scale + 1e-6, f"{part}: {error} of {scale}"
            torch.testing.assert_close(fused.losses, plain.losses, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("n_members", [1, 3])
@BY_NAME
def test_replayed_graphs_follow_the_steps(
    name: str, n_members: int, precision: str, tables: list[sf.Table]
) -> None:
    spec = dataclasses.replace(SPECS[name], precision=precision)
    with using_precision(precision, GPU):
        plain, graph = (_trainer(spec, tables[:n_members]) for _ in range(2))
        runners = Runner(plain, capture=lambda body: body), Runner(graph)
        for done in (0, plain.block, 2 * plain.block):
            for runner in runners:
                runner(done, plain.block)
    assert graph.losses.abs().sum() > 0
    torch.testing.assert_close(graph.losses, plain.losses, rtol=0.02, atol=0.05)


@BY_NAME
def test_a_member_follows_the_single_fit(name: str, tables: list[sf.Table]) -> None:
    spec = SPECS[name]
    with using_precision("float32", GPU):
        together = _trainer(spec, tables)
        steps = 3 * together.block
        for done in range(0, steps, together.block):
            Runner(together)(done, together.block)
        for place, table in enumerate(tables):
            alone = _trainer(spec, [table], [place + 1])
            runner = Runner(alone)
            done = 0
            while done < steps:
                count = min(alone.block, steps - done)
                runner(done, count)
                done += count
            torch.testing.assert_close(
                together.losses[:, place], alone.losses[:, 0], rtol=0.01, atol=0.05
            )


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@BY_NAME
def test_a_whole_fit_has_the_marginals(name: str, precision: str, tables: list[sf.Table]) -> None:
    spec = dataclasses.replace(SPECS[name], epochs=20, precision=precision)
    table = tables[0]
    told: list[int] = []
    model = spec.fit(table, seed=3, device="cuda", callback=lambda made: told.append(made.step))
    assert told[-1] == spec.steps(table.n_rows)
    rows, real = model.sample(4_000, seed=1), table.to_pandas()
    assert rows.digest == model.sample(4_000, seed=1).digest
    drawn = rows.to_pandas()
    assert abs(drawn["group"].eq("a").mean() - real["group"].eq("a").mean()) < 0.05
    assert abs(drawn["size"].isna().mean() - real["size"].isna().mean()) < 0.05
    some = model.sample(100, seed=1, conditions={"group": "b"}).to_pandas()
    assert some["group"].eq("b").all()


@pytest.mark.parametrize("name", ["ctgan", "tvae"])
def test_ensembles_train_every_member(name: str, tables: list[sf.Table]) -> None:
    spec = dataclasses.replace(SPECS[name], epochs=10)
    members = [(range(start, start + 300), start) for start in (0, 200, 400)]
    models = fit_ensemble(spec, tables[0], members, device="cuda")
    assert len({model.sample(50, seed=1).digest for model in models}) == 3


@pytest.mark.parametrize("name", ["ctgan", "tvae"])
def test_an_interrupted_fit_goes_on(name: str, tables: list[sf.Table], tmp_path: Path) -> None:
    spec = dataclasses.replace(SPECS[name], epochs=40)
    whole = spec.fit(tables[0], seed=3, device="cuda")

    class StoppedError(Exception):
        pass

    def stop(made: sf.Progress) -> None:
        if made.step >= 128:
            raise StoppedError

    path = tmp_path / "fit.safetensors"
    with pytest.MonkeyPatch.context() as always:
        always.setattr("synthfactory.generators.training.CHECKPOINT_S", (0.0, 0.0))
        with pytest.raises(StoppedError):
            spec.fit(tables[0], seed=3, device="cuda", callback=stop, checkpoint=path)
    assert path.exists()
    again = spec.fit(tables[0], seed=3, device="cuda", checkpoint=path)
    equal = [torch.equal(value, again.weights[part]) for part, value in whole.weights.items()]
    assert all(equal), f"{sum(equal)} of {len(equal)} tensors are equal"


def test_losses_that_are_no_numbers_are_gone_back_from(tables: list[sf.Table]) -> None:
    for spec in (SMALL_GAN, SMALL_VAE):
        trainer = _trainer(spec, tables[:1])
        spoilt = [2 * trainer.block]
        prepare = trainer.prepare

        def spoil(
            step: int,
            spoilt: list[int] = spoilt,
            prepare: Any = prepare,
            trainer: NeuralTrainer = trainer,
        ) -> None:
            if step in spoilt:
                spoilt.clear()
                next(iter(trainer.learnt.values())).fill_(torch.nan)
            prepare(step)

        trainer.prepare = spoil  # type: ignore[method-assign]
        course = train(trainer, steps=6 * trainer.block)
        assert course.rollbacks == 1
        assert all(bool(torch.isfinite(value).all()) for value in trainer.learnt.values())


def test_neighbours_are_the_processors() -> None:
    chance = np.random.default_rng(0)
    ours, theirs = (
        Points(
            numbers=chance.normal(size=(n_rows, 3)).astype(np.float32),
            codes=chance.integers(0, 4, (n_rows, 2)).astype(np.int32),
        )
        for n_rows in (3_000, 4_000)
    )
    there = nearest_k(ours, theirs, 3, threads=1, device="cuda")
    here = nearest_k(ours, theirs, 3, threads=1)
    np.testing.assert_allclose(there[0], here[0], rtol=1e-5, atol=1e-6)
    assert (there[1] == here[1]).mean() > 0.999
