"""The compiled inner loop of the nearest-neighbour search.

Importing this module imports numba; see `synthfactory.compiling`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.compiling import compiled

# Shapes: Q queries, T tiles of R references, N narrow codes, W wide codes, F numbers, K neighbours.
TILE = 512
PATCH = 32
COLUMNS_AT_ONCE = 8
MAX_NARROW = 255


@compiled
def search(
    distances_QK: Any,
    places_QK: Any,
    own_Q: Any,
    narrow_QN: Any,
    wide_QW: Any,
    numbers_QF: Any,
    firsts_T: Any,
    places_TR: Any,
    narrow_TNR: Any,
    wide_TWR: Any,
    numbers_TFR: Any,
    narrow_2NT: Any,
    wide_2WT: Any,
    numbers_2FT: Any,
    n_references: int,
) -> None:
    """Nearest references of each query, ascending; ties by the lower place.

    A query's distance to the box around a tile is a bound for all references in it.  So a query
    visits the tile with the lowest bound first, and then those only that can still hold something
    nearer, or as near with a lower place.  In a tile, differing codes are counted in bytes before
    the numbers are touched, and the tile is left as soon as all its sums are too large.

    Bounds and sums are float32, columns are added in the same order to both, and rounding never
    turns larger into smaller: a bound is never above the sum that it stands for.  So the search is
    exact to the last bit, and equal rows are at equal distances.

    Parameters
    ----------
    distances_QK, places_QK
        Filled with float32 distances and int64 places.
    own_Q
        int64: the place of each query among the references, which is not its own neighbour; -1
        when it is none of them.
    narrow_QN, wide_QW, numbers_QF
        Queries: uint8 codes, int32 codes, and finite float32; a number far from all others where
        missing.
    firsts_T, places_TR
        int64: each reference's place before references were put into tiles, and the lowest of
        each tile.
    narrow_TNR, wide_TWR, numbers_TFR
        References, tile by tile.
    narrow_2NT, wide_2WT, numbers_2FT
        The lowest and the highest value of each column in each tile.
    n_references
        References in all; the last tile is filled up with copies.
    """
    n_queries, n_tiles, n_near = len(distances_QK), len(places_TR), distances_QK.shape[1]
    bounds_QT = np.zeros((n_queries, n_tiles), np.float32)
    home_Q = np.empty(n_queries, np.int64)
    counts_R, sums_R = np.empty(TILE, np.uint8), np.empty(TILE, np.float32)
    # The bits of floats that are not negative are ordered like integers, whose minimum is fast.
    bits_R, bits_QK = sums_R.view(np.int32), distances_QK.view(np.int32)
    distances_QK[:] = np.inf
    places_QK[:] = -1
    for q in range(n_queries):
        _bound_codes(narrow_QN[q], narrow_2NT, bounds_QT[q])
        _bound_codes(wide_QW[q], wide_2WT, bounds_QT[q])
        _bound_gaps(numbers_QF[q], numbers_2FT, bounds_QT[q])
        home_Q[q] = np.argmin(bounds_QT[q])
    # Home first; then tile by tile for all queries, so that a tile is in the cache for them.
    for step in range(n_tiles + 1):
        for q in range(n_queries):
            t = home_Q[q] if step == 0 else step - 1
            limit = distances_QK[q, n_near - 1]
            if step > 0 and t == home_Q[q]:
                continue
            # Nothing here comes before the last neighbour, neither nearer nor with a lower place.
            if not _before(bounds_QT[q, t], firsts_T[t], limit, places_QK[q, n_near - 1]):
                continue
            count_differences(narrow_QN, q, narrow_TNR, t, counts_R)
            if least_count(counts_R) > limit:
                continue
            for r in range(TILE):
                sums_R[r] = np.float32(counts_R[r])
            add_differences(wide_QW, q, wide_TWR, t, sums_R)
            if add_gaps(numbers_QF, q, numbers_TFR, t, sums_R, bits_R, bits_QK[q, n_near - 1]):
                n_here = min(TILE, n_references - t * TILE)
                _keep(bits_R, places_TR, t, n_here, own_Q[q], bits_QK, places_QK, q)


@compiled
def _bound_codes(query_C: Any, codes_2CT: Any, bounds_T: Any) -> None:
    for column in range(len(query_C)):
        code, lowest, highest = query_C[column], codes_2CT[0, column], codes_2CT[1, column]
        for t in range(len(bounds_T)):
            bounds_T[t] += np.float32((code < lowest[t]) | (code > highest[t]))


@compiled
def _bound_gaps(query_F: Any, numbers_2FT: Any, bounds_T: Any) -> None:
    zero, one = np.float32(0.0), np.float32(1.0)
    for column in range(len(query_F)):
        number, lowest, highest = query_F[column], numbers_2FT[0, column], numbers_2FT[1, column]
        for t in range(len(bounds_T)):
            outside = max(lowest[t] - number, number - highest[t])
            bounds_T[t] += min(max(outside, zero), one)


@compiled
def count_differences(narrow_QN: Any, q: int, narrow_TNR: Any, t: int, counts_R: Any) -> None:
    """How many narrow codes of each reference of a tile differ from a query's."""
    for r in range(TILE):
        counts_R[r] = np.uint8(0)
    for column in range(narrow_QN.shape[1]):
        code = narrow_QN[q, column]
        for r in range(TILE):
            counts_R[r] += np.uint8(narrow_TNR[t, column, r] != code)


