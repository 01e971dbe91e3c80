"""A GPU's kernels, run by Triton's interpreter on the processor, against the plain way."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators.examples import SMALL_GAN, of_columns, related_tables

import synthfactory as sf
from synthfactory.generators import ctgan, fusing
from synthfactory.generators.ctgan import CTGANTrainer
from synthfactory.generators.drawing import Deck
from synthfactory.generators.flat import Adam, Average, Flat
from synthfactory.generators.representation import Representation

if torch.cuda.is_available():
    pytest.skip("test_on_gpu.py runs the kernels themselves", allow_module_level=True)
pytest.importorskip("triton")

CPU = torch.device("cpu")
ALL = dataclasses.replace(
    SMALL_GAN, dropout=0.5, discriminator_steps=2, average_decay=0.99, discriminator_dims=(32, 16)
)
SPECS = {
    "small": SMALL_GAN,
    "all": ALL,
    "one layer": dataclasses.replace(SMALL_GAN, discriminator_dims=(24,), generator_dims=(16,)),
    "three layers": dataclasses.replace(
        ALL, discriminator_dims=(24, 16, 8), generator_dims=(16, 8, 8), pac=1, batch_size=30
    ),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[sf.Table]:
    return related_tables(tmp_path_factory)


def _trainer(
    spec: Any,
    tables: list[sf.Table],
    loops: fusing.Loops | None,
    monkeypatch: pytest.MonkeyPatch,
) -> CTGANTrainer:
    members = [Representation.fit(table) for table in tables]
    rows = [member.encode(table, seed=1) for member, table in zip(members, tables, strict=True)]
    seeds = list(range(1, len(tables) + 1))
    with monkeypatch.context() as patched:
        patched.setattr(ctgan, "loops_of", lambda *_: loops)
        made: CTGANTrainer = spec._trainer(members, Deck(rows, CPU), seeds, CPU)
    return made


def _expect_the_plain_steps(
    spec: Any, tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _trainer(spec, tables, None, monkeypatch)
    fused = _trainer(spec, tables, fusing.GpuLoops(), monkeypatch)
    for step in range(2):
        # Adam makes much of gradients that are nearly 0: begin each step at the same weights.
        fused.restore(plain.tensors)
        for trainer in (plain, fused):
            trainer.prepare(step)
            trainer.step(0)
        for ours, theirs in ((fused.critic, plain.critic), (fused.generator, plain.generator)):
            for name, grad in theirs.grad.items():
                scale = float(grad.abs().max())
                error = float((ours.grad[name] - grad).abs().max())
                assert error <= 3e-5 * scale + 1e-7, f"{name} at step {step}: {error} of {scale}"
        torch.testing.assert_close(fused.losses, plain.losses, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("name", list(SPECS))
def test_kernels_make_the_plain_step(
    name: str, n_members: int, tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    _expect_the_plain_steps(SPECS[name], tables[:n_members], monkeypatch)


@pytest.mark.parametrize("sort", ["numbers", "levels", "points", "wide"])
def test_tables_of_one_sort(sort: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "numbers": {"one": chance.normal(size=400), "two": chance.exponential(size=400)},
        "levels": {"one": chance.choice(["a", "b"], 400), "two": chance.choice(list("cdefg"), 400)},
        # No mode has a scalar: real ones are exactly 0, and so are fake ones.
        "points": {
            "constant": np.full(400, 7.0),
            "few": chance.choice([0.0, 1.0, 5.0], 400),
            "kind": chance.choice(["a", "b"], 400),
        },
        # Embedded, so that features take the plain way.
        "wide": {
            "code": [f"c{number:04d}" for number in chance.permutation(np.arange(1_200) % 600)],
            "two": chance.normal(size=1_200),
        },
    }[sort]
    numerical, categorical = {"kind": "numerical"}, {"kind": "categorical"}
    declared: dict[str, Any] = {
        "points": {"columns": {"constant": numerical, "few": numerical}},
        "wide": {"columns": {"code": categorical}},
    }.get(sort, {})
    table = of_columns(columns, tmp_path, **declared)
    _expect_the_plain_steps(ALL, [table], monkeypatch)


def test_fake_scalars_of_columns_without_gaussians_are_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = np.random.default_rng(0).choice([0.0, 1.0, 5.0], 400)
    table = of_columns({"few": few}, tmp_path, columns={"few": {"kind": "numerical"}})
    for loops in (None, fusing.ProcessorLoops(), fusing.GpuLoops()):
        trainer = _trainer(SMALL_GAN, [table], loops, monkeypatch)
        trainer.prepare(0)
        trainer.step(0)
        x_KFP3G = trainer._draw(trainer._noise.reader(0), trainer._picks.of_step(0, 0))[1]
        assert not x_KFP3G[:, 0, :, :2].any(), loops


def test_bfloat16_is_near(tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch) -> None:
    # Triton's interpreter cuts bfloat16 off where a GPU rounds it, weights too; and a first step of
    # Adam is of full length however small the gradient is.
    spec = dataclasses.replace(ALL, precision="bf16", discriminator_steps=1, discriminator_lr=1e-12)
    plain = _trainer(spec, tables[:2], None, monkeypatch)
    fused = _trainer(spec, tables[:2], fusing.GpuLoops(), monkeypatch)
    for trainer in (plain, fused):
        trainer.prepare(0)
        trainer.step(0)
    for ours, theirs in ((fused.critic, plain.critic), (fused.generator, plain.generator)):
        for name, grad in theirs.grad.items():
            scale = float(grad.norm())
            error = float((ours.grad[name] - grad).norm())
            assert error <= 0.05 * scale + 1e-6, f"{name}: {error} of {scale}"


@pytest.mark.parametrize("low", [False, True])
def test_adam_and_the_average_are_the_plain_ones(low: bool) -> None:
    dtype = torch.bfloat16 if low else torch.float32
    made = []
    for loops in (None, fusing.GpuLoops()):
        flat = Flat({"weight": (37, 41)}, 2, CPU, dtype)
        average = Average(torch.zeros_like(flat.values), torch.zeros(()), 0.9)
        adam = Adam(flat, lr=1e-2, betas=(0.5, 0.9), weight_decay=0.1, average=average, loops=loops)
        stream = torch.Generator().manual_seed(0)
        for _ in range(20):
            flat.grads.normal_(generator=stream)
            adam.step()
        made.append({**adam.state, "values": flat.values, "average": average.values,
                     "done": average.done, "low": flat.matrix["weight"].float()})  # fmt: skip
    for name, value in made[0].items():
        exact = 1e-2 if name == "low" and low else 2e-5
        torch.testing.assert_close(made[1][name], value, rtol=exact, atol=exact, msg=name)
    assert float(made[1]["steps"]) == 20


def test_kernels_become_machine_code_for_a_gpu() -> None:
    """Triton's interpreter lets pass what its compiler refuses."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, tests / "compiled_for_gpu.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    launched: set[str] = set()
    for name in ("gpu", "gpu_variational"):
        module = importlib.import_module(f"synthfactory.generators._kernels.{name}")
        launched |= set(re.findall(r"^    (_\w+)\[", inspect.getsource(module), re.MULTILINE))
    assert len(launched) > 15
    assert {line.split()[0] for line in done.stdout.splitlines()} == launched


def test_a_kernel_is_tried_before_it_is_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fusing.try_kernel(CPU)
    monkeypatch.setattr(fusing, "_may_build", lambda: True)
    # This machine's torch has no GPU to build for.
    with pytest.warns(RuntimeWarning, match="take single operations"):
        assert fusing.loops_of(torch.device("cuda", 7)) is None
    assert fusing.describe_loops(torch.device("cuda", 7)) == "single operations"
    assert fusing.describe_loops(CPU).startswith("numba ")


def test_a_kernel_that_is_wrong_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from synthfactory.generators._kernels import gpu

    monkeypatch.setattr(gpu, "update", lambda *args, **more: None)
    with pytest.raises(RuntimeError, match="a kernel made"):
        fusing.try_kernel(CPU)
