"""Encoding, splitting and writing lose nothing and leak nothing."""

from __future__ import annotations

import datetime as dt
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthfactory as sf
from synthfactory.errors import OrderError, SchemaError, TableError
from synthfactory.tables import (
    Column,
    Encoded,
    Encoder,
    Schema,
    Table,
    quality_report,
    split_report,
)
from synthfactory.tables.parquet import Writer, parquet_settings
from synthfactory.tables.pseudonyms import pseudonyms

LEVELS = ("a", "b", "c")
SCHEMA = Schema(
    columns=(
        Column(name="id", kind="identifier", dtype="string"),
        Column(
            name="whole", kind="numerical", dtype="int64", nullable=True, decimals=0,
            minimum=-5, maximum=100,
        ),
        Column(
            name="real", kind="numerical", dtype="double", nullable=True, decimals=2,
            minimum=-1, maximum=1,
        ),
        Column(name="level", kind="categorical", dtype="string", nullable=True, categories=LEVELS),
        Column(name="rank", kind="ordinal", dtype="int64", categories=(1, 2, 3)),
        Column(name="flag", kind="boolean", dtype="bool", nullable=True, categories=(False, True)),
        Column(
            name="day", kind="datetime", dtype="date32[day]", nullable=True, decimals=0,
            minimum=0.0, maximum=2e9,
        ),
        Column(
            name="time", kind="datetime", dtype="timestamp[us]", minimum=-1e9, maximum=4e9,
        ),
    )
)  # fmt: skip
ROW = st.tuples(
    st.text(max_size=3),
    st.none() | st.integers(-5, 100),
    st.none() | st.integers(-100, 100).map(lambda x: x / 100),
    st.none() | st.sampled_from(LEVELS),
    st.sampled_from([1, 2, 3]),
    st.none() | st.booleans(),
    st.none() | st.dates(dt.date(1970, 1, 1), dt.date(2030, 1, 1)),
    st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2090, 1, 1)),
)


def table_of(rows: list[tuple[object, ...]]) -> Table:
    columns = list(zip(*rows, strict=True))
    arrays = [
        pa.array(list(values), type=pa.type_for_alias(column.dtype))
        for column, values in zip(SCHEMA.columns, columns, strict=True)
    ]
    return Table(data=pa.table(dict(zip(SCHEMA.names, arrays, strict=True))), schema=SCHEMA)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=20))
def test_decoding_what_was_encoded_gives_the_same_rows(rows: list[tuple[object, ...]]) -> None:
    table = table_of(rows)
    encoder = Encoder(SCHEMA)
    back = encoder.decode(encoder.encode(table), seed=0)
    assert back.data.drop_columns(["id"]).equals(table.data.drop_columns(["id"]))
    assert not set(back.data["id"].to_pylist()) & set(table.data["id"].to_pylist())


@settings(deadline=None, max_examples=20)
@given(st.lists(ROW, min_size=1, max_size=20))
def test_digest_sees_values_not_chunks(rows: list[tuple[object, ...]]) -> None:
    table = table_of(rows)
    pieces = pa.concat_tables([table.data.slice(i, 1) for i in range(table.n_rows)])
    assert Table(data=pieces, schema=SCHEMA).digest == table.digest
    assert table_of([*rows, rows[0]]).digest != table.digest


def test_drawn_numbers_are_rounded_clipped_and_typed() -> None:
    drawn = Encoded(
        numbers=np.array([[1.6, 0.126, 86_399.0, 0.5], [1e9, -9.0, np.nan, 0.0]]),
        codes=np.array([[0, 1, 0], [3, 2, 2]], dtype=np.int32),
    )
    rows = Encoder(SCHEMA).decode(drawn, seed=0).to_arrow().to_pylist()
    assert [row["whole"] for row in rows] == [2, 100]
    assert [row["real"] for row in rows] == [0.13, -1.0]
    assert [row["level"] for row in rows] == ["a", None]
    assert [row["flag"] for row in rows] == [False, None]
    assert rows[0]["day"] == dt.date(1970, 1, 2)


def test_identifiers_are_fresh_in_every_shard_and_depend_on_the_seed() -> None:
    empty = Encoded(numbers=np.zeros((50, 4)), codes=np.zeros((50, 3), dtype=np.int32))
    encoder = Encoder(SCHEMA)

    def ids(seed: int, first_row: int) -> set[str]:
        return set(encoder.decode(empty, seed=seed, first_row=first_row).data["id"].to_pylist())

    assert len(ids(0, 0) | ids(0, 50)) == 100
    assert ids(0, 0) == ids(0, 0)
    assert not ids(0, 0) & ids(1, 0)


