"""Correlations: does every pair of numbers move together as in the real table?

``1 - |rho_real - rho_synthetic| / 2`` with Pearson's correlation of the rows in which both numbers
are present, mean over *all* pairs of numeric columns; of one pair, this is the
CorrelationSimilarity of SDMetrics.  Pairs without correlation count too: otherwise a table that
makes correlation up would not be seen.

A correlation is not defined where a column is constant.  Such a pair of the real table is left out;
where only the synthetic column is constant, nothing moves with it, and its correlation counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.ceiling import Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite

Floats = npt.NDArray[np.float64]
ID = "fidelity.correlation"
BLOCK_ROWS = 50_000
CONSTANT = 1e-14
N_WORST = 20


class Moments:
    """Pairwise means, variances and correlations of the rows in which both numbers are present.

    Parameters
    ----------
    numbers
        **Shape** (n_rows, n_columns), NaN where missing.
    centres, scales
        **Shape** (n_columns,): what is subtracted, and divided by, so that sums stay exact.
    """

    def __init__(self, numbers: Floats, centres: Floats, scales: Floats) -> None:
        self._numbers, self._centres, self._scales = numbers, centres, scales
        n_columns = numbers.shape[1]
        count, first, second, cross = (np.zeros((n_columns, n_columns)) for _ in range(4))
        for x, present in self._blocks():
            count += present.T @ present
            first += x.T @ present
            second += (x * x).T @ present
            cross += x.T @ x
        self.count = count
        at_least = np.maximum(count, 1)
        self.means = first / at_least
        self.variances = np.maximum(second / at_least - self.means**2, 0.0)
        spread = np.sqrt(self.variances)
        # Rounding leaves a constant column a variance of about 1e-16 times its square.
        varies = self.variances > CONSTANT * np.maximum(1.0, self.means**2)
        self.defined = varies & varies.T & (count >= 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = (cross / at_least - self.means * self.means.T) / (spread * spread.T)
        self.rho = np.where(self.defined, np.clip(rho, -1.0, 1.0), 0.0)

    def _blocks(self) -> Iterator[tuple[Floats, Floats]]:
        for first in range(0, len(self._numbers), BLOCK_ROWS):
            some = self._numbers[first : first + BLOCK_ROWS]
            present = ~np.isnan(some)
            x = np.where(present, (some - self._centres) / self._scales, 0.0)
            yield x, present.astype(np.float64)

    def influence(self, weights: Floats) -> Floats:
        """**Shape** (n_rows,): influences on ``sum over pairs a < b of weights * rho``.

        Parameters
        ----------
        weights
            **Shape** (n_columns, n_columns), symmetric.

        Notes
        -----
        Of one pair, with ``u`` and ``v`` standardised, ``u v - rho / 2 (u^2 + v^2)`` (Devlin,
        Gnanadesikan and Kettenring 1975, https://doi.org/10.1093/biomet/62.3.531),
        written as products of matrices for all pairs at once.
        """
        each = np.where(self.defined, weights * len(self._numbers) / np.maximum(self.count, 1), 0)
        np.fill_diagonal(each, 0.0)
        variance = np.where(self.defined, self.variances, 1.0)
        cross = each / np.sqrt(variance * variance.T)
        square = each * self.rho / variance
        means, others = self.means, self.means.T
        linear = square * means - cross * others
        constant = 0.5 * cross * means * others - 0.5 * square * means**2
        parts = [
            0.5 * ((x @ cross) * x).sum(axis=1)
            + (x * (present @ linear.T)).sum(axis=1)
            + (present * (present @ constant.T)).sum(axis=1)
            - 0.5 * (x * x * (present @ square.T)).sum(axis=1)
            for x, present in self._blocks()
        ]
        return np.concatenate(parts)


def centres_and_scales(real: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of every column's present values; 0 and 1 where there is none."""
    present = ~np.isnan(real)
    count = np.maximum(present.sum(axis=0), 1)
    centres = np.where(present, real, 0.0).sum(axis=0) / count
    squares = np.where(present, (real - centres) ** 2, 0.0).sum(axis=0) / count
    return centres, np.where(squares > 0, np.sqrt(squares), 1.0)


def similarity(real: Moments, other: Moments) -> Floats:
    """**Shape** (n_columns, n_columns): 1 - half the difference of the correlations."""
    scores: Floats = 1 - np.abs(real.rho - other.rho) / 2
    return scores


def measure(evidence: Evidence) -> Measurement:
    """The mean over all pairs of numbers.

    Raises
    ------
    EvaluationError
        When fewer than two numeric columns vary.
    """
    frame = centres_and_scales(evidence.train.numbers)
    real = Moments(evidence.train.numbers, *frame)
    other = Moments(evidence.synthetic.numbers, *frame)
    upper = np.triu(np.ones_like(real.defined), 1).astype(bool)
    pairs = upper & real.defined
    n_pairs = int(pairs.sum())
    if n_pairs == 0:
        raise EvaluationError(
            "No two numeric columns of the real table vary together: there is no correlation to "
            "compare."
        )
    scores = similarity(real, other)
    weights = np.where(pairs | pairs.T, -0.5 / n_pairs * np.sign(real.rho - other.rho), 0.0)
    error = Scatter(evidence)(real.influence(weights), -other.influence(weights))
    found = interval(float(scores[pairs].mean()), error, evidence.confidence, most=1.0)
    beside = Stand.of(evidence).each(
        lambda rows: float(similarity(real, Moments(rows.numbers, *frame))[pairs].mean())
    )
    names = [column.name for column in evidence.schema.numeric]
    places = np.argwhere(pairs)
    worst = places[np.argsort(scores[pairs], kind="stable")[:N_WORST]]
    details: dict[str, Any] = {
        "n_pairs": n_pairs,
        "n_pairs_undefined": int(upper.sum()) - n_pairs,
        "worst": [
            {
                "columns": [names[a], names[b]],
                "score": float(scores[a, b]),
                "real": float(real.rho[a, b]),
                "synthetic": float(other.rho[a, b]),
            }
            for a, b in worst
        ],
        **beside.details,
    }
    return Measurement(
        id=ID,
        family="fidelity",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=len(evidence.synthetic),
        baseline=beside.baseline,
        control=beside.control,
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method="mean over all pairs of numbers of 1 - |rho_real - rho_synthetic| / 2, Pearson",
        details=details,
    )


SUITE = Suite.of(ID, measure, ids=(ID,), weight=0.5)
