"""The compiled inner loops of the multivariate measurements.

See `synthfactory.compiling`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.compiling import compiled
from synthfactory.evaluation._kernels import (
    TILE,
    add_differences,
    add_gaps,
    count_differences,
    least_count,
)

# Shapes: Q rows, T tiles of R others, N narrow codes, W wide codes, F numbers, C codes.


@compiled
def find_within(
    counts_Q: Any,
    sums_Q: Any,
    places_Q: Any,
    reach_Q: Any,
    reach_R: Any,
    weights_R: Any,
    narrow_QN: Any,
    wide_QW: Any,
    numbers_QF: Any,
    narrow_TNR: Any,
    wide_TWR: Any,
    numbers_TFR: Any,
) -> None:
    """Which others lie within reach of each row.

    Distances are made by the functions of the nearest-neighbour search: one that equals a radius
    there equals it here.

    Parameters
    ----------
    counts_Q, sums_Q, places_Q
        Filled, int64, float64 and int64: how many others, the sum of their weights, the last one.
    reach_Q, reach_R
        float32: a pair counts when its distance is at most both; one of them may be infinite.
    weights_R
        float64.
    narrow_QN, wide_QW, numbers_QF, narrow_TNR, wide_TWR, numbers_TFR
        Columns as in the nearest-neighbour search.
    """
    counts, sums = np.empty(TILE, np.uint8), np.empty(TILE, np.float32)
    farthest = reach_R.max()
    limits_Q = np.minimum(reach_Q, farthest)
    bits, limit_bits_Q = sums.view(np.int32), limits_Q.view(np.int32)
    counts_Q[:], sums_Q[:], places_Q[:] = 0, 0.0, -1
    for t in range(len(numbers_TFR)):
        n_here = min(TILE, len(reach_R) - t * TILE)
        for q in range(len(reach_Q)):
            count_differences(narrow_QN, q, narrow_TNR, t, counts)
            if least_count(counts) > limits_Q[q]:
                continue
            for r in range(TILE):
                sums[r] = np.float32(counts[r])
            add_differences(wide_QW, q, wide_TWR, t, sums)
            if not add_gaps(numbers_QF, q, numbers_TFR, t, sums, bits, limit_bits_Q[q]):
                continue
            for r in range(n_here):
                place = t * TILE + r
                if sums[r] <= limits_Q[q] and sums[r] <= reach_R[place]:
                    counts_Q[q] += 1
                    sums_Q[q] += weights_R[place]
                    places_Q[q] = place


@compiled
def squared_distances(
    numbers_QF: Any, codes_QC: Any, numbers_FR: Any, codes_CR: Any, squares_QR: Any
) -> None:
    """Fill in the squared Euclidean distances of embedded rows; a code that differs adds 1."""
    for q in range(len(squares_QR)):
        for start in range(0, squares_QR.shape[1], TILE):
            squares = squares_QR[q, start : start + TILE]
            squares[:] = np.float32(0.0)
            for column in range(codes_QC.shape[1]):
                code, codes = codes_QC[q, column], codes_CR[column, start : start + TILE]
                for r in range(len(squares)):
                    squares[r] += np.float32(codes[r] != code)
            for column in range(numbers_QF.shape[1]):
                number, numbers = numbers_QF[q, column], numbers_FR[column, start : start + TILE]
                for r in range(len(squares)):
                    squares[r] += (numbers[r] - number) * (numbers[r] - number)