@compiled
def least_count(counts_R: Any) -> np.float32:
    """The smallest of a tile's counts."""
    least = np.uint8(255)
    for r in range(TILE):
        count = counts_R[r]
        least = count if count < least else least
    return np.float32(least)


@compiled
def add_differences(wide_QW: Any, q: int, wide_TWR: Any, t: int, sums_R: Any) -> None:
    """Add 1 for every wide code that differs."""
    for column in range(wide_QW.shape[1]):
        code = wide_QW[q, column]
        for r in range(TILE):
            sums_R[r] += np.float32(wide_TWR[t, column, r] != code)


@compiled
def add_gaps(
    numbers_QF: Any, q: int, numbers_TFR: Any, t: int, sums_R: Any, bits_R: Any, limit: int
) -> bool:
    """Add each number's gap; false as soon as all sums are above the limit, as bits."""
    one = np.float32(1.0)
    n_columns = numbers_QF.shape[1]
    for begin in range(0, max(n_columns, 1), COLUMNS_AT_ONCE):
        for column in range(begin, min(begin + COLUMNS_AT_ONCE, n_columns)):
            number = numbers_QF[q, column]
            for r in range(TILE):
                sums_R[r] += min(abs(numbers_TFR[t, column, r] - number), one)
        if _lowest(bits_R, 0, TILE) > limit:
            return False
    return True


@compiled
def _lowest(bits_R: Any, first: int, last: int) -> Any:
    lowest = bits_R[first]
    for r in range(first, last):
        bits = bits_R[r]
        lowest = bits if bits < lowest else lowest
    return lowest


@compiled
def _keep(
    bits_R: Any,
    places_TR: Any,
    t: int,
    n_here: int,
    own: int,
    bits_QK: Any,
    places_QK: Any,
    q: int,
) -> None:
    """Insert the sums that come before the last neighbour."""
    last = bits_QK.shape[1] - 1
    for start in range(0, n_here, PATCH):
        if _lowest(bits_R, start, start + PATCH) > bits_QK[q, last]:
            continue
        for r in range(start, min(start + PATCH, n_here)):
            bits, place = bits_R[r], places_TR[t, r]
            if place == own or not _before(bits, place, bits_QK[q, last], places_QK[q, last]):
                continue
            k = last
            while k > 0 and _before(bits, place, bits_QK[q, k - 1], places_QK[q, k - 1]):
                bits_QK[q, k], places_QK[q, k] = bits_QK[q, k - 1], places_QK[q, k - 1]
                k -= 1
            bits_QK[q, k], places_QK[q, k] = bits, place


@compiled
def _before(distance: Any, place: int, its_distance: Any, its_place: int) -> bool:
    return bool(distance < its_distance or (distance == its_distance and place < its_place))
