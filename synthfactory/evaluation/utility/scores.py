"""How good predictions are, on the same resampled test rows for every model.

Resampling the test rows in pairs lets the scores of two models move together, so that their
difference and ratio have the interval of a difference and a ratio (Efron and Tibshirani 1993,
https://doi.org/10.1201/9780429246593, chapter 8).  Predictions are sorted once, not once per draw.
Where an entity is declared, whole persons are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import Interval, percentile, row_weights
from synthfactory.evaluation.utility.task import Task

Floats = npt.NDArray[np.float64]
BLOCK_CELLS = 4_000_000
Name = TypeVar("Name")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A score, and the same score on each draw of the test rows, **shape** (repeats,)."""

    estimate: float
    repeats: Floats

    def interval(self, confidence: float) -> Interval:
        """The score between the quantiles of its draws."""
        return percentile(self.estimate, self.repeats, confidence)


def draws(
    evidence: Evidence, n: int, persons: npt.NDArray[np.int64] | None = None
) -> Iterator[Floats]:
    """How often each of ``n`` test rows is drawn, in blocks of **shape** (some repeats, n).

    Whoever asks gets the same draws, so that everything which is judged on them is paired.

    Parameters
    ----------
    persons
        **Shape** (n,): whose each row is (`Rows.persons`); None where every row is alone.
    """
    chance = evidence.stream("utility: bootstrap")
    at_once = max(1, BLOCK_CELLS // n)
    for first in range(0, evidence.repeats, at_once):
        n_draws = min(at_once, evidence.repeats - first)
        yield np.stack([row_weights(n, chance, persons) for _ in range(n_draws)])


def judge(
    evidence: Evidence,
    truth: Floats,
    predictions: Mapping[Name, Floats],
    task: Task,
    persons: npt.NDArray[np.int64] | None = None,
) -> dict[Name, Scored]:
    """The score of each model's predictions for the test rows.

    Parameters
    ----------
    evidence
        Gives the draws.
    truth
        **Shape** (n,): the answers.
    predictions
        **Shape** (n,) or (n, n_classes) each; see `scores`.
    persons
        As in `draws`.
    """
    once = np.ones((1, len(truth)))
    repeats: dict[Name, list[Floats]] = {name: [] for name in predictions}
    for block in draws(evidence, len(truth), persons):
        for name, predicted in predictions.items():
            repeats[name].append(scores(truth, predicted, task, block))
    return {
        name: Scored(
            estimate=float(scores(truth, predicted, task, once)[0]),
            repeats=np.concatenate(repeats[name]),
        )
        for name, predicted in predictions.items()
    }


def scores(truth: Floats, predicted: Floats, task: Task, weights: Floats) -> Floats:
    """AUC, mean one-against-rest AUC or R2 under each row of weights.

    Parameters
    ----------
    truth
        **Shape** (n,).
    predicted
        **Shape** (n,) numbers, or (n, n_classes) probabilities.
    task
        Whose classes these are.
    weights
        **Shape** (n_draws, n).

    Returns
    -------
    Floats
        **Shape** (n_draws,).
    """
    if task.classes is None:
        return r2(truth, predicted, weights)
    if len(task.classes) == 2:
        return auc(truth == task.classes[1], predicted[:, 1] - predicted[:, 0], weights)
    each = [
        auc(truth == label, predicted[:, place], weights)
        for place, label in enumerate(task.classes)
    ]
    return np.asarray(np.mean(each, axis=0))


def r2(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """``1 - sum w (y - f)^2 / sum w (y - mean)^2``; 0 where all answers are the same."""
    centred = truth - truth.mean()
    sizes = weights.sum(axis=1)
    total = weights @ centred**2 - (weights @ centred) ** 2 / sizes
    lost = weights @ (truth - predicted) ** 2
    varies = total > 1e-12 * sizes * max(float(np.var(truth)), np.finfo(np.float64).tiny)
    return np.where(varies, 1 - lost / np.where(varies, total, 1.0), 0.0)


def auc(positive: npt.NDArray[np.bool_], predicted: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve, ties half; 0.5 where a class has no weight.

    Of each positive row the weight of the negative rows below it is read from one cumulative sum
    over the sorted negative rows.

    Parameters
    ----------
    positive
        **Shape** (n,).
    predicted
        **Shape** (n,).
    weights
        **Shape** (n_draws, n).

    Returns
    -------
    Floats
        **Shape** (n_draws,).
    """
    order = np.argsort(predicted, kind="stable")
    up, down = order[positive[order]], order[~positive[order]]
    below = np.zeros((len(weights), len(down) + 1))
    np.cumsum(weights[:, down], axis=1, out=below[:, 1:])
    first = np.searchsorted(predicted[down], predicted[up], side="left")
    last = np.searchsorted(predicted[down], predicted[up], side="right")
    mine = weights[:, up]
    won = np.einsum("ru,ru->r", mine, below[:, first] + below[:, last]) / 2
    pairs = mine.sum(axis=1) * below[:, -1]
    return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1.0), 0.5)


def bounds(interval: Interval) -> dict[str, Any]:
    """An interval as JSON-able values."""
    return {"estimate": interval.estimate, "lcb": interval.lcb, "ucb": interval.ucb}
