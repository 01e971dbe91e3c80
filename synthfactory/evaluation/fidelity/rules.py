"""Rules kept: how many synthetic rows break no rule that holds for the real rows?

Declared rules come from the schema: ranges, levels, decimals, what is never missing, and
identifiers that are unique, present and of their type; those that the train rows themselves break
are none.  Discovered rules hold for every train row without exception and are no matter of course:

- order: ``a <= b`` of two numbers whose ranges overlap;
- sum: ``a + b = c`` to the last declared decimal;
- dependency: each level of ``a`` goes with one level of ``b`` only (education with its number).

With few rows, some order or dependency always holds by accident.  So a discovered rule must have
`MIN_SUPPORT` rows behind it, and is dropped where more than one control row in a thousand breaks
it.  What test rows keep of all rules together is the control.

Only names of columns are reported, never the levels or numbers of a rule.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, shuffled
from synthfactory.evaluation.intervals import effective_size, wilson
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Column, Encoded, Schema, Table
from synthfactory.tables.encode import arrow_type

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ID = "fidelity.rules_kept"
MIN_SUPPORT = 50
MAX_BROKEN = 0.001
MAX_ORDER_COLUMNS = 60
MAX_SUM_COLUMNS = 40
MAX_DEPENDENCY_COLUMNS = 60
MAX_LEVELS = 200
# Most combinations are refuted by a few rows; only the others are tried on all.
ROWS_FIRST = 64
ROWS_SECOND = 2_000
N_WORST = 20


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Something that every real row keeps.

    Parameters
    ----------
    kind
        Such as ``range`` or ``sum``.
    columns
        Names of the columns that it is about.
    broken
        From encoded rows to a mask, **shape** (n_rows,), of those that break it; a row in which a
        column of a discovered rule is missing breaks nothing.
    """

    kind: str
    columns: tuple[str, ...]
    broken: Callable[[Encoded], Bools]


# Declared rules


def declared_rules(schema: Schema) -> list[Rule]:
    """What the schema says of the learnt columns."""
    rules: list[Rule] = []
    for place, column in enumerate(schema.numeric):
        if column.minimum is not None or column.maximum is not None:
            rules.append(_number_rule("range", column, place, _outside(column)))
        if column.decimals is not None:
            rules.append(_number_rule("decimals", column, place, _too_fine(column.decimals)))
        if not column.nullable:
            rules.append(_number_rule("never missing", column, place, np.isnan))
    for place, column in enumerate(schema.discrete):
        n_levels = len(column.categories)
        rules.append(_level_rule("levels", column, place, _unlisted(n_levels)))
        if not column.nullable:
            rules.append(_level_rule("never missing", column, place, _equal_to(n_levels)))
    return rules


def _number_rule(kind: str, column: Column, place: int, broken: Callable[[Floats], Bools]) -> Rule:
    return Rule(
        kind=kind, columns=(column.name,), broken=lambda rows: broken(rows.numbers[:, place])
    )


def _level_rule(kind: str, column: Column, place: int, broken: Callable[[Any], Bools]) -> Rule:
    return Rule(kind=kind, columns=(column.name,), broken=lambda rows: broken(rows.codes[:, place]))


def _unlisted(n_levels: int) -> Callable[[Any], Bools]:
    return lambda codes: (codes < 0) | (codes > n_levels)


def _equal_to(code: int) -> Callable[[Any], Bools]:
    return lambda codes: codes == code


def _outside(column: Column) -> Callable[[Floats], Bools]:
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    # Comparisons with NaN are false: a missing value is in range.
    return lambda values: (values < low) | (values > high)


def _too_fine(decimals: int) -> Callable[[Floats], Bools]:
    def broken(values: Floats) -> Bools:
        scaled = values * 10.0**decimals
        # Values far from 0 hold fewer decimals than declared: allow what float64 cannot tell.
        reach = 1e-6 + 4 * np.spacing(np.abs(scaled))
        found: Bools = np.abs(scaled - np.rint(scaled)) > reach
        return found

    return broken


# Identifiers


