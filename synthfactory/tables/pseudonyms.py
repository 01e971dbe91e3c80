"""Identifiers made anew: they name nobody, and they are never learnt.

An integer identifier becomes a running number; a text becomes ``syn-`` and a keyed permutation of
the row number, so that no two rows of a request share one, however many there are.  Nothing of the
real identifiers is used but their Arrow type.

References
----------
Luby and Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", SIAM J.
Comput. 17(2), 1988, https://doi.org/10.1137/0217022 (a Feistel network permutes whatever its round
function is); Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
https://doi.org/10.1145/2660193.2660195 (the round function: the finaliser of SplitMix64).
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthfactory.errors import OrderError
from synthfactory.tables.schema import Column, Schema

PREFIX = "syn-"
LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", dtype=np.uint8)
ROUNDS = 6
HALF_BITS = 40
LETTERS_PER_HALF = HALF_BITS // 5
LENGTH = len(PREFIX) + 2 * LETTERS_PER_HALF

Numbers = npt.NDArray[np.uint64]


def pseudonyms(column: Column, n_rows: int, *, seed: int, first_row: int = 0) -> pa.Array:
    """Fresh identifiers for rows ``first_row ... first_row + n_rows - 1``; all differ.

    Parameters
    ----------
    column
        An identifier column; only its name and type are used.
    n_rows
        How many.
    seed
        Another seed gives other texts.
    first_row
        Number of the first row over all shards.
    """
    kind = pa.type_for_alias(column.dtype)
    numbers = np.arange(first_row + 1, first_row + n_rows + 1, dtype=np.int64)
    if _is_number(kind):
        return pa.array(numbers).cast(kind)
    key = hashlib.sha256(f"{seed}\x1f{column.name}".encode()).digest()
    return _texts(_letters(*_permute(numbers.astype(np.uint64), key))).cast(kind)


def check_room(schema: Schema, n_rows: int) -> None:
    """Refuse more rows than a numeric identifier can number.

    Raises
    ------
    OrderError
        With the column and its limit.
    """
    for column in schema.identifiers:
        kind = pa.type_for_alias(column.dtype)
        if not _is_number(kind):
            continue
        kept = np.dtype(kind.to_pandas_dtype())
        limit = 2 ** (np.finfo(kept).nmant + 1) if kept.kind == "f" else int(np.iinfo(kept).max)
        if n_rows > limit:
            raise OrderError(
                f"Identifier '{column.name}' is {column.dtype}, which numbers {limit:,} rows at "
                f"most, but {n_rows:,} were asked for: ask for fewer, or declare it int64 or "
                "string and fit again."
            )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _permute(numbers: Numbers, key: bytes) -> tuple[Numbers, Numbers]:
    """Both halves of an 80-bit code for each number below 2**53; different numbers differ."""
    mask = np.uint64(2**HALF_BITS - 1)
    left, right = numbers >> np.uint64(HALF_BITS), numbers & mask
    for turn in range(ROUNDS):
        word = hashlib.sha256(key + bytes([turn])).digest()[:8]
        mixed = _mix(right + np.uint64(int.from_bytes(word, "big")))
        left, right = right, left ^ (mixed >> np.uint64(64 - HALF_BITS))
    return left, right


def _mix(numbers: Numbers) -> Numbers:
    """SplitMix64's finaliser, modulo 2**64."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _letters(left: Numbers, right: Numbers) -> npt.NDArray[np.uint8]:
    """**Shape** (n_rows, LENGTH): the prefix, then five bits to a letter."""
    letters = np.empty((len(left), LENGTH), dtype=np.uint8)
    letters[:, : len(PREFIX)] = np.frombuffer(PREFIX.encode(), dtype=np.uint8)
    for half, start in ((left, len(PREFIX)), (right, len(PREFIX) + LETTERS_PER_HALF)):
        for place in range(LETTERS_PER_HALF):
            five = (half >> np.uint64(HALF_BITS - 5 * (place + 1))) & np.uint64(31)
            letters[:, start + place] = LETTERS[five.astype(np.uint8)]
    return letters


def _texts(letters: npt.NDArray[np.uint8]) -> pa.Array:
    """Each row of letters as a text, without a Python object for any."""
    starts = np.arange(0, letters.size + 1, LENGTH, dtype=np.int64)
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(letters)]
    return pa.Array.from_buffers(pa.large_string(), len(letters), buffers)
