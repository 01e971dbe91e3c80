"""Groups of runs, their intervals, ranks that may be shared, coverage and fronts.

Nothing is imputed: a generator without a result on a table has no value and no rank there, and a
generator that was not measured on every table is listed below those that were, unranked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from synthfactory.dashboard.records import LEAKAGE, Record

# 97.5 % quantiles of Student's t, by degrees of freedom from 1.
_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
_T_BEYOND = 2.086
MAX_LABEL_PARTS = 2


@dataclass(frozen=True, kw_only=True)
class Group:
    """All runs of one generator on one table, of the newest version that has results.

    Parameters
    ----------
    dataset, generator
        Labels.
    runs
        Every run, of any state and version.
    """

    dataset: str
    generator: str
    runs: tuple[Record, ...]

    def count(self, *states: str) -> int:
        """How many runs ended so."""
        return sum(run.state in states for run in self.runs)

    def measured(self, metric: str) -> tuple[Record, ...]:
        """The runs of the newest version in which ``metric`` was measured."""
        found = [run for run in self.runs if metric in run.metrics]
        newest = max((version_key(run.version) for run in found), default=())
        return tuple(run for run in found if version_key(run.version) == newest)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One generator's result on one table.

    Parameters
    ----------
    estimate, lcb, ucb
        Mean over runs and its interval.
    n_runs
        How many runs are behind it.
    best, worst
        Ranks that the interval allows; None before they are ranked.
    """

    estimate: float
    lcb: float
    ucb: float
    n_runs: int
    best: int = 0
    worst: int = 0

    def bound(self, better: str) -> float:
        """The worse end of the interval."""
        return self.lcb if better == "higher" else self.ucb


@dataclass(frozen=True, kw_only=True)
class Overall:
    """One generator over all tables.

    Parameters
    ----------
    generator
        Its label.
    rank
        Shared by ties; None when not measured on every table.
    best, worst
        Means of the ranks that the intervals allow, over the tables that were measured.
    coverage
        Tables measured.
    """

    generator: str
    rank: int | None
    best: float
    worst: float
    coverage: int


@cache
def version_key(version: str) -> tuple[int, ...]:
    """A version for sorting; what is no number counts as before it.

    >>> version_key("0.10.0") > version_key("0.9.1")
    True
    """
    return tuple(int(part) if part.isdigit() else -1 for part in version.split("."))


def generator_labels(records: Iterable[Record]) -> dict[str, str]:
    """A label per run: the generator's name, with what differs where it was tuned.

    The most frequent hyperparameters of a generator have the bare name.
    """
    variants: dict[str, Counter[tuple[tuple[str, str], ...]]] = defaultdict(Counter)
    records = list(records)
    for record in records:
        variants[record.generator][tuple(sorted(record.parameters.items()))] += 1
    labels: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}
    for name, counted in variants.items():
        usual = min(counted, key=lambda item: (-counted[item], item))
        taken: set[str] = set()
        for variant in sorted(counted, key=lambda item: (-counted[item], item)):
            label = _variant_label(name, dict(variant), dict(usual))
            while label in taken:
                label += "′"
            taken.add(label)
            labels[name, variant] = label
    return {
        record.run: labels[record.generator, tuple(sorted(record.parameters.items()))]
        for record in records
    }


def _variant_label(name: str, variant: Mapping[str, str], usual: Mapping[str, str]) -> str:
    differs = [
        f"{key.rsplit('.', 1)[-1]}={value}"
        for key, value in sorted(variant.items())
        if usual.get(key) != value
    ]
    if not differs:
        return name
    more = len(differs) - MAX_LABEL_PARTS
    shown = ", ".join(part[:24] for part in differs[:MAX_LABEL_PARTS])
    return f"{name} ({shown}{f', +{more}' if more > 0 else ''})"


