"""A dataset: where a table lies, and what its owner declares about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from synthfactory.errors import OrderError, TableError, expect_count
from synthfactory.tables.infer import MISSING_VALUES, Raw, conform, infer_schema
from synthfactory.tables.rare import MIN_PEOPLE, RareValues, merge_rare
from synthfactory.tables.read import read_raw, read_table
from synthfactory.tables.schema import Column, Schema
from synthfactory.tables.table import Table

EMBEDDED = Path(__file__).resolve().parent / "data"
PACKAGE_PREFIX = "package:"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What ``conf/dataset/*.yaml`` says.

    Parameters
    ----------
    path
        A CSV or Parquet file; ``package:adult`` for an embedded table.
    name
        Short name, part of a run's; the file's name when empty.
    target, entity, quasi_identifiers, sensitive
        Roles of columns; what is not given is suggested.
    columns
        Declared properties by column; they win over what is inferred.
    missing_values
        Texts that mean "missing".
    title, description, licence, citation, source
        For people and catalogues.
    min_people
        Levels that fewer people have are put together, and numbers are clipped to the values that
        so many people reach on either side (`merge_rare`); 0 leaves the table as it is, which its
        report then says.  Entities where one is declared, else rows.
    health
        Whether these are health data, which health-data catalogues list.

    Raises
    ------
    OrderError
        When a value has the wrong type.
    """

    path: str
    name: str = ""
    target: str | None = None
    entity: str | None = None
    quasi_identifiers: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing_values: tuple[str, ...] = MISSING_VALUES
    title: str = ""
    description: str = ""
    licence: str = ""
    citation: str = ""
    source: str = ""
    min_people: int = MIN_PEOPLE
    health: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))
        for role in ("quasi_identifiers", "sensitive", "missing_values"):
            value = getattr(self, role)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise OrderError(f"dataset.{role}: expected a list of texts, got {value!r}.")
            object.__setattr__(self, role, tuple(str(item) for item in value))
        expect_count("dataset.min_people", self.min_people, 0, optional=False)
        if not isinstance(self.health, bool):
            raise OrderError(f"dataset.health: expected true or false, got {self.health!r}.")
        for role in ("target", "entity"):
            value = getattr(self, role)
            object.__setattr__(self, role, None if value is None else str(value))
        if not isinstance(self.columns, Mapping) or not all(
            isinstance(declared, Mapping) for declared in self.columns.values()
        ):
            raise OrderError(
                "dataset.columns: expected properties by column name, such as "
                f"{{age: {{kind: numerical}}}}, got {self.columns!r}."
            )
        plain = {str(name): dict(declared) for name, declared in self.columns.items()}
        object.__setattr__(self, "columns", plain)
        if not self.name:
            object.__setattr__(self, "name", Path(self.path).name.split(".")[0])

    @property
    def file(self) -> Path:
        """The file that `load` reads.

        Raises
        ------
        OrderError
            For an embedded table that does not exist.
        """
        if not self.path.startswith(PACKAGE_PREFIX):
            return Path(self.path).expanduser()
        embedded = EMBEDDED / f"{self.path.removeprefix(PACKAGE_PREFIX)}.parquet"
        if not embedded.is_file():
            known = sorted(path.stem for path in EMBEDDED.glob("*.parquet"))
            raise OrderError(
                f"dataset.path: there is no embedded table '{self.path}'; known: {known}."
            )
        return embedded

    def load(self) -> Table:
        """Read and check the table; values of too few people are made common."""
        return self.load_with_changes()[0]

    def load_with_changes(self) -> tuple[Table, RareValues]:
        """As `load`, and what was changed to make values of too few people common."""
        table = read_table(
            self.file,
            target=self.target,
            entity=self.entity,
            quasi_identifiers=self.quasi_identifiers,
            sensitive=self.sensitive,
            columns=self.columns,
            missing_values=self.missing_values,
        )
        return merge_rare(table, self.min_people, self.columns)


def inspect_file(path: str | Path, *, name: str | None = None) -> str:
    """The YAML of a dataset, with the reason beside each column; it loads back as a `Dataset`.

    Parameters
    ----------
    path
        A CSV or Parquet file.
    name
        What the dataset is called; the file's name by default.

    Raises
    ------
    TableError
        When the file cannot be read.
    """
    raw = read_raw(Path(path))
    schema, reasons = infer_schema(raw, columns={})
    rare, told = _rare_in_words(raw, schema)
    lines = [
        f"# Inferred from {_comment(Path(path).name)}: {raw.data.num_rows} rows, "
        f"{len(schema.columns)} columns.",
        *(f"# {_comment(line)}." for line in told),
        "# Change what is wrong: what stands here wins over what would be inferred.",
        "_target_: synthfactory.tables.Dataset",
        _entry("path", str(Path(path).resolve())),
        _entry("name", name or Path(path).name.split(".")[0]),
        _entry("target", schema.target) + _because(reasons.get("target")),
        _entry("entity", None) + _because("the column that says which rows belong to one person"),
        _entry("quasi_identifiers", list(schema.quasi_identifiers)) + _because("by their names"),
        _entry("sensitive", list(schema.sensitive)) + _because("by their names"),
        _entry("missing_values", list(raw.missing_values)),
        _entry("min_people", MIN_PEOPLE) + _because("values of fewer are made common; 0 keeps all"),
        'title: ""',
        'description: ""',
        'licence: ""',
        'citation: ""',
        'source: ""',
        "columns:",
    ]
    for column in schema.columns:
        text = _flow({column.name: _declared(column)})[1:-1]
        because = "; ".join([reasons[column.name], *rare.get(column.name, ())])
        lines += [f"  # {_comment(because)}", f"  {text}"]
    return "\n".join(lines) + "\n"


def _rare_in_words(raw: Raw, schema: Schema) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """What a run would do about rare values: by column, and of the whole table."""
    try:
        _, rare = merge_rare(conform(raw, schema))
    except TableError as error:
        return {}, (str(error).rstrip("."),)
    by_column: dict[str, list[str]] = {}
    for item in rare.changes:
        by_column.setdefault(item.column, []).append(rare.in_words(item))
    return by_column, rare.lines


def _declared(column: Column) -> dict[str, Any]:
    """What a person would want to change; levels and ranges follow from the file."""
    kept = {"kind": column.kind, "dtype": column.dtype}
    if column.date_format:
        kept["date_format"] = column.date_format
    return kept


def _entry(name: str, value: Any) -> str:
    return _flow({name: value})[1:-1]


def _flow(value: Any) -> str:
    """One line of YAML in flow style; any text is quoted safely."""
    return yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
    ).strip()


def _because(reason: str | None) -> str:
    return f"  # {_comment(reason)}" if reason else ""


def _comment(text: str) -> str:
    return " ".join(text.split())