def identifier_rules(schema: Schema, real: Table) -> dict[tuple[str, str], Column]:
    """Rules about identifiers by (kind, column name); unique where the real ones are."""
    rules = {}
    for column in schema.identifiers:
        rules["identifier of its type", column.name] = column
        if pc.count_distinct(real.data.column(column.name)).as_py() == real.n_rows:
            rules["identifier unique", column.name] = column
    return rules


def identifier_broken(kind: str, column: Column, table: Table) -> Bools:
    """**Shape** (n_rows,): which rows break a rule about an identifier."""
    values = table.data.column(column.name).combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if kind == "identifier unique":
        codes = values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        _, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
        repeated: Bools = counts[places] > 1
        return repeated
    if values.type != arrow_type(column):
        return np.ones(table.n_rows, dtype=bool)
    absent: Bools = values.is_null().to_numpy(zero_copy_only=False)
    if column.nullable:
        absent = np.zeros_like(absent)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0).fill_null(False)
        absent |= empty.to_numpy(zero_copy_only=False)
    return absent


# Discovered rules


@dataclass(frozen=True, kw_only=True)
class Search:
    """What was searched, and what was found.

    Parameters
    ----------
    rules
        Those that hold for every train row.
    searched
        How many combinations of columns were tried, by kind.
    skipped
        Columns that were beyond the limit of a search, by kind.
    """

    rules: list[Rule]
    searched: dict[str, int]
    skipped: dict[str, int]


def discover(real: Encoded, schema: Schema) -> Search:
    """Rules that hold for all real rows without exception."""
    orders, sums, dependencies = (
        list(found)
        for found in (
            order_rules(real.numbers[:, :MAX_ORDER_COLUMNS], schema.numeric),
            sum_rules(real.numbers[:, :MAX_SUM_COLUMNS], schema.numeric),
            dependency_rules(real, schema),
        )
    )
    n_order = min(len(schema.numeric), MAX_ORDER_COLUMNS)
    n_sum = min(len(schema.numeric), MAX_SUM_COLUMNS)
    all_levels = level_columns(real, schema)
    n_levels = min(len(all_levels), MAX_DEPENDENCY_COLUMNS)
    return Search(
        rules=orders + sums + dependencies,
        searched={
            "order": n_order * (n_order - 1),
            "sum": n_sum * (n_sum - 1) * (n_sum - 2) // 2,
            "dependency": n_levels * (n_levels - 1),
        },
        skipped={
            "order": len(schema.numeric) - n_order,
            "sum": len(schema.numeric) - n_sum,
            "dependency": len(schema.numeric) + len(schema.discrete) - n_levels,
        },
    )


def order_rules(numbers: Floats, columns: tuple[Column, ...]) -> Iterator[Rule]:
    """``a <= b`` for numbers of one kind whose ranges overlap.

    Parameters
    ----------
    numbers
        **Shape** (n_rows, n_columns).
    columns
        Their columns, and maybe more.
    """
    n_columns = numbers.shape[1]
    first = numbers[:ROWS_FIRST]
    for a, b in itertools.permutations(range(n_columns), 2):
        if columns[a].kind != columns[b].kind or (first[:, a] > first[:, b]).any():
            continue
        present = ~np.isnan(numbers[:, a]) & ~np.isnan(numbers[:, b])
        x, y = numbers[present, a], numbers[present, b]
        if len(x) < MIN_SUPPORT or (x > y).any() or x.max() <= y.min():
            continue
        yield Rule(
            kind="order",
            columns=(columns[a].name, columns[b].name),
            broken=_above(a, b),
        )


def _above(a: int, b: int) -> Callable[[Encoded], Bools]:
    return lambda rows: rows.numbers[:, a] > rows.numbers[:, b]


def sum_rules(numbers: Floats, columns: tuple[Column, ...]) -> Iterator[Rule]:
    """``a + b = c`` for numbers with declared decimals, none of them constant."""
    varied = [
        place
        for place in range(numbers.shape[1])
        if columns[place].kind == "numerical"
        and columns[place].decimals is not None
        and _n_different(numbers[:, place]) > 1
    ]
    first = numbers[:ROWS_FIRST]
    for a, b in itertools.combinations(varied, 2):
        total = first[:, a] + first[:, b]
        gaps = np.abs(total[:, None] - first[:, varied])
        reaches = np.array([_reach(columns, a, b, c) for c in varied])
        for c in np.array(varied)[~(gaps > reaches).any(axis=0)]:
            if c in (a, b):
                continue
            reach = _reach(columns, a, b, c)
            gap = np.abs(numbers[:, a] + numbers[:, b] - numbers[:, c])
            if (gap > reach).any() or (~np.isnan(gap)).sum() < MIN_SUPPORT:
                continue
            yield Rule(
                kind="sum",
                columns=tuple(columns[place].name for place in (a, b, c)),
                broken=_off(a, b, int(c), reach),
            )


