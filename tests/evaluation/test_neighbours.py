"""The search for nearest neighbours is exact, whatever the columns, the threads and the blocks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfactory.errors import EvaluationError
from synthfactory.evaluation import neighbours
from synthfactory.evaluation.neighbours import (
    Points,
    by_scale,
    centres,
    nearest,
    nearest_k,
    part,
    scales,
)
from synthfactory.tables import Encoded


def rows(
    n: int, chance: np.random.Generator, *, numbers: int = 3, narrow: int = 3, wide: int = 1
) -> Encoded:
    """Few distinct values, so that there are many ties; some numbers are missing."""
    values = chance.integers(0, 6, (n, numbers)) / 3.0
    values[chance.random((n, numbers)) < 0.1] = np.nan
    codes = [chance.integers(0, 4, (n, narrow)), chance.choice([0, 300, 70_000], (n, wide))]
    return Encoded(numbers=values, codes=np.hstack(codes).astype(np.int32))


def points(n: int, chance: np.random.Generator, **shape: int) -> Points:
    found = rows(n, chance, **shape)
    return by_scale(found, np.ones(found.numbers.shape[1]))


def brute(queries: Points, references: Points) -> npt.NDArray[np.float32]:
    """**Shape** (n_queries, n_references): Gower distances, added in the order of the search."""
    total = (queries.codes[:, None] != references.codes[None]).sum(axis=2).astype(np.float32)
    for a, b in zip(queries.numbers.T, references.numbers.T, strict=True):
        missing = np.isneginf(a)[:, None] + 0 + np.isneginf(b)[None]
        with np.errstate(invalid="ignore"):
            gap = np.minimum(np.abs(a[:, None] - b[None]), np.float32(1.0))
        total += np.where(missing == 2, 0, np.where(missing == 1, 1, gap)).astype(np.float32)
    return total


def by_distance_then_number(every: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    return np.argsort(every, axis=1, kind="stable")[:, :k]


SHAPES = [
    {"numbers": 3, "narrow": 3, "wide": 1},
    {"numbers": 0, "narrow": 4, "wide": 0},
    {"numbers": 0, "narrow": 0, "wide": 2},
    {"numbers": 20, "narrow": 0, "wide": 0},
    {"numbers": 2, "narrow": 300, "wide": 0},
    {"numbers": 0, "narrow": 0, "wide": 0},
]


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("device", ["compiled", "tensors"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_neighbours_are_those_of_brute_force_to_the_bit(
    shape: dict[str, int], exclude_self: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "GPU_PAIRS", 200 * 200)
    chance = np.random.default_rng(1)
    references = points(1_100 if device == "compiled" else 310, chance, **shape)
    queries = references if exclude_self else points(230, chance, **shape)
    every = brute(queries, references)
    if exclude_self:
        np.fill_diagonal(every, np.inf)
    for k in (1, 7):
        if device == "compiled":
            distances, numbers = nearest_k(
                queries, references, k, threads=2, exclude_self=exclude_self
            )
        else:
            distances, numbers = neighbours._tensors(queries, references, k, "cpu", exclude_self)
        wanted = by_distance_then_number(every, k)
        assert np.array_equal(numbers, wanted)
        assert np.array_equal(distances, np.take_along_axis(every, wanted, axis=1))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 70),
    others=st.integers(3, 1_200),
    k=st.integers(1, 3),
    threads=st.integers(1, 4),
)
def test_threads_and_blocks_change_nothing(
    seed: int, n: int, others: int, k: int, threads: int
) -> None:
    chance = np.random.default_rng(seed)
    queries, references = points(n, chance), points(others, chance)
    whole = nearest_k(queries, references, k, threads=1)
    cut = int(chance.integers(0, n + 1))
    parts = [
        nearest_k(part(queries, first, last), references, k, threads=threads)
        for first, last in ((0, cut), (cut, n))
    ]
    for value, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(value, np.concatenate(pieces))


def test_nearest_is_the_first_of_equally_near_ones() -> None:
    same = Points(numbers=np.zeros((700, 1), np.float32), codes=np.zeros((700, 1), np.int32))
    distances, numbers = nearest(part(same, 0, 5), same, threads=1)
    assert not distances.any()
    assert not numbers.any()
    _, others = nearest_k(same, same, 2, threads=1, exclude_self=True)
    assert others[0].tolist() == [1, 2]
    assert others[5].tolist() == [0, 1]


def test_large_offsets_cost_no_precision() -> None:
    """Seconds since 1970 differ by minutes: float32 without a centre calls them all equal."""
    chance = np.random.default_rng(0)
    seconds = 1.7e9 + 60.0 * chance.permutation(600)[:, None]
    real = Encoded(numbers=seconds, codes=np.zeros((600, 0), np.int32))
    ready = by_scale(real, scales(real), centres(real))
    distances, _ = nearest_k(ready, ready, 1, threads=1, exclude_self=True)
    assert distances.min() == pytest.approx(60 / scales(real)[0], rel=1e-3)
    assert distances.max() == pytest.approx(distances.min(), rel=1e-3)


def test_what_float32_cannot_hold_is_far_away() -> None:
    real = Encoded(
        numbers=np.array([[1e300], [-1e300], [np.nan], [0.0]]), codes=np.zeros((4, 0), np.int32)
    )
    ready = by_scale(real, np.ones(1))
    distances, _ = nearest_k(ready, ready, 3, threads=1, exclude_self=True)
    assert (distances == 1.0).all()


def test_too_few_references_are_refused() -> None:
    few = points(5, np.random.default_rng(0))
    with pytest.raises(EvaluationError, match=r"at least 6 other rows .* got 5"):
        nearest_k(few, few, 6, threads=1)
    with pytest.raises(EvaluationError, match=r"at least 5 other rows .* got 4"):
        nearest_k(few, few, 5, threads=1, exclude_self=True)
    with pytest.raises(EvaluationError, match="1 to 64"):
        nearest_k(few, few, 65, threads=1)
    with pytest.raises(EvaluationError, match="references as queries"):
        nearest_k(part(few, 0, 2), few, 1, threads=1, exclude_self=True)


def test_importing_the_package_does_not_import_numba() -> None:
    asked = (
        "import sys, synthfactory, synthfactory.evaluation.evaluate; "
        "sys.exit('numba' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_nothing_can_be_written_and_the_search_still_works(tmp_path: Path) -> None:
    """A read-only installation and home: no folder for compiled code."""
    asked = """
import os, numpy as np
import numba.core.caching as caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda cls, function, path: None)
from synthfactory.evaluation.neighbours import Points, nearest
rows = Points(numbers=np.zeros((3, 1), np.float32), codes=np.zeros((3, 1), np.int32))
assert nearest(rows, rows, threads=1)[0].tolist() == [0.0, 0.0, 0.0]
"""
    subprocess.run([sys.executable, "-c", asked], check=True, env={**os.environ}, cwd=tmp_path)
