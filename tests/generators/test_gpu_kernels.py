"""A GPU's kernels, run by Triton's interpreter on the processor, against the plain way."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
import torch
from generators.examples import SMALL_GAN, as_table, mixed

import synthfactory as sf
from synthfactory.generators import ctgan, fusing
from synthfactory.generators.drawing import Deck
from synthfactory.generators.neural import NeuralTrainer
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation

# Read when triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "1")
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
    """Tables of one schema, whose columns have different modes."""
    made = []
    for seed, n_rows in ((0, 700), (1, 600), (2, 500)):
        folder = tmp_path_factory.mktemp(f"table-{seed}")
        made.append(as_table(mixed(n_rows, seed=seed).drop(columns="person"), folder))
    return made


def _trainer(spec: Any, tables: list[sf.Table]) -> NeuralTrainer:
    members = [Representation.fit(table) for table in tables]
    rows = [member.encode(table, seed=1) for member, table in zip(members, tables, strict=True)]
    seeds = list(range(1, len(tables) + 1))
    made: NeuralTrainer = spec._trainer(members, Deck(rows, CPU), seeds, CPU)
    return made


def _both(
    spec: Any, tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch
) -> tuple[NeuralTrainer, NeuralTrainer]:
    made = []
    for loops in (None, fusing.GpuLoops()):
        with monkeypatch.context() as patched:
            patched.setattr(ctgan, "loops_of", lambda device, n_rows, loops=loops: loops)
            made.append(_trainer(spec, tables))
    return made[0], made[1]


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("name", list(SPECS))
def test_kernels_make_the_plain_step(
    name: str, n_members: int, tables: list[sf.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fused = _both(SPECS[name], tables[:n_members], monkeypatch)
    for step in range(3):
        for trainer in (plain, fused):
            trainer.prepare(step)
            trainer.step(0)
        for part, value in plain.tensors.items():
            other = fused.tensors[part]
            if value.dtype == torch.float32:
                torch.testing.assert_close(other, value, rtol=2e-4, atol=2e-5, msg=f"{part} {step}")
