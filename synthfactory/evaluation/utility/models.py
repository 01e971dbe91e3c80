"""Which learners are trained on which rows: the pieces of the utility suite.

Every learner is trained on three tables of their own: the synthetic rows, the real train rows, and
fresh real rows (the control part), which nobody trained on.  What fresh rows give in the place of
the synthetic ones is the noise ceiling.  Gradient boosting is trained on real and synthetic, and
on real and fresh rows too, for augmentation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.learners import (
    BOOSTING,
    LEARNERS,
    few_threads,
    predicted,
    train,
)
from synthfactory.evaluation.utility import importance
from synthfactory.evaluation.utility.results import (
    ALONE,
    FRESH,
    REAL,
    SYNTHETIC,
    TOGETHER,
    Model,
    Trained,
)
from synthfactory.evaluation.utility.task import Foretell, Rows, Task, task_of, test_rows
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]


def models() -> list[Model]:
    """Every model of the suite."""
    return [
        *((learner, source) for learner in LEARNERS for source in ALONE),
        *((BOOSTING, source) for source in TOGETHER),
    ]


def name_of(model: Model) -> str:
    """The name of a model's piece."""
    return f"{model[0]}, {model[1]}"


def rows_of(evidence: Evidence, source: str) -> Encoded:
    """The rows that are trained on: at most ``max_rows`` of each table."""
    if source in TOGETHER:
        parts = [rows_of(evidence, part) for part in (REAL, TOGETHER[source])]
        return Encoded(
            numbers=np.concatenate([part.numbers for part in parts]),
            codes=np.concatenate([part.codes for part in parts]),
        )
    tables = {SYNTHETIC: evidence.synthetic, REAL: evidence.train, FRESH: evidence.control}
    return evidence.at_most(tables[source], f"utility: {source}")


def work(evidence: Evidence, piece: str) -> Trained:
    """Train one model and let it predict the test rows."""
    (learner, source) = next(model for model in models() if name_of(model) == piece)
    task = task_of(evidence)
    test = test_rows(evidence, task)
    rows = Rows.of(evidence, rows_of(evidence, source), task)
    with few_threads(1):
        foretell = fit(learner, rows, task, evidence.integer("learners"))
        losses = None
        if learner == BOOSTING and source in ALONE:
            losses = importance.losses(evidence, test, task, foretell)
        return Trained(predicted=foretell(test.x), n_rows=len(rows), losses=losses)


def fit(learner: str, rows: Rows, task: Task, seed: int) -> Foretell:
    """Train on rows; the result gives numbers (n,), or a probability of each class (n, n_classes).

    Rows of a single class teach that everything is of that class; without any answer nothing is
    known.  Numbers stay within the range of the answers that were seen.
    """
    classes = task.classes
    seen = np.unique(rows.y)
    if len(seen) < 2:
        return lambda x: _certain(seen, task, len(x))
    model = train(
        learner,
        rows.x,
        rows.y,
        classes=classes is not None,
        categorical=rows.categorical,
        seed=seed,
    )
    if classes is None:
        return lambda x: np.clip(predicted(model, x, classes=False), seen[0], seen[-1])

    def foretell(x: Floats) -> Floats:
        shares = np.zeros((len(x), len(classes)))
        shares[:, np.searchsorted(classes, seen.astype(np.int64))] = predicted(
            model, x, classes=True
        )
        return shares

    return foretell


def _certain(seen: Floats, task: Task, n: int) -> Floats:
    if task.classes is None:
        return np.full(n, seen[0] if len(seen) else 0.0)
    return np.repeat([np.isin(task.classes, seen).astype(np.float64)], n, axis=0)
