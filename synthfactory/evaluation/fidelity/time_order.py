"""Time order: do the rows follow each other as in the real table?

The first datetime column that holds a value orders the rows.  Two halves count alike:

- the calendar: hour of the day (where there is one), weekday and month of the datetime, each
  1 - total variation distance, mean;
- the succession.  Where an entity with several rows is declared: 1 - Kolmogorov-Smirnov statistic
  of the gaps between consecutive rows of an entity, and of the number of rows of an entity, mean.
  Otherwise, autocorrelations of the other numeric columns, all rows in order of time, at lags 1 to
  3: ``1 - |r_real - r_synthetic| / 2``, mean.  Rows of one time stand in random order, and both
  tables are thinned to equally many rows, as the time between neighbours depends on their number.

Errors are delete-a-group jackknives (Kott 2001, "The delete-a-group jackknife", Journal of Official
Statistics 17(4)): groups of whole entities or of rows at random, and for autocorrelations groups of
neighbours in time.

Without a datetime column there is nothing to measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.ceiling import Beside
from synthfactory.evaluation.fidelity.influence import interval
from synthfactory.evaluation.fidelity.shapes import kolmogorov_smirnov
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded, Table, entity_numbers

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Scores = Mapping[str, float]

ID = "fidelity.time_order"
LAGS = (1, 2, 3)
N_GROUPS = 20
DAY_S, HOUR_S = 86_400, 3_600
THURSDAY = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Timed:
    """Rows with a time.

    Parameters
    ----------
    times
        **Shape** (n_rows,): seconds since 1970, NaN where missing.
    entities
        **Shape** (n_rows,): whose row it is; None where no entity is declared.
    numbers
        **Shape** (n_rows, n_columns): the other numeric columns.
    """

    times: Floats
    entities: Codes | None
    numbers: Floats

    def __len__(self) -> int:
        return len(self.times)

    def take(self, picked: npt.NDArray[Any]) -> Timed:
        """Rows at these positions, or under this mask."""
        entities = None if self.entities is None else self.entities[picked]
        return Timed(times=self.times[picked], entities=entities, numbers=self.numbers[picked])

    def some(self, n: int, chance: np.random.Generator) -> Timed:
        """About ``n`` rows at random, whole entities where there are some; in the given order."""
        if n >= len(self):
            return self
        if self.entities is None:
            return self.take(np.sort(chance.permutation(len(self))[:n]))
        _, owners, counts = np.unique(self.entities, return_inverse=True, return_counts=True)
        order = chance.permutation(len(counts))
        kept = np.zeros(len(counts), dtype=bool)
        kept[order[: int(np.searchsorted(np.cumsum(counts[order]), n)) + 1]] = True
        return self.take(kept[owners])


def timed(rows: Encoded, table: Table | None, place: int) -> Timed:
    """Rows by the datetime in numeric column ``place``."""
    with_entity = table is not None and table.schema.entity is not None
    return Timed(
        times=rows.numbers[:, place],
        entities=entity_numbers(table) if with_entity and table is not None else None,
        numbers=np.delete(rows.numbers, place, axis=1),
    )


def below(first: Timed, second: Timed) -> Timed:
    """The rows of both; their entities differ."""
    entities = None
    if first.entities is not None and second.entities is not None:
        entities = np.concatenate([first.entities, second.entities + first.entities.max() + 1])
    return Timed(
        times=np.concatenate([first.times, second.times]),
        entities=entities,
        numbers=np.vstack([first.numbers, second.numbers]),
    )


# The calendar


def calendar_parts(times: Floats) -> dict[str, Codes]:
    """Hour, weekday (0 is Monday) and month (0 is January) of every time; -1 where missing.

    >>> {name: int(codes[0]) for name, codes in calendar_parts(np.array([1e9])).items()}
    {'hour': 1, 'weekday': 6, 'month': 8}
    """
    missing = np.isnan(times)
    seconds = np.floor(np.where(missing, 0.0, times)).astype(np.int64)
    days = np.floor_divide(seconds, DAY_S)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    parts = {
        "hour": np.floor_divide(seconds, HOUR_S) % 24,
        "weekday": (days + THURSDAY) % 7,
        "month": months % 12,
    }
    return {name: np.where(missing, -1, codes) for name, codes in parts.items()}


def calendar(real: Timed, other: Timed) -> Scores:
    """Similarity of each part; without the hour where all real times are midnight."""
    mine, theirs = calendar_parts(real.times), calendar_parts(other.times)
    if np.all(np.isnan(real.times) | (real.times % DAY_S == 0)):
        del mine["hour"]
    return {name: _similarity(codes, theirs[name]) for name, codes in mine.items()}


def _similarity(real: Codes, other: Codes) -> float:
    """1 - total variation of codes from -1 to 23."""
    p, q = (np.bincount(side + 1, minlength=25) / len(side) for side in (real, other))
    return 1 - 0.5 * float(np.abs(p - q).sum())


# The succession, with entities


def gaps(rows: Timed) -> Floats:
    """Sorted seconds between consecutive rows of an entity; empty where there are none."""
    assert rows.entities is not None
    present = ~np.isnan(rows.times)
    times, owners = rows.times[present], rows.entities[present]
    order = np.lexsort((times, owners))
    same = np.diff(owners[order]) == 0
    return np.sort(np.diff(times[order])[same])


def entity_sizes(rows: Timed) -> Floats:
    """Sorted numbers of rows of the entities."""
    assert rows.entities is not None
    return np.sort(np.unique(rows.entities, return_counts=True)[1]).astype(np.float64)


def succession_of_entities(real: Timed, other: Timed) -> Scores:
    """Similarity of gaps and of rows per entity; 0 for gaps where the other table has none."""
    mine, theirs = gaps(real), gaps(other)
    held = min(len(mine), len(theirs)) > 0
    return {
        "gaps": 1 - kolmogorov_smirnov(mine, theirs)[0] if held else 0.0,
        "rows per entity": 1 - kolmogorov_smirnov(entity_sizes(real), entity_sizes(other))[0],
    }


# The succession, without entities


def in_order(rows: Timed, chance: np.random.Generator) -> Timed:
    """Rows that have a time, by time; those of one time in random order."""
    rows = rows.take(~np.isnan(rows.times))
    return rows.take(np.lexsort((chance.random(len(rows)), rows.times)))


def autocorrelations(numbers: Floats) -> Floats:
    """**Shape** (n_columns, n_lags): Pearson correlation of rows with those 1, 2, 3 places later.

    0 where it is not defined.
    """
    found = np.zeros((numbers.shape[1], len(LAGS)))
    for column, values in enumerate(numbers.T):
        for place, lag in enumerate(LAGS):
            early, late = values[:-lag], values[lag:]
            both = ~np.isnan(early) & ~np.isnan(late)
            x, y = early[both], late[both]
            if len(x) > len(LAGS) and np.ptp(x) > 0 and np.ptp(y) > 0:
                x, y = x - x.mean(), y - y.mean()
                found[column, place] = x @ y / math.sqrt((x @ x) * (y @ y))
    return found


def succession_of_rows(real: Timed, other: Timed) -> Scores:
    """Similarity of autocorrelations at each lag, mean over columns; the rows are in order."""
    scores = 1 - np.abs(autocorrelations(real.numbers) - autocorrelations(other.numbers)) / 2
    return {f"autocorrelation at lag {lag}": float(scores[:, place].mean())
            for place, lag in enumerate(LAGS)}  # fmt: skip


# The measurement


Half = Callable[[Timed, Timed], Scores]


def mean_of(scores: Scores) -> float:
    """Their mean."""
    return float(np.mean(list(scores.values())))


def jackknife(half: Half, real: Timed, other: Timed, groups: tuple[Codes, Codes]) -> float:
    """Delete-a-group error of the half's mean.

    ``(G - 1) / G * sum (value without the group - their mean)^2`` of each table, summed.
    """
    variance = 0.0
    for side in range(2):
        values = []
        for group in range(N_GROUPS):
            tables = [real, other]
            left = tables[side].take(groups[side] != group)
            if len(left) and len(left) < len(tables[side]):
                tables[side] = left
                values.append(mean_of(half(tables[0], tables[1])))
        if values:
            spread = np.array(values) - np.mean(values)
            variance += (len(values) - 1) / len(values) * float((spread**2).sum())
    return math.sqrt(variance)


def _random_groups(rows: Timed, chance: np.random.Generator) -> Codes:
    """**Shape** (n_rows,): a group for each row, the same for all rows of an entity."""
    owners = np.arange(len(rows)) if rows.entities is None else rows.entities
    groups = chance.permutation(int(owners.max()) + 1) % N_GROUPS
    return groups[owners]


def _neighbours(rows: Timed) -> Codes:
    """**Shape** (n_rows,): groups of rows in sequence."""
    return np.arange(len(rows)) * N_GROUPS // max(len(rows), 1)


class TimeOrder:
    """Both halves of two tables, with the chance that is needed to compare them.

    Parameters
    ----------
    evidence
        The evidence.
    real
        The train rows.
    """

    def __init__(self, evidence: Evidence, real: Timed) -> None:
        self._evidence, self._real = evidence, real
        self.by_entity = real.entities is not None and len(gaps(real)) > 0

    @property
    def has_succession(self) -> bool:
        """Whether there is anything that follows in time."""
        return self.by_entity or self._real.numbers.shape[1] > 0

    def scores(self, other: Timed) -> tuple[Scores, Scores]:
        """Of the calendar and of the succession."""
        first = calendar(self._real, other)
        if self.by_entity:
            return first, succession_of_entities(self._real, other)
        if self.has_succession:
            return first, succession_of_rows(*self._ordered(other))
        return first, {}

    def mean(self, other: Timed) -> float:
        """Both halves alike."""
        return float(np.mean([mean_of(half) for half in self.scores(other) if half]))

    def error(self, other: Timed) -> float:
        """Of the mean."""
        chance = self._evidence.stream("time order: groups")
        groups = _random_groups(self._real, chance), _random_groups(other, chance)
        errors = [jackknife(calendar, self._real, other, groups)]
        if self.by_entity:
            errors.append(jackknife(succession_of_entities, self._real, other, groups))
        elif self.has_succession:
            real, ordered = self._ordered(other)
            sides = _neighbours(real), _neighbours(ordered)
            errors.append(jackknife(succession_of_rows, real, ordered, sides))
        # Both halves see the same rows: their errors may add up.
        return float(np.mean(errors))

    def _ordered(self, other: Timed) -> tuple[Timed, Timed]:
        n = min(len(self._real), len(other))
        chance = self._evidence.stream("time order: equally many rows in order")
        sides = (Timed(times=rows.times, entities=None, numbers=rows.numbers)
                 for rows in (self._real, other))  # fmt: skip
        real, ordered = (in_order(rows.some(n, chance), chance) for rows in sides)
        return real, ordered


def out_of_order(rows: Timed, chance: np.random.Generator) -> Timed:
    """The same rows at each other's times: the baseline."""
    return Timed(
        times=rows.times[chance.permutation(len(rows))],
        entities=rows.entities,
        numbers=rows.numbers,
    )


