"""Intervals: where the true value lies, given what was seen."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value and the bounds around it."""

    estimate: float
    lcb: float
    ucb: float


def z_value(confidence: float) -> float:
    """The normal quantile of a two-sided interval.

    >>> round(z_value(0.95), 3)
    1.96
    """
    return float(stats.norm.ppf(0.5 + confidence / 2))


def normal(estimate: float, error: float, confidence: float) -> Interval:
    """``estimate +- z * error``."""
    reach = z_value(confidence) * error
    return Interval(estimate, estimate - reach, estimate + reach)


def detectable(error: float, confidence: float, power: float = 0.8) -> float:
    """The smallest true difference that an interval of this error excludes with ``power``.

    Bloom 1995, https://doi.org/10.1177/0193841X9501900504: ``(z_confidence + z_power) * error``.

    >>> round(detectable(1.0, 0.95), 2)
    2.8
    """
    return (z_value(confidence) + float(stats.norm.ppf(power))) * error


def wilson(successes: float, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a proportion.

    Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    >>> tuple(round(bound, 3) for bound in wilson(0, 10, 0.95))
    (0.0, 0.0, 0.278)
    """
    z = z_value(confidence)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(
        share, min(max(0.0, centre - reach), share), max(min(1.0, centre + reach), share)
    )


def clopper_pearson(successes: int, n: int, confidence: float) -> Interval:
    """Clopper and Pearson's exact interval of a proportion.

    Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404.

    >>> tuple(round(bound, 3) for bound in clopper_pearson(0, 10, 0.95))
    (0.0, 0.0, 0.308)
    """
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.isf(tail, successes + 1, n - successes))
    return Interval(successes / n, low, high)


def newcombe(a: float, n_a: int, b: float, n_b: int, confidence: float) -> Interval:
    """Interval of the difference ``a / n_a - b / n_b`` of independent proportions.

    Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I,
    method 10.
    """
    first, second = wilson(a, n_a, confidence), wilson(b, n_b, confidence)
    difference = first.estimate - second.estimate
    below = math.hypot(first.estimate - first.lcb, second.ucb - second.estimate)
    above = math.hypot(first.ucb - first.estimate, second.estimate - second.lcb)
    return Interval(difference, difference - below, difference + above)


def clustered_mean(values: Floats, clusters: npt.NDArray[Any], confidence: float) -> Interval:
    """Mean of values that are dependent within clusters, by linearisation.

    Parameters
    ----------
    values
        **Shape** (n,).
    clusters
        **Shape** (n,): equal for values that may move together.
    """
    mean = float(values.mean())
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.bincount(numbers, weights=values - mean)
    n_clusters = len(sums)
    correction = n_clusters / max(n_clusters - 1, 1)
    error = math.sqrt(float((sums**2).sum()) * correction) / len(values)
    return normal(mean, error, confidence)


def percentile(estimate: float, repeats: Floats, confidence: float) -> Interval:
    """Bounds from the quantiles of bootstrap repeats, widened to hold the estimate."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(repeats, [tail, 1 - tail])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
