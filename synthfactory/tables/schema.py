"""What a table is: columns of six kinds, and the roles that they play."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyarrow as pa

from synthfactory.artifacts import digest_json
from synthfactory.errors import SchemaError, did_you_mean

Kind = Literal["numerical", "categorical", "boolean", "ordinal", "datetime", "identifier"]
KINDS: tuple[str, ...] = get_args(Kind)
Level = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name
        The column's name, any text.
    kind
        How it is learnt.
    dtype
        Its Arrow type in files, such as ``int64``, ``double``, ``string``, ``timestamp[us]``.
    nullable
        Whether missing values occur.
    categories
        Every level of a categorical, boolean or ordinal column; ordinal levels by rank.
    minimum, maximum
        Range of a numerical column; of a datetime column in seconds since 1970.
    decimals
        Digits after the point of a numerical column; 0 for integers, None for full precision.
    date_format
        How a datetime is written in a text file (``strptime`` format); None for ISO 8601.
    description, unit, iri
        What it means, for people and for catalogues.

    Raises
    ------
    SchemaError
        For an unknown kind, or levels and ranges that do not fit the kind.
    """

    name: str
    kind: Kind
    dtype: str
    nullable: bool = False
    categories: tuple[Level, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    date_format: str | None = None
    description: str = ""
    unit: str = ""
    iri: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SchemaError(
                f"Column '{self.name}': expected a kind among {', '.join(KINDS)}, "
                f"got '{self.kind}'{did_you_mean(str(self.kind), KINDS)}"
            )
        if isinstance(self.categories, str) or not isinstance(self.categories, Sequence):
            raise SchemaError(
                f"Column '{self.name}': expected a list of categories, got {self.categories!r}."
            )
        object.__setattr__(self, "categories", tuple(self.categories))
        for bound in ("minimum", "maximum"):
            value = getattr(self, bound)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise SchemaError(
                    f"Column '{self.name}': expected a number as {bound}, got {value!r}."
                )
        try:
            pa.type_for_alias(self.dtype)
        except (TypeError, ValueError):
            raise SchemaError(
                f"Column '{self.name}': expected an Arrow type such as int64, double, string or "
                f"timestamp[us] as dtype, got {self.dtype!r}."
            ) from None
        if len(set(self.categories)) != len(self.categories):
            raise SchemaError(f"Column '{self.name}': a category is listed twice.")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise SchemaError(
                f"Column '{self.name}': minimum {self.minimum} is above maximum {self.maximum}."
            )

    def __repr__(self) -> str:
        """Without levels and range: they are values of the table."""
        levels = f", {len(self.categories)} levels" if self.categories else ""
        nullable = ", nullable" if self.nullable else ""
        return f"Column({self.name!r}, {self.kind}, {self.dtype}{levels}{nullable})"

    @property
    def is_numeric(self) -> bool:
        """Whether it is encoded as a number (numerical, datetime)."""
        return self.kind in ("numerical", "datetime")

    @property
    def is_discrete(self) -> bool:
        """Whether it is encoded as a code (categorical, boolean, ordinal)."""
        return self.kind in ("categorical", "boolean", "ordinal")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; what equals its default is left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        kept = {
            field.name: values[field.name]
            for field in dataclasses.fields(self)
            if field.default is dataclasses.MISSING or values[field.name] != field.default
        }
        if "categories" in kept:
            kept["categories"] = list(self.categories)
        return kept


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The columns of a table in order, and which of them play a role.

    Parameters
    ----------
    columns
        The columns.
    target
        What somebody would predict from the others.
    entity
        Which column says that rows belong to one person or group.
    quasi_identifiers
        What an attacker may know about a person.
    sensitive
        What an attacker would like to infer.

    Raises
    ------
    SchemaError
        For a name that occurs twice, or a role of a column that does not exist.
    """

    columns: tuple[Column, ...]
    target: str | None = None
    entity: str | None = None
    quasi_identifiers: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("columns", "quasi_identifiers", "sensitive"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise SchemaError(f"Column names must differ, but these occur twice: {twice}.")
        roles = [("target", self.target), ("entity", self.entity)]
        roles += [("quasi_identifiers", name) for name in self.quasi_identifiers]
        roles += [("sensitive", name) for name in self.sensitive]
        for role, named in roles:
            if named is not None and named not in self.names:
                raise SchemaError(
                    f"{role}: there is no column '{named}'{did_you_mean(named, self.names)}"
                )
        if self.target is not None and self.column(self.target).kind == "identifier":
            raise SchemaError(f"target: '{self.target}' is an identifier, which is never learnt.")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def numeric(self) -> tuple[Column, ...]:
        """Numerical and datetime columns, in order."""
        return tuple(column for column in self.columns if column.is_numeric)

    @property
    def discrete(self) -> tuple[Column, ...]:
        """Categorical, boolean and ordinal columns, in order."""
        return tuple(column for column in self.columns if column.is_discrete)

    @property
    def identifiers(self) -> tuple[Column, ...]:
        """Identifier columns, in order."""
        return tuple(column for column in self.columns if column.kind == "identifier")

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises
        ------
        SchemaError
            When there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"There is no column '{name}'{did_you_mean(name, self.names)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "target": self.target,
            "entity": self.entity,
            "quasi_identifiers": list(self.quasi_identifiers),
            "sensitive": list(self.sensitive),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """The inverse of `to_dict`."""
        columns = tuple(Column(**column) for column in values["columns"])
        return cls(**{**values, "columns": columns})

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, ``sha256:<hex>``."""
        return digest_json(self.to_dict())
