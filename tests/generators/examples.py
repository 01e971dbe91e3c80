"""Small tables that the tests of the generators share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import synthfactory as sf

SMALL_GAN = sf.CTGAN(
    epochs=2,
    batch_size=100,
    embedding_dim=16,
    generator_dims=(32,),
    discriminator_dims=(32,),
)
SMALL_VAE = sf.TVAE(
    epochs=2, batch_size=100, embedding_dim=16, encoder_dims=(32,), decoder_dims=(32,)
)


def n_slow(numbers: torch.Tensor) -> int:
    """How many a processor is slow with: below the normal ones of float32, and not 0."""
    return int(((numbers != 0.0) & (numbers.abs() < torch.finfo(torch.float32).tiny)).sum())


def as_table(frame: pd.DataFrame, folder: Path, **declared: Any) -> sf.Table:
    """A frame, read as a user's file is read."""
    path = folder / "table.parquet"
    frame.to_parquet(path)
    return sf.read_table(path, **declared)


def mixed(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Numbers with a spike and missing values, levels of which one is rare, an identifier."""
    chance = np.random.default_rng(seed)
    group = chance.choice(["a", "b", "c"], n_rows, p=[0.7, 0.25, 0.05])
    size = np.where(group == "a", chance.normal(0, 1, n_rows), chance.normal(50, 5, n_rows))
    gain = np.where(chance.random(n_rows) < 0.8, 0, chance.integers(1_000, 90_000, n_rows))
    frame = pd.DataFrame(
        {
            "person": [f"id-{number:05d}-{seed}" for number in range(n_rows)],
            "group": group,
            "size": size.round(3),
            "gain": gain,
            "member": chance.random(n_rows) < 0.4,
        }
    )
    frame.loc[chance.random(n_rows) < 0.1, "size"] = np.nan
    return frame


def of_columns(values: Mapping[str, Any], folder: Path, **declared: Any) -> sf.Table:
    """A table of these columns."""
    return as_table(pd.DataFrame(dict(values)), folder, **declared)


def related_tables(folders: pytest.TempPathFactory) -> list[sf.Table]:
    """Three tables of one schema, whose columns have different modes."""
    made = []
    for seed, n_rows in ((0, 700), (1, 600), (2, 500)):
        folder = folders.mktemp(f"table-{seed}")
        made.append(as_table(mixed(n_rows, seed=seed).drop(columns="person"), folder))
    return made
