"""What is learnt, not only that something is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from generators.examples import as_table, mixed

import synthfactory as sf
from synthfactory.generators import Generator

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "spec",
    [sf.CTGAN(epochs=60, batch_size=100), sf.TVAE(epochs=60, batch_size=100)],
    ids=lambda spec: spec.name,
)
def test_marginals_and_dependence_are_learnt(spec: Generator, tmp_path: Path) -> None:
    table = as_table(mixed(2_000), tmp_path)
    real = table.to_pandas()
    synthetic = spec.fit(table, seed=0, threads=1).sample(4_000, seed=1).to_pandas()
    for level, share in real["group"].value_counts(normalize=True).items():
        assert abs((synthetic["group"] == level).mean() - share) < 0.03
    assert abs((synthetic["gain"] == 0).mean() - (real["gain"] == 0).mean()) < 0.03
    assert abs(synthetic["size"].isna().mean() - real["size"].isna().mean()) < 0.03
    means = synthetic.groupby("group")["size"].mean()
    assert means["a"] < 20 < 30 < means["b"]


def test_a_rare_level_keeps_its_frequency(tmp_path: Path) -> None:
    frame = mixed(2_000)
    frame["rare"] = np.where(np.arange(2_000) % 100 == 0, "yes", "no")
    table = as_table(frame, tmp_path)
    model = sf.CTGAN(epochs=40, batch_size=100).fit(table, seed=0, threads=1)
    share = (model.sample(10_000, seed=1).to_pandas()["rare"] == "yes").mean()
    # Training shows it at its logarithmic frequency, 40 times as often.
    assert 0.004 < share < 0.02