def group_runs(
    records: Iterable[Record], datasets: Mapping[str, str], generators: Mapping[str, str]
) -> dict[tuple[str, str], Group]:
    """Runs by table and generator.

    Parameters
    ----------
    records
        All runs.
    datasets, generators
        Labels by run.
    """
    members: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        members[datasets[record.run], generators[record.run]].append(record)
    return {
        key: Group(dataset=key[0], generator=key[1], runs=tuple(found))
        for key, found in sorted(members.items())
    }


def combine(results: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Mean of several runs' estimates, with an interval.

    Runs of one table share its held-out rows, so their own uncertainty does not shrink with their
    number: half the interval is sqrt(h^2 + (t s / sqrt(R))^2), with h the mean half-width on that
    side, s the standard deviation over R runs and t Student's 97.5 % quantile.  One run says
    nothing about the spread between seeds and keeps its own interval.

    Parameters
    ----------
    results
        ``(estimate, lcb, ucb)`` each.

    >>> combine([(0.5, 0.4, 0.6)])
    (0.5, 0.4, 0.6)
    """
    if len(results) == 1:
        return results[0]
    n = len(results)
    mean = _mean([estimate for estimate, _, _ in results])
    spread = math.sqrt(math.fsum((item[0] - mean) ** 2 for item in results) / (n - 1))
    t = _T_975[n - 2] if n - 2 < len(_T_975) else _T_BEYOND
    between = t * spread / math.sqrt(n)
    below = _mean([estimate - lcb for estimate, lcb, _ in results])
    above = _mean([ucb - estimate for estimate, _, ucb in results])
    return mean, mean - math.hypot(below, between), mean + math.hypot(above, between)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def board(
    groups: Mapping[tuple[str, str], Group], metric: str, better: str
) -> dict[tuple[str, str], Cell]:
    """Every measured cell of a metric, ranked within its table."""
    by_dataset: dict[str, dict[str, Cell]] = defaultdict(dict)
    for (dataset, generator), group in groups.items():
        results = [_result(run, metric) for run in group.measured(metric)]
        if results:
            estimate, lcb, ucb = combine(results)
            by_dataset[dataset][generator] = Cell(
                estimate=estimate, lcb=lcb, ucb=ucb, n_runs=len(results)
            )
    return {
        (dataset, generator): cell
        for dataset, cells in by_dataset.items()
        for generator, cell in rank(cells, better).items()
    }


def _result(run: Record, metric: str) -> tuple[float, float, float]:
    estimate, lcb, ucb = run.metrics[metric][:3]
    assert estimate is not None
    return estimate, estimate if lcb is None else lcb, estimate if ucb is None else ucb


def rank(cells: Mapping[str, Cell], better: str) -> dict[str, Cell]:
    """The ranks that the intervals allow: 1 plus those that are surely better, up to all but
    those that are surely worse.  Generators whose intervals overlap share ranks.

    >>> one = Cell(estimate=0.9, lcb=0.88, ucb=0.92, n_runs=1)
    >>> two = Cell(estimate=0.91, lcb=0.89, ucb=0.93, n_runs=1)
    >>> three = Cell(estimate=0.5, lcb=0.4, ucb=0.6, n_runs=1)
    >>> ranked = rank({"a": one, "b": two, "c": three}, "higher")
    >>> {name: (cell.best, cell.worst) for name, cell in ranked.items()}
    {'a': (1, 2), 'b': (1, 2), 'c': (3, 3)}
    """

    def surely_better(one: Cell, other: Cell) -> bool:
        return one.lcb > other.ucb if better == "higher" else one.ucb < other.lcb

    return {
        name: Cell(
            estimate=cell.estimate,
            lcb=cell.lcb,
            ucb=cell.ucb,
            n_runs=cell.n_runs,
            best=1 + sum(surely_better(other, cell) for other in cells.values()),
            worst=len(cells) - sum(surely_better(cell, other) for other in cells.values()),
        )
        for name, cell in cells.items()
    }


def overall(cells: Mapping[tuple[str, str], Cell]) -> list[Overall]:
    """Generators over all tables on which anything was measured, those with full coverage first.

    Ranks are compared by the means of the best and worst ranks that the intervals allow; a
    generator shares its rank with those whose range overlaps its own.
    """
    datasets = {dataset for dataset, _ in cells}
    by_generator: dict[str, list[Cell]] = defaultdict(list)
    for (_, generator), cell in cells.items():
        by_generator[generator].append(cell)
    ranges = {
        name: (
            _mean([cell.best for cell in found]),
            _mean([cell.worst for cell in found]),
        )
        for name, found in by_generator.items()
    }
    complete = {name for name, found in by_generator.items() if len(found) == len(datasets)}
    rows = [
        Overall(
            generator=name,
            rank=(
                1 + sum(ranges[other][1] < ranges[name][0] for other in complete)
                if name in complete
                else None
            ),
            best=ranges[name][0],
            worst=ranges[name][1],
            coverage=len(found),
        )
        for name, found in by_generator.items()
    ]
    return sorted(
        rows,
        key=lambda row: (
            row.rank is None,
            row.rank or 0,
            (row.best + row.worst) / 2,
            row.generator,
        ),
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other point beats: as low in both, and lower in one.

    Turn an axis on which more is better by its sign.

    >>> pareto_front([(1.0, 3.0), (2.0, 2.0), (2.0, 3.0), (3.0, 1.0)])
    [0, 1, 3]
    """
    order = sorted(range(len(points)), key=lambda at: points[at])
    front: list[int] = []
    lowest, lowest_at = math.inf, -math.inf
    for at in order:
        x, y = points[at]
        if y < lowest or (y == lowest and x == lowest_at):
            front.append(at)
            lowest, lowest_at = y, x
    return sorted(front)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What a Pareto chart can be drawn over.

    Parameters
    ----------
    key
        In addresses and in the data.
    title, unit
        For reading.
    better
        ``higher`` or ``lower``.
    metric
        The measurement whose bound is read: the worse end of the interval.  None for a cost.
    """

    key: str
    title: str
    unit: str
    better: str
    metric: str | None = None

    def interval(self, run: Record) -> tuple[float, float, float] | None:
        """Estimate, lower and upper bound on this axis."""
        if self.metric is None:
            value = run.resources.get(self.key)
            return None if value is None else (value, value, value)
        return _result(run, self.metric) if self.metric in run.metrics else None

    def bound(self, run: Record) -> float | None:
        """The worse end of the interval; a cost is its own bound."""
        found = self.interval(run)
        if found is None:
            return None
        return found[1] if self.better == "higher" else found[2]


AXES = (
    Axis(key="fidelity", title="Fidelity (pair trends)", unit="share", better="higher",
         metric="fidelity.pair_trends"),
    Axis(key="leakage", title="Leakage (worst attack)", unit="share", better="lower",
         metric=LEAKAGE),
    Axis(key="utility", title="Utility (learning kept)", unit="share", better="higher",
         metric="utility.retained"),
    Axis(key="gpu_h", title="GPU-hours held", unit="h", better="lower"),
    Axis(key="cpu_h", title="CPU-hours held", unit="h", better="lower"),
    Axis(key="kwh", title="Energy", unit="kWh", better="lower"),
    Axis(key="wall_s", title="Time on the clock", unit="s", better="lower"),
)  # fmt: skip
AXIS_BY_KEY = {axis.key: axis for axis in AXES}


def front_of(runs: Sequence[Record], x: Axis, y: Axis) -> list[str]:
    """The runs that no other run beats on both axes' bounds; runs without a value are left out."""
    placed = [
        (run.run, _signed(x.bound(run), x), _signed(y.bound(run), y))
        for run in runs
        if x.bound(run) is not None and y.bound(run) is not None
    ]
    front = pareto_front([(at_x, at_y) for _, at_x, at_y in placed])
    return [placed[at][0] for at in front]


def _signed(value: float | None, axis: Axis) -> float:
    assert value is not None
    return -value if axis.better == "higher" else value
