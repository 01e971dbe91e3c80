"""How well scores tell two sorts of rows apart: the area under the ROC curve, and its low end.

An attack that is right about few people for certain is worse for them than one that is a little
right about all: so the true positive rate at a small false positive rate stands beside the area
(Carlini et al. 2022, arXiv 2112.03570, section III).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import ALONE, Sides
from synthfactory.evaluation.intervals import (
    Interval,
    clopper_pearson,
    effective_size,
    mean_variance,
    normal,
)

Floats = npt.NDArray[np.float64]

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)
LEAST_STRANGERS = 10


def auc(
    positive: Floats,
    negative: Floats,
    *,
    positive_groups: npt.NDArray[Any] | None = None,
    negative_groups: npt.NDArray[Any] | None = None,
) -> tuple[float, float]:
    """Area under the ROC curve and its standard error, by placements.

    DeLong et al. 1988, https://doi.org/10.2307/2531595; with groups, whose rows may depend on each
    other, Obuchowski 1997, https://doi.org/10.2307/2533958, for groups on one side only.  Where all
    pairs are in order, each side's variance is held at that of one row half wrong, so that no
    interval has width 0.

    Parameters
    ----------
    positive, negative
        **Shape** (n,) each: scores; ties count half.
    positive_groups, negative_groups
        **Shape** (n,) each: equal for rows of one person; None where each row is alone.
    """
    wins = placements(positive, negative)
    losses = 1 - placements(negative, positive)
    variance = _mean_variance(wins, positive_groups) + _mean_variance(losses, negative_groups)
    return float(wins.mean()), math.sqrt(variance)


def placements(values: Floats, others: Floats) -> Floats:
    """**Shape** (n,): for each value the share of ``others`` that is smaller, ties half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    up_to = np.searchsorted(ordered, values, side="right")
    shares: Floats = (below + up_to) / (2 * len(ordered))
    return shares


def _mean_variance(values: Floats, groups: npt.NDArray[Any] | None) -> float:
    """Variance of the mean; of single rows at least that of one row half wrong."""
    variance = mean_variance(values, groups)
    return variance if groups is not None else max(variance, 0.25 / len(values) ** 2)


def auc_interval(value: float, error: float, n: int, confidence: float) -> tuple[Interval, float]:
    """Interval of an area, within 0 and 1, and the error behind it.

    Scores that separate perfectly, or that are all equal, have no variance among the rows that were
    seen; half a row of the smaller side, ``0.5 / n``, is the least error.
    """
    least = max(error, 0.5 / n)
    found = normal(value, least, confidence)
    return Interval(value, max(found.lcb, 0.0), min(found.ucb, 1.0)), least


def rate_at(
    members: Floats, strangers: Floats, fpr: float, confidence: float, whose: Sides = ALONE
) -> dict[str, Any]:
    """True positive rate where at most a share ``fpr`` of the strangers scores higher.

    Parameters
    ----------
    members, strangers
        **Shape** (n,) each.
    fpr
        The false positive rate; it needs ``10 / fpr`` people who are strangers.
    confidence
        Of Clopper and Pearson's interval of the rate at the threshold that was found; the error of
        the threshold itself is not in it.
    whose
        Whose each row is: rows of one person are recognised together.

    Returns
    -------
    dict
        ``tpr``, ``lcb``, ``ucb``, ``n``; or ``tpr`` None and ``why``.
    """
    needed = math.ceil(LEAST_STRANGERS / fpr)
    n_strangers = len(strangers if whose.strangers is None else np.unique(whose.strangers))
    if n_strangers < needed:
        why = f"needs {needed:,} people who are no members, there are {n_strangers:,}"
        return {"fpr": fpr, "tpr": None, "lcb": None, "ucb": None, "why": why}
    allowed = int(fpr * len(strangers))
    threshold = np.sort(strangers)[len(strangers) - allowed - 1]
    hits = members > threshold
    n = effective_size(hits.astype(np.float64), whose.members)
    found = clopper_pearson(min(float(hits.sum()) * (n / len(hits)), n), n, confidence)
    return {
        "fpr": fpr,
        "tpr": found.estimate,
        "lcb": found.lcb,
        "ucb": found.ucb,
        "n": len(members),
    }


def rates(
    members: Floats, strangers: Floats, confidence: float, whose: Sides = ALONE
) -> dict[str, Any]:
    """True positive rates at 0.1 %, 1 % and 10 %, and the balanced accuracy at the median."""
    both = float(np.median(np.concatenate([members, strangers])))
    right = float((members > both).mean()), float((strangers <= both).mean())
    found: dict[str, Any] = {
        f"tpr_at_{fpr:g}": rate_at(members, strangers, fpr, confidence, whose)
        for fpr in FALSE_POSITIVE_RATES
    }
    return {**found, "balanced_accuracy": sum(right) / 2}
