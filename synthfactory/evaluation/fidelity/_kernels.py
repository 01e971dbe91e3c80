"""The compiled inner loops of the multivariate measurements.

They release Python's lock and start no threads of their own; see `evaluation._kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.evaluation._kernels import compiled

# Shapes: Q rows, R others, F numbers, C codes.
TILE = 512


@compiled
def find_within(
    numbers_QF: Any,
    codes_QC: Any,
    numbers_FR: Any,
    codes_CR: Any,
    reach_Q: Any,
    reach_R: Any,
    values_R: Any,
    counts_Q: Any,
    places_Q: Any,
    least_Q: Any,
    second_Q: Any,
) -> None:
    """Which others lie within reach of each row, in Gower's distance.

    Codes are counted first, then numbers are added in their order, as the nearest-neighbour search
    does it: a distance that equals a radius from there equals it here.

    Parameters
    ----------
    numbers_QF, codes_QC, numbers_FR, codes_CR
        float32, finite (a huge number where missing), and int32.
    reach_Q, reach_R
        float32: a pair counts when its distance is at most both.
    values_R
        float64: of the others within reach the smallest value, where it is, and the second.
    counts_Q, places_Q, least_Q, second_Q
        Filled: int64, int64, float64, float64.
    """
    differ = np.empty(TILE, np.int32)
    sums = np.empty(TILE, np.float32)
    for q in range(len(reach_Q)):
        counts_Q[q], places_Q[q] = 0, -1
        least_Q[q] = second_Q[q] = np.inf
        for start in range(0, len(reach_R), TILE):
            n_here = min(TILE, len(reach_R) - start)
            _gower(numbers_QF[q], codes_QC[q], numbers_FR, codes_CR, start, n_here, differ, sums)
            for r in range(n_here):
                if sums[r] <= reach_Q[q] and sums[r] <= reach_R[start + r]:
                    counts_Q[q] += 1
                    value = values_R[start + r]
                    if value < least_Q[q]:
                        second_Q[q] = least_Q[q]
                        least_Q[q], places_Q[q] = value, start + r
                    elif value < second_Q[q]:
                        second_Q[q] = value


@compiled
def _gower(
    numbers_F: Any,
    codes_C: Any,
    numbers_FR: Any,
    codes_CR: Any,
    start: int,
    n_here: int,
    differ: Any,
    sums: Any,
) -> None:
    one = np.float32(1.0)
    differ[:n_here] = 0
    for column in range(len(codes_C)):
        code, codes = codes_C[column], codes_CR[column, start : start + n_here]
        for r in range(n_here):
            differ[r] += codes[r] != code
    for r in range(n_here):
        sums[r] = np.float32(differ[r])
    for column in range(len(numbers_F)):
        number, numbers = numbers_F[column], numbers_FR[column, start : start + n_here]
        for r in range(n_here):
            sums[r] += min(abs(numbers[r] - number), one)


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
