"""Accuracy as mostlyai-qa defines it: columns, pairs and triples on tenths of the real rows.

The mean of three means, over all columns, all pairs and all triples of columns, of 1 - total
variation distance.  Its bins differ from those of the other measurements here:

- numbers: at order statistics of the train rows, evenly spaced, as few as give eleven different
  edges; each of at most ten different values on its own; edges are rounded down to the fewest
  decimals that keep them different; values outside the train rows' range count in the outer bins;
- points in time: at such order statistics;
- levels: the ten most frequent ones with at least five rows, all others together;
- missing values on their own.

A table of many columns has many triples: a sample of them is compared, as that library does too.

References
----------
Tiwald et al., "TabularARGN", arXiv 2501.12012; https://github.com/mostly-ai/mostlyai-qa.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence, pairs_of
from synthfactory.evaluation.fidelity.ceiling import Beside, Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.fidelity.joint import (
    Agreement,
    Binned,
    Columns,
    agreement,
    block,
    blocks,
    similarities,
)
from synthfactory.evaluation.fidelity.triples import joined, sampling_error, triples_of
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Column, Encoded

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
ID = "fidelity.accuracy"
N_BINS = 10
MIN_LEVEL_ROWS = 5
MAX_STATISTICS = 1_000
MAX_TRIPLES = 1_000
MAX_DECIMALS = 20


def number_edges(present: Floats, kind: str) -> Floats:
    """Lower edges of the bins, and the upper edge of the last one.

    Parameters
    ----------
    present
        The train rows' values without NaN.
    kind
        ``numerical`` or ``datetime``.

    >>> number_edges(np.array([3.0, 1.0, 1.0]), "numerical")
    array([1., 3., 4.])
    >>> number_edges(np.arange(101.0), "numerical")
    array([  0.,  10.,  20.,  30.,  40.,  50.,  60.,  70.,  80.,  90., 100.])
    """
    if len(present) == 0:
        return np.array([-np.inf, np.inf])
    different = np.unique(present)
    if kind == "datetime":
        return spread_edges(present) if len(different) > 1 else np.append(different, np.inf)
    if len(different) <= N_BINS:
        return round_down(np.append(different, different[-1] + 1))
    return round_down(spread_edges(present))


def spread_edges(present: Floats) -> Floats:
    """Different order statistics, evenly spaced by rank: the fewest that give eleven of them."""
    ordered = np.sort(present)
    edges = ordered[:0]
    for count in range(N_BINS, max(N_BINS + 1, min(MAX_STATISTICS, len(ordered) + 1))):
        edges = np.unique(ordered[np.linspace(0, len(ordered) - 1, count).astype(np.int64)])
        if len(edges) > N_BINS:
            break
    return edges


def round_down(edges: Floats) -> Floats:
    """All edges but the last with the fewest decimals that keep all of them different.

    >>> round_down(np.array([1.25, 1.75, 2.5]))
    array([1.2, 1.7, 2.5])
    """
    for decimals in range(MAX_DECIMALS):
        power = 10.0**decimals
        lower = np.floor(edges * power) / power
        if len(np.unique(lower)) == len(edges):
            return np.append(lower[:-1], edges[-1])
    return edges


def common_levels(counts: Codes) -> Codes:
    """**Shape** (n_codes,): a bin for each common level, for all others, and for missing values.

    Parameters
    ----------
    counts
        Train rows of every code; the last one is of missing values.

    >>> common_levels(np.array([9, 3, 20, 0]))
    array([1, 2, 0, 3])
    """
    common = np.argsort(-counts, kind="stable")[:N_BINS]
    common = common[counts[common] >= MIN_LEVEL_ROWS]
    common = common[common != len(counts) - 1]
    lookup = np.full(len(counts), len(common))
    lookup[common] = np.arange(len(common))
    lookup[-1] = len(common) + 1
    return lookup


class Tenths:
    """Bins of the train rows; see the module's description."""

    def __init__(self, evidence: Evidence) -> None:
        train, schema = evidence.train, evidence.schema
        self._edges = [
            _edges_of(train.numbers[:, place], column)
            for place, column in enumerate(schema.numeric)
        ]
        self._lookups = [
            common_levels(np.bincount(train.codes[:, place], minlength=len(column.categories) + 1))
            for place, column in enumerate(schema.discrete)
        ]
        self._sizes = [len(edges) for edges in self._edges]
        self._sizes += [int(lookup.max()) + 1 for lookup in self._lookups]

    def __call__(self, rows: Encoded) -> Binned:
        """The rows on these bins."""
        columns = []
        for place, edges in enumerate(self._edges):
            values = rows.numbers[:, place]
            found = np.searchsorted(edges[:-1], values, side="right") - 1
            columns.append(np.where(np.isnan(values), len(edges) - 1, np.maximum(found, 0)))
        columns += [lookup[rows.codes[:, place]] for place, lookup in enumerate(self._lookups)]
        return Binned.of(np.column_stack(columns), self._sizes)


