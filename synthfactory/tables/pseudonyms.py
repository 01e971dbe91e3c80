"""Identifiers made anew: they name nobody, and they are never learnt.

An integer identifier becomes a running number; a text becomes ``syn-`` and a keyed code of the row
number.  Nothing of the real identifiers is used but their Arrow type.
"""

from __future__ import annotations

import base64
import hashlib

import pyarrow as pa

from synthfactory.tables.schema import Column

PREFIX = "syn-"


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
    numbers = range(first_row + 1, first_row + n_rows + 1)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pa.array(numbers, type=pa.int64()).cast(kind)
    key = hashlib.sha256(f"{seed}\x1f{column.name}".encode()).digest()
    return pa.array([_code(key, number) for number in numbers], type=pa.string()).cast(kind)


def _code(key: bytes, number: int) -> str:
    """A text of 20 characters; 80 bits make a repetition in a billion rows unlikely (1e-6)."""
    digest = hashlib.blake2b(number.to_bytes(8, "big"), key=key, digest_size=10).digest()
    return PREFIX + base64.b32encode(digest).decode().lower()
