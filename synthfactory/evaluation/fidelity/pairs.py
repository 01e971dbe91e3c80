"""Pair trends and associations: are columns distributed together as in the real table?

Every pair of columns counts, numbers with numbers, numbers with levels, levels with levels, all on
bins of the *real* rows.  Two readings of the same joint tables:

- `fidelity.pair_trends`: 1 - total variation distance of the joint table, mean over pairs; for two
  columns of levels, this is the ContingencySimilarity of SDMetrics;
- `fidelity.association`: which part of the dependence is kept,
  ``1 - sum |V_real - V_synthetic| / sum V_real`` with Cramér's V, bias-corrected (Bergsma 2013,
  https://doi.org/10.1016/j.jkss.2012.10.002).  Columns drawn independently keep about 0.

The first is high for independent columns with the right marginals; the second is not.  Bins of each
table's own would let one outlier spoil a pair and hide a column that is a thousand times too large;
leaving out pairs without strong dependence would hide dependence that was made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, pairs_of
from synthfactory.evaluation.fidelity.ceiling import Beside, Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.fidelity.joint import (
    Binned,
    Columns,
    block,
    blocks,
    shares,
    similarity,
)
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
MIN_DEPENDENCE = 0.02
MAX_PAIR_COLUMNS = 60
N_WORST = 20
ID_TRENDS = "fidelity.pair_trends"
ID_ASSOCIATION = "fidelity.association"


class Strength(NamedTuple):
    """Cramér's V of a joint table, and its slope.

    Parameters
    ----------
    value
        0 to 1.
    slope
        **Shape** of the table: how V moves with the share of each cell.
    """

    value: float
    slope: Floats


def cramers_v(table: Floats, n_rows: int) -> Strength:
    """Bias-corrected Cramér's V.

    Parameters
    ----------
    table
        **Shape** (bins of a, bins of b): shares of rows.
    n_rows
        Rows behind it.
    """
    slope = np.zeros_like(table)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    held = np.ix_(rows > 0, columns > 0)
    inner, rows, columns = table[held], rows[rows > 0], columns[columns > 0]
    n, m = inner.shape
    if min(n, m) < 2 or n_rows < 3:
        return Strength(0.0, slope)
    degrees = (n - 1) * (m - 1)
    ratio = inner / np.outer(rows, columns)
    parts = inner * ratio
    phi2 = float(parts.sum()) - 1 - degrees / (n_rows - 1)
    small = min(n - (n - 1) ** 2 / (n_rows - 1), m - (m - 1) ** 2 / (n_rows - 1)) - 1
    if small <= 0:
        return Strength(0.0, slope)
    value = float(np.sqrt(max(phi2, 0.0) / small))
    # At independence the root has no slope: the scatter of phi2 there says how steep it is.
    floor = np.sqrt(np.sqrt(2 * degrees) / n_rows / small)
    moves = 2 * ratio - (parts.sum(axis=1) / rows)[:, None] - (parts.sum(axis=0) / columns)[None, :]
    slope[held] = moves / (2 * small * max(value, floor))
    return Strength(min(value, 1.0), slope)


def _strength(rows: Binned, pair: Columns, table: Floats) -> Strength:
    return cramers_v(table.reshape([rows.sizes[column] for column in pair]), rows.n_rows)


def kept(real: Floats, other: Floats) -> float:
    """The part of the real dependence that is kept."""
    return 1 - float(np.abs(real - other).sum()) / float(real.sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """What is known of some pairs.

    Parameters
    ----------
    scores, real_strength, strength
        **Shape** (n_pairs,): similarity of the joint tables, Cramér's V of the real and of the
        synthetic rows.
    trend, gap
        Influences of (real, synthetic) rows on the sum of the scores, and on the sum of
        ``|V_real - V_synthetic|``.
    total
        **Shape** (n_real,): influences on the sum of ``V_real``.
    beside
        **Shape** (2, n_pairs): scores and strengths of equally many rows.
    """

    scores: Floats
    real_strength: Floats
    strength: Floats
    trend: tuple[Floats, Floats]
    gap: tuple[Floats, Floats]
    total: Floats
    beside: Beside

    @classmethod
    def concat(cls, parts: Sequence[Pairs]) -> Pairs:
        """Parts with different pairs of the same rows."""

        def joined(name: str) -> Floats:
            return np.concatenate([getattr(part, name) for part in parts])

        def summed(name: str) -> tuple[Floats, Floats]:
            sides = zip(*(getattr(part, name) for part in parts), strict=True)
            real, other = (np.sum(side, axis=0) for side in sides)
            return real, other

        def beside(kind: str) -> Floats:
            return np.concatenate([getattr(part.beside, kind) for part in parts], axis=1)

        return cls(
            scores=joined("scores"),
            real_strength=joined("real_strength"),
            strength=joined("strength"),
            trend=summed("trend"),
            gap=summed("gap"),
            total=np.sum([part.total for part in parts], axis=0),
            beside=Beside(
                n=parts[0].beside.n,
                synthetic=beside("synthetic"),
                control=beside("control"),
                baseline=beside("baseline"),
            ),
        )


def compare(real: Binned, other: Binned, pairs: Sequence[Columns]) -> dict[str, Any]:
    """Scores, strengths and influences of `Pairs`, and the real joint tables, in one pass."""
    scores, real_strength, strength = (np.empty(len(pairs)) for _ in range(3))
    trend, gap = (tuple(np.zeros(rows.n_rows) for rows in (real, other)) for _ in range(2))
    total, tables = np.zeros(real.n_rows), []
    for place, pair in enumerate(pairs):
        mine, theirs = real.cells(pair), other.cells(pair)
        p, q = shares(mine, real.n_cells(pair)), shares(theirs, real.n_cells(pair))
        v, w = _strength(real, pair, p), _strength(other, pair, q)
        tables.append(p)
        scores[place] = similarity(p, q)
        real_strength[place], strength[place] = v.value, w.value
        sign, side = 0.5 * np.sign(p - q), np.sign(v.value - w.value)
        trend[0][:] -= sign[mine]
        trend[1][:] += sign[theirs]
        moves = v.slope.ravel()[mine]
        total += moves
        gap[0][:] += side * moves
        gap[1][:] -= side * w.slope.ravel()[theirs]
    return {
        "scores": scores, "real_strength": real_strength, "strength": strength,
        "trend": trend, "gap": gap, "total": total, "tables": tables,
    }  # fmt: skip


def work(evidence: Evidence, piece: str) -> Pairs:
    """Some of the pairs.

    Raises
    ------
    EvaluationError
        When there is one column only.
    """
    pairs = block(pairs_of(len(evidence.names)), piece)
    if not pairs:
        raise EvaluationError("A table of one column has no pairs to compare.")
    binning = evidence.binning

    def binned(rows: Encoded) -> Binned:
        return Binned.of(binning(rows), binning.sizes)

    real = binned(evidence.train)
    found = compare(real, binned(evidence.synthetic), pairs)
    tables = found.pop("tables")

    def scored(rows: Encoded) -> Floats:
        other = binned(rows)
        scores, strengths = [], []
        for pair, known in zip(pairs, tables, strict=True):
            table = other.shares(pair)
            scores.append(similarity(known, table))
            strengths.append(_strength(other, pair, table).value)
        return np.array([scores, strengths])

    return Pairs(**found, beside=Stand.of(evidence).each(scored))


def trends(evidence: Evidence, found: Pairs) -> Measurement:
    """`fidelity.pair_trends`."""
    n_pairs = len(found.scores)
    error = Scatter(evidence)(found.trend[0] / n_pairs, found.trend[1] / n_pairs)
    bounds = interval(float(found.scores.mean()), error, evidence.confidence, most=1.0)
    beside = found.beside.map(lambda values: values[0].mean())
    pairs, names = pairs_of(len(evidence.names)), evidence.names
    worst = np.argsort(found.scores, kind="stable")[:N_WORST]
    return Measurement(
        id=ID_TRENDS,
        family="fidelity",
        estimate=bounds.estimate,
        lcb=bounds.lcb,
        ucb=bounds.ucb,
        n=len(evidence.synthetic),
        baseline=beside.baseline,
        control=beside.control,
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method="mean over all pairs of 1 - total variation of joint bins of the real rows",
        details={
            "n_pairs": n_pairs,
            "worst": [
                {
                    "columns": [names[column] for column in pairs[place]],
                    "score": float(found.scores[place]),
                }
                for place in worst
            ],
            **beside.details,
        },
    )


def association(evidence: Evidence, found: Pairs) -> Measurement:
    """`fidelity.association`.

    Raises
    ------
    EvaluationError
        When the real columns do not depend on each other.
    """
    real, other = found.real_strength, found.strength
    if real.mean() < MIN_DEPENDENCE:
        raise EvaluationError(
            "The real columns hardly depend on each other (mean Cramér's V "
            f"{real.mean():.3f}): there is no dependence to keep."
        )
    total, gap = float(real.sum()), float(np.abs(real - other).sum())
    error = Scatter(evidence)(
        found.total * gap / total**2 - found.gap[0] / total, -found.gap[1] / total
    )
    bounds = interval(kept(real, other), error, evidence.confidence, least=-np.inf, most=1.0)
    beside = found.beside.map(lambda values: kept(real, values[1]))
    return Measurement(
        id=ID_ASSOCIATION,
        family="fidelity",
        estimate=bounds.estimate,
        lcb=bounds.lcb,
        ucb=bounds.ucb,
        n=len(evidence.synthetic),
        baseline=beside.baseline,
        control=beside.control,
        unit="share kept",
        better="higher",
        confidence=evidence.confidence,
        method="1 - sum |V_real - V_synthetic| / sum V_real, bias-corrected Cramér's V",
        details={"n_pairs": len(real), **beside.details},
    )


def pair_chart(evidence: Evidence, found: Pairs) -> dict[str, Any]:
    """Strength of dependence of every pair, real and synthetic."""
    n_columns = min(len(evidence.names), MAX_PAIR_COLUMNS)
    matrices = []
    for strengths in (found.real_strength, found.strength):
        matrix = np.eye(n_columns)
        for (a, b), value in zip(pairs_of(len(evidence.names)), strengths, strict=True):
            if b < n_columns:
                matrix[a, b] = matrix[b, a] = value
        matrices.append(matrix.tolist())
    return {
        "columns": list(evidence.names[:n_columns]),
        "real": matrices[0],
        "synthetic": matrices[1],
        "measure": "bias-corrected Cramér's V on bins of the real rows",
    }


def pieces(evidence: Evidence) -> list[str]:
    """Blocks of pairs."""
    n_rows = len(evidence.train) + len(evidence.synthetic)
    return blocks(len(pairs_of(len(evidence.names))), n_rows)


def conclude(evidence: Evidence, results: Mapping[str, Pairs]) -> Found:
    """Both readings of all pairs, with a chart of every pair's dependence."""
    found = Pairs.concat([results[piece] for piece in pieces(evidence)])
    measurements = [trends(evidence, found)]
    failures = {}
    try:
        measurements.append(association(evidence, found))
    except EvaluationError as error:
        failures[ID_ASSOCIATION] = str(error)
    return Found(
        measurements=measurements,
        failures=failures,
        charts={"pairs": pair_chart(evidence, found)},
    )


def measure(evidence: Evidence) -> Sequence[Measurement]:
    """Both readings, from all pieces."""
    results = {piece: work(evidence, piece) for piece in pieces(evidence)}
    return conclude(evidence, results).measurements


SUITE = Suite(
    name="fidelity.pairs",
    ids=(ID_TRENDS, ID_ASSOCIATION),
    pieces=pieces,
    work=work,
    conclude=conclude,
    weight=2,
)
