"""Standard errors of fidelity statistics from what each row contributes.

A statistic of two tables moves by ``influence / n`` when a row of one of them counts a little
more.  The variance of those influences gives the error without any repetition (Hampel 1974,
https://doi.org/10.1080/01621459.1974.10482962; the infinitesimal jackknife of Jaeckel 1972).  Row
influences of many columns or pairs are summed before the variance is taken, so that their
dependence counts, and within an entity, so that rows of one person move together.

The errors describe how much the statistic scatters around its mean at these numbers of rows.  Its
distance from that of equal distributions, which no finite table reaches, is what the control shows.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import Interval, normal

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def standard_error(influence: Floats, clusters: Codes | None = None) -> float:
    """Error of a statistic from one table's influences.

    Parameters
    ----------
    influence
        **Shape** (n_rows,): the statistic's derivative by each row's share, up to a constant.
    clusters
        **Shape** (n_rows,): equal for rows that move together; None where every row is alone.

    Returns
    -------
    float
        ``sqrt(sum over clusters of (sum of centred influences)^2) / n_rows``.

    >>> standard_error(np.array([1.0, -1.0, 1.0, -1.0]))
    0.5
    """
    centred = influence - influence.mean()
    if clusters is not None:
        centred = np.bincount(clusters, weights=centred)
    return math.sqrt(float((centred**2).sum())) / len(influence)


def interval(
    estimate: float,
    error: float,
    confidence: float,
    *,
    least: float = 0.0,
    most: float = math.inf,
) -> Interval:
    """``estimate +- z * error`` of a quantity between ``least`` and ``most``."""
    found = normal(estimate, error, confidence)
    low, high = max(found.lcb, least), min(found.ucb, most)
    return Interval(estimate, min(low, estimate), max(high, estimate))


class Scatter:
    """The error of statistics of the train and the synthetic rows, clustered by entity.

    Parameters
    ----------
    evidence
        The evidence; where its tables are absent, rows count as independent.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._real, self._other = evidence.entities("train"), evidence.entities("synthetic")

    def __call__(self, real: Floats, other: Floats) -> float:
        """From the influences of the train rows and of the synthetic rows."""
        return math.hypot(standard_error(real, self._real), standard_error(other, self._other))
