"""Train, control and test: disjoint by person, seeded, with what straddles them reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from synthfactory.errors import OrderError, TableError
from synthfactory.seeds import numpy_stream
from synthfactory.tables.encode import Encoder
from synthfactory.tables.rows import n_equal
from synthfactory.tables.table import Table

MIN_ROWS_PER_PART = 10


class Parts(NamedTuple):
    """What is learnt, what attacks are compared with, and what utility is tested on."""

    train: Table
    control: Table
    test: Table


@dataclass(frozen=True, kw_only=True)
class Split:
    """Shares of the parts; train is the rest.

    Parameters
    ----------
    control
        Share that no generator sees: attacks must not work better on train than on it.
    test
        Share on which utility is measured.

    Raises
    ------
    OrderError
        When a share is not between 0 and 1, or nothing is left for training.
    """

    control: float = 0.2
    test: float = 0.2

    def __post_init__(self) -> None:
        for name in ("control", "test"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
                raise OrderError(f"split.{name}: expected a share between 0 and 1, got {share!r}.")
        if self.control + self.test > 0.8:
            raise OrderError(
                f"split: control={self.control} and test={self.test} leave less than a fifth "
                "for training; lower one of them."
            )

    def apply(self, table: Table, *, seed: int) -> Parts:
        """Divide ``table``: whole entities where one is declared, else rows.

        Raises
        ------
        TableError
            When a part would hold fewer than 10 rows.
        """
        groups = entity_numbers(table)
        part = self._part_of(np.bincount(groups), seed=seed)[groups]
        parts = Parts(*(table.take(np.flatnonzero(part == number)) for number in range(3)))
        smallest = min(map(len, parts))
        if smallest < MIN_ROWS_PER_PART:
            raise TableError(
                f"The split leaves a part with {smallest} rows, expected at least "
                f"{MIN_ROWS_PER_PART} in each of train, control and test; the table has "
                f"{table.n_rows} rows in {groups.max() + 1} groups. Use a larger table, or "
                "another split.control and split.test."
            )
        return parts

    def people(self, rows_of_each: npt.NDArray[np.integer], *, seed: int) -> dict[str, int]:
        """How many people `apply` gives each part.

        Parameters
        ----------
        rows_of_each
            **Shape** (n_people,): rows of each person, in the order of `entity_numbers`.
        """
        counts = np.bincount(self._part_of(rows_of_each, seed=seed), minlength=len(Parts._fields))
        return dict(zip(Parts._fields, counts.tolist(), strict=True))

    def _part_of(
        self, rows_of_each: npt.NDArray[np.integer], *, seed: int
    ) -> npt.NDArray[np.integer]:
        """**Shape** (n_people,): 0 where a person is in train, 1 in control, 2 in test."""
        order = numpy_stream(seed, "split").permutation(len(rows_of_each))
        # Whole people go to control, then test, then train, until their shares of rows are full.
        sizes = rows_of_each[order].astype(np.int64)
        before = np.concatenate([[0], np.cumsum(sizes)[:-1]]) / sizes.sum()
        part = np.empty_like(order)
        part[order] = np.where(
            before < self.control, 1, np.where(before < self.control + self.test, 2, 0)
        )
        return part


def split(table: Table, *, seed: int, control: float = 0.2, test: float = 0.2) -> Parts:
    """Divide a table into train, control and test; see `Split`."""
    return Split(control=control, test=test).apply(table, seed=seed)


def split_report(parts: Parts) -> dict[str, Any]:
    """Counts of a split: rows, entities, and rows that occur in two parts; no values."""
    entity = parts.train.schema.entity
    report: dict[str, Any] = {
        "rows": {name: part.n_rows for name, part in parts._asdict().items()},
        "by": "row" if entity is None else "entity",
        "rows_also_in_train": {
            name: _n_also_in(getattr(parts, name), parts.train) for name in ("control", "test")
        },
    }
    if entity is not None:
        report["entities"] = {
            name: int(pc.count_distinct(part.data.column(entity), mode="all").as_py())
            for name, part in parts._asdict().items()
        }
    return report


def people_of(parts: Parts) -> dict[str, int]:
    """How many people each part holds; rows are people where no entity is declared."""
    return {
        name: part.n_rows if part.schema.entity is None else int(entity_numbers(part).max()) + 1
        for name, part in parts._asdict().items()
    }


def entity_numbers(table: Table) -> npt.NDArray[np.int64]:
    """**Shape** (n_rows,): the number of each row's entity; a row without one is alone."""
    if table.schema.entity is None:
        return np.arange(table.n_rows)
    codes = table.data.column(table.schema.entity).combine_chunks().dictionary_encode()
    if hasattr(codes, "combine_chunks"):
        codes = codes.combine_chunks()
    numbers = codes.indices.to_numpy(zero_copy_only=False).astype(np.float64)
    missing = np.isnan(numbers)
    numbers[missing] = len(codes.dictionary) + np.arange(missing.sum())
    return np.unique(numbers.astype(np.int64), return_inverse=True)[1]


def _n_also_in(part: Table, other: Table) -> int:
    """How many rows of ``part`` occur in ``other`` too, identifiers aside."""
    encoder = Encoder(part.schema)
    return n_equal(encoder.encode(part), encoder.encode(other))