def _off(a: int, b: int, c: int, reach: float) -> Callable[[Encoded], Bools]:
    def broken(rows: Encoded) -> Bools:
        x = rows.numbers
        found: Bools = np.abs(x[:, a] + x[:, b] - x[:, c]) > reach
        return found

    return broken


def _reach(columns: tuple[Column, ...], *places: int) -> float:
    """Half of the last decimal of the columns: below it, sums of whole such units are equal."""
    return 0.5 * 10.0 ** -max(columns[place].decimals or 0 for place in places)


def _n_different(values: Floats) -> int:
    return len(np.unique(values[~np.isnan(values)]))


def level_columns(real: Encoded, schema: Schema) -> list[tuple[str, Floats]]:
    """Columns with few levels: discrete ones, and numbers that take few values; NaN is missing."""
    found = []
    for place, column in enumerate(schema.discrete):
        values = real.codes[:, place].astype(np.float64)
        values[values >= len(column.categories)] = np.nan
        found.append((column.name, values))
    found += [(column.name, real.numbers[:, place]) for place, column in enumerate(schema.numeric)]
    return [(name, values) for name, values in found if 1 < _n_different(values) <= MAX_LEVELS]


def dependency_rules(real: Encoded, schema: Schema) -> Iterator[Rule]:
    """Each level of ``a`` goes with one level of ``b``.

    Levels of ``a`` that occur once agree with anything: the others need `MIN_SUPPORT` rows, and
    rows that do not have the most frequent level of ``b`` need as many.
    """
    columns = level_columns(real, schema)[:MAX_DEPENDENCY_COLUMNS]
    coded = [_coded(values) for _, values in columns]
    for (a, name_a), (b, name_b) in itertools.permutations(
        enumerate(name for name, _ in columns), 2
    ):
        (levels_a, codes_a), (levels_b, codes_b) = coded[a], coded[b]
        shape = len(levels_a), len(levels_b)
        if _ambiguous(_cross(codes_a[:ROWS_SECOND], codes_b[:ROWS_SECOND], shape)):
            continue
        table = _cross(codes_a, codes_b, shape)
        if _ambiguous(table):
            continue
        rows_a, rows_b = table.sum(axis=1), table.sum(axis=0)
        if rows_a[rows_a > 1].sum() < MIN_SUPPORT or rows_b.sum() - rows_b.max() < MIN_SUPPORT:
            continue
        goes_with = np.where(rows_a > 1, levels_b[table.argmax(axis=1)], np.nan)
        yield Rule(
            kind="dependency",
            columns=(name_a, name_b),
            broken=_breaks_dependency(schema, name_a, name_b, levels_a, goes_with),
        )


def _cross(a: Codes, b: Codes, shape: tuple[int, int]) -> Codes:
    both = (a >= 0) & (b >= 0)
    cells = a[both] * shape[1] + b[both]
    return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)


def _ambiguous(table: Codes) -> bool:
    return bool(((table > 0).sum(axis=1) > 1).any())


def _coded(values: Floats) -> tuple[Floats, Codes]:
    """Different present values in order, and each row's place among them, -1 where missing."""
    levels = np.unique(values[~np.isnan(values)])
    codes = np.searchsorted(levels, values)
    codes[np.isnan(values)] = -1
    return levels, codes.astype(np.int64)


def _breaks_dependency(
    schema: Schema, name_a: str, name_b: str, levels: Floats, goes_with: Floats
) -> Callable[[Encoded], Bools]:
    """A row whose level of ``a`` is unknown, or whose values are missing, breaks nothing."""

    def broken(rows: Encoded) -> Bools:
        a, b = (_values(rows, schema, name) for name in (name_a, name_b))
        places = np.minimum(np.searchsorted(levels, a), len(levels) - 1)
        expected = np.where(levels[places] == a, goes_with[places], np.nan)
        found: Bools = ~np.isnan(expected) & ~np.isnan(b) & (expected != b)
        return found

    return broken


