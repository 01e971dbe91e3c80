"""How rows become Parquet: one choice for every file, by the schema alone.

Columns of few values are written as a dictionary and its positions; whole numbers and dates of many
values by their differences, other numbers as they are.  Against a dictionary for every column that
is smaller and faster, because no dictionary is built that outgrows its limit and is given up.
Nothing depends on the rows or the clock, so equal rows give equal bytes.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from io import RawIOBase
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthfactory.tables.schema import Column, Schema

ROW_GROUP = 131_072
PSEUDONYM_BITS = 100.0
MAX_CODED_LEVELS = 256
ARROW_SCHEMA = "ARROW:schema"


class Writer:
    """Writes rows of one schema into a Parquet file, a table after the other; a context.

    Parameters
    ----------
    file
        Where to.
    arrow_schema
        The Arrow types of the rows, which a reader finds again.
    schema
        What the columns are.
    """

    def __init__(
        self, file: IO[bytes] | RawIOBase, arrow_schema: pa.Schema, schema: Schema
    ) -> None:
        self._coded = {
            column.name: column
            for column in schema.columns
            if is_coded(column) and _is_text(arrow_schema.field(column.name).type)
        }
        kinds = [
            pa.dictionary(pa.int32(), field.type) if field.name in self._coded else field.type
            for field in arrow_schema
        ]
        self._plain = arrow_schema.remove_metadata()
        self._written = pa.schema(list(zip(arrow_schema.names, kinds, strict=True)))
        self._writer = pq.ParquetWriter(file, self._written, **parquet_settings(schema))

    def write(
        self, data: pa.Table, coded: Mapping[str, pa.DictionaryArray], *, row_group: int
    ) -> None:
        """Write rows.

        Parameters
        ----------
        data
            The rows.
        coded
            Columns whose positions among the schema's categories are known.
        row_group
            Rows of a row group.
        """
        columns = [
            column if name not in self._coded else _code(column, self._coded[name], coded.get(name))
            for name, column in zip(data.column_names, data.columns, strict=True)
        ]
        rows = pa.table(columns, schema=self._written).combine_chunks()
        self._writer.write_table(rows, row_group_size=row_group)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            kept = base64.b64encode(self._plain.serialize()).decode()
            self._writer.add_key_value_metadata({ARROW_SCHEMA: kept})
        self._writer.close()


def is_coded(column: Column) -> bool:
    """Whether a file holds all of a column's categories, and rows as positions among them."""
    is_narrow = 0 < len(column.categories) <= MAX_CODED_LEVELS
    return column.is_discrete and is_narrow and _is_text(pa.type_for_alias(column.dtype))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _code(
    values: pa.ChunkedArray, column: Column, known: pa.DictionaryArray | None
) -> pa.ChunkedArray:
    """Values as positions; those that the schema does not list get positions behind it."""
    levels = pa.array(column.categories, type=values.type)
    if known is not None and len(known) == len(values) and known.dictionary.equals(levels):
        return pa.chunked_array([known])
    positions = pc.index_in(values, value_set=levels)
    if positions.null_count > values.null_count:
        strange = pc.unique(values.filter(pc.and_(pc.is_null(positions), pc.is_valid(values))))
        levels = pa.concat_arrays([levels, strange])
        positions = pc.index_in(values, value_set=levels)
    chunks = [pa.DictionaryArray.from_arrays(chunk, levels) for chunk in positions.chunks]
    return pa.chunked_array(chunks, type=pa.dictionary(pa.int32(), values.type))


def parquet_settings(schema: Schema) -> dict[str, Any]:
    """Arguments of `pyarrow.parquet.ParquetWriter` for tables of this schema."""
    return {
        "compression": "zstd",
        "compression_level": 1,
        "version": "2.6",
        # `Writer` notes the types itself: those of a reader, not those that are written.
        "store_schema": False,
        # To find the least and the greatest text takes longer than to write them all.
        "write_statistics": [
            column.name for column in schema.columns if column.nullable or not is_coded(column)
        ],
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
