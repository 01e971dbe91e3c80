"""Triples: are three columns at a time distributed together as in the real table?

1 - total variation distance of the joint table of three columns, mean over triples.  Bins are
coarser than those of pairs, at most four for the present values of a column and one for the missing
ones, so that a cell holds enough rows: quarters of the real numbers; the three most frequent
levels, and all others.

All triples are compared, or a sample of them that does not depend on the data; then the interval
holds the chance of the sample too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.ceiling import Beside, Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.fidelity.joint import (
    Agreement,
    Binned,
    agreement,
    block,
    blocks,
    similarities,
)
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
ID = "fidelity.triples"
MAX_TRIPLES = 1_000
N_COARSE = 4
N_WORST = 20


def triples_of(
    n_columns: int, chance: np.random.Generator, most: int = MAX_TRIPLES
) -> list[tuple[int, int, int]]:
    """All triples of columns, or ``most`` different ones at random, in order.

    >>> triples_of(4, np.random.default_rng(0))
    [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    >>> len(set(triples_of(60, np.random.default_rng(0), 500)))
    500
    """
    if math.comb(n_columns, 3) <= most:
        return list(itertools.combinations(range(n_columns), 3))
    found: set[tuple[int, int, int]] = set()
    while len(found) < most:
        a, b, c = sorted(map(int, chance.choice(n_columns, 3, replace=False)))
        found.add((a, b, c))
    return sorted(found)


def merge_neighbours(counts: Codes, n_bins: int) -> Codes:
    """**Shape** (n_fine,): for fine bins in order, coarser ones with about as many rows each.

    >>> merge_neighbours(np.array([5, 5, 5, 5, 5, 5, 5, 5]), 4)
    array([0, 0, 1, 1, 2, 2, 3, 3])
    >>> merge_neighbours(np.array([90, 2, 3, 5]), 4)
    array([0, 1, 1, 1])
    """
    middles = (np.cumsum(counts) - counts / 2) / max(counts.sum(), 1)
    coarse = np.minimum((middles * n_bins).astype(np.int64), n_bins - 1)
    return np.unique(coarse, return_inverse=True)[1]


def merge_rare(counts: Codes, n_bins: int) -> Codes:
    """**Shape** (n_levels,): the most frequent levels alone, all others together.

    >>> merge_rare(np.array([1, 50, 2, 30, 10]), 3)
    array([2, 0, 2, 1, 2])
    """
    coarse = np.full(len(counts), n_bins - 1)
    n_alone = len(counts) if len(counts) <= n_bins else n_bins - 1
    common = np.argsort(-counts, kind="stable")[:n_alone]
    coarse[common] = np.arange(len(common))
    return coarse


class CoarseBins:
    """Coarser bins of the evidence's bins; the last fine one, of missing values, stays alone."""

    def __init__(self, evidence: Evidence) -> None:
        self._binning = evidence.binning
        fine = self._binning(evidence.train)
        n_numeric = len(evidence.schema.numeric)
        self._lookups = []
        for place, size in enumerate(self._binning.sizes):
            counts = np.bincount(fine[:, place], minlength=size)
            merge = merge_neighbours if place < n_numeric else merge_rare
            present = merge(counts[:-1], N_COARSE)
            missing = int(present.max(initial=-1)) + 1
            self._lookups.append(np.append(present, missing))
        self._sizes = [int(lookup.max()) + 1 for lookup in self._lookups]

    def __call__(self, rows: Encoded) -> Binned:
        """The rows on coarse bins."""
        fine = self._binning(rows)
        coarse = [lookup[fine[:, place]] for place, lookup in enumerate(self._lookups)]
        return Binned.of(np.column_stack(coarse), self._sizes)


def _triples(evidence: Evidence) -> list[tuple[int, int, int]]:
    return triples_of(len(evidence.names), evidence.stream("triples"))


def pieces(evidence: Evidence) -> list[str]:
    """Blocks of triples."""
    n_triples = min(math.comb(len(evidence.names), 3), MAX_TRIPLES)
    return blocks(n_triples, len(evidence.train) + len(evidence.synthetic))


def work(evidence: Evidence, piece: str) -> tuple[Agreement, Beside]:
    """Some of the triples: the agreement, influences on the sum of scores; equally many rows.

    Raises
    ------
    EvaluationError
        When there are fewer than three columns.
    """
    triples = block(_triples(evidence), piece)
    if not triples:
        raise EvaluationError("A table of fewer than three columns has no triples to compare.")
    bins = CoarseBins(evidence)
    real = bins(evidence.train)
    found = agreement(real, bins(evidence.synthetic), triples, np.ones(len(triples)))
    beside = Stand.of(evidence).each(lambda rows: similarities(found.tables, bins(rows), triples))
    return found, beside


def joined(parts: Sequence[tuple[Agreement, Beside]]) -> tuple[Agreement, Beside]:
    """Parts with different groups of columns of the same rows."""
    found = Agreement(
        np.concatenate([part.scores for part, _ in parts]),
        np.sum([part.real for part, _ in parts], axis=0),
        np.sum([part.other for part, _ in parts], axis=0),
        [table for part, _ in parts for table in part.tables],
    )
    beside = Beside(
        n=parts[0][1].n,
        synthetic=np.concatenate([each.synthetic for _, each in parts]),
        control=np.concatenate([each.control for _, each in parts]),
        baseline=np.concatenate([each.baseline for _, each in parts]),
    )
    return found, beside


def sampling_error(scores: Floats, n_all: int) -> float:
    """Error of a mean over ``len(scores)`` of ``n_all`` groups, drawn without repetition."""
    n = len(scores)
    if n == n_all:
        return 0.0
    return float(scores.std(ddof=1)) * math.sqrt((1 - n / n_all) / n)


def conclude(evidence: Evidence, results: Mapping[str, tuple[Agreement, Beside]]) -> Found:
    """The mean over all triples."""
    found, beside = joined([results[piece] for piece in pieces(evidence)])
    triples = _triples(evidence)
    n_all = math.comb(len(evidence.names), 3)
    error = math.hypot(
        Scatter(evidence)(found.real / len(triples), found.other / len(triples)),
        sampling_error(found.scores, n_all),
    )
    bounds = interval(float(found.scores.mean()), error, evidence.confidence, most=1.0)
    means = beside.map(np.mean)
    details: dict[str, Any] = {
        "n_triples": len(triples),
        "n_triples_of_all": n_all,
        "chosen": "all" if len(triples) == n_all else "at random, whatever the data",
        "worst": [
            {
                "columns": [evidence.names[column] for column in triples[place]],
                "score": float(found.scores[place]),
            }
            for place in np.argsort(found.scores, kind="stable")[:N_WORST]
        ],
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
        method="mean over triples of 1 - total variation of joint coarse bins of the real rows",
        details=details,
    )
    return Found(measurements=[measurement])


SUITE = Suite(
    name="fidelity.triples",
    ids=(ID,),
    pieces=pieces,
    work=work,
    conclude=conclude,
    weight=2,
)
