"""Intervals against brute force and published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthfactory.evaluation.intervals import (
    Interval,
    clustered_error,
    effective_size,
    newcombe,
    normal,
    percentile,
    wilson,
)


def clustered_mean(values: np.ndarray, clusters: np.ndarray, confidence: float) -> Interval:
    return normal(float(values.mean()), clustered_error(values, clusters), confidence)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20), (81, 263)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    ours = wilson(hits, n, 0.95)
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert ours.lcb == pytest.approx(max(theirs.low, 0.0), abs=1e-12)
    assert ours.ucb == pytest.approx(theirs.high, abs=1e-12)


def test_newcombe_gives_the_published_example() -> None:
    # Newcombe 1998, table II: 56/70 - 48/80, method 10 gives 0.0524 to 0.3339.
    found = newcombe(56, 70, 48, 80, 0.95)
    assert found.estimate == pytest.approx(0.2)
    assert found.lcb == pytest.approx(0.0524, abs=5e-5)
    assert found.ucb == pytest.approx(0.3339, abs=5e-5)


def test_clusters_of_one_give_the_usual_interval() -> None:
    values = np.random.default_rng(0).random(400)
    found = clustered_mean(values, np.arange(400), 0.95)
    reach = 1.959964 * values.std(ddof=1) / 20
    assert found.ucb - found.estimate == pytest.approx(reach, rel=1e-3)


def test_clusters_widen_the_interval_as_much_as_they_must() -> None:
    values = np.repeat(np.random.default_rng(0).random(100), 9)
    alone = clustered_mean(values, np.arange(900), 0.95)
    together = clustered_mean(values, np.repeat(np.arange(100), 9), 0.95)
    widened = (together.ucb - together.lcb) / (alone.ucb - alone.lcb)
    assert widened == pytest.approx(3.0, rel=0.02)


def test_effective_size_is_that_of_independent_values_with_the_same_error() -> None:
    chance = np.random.default_rng(0)
    values = chance.random(400)
    assert effective_size(values, None) == 400
    assert effective_size(values, np.arange(400)) == pytest.approx(400)
    pairs = np.repeat(np.arange(200), 2)
    found = effective_size(values, pairs)
    spread = values.std(ddof=1)
    assert spread / found**0.5 == pytest.approx(
        max(clustered_error(values, pairs), spread / 400**0.5)
    )
    # Values that differ more within clusters than between them are no more than all.
    assert effective_size(np.tile([0.0, 1.0], 200) + 0.1 * values, pairs) == 400
    assert effective_size(np.zeros(400), pairs) == 200
    assert effective_size(np.empty(0), np.empty(0)) == 0


def test_effective_size_tells_the_variance_of_repeated_means() -> None:
    chance = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 6)
    means, sizes = [], []
    for _ in range(2_000):
        hits = (chance.random(50)[clusters] < 0.3) & (chance.random(300) < 0.8)
        means.append(hits.mean())
        sizes.append(effective_size(hits.astype(float), clusters))
    share = float(np.mean(means))
    assert np.median(sizes) == pytest.approx(share * (1 - share) / np.var(means), rel=0.05)


def test_clustered_interval_covers() -> None:
    chance = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        means = chance.normal(0, 1, 60)
        values = np.repeat(means, 5) + chance.normal(0, 1, 300)
        found = clustered_mean(values, np.repeat(np.arange(60), 5), 0.95)
        covered += found.lcb <= 0 <= found.ucb
    assert covered / 400 >= 0.92


def test_percentile_interval_holds_its_estimate() -> None:
    found = percentile(2.0, np.linspace(0, 1, 101), 0.9)
    assert found == (2.0, pytest.approx(0.05), 2.0)
