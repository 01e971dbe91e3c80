"""The compiled inner loops of a training step on a processor.

Between two matrix products a step of a small network makes many passes over tensors that fit the
cache; each pass that is an operation of its own costs a launch and goes through memory.  Here one
loop does the work of all of them.  Importing this module imports numba; see
`synthfactory.compiling`.

Exponential and logarithm are written as polynomials, so that the loops are vectorised and their
bits are the same on every processor: nothing is reordered, and no library is asked.  What is no
number stays none: comparisons are written so that they let it pass.

Shapes: K members, B batch rows, M numeric columns, S spans, W width of the logits, J of the
features, Z latent width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from synthfactory.compiling import compiled

_F = np.float32
_ONE, _TWO, _HALF = _F(1.0), _F(2.0), _F(0.5)

# exp(x) = 2^n exp(r), r = x - n ln 2, with ln 2 in two parts (Cody and Waite 1980, chapter 6), and
# exp(r) = 1 + r + r^2 P(r) on |r| < ln 2 / 2, a minimax polynomial in float32.
_LEAST_EXPONENT, _MOST_EXPONENT = _F(-87.0), _F(88.0)
_PER_LN_2 = _F(1.0 / math.log(2.0))
_LN_2_HIGH = _F(0.693359375)
_LN_2_LOW = _F(math.log(2.0) - 0.693359375)
# Added to a number below 2^22, it leaves the number rounded in the lowest bits.
_ROUNDER = _F(1.5 * 2.0**23)
_E0, _E1, _E2, _E3, _E4, _E5 = (
    _F(value)
    for value in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
# log(m) = 2 artanh(s), s = (m - 1) / (m + 1), for m from sqrt(1/2) to sqrt(2).
_LN_2 = _F(math.log(2.0))
_L3, _L5, _L7, _L9 = (_F(2.0 / power) for power in (3, 5, 7, 9))
_BITS_OF_ONE = 0x3F800000
_BITS_OF_ROOT_HALF = 0x3F3504F3
_MANTISSA_BITS = 23
# The lowest bits of a whole number as a place above 0, up to and including 1.
_BITS_OF_PLACE, _PLACE = np.int32(0xFFFFFF), _F(2.0**-24)


def _make_power_of_two(typing: Any, rounded: Any) -> Any:
    """2^n of what `_ROUNDER` was added to."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(32)
        bits = builder.bitcast(arguments[0], whole)
        bits = builder.shl(bits, ir.Constant(whole, _MANTISSA_BITS))
        bits = builder.add(bits, ir.Constant(whole, _BITS_OF_ONE))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), generate


def _exponent_bits(builder: Any, bits: Any) -> Any:
    whole = ir.IntType(32)
    above = builder.sub(bits, ir.Constant(whole, _BITS_OF_ROOT_HALF))
    return builder.ashr(above, ir.Constant(whole, _MANTISSA_BITS))


def _make_exponent(typing: Any, number: Any) -> Any:
    """n of ``number = 2^n m``, with m from sqrt(1/2) to sqrt(2)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        return builder.sitofp(_exponent_bits(builder, bits), ir.FloatType())

    return types.float32(types.float32), generate


def _make_mantissa(typing: Any, number: Any) -> Any:
    """m of ``number = 2^n m``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(32)
        bits = builder.bitcast(arguments[0], whole)
        power = builder.shl(_exponent_bits(builder, bits), ir.Constant(whole, _MANTISSA_BITS))
        return builder.bitcast(builder.sub(bits, power), ir.FloatType())

    return types.float32(types.float32), generate


_power_of_two: Any = intrinsic(_make_power_of_two)
_exponent: Any = intrinsic(_make_exponent)
_mantissa: Any = intrinsic(_make_mantissa)


@compiled
def exponential(x: Any) -> Any:
    """exp(x) in float32 to 1e-7 of itself; beyond -87 and 88 that of the bound."""
    x = _LEAST_EXPONENT if x < _LEAST_EXPONENT else x
    x = _MOST_EXPONENT if x > _MOST_EXPONENT else x
    rounded = x * _PER_LN_2 + _ROUNDER
    n = rounded - _ROUNDER
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    return ((p * (r * r) + r) + _ONE) * _power_of_two(rounded)


@compiled
def logarithm(x: Any) -> Any:
    """log(x) in float32 of a normal, positive number, to 2e-7 of the larger of itself and 1."""
    m: Any = _mantissa(x)
    s = (m - _ONE) / (m + _ONE)
    q = s * s
    # What is no finite number has bits, too, of which the rest would make one.
    nothing = x - x
    return nothing + _exponent(x) * _LN_2 + s * (_TWO + q * (_L3 + q * (_L5 + q * (_L7 + q * _L9))))


@compiled
def look_up(places: Any, table: Any, out: Any) -> None:
    """``out[i] = table[places[i]]``."""
    for place in range(len(places)):
        out[place] = table[places[place]]


@compiled
def write_rows(places_KSB: Any, scalars_KMB: Any, out_KJB: Any) -> None:
    """One-hot features of codes, given their places in ``out_KJB`` counted through, and scalars."""
    out_KJB[:] = _F(0.0)
    flat = out_KJB.reshape(-1)
    for place in places_KSB:
        flat[place] = _ONE
    out_KJB[:, : scalars_KMB.shape[1]] = scalars_KMB


