"""Pair trends and associations: are columns distributed together as in the real table?

Every pair of columns counts, numbers with numbers, numbers with levels, levels with levels, all on
bins of the *real* rows.  Two readings of the same joint tables:

- `fidelity.pair_trends`: 1 - total variation distance of the joint table, mean over pairs;
- `fidelity.association`: which part of the dependence is kept,
  ``1 - sum |V_real - V_synthetic| / sum V_real`` with Cramér's V, bias-corrected (Bergsma 2013,
  https://doi.org/10.1016/j.jkss.2012.10.002).  Columns drawn independently keep about 0.

The first is high for independent columns with the right marginals; the second is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, pairs_of, shuffled
from synthfactory.evaluation.fidelity.shapes import row_weights
from synthfactory.evaluation.intervals import normal
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
MIN_DEPENDENCE = 0.02
MAX_PAIR_COLUMNS = 60


class JointTables:
    """The joint table of every pair of columns of one binned table, for any row weights."""

    def __init__(self, bins: Codes, sizes: Sequence[int]) -> None:
        self.n_rows = len(bins)
        self.sizes = tuple(sizes)
        self.pairs = pairs_of(len(sizes))
        self._bins = bins

    def __call__(self, weights: Floats | None = None) -> list[Floats]:
        """A table of shares, **shape** (bins of a, bins of b), for each pair."""
        total = self.n_rows if weights is None else weights.sum()
        tables = []
        for a, b in self.pairs:
            cells = self._bins[:, a] * self.sizes[b] + self._bins[:, b]
            n_cells = self.sizes[a] * self.sizes[b]
            counts = np.bincount(cells, weights, n_cells).astype(np.float64)
            tables.append(counts.reshape(self.sizes[a], self.sizes[b]) / total)
        return tables


def pair_similarities(real: Sequence[Floats], other: Sequence[Floats]) -> Floats:
    """**Shape** (n_pairs,): 1 - total variation distance."""
    return np.array([1 - 0.5 * np.abs(p - q).sum() for p, q in zip(real, other, strict=True)])


def cramers_v(table: Floats, n_rows: int) -> float:
    """Bias-corrected Cramér's V of a table of shares."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    table = table[rows > 0][:, columns > 0]
    rows, columns = rows[rows > 0], columns[columns > 0]
    n_rows_kept, n_columns_kept = table.shape
    if min(table.shape) < 2 or n_rows < 3:
        return 0.0
    expected = np.outer(rows, columns)
    phi2 = float(((table - expected) ** 2 / expected).sum())
    phi2 = max(0.0, phi2 - (n_rows_kept - 1) * (n_columns_kept - 1) / (n_rows - 1))
    small = min(
        n_rows_kept - (n_rows_kept - 1) ** 2 / (n_rows - 1),
        n_columns_kept - (n_columns_kept - 1) ** 2 / (n_rows - 1),
    )
    return float(np.sqrt(phi2 / (small - 1))) if small > 1 else 0.0


def associations(tables: Sequence[Floats], n_rows: int) -> Floats:
    """**Shape** (n_pairs,): strength of dependence of each pair, 0 to 1."""
    return np.minimum([cramers_v(table, n_rows) for table in tables], 1.0)


def kept(real: Floats, other: Floats) -> float:
    """The part of the real dependence that is kept."""
    # A bootstrap repeat may draw rows without any dependence: the floor keeps it finite.
    total = max(float(real.sum()), MIN_DEPENDENCE * len(real))
    return 1 - float(np.abs(real - other).sum()) / total