def measure(evidence: Evidence) -> list[Measurement]:
    """The measurement; none without a datetime column."""
    numbers = evidence.train.numbers
    places = [
        place
        for place, column in enumerate(evidence.schema.numeric)
        if column.kind == "datetime" and not np.isnan(numbers[:, place]).all()
    ]
    if not places:
        return []
    place, tables = places[0], evidence.tables
    real = timed(evidence.train, tables and tables.train, place)
    other = timed(evidence.synthetic, tables and tables.synthetic, place)
    fresh = below(
        timed(evidence.control, tables and tables.control, place),
        timed(evidence.test, tables and tables.test, place),
    )
    order = TimeOrder(evidence, real)
    chance = evidence.stream("time order: equally many rows")
    n = min(len(other), len(fresh))
    some, fresh = other.some(n, chance), fresh.some(n, chance)
    beside = Beside(
        n=n,
        synthetic=order.mean(some),
        control=order.mean(fresh),
        baseline=order.mean(out_of_order(real.some(n, chance), chance)),
    )
    found = interval(order.mean(other), order.error(other), evidence.confidence, most=1.0)
    parts, fresh_parts = order.scores(other), order.scores(fresh)
    details = {
        "column": evidence.schema.numeric[place].name,
        "by": "entity" if order.by_entity else "row",
        "parts": [
            {"name": name, "score": score, "fresh_real": real_half[name]}
            for half, real_half in zip(parts, fresh_parts, strict=True)
            for name, score in half.items()
        ],
        **beside.details,
    }
    measurement = Measurement(
        id=ID,
        family="fidelity",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=len(other),
        baseline=beside.baseline,
        control=beside.control,
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method="mean of the calendar's similarity (1 - total variation) and that of the succession "
        + ("(1 - KS of gaps and of rows per entity)" if order.by_entity
           else "(autocorrelations at lags 1 to 3)"),
        details=details,
    )  # fmt: skip
    return [measurement]


SUITE = Suite.of(ID, measure, ids=(ID,), weight=0.5)
