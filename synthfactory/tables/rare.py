"""Values that too few people have, made common before anything else sees the table.

A level that three people have, or the largest of all numbers, says something about single people
wherever it is written: in a model's list of levels, in a range, in a synthetic row.  So at the door
levels of fewer than k people are put together, and numbers are clipped to the values that k people
reach on either side.  Generators, attacks and measurements then all see the same table.

No state that comes into being here stands for fewer than k people, a missing one included: in a
column with three levels of which one is rare, a new missing cell would name that level.

Columns are looked at one by one: a combination of common values may still be somebody's alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthfactory.errors import TableError
from synthfactory.tables.encode import Encoder, arrow_type
from synthfactory.tables.schema import Column, Schema
from synthfactory.tables.split import entity_numbers
from synthfactory.tables.table import Table

MIN_PEOPLE = 10
OTHER = "(other)"
# A table of fewer than so many times `min_people` people is small: its owner is told.
SMALL = 10

Change = Literal["together", "missing", "moved", "low", "high"]

IN_WORDS: Mapping[Change, str] = {
    "together": f"put together as {OTHER}",
    "missing": "made missing",
    "moved": "moved to a common level",
    "low": "clipped from below",
    "high": "clipped from above",
}

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Changed:
    """Cells of one column that were changed in one way.

    Parameters
    ----------
    column
        The column's name.
    change
        ``together``: levels became ``(other)``; ``missing``: cells became missing; ``moved``:
        levels became another level; ``low``, ``high``: numbers or times were clipped.
    cells, people
        How many cells, and how many people they belong to.
    """

    column: str
    change: Change
    cells: int
    people: int


@dataclass(frozen=True, kw_only=True)
class RareValues:
    """What was done about values that too few people have.

    Parameters
    ----------
    min_people
        How many people make a value common; below 2 every value is left as it is.
    n_rows, n_people
        Of the table.
    changes
        What was changed, by column and way; nothing of a column that was left as it is.
    declared
        Columns of which levels or an end were left because their owner declared them.
    single
        Columns with different values before, and with one or none since.
    """

    min_people: int
    n_rows: int
    n_people: int
    changes: tuple[Changed, ...] = ()
    declared: tuple[str, ...] = ()
    single: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether every value was left as it is."""
        return self.min_people < 2

    def rounded(self, changed: Changed) -> int | None:
        """How many cells may be told to others; None for those of fewer than ``min_people`` people.

        Two significant digits, and no finer than tens: two tables that differ in one person are
        mostly told alike.
        """
        return None if changed.people < self.min_people else about(changed.cells)

    def in_words(self, changed: Changed) -> str:
        """A change for reading, such as ``about 310 cells clipped from above``."""
        cells = self.rounded(changed)
        many = f"fewer than {self.min_people} people's" if cells is None else f"about {cells:,}"
        return f"{many} cells {IN_WORDS[changed.change]}"

    def to_dict(self) -> dict[str, Any]:
        """Exact counts, for who answers for the table; no values."""
        return dataclasses.asdict(self)

    def public(self) -> dict[str, Any]:
        """What may be released: rounded counts, ``None`` where they are of too few people."""
        return {
            "minPeople": self.min_people,
            "kept": self.kept,
            "changes": [
                {"column": item.column, "change": item.change, "cells": self.rounded(item)}
                for item in self.changes
            ],
            "declared": list(self.declared),
            "single": list(self.single),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """What the owner of the table should know before anything is learnt, a sentence each."""
        asked = f"dataset.min_people={self.min_people}"
        if self.kept:
            return (
                f"rare values were kept ({asked}): a level or an extreme of a single person can "
                "come back in the rows and in the model",
            )
        return tuple(self._told(asked))

    def _told(self, asked: str) -> list[str]:
        by_column: dict[str, int] = {}
        for item in self.changes:
            by_column[item.column] = by_column.get(item.column, 0) + item.cells
        said = []
        if by_column:
            n_cells = sum(by_column.values())
            many = (
                f"about {about(n_cells):,}"
                if n_cells >= self.min_people
                else f"fewer than {self.min_people}"
            )
            were = "1 column" if len(by_column) == 1 else f"{len(by_column)} columns"
            said.append(f"rare values: {many} cells of {were} were made common ({asked})")
        if self.single:
            said.append(
                f"rare values: nothing is left to be learnt from {_named(self.single)}: fewer than "
                f"{self.min_people} people differ from the rest, or have any value at all; drop "
                "such a column, make its values coarser, or lower dataset.min_people"
            )
        most = [
            name
            for name, n_cells in by_column.items()
            if 2 * n_cells > self.n_rows and name not in self.single
        ]
        if most:
            said.append(
                f"rare values: more than half of {_named(most)} was made common: declare it an "
                "identifier if it names people, or make its values coarser"
            )
        if by_column and self.n_people < SMALL * self.min_people:
            said.append(
                f"rare values: with so few people ({self.n_people}), {asked} changes much of the "
                "table; a lower number keeps more, of fewer people each"
            )
        return said


def about(cells: int) -> int:
    """A count rounded to two significant digits, no finer than tens.

    >>> about(14), about(312), about(3_149), about(25)
    (10, 310, 3100, 30)
    """
    unit = int(10 ** max(1, len(str(cells)) - 2))
    return (2 * cells + unit) // (2 * unit) * unit


def merge_rare(
    table: Table,
    min_people: int = MIN_PEOPLE,
    declared: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Table, RareValues]:
    """The table without values that fewer than ``min_people`` people have, and what was changed.

    Parameters
    ----------
    table
        The whole table, before it is divided.
    min_people
        How many people make a value common; entities where one is declared, else rows.
    declared
        Properties of columns that their owner declared: a column whose ``categories`` are declared
        keeps its levels, one with a declared ``minimum`` or ``maximum`` keeps that end.

    Returns
    -------
    Table
        Levels of too few people are ``(other)`` where they are texts and enough people together.
        Else an ordinal level becomes the nearest common one; another level becomes missing where
        enough people are missing then, and else the commonest level.  Numbers and points in time
        lie between the values that so many people reach; where fewer have any, all are missing.
        Identifiers and the entity are left alone.  The schema's ranges and levels are those of
        the new table.
    RareValues
        How many cells of which columns were changed.

    Raises
    ------
    TableError
        When the table tells of fewer people, or a target would keep a single value.
    """
    if min_people < 2:
        return table, RareValues(
            min_people=min_people, n_rows=table.n_rows, n_people=_People(table).n
        )
    work = _Work(table, min_people, declared or {})
    if work.people.n < min_people:
        raise TableError(
            f"The table tells of {work.people.n} people, fewer than dataset.min_people="
            f"{min_people}: no value of it is common. Use a larger table, or a lower number."
        )
    for column in table.schema.columns:
        work.make_common(column)
    return work.result()


class _People:
    """Whose row each row is."""

    def __init__(self, table: Table) -> None:
        # Without an entity each row is a person: everything is counted without sorting.
        self._numbers = None if table.schema.entity is None else entity_numbers(table)
        self.n = table.n_rows
        if self._numbers is not None:
            self.n = int(self._numbers.max(initial=-1)) + 1
            self._order = np.argsort(self._numbers, kind="stable")
            self._starts = np.searchsorted(self._numbers[self._order], np.arange(self.n))

    def count(self, rows: Mask) -> int:
        """How many people these rows belong to."""
        if self._numbers is None:
            return int(np.count_nonzero(rows))
        return int(np.count_nonzero(np.bincount(self._numbers[rows], minlength=self.n)))

    def per_level(self, codes: Codes, n_levels: int) -> Codes:
        """**Shape** (n_levels,): how many people have each level."""
        if self._numbers is not None:
            pairs = pc.unique(pa.array(self._numbers * n_levels + codes)).to_numpy()
            codes = pairs % n_levels
        return np.bincount(codes, minlength=n_levels)

    def highest(self, numbers: Floats) -> Floats:
        """The highest number of everybody who has one; NaN is none."""
        if self._numbers is not None:
            numbers = np.fmax.reduceat(numbers[self._order], self._starts)
        return numbers[~np.isnan(numbers)]


@dataclass
class _Work:
    """A table whose columns are made common, one after the other."""

    table: Table
    least: int
    said: Mapping[str, Mapping[str, Any]]
    data: pa.Table = field(init=False)
    columns: dict[str, Column] = field(init=False)
    changes: list[Changed] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    single: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people = _People(self.table)
        self.data = self.table.data
        self.columns = {column.name: column for column in self.table.schema.columns}

    def make_common(self, column: Column) -> None:
        """Look at one column, and change what is rare in it."""
        if column.kind == "identifier":
            return
        said = self.said.get(column.name, {})
        if column.name == self.table.schema.entity or "categories" in said:
            self.declared.append(column.name)
            return
        if said.keys() & {"minimum", "maximum"} and column.is_numeric:
            self.declared.append(column.name)
        alone = Schema(columns=(column,))
        rows = Encoder(alone).encode(Table(data=self.data.select([column.name]), schema=alone))
        before = len(self.changes)
        left = (
            self._clip(column, rows.numbers[:, 0], said)
            if column.is_numeric
            else self._merge_levels(column, rows.codes[:, 0].astype(np.int64))
        )
        if len(self.changes) > before and left < 2:
            self.single.append(column.name)
            if column.name == self.table.schema.target:
                raise TableError(
                    f"The target '{column.name}' would keep a single value: fewer than "
                    f"dataset.min_people={self.least} people have any other. Choose another "
                    "dataset.target, with more people per value, or lower dataset.min_people if "
                    "its rare values may be learnt and released."
                )

    def result(self) -> tuple[Table, RareValues]:
        """The new table, and what was changed."""
        ordered = tuple(self.columns[name] for name in self.table.schema.names)
        schema = dataclasses.replace(self.table.schema, columns=ordered)
        changed = RareValues(
            min_people=self.least,
            n_rows=self.table.n_rows,
            n_people=self.people.n,
            changes=tuple(self.changes),
            declared=tuple(self.declared),
            single=tuple(self.single),
        )
        return Table(data=self.data.combine_chunks(), schema=schema), changed

    def _note(self, column: Column, change: Change, rows: Mask) -> None:
        if cells := int(np.count_nonzero(rows)):
            self.changes.append(
                Changed(
                    column=column.name, change=change, cells=cells, people=self.people.count(rows)
                )
            )

    def _replace(self, column: Column, values: pa.Array) -> None:
        self.columns[column.name] = dataclasses.replace(
            column, nullable=bool(column.nullable or values.null_count)
        )
        place = self.data.column_names.index(column.name)
        self.data = self.data.set_column(place, column.name, values)

    def _merge_levels(self, column: Column, codes: Codes) -> int:
        """Change rare levels; returns how many levels are left."""
        n_levels = len(column.categories)
        counts = self.people.per_level(codes, n_levels + 1)[:-1]
        common = np.flatnonzero(counts >= self.least)
        rare = np.flatnonzero((counts < self.least) & (counts > 0))
        if not len(rare):
            return len(common)
        # A boolean's levels are those of its type, whoever has them.
        stay = np.arange(n_levels) if column.kind == "boolean" else common
        kept = tuple(column.categories[place] for place in stay)
        is_rare = np.isin(codes, rare)
        change, taken = self._what_becomes(column, codes, is_rare, counts)
        if change == "together" and OTHER not in kept:
            kept = (*kept, OTHER)
        to: Codes = np.full(n_levels + 1, len(kept))
        to[stay] = np.arange(len(stay))
        if change == "together":
            to[rare] = kept.index(OTHER)
        else:
            to[rare] = to[taken]
        self._note(column, change, is_rare)
        mapped = to[codes]
        absent = mapped == len(kept)
        levels = pa.array(kept, type=arrow_type(column))
        self._replace(
            dataclasses.replace(column, categories=kept),
            levels.take(pa.array(np.where(absent, 0, mapped), mask=absent)),
        )
        return len(np.unique(mapped[~absent]))

    def _what_becomes(
        self, column: Column, codes: Codes, is_rare: Mask, counts: Codes
    ) -> tuple[Change, Codes]:
        """How the rare levels of a column are changed, and which codes they take."""
        common = np.flatnonzero(counts >= self.least)
        rare = np.flatnonzero((counts < self.least) & (counts > 0))
        missing = np.full(len(rare), len(counts))
        if column.kind == "ordinal" and len(common):
            return "moved", _nearest(_positions(column), rare, common)
        if column.kind == "categorical" and column.dtype == "string":
            there = OTHER in (column.categories[place] for place in common)
            if there or self.people.count(is_rare) >= self.least:
                return "together", missing
        if not len(common) or self.people.count(is_rare | (codes == len(counts))) >= self.least:
            return "missing", missing
        return "moved", np.full(len(rare), common[np.argmax(counts[common])])

    def _clip(self, column: Column, numbers: Floats, said: Mapping[str, Any]) -> int:
        """Clip what too few people reach; returns how many different values are left, at most 2."""
        present = ~np.isnan(numbers)
        if column.minimum is None or column.maximum is None or not present.any():
            return 0
        values = self.data.column(column.name).combine_chunks()
        highest = self.people.highest(numbers)
        if len(highest) < self.least:
            self._note(column, "missing", present)
            cleared = dataclasses.replace(column, minimum=None, maximum=None)
            self._replace(cleared, pa.nulls(len(values), values.type))
            return 0
        high = np.partition(highest, len(highest) - self.least)[len(highest) - self.least]
        lowest = -self.people.highest(-numbers)
        low = np.partition(lowest, self.least - 1)[self.least - 1]
        if low > high:
            low = high = np.sort(numbers[present])[(np.count_nonzero(present) - 1) // 2]
        low = numbers[present].min() if "minimum" in said else low
        high = numbers[present].max() if "maximum" in said else high
        below, above = present & (numbers < low), present & (numbers > high)
        ends: tuple[tuple[Change, Mask, float], ...] = (("low", below, low), ("high", above, high))
        for change, beyond, bound in ends:
            if beyond.any():
                # A value that a person really has stands for it: no rounding makes a new one.
                one = values[int(np.flatnonzero(numbers == bound)[0])]
                values = pc.if_else(pa.array(beyond), one, values)
                self._note(column, change, beyond)
        if not below.any() and not above.any():
            return 2
        # An end that was declared stays as it was declared.
        clipped = dataclasses.replace(
            column,
            minimum=column.minimum if "minimum" in said else float(low),
            maximum=column.maximum if "maximum" in said else float(high),
        )
        self._replace(clipped, values)
        return 1 if low == high else 2


def _positions(column: Column) -> Floats:
    """**Shape** (n_levels,): where ordinal levels lie; their values, or ranks for texts."""
    ranks = np.arange(len(column.categories), dtype=np.float64)
    if column.dtype in ("string", "bool"):
        return ranks
    values = np.asarray(column.categories, dtype=np.float64)
    return values if np.all(np.diff(values) > 0) else ranks


def _nearest(positions: Floats, rare: Codes, common: Codes) -> Codes:
    """The common level that is nearest to each rare one; the lower one of two."""
    after = np.searchsorted(positions[common], positions[rare])
    below, above = common[np.maximum(after - 1, 0)], common[np.minimum(after, len(common) - 1)]
    nearer = np.abs(positions[above] - positions[rare]) < np.abs(positions[rare] - positions[below])
    return np.where(nearer, above, below)


def _named(columns: Sequence[str], most: int = 5) -> str:
    named = ", ".join(f"'{name}'" for name in columns[:most])
    return named if len(columns) <= most else f"{named} and {len(columns) - most} more"
