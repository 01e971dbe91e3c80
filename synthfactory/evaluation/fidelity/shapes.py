"""Column shapes: is each column distributed as in the real table?

Numbers: 1 - Kolmogorov-Smirnov statistic of the present values.  Levels: 1 - total variation
distance.  In both, a difference in the share of missing values counts: a number's score is weighted
with the shares that are present on both sides, and missing is a level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation import charts
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import normal
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]


def column_shapes(real: Encoded, other: Encoded, sizes: tuple[int, ...]) -> Floats:
    """**Shape** (n_columns,): similarity of every column, 0 to 1."""
    ones = np.ones(len(real)), np.ones(len(other))
    return Shapes(real, other, sizes)(*ones)


class Shapes:
    """Column shapes for any weights of the rows, sorted once."""

    def __init__(self, real: Encoded, other: Encoded, sizes: tuple[int, ...]) -> None:
        self._real, self._other, self._sizes = real, other, sizes
        self._orders = []
        for place in range(real.numbers.shape[1]):
            joined = np.concatenate([real.numbers[:, place], other.numbers[:, place]])
            order = np.argsort(joined, kind="stable")
            ordered = joined[order]
            present = ~np.isnan(ordered)
            last_of_value = np.append(ordered[1:] != ordered[:-1], True) & present
            self._orders.append((order, last_of_value, ~np.isnan(joined)))

    def __call__(self, real_weights: Floats, other_weights: Floats) -> Floats:
        """Similarities when rows count with these weights."""
        weights = np.concatenate([real_weights, other_weights])
        is_real = np.arange(len(weights)) < len(real_weights)
        scores = [self._number(*order, weights, is_real) for order in self._orders]
        for place, size in enumerate(self._sizes):
            p = np.bincount(self._real.codes[:, place], real_weights, size)
            q = np.bincount(self._other.codes[:, place], other_weights, size)
            scores.append(1 - 0.5 * float(np.abs(p / p.sum() - q / q.sum()).sum()))
        return np.array(scores)

    @staticmethod
    def _number(
        order: npt.NDArray[np.int64],
        last_of_value: npt.NDArray[np.bool_],
        present: npt.NDArray[np.bool_],
        weights: Floats,
        is_real: npt.NDArray[np.bool_],
    ) -> float:
        held = weights * present
        totals = weights[is_real].sum(), weights[~is_real].sum()
        shares = held[is_real].sum() / totals[0], held[~is_real].sum() / totals[1]
        if min(shares) == 0:
            return float(max(shares) == 0)
        p = np.cumsum(np.where(is_real, held, 0.0)[order]) / held[is_real].sum()
        q = np.cumsum(np.where(is_real, 0.0, held)[order]) / held[~is_real].sum()
        distance = float(np.abs(p - q)[last_of_value].max(initial=0.0))
        return float(min(shares) * (1 - distance) + min(1 - shares[0], 1 - shares[1]))


def measure(evidence: Evidence) -> Measurement:
    """Mean similarity over columns; the error is bootstrapped over real and synthetic rows."""
    sizes = tuple(len(column.categories) + 1 for column in evidence.schema.discrete)
    synthetic = evidence.at_most(evidence.synthetic, "shapes: rows")
    real = evidence.at_most(evidence.train, "shapes: real rows")
    shapes = Shapes(real, synthetic, sizes)
    scores = shapes(np.ones(len(real)), np.ones(len(synthetic)))
    chance = evidence.stream("shapes: bootstrap")
    repeats = np.array(
        [
            shapes(row_weights(len(real), chance), row_weights(len(synthetic), chance))
            for _ in range(max(evidence.repeats // 4, 20))
        ]
    )
    found = normal(
        float(scores.mean()), float(repeats.mean(axis=1).std(ddof=1)), evidence.confidence
    )
    ceiling = column_shapes(real, evidence.control, sizes)
    order = np.argsort(scores, kind="stable")
    details: dict[str, Any] = {
        "columns": [
            {
                "name": evidence.names[place],
                "score": float(scores[place]),
                "error": float(repeats[:, place].std(ddof=1)),
                "reference": float(ceiling[place]),
            }
            for place in order
        ]
    }
    return Measurement(
        id="fidelity.column_shapes",
        family="fidelity",
        estimate=found.estimate,
        lcb=max(found.lcb, 0.0),
        ucb=max(min(found.ucb, 1.0), found.estimate),
        n=len(synthetic),
        baseline=None,
        control=float(ceiling.mean()),
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method="mean over columns of 1 - KS statistic (numbers) or 1 - total variation (levels)",
        details=details,
    )


def measure_and_draw(evidence: Evidence) -> Found:
    """The measurement, with a chart of every column."""
    found = measure(evidence)
    drawn = charts.column_charts(evidence, found.details["columns"])
    return Found(measurements=[found], charts={"columns": drawn})


def row_weights(n: int, chance: np.random.Generator) -> Floats:
    """How often each of n rows is drawn when n rows are drawn with replacement."""
    return np.bincount(chance.integers(n, size=n), minlength=n).astype(np.float64)


SUITE = Suite.of("fidelity.shapes", measure_and_draw, ids=("fidelity.column_shapes",), weight=5)