def test_no_text_identifier_is_given_twice_however_far_the_rows_are_apart() -> None:
    column = Column(name="id", kind="identifier", dtype="string")
    firsts = [0, 2**31, 2**40 - 25_000, 10**12, 2**53 - 50_001]
    drawn = [pseudonyms(column, 50_000, seed=0, first_row=first).to_pylist() for first in firsts]
    every = [name for names in drawn for name in names]
    assert len(set(every)) == len(every)
    assert all(re.fullmatch("syn-[a-z2-7]{16}", name) for name in every[::1000])


def test_identifiers_do_not_depend_on_where_a_shard_begins() -> None:
    column = Column(name="id", kind="identifier", dtype="large_string")
    whole = pseudonyms(column, 100, seed=3, first_row=50)
    pieces = [pseudonyms(column, 10, seed=3, first_row=first) for first in range(50, 150, 10)]
    assert pa.concat_arrays(pieces).equals(whole)
    assert whole.type == pa.large_string()


def test_columns_of_few_values_are_dictionaries_and_wide_integers_differences() -> None:
    wide = Column(name="w", kind="numerical", dtype="int64", minimum=0, maximum=1e6, decimals=0)
    real = Column(name="r", kind="numerical", dtype="double", minimum=0, maximum=1)
    unknown = Column(name="u", kind="numerical", dtype="int8")
    named = Column(name="n", kind="identifier", dtype="int32")
    schema = Schema(columns=(*SCHEMA.columns, wide, real, unknown, named))
    chosen = parquet_settings(schema)
    assert set(chosen["use_dictionary"]) >= {"level", "flag", "day"}
    assert not {"w", "r", "u", "n", "id"} & set(chosen["use_dictionary"])
    assert set(chosen["column_encoding"]) >= {"w", "u"}
    assert "r" not in chosen["column_encoding"]
    rows = pa.table(
        {
            "w": pa.array([5, 10**6, None], pa.int64()),
            "r": [0.1, None, 1.0],
            "u": pa.array([1, 2, -3], pa.int8()),
        }
    )
    table = Table(data=rows, schema=Schema(columns=(wide, real, unknown)))
    assert pq.read_table(io.BytesIO(table.to_parquet_bytes())).equals(rows)


TEXT = Column(name="t", kind="categorical", dtype="string", categories=("b", "a", "c"))
HOLED = Column(
    name="h", kind="ordinal", dtype="large_string", nullable=True, categories=("x", "y")
)  # fmt: skip
TEXTS = Schema(columns=(TEXT, HOLED, Column(name="i", kind="identifier", dtype="int8")))


def _texts(codes: list[list[int]]) -> Table:
    numbers = np.empty((len(codes), 0))
    return Encoder(TEXTS).decode(
        Encoded(numbers=numbers, codes=np.array(codes, dtype=np.int32)), seed=0
    )


def test_files_of_drawn_rows_and_of_rows_that_were_read_are_equal() -> None:
    drawn = _texts([[0, 2], [2, 1], [0, 0], [1, 2]])
    assert drawn.data["t"].to_pylist() == ["b", "c", "b", "a"]
    assert drawn.data["h"].to_pylist() == [None, "y", "x", None]
    content = drawn.to_parquet_bytes()
    read = pq.read_table(io.BytesIO(content))
    assert read.equals(drawn.data)
    assert read.schema.equals(drawn.data.schema)
    assert read.schema.field("h").type == pa.large_string()
    plain = Table(data=pa.concat_tables([read.slice(0, 1), read.slice(1)]), schema=TEXTS)
    assert not plain.coded
    assert plain.to_parquet_bytes() == content


def test_a_level_that_the_schema_does_not_list_is_written_as_it_is() -> None:
    data = pa.table(
        {
            "t": ["z", "a", "y", "z"],
            "h": pa.array(["x", None, "w", "y"], pa.large_string()),
            "i": pa.array([1, 2, 3, 4], pa.int8()),
        }
    )
    table = Table(data=data, schema=TEXTS)
    assert pq.read_table(io.BytesIO(table.to_parquet_bytes())).equals(data)


