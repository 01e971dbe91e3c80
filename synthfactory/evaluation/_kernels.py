"""The compiled inner loop of the nearest-neighbour search.

Importing this module imports numba; nothing is compiled before the first search, and what was
compiled is kept on disk where that is possible.  The loop releases Python's lock and starts no
threads of its own: numba's threading layers abort the process when two Python threads (two tasks
of one worker, say) enter a parallel loop at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

# Shapes: Q queries, T tiles of R references, N narrow codes, W wide codes, F numbers, K neighbours.
TILE = 512
PATCH = 32
COLUMNS_AT_ONCE = 8
MAX_NARROW = 255

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile at the first call; kept on disk unless no folder can be written."""
    try:
        return cast(Function, numba.njit(function, nogil=True, cache=True))
    except RuntimeError:  # "cannot cache function": installation and home are read-only
        return cast(Function, numba.njit(function, nogil=True))


@compiled
def search(
    distances_QK: Any,
    places_QK: Any,
    n_references: int,
    own: int,
    narrow_QN: Any,
    wide_QW: Any,
    numbers_QF: Any,
    narrow_TNR: Any,
    wide_TWR: Any,
    numbers_TFR: Any,
) -> None:
    """Nearest references of each query, ascending; ties by the lower place.

    References are visited in tiles that stay in the cache.  Differing codes are counted first, in
    bytes; a tile is left as soon as all its distances are too large.  Distances only grow as
    columns are added, in the same order for everybody, so what is left out cannot be nearer: the
    search is exact, and equal rows are at equal distances.

    Parameters
    ----------
    distances_QK, places_QK
        Filled with float32 distances and int64 places.
    n_references
        References in all; the last tile is filled up with copies of the last one.
    own
        Place of the first query among the references, whose rows are not their own neighbours;
        negative when queries are other rows.
    narrow_QN, narrow_TNR
        uint8 codes, at most 255 columns of them.
    wide_QW, wide_TWR
        int32 codes.
    numbers_QF, numbers_TFR
        float32, finite; a number far from all others where missing.
    """
    n_queries, n_near = distances_QK.shape
    counts = np.empty(TILE, np.uint8)
    sums = np.empty(TILE, np.float32)
    distances_QK[:] = np.inf
    places_QK[:] = -1
    for t in range(len(numbers_TFR)):
        n_here = min(TILE, n_references - t * TILE)
        for q in range(n_queries):
            limit = distances_QK[q, n_near - 1]
            _count_differences(narrow_QN[q], narrow_TNR[t], counts)
            if _least_count(counts) >= limit:
                continue
            for r in range(TILE):
                sums[r] = np.float32(counts[r])
            _add_differences(wide_QW[q], wide_TWR[t], sums)
            if _add_gaps(numbers_QF[q], numbers_TFR[t], sums, limit):
                myself = own + q - t * TILE if own >= 0 else -1
                _keep(sums, n_here, myself, t * TILE, distances_QK[q], places_QK[q])


@compiled
def _count_differences(query_N: Any, tile_NR: Any, counts_R: Any) -> None:
    counts_R[:] = np.uint8(0)
    for column in range(len(query_N)):
        code, codes = query_N[column], tile_NR[column]
        for r in range(TILE):
            counts_R[r] += np.uint8(codes[r] != code)


@compiled
def _least_count(counts_R: Any) -> np.float32:
    least = np.uint8(255)
    for r in range(TILE):
        count = counts_R[r]
        least = count if count < least else least
    return np.float32(least)


@compiled
def _add_differences(query_W: Any, tile_WR: Any, sums_R: Any) -> None:
    for column in range(len(query_W)):
        code, codes = query_W[column], tile_WR[column]
        for r in range(TILE):
            sums_R[r] += np.float32(codes[r] != code)


@compiled
def _add_gaps(query_F: Any, tile_FR: Any, sums_R: Any, limit: float) -> bool:
    """Add each number's gap; false as soon as no sum is below the limit."""
    one = np.float32(1.0)
    n_columns = len(query_F)
    for begin in range(0, max(n_columns, 1), COLUMNS_AT_ONCE):
        for column in range(begin, min(begin + COLUMNS_AT_ONCE, n_columns)):
            number, numbers = query_F[column], tile_FR[column]
            for r in range(TILE):
                sums_R[r] += min(abs(numbers[r] - number), one)
        if _lowest(sums_R, 0, TILE) >= limit:
            return False
    return True


@compiled
def _lowest(sums_R: Any, start: int, stop: int) -> Any:
    """The bits of floats that are not negative are ordered like integers, whose minimum is fast."""
    bits = sums_R[start:stop].view(np.int32)
    lowest = bits[0]
    place = 0
    for r in range(stop - start):
        bit = bits[r]
        lowest = bit if bit < lowest else lowest
    for r in range(stop - start):
        if bits[r] == lowest:
            place = r
            break
    return sums_R[start + place]


@compiled
def _keep(
    sums_R: Any, n_here: int, myself: int, first: int, distances_K: Any, places_K: Any
) -> None:
    """Insert the sums that are below the farthest neighbour's distance."""
    last = len(distances_K) - 1
    for start in range(0, n_here, PATCH):
        if _lowest(sums_R, start, start + PATCH) >= distances_K[last]:
            continue
        for r in range(start, min(start + PATCH, n_here)):
            if sums_R[r] >= distances_K[last] or r == myself:
                continue
            k = last
            while k > 0 and sums_R[r] < distances_K[k - 1]:
                distances_K[k], places_K[k] = distances_K[k - 1], places_K[k - 1]
                k -= 1
            distances_K[k], places_K[k] = sums_R[r], first + r