def measure(evidence: Evidence) -> list[Measurement]:
    """Both readings.

    Raises
    ------
    EvaluationError
        When there is one column only, or the real columns do not depend on each other.
    """
    if len(evidence.names) < 2:
        raise EvaluationError("A table of one column has no pairs to compare.")
    binning = evidence.binning
    real_rows = evidence.at_most(evidence.train, "pairs: real rows")
    rows = evidence.at_most(evidence.synthetic, "pairs: rows")
    real, other = (JointTables(binning(part), binning.sizes) for part in (real_rows, rows))
    holdout = JointTables(binning(evidence.control), binning.sizes)
    lone = shuffled(real_rows, len(rows), evidence.stream("pairs: independent"))
    independent = JointTables(binning(lone), binning.sizes)

    def similarity(p: list[Floats], q: list[Floats]) -> float:
        return float(pair_similarities(p, q).mean())

    def association(p: list[Floats], q: list[Floats], n_p: int, n_q: int) -> float:
        return kept(associations(p, n_p), associations(q, n_q))

    p, q, h, i = real(), other(), holdout(), independent()
    v_real, v_other = associations(p, real.n_rows), associations(q, other.n_rows)
    if v_real.mean() < MIN_DEPENDENCE:
        raise EvaluationError(
            "The real columns hardly depend on each other (mean Cramér's V "
            f"{v_real.mean():.3f}): there is no dependence to keep."
        )
    chance = evidence.stream("pairs: bootstrap")
    repeats = []
    for _ in range(max(evidence.repeats // 10, 12)):
        p_again = real(row_weights(real.n_rows, chance))
        q_again = other(row_weights(other.n_rows, chance))
        repeats.append(
            (
                similarity(p_again, q_again),
                association(p_again, q_again, real.n_rows, other.n_rows),
            )
        )
    errors = np.array(repeats).std(axis=0, ddof=1)
    scores = pair_similarities(p, q)
    worst = np.argsort(scores, kind="stable")[:20]
    trends = normal(float(scores.mean()), float(errors[0]), evidence.confidence)
    dependence = normal(kept(v_real, v_other), float(errors[1]), evidence.confidence)
    names = evidence.names
    return [
        Measurement(
            id="fidelity.pair_trends",
            family="fidelity",
            estimate=trends.estimate,
            lcb=trends.lcb,
            ucb=trends.ucb,
            n=len(rows),
            baseline=similarity(p, i),
            control=similarity(p, h),
            unit="similarity",
            better="higher",
            confidence=evidence.confidence,
            method="mean over all pairs of 1 - total variation of joint bins of the real rows",
            details={
                "worst": [
                    {"columns": [names[a], names[b]], "score": float(scores[place])}
                    for place in worst
                    for a, b in [real.pairs[place]]
                ]
            },
        ),
        Measurement(
            id="fidelity.association",
            family="fidelity",
            estimate=dependence.estimate,
            lcb=dependence.lcb,
            ucb=dependence.ucb,
            n=len(rows),
            baseline=kept(v_real, associations(i, independent.n_rows)),
            control=kept(v_real, associations(h, holdout.n_rows)),
            unit="share kept",
            better="higher",
            confidence=evidence.confidence,
            method="1 - sum |V_real - V_synthetic| / sum V_real, bias-corrected Cramér's V",
        ),
    ]


def pair_chart(evidence: Evidence) -> dict[str, Any]:
    """Strength of dependence of every pair, real and synthetic."""
    n_columns = min(len(evidence.names), MAX_PAIR_COLUMNS)
    sizes = evidence.binning.sizes[:n_columns]
    matrices = []
    for rows in (evidence.train, evidence.synthetic):
        some = evidence.at_most(rows, "charts: rows")
        tables = JointTables(evidence.binning(some)[:, :n_columns], sizes)
        matrix = np.eye(n_columns)
        for (a, b), value in zip(tables.pairs, associations(tables(), len(some)), strict=True):
            matrix[a, b] = matrix[b, a] = value
        matrices.append(matrix.tolist())
    return {
        "columns": list(evidence.names[:n_columns]),
        "real": matrices[0],
        "synthetic": matrices[1],
        "measure": "bias-corrected Cramér's V on bins of the real rows",
    }


def measure_and_draw(evidence: Evidence) -> Found:
    """The measurements, with a chart of every pair's dependence."""
    return Found(measurements=measure(evidence), charts={"pairs": pair_chart(evidence)})


SUITE = Suite.of(
    "fidelity.pairs",
    measure_and_draw,
    ids=("fidelity.pair_trends", "fidelity.association"),
    weight=15,
)
