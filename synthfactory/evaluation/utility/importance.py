"""Does a model of the synthetic rows look at the same columns as a model of the real rows?

Permutation importance (Breiman 2001, https://doi.org/10.1023/A:1010933404324; Fisher, Rudin and
Dominici 2019, https://jmlr.org/papers/v20/18-760.html, equation 3.3): how much the loss on the real
test rows grows when one column is shuffled.  The loss is Brier's quadratic score of classes (1950)
or the squared error of numbers: both are means over rows, so that resampled rows give resampled
importances without predicting again.

The agreement is the overlap of the two models' importances, each as shares of its sum:
``sum_f min(p_f, q_f)``, one minus their total variation distance.  Columns without influence, whose
ranks are noise, do not count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.learners import BOOSTING
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.utility.results import FRESH, REAL, SYNTHETIC, Results
from synthfactory.evaluation.utility.scores import Scored, draws
from synthfactory.evaluation.utility.task import Foretell, Rows, Task

Floats = npt.NDArray[np.float64]

ID = "utility.feature_importance"
MAX_ROWS = 5_000
MAX_SHUFFLES = 5
MAX_PREDICTIONS = 250
N_SHOWN = 10


def losses(
    evidence: Evidence, test: Rows, task: Task, foretell: Foretell
) -> npt.NDArray[np.float32]:
    """How much each test row's loss grows when a feature is shuffled.

    The mean of 1 to 5 shuffles, the same ones for every model; fewer where there are many features.

    Returns
    -------
    array
        **Shape** (n, n_features), of at most the first 5,000 test rows.
    """
    n, n_features = min(len(test), MAX_ROWS), test.x.shape[1]
    x, y = test.x[:n], test.y[:n]
    n_shuffles = int(np.clip(MAX_PREDICTIONS // n_features, 1, MAX_SHUFFLES))
    chance = evidence.stream("utility: shuffles")
    orders = [chance.permutation(n) for _ in range(n_shuffles)]
    before = loss(y, foretell(x), task)
    grown = np.zeros((n, n_features), dtype=np.float32)
    for feature in range(n_features):
        for order in orders:
            moved = x.copy()
            moved[:, feature] = x[order, feature]
            grown[:, feature] += loss(y, foretell(moved), task) - before
    grown /= n_shuffles
    return grown


def loss(truth: Floats, predicted: Floats, task: Task) -> Floats:
    """**Shape** (n,): Brier's score of each row, or its squared error by the answers' variance."""
    if task.classes is None:
        return np.asarray((truth - predicted) ** 2 / (float(np.var(truth)) or 1.0))
    errors = predicted - (truth[:, None] == task.classes)
    return np.asarray(np.einsum("nk,nk->n", errors, errors))


def shares(weights: Floats, grown: npt.NDArray[np.float32]) -> Floats:
    """Importances as shares of their sum under each row of weights.

    Parameters
    ----------
    weights
        **Shape** (n_draws, n).
    grown
        **Shape** (n, n_features); see `losses`.

    Returns
    -------
    Floats
        **Shape** (n_draws, n_features); all 0 where no feature matters.
    """
    sums = np.maximum(weights @ grown.astype(np.float64), 0.0)
    totals = sums.sum(axis=1, keepdims=True)
    return np.where(totals > 0, sums / np.where(totals > 0, totals, 1.0), 0.0)


def overlap(p: Floats, q: Floats) -> Floats:
    """``sum_f min(p_f, q_f)`` along the last axis.

    >>> float(overlap(np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.2, 0.3])))
    0.7
    """
    return np.asarray(np.minimum(p, q).sum(axis=-1), dtype=np.float64)


def agreement(
    evidence: Evidence,
    ours: npt.NDArray[np.float32],
    real: npt.NDArray[np.float32],
    persons: npt.NDArray[np.int64] | None = None,
) -> Scored:
    """The overlap of two models' importances, and on each draw of the rows or of the persons."""
    once, n = np.ones((1, len(real))), len(real)
    if persons is not None:
        persons = np.unique(persons[:n], return_inverse=True)[1]
    repeats = [
        overlap(shares(block, ours), shares(block, real)) for block in draws(evidence, n, persons)
    ]
    return Scored(
        estimate=float(overlap(shares(once, ours), shares(once, real))[0]),
        repeats=np.concatenate(repeats),
    )


def measure(found: Results) -> Measurement:
    """The overlap of importances; the baseline is a model to which all columns matter alike."""
    evidence = found.evidence
    synthetic, real, fresh = (
        _known(found.trained[BOOSTING, source].losses) for source in (SYNTHETIC, REAL, FRESH)
    )
    agreed = agreement(evidence, synthetic, real, found.test.persons)
    interval = agreed.interval(evidence.confidence)
    once = np.ones((1, len(real)))
    p, q = shares(once, synthetic)[0], shares(once, real)[0]
    names = [name for place, name in enumerate(evidence.names) if place != found.task.place]
    shown = np.argsort(-q, kind="stable")[:N_SHOWN]
    return Measurement(
        id=ID,
        family="utility",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(real),
        baseline=float(overlap(np.full_like(q, 1 / len(q)), q)),
        control=agreement(evidence, fresh, real).estimate,
        unit="share of importance",
        better="higher",
        confidence=evidence.confidence,
        method="overlap of the permutation importances (growth of Brier's score, or of the squared "
        "error, on real test rows) of gradient boosting trained on synthetic and on real rows, "
        "paired bootstrap of the test rows",
        details={
            "target": evidence.schema.target,
            "columns": [
                {"name": names[place], "real": float(q[place]), "synthetic": float(p[place])}
                for place in shown
            ],
        },
    )


def _known(grown: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    assert grown is not None, "gradient boosting on a single table has its losses"
    return grown