def _values(rows: Encoded, schema: Schema, name: str) -> Floats:
    for place, column in enumerate(schema.numeric):
        if column.name == name:
            return rows.numbers[:, place]
    place = [column.name for column in schema.discrete].index(name)
    values = rows.codes[:, place].astype(np.float64)
    values[values >= len(schema.discrete[place].categories)] = np.nan
    return values


# The measurement


def confirmed(rules: list[Rule], real: Encoded) -> list[Rule]:
    """Rules that at most one of the real rows in a thousand breaks."""
    return [rule for rule in rules if rule.broken(real).mean() <= MAX_BROKEN]


def broken_rows(
    rules: list[Rule],
    identifiers: dict[tuple[str, str], Column],
    rows: Encoded,
    table: Table | None,
) -> list[Bools]:
    """For each rule, then for each one about identifiers, which rows break it."""
    found = [rule.broken(rows) for rule in rules]
    if table is not None:
        found += [
            identifier_broken(kind, column, table) for (kind, _), column in identifiers.items()
        ]
    return found


def share_kept(broken: list[Bools]) -> float:
    """Share of rows that break no rule."""
    return float(1 - np.logical_or.reduce(broken).mean())


def measure(evidence: Evidence) -> Measurement:
    """The share of synthetic rows that keep every rule.

    Raises
    ------
    EvaluationError
        When there is no rule to keep.
    """
    schema, tables = evidence.schema, evidence.tables
    search = discover(evidence.train, schema)
    discovered = confirmed(search.rules, evidence.control)
    every = declared_rules(schema)
    declared = confirmed(every, evidence.train)
    rules = declared + discovered
    identifiers = identifier_rules(schema, tables.train) if tables else {}
    named = [(rule.kind, rule.columns) for rule in rules]
    named += [(kind, (name,)) for kind, name in identifiers]
    if not named:
        raise EvaluationError(
            "The schema declares no rule and none was discovered: there is nothing to keep."
        )
    broken = broken_rows(rules, identifiers, evidence.synthetic, tables and tables.synthetic)
    test = broken_rows(rules, identifiers, evidence.test, tables and tables.test)
    lone = shuffled(evidence.train, len(evidence.synthetic), evidence.stream("rules: independent"))
    baseline = share_kept(broken_rows(rules, {}, lone, None)) if rules else None
    shares = np.array([1 - rows.mean() for rows in broken])
    control = share_kept(test)
    n = len(evidence.synthetic)
    kept = ~np.any(broken, axis=0)
    alone = effective_size(kept.astype(np.float64), evidence.entities("synthetic"))
    found = wilson(int(kept.sum()) * (alone / n), alone, evidence.confidence)
    worst = [place for place in np.argsort(shares, kind="stable")[:N_WORST] if shares[place] < 1]
    details: dict[str, Any] = {
        "rules": dict(Counter(kind for kind, _ in named)),
        "searched": search.searched,
        "columns_not_searched": search.skipped,
        "dropped": {
            "discovered, but broken by control rows": len(search.rules) - len(discovered),
            "declared, but broken by train rows": len(every) - len(declared),
        },
        "discovered": [
            {"kind": rule.kind, "columns": list(rule.columns)} for rule in discovered[:N_WORST]
        ],
        "worst": [
            {"kind": named[place][0], "columns": list(named[place][1]), "kept": shares[place]}
            for place in worst
        ],
        "normalised": None
        if baseline is None or control - baseline < 0.01
        else (found.estimate - baseline) / (control - baseline),
    }
    return Measurement(
        id=ID,
        family="fidelity",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=n,
        baseline=baseline,
        control=control,
        unit="share of synthetic rows",
        better="higher",
        confidence=evidence.confidence,
        method="share of rows that break no declared rule and none that all train rows keep; "
        "Wilson's interval",
        details=details,
    )


SUITE = Suite.of(ID, measure, ids=(ID,), weight=0.5)
