"""A table: rows in Arrow, and the schema that they were checked against."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthfactory.artifacts import write_atomic
from synthfactory.errors import SchemaError
from synthfactory.markup import html_table
from synthfactory.tables.parquet import ROW_GROUP, Writer
from synthfactory.tables.schema import Schema

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Table:
    """Rows and their schema; immutable.

    Parameters
    ----------
    data
        The rows, a `pyarrow.Table` whose columns are those of the schema, in order.
    schema
        What the columns are.
    coded
        Columns as positions among their categories, where that is known; files are then written
        without looking up each value.

    Raises
    ------
    SchemaError
        When the columns are not those of the schema.
    """

    data: pa.Table
    schema: Schema
    coded: Mapping[str, pa.DictionaryArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if tuple(self.data.column_names) != self.schema.names:
            raise SchemaError(columns_differ(self.schema.names, self.data.column_names))

    def __len__(self) -> int:
        return self.n_rows

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.data.num_rows)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.schema.names

    def take(self, rows: npt.NDArray[np.integer] | Sequence[int]) -> Table:
        """The rows at these positions, in this order."""
        positions = pa.array(np.asarray(rows, dtype=np.int64))
        return Table(data=self.data.take(positions).combine_chunks(), schema=self.schema)

    def head(self, n_rows: int = 5) -> Table:
        """The first rows."""
        return Table(data=self.data.slice(0, n_rows), schema=self.schema)

    @staticmethod
    def concat(tables: Sequence[Table]) -> Table:
        """Tables of one schema, one below the other."""
        data = pa.concat_tables([table.data for table in tables]).combine_chunks()
        return Table(data=data, schema=tables[0].schema)

    def to_arrow(self) -> pa.Table:
        """The rows as a `pyarrow.Table`."""
        return self.data

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame; integers with missing values stay integers."""
        import pandas as pd

        nullable = {
            pa.int64(): pd.Int64Dtype(),
            pa.int32(): pd.Int32Dtype(),
            pa.int16(): pd.Int16Dtype(),
            pa.int8(): pd.Int8Dtype(),
            pa.bool_(): pd.BooleanDtype(),
        }
        holed = {name for name in self.data.column_names if self.data.column(name).null_count}
        plain = self.data.to_pandas(date_as_object=False)
        for name in holed:
            kind = self.data.schema.field(name).type
            if kind in nullable:
                plain[name] = pd.array(self.data.column(name).to_pylist(), dtype=nullable[kind])
        frame: pd.DataFrame = plain
        return frame

    def to_parquet_bytes(self) -> bytes:
        """The rows as a Parquet file; equal rows give equal bytes."""
        buffer = io.BytesIO()
        with Writer(buffer, self.data.schema, self.schema) as writer:
            writer.write(self.data, self.coded, row_group=ROW_GROUP)
        return buffer.getvalue()

    def write_parquet(self, path: str | Path) -> None:
        """Write the rows as Parquet, atomically; equal rows give equal bytes."""
        write_atomic(Path(path), self.to_parquet_bytes())

    @property
    def digest(self) -> str:
        """SHA-256 over schema and values, however the rows are chunked, ``sha256:<hex>``."""
        total = hashlib.sha256(self.schema.digest.encode())
        data = self.data.replace_schema_metadata(None).combine_chunks()
        with pa.ipc.new_stream(_Hashed(total), data.schema) as stream:
            for first in range(0, data.num_rows, ROW_GROUP):
                # Taking copies the slice, so that neither offsets nor padding reach the hash.
                rows = pa.array(range(first, min(first + ROW_GROUP, data.num_rows)), pa.int64())
                stream.write_table(data.take(rows).combine_chunks())
        return "sha256:" + total.hexdigest()

    def __repr__(self) -> str:
        lines = [f"Table({self._size}{self._roles})"]
        lines += [
            f"  {name}: {kind} ({dtype}){', ' if more else ''}{more}"
            for name, kind, dtype, more in self._described()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Columns and counts; a table may be confidential, so no value of it is shown."""
        return html_table(
            ("column", "kind", "type", ""),
            self._described(),
            note=f"{self._size}{self._roles}. Rows are not shown: .head().to_pandas() shows some.",
        )

    @property
    def _size(self) -> str:
        return f"{self.n_rows:,} rows x {len(self.schema.columns)} columns"

    @property
    def _roles(self) -> str:
        return f", target={self.schema.target!r}" if self.schema.target else ""

    def _described(self) -> list[tuple[str, str, str, str]]:
        """Each column's name, kind, type, and counts in words."""
        described: list[tuple[str, str, str, str]] = []
        for column in self.schema.columns:
            missing = self.data.column(column.name).null_count
            counts = [f"{len(column.categories)} levels"] if column.categories else []
            counts += [f"{missing:,} missing"] if missing else []
            described.append((column.name, column.kind, column.dtype, ", ".join(counts)))
        return described


class _Hashed(io.RawIOBase):
    """A file to write into that only hashes."""

    def __init__(self, total: hashlib._Hash) -> None:
        super().__init__()
        self._total = total

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._total.update(view)
        return view.nbytes


def columns_differ(expected: Sequence[str], came: Sequence[str]) -> str:
    """What differs between the columns of a schema and those of a table."""
    missing = [name for name in expected if name not in came]
    extra = [name for name in came if name not in expected]
    lines = ["The table's columns are not those of its schema:"]
    lines += [f"  - {name}   (expected, absent)" for name in missing]
    lines += [f"  + {name}   (came, not expected)" for name in extra]
    if not missing and not extra:
        lines.append(f"  the order differs: expected {list(expected)}, got {list(came)}")
    return "\n".join(lines)
