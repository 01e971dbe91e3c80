"""Singling out: do predicates made from synthetic rows isolate members more often than strangers?

The first criterion of WP216 (opinion 05/2014): can one person be picked out of the table?  The
attacker reads a predicate off the synthetic rows that matches exactly one of them ("born after
1990, in Tartu, earning 99,999 or more") and claims that exactly one real person matches it.  Such a
claim comes true by chance too, so the same predicates are tried on as many strangers as members.
Two attacks (Giomi et al. 2023, arXiv 2211.10459):

- *univariate*: a value that occurs once; at most the least or at least the greatest value; the only
  missing value.  Every column gives equally many predicates as long as it has any.
- *multivariate*: conjunctions over 3 to 8 columns of a synthetic row: on the row's side of the
  median for numbers, dates and ordered levels, equality for other levels, and "is missing".  Rows
  are drawn at random and tried with up to 50 sets of columns each; a row that no predicate isolates
  is a failed attack.

Equal synthetic rows count as one row that a predicate may isolate: who repeats every row hides
nobody.  Guesses from equal rows are not independent; the interval is that of the effective size.

One measurement decides, the worse of the two by its upper bound, with bounds at Bonferroni's level
for two looks: a release is as exposed as its worst attack shows, and a policy needs one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import ALONE, Evidence, Sides, take
from synthfactory.evaluation.intervals import effective_size
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.privacy import risk
from synthfactory.evaluation.subgroups import compare, subgroups
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded, Schema, row_numbers

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

ID = "privacy.singling_out"
AT_LEAST, AT_MOST, EQUAL, MISSING = 0, 1, 2, 3
UNUSED = -1
N_COLUMNS = (3, 8)
TRIES = 50
MIN_PREDICATES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicates:
    """Conjunctions of conditions on columns.

    Parameters
    ----------
    columns
        **Shape** (n_predicates, width), int64: the conditions' columns; -1 where unused.
    sides
        int8: at least, at most, equal, or missing.
    values
        float64: what is compared with; NaN for missing.
    """

    columns: Places
    sides: npt.NDArray[np.int8]
    values: Floats

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, picked: npt.NDArray[Any]) -> Predicates:
        return Predicates(
            columns=self.columns[picked], sides=self.sides[picked], values=self.values[picked]
        )


class Attack(NamedTuple):
    """What an attack did: its guesses, with the only member or stranger that each one matches.

    Parameters
    ----------
    n
        Guesses, those for which no predicate was found included.
    sources
        **Shape** (n_predicates,): the number of the synthetic row that each predicate isolates.
    members, strangers
        **Shape** (n_predicates,): the isolated row, negative where there is none.
    """

    n: int
    sources: Places
    members: Places
    strangers: Places


def ordered_columns(schema: Schema) -> npt.NDArray[np.bool_]:
    """**Shape** (n_columns,): which columns have an order, numeric ones first."""
    columns = (*schema.numeric, *schema.discrete)
    return np.array([column.is_numeric or column.kind == "ordinal" for column in columns])


def as_matrix(rows: Encoded, schema: Schema) -> Floats:
    """**Shape** (n_columns, n_rows): numbers and codes; what is missing in ordered columns is NaN.

    In columns without an order, missing is a level like any other.
    """
    matrix = np.vstack([rows.numbers.T, rows.codes.T.astype(np.float64)])
    n_numeric = rows.numbers.shape[1]
    for place, column in enumerate(schema.discrete, start=n_numeric):
        if column.kind == "ordinal":
            matrix[place][matrix[place] == len(column.categories)] = np.nan
    return np.ascontiguousarray(matrix)


def distinct(rows: Encoded) -> tuple[Encoded, Places]:
    """Each different row once, and **shape** (n_rows,) which of them every row equals."""
    _, first, which = np.unique(row_numbers(rows)[0], return_index=True, return_inverse=True)
    return take(rows, first), which


def isolated(predicates: Predicates, matrix: Floats) -> Places:
    """**Shape** (n_predicates,): the only row that matches, negative where none or several do.

    Parameters
    ----------
    predicates
        The predicates.
    matrix
        **Shape** (n_columns, n_rows), from `as_matrix`.
    """
    from synthfactory.evaluation import _attacks

    found = np.empty(len(predicates), dtype=np.int64)
    _attacks.only_matches(predicates.columns, predicates.sides, predicates.values, matrix, found)
    return found


def univariate(
    matrix: Floats, ordered: npt.NDArray[np.bool_], n: int, chance: np.random.Generator
) -> Predicates:
    """Up to ``n`` predicates on single columns, each isolating a row; columns take turns.

    Parameters
    ----------
    matrix
        **Shape** (n_columns, n_rows): the synthetic rows.
    ordered
        **Shape** (n_columns,).
    n
        How many at most.
    chance
        Which values of a column that has many.
    """
    columns, sides, values, turns = [], [], [], []
    for place, column in enumerate(matrix):
        conditions = _single_conditions(column, bool(ordered[place]))
        if not conditions:
            continue
        columns.append(np.full(len(conditions), place))
        sides.append(np.array([side for side, _ in conditions]))
        values.append(np.array([value for _, value in conditions]))
        turns.append(chance.permutation(len(conditions)))
    if not columns:
        return _no_predicates(1)
    first = np.argsort(np.concatenate(turns), kind="stable")[:n]
    return Predicates(
        columns=np.concatenate(columns)[first, None].astype(np.int64),
        sides=np.concatenate(sides)[first, None].astype(np.int8),
        values=np.concatenate(values)[first, None],
    )


def _single_conditions(column: Floats, has_order: bool) -> list[tuple[int, float]]:
    present = column[~np.isnan(column)]
    levels, counts = np.unique(present, return_counts=True)
    found = [(EQUAL, float(value)) for value in levels[counts == 1]]
    if has_order and len(levels):
        found += [(AT_MOST, float(levels[0]))] if counts[0] == 1 else []
        found += [(AT_LEAST, float(levels[-1]))] if counts[-1] == 1 else []
    if len(column) - len(present) == 1:
        found.append((MISSING, np.nan))
    return found


def multivariate(
    matrix: Floats,
    ordered: npt.NDArray[np.bool_],
    rows: Places,
    chance: np.random.Generator,
    *,
    n_columns: tuple[int, int] = N_COLUMNS,
    tries: int = TRIES,
) -> Predicates:
    """Conjunctions that isolate synthetic rows: one for each row for which one is found.

    Parameters
    ----------
    matrix
        **Shape** (n_columns, n_rows): the synthetic rows, no two equal.
    ordered
        **Shape** (n_columns,).
    rows
        Numbers of the rows to try; a row may be tried again and again.
    chance
        Draws sets of columns.
    n_columns
        Least and greatest number of columns of a conjunction.
    tries
        Sets of columns for each row.
    """
    n_all = len(matrix)
    low, high = (min(size, n_all) for size in n_columns)
    middles = np.array([_median(column) for column in matrix])
    found = []
    for _ in range(tries):
        order = np.argsort(chance.random((len(rows), n_all)), axis=1, kind="stable")[:, :high]
        widths = chance.integers(low, high + 1, size=len(rows))
        drawn = _conjunctions(matrix, ordered, middles, rows, order, widths)
        isolates = isolated(drawn, matrix) == rows
        found.append(drawn[isolates])
        rows = rows[~isolates]
        if len(rows) == 0:
            break
    return _joined(found, high)


def _conjunctions(
    matrix: Floats,
    ordered: npt.NDArray[np.bool_],
    middles: Floats,
    rows: Places,
    columns: Places,
    widths: Places,
) -> Predicates:
    values = matrix[columns, rows[:, None]]
    above = np.where(values > middles[columns], AT_LEAST, AT_MOST)
    sides = np.where(np.isnan(values), MISSING, np.where(ordered[columns], above, EQUAL))
    used = np.arange(columns.shape[1]) < widths[:, None]
    return Predicates(
        columns=np.where(used, columns, UNUSED), sides=sides.astype(np.int8), values=values
    )


def naive(
    matrix: Floats,
    ordered: npt.NDArray[np.bool_],
    n: int,
    chance: np.random.Generator,
    *,
    n_columns: tuple[int, int],
) -> Predicates:
    """Predicates of somebody who knows the ranges and levels alone: values and sides at random."""
    n_all = len(matrix)
    low, high = (min(size, n_all) for size in n_columns)
    columns = np.argsort(chance.random((n, n_all)), axis=1, kind="stable")[:, :high]
    levels = [np.unique(column[~np.isnan(column)]) for column in matrix]
    lows, highs = (
        np.array([part[place] if len(part) else 0.0 for part in levels]) for place in (0, -1)
    )
    spots = chance.random(columns.shape)
    values = lows[columns] + spots * (highs - lows)[columns]
    sizes = np.array([len(part) for part in levels])
    for place in np.flatnonzero(~ordered & (sizes > 0)):
        hit = columns == place
        values[hit] = levels[place][(spots[hit] * sizes[place]).astype(np.int64)]
    sides = np.where(ordered[columns], chance.integers(0, 2, columns.shape), EQUAL)
    used = np.arange(high) < chance.integers(low, high + 1, size=n)[:, None]
    return Predicates(
        columns=np.where(used, columns, UNUSED), sides=sides.astype(np.int8), values=values
    )


def attacks(evidence: Evidence, rows: Encoded, purpose: str) -> Mapping[str, Attack]:
    """Both attacks with predicates from ``rows``, tried on members and strangers.

    Univariate predicates that are too few to be judged on their own are counted with the
    multivariate ones.
    """
    ordered = ordered_columns(evidence.schema)
    different, which = distinct(rows)
    matrix, members, strangers = (
        as_matrix(part, evidence.schema)
        for part in (different, evidence.members, evidence.strangers)
    )
    chance = evidence.stream(f"{purpose}: predicates")
    single = univariate(matrix, ordered, evidence.attacks, chance)
    drawn = which[chance.permutation(len(which))[: evidence.attacks]]
    sets = multivariate(matrix, ordered, drawn, chance)
    tried = {"univariate": (single, len(single)), "multivariate": (sets, len(drawn))}
    if len(single) < MIN_PREDICATES:
        joined = _joined([sets, single], sets.columns.shape[1])
        tried = {"multivariate": (joined, len(drawn) + len(single))}
    return {
        name: Attack(n, *(isolated(predicates, table) for table in (matrix, members, strangers)))
        for name, (predicates, n) in tried.items()
    }


def judge(found: Attack, confidence: float, whose: Sides = ALONE) -> risk.Risk:
    """The risk of an attack; dependent guesses count as fewer independent ones.

    Guesses depend on each other when they are read off equal rows, and when they single out rows
    of one person; the smaller effective size counts.
    """
    members, strangers = (
        (rows >= 0).astype(np.float64) for rows in (found.members, found.strangers)
    )
    difference = members - strangers
    together = [
        found.sources,
        *(
            _singled_out(rows, people)
            for rows, people in zip((found.members, found.strangers), whose, strict=True)
            if people is not None
        ),
    ]
    share = 1.0
    # Where every guess fails, as in a table of few possible rows, all possible ones were made.
    if len(difference) and np.ptp(difference) > 0:
        share = min(effective_size(difference, each) for each in together) / len(difference)
    n = found.n * share
    return risk.estimate(members.sum() * share, n, strangers.sum() * share, n, confidence)


def _singled_out(rows: Places, people: Places) -> Places:
    """**Shape** (n,): whom each guess singles out; a number of its own where it is nobody."""
    nobody = -1 - np.arange(len(rows))
    return np.where(rows >= 0, people[np.maximum(rows, 0)], nobody)


def measure(evidence: Evidence) -> Measurement:
    """The worse of both attacks by its upper bound; the control reads predicates off test rows."""
    rows = evidence.at_most(evidence.synthetic, "singling out: rows")
    test = evidence.at_most(evidence.test, "singling out: test rows")
    tried = attacks(evidence, rows, "singling out")
    confidence = 1 - (1 - evidence.confidence) / len(tried)
    risks = {name: judge(found, confidence, evidence.whose) for name, found in tried.items()}
    worst = max(risks, key=lambda name: risks[name].ucb)
    controls = {
        name: judge(found, confidence, evidence.whose)
        for name, found in attacks(evidence, test, "singling out: control").items()
    }
    control = controls.get(worst) or max(controls.values(), key=lambda each: each.ucb)
    chances = naive_rates(evidence, rows)
    found = risks[worst]
    return Measurement(
        id=ID,
        family="privacy",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=tried[worst].n,
        baseline=0.0,
        control=control.estimate,
        unit="share of attacks",
        better="lower",
        confidence=evidence.confidence,
        method="(r_members - r_strangers) / (1 - r_strangers) of predicates that isolate one "
        f"synthetic row, Wilson rates, worst of {len(tried)} attacks with Bonferroni",
        mde=found.mde,
        details={
            "worst": worst,
            "attacks": [
                {
                    "attack": name,
                    "n": tried[name].n,
                    "without_predicate": tried[name].n - len(tried[name].members),
                    "members": each.attack.value,
                    "strangers": each.control.value,
                    "naive": chances[name],
                    "risk": each.estimate,
                    "lcb": each.lcb,
                    "ucb": each.ucb,
                }
                for name, each in risks.items()
            ],
            "people": len(evidence.members),
            "subgroups": _by_subgroup(evidence, tried[worst]),
        },
    )


def naive_rates(evidence: Evidence, rows: Encoded) -> dict[str, float]:
    """Which share of random predicates isolates a member."""
    ordered = ordered_columns(evidence.schema)
    matrix = as_matrix(rows, evidence.schema)
    members = as_matrix(evidence.members, evidence.schema)
    chance = evidence.stream("singling out: naive")
    sizes = {"univariate": (1, 1), "multivariate": N_COLUMNS}
    return {
        name: float(
            (
                isolated(naive(matrix, ordered, evidence.attacks, chance, n_columns=size), members)
                >= 0
            ).mean()
        )
        for name, size in sizes.items()
    }


def _by_subgroup(evidence: Evidence, found: Attack) -> dict[str, Any]:
    """Who is singled out by any predicate."""
    hit = []
    for people, rows in ((evidence.members, found.members), (evidence.strangers, found.strangers)):
        singled = np.zeros(len(people))
        singled[rows[rows >= 0]] = 1.0
        hit.append(singled)
    groups = subgroups(evidence, evidence.members, evidence.strangers, evidence.whose)
    return compare(groups, hit[0], hit[1], evidence.confidence, evidence.whose)


def _median(column: Floats) -> float:
    present = column[~np.isnan(column)]
    return float(np.median(present)) if len(present) else 0.0


def _no_predicates(width: int) -> Predicates:
    empty = np.empty((0, width))
    return Predicates(columns=empty.astype(np.int64), sides=empty.astype(np.int8), values=empty)


def _joined(parts: list[Predicates], width: int) -> Predicates:
    def padded(values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        wider = np.full((len(values), width), fill, dtype=values.dtype)
        wider[:, : values.shape[1]] = values
        return wider

    return Predicates(
        columns=np.vstack([padded(part.columns, UNUSED) for part in parts]),
        sides=np.vstack([padded(part.sides, EQUAL) for part in parts]),
        values=np.vstack([padded(part.values, np.nan) for part in parts]),
    )


SUITE = Suite.of(ID, measure, ids=(ID,), weight=2)