def _edges_of(values: Floats, column: Column) -> Floats:
    return number_edges(values[~np.isnan(values)], column.kind)


def groups_of(evidence: Evidence) -> list[Columns]:
    """All columns, all pairs, and the triples."""
    n_columns = len(evidence.names)
    triples = triples_of(n_columns, evidence.stream("accuracy: triples"), MAX_TRIPLES)
    return [*((column,) for column in range(n_columns)), *pairs_of(n_columns), *triples]


def group_weights(groups: Sequence[Columns]) -> Floats:
    """**Shape** (n_groups,): so that ``weights @ scores`` is the mean of the means by size.

    >>> group_weights([(0,), (1,), (0, 1)])
    array([0.25, 0.25, 0.5 ])
    """
    sizes = np.array([len(group) for group in groups])
    _, places, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    weights: Floats = 1 / counts[places] / len(counts)
    return weights


def expected_similarity(shares: Floats, n_real: int, n_other: int) -> float:
    """1 - the expected total variation of two samples of one distribution (normal approximation).

    ``1 - 1/2 sum sqrt(2/pi p (1 - p) (1/n_real + 1/n_other))``.
    """
    variances = shares * (1 - shares) * (1 / n_real + 1 / n_other)
    return 1 - 0.5 * float(np.sqrt(variances * 2 / np.pi).sum())


def pieces(evidence: Evidence) -> list[str]:
    """Blocks of columns, pairs and triples."""
    n = len(evidence.names)
    n_groups = n + math.comb(n, 2) + min(math.comb(n, 3), MAX_TRIPLES)
    return blocks(n_groups, len(evidence.train) + len(evidence.synthetic))


def work(evidence: Evidence, piece: str) -> tuple[Agreement, Beside, Floats]:
    """Some groups: agreement, with influences on the weighted sum; equal rows; best scores."""
    stand = Stand.of(evidence)
    everything = groups_of(evidence)
    groups, weights = block(everything, piece), group_weights(everything)
    first = int(piece.split("-")[0])
    tenths = Tenths(evidence)
    real = tenths(evidence.train)
    found = agreement(
        real, tenths(evidence.synthetic), groups, weights[first : first + len(groups)]
    )
    beside = stand.each(lambda rows: similarities(found.tables, tenths(rows), groups))
    n_other = len(evidence.synthetic)
    best = [expected_similarity(table, real.n_rows, n_other) for table in found.tables]
    return found, beside, np.array(best)


def conclude(evidence: Evidence, results: Mapping[str, tuple[Agreement, Beside, Floats]]) -> Found:
    """The mean of the three means."""
    parts = [results[piece] for piece in pieces(evidence)]
    found, beside = joined([part[:2] for part in parts])
    best = np.concatenate([part[2] for part in parts])
    groups = groups_of(evidence)
    weights, sizes = group_weights(groups), np.array([len(group) for group in groups])
    n_all = math.comb(len(evidence.names), 3)
    chosen = sampling_error(found.scores[sizes == 3], n_all) / 3 if n_all else 0.0
    error = math.hypot(Scatter(evidence)(found.real, found.other), chosen)
    bounds = interval(float(weights @ found.scores), error, evidence.confidence, most=1.0)
    means = beside.map(lambda scores: weights @ scores)
    named = {1: "univariate", 2: "bivariate", 3: "trivariate"}
    details: dict[str, Any] = {
        **{
            name: float(found.scores[sizes == size].mean())
            for size, name in named.items()
            if (sizes == size).any()
        },
        "expected_of_equal_distributions": float(weights @ best),
        "n_triples": int((sizes == 3).sum()),
        "n_triples_of_all": n_all,
        **means.details,
    }
    measurement = Measurement(
        id=ID,
        family="fidelity",
        estimate=bounds.estimate,
        lcb=bounds.lcb,
        ucb=bounds.ucb,
        n=len(evidence.synthetic),
        baseline=means.baseline,
        control=means.control,
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method="mean of the means over columns, pairs and triples of 1 - total variation, "
        "binned as mostlyai-qa does",
        details=details,
    )
    return Found(measurements=[measurement])


SUITE = Suite(
    name="fidelity.accuracy",
    ids=(ID,),
    pieces=pieces,
    work=work,
    conclude=conclude,
    weight=2,
)
