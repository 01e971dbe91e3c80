"""What a generator is: a frozen specification that learns a model, and a model that samples."""

from __future__ import annotations

import abc
import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from synthfactory.errors import (
    OrderError,
    ShortfallWarning,
    TrainingError,
    did_you_mean,
    expect_count,
)
from synthfactory.markup import html_table
from synthfactory.tables import Column, Schema, Table

MODEL_FILE = "model.json"
RANGE = ".."
SHORTFALLS = ("error", "warn")
MAX_DRAWS_PER_ROW = 1_000
LATENT_SAMPLES = 64

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fit is.

    Parameters
    ----------
    step, steps
        Done and planned optimiser steps.
    losses
        Mean of each loss since the last report.
    seconds
        Wall time since the fit began.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    seconds: float

    @property
    def in_words(self) -> str:
        """The losses as one line."""
        return " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())


Callback = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Generator(abc.ABC):
    """A specification: its fields are its hyperparameters, nothing is fitted in it."""

    name: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    reference: ClassVar[str] = ""

    @abc.abstractmethod
    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
        checkpoint: Path | None = None,
    ) -> Model:
        """Learn ``table``.

        Parameters
        ----------
        table
            Rows to learn; identifier columns are not looked at.
        seed
            Root of the fit's streams of chance.
        device
            ``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:<i>``.
        threads
            Processor threads; another count changes the last bits of the result.
        callback
            Called now and then with the `Progress`.
        checkpoint
            A file in which a neural fit is kept while it goes on, and from which it goes on after
            an interruption: on a processor to the same bytes.  The caller removes it.

        Raises
        ------
        TrainingError
            When the table cannot be learnt, or the losses are no numbers any more.
        """

    def hyperparameters(self) -> dict[str, Any]:
        """The fields by name, JSON-able."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }


class Model(abc.ABC):
    """Something learnt; it holds parameters, never rows (`Bootstrap` apart, which says so)."""

    kind: ClassVar[str]
    schema: Schema
    spec: Generator

    @abc.abstractmethod
    def sample(
        self,
        n_rows: int,
        *,
        seed: int,
        shard: int = 0,
        first_row: int = 0,
        conditions: Mapping[str, Any] | None = None,
        threads: int | None = None,
        shortfall: str = "error",
    ) -> Table:
        """Draw rows.

        Parameters
        ----------
        n_rows
            How many.
        seed, shard
            Address of the stream of chance: the same pair gives the same rows.
        first_row
            Number of the first row over all shards; identifiers count from it.
        conditions
            Values that every row must have, by discrete column; neural models take ranges
            ``(least, greatest)`` of numeric columns, too.
        threads
            Processor threads of neural models; None for all.  They do not change the rows.
        shortfall
            What a model that draws again until rows meet the conditions does when a thousand draws
            for each row were not enough: ``error``, or ``warn`` and return those that were found.

        Raises
        ------
        OrderError
            When a condition names no discrete column or no level of it, or cannot be met.
        """

    def log_likelihood(
        self, table: Table, *, seed: int, samples: int = LATENT_SAMPLES
    ) -> Floats | None:
        """How probable each row is under the model; None when the model cannot tell.

        Parameters
        ----------
        table
            Rows of the model's schema; identifiers are not looked at.
        seed
            Root of the chance of estimates.
        samples
            Draws of the latent point for each row, where there is one.

        Returns
        -------
        Floats
            **Shape** (n_rows,): natural logarithms of probabilities of what would be written (see
            `synthfactory.generators.likelihood`), exact or a lower bound; models of one schema are
            comparable.
        """
        return None

    @abc.abstractmethod
    def save(self, path: str | Path) -> None:
        """Write the model into the folder ``path``: JSON and safetensors, no pickle."""

    @classmethod
    @abc.abstractmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> Model:
        """The inverse of `save`; ``document`` is the content of ``model.json``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.schema.columns)} columns, {self.spec!r})"

    def _repr_html_(self) -> str:
        """The specification and the columns' kinds; no level and no range of a column."""
        spec = self.spec
        names = Counter(column.kind for column in self.schema.columns)
        kinds = ", ".join(f"{count} {kind}" for kind, count in names.items())
        return html_table(
            (type(spec).__name__, ""),
            [(name, str(value)) for name, value in spec.hyperparameters().items()],
            note=f"A fitted model of {len(self.schema.columns)} columns ({kinds}); licence of the "
            f"generator: {spec.licence}.",
        )


