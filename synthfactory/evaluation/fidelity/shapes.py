"""Column shapes: is each column distributed as in the real table?

Numbers: 1 - Kolmogorov-Smirnov statistic of the present values.  Levels: 1 - total variation
distance.  In both, a difference in the share of missing values counts: a number's score is weighted
with the shares that are present on both sides, and missing is a level.

Where nothing is missing, these are the KSComplement and the TVComplement of SDMetrics.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation import charts
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.ceiling import Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded, Schema

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

NO_AGREEMENT = 0.0


class Similarity(NamedTuple):
    """How alike a column is in two tables, and how each row moves that.

    Parameters
    ----------
    score
        0 to 1.
    real, other
        **Shape** (n_rows,): influences, see `influence`.
    """

    score: float
    real: Floats
    other: Floats


def similarity_of_numbers(real: Floats, other: Floats) -> Similarity:
    """Of numbers, NaN where missing.

    Parameters
    ----------
    real, other
        **Shape** (n_real,) and (n_other,).
    """
    mine, theirs = ~np.isnan(real), ~np.isnan(other)
    p, q = float(mine.mean()), float(theirs.mean())
    if min(p, q) == 0:
        return Similarity(float(max(p, q) == 0), np.zeros(len(real)), np.zeros(len(other)))
    distance, at, sign = kolmogorov_smirnov(np.sort(real[mine]), np.sort(other[theirs]))
    both = min(p, q)
    # NaN <= at is false: a missing value is not below.
    below = sign * both / p * (real <= at), sign * both / q * (other <= at)
    level = sign * both * float((real <= at).sum()) / mine.sum() / p
    other_level = sign * both * float((other <= at).sum()) / theirs.sum() / q
    moves_real = -(below[0] - level * mine)
    moves_other = below[1] - other_level * theirs
    # The smaller share of present values, and the smaller share of missing ones, both count.
    moves_real += (1 - distance) * (p <= q) * mine + (p > q) * ~mine
    moves_other += (1 - distance) * (q < p) * theirs + (q >= p) * ~theirs
    return Similarity(both * (1 - distance) + min(1 - p, 1 - q), moves_real, moves_other)


def kolmogorov_smirnov(real: Floats, other: Floats) -> tuple[float, float, float]:
    """The largest gap between two distribution functions.

    Parameters
    ----------
    real, other
        Sorted values without NaN, at least one each.

    Returns
    -------
    distance, at, sign
        The statistic, where it is reached first, and 1 if the real share below is the larger one.
    """
    every = np.concatenate([real, other])
    gaps = np.searchsorted(real, every, side="right") / len(real)
    gaps -= np.searchsorted(other, every, side="right") / len(other)
    place = int(np.argmax(np.abs(gaps)))
    return float(abs(gaps[place])), float(every[place]), float(np.sign(gaps[place]))


def similarity_of_levels(real: Codes, other: Codes, n_levels: int) -> Similarity:
    """Of codes below ``n_levels``, the missing state among them."""
    gaps = np.bincount(real, minlength=n_levels) / len(real)
    gaps = gaps - np.bincount(other, minlength=n_levels) / len(other)
    slope = 0.5 * np.sign(gaps)
    return Similarity(1 - 0.5 * float(np.abs(gaps).sum()), -slope[real], slope[other])


def similarities(real: Encoded, other: Encoded, schema: Schema) -> list[Similarity]:
    """Of every column, numbers first."""
    numbers = [
        similarity_of_numbers(real.numbers[:, place], other.numbers[:, place])
        for place in range(len(schema.numeric))
    ]
    levels = [
        similarity_of_levels(
            real.codes[:, place], other.codes[:, place], len(column.categories) + 1
        )
        for place, column in enumerate(schema.discrete)
    ]
    return numbers + levels


def column_shapes(real: Encoded, other: Encoded, schema: Schema) -> Floats:
    """**Shape** (n_columns,): similarity of every column, 0 to 1."""
    return np.array([column.score for column in similarities(real, other, schema)])


def measure(evidence: Evidence) -> Measurement:
    """Mean similarity over columns, beside that of fresh real rows."""
    stand = Stand.of(evidence)
    columns = similarities(evidence.train, evidence.synthetic, evidence.schema)
    scores = np.array([column.score for column in columns])
    scatter = Scatter(evidence)
    error = scatter(
        np.mean([column.real for column in columns], axis=0),
        np.mean([column.other for column in columns], axis=0),
    )
    beside = stand.each(
        lambda rows: column_shapes(evidence.train, rows, evidence.schema), baseline=NO_AGREEMENT
    )
    means = beside.map(np.mean)
    found = interval(float(scores.mean()), error, evidence.confidence, most=1.0)
    details: dict[str, Any] = {
        "columns": [
            {
                "name": evidence.names[place],
                "score": float(scores[place]),
                "error": scatter(columns[place].real, columns[place].other),
                "reference": float(beside.control[place]),
            }
            for place in np.argsort(scores, kind="stable")
        ],
        **means.details,
    }
    return Measurement(
        id="fidelity.column_shapes",
        family="fidelity",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=len(evidence.synthetic),
        baseline=NO_AGREEMENT,
        control=means.control,
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


SUITE = Suite.of("fidelity.shapes", measure_and_draw, ids=("fidelity.column_shapes",), weight=1)
