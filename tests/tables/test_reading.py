"""What comes in at the door: every column gets a kind for a reason, and bad files a clear error."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import synthfactory as sf
from synthfactory.errors import SchemaError, TableError
from synthfactory.tables import Dataset, Encoder, inspect_file


def csv(path: Path, **columns: list[Any]) -> Path:
    rows = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


N = 200
CHANCE = np.random.default_rng(0)
AGE = CHANCE.integers(18, 90, N).tolist()
SEX = CHANCE.choice(["m", "f"], N).tolist()


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (list(range(1, N + 1)), "identifier", "int64"),
        (AGE, "numerical", "int64"),
        ((CHANCE.random(N).round(2)).tolist(), "numerical", "double"),
        (SEX, "categorical", "string"),
        (["true", "FALSE"] * (N // 2), "boolean", "bool"),
        ([0, 1] * (N // 2), "categorical", "int64"),
        ([1, 2, 3, 4] * (N // 4), "ordinal", "int64"),
        ([f"row {i}" for i in range(N)], "identifier", "string"),
        ([f"a{i}@example.org" for i in range(N // 2)] * 2, "identifier", "string"),
        ([f"2024-01-{1 + i % 28:02d}" for i in range(N)], "datetime", "date32[day]"),
        ([f"{1 + i % 28:02d}.03.2024" for i in range(N)], "datetime", "date32[day]"),
        ([f"2024-01-01 {i % 24:02d}:30:00" for i in range(N)], "datetime", "timestamp[us]"),
        ([f"{i % 40:04d}" for i in range(N)], "categorical", "string"),
        ([str(10**17 + i // 2) for i in range(N)], "categorical", "string"),
        ([10**17 + i for i in range(N)], "identifier", "string"),
        ([70_000 + 7 * i for i in range(N)], "identifier", "int64"),
        ([f"2024-01-01T10:00:{i % 60:02d}.25Z" for i in range(N)], "datetime", "timestamp[us]"),
        ([0.0, -0.0, 1.5, 2.5] * (N // 4), "ordinal", "double"),
        ([""] * N, "categorical", "string"),
        (["same"] * N, "categorical", "string"),
        ([5] * N, "categorical", "int64"),
    ],
)
def test_kind_is_inferred(values: list[Any], kind: str, dtype: str, tmp_path: Path) -> None:
    table = sf.read_table(csv(tmp_path / "t.csv", x=values, age=AGE, sex=SEX))
    column = table.schema.column("x")
    assert (column.kind, column.dtype) == (kind, dtype)


def test_declared_kind_wins(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", x=[1, 2, 3, 4] * 50, age=AGE)
    table = sf.read_table(path, columns={"x": {"kind": "numerical"}})
    assert table.schema.column("x").kind == "numerical"
    assert table.schema.column("x").decimals == 0


@pytest.mark.parametrize("dtype", ["string", "double"])
def test_declared_type_of_levels_wins(dtype: str, tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", x=[0, 0.5, 1, 0.25] * 50, age=AGE)
    table = sf.read_table(path, columns={"x": {"kind": "categorical", "dtype": dtype}})
    levels = ("0", "0.25", "0.5", "1") if dtype == "string" else (0.0, 0.25, 0.5, 1.0)
    assert table.schema.column("x").categories == levels


def test_missing_texts_are_missing_in_every_kind(tmp_path: Path) -> None:
    gaps = ["?", "NA", "", "null"] * (N // 4)
    mixed = [
        gap if i % 5 == 0 else value for i, (gap, value) in enumerate(zip(gaps, AGE, strict=True))
    ]
    levels = [
        gap if i % 4 == 0 else value for i, (gap, value) in enumerate(zip(gaps, SEX, strict=True))
    ]
    table = sf.read_table(csv(tmp_path / "t.csv", age=mixed, sex=levels))
    assert table.data.column("age").null_count == N // 5
    assert table.data.column("sex").null_count == N // 4
    assert table.schema.column("sex").categories == ("f", "m")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_delimiter_and_spaces_are_found_out(separator: str, tmp_path: Path) -> None:
    lines = [f"age{separator} sex"] + [
        f"{a} {separator} {s}" for a, s in zip(AGE, SEX, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = sf.read_table(tmp_path / "t.csv")
    assert table.column_names == ("age", "sex")
    assert set(table.schema.column("sex").categories) == {"m", "f"}


def test_gzip_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    plain = csv(tmp_path / "t.csv", age=AGE, sex=SEX)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    assert sf.read_table(tmp_path / "z.csv.gz").data.equals(sf.read_table(plain).data)


HOSTILE = [
    "__import__('os')", "a b", 'quo"te', "[x]", "{y: 1}", "💉", "<img src=x onerror=alert(1)>",
    "${paths.runs}", "#hash", "- dash", "yes", "null", "1.0", "عمر",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_levels_stay_text(name: str, tmp_path: Path) -> None:
    data = pa.table({name: SEX, "age": AGE, "level": [name, "other"] * (N // 2)})
    pq.write_table(data, tmp_path / "t.parquet")
    table = sf.read_table(tmp_path / "t.parquet", missing_values=())
    encoder = Encoder(table.schema)
    assert encoder.decode(encoder.encode(table), seed=0).data.equals(table.data)
    assert "<img" not in table._repr_html_()
    text = inspect_file(tmp_path / "t.parquet")
    import yaml

    values = yaml.safe_load(text)
    assert name in values["columns"]


BAD = {
    "missing.csv": (None, "There is no file"),
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n\n", "is empty"),
    "header.csv": (b"a,b\n", "no rows"),
    "one.csv": (b"a,b\n1,2\n", "1 rows; expected at least"),
    "duplicate.csv": (b"a,a\n" + b"1,2\n" * 50, "more than once: 'a'"),
    "unnamed.csv": (b"a,\n" + b"1,2\n" * 50, "column 2 has an empty name"),
    "latin.csv": (b"a,b\n" + b"1,\xe4\n" * 50, "not UTF-8: line 2"),
    "nul.csv": (b"a,b\n1,2\n\x001,2\n" + b"1,2\n" * 50, "NUL byte in line 3"),
    "ragged.csv": (b"a,b\n" + b"1,2\n" * 50 + b"1,2,3\n", "row 52. has 3"),
    "mixed.csv": (
        b"a,b\n" + b"1,2\n" * 50 + b"n.a.,2\n",
        "column 'a' is mostly numbers but holds 1 strings, first 'n.a.'",
    ),
    "infinite.csv": (b"a,b\n" + b"1.5,2\n" * 50 + b"inf,2\n", "'a' holds 1 infinite"),
    "ids.csv": (b"id\n" + b"\n".join(b"%d" % i for i in range(50)), "nothing but identifiers"),
    "no.parquet": (b"PAR1 no", "no whole Parquet file"),
    "table.xlsx": (b"PK", "expected a name that ends in"),
    "broken.csv.gz": (b"\x1f\x8b broken", "no whole gzip file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        sf.read_table(tmp_path / name)


def test_line_break_in_a_quoted_name_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        '"a\nb",c\n' + "".join(f"{i % 7},x{i % 3}\n" for i in range(99))
    )
    table = sf.read_table(tmp_path / "t.csv")
    assert table.column_names == ("a\nb", "c")
    assert table.n_rows == 99


def test_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is a folder"):
        sf.read_table(tmp_path)


def test_parquet_of_lists_and_infinities_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [[1]] * 50, "b": list(range(50))}), tmp_path / "l.parquet")
    with pytest.raises(TableError, match="column 'a' has the Arrow type list"):
        sf.read_table(tmp_path / "l.parquet")
    pq.write_table(pa.table({"a": [1.5, float("inf")] * 25, "b": AGE[:50]}), tmp_path / "i.parquet")
    with pytest.raises(TableError, match="25 infinite values"):
        sf.read_table(tmp_path / "i.parquet")


def test_declared_numerical_column_with_texts_is_explained(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", age=["old"] * 3 + AGE[3:], sex=SEX)
    with pytest.raises(TableError, match="declared numerical but holds 3 strings, first 'old'"):
        sf.read_table(path, columns={"age": {"kind": "numerical"}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "sxe"}, "target: there is no column 'sxe'; did you mean 'sex'"),
        ({"sensitive": ["aeg"]}, "sensitive: there is no column 'aeg'; did you mean 'age'"),
        ({"columns": {"aeg": {}}}, "A column 'aeg' is declared"),
        ({"columns": {"age": {"kind": "number"}}}, "expected a kind among"),
        ({"columns": {"age": {"kinds": "numerical"}}}, "no property 'kinds'; did you mean 'kind'"),
        ({"columns": {"age": {"minimum": "abc"}}}, "expected a number as minimum"),
        ({"columns": {"sex": {"categories": 5}}}, "expected a list of categories"),
        ({"columns": {"age": {"dtype": "int46"}}}, "expected an Arrow type"),
    ],
)
def test_wrong_declarations_are_explained(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SchemaError, match=message):
        sf.read_table(csv(tmp_path / "t.csv", age=AGE, sex=SEX), **options)


def test_another_file_is_read_the_same_way_or_the_difference_is_shown(tmp_path: Path) -> None:
    first = sf.read_table(csv(tmp_path / "a.csv", age=AGE, sex=SEX))
    again = sf.read_table(csv(tmp_path / "b.csv", age=AGE[:40], sex=SEX[:40]), schema=first.schema)
    assert again.schema == first.schema
    with pytest.raises(SchemaError, match=r"- sex .*\n.*\+ gender"):
        sf.read_table(csv(tmp_path / "c.csv", age=AGE, gender=SEX), schema=first.schema)
    csv(tmp_path / "d.csv", age=AGE[:4], sex=["m", "f", "x", "m"])
    with pytest.raises(SchemaError, match="1 values outside its 2 categories, first in row 3"):
        sf.read_table(tmp_path / "d.csv", schema=first.schema)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("adult", {"capital-gain": "numerical", "income": "categorical"}),
        ("bank", {"pdays": "numerical", "y": "categorical"}),
        ("beijing", {"No": "identifier", "pm": "numerical", "hour": "ordinal"}),
        ("bike", {"instant": "identifier", "dteday": "datetime", "cnt": "numerical"}),
        ("churn", {"RowNumber": "identifier", "CustomerId": "identifier", "Surname": "identifier"}),
        ("shoppers", {"Region": "ordinal", "Weekend": "boolean"}),
    ],
)
def test_real_tables_are_inspected_and_load_back(
    shared_data: Path, tmp_path: Path, name: str, kinds: dict[str, str]
) -> None:
    import yaml

    path = shared_data / f"{name}.csv"
    values = yaml.safe_load(inspect_file(path))
    del values["_target_"]
    declared = Dataset(**values).load()
    inferred, _ = sf.merge_rare(sf.read_table(path))
    assert declared.schema == inferred.schema
    assert declared.schema.target in {"income", "y", "pm", "cnt", "Exited", "Revenue"}
    assert {column: declared.schema.column(column).kind for column in kinds} == kinds


@pytest.mark.parametrize("name", ["adult", "bank", "shoppers"])
def test_embedded_tables_are_the_published_ones(shared_data: Path, name: str) -> None:
    embedded = Dataset(path=f"package:{name}", min_people=0).load()
    assert embedded.data.equals(sf.read_table(shared_data / f"{name}.csv").data)
