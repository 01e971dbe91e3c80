"""The loops of drawing rows.

Shapes: B batch rows, C rows at once, M numeric columns, S spans, V levels of a span, W width of the
logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.compiling import compiled
from synthfactory.generators._kernels.arithmetic import FLOAT, ZERO, exponential

# The lowest bits of a whole number as a place above 0, up to and including 1.
_BITS_OF_PLACE, _PLACE = np.int32(0xFFFFFF), FLOAT(2.0**-24)


@compiled
def draw_codes(
    logits_WB: Any, starts_S: Any, sizes_S: Any, bits_SB: Any, weights_VC: Any, codes_SB: Any
) -> None:
    """A code for each span, drawn by the softmax of its logits by inversion of 24 random bits.

    The rows are taken C at a time, whose cumulated weights stay in the cache; V is the largest
    size.  What ``weights_VC`` holds is overwritten.  The numbers that are looked for among the
    weights are above 0, so that a code without weight is never drawn.
    """
    n_spans, n_rows = codes_SB.shape
    at_once = weights_VC.shape[1]
    highest_C, sums_C = np.empty(at_once, np.float32), np.empty(at_once, np.float32)
    codes_C = np.empty(at_once, np.int32)
    for begin in range(0, n_rows, at_once):
        count = min(at_once, n_rows - begin)
        for span in range(n_spans):
            first, size = starts_S[span], sizes_S[span]
            row_C = logits_WB[first, begin : begin + count]
            for c in range(count):
                highest_C[c] = row_C[c]
                sums_C[c] = ZERO
                codes_C[c] = 0
            for v in range(1, size):
                row_C = logits_WB[first + v, begin : begin + count]
                for c in range(count):
                    highest_C[c] = row_C[c] if row_C[c] > highest_C[c] else highest_C[c]
            for v in range(size):
                row_C, weights_C = logits_WB[first + v, begin : begin + count], weights_VC[v]
                for c in range(count):
                    sums_C[c] += exponential(row_C[c] - highest_C[c])
                    weights_C[c] = sums_C[c]
            bits_C = bits_SB[span, begin : begin + count]
            for c in range(count):
                place = np.float32((bits_C[c] & _BITS_OF_PLACE) + 1) * _PLACE
                sums_C[c] *= place
            for v in range(size - 1):
                weights_C = weights_VC[v]
                for c in range(count):
                    codes_C[c] += np.int32(weights_C[c] < sums_C[c])
            out_C = codes_SB[span, begin : begin + count]
            for c in range(count):
                out_C[c] = codes_C[c]


@compiled
def place_numbers(
    codes_SB: Any, scalars_MB: Any, centres_MV: Any, reaches_MV: Any, numbers_MB: Any
) -> None:
    """``centre + scalar * reach`` of each number's mode; the modes are the first codes."""
    n_numeric, n_rows = scalars_MB.shape
    for m in range(n_numeric):
        codes_B, scalars_B, numbers_B = codes_SB[m], scalars_MB[m], numbers_MB[m]
        centres_V, reaches_V = centres_MV[m], reaches_MV[m]
        for b in range(n_rows):
            mode = codes_B[b]
            numbers_B[b] = centres_V[mode] + np.float64(scalars_B[b]) * reaches_V[mode]
