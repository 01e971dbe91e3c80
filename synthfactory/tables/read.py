"""Reading a table: CSV or Parquet in, through Arrow; checked once, here at the door."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from synthfactory.errors import SchemaError, TableError
from synthfactory.tables.infer import MISSING_VALUES, Raw, conform, infer_schema
from synthfactory.tables.schema import Column, Schema
from synthfactory.tables.table import Table

MIN_ROWS = 30
_DELIMITERS = ",;\t|"


def read_table(
    path: str | Path,
    *,
    schema: Schema | Mapping[str, Any] | None = None,
    target: str | None = None,
    entity: str | None = None,
    quasi_identifiers: Sequence[str] = (),
    sensitive: Sequence[str] = (),
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    missing_values: Sequence[str] = MISSING_VALUES,
) -> Table:
    """Read a CSV (``.csv``, ``.tsv``, ``.txt``, also ``.gz``) or Parquet file.

    Parameters
    ----------
    path
        The file.
    schema
        The schema of another table, to read this file the same way; else it is inferred.
    target, entity, quasi_identifiers, sensitive
        Roles; what is not given is suggested from names and contents.
    columns
        What is declared about columns, by name, such as ``{"zip": {"kind": "categorical"}}``;
        it wins over what is inferred.
    missing_values
        Texts that mean "missing" in a CSV file or a text column.

    Returns
    -------
    Table
        The rows; whitespace around CSV cells is removed.

    Raises
    ------
    TableError
        When the file is missing, is no such file, or holds values that do not fit.
    SchemaError
        When the file does not fit ``schema`` or ``columns``.
    """
    raw = read_raw(Path(path), missing_values)
    if schema is not None:
        known = schema if isinstance(schema, Schema) else Schema.from_dict(schema)
        return conform(raw, known)
    inferred, _ = infer_schema(
        raw,
        columns=columns or {},
        target=target,
        entity=entity,
        quasi_identifiers=quasi_identifiers,
        sensitive=sensitive,
    )
    if raw.data.num_rows < MIN_ROWS:
        raise TableError(
            f"{path} has {raw.data.num_rows} rows; expected at least {MIN_ROWS}. A synthetic "
            "version of so few people cannot be told from the people."
        )
    return conform(raw, inferred)


def read_columns(path: str | Path, columns: Sequence[Column]) -> Table:
    """Some columns of a file that holds other people than the table whose columns these are.

    Parameters
    ----------
    path
        The file; its other columns are left alone.
    columns
        How to read it.  Further levels than the declared ones may occur, and missing values.

    Returns
    -------
    Table
        Its schema lists the declared levels first, then the further ones.

    Raises
    ------
    TableError
        When the file cannot be read.
    SchemaError
        When a column is absent or does not fit.
    """
    raw = read_raw(Path(path))
    names = [column.name for column in columns]
    absent = sorted(set(names) - set(raw.data.column_names))
    if absent:
        raise SchemaError(
            f"{path} has no column {absent}; expected all of {names}. Its columns are "
            f"{raw.data.column_names}."
        )
    some = dataclasses.replace(raw, data=raw.data.select(names))
    return conform(some, Schema(columns=tuple(_with_levels(some, column) for column in columns)))


def _with_levels(raw: Raw, column: Column) -> Column:
    if not column.is_discrete or column.kind == "boolean":
        return dataclasses.replace(column, nullable=True)
    try:
        values = raw.column(column.name).cast(pa.type_for_alias(column.dtype))
    except pa.ArrowException:  # `conform` says what is wrong with the values
        return dataclasses.replace(column, nullable=True)
    further = set(values.drop_null().unique().to_pylist()) - set(column.categories)
    return dataclasses.replace(
        column, nullable=True, categories=(*column.categories, *sorted(further))
    )


def read_raw(path: Path, missing_values: Sequence[str] = MISSING_VALUES) -> Raw:
    """The file's columns as they stand: texts for CSV, typed for Parquet.

    Raises
    ------
    TableError
        When the file cannot be read as what its name says.
    """
    if not path.exists():
        near = ", ".join(sorted(item.name for item in path.parent.glob("*.[cpt]*"))[:5])
        there = f" In that folder: {near}." if near else ""
        raise TableError(f"There is no file {path}.{there} Check dataset.path.")
    if path.is_dir():
        raise TableError(f"{path} is a folder; expected one CSV or Parquet file.")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if ".parquet" in suffixes or ".pq" in suffixes:
        data, is_text = _read_parquet(path), False
    elif {".csv", ".tsv", ".txt", ".tab"} & set(suffixes):
        data, is_text = _read_csv(path), True
    else:
        raise TableError(f"{path}: expected a name that ends in .csv, .tsv, .gz or .parquet.")
    _check_names(path, data.column_names)
    if data.num_rows == 0:
        raise TableError(f"{path} has a header but no rows; expected at least {MIN_ROWS}.")
    return Raw(path=path, data=data, is_text=is_text, missing_values=tuple(missing_values))


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(
            f"{path}: column names must differ, but these occur more than once: "
            f"{', '.join(map(repr, twice))}. Rename them."
        )
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise TableError(f"{path}: column {place} has an empty name. Give it one.")


def _read_parquet(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        first = str(error).split("\n")[0]
        raise TableError(
            f"{path} is no whole Parquet file ({first}); copy or export it again."
        ) from error


def _read_csv(path: Path) -> pa.Table:
    content = _read_text(path)
    header_line = content.split(b"\n", 1)[0].decode().rstrip("\r")
    if "\r" in header_line:
        raise TableError(f"{path} ends its lines with CR alone; convert it: tr '\\r' '\\n'.")
    delimiter = max(_DELIMITERS, key=lambda mark: len(_cells(header_line, mark)))
    header = _logical_header(content)
    names = [name.strip() for name in _cells(header, delimiter)]
    _check_names(path, names)
    bad: list[pacsv.InvalidRow] = []

    def note(row: pacsv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    try:
        data = pacsv.read_csv(
            io.BytesIO(content),
            # One thread: only then a bad row knows its number.
            read_options=pacsv.ReadOptions(
                column_names=names,
                skip_rows=header.count("\n") + 1,
                use_threads=False,
                block_size=1 << 24,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        first = str(error).split("\n")[0]
        raise TableError(f"{path} cannot be read as CSV: {first[:200]}.") from error
    if bad:
        where = f" (row {bad[0].number})" if bad[0].number is not None else ""
        raise TableError(
            f"{path}: expected {bad[0].expected_columns} cells in every row, but {len(bad)} rows "
            f"differ; the first{where} has {bad[0].actual_columns}. A cell that holds "
            f"'{delimiter}' must be quoted."
        )
    return data


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader(line.splitlines(keepends=True), delimiter=delimiter), [])


def _logical_header(content: bytes) -> str:
    """The header, also where a quoted name holds a line break."""
    text = content[: 1 << 20].decode(errors="ignore")
    quoted = False
    for place, mark in enumerate(text):
        if mark == '"':
            quoted = not quoted
        elif mark == "\n" and not quoted:
            return text[:place].rstrip("\r")
    return text


def _read_text(path: Path) -> bytes:
    """The bytes of a text file, checked to be UTF-8 without NUL; a byte order mark is dropped."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise TableError(f"{path} is no whole gzip file ({error}); copy it again.") from error
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise TableError(f"{path} is empty; expected a header and rows.")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TableError(
            f"{path} is not UTF-8: line {line} holds the byte 0x{content[error.start]:02x}. "
            f"Convert it: iconv -f WINDOWS-1252 -t UTF-8 '{path.name}' > new.csv"
        ) from error
    if b"\x00" in content:
        line = content.count(b"\n", 0, content.index(b"\x00")) + 1
        raise TableError(f"{path} holds a NUL byte in line {line}: it is no plain CSV file.")
    return content