@compiled
def draw(
    encoded_K2ZB: Any, noise_KZB: Any, points_KZB: Any, moved_KZB: Any, low: Any, high: Any,
    totals_K: Any,
) -> None:  # fmt: skip
    """Points of normal distributions; their deviations replace the logarithms of variances.

    ``totals_K`` is the sum of mean^2 + variance - log variance, ``moved_KZB`` how far each point
    is from its mean.
    """
    n_members, n_latent, n_rows = points_KZB.shape
    for k in range(n_members):
        sums_B = np.zeros(n_rows, np.float32)
        for z in range(n_latent):
            mean_B, spread_B = encoded_K2ZB[k, z], encoded_K2ZB[k, n_latent + z]
            noise_B, points_B, moved_B = noise_KZB[k, z], points_KZB[k, z], moved_KZB[k, z]
            for b in range(n_rows):
                log = spread_B[b]
                log = low if log < low else log
                log = high if log > high else log
                deviation = exponential(_HALF * log)
                moved = noise_B[b] * deviation
                spread_B[b] = deviation
                moved_B[b] = moved
                points_B[b] = mean_B[b] + moved
                sums_B[b] += (mean_B[b] * mean_B[b] + deviation * deviation) - log
        totals_K[k] = _sum(sums_B)


@compiled
def draw_backward(
    encoded_K2ZB: Any, moved_KZB: Any, d_points_KZB: Any, low: Any, high: Any, share: Any,
    d_encoded_K2ZB: Any,
) -> None:  # fmt: skip
    """The gradient at what `draw` was given; ``share`` is 1 / B."""
    n_members, n_latent, n_rows = d_points_KZB.shape
    least, most = exponential(_HALF * low), exponential(_HALF * high)
    half = _HALF * share
    for k in range(n_members):
        for z in range(n_latent):
            mean_B, deviation_B = encoded_K2ZB[k, z], encoded_K2ZB[k, n_latent + z]
            moved_B, d_points_B = moved_KZB[k, z], d_points_KZB[k, z]
            d_mean_B, d_log_B = d_encoded_K2ZB[k, z], d_encoded_K2ZB[k, n_latent + z]
            for b in range(n_rows):
                deviation = deviation_B[b]
                d_log = half * (deviation * deviation - _ONE) + _HALF * d_points_B[b] * moved_B[b]
                d_mean_B[b] = d_points_B[b] + share * mean_B[b]
                clamped = (deviation <= least) | (deviation >= most)
                d_log_B[b] = _F(0.0) if clamped else d_log


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
                sums_C[c] = _F(0.0)
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


@compiled
def learn_codes(
    logits_KWB: Any, places_KSB: Any, starts_S: Any, sizes_S: Any, scale: Any, d_logits_KWB: Any,
    losses_K: Any,
) -> None:  # fmt: skip
    """Negative log-likelihood of codes, sum over the batch, and its gradient times ``scale``.

    ``places_KSB`` are where the codes stand among the logits, counted through.
    """
    n_members, _, n_rows = logits_KWB.shape
    logits, d_logits = logits_KWB.reshape(-1), d_logits_KWB.reshape(-1)
    n_spans = len(starts_S)
    highest_B, sums_B = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    for k in range(n_members):
        losses_B = np.zeros(n_rows, np.float32)
        for span in range(n_spans):
            first, last = starts_S[span], starts_S[span] + sizes_S[span]
            highest_B[:] = logits_KWB[k, first]
            for w in range(first + 1, last):
                row_B = logits_KWB[k, w]
                for b in range(n_rows):
                    highest_B[b] = row_B[b] if row_B[b] > highest_B[b] else highest_B[b]
            sums_B[:] = _F(0.0)
            for w in range(first, last):
                row_B, share_B = logits_KWB[k, w], d_logits_KWB[k, w]
                for b in range(n_rows):
                    share = exponential(row_B[b] - highest_B[b])
                    share_B[b] = share
                    sums_B[b] += share
            start = (k * n_spans + span) * n_rows
            places_B = places_KSB[start : start + n_rows]
            for b in range(n_rows):
                losses_B[b] -= logits[places_B[b]] - highest_B[b]
            for b in range(n_rows):
                losses_B[b] += logarithm(sums_B[b])
                sums_B[b] = scale / sums_B[b]
            for w in range(first, last):
                share_B = d_logits_KWB[k, w]
                for b in range(n_rows):
                    share_B[b] *= sums_B[b]
            for b in range(n_rows):
                d_logits[places_B[b]] -= scale
        losses_K[k] = _sum(losses_B)


@compiled
def learn_scalars(
    logits_KWB: Any, scalars_KMB: Any, present_KMB: Any, counts_KM: Any, sigma_KM: Any, scale: Any,
    d_logits_KWB: Any, d_sigma_KM: Any, losses_K: Any,
) -> None:  # fmt: skip
    """Add the scalars' part to ``losses_K``, and write its gradients, times ``scale``.

    Where there is a scalar its loss is 0.5 (error / sigma)^2 + log sigma.
    """
    n_members, n_numeric, n_rows = scalars_KMB.shape
    squares_B = np.empty(n_rows, np.float32)
    for k in range(n_members):
        for m in range(n_numeric):
            inverse = _ONE / sigma_KM[k, m]
            row_B, d_row_B = logits_KWB[k, m], d_logits_KWB[k, m]
            scalars_B, present_B = scalars_KMB[k, m], present_KMB[k, m]
            for b in range(n_rows):
                power = exponential(_TWO * row_B[b])
                mean = (power - _ONE) / (power + _ONE)
                error = (scalars_B[b] - mean) * present_B[b] * inverse
                squares_B[b] = error * error
                d_row_B[b] = -scale * inverse * error * (_ONE - mean * mean)
            squares, count = _sum(squares_B), counts_KM[k, m]
            d_sigma_KM[k, m] = (count - squares) * inverse * scale
            losses_K[k] += 0.5 * squares + count * logarithm(sigma_KM[k, m])


@compiled
def _sum(numbers: Any) -> Any:
    """In the order of the numbers, in double precision."""
    total = 0.0
    for number in numbers:
        total += number
    return total
