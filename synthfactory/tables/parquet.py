"""How rows become Parquet: one choice for every file, by the schema alone.

Columns of few values are written as a dictionary and its positions; whole numbers and dates of many
values by their differences, other numbers as they are.  Against a dictionary for every column that
is smaller and faster, because no dictionary is built that outgrows its limit and is given up.
Nothing depends on the rows or the clock, so equal rows give equal bytes.
"""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from synthfactory.tables.schema import Column, Schema

ROW_GROUP = 131_072
PSEUDONYM_BITS = 100.0


def parquet_settings(schema: Schema) -> dict[str, Any]:
    """Arguments of `pyarrow.parquet.ParquetWriter` for tables of this schema."""
    return {
        "compression": "zstd",
        "compression_level": 1,
        "version": "2.6",
        "store_schema": True,
        "use_dictionary": [column.name for column in schema.columns if _is_narrow(column)],
        "column_encoding": {
            column.name: "DELTA_BINARY_PACKED"
            for column in schema.columns
            if not _is_narrow(column) and _is_whole(column)
        },
    }


def bits_per_row(schema: Schema) -> float:
    """About how many bits of a file a row takes, from above: the logarithm of what it can be."""
    return sum(math.log2(n_values(column)) for column in schema.columns)


def n_values(column: Column) -> float:
    """How many values a column can have, "missing" included; at least 2.

    >>> n_values(Column(name="age", kind="numerical", dtype="int64", minimum=0, maximum=99,
    ...                 decimals=0))
    100.0
    """
    if column.kind == "identifier":
        # Numbers run on, and their differences take next to nothing; texts are made of chance.
        return 2.0 if _is_whole(column) else 2.0**PSEUDONYM_BITS
    if column.is_discrete:
        return max(2.0, float(len(column.categories) + column.nullable))
    if column.minimum is None or column.maximum is None or column.decimals is None:
        return 2.0**64
    day = pa.types.is_date(pa.type_for_alias(column.dtype))
    steps_per_unit = 1 / 86_400 if day else 10.0**column.decimals
    span = (column.maximum - column.minimum) * steps_per_unit
    return min(max(2.0, span + 1.0 + column.nullable), 2.0**64)


def _is_narrow(column: Column) -> bool:
    """Whether a dictionary pays: rows of a row group share a value with others."""
    return column.kind != "identifier" and n_values(column) <= ROW_GROUP / 2


def _is_whole(column: Column) -> bool:
    kind = pa.type_for_alias(column.dtype)
    # The encoding knows integers of 4 and 8 bytes, and what is stored as such.
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))
