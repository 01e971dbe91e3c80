"""The one numeric view of a table that generators and evaluation share.

It depends on the schema alone: nothing is fitted, so nothing of the rows can hide in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthfactory.errors import SchemaError
from synthfactory.tables.parquet import is_coded
from synthfactory.tables.pseudonyms import pseudonyms
from synthfactory.tables.schema import Column, Schema
from synthfactory.tables.table import Table

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A table as numbers.

    Parameters
    ----------
    numbers
        **Shape** (n_rows, n_numeric), float64: numerical values, and datetimes in seconds since
        1970; NaN where missing.  Column order as in ``schema.numeric``.
    codes
        **Shape** (n_rows, n_discrete), int32: positions in ``categories``; ``len(categories)``
        where missing.  Column order as in ``schema.discrete``.
    """

    numbers: Floats
    codes: Codes

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> Encoded:
        """Some of the rows."""
        return Encoded(numbers=self.numbers[rows], codes=self.codes[rows])

    @staticmethod
    def concat(parts: Sequence[Encoded]) -> Encoded:
        """Rows one below the other; in memory column by column."""
        return Encoded(
            numbers=np.concatenate([part.numbers.T for part in parts], axis=1).T,
            codes=np.concatenate([part.codes.T for part in parts], axis=1).T,
        )


Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class Encoder:
    """Encodes tables of one schema, and decodes what generators draw.

    Parameters
    ----------
    schema
        The schema of every table that is encoded.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.numeric: tuple[Column, ...] = schema.numeric
        self.discrete: tuple[Column, ...] = schema.discrete

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each discrete column, the missing state included."""
        return tuple(len(column.categories) + column.nullable for column in self.discrete)

    def encode(self, table: Table) -> Encoded:
        """The table as numbers.

        Raises
        ------
        SchemaError
            When a category occurs that the schema does not list.
        """
        n_rows = table.n_rows
        numbers = np.empty((n_rows, len(self.numeric)), dtype=np.float64)
        for place, column in enumerate(self.numeric):
            numbers[:, place] = _to_numbers(table.data.column(column.name), column)
        codes = np.empty((n_rows, len(self.discrete)), dtype=np.int32)
        for place, column in enumerate(self.discrete):
            codes[:, place] = _to_codes(table.data.column(column.name), column)
        return Encoded(numbers=numbers, codes=codes)

    @staticmethod
    def tidy(numbers: Floats, column: Column) -> Floats:
        """Numbers as `decode` would write them: clipped to the range and rounded."""
        return _to_numbers(pa.chunked_array([_from_numbers(numbers, column)]), column)

    def decode(
        self, encoded: Encoded, *, seed: int, first_row: int = 0, mapping: Mapper = map
    ) -> Table:
        """Rows as a table: clipped to the range, rounded, typed; identifiers made anew.

        Parameters
        ----------
        encoded
            What `encode` gives, or a generator draws.
        seed
            Addresses the identifiers.
        first_row
            Number of the first row, so that shards do not repeat identifiers.
        mapping
            Maps a function over the columns, as `map` does; a pool's makes several at once.
        """
        numbers = {column.name: place for place, column in enumerate(self.numeric)}
        codes = {column.name: place for place, column in enumerate(self.discrete)}

        def made(column: Column) -> tuple[pa.Array, pa.DictionaryArray | None]:
            if column.name in numbers:
                return _from_numbers(encoded.numbers[:, numbers[column.name]], column), None
            if column.name in codes:
                coded = _from_codes(encoded.codes[:, codes[column.name]], column)
                return coded.dictionary_decode(), coded if is_coded(column) else None
            return pseudonyms(column, len(encoded), seed=seed, first_row=first_row), None

        arrays = dict(zip(self.schema.names, mapping(made, self.schema.columns), strict=True))
        return Table(
            data=pa.table({name: plain for name, (plain, _) in arrays.items()}),
            schema=self.schema,
            coded={name: coded for name, (_, coded) in arrays.items() if coded is not None},
        )


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type that a column has in files."""
    try:
        return pa.type_for_alias(column.dtype)
    except ValueError:
        raise SchemaError(
            f"Column '{column.name}': expected an Arrow type such as int64 or string, "
            f"got '{column.dtype}'."
        ) from None


def _to_numbers(values: pa.ChunkedArray, column: Column) -> Floats:
    if column.kind == "datetime":
        micros = values.cast(pa.timestamp("us")).cast(pa.int64())
        array = micros.cast(pa.float64(), safe=False)
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64) / 1e6
    return np.asarray(
        values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
    )


def _to_codes(values: pa.ChunkedArray, column: Column) -> Codes:
    levels = pa.array(column.categories, type=arrow_type(column))
    found = pc.index_in(values.cast(levels.type), value_set=levels)
    strange = pc.and_(pc.is_null(found), pc.is_valid(values))
    if pc.any(strange).as_py():
        n_strange = pc.sum(strange).as_py()
        raise SchemaError(
            f"Column '{column.name}' holds {n_strange} values outside its "
            f"{len(column.categories)} declared categories; add them to the schema."
        )
    return np.asarray(
        found.fill_null(len(column.categories)).to_numpy(zero_copy_only=False), dtype=np.int32
    )


def _from_numbers(values: Floats, column: Column) -> pa.Array:
    missing = np.isnan(values) if column.nullable or np.isnan(values).any() else None
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    if missing is not None:
        values = np.where(missing, 0.0 if low <= 0.0 <= high else low, values)
    clipped = np.clip(values, low, high)
    kind = arrow_type(column)
    if column.kind == "datetime":
        # Float64 holds microseconds around our time exactly enough; days are whole.
        micros = np.rint(clipped * 1e6).astype(np.int64)
        if pa.types.is_date(kind):
            micros = np.rint(clipped / 86_400.0).astype(np.int64) * 86_400_000_000
        elif column.decimals is not None:
            micros = (
                np.rint(clipped * 10.0**column.decimals) * 10.0 ** (6 - column.decimals)
            ).astype(np.int64)
        return (
            pa.array(micros, mask=missing, type=pa.int64())
            .cast(pa.timestamp("us"))
            .cast(kind, safe=False)
        )
    if column.decimals is not None:
        np.round(clipped, column.decimals, out=clipped)
    if pa.types.is_integer(kind):
        return pa.array(np.rint(clipped, out=clipped).astype(np.int64), mask=missing).cast(kind)
    return pa.array(clipped, mask=missing).cast(kind)


def _from_codes(codes: Codes, column: Column) -> pa.DictionaryArray:
    levels = pa.array(column.categories, type=arrow_type(column))
    missing = codes >= len(column.categories)
    if not missing.any():
        positions = pa.array(np.ascontiguousarray(codes, dtype=np.int32))
    else:
        positions = pa.array(np.where(missing, 0, codes), mask=missing, type=pa.int32())
    return pa.DictionaryArray.from_arrays(positions, levels)
