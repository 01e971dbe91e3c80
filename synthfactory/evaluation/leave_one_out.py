"""The nearest row on all columns but one, for every column that may be left out, in one pass.

Who guesses each column of a person from the others would search as often as there are columns.
Gower's distance is a sum over columns: one sum and every column's own gap are enough.  Distances
are kept as whole numbers, in parts of 1 / 2**18 of a column's largest gap, so that taking a gap off
the sum is exact and equal rows are equally near.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.neighbours import centres
from synthfactory.tables import Encoded

Coordinates = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]

ONE = 2**18
FARTHEST = 2**29
ABSENT = -(2**30)
AT_ONCE = 256


def nearest_without(
    queries: Encoded, references: Encoded, spread: npt.NDArray[np.float64], *, threads: int
) -> Places:
    """Which reference is nearest to each query when one column does not count.

    Parameters
    ----------
    queries, references
        Rows.
    spread
        **Shape** (n_numeric,): a number's gap of this size counts as much as two different levels.
    threads
        Processor threads; the result does not depend on them.

    Returns
    -------
    places
        **Shape** (n_queries, n_columns), numeric columns first: the nearest reference without that
        column; the first of several equally near ones.
    """
    from synthfactory.evaluation import _attacks

    middle = centres(references)
    ours, theirs = (_coordinates(rows, middle, spread) for rows in (queries, references))
    n_tiles = -(-len(theirs) // _attacks.TILE)
    filled = np.minimum(np.arange(n_tiles * _attacks.TILE), len(theirs) - 1)
    shape = (n_tiles, _attacks.TILE, theirs.shape[1])
    tiles = np.ascontiguousarray(theirs[filled].reshape(shape).transpose(0, 2, 1))
    places = np.empty(ours.shape, dtype=np.int64)

    def search(first: int) -> None:
        some = slice(first, first + AT_ONCE)
        best = np.empty(ours[some].shape, dtype=np.int32)
        _attacks.search_without(
            ours[some], tiles, references.numbers.shape[1], ONE, best, places[some]
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, range(0, len(ours), AT_ONCE)))
    return places


def _coordinates(
    rows: Encoded, middle: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]
) -> Coordinates:
    """**Shape** (n_rows, n_columns): whole numbers; beyond 2,048 spreads all are equally far."""
    scaled = np.rint((rows.numbers - middle) / spread * ONE)
    bounded = np.clip(np.nan_to_num(scaled, nan=0.0), -FARTHEST, FARTHEST)
    numbers = np.where(np.isnan(scaled), ABSENT, bounded).astype(np.int32)
    return np.ascontiguousarray(np.column_stack([numbers, rows.codes]).astype(np.int32))
