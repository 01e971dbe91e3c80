"""What the loops compute with: functions of one number, sums, bfloat16, and numbers from bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from synthfactory.compiling import compiled

FLOAT = np.float32
ZERO, ONE, TWO, HALF = FLOAT(0.0), FLOAT(1.0), FLOAT(2.0), FLOAT(0.5)

# exp(x) = 2^n exp(r), r = x - n ln 2, with ln 2 in two parts (Cody and Waite 1980, chapter 6), and
# exp(r) = 1 + r + r^2 P(r) on |r| < ln 2 / 2, a minimax polynomial in float32.
_LEAST_EXPONENT, _MOST_EXPONENT = FLOAT(-87.0), FLOAT(88.0)
_PER_LN_2 = FLOAT(1.0 / math.log(2.0))
_LN_2_HIGH = FLOAT(0.693359375)
_LN_2_LOW = FLOAT(math.log(2.0) - 0.693359375)
# Added to a number below 2^22, it leaves the number rounded in the lowest bits.
_ROUNDER = FLOAT(1.5 * 2.0**23)
_E0, _E1, _E2, _E3, _E4, _E5 = (
    FLOAT(value)
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
_LN_2 = FLOAT(math.log(2.0))
_L3, _L5, _L7, _L9 = (FLOAT(2.0 / power) for power in (3, 5, 7, 9))
_LEAST_UNIFORM = FLOAT(2.0**-24)
_LEAST_SHARE = FLOAT(math.log(1e-20))
_BITS_OF_ONE = 0x3F800000
_BITS_OF_ROOT_HALF = 0x3F3504F3
_MANTISSA_BITS = 23
# What bfloat16 keeps of a number that is none.
_BITS_OF_NOTHING = 0x7FC0


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


def _make_number(typing: Any, stored: Any) -> Any:
    """A number of an array in float32: bfloat16 comes as its bits."""
    if stored == types.float32:
        return types.float32(stored), lambda context, builder, signature, arguments: arguments[0]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(32)
        bits = builder.zext(arguments[0], whole)
        return builder.bitcast(builder.shl(bits, ir.Constant(whole, 16)), ir.FloatType())

    return types.float32(types.uint16), generate


def _make_stored(typing: Any, number: Any, array: Any) -> Any:
    """A number as an array keeps it: float32, or bfloat16's bits, rounded to the nearest even."""
    kind = array.dtype
    if kind == types.float32:
        return kind(types.float32, array), lambda *given: given[-1][0]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(32)
        bits = builder.bitcast(arguments[0], whole)
        odd = builder.and_(builder.lshr(bits, ir.Constant(whole, 16)), ir.Constant(whole, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(whole, 0x7FFF)), odd)
        rounded = builder.lshr(rounded, ir.Constant(whole, 16))
        ordinary = builder.fcmp_ordered("ord", arguments[0], arguments[0])
        rounded = builder.select(ordinary, rounded, ir.Constant(whole, _BITS_OF_NOTHING))
        return builder.trunc(rounded, ir.IntType(16))

    return types.uint16(types.float32, array), generate


_power_of_two: Any = intrinsic(_make_power_of_two)
_exponent: Any = intrinsic(_make_exponent)
_mantissa: Any = intrinsic(_make_mantissa)
number_of: Any = intrinsic(_make_number)
stored: Any = intrinsic(_make_stored)


@compiled
def exponential(x: Any) -> Any:
    """exp(x) in float32 to 1e-7 of itself; beyond -87 and 88 that of the bound."""
    x = _LEAST_EXPONENT if x < _LEAST_EXPONENT else x
    x = _MOST_EXPONENT if x > _MOST_EXPONENT else x
    rounded = x * _PER_LN_2 + _ROUNDER
    n = rounded - _ROUNDER
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    return ((p * (r * r) + r) + ONE) * _power_of_two(rounded)


@compiled
def share_of(below: Any) -> Any:
    """exp(below), a softmax's share where the largest is 1; exactly 0 for less than 1e-20.

    A processor computes with numbers below float32's normal ones, to which smaller shares and their
    gradients lead, a hundred times slower.  And Adam makes much of little: what a member of an
    ensemble does not have must have no share at all.
    """
    return ZERO if below < _LEAST_SHARE else exponential(below)


@compiled
def logarithm(x: Any) -> Any:
    """log(x) in float32 of a normal, positive number, to 2e-7 of the larger of itself and 1."""
    m: Any = _mantissa(x)
    s = (m - ONE) / (m + ONE)
    q = s * s
    # What is no finite number has bits, too, of which the rest would make one.
    nothing = x - x
    return nothing + _exponent(x) * _LN_2 + s * (TWO + q * (_L3 + q * (_L5 + q * (_L7 + q * _L9))))


@compiled
def look_up(places: Any, table: Any, out: Any) -> None:
    """``out[i] = table[places[i]]``."""
    for place in range(len(places)):
        out[place] = table[places[place]]


@compiled
def write_uniform(bits: Any, out: Any) -> None:
    """Multiples of 2^-24 from the last 24 bits of whole numbers."""
    for place in range(len(bits)):
        out[place] = FLOAT(bits[place] & 0xFFFFFF) * _LEAST_UNIFORM


@compiled
def write_kept(bits: Any, least: Any, factor: Any, out: Any) -> None:
    """``factor`` where a whole number is ``least`` or more, else 0."""
    for place in range(len(bits)):
        out[place] = factor if bits[place] >= least else ZERO


@compiled
def folded_sum(numbers: Any) -> Any:
    """By halves, one added to the other, which is vectorised; the numbers are overwritten."""
    count = len(numbers)
    while count > 1:
        half = (count + 1) // 2
        lower, upper = numbers[:half], numbers[half:count]
        for place in range(len(upper)):
            lower[place] += upper[place]
        count = half
    return numbers[0]


@compiled
def sum_of(numbers: Any) -> Any:
    """In the order of the numbers, in double precision."""
    total = 0.0
    for number in numbers:
        total += number
    return total