def check_conditions(schema: Schema, conditions: Mapping[str, Any] | None) -> dict[str, int]:
    """Conditions as codes by column.

    Raises
    ------
    OrderError
        For a column that is not discrete, or a level that it does not have.
    """
    codes: dict[str, int] = {}
    for name, value in (conditions or {}).items():
        names = [column.name for column in schema.discrete]
        if name not in names:
            raise OrderError(
                f"Rows can be conditioned on discrete columns, not on '{name}'"
                f"{did_you_mean(name, names)}"
            )
        column = schema.column(name)
        if value is None and column.nullable:
            codes[name] = len(column.categories)
            continue
        texts = [str(level) for level in column.categories]
        if str(value) not in texts:
            raise OrderError(
                f"Column '{name}' has no level '{value}'{did_you_mean(str(value), texts)}"
            )
        codes[name] = texts.index(str(value))
    return codes


def read_range(column: Column, value: Any) -> tuple[float, float]:
    """A condition on a numeric column as least and greatest value, both included.

    Parameters
    ----------
    column
        The column.
    value
        One value, a pair ``(least, greatest)`` with None for an open end, or the same as text:
        ``"30..40"``, ``"30.."``; dates as ISO texts.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    ends: Any = value
    if isinstance(value, str) and RANGE in value:
        ends = [end.strip() or None for end in value.split(RANGE, 1)]
    elif isinstance(value, str) or not isinstance(value, Iterable):
        ends = [value, value]
    try:
        low, high = (_number(column, end) for end in ends)
    except (TypeError, ValueError) as error:
        raise OrderError(
            f"Column '{column.name}': expected a value, or a range such as [30, 40] or 30..40, "
            f"got {value!r}."
        ) from error
    least = -math.inf if low is None else low
    greatest = math.inf if high is None else high
    if not least <= greatest:
        raise OrderError(f"Column '{column.name}': the range {value!r} is empty.")
    return least, greatest


def _number(column: Column, value: Any) -> float | None:
    if value is None:
        return None
    if column.kind == "datetime":
        return float(np.datetime64(value, "us").astype(np.int64)) / 1e6
    return float(value)


def check_learnable(table: Table) -> None:
    """Refuse a table that holds nothing to learn.

    Raises
    ------
    TrainingError
        For no rows, or for identifiers only.
    """
    if table.n_rows == 0:
        raise TrainingError("There are no rows to learn from.")
    if not table.schema.numeric and not table.schema.discrete:
        raise TrainingError("The table holds identifiers only, which are never learnt.")


def expect_number(
    owner: str,
    name: str,
    value: object,
    *,
    minimum: float,
    integer: bool = False,
    above: bool = False,
) -> None:
    """Check a hyperparameter.

    Parameters
    ----------
    integer
        Whether it must be a whole number, of at least ``minimum``.
    above
        Whether ``minimum`` itself is too small a number.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    if integer:
        expect_count(f"{owner}.{name}", value, int(minimum), optional=False)
        return
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits or not minimum <= value < math.inf or (above and value == minimum):  # type: ignore[operator]
        span = f"above {minimum}" if above else f"of at least {minimum}"
        raise OrderError(f"{owner}.{name}: expected a number {span}, got {value!r}.")


def expect_widths(owner: str, name: str, value: object) -> tuple[int, ...]:
    """Check the widths of hidden layers; returns them as a tuple.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise OrderError(f"{owner}.{name}: expected widths such as [256, 256], got {value!r}.")
    widths = tuple(value)
    if not widths:
        raise OrderError(f"{owner}.{name}: expected at least one width such as [256], got none.")
    for width in widths:
        expect_number(owner, name, width, minimum=1, integer=True)
    return widths


def expect_flag(owner: str, name: str, value: object) -> None:
    """Check a switch.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    if not isinstance(value, bool):
        raise OrderError(f"{owner}.{name}: expected true or false, got {value!r}.")


def check_count(n_rows: int) -> None:
    """Refuse to draw a negative number of rows, or a fraction.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    plain = int(n_rows) if isinstance(n_rows, np.integer) else n_rows
    expect_count("n_rows", plain, 0, optional=False)


def check_shortfall(shortfall: str) -> None:
    """Refuse an unknown way to deal with too few rows.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    if shortfall not in SHORTFALLS:
        raise OrderError(f"shortfall: expected error or warn, got {shortfall!r}.")


def fall_short(found: int, n_rows: int, n_drawn: int, shortfall: str) -> None:
    """Say that too few rows met the conditions.

    Raises
    ------
    OrderError
        Unless ``shortfall`` is ``warn``.
    """
    message = (
        f"Only {found} of {n_rows} rows met the conditions after {n_drawn:,} draws; "
        "the model gives such rows too rarely."
    )
    if shortfall == "error":
        raise OrderError(
            f"{message} Ask for fewer rows, drop a condition, or take what there is with "
            "shortfall='warn'."
        )
    warnings.warn(message, ShortfallWarning, stacklevel=4)
