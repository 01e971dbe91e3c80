"""The evidence: the parts of the real table and the synthetic rows, encoded once for everybody."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.seeds import derive, numpy_stream
from synthfactory.tables import Encoded, Encoder, Schema, Table, entity_numbers

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

N_BINS = 10
MAX_LEVELS = 50


class Tables(NamedTuple):
    """The tables that were encoded."""

    train: Table
    control: Table
    test: Table
    synthetic: Table


class ShadowModel(Protocol):
    """A fitted model as the membership attacks see it."""

    def sample(self, n_rows: int, *, seed: int) -> Encoded:
        """Synthetic rows."""
        ...

    def log_likelihood(self, rows: Encoded) -> Floats | None:
        """**Shape** (n_rows,): the log density of each row, or a bound; None if it has none."""
        ...


class Trainer(Protocol):
    """Trains models like the judged one on other rows."""

    @property
    def at_once(self) -> int:
        """How many models it trains best together; the same on all machines of a run."""
        ...

    @property
    def claim(self) -> tuple[float, float] | None:
        """Epsilon and delta of the differential privacy that is claimed; None for no claim."""
        ...

    def fit(self, parts: Sequence[Encoded], seeds: Sequence[int]) -> Sequence[ShadowModel]:
        """A model for each part, with its own seed; equally large parts may train together."""
        ...


class Sides(NamedTuple):
    """**Shape** (n,) each: whose each row is; None where every row is alone."""

    members: Codes | None = None
    strangers: Codes | None = None

    def take(self, members: Codes, strangers: Codes) -> Sides:
        """Of the rows at these places."""
        return Sides(
            None if self.members is None else self.members[members],
            None if self.strangers is None else self.strangers[strangers],
        )


ALONE = Sides()


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What measurements are made on.

    The three real parts are disjoint, by entity where one is declared.  Attacks compare members
    with strangers, equally many of each; what an attacker may know about the population comes from
    the reference, which is neither.

    Parameters
    ----------
    schema
        The tables' schema.
    train, control, test, synthetic
        Members, people never seen, people to predict, and what is judged.
    seed
        Root of the measurements' streams of chance.
    threads
        Processor threads.
    confidence
        Coverage of two-sided intervals.
    max_rows
        Rows that costly measurements use of each table; their n says how many there were.
    repeats
        Bootstrap repeats.
    attempts
        Candidates that are tried; the confidence is meant for all of them together.
    attacks
        People of each side that an attack on single persons tries at most.
    shadows, targets
        Shadow models, and people whose membership they test.
    trainer
        Trains shadow models; None where the generator is not known.
    model
        The judged model; None where only its rows are known.
    tables
        The tables as they were before encoding; None where rows took their place.
    population
        The quasi-identifiers of everybody, numeric ones first; None where nobody knows them.
    """

    schema: Schema
    train: Encoded
    control: Encoded
    test: Encoded
    synthetic: Encoded
    seed: int
    threads: int = 2
    confidence: float = 0.95
    max_rows: int = 20_000
    repeats: int = 200
    attempts: int = 1
    attacks: int = 2_000
    shadows: int = 0
    targets: int = 1_000
    trainer: Trainer | None = None
    model: ShadowModel | None = None
    tables: Tables | None = None
    population: Encoded | None = None

    @classmethod
    def of(
        cls, train: Table, control: Table, test: Table, synthetic: Table, **settings: Any
    ) -> Evidence:
        """Encode the tables.

        Raises
        ------
        EvaluationError
            When a table is empty.
        """
        encoder = Encoder(train.schema)
        tables = {"train": train, "control": control, "test": test, "synthetic": synthetic}
        for name, table in tables.items():
            if table.n_rows == 0:
                raise EvaluationError(f"The {name} table is empty; nothing can be measured.")
        return cls(
            schema=train.schema,
            train=encoder.encode(train),
            control=encoder.encode(control),
            test=encoder.encode(test),
            synthetic=encoder.encode(synthetic),
            tables=Tables(train, control, test, synthetic),
            **settings,
        )

    def judging(self, rows: Encoded) -> Evidence:
        """The same evidence with other rows in the place of the synthetic ones."""
        return replace(self, synthetic=rows, model=None, tables=None)

    def stream(self, purpose: str) -> np.random.Generator:
        """A stream of chance for one purpose."""
        return numpy_stream(self.seed, purpose)

    def integer(self, purpose: str) -> int:
        """A seed for libraries, below 2**31."""
        return derive(self.seed, purpose) % 2**31

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Learnt columns: numeric ones, then discrete ones."""
        return tuple(column.name for column in (*self.schema.numeric, *self.schema.discrete))

    @functools.cached_property
    def member_places(self) -> Codes:
        """**Shape** (n_members,): which train rows the members are."""
        n = min(len(self.train), len(self.control))
        return np.sort(self.stream("members").permutation(len(self.train))[:n])

    @functools.cached_property
    def members(self) -> Encoded:
        """A sample of train rows, as many as control rows: attacks compare equal sizes."""
        return take(self.train, self.member_places)

    @functools.cached_property
    def strangers(self) -> Encoded:
        """Control rows, as many as members."""
        return take(self.control, np.arange(len(self.members)))

    @functools.cached_property
    def whose(self) -> Sides:
        """Whose the rows of `members` and of `strangers` are."""
        train, control = self.entities("train"), self.entities("control")
        return Sides(
            None if train is None else train[self.member_places],
            None if control is None else control[: len(self.members)],
        )

    def picked(self, purpose: str) -> tuple[Codes, Codes]:
        """Which members and which strangers are attacked, at most `attacks` of each."""
        members, strangers = (
            self.stream(f"{purpose}: {side}").permutation(len(people))[: self.attacks]
            for people, side in ((self.members, "members"), (self.strangers, "strangers"))
        )
        return members, strangers

    def persons(self, part: str) -> Codes:
        """**Shape** (n_rows,): a number for the person behind each row of a part.

        Rows of one entity get one number, where an entity is declared and the tables are known.
        """
        entities = self.entities(part)
        return np.arange(len(getattr(self, part))) if entities is None else entities

    def entities(self, part: str) -> Codes | None:
        """As `persons`; None where every row is alone, or nobody knows whose it is.

        Parameters
        ----------
        part
            ``train``, ``control``, ``test`` or ``synthetic``.
        """
        if self.schema.entity is None or self.tables is None:
            return None
        return entity_numbers(getattr(self.tables, part))

    @property
    def reference(self) -> Encoded:
        """Real rows that are neither members nor strangers: what the population looks like."""
        return self.test

    def at_most(self, rows: Encoded, purpose: str) -> Encoded:
        """At most `max_rows` of the rows, drawn from a stream of their own."""
        if len(rows) <= self.max_rows:
            return rows
        return take(rows, self.places_at_most(len(rows), purpose))

    def places_at_most(self, n_rows: int, purpose: str) -> npt.NDArray[np.integer]:
        """Which of ``n_rows`` rows `at_most` draws, in order."""
        if n_rows <= self.max_rows:
            return np.arange(n_rows)
        return np.sort(self.stream(purpose).permutation(n_rows)[: self.max_rows])

    @functools.cached_property
    def binning(self) -> Binning:
        """Bins from the train rows, the same for every table."""
        return Binning.of(self.schema, self.train)


def take(rows: Encoded, picked: npt.NDArray[np.integer]) -> Encoded:
    """Rows at these positions."""
    return Encoded(numbers=rows.numbers[picked], codes=rows.codes[picked])


def shuffled(rows: Encoded, n_rows: int, chance: np.random.Generator) -> Encoded:
    """Rows without dependence: each column drawn on its own."""

    def draw(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        columns = [chance.choice(values[:, place], n_rows) for place in range(values.shape[1])]
        return np.column_stack(columns) if columns else np.empty((n_rows, 0), values.dtype)

    return Encoded(numbers=draw(rows.numbers), codes=draw(rows.codes).astype(np.int32))


@dataclass(frozen=True, kw_only=True, eq=False)
class Binning:
    """Every column as a few bins: quantiles of the real numbers, or levels; missing is a bin.

    Bins come from the real rows alone.  Bins of each table's own would hide a column that is
    a thousand times too large, and let one outlier spoil a pair.
    """

    edges: tuple[Floats, ...]
    lookups: tuple[Codes, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, schema: Schema, real: Encoded) -> Binning:
        """Bins of the real rows."""
        edges = tuple(_quantile_edges(real.numbers[:, i]) for i in range(len(schema.numeric)))
        lookups = []
        for place, column in enumerate(schema.discrete):
            n_levels = len(column.categories) + 1
            lookups.append(_common_levels(np.bincount(real.codes[:, place], minlength=n_levels)))
        sizes = [len(inner) + 2 for inner in edges] + [int(found.max()) + 1 for found in lookups]
        return cls(edges=edges, lookups=tuple(lookups), sizes=tuple(sizes))

    def __call__(self, rows: Encoded) -> Codes:
        """**Shape** (n_rows, n_columns): the bin of every value."""
        columns = []
        for place, inner in enumerate(self.edges):
            values = rows.numbers[:, place]
            found = np.searchsorted(inner, values, side="right")
            columns.append(np.where(np.isnan(values), len(inner) + 1, found))
        columns += [lookup[rows.codes[:, place]] for place, lookup in enumerate(self.lookups)]
        return np.column_stack(columns).astype(np.int64)


def _quantile_edges(values: Floats) -> Floats:
    """Inner edges of at most ten bins; a value that fills several quantiles is a bin of its own."""
    present = values[~np.isnan(values)]
    if len(present) == 0:
        return np.empty(0)
    quantiles = np.unique(np.quantile(present, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    after = np.nextafter(quantiles, np.inf)
    heavy = np.isin(quantiles, _heavy_values(present))
    return np.unique(np.concatenate([quantiles, after[heavy]]))


def _heavy_values(present: Floats) -> Floats:
    values, counts = np.unique(present, return_counts=True)
    heavy: Floats = values[counts >= len(present) / N_BINS]
    return heavy


def _common_levels(counts: Codes) -> Codes:
    """A bin for each of the most frequent levels, one for all the others."""
    if len(counts) <= MAX_LEVELS:
        return np.arange(len(counts))
    lookup = np.full(len(counts), MAX_LEVELS - 1)
    common = np.argsort(-counts, kind="stable")[: MAX_LEVELS - 1]
    lookup[common] = np.arange(MAX_LEVELS - 1)
    return lookup


def pairs_of(n_columns: int) -> list[tuple[int, int]]:
    """All pairs of columns.

    >>> pairs_of(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(a, b) for a in range(n_columns) for b in range(a + 1, n_columns)]


def features(rows: Encoded, without: int | None, schema: Schema) -> tuple[Floats, Sequence[bool]]:
    """Columns for a learner: numbers (NaN missing), then level codes; and which are categories.

    Parameters
    ----------
    rows
        Encoded rows.
    without
        Place of the column to leave out, numeric ones first.
    schema
        The schema; a column of more than 255 levels is handed over as a number.
    """
    columns = [rows.numbers[:, place] for place in range(rows.numbers.shape[1])]
    categorical = [False] * len(columns)
    for place, column in enumerate(schema.discrete):
        columns.append(rows.codes[:, place].astype(np.float64))
        categorical.append(len(column.categories) < 255)
    if without is not None:
        del columns[without], categorical[without]
    if not columns:
        return np.zeros((len(rows), 1)), [False]
    return np.column_stack(columns), categorical
