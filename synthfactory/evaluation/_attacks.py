"""The compiled inner loops of the attacks on single persons; importing this imports numba.

Shapes: P predicates, W conditions, C columns, N rows, Q queries, T tiles of R references.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.compiling import compiled

TILE = 512
NONE = -1
SEVERAL = -2
AT_LEAST, AT_MOST, EQUAL, MISSING = 0, 1, 2, 3


@compiled
def only_matches(
    columns_PW: Any, sides_PW: Any, values_PW: Any, matrix_CN: Any, found_P: Any
) -> None:
    """The only row that matches each predicate; `NONE` or `SEVERAL` where there is no such row.

    A predicate is left at the first tile of rows that brings its second match.
    """
    n_rows = matrix_CN.shape[1]
    meets = np.empty(TILE, np.int64)
    for p in range(len(found_P)):
        found_P[p] = NONE
        for start in range(0, n_rows, TILE):
            n_here = min(TILE, n_rows - start)
            meets[:n_here] = 1
            for w in range(columns_PW.shape[1]):
                if columns_PW[p, w] >= 0:
                    column = matrix_CN[columns_PW[p, w], start : start + n_here]
                    _narrow(column, sides_PW[p, w], values_PW[p, w], meets)
            n_meet = 0
            for r in range(n_here):
                n_meet += meets[r]
            if n_meet > 1 or (n_meet == 1 and found_P[p] != NONE):
                found_P[p] = SEVERAL
                break
            if n_meet == 1:
                found_P[p] = start + _first(meets)


@compiled
def _narrow(column: Any, side: int, value: float, meets: Any) -> None:
    """Leave the rows that meet one more condition."""
    if side == AT_LEAST:
        for r in range(len(column)):
            meets[r] &= column[r] >= value
    elif side == AT_MOST:
        for r in range(len(column)):
            meets[r] &= column[r] <= value
    elif side == EQUAL:
        for r in range(len(column)):
            meets[r] &= column[r] == value
    else:
        for r in range(len(column)):
            meets[r] &= column[r] != column[r]


@compiled
def _first(meets: Any) -> int:
    place = 0
    while meets[place] == 0:
        place += 1
    return place


@compiled
def search_without(
    queries_QC: Any, tiles_TCR: Any, n_numbers: int, one: int, best_QC: Any, places_QC: Any
) -> None:
    """The nearest reference on all columns but one, for every column that may be left out.

    Distances are whole numbers, so that taking a column's gap off the sum of all is exact, and
    ties are ties; of equally near references the first counts.  A tile is passed over where even
    the largest gap, taken off its smallest sum, brings nothing nearer.

    Parameters
    ----------
    queries_QC, tiles_TCR
        int32 coordinates, numbers first; the last tile is filled up with copies of its last row.
    n_numbers
        How many columns are numbers.
    one
        The largest gap of a column.
    best_QC, places_QC
        Filled with int32 distances and int64 places.
    """
    n_columns = queries_QC.shape[1]
    gaps = np.empty((n_columns, TILE), np.int32)
    sums = np.empty(TILE, np.int32)
    most = np.int32(one)
    best_QC[:] = np.int32(2**31 - 1)
    places_QC[:] = -1
    for t in range(len(tiles_TCR)):
        for q in range(len(queries_QC)):
            sums[:] = np.int32(0)
            for c in range(n_columns):
                _add_gaps(queries_QC[q, c], tiles_TCR[t, c], c < n_numbers, most, gaps[c], sums)
            bound = _lowest(sums) - most
            for c in range(n_columns):
                if bound < best_QC[q, c]:
                    _improve(sums, gaps[c], t * TILE, c, best_QC[q], places_QC[q])


@compiled
def _add_gaps(
    query: Any, tile_R: Any, is_number: bool, most: Any, gaps_R: Any, sums_R: Any
) -> None:
    if is_number:
        for r in range(TILE):
            gap = min(abs(tile_R[r] - query), most)
            gaps_R[r] = gap
            sums_R[r] += gap
    else:
        for r in range(TILE):
            gap = most if tile_R[r] != query else np.int32(0)
            gaps_R[r] = gap
            sums_R[r] += gap


@compiled
def _lowest(sums_R: Any) -> Any:
    lowest = sums_R[0]
    for r in range(TILE):
        lowest = min(sums_R[r], lowest)
    return lowest


@compiled
def _improve(sums_R: Any, gaps_R: Any, first: int, column: int, best_C: Any, places_C: Any) -> None:
    lowest = sums_R[0] - gaps_R[0]
    for r in range(TILE):
        lowest = min(sums_R[r] - gaps_R[r], lowest)
    if lowest < best_C[column]:
        for r in range(TILE):
            if sums_R[r] - gaps_R[r] == lowest:
                best_C[column], places_C[column] = lowest, first + r
                break
