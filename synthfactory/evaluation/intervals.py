"""Intervals: where the true value lies, given what was seen."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

# Repeats beyond a quantile, below which it is no longer told by them.
MIN_BEYOND = 2.0


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


def wilson(successes: float, n: float, confidence: float) -> Interval:
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


def clopper_pearson(successes: float, n: float, confidence: float) -> Interval:
    """Clopper and Pearson's exact interval of a proportion; counts need not be whole.

    Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404.

    >>> tuple(round(bound, 3) for bound in clopper_pearson(0, 10, 0.95))
    (0.0, 0.0, 0.308)
    """
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.isf(tail, successes + 1, n - successes))
    return Interval(successes / n, low, high)


def newcombe(a: float, n_a: float, b: float, n_b: float, confidence: float) -> Interval:
    """Interval of the difference ``a / n_a - b / n_b`` of independent proportions.

    Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I,
    method 10.
    """
    first, second = wilson(a, n_a, confidence), wilson(b, n_b, confidence)
    difference = first.estimate - second.estimate
    below = math.hypot(first.estimate - first.lcb, second.ucb - second.estimate)
    above = math.hypot(first.ucb - first.estimate, second.estimate - second.lcb)
    return Interval(difference, difference - below, difference + above)


def clustered_error(values: Floats, clusters: npt.NDArray[Any]) -> float:
    """Standard error of the mean of values that are dependent within clusters, by linearisation.

    Parameters
    ----------
    values
        **Shape** (n,).
    clusters
        **Shape** (n,): equal for values that may move together.

    >>> clustered_error(np.array([1.0, 1.0, -1.0, -1.0]), np.array([0, 0, 1, 1]))
    1.0
    """
    _, numbers = np.unique(clusters, return_inverse=True)
    sums = np.bincount(numbers, weights=values - values.mean())
    correction = len(sums) / max(len(sums) - 1, 1)
    return math.sqrt(float((sums**2).sum()) * correction) / len(values)


def mean_variance(values: Floats, clusters: npt.NDArray[Any] | None) -> float:
    """Variance of the mean; ``clusters`` is None where every value is alone."""
    if clusters is None:
        return float(np.var(values, ddof=1)) / len(values)
    return clustered_error(values, clusters) ** 2


def effective_size(values: Floats, clusters: npt.NDArray[Any] | None) -> float:
    """How many independent values would have a mean of the same variance; at most all of them.

    The number of values by their design effect, which is the variance of their mean by what it
    would be were all independent (Kish 1965, *Survey Sampling*, p. 258).  Both variances are
    estimated without bias, so values that are all alone count as all.  Where no cluster differs
    from another, how much they vary cannot be seen, and each counts once.

    Parameters
    ----------
    values
        **Shape** (n,).
    clusters
        **Shape** (n,): equal for values that may move together; None where every value is alone.

    >>> effective_size(np.array([1.0, 1.0, 0.0, 0.0] * 9), np.repeat(np.arange(18), 2))
    17.485714285714284
    >>> effective_size(np.array([1.0, 0.0] * 18), np.arange(36)), effective_size(
    ...     np.ones(36), np.repeat(np.arange(18), 2))
    (36.0, 18.0)
    """
    n = float(len(values))
    if clusters is None or len(values) == 0:
        return n
    variance = mean_variance(values, clusters)
    if variance > 0:
        return min(mean_variance(values, None) * n / variance, n)
    return float(len(np.unique(clusters)))


def percentile(estimate: float, repeats: Floats, confidence: float) -> Interval:
    """Bounds from the quantiles of bootstrap repeats, widened to hold the estimate.

    Quantiles so far out that hardly a repeat lies beyond them are those of a normal distribution
    with the repeats' spread.
    """
    tail = (1 - confidence) / 2
    if tail * len(repeats) < MIN_BEYOND:
        return normal(estimate, float(np.std(repeats, ddof=1)), confidence)
    low, high = np.quantile(repeats, [tail, 1 - tail])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def row_weights(
    n: int, chance: np.random.Generator, clusters: npt.NDArray[np.int64] | None = None
) -> Floats:
    """How often each of n rows is drawn when n rows are drawn with replacement.

    Parameters
    ----------
    clusters
        **Shape** (n,), numbered from 0 on: whole clusters are drawn, as many as there are (Davison
        and Hinkley 1997, https://doi.org/10.1017/CBO9780511802843, section 3.8).
    """
    if clusters is None:
        return np.bincount(chance.integers(n, size=n), minlength=n).astype(np.float64)
    return row_weights(int(clusters.max()) + 1, chance)[clusters]