def test_positions_among_other_categories_are_not_believed() -> None:
    drawn = _texts([[0, 0], [1, 1]])
    other = Column(name="t", kind="categorical", dtype="string", categories=("a", "b"))
    schema = Schema(columns=(other, *TEXTS.columns[1:]))
    moved = Table(data=drawn.data, schema=schema, coded=drawn.coded)
    assert pq.read_table(io.BytesIO(moved.to_parquet_bytes())).equals(drawn.data)


def test_missing_texts_are_counted_and_those_never_missing_have_no_statistics() -> None:
    file = pq.ParquetFile(io.BytesIO(_texts([[0, 2], [1, 0], [1, 2]]).to_parquet_bytes()))
    group = file.metadata.row_group(0)
    assert group.column(0).statistics is None
    assert group.column(1).statistics.null_count == 2
    assert group.column(2).statistics.max == 3


def test_a_file_of_several_tables_has_the_types_of_its_rows() -> None:
    pieces = [_texts([[0, 2], [2, 1]]), _texts([[1, 0]])]
    buffer = io.BytesIO()
    with Writer(buffer, pieces[0].data.schema, TEXTS) as writer:
        for piece in pieces:
            writer.write(piece.data, piece.coded, row_group=2)
    assert pq.read_table(buffer).equals(pa.concat_tables([piece.data for piece in pieces]))


def test_unknown_level_cannot_be_encoded() -> None:
    data = pa.table({"x": ["a", "z"]})
    column = Column(name="x", kind="categorical", dtype="string", categories=("a",))
    with pytest.raises(SchemaError, match="1 values outside its 1 declared"):
        Encoder(Schema(columns=(column,))).encode(
            Table(data=data, schema=Schema(columns=(column,)))
        )


def test_equal_rows_give_equal_parquet_bytes(people_csv: Path, tmp_path: Path) -> None:
    table = sf.read_table(people_csv)
    table.write_parquet(tmp_path / "a.parquet")
    sf.read_table(tmp_path / "a.parquet", schema=table.schema).write_parquet(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_split_is_disjoint_complete_and_seeded(people_csv: Path) -> None:
    table = sf.read_table(people_csv)
    parts = sf.split(table, seed=0)
    ids = [set(part.data["patient"].to_pylist()) for part in parts]
    assert [len(part) for part in parts] == [1800, 600, 600]
    assert len(set.union(*ids)) == 3_000
    assert sf.split(table, seed=0).train.digest == parts.train.digest
    assert sf.split(table, seed=1).train.digest != parts.train.digest


def test_split_keeps_a_person_in_one_part() -> None:
    people = np.random.default_rng(0).integers(0, 60, 600)
    data = pa.table({"person": people, "x": np.arange(600) % 7})
    schema = Schema(
        columns=(
            Column(name="person", kind="identifier", dtype="int64"),
            Column(name="x", kind="ordinal", dtype="int64", categories=tuple(range(7))),
        ),
        entity="person",
    )
    parts = sf.split(Table(data=data, schema=schema), seed=3)
    groups = [set(part.data["person"].to_pylist()) for part in parts]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert 0.5 < len(parts.train) / 600 < 0.7
    report = split_report(parts)
    assert report["by"] == "entity"
    assert sum(report["entities"].values()) == len(set(people.tolist()))
    assert report["rows_also_in_train"]["control"] == len(parts.control)


def test_too_few_rows_or_groups_are_refused() -> None:
    data = pa.table({"x": [1, 2] * 10})
    column = Column(name="x", kind="ordinal", dtype="int64", categories=(1, 2))
    with pytest.raises(TableError, match="a part with 4 rows"):
        sf.split(Table(data=data, schema=Schema(columns=(column,))), seed=0)


@pytest.mark.parametrize("shares", [{"control": 0.0}, {"test": 1.0}, {"control": 0.5, "test": 0.4}])
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    from synthfactory.tables import Split

    with pytest.raises(OrderError, match="split"):
        Split(**shares)


def test_quality_report_counts_and_tells_no_value() -> None:
    report = quality_report(
        table_of([("i", 1, None, "a", 1, True, None, dt.datetime(2000, 1, 1))] * 3)
    )
    assert report["duplicate_rows"] == 2
    assert report["by_column"]["real"]["missing_share"] == 1.0
    assert report["by_column"]["level"]["constant"]


def test_schema_survives_json() -> None:
    assert Schema.from_dict(SCHEMA.to_dict()) == SCHEMA
