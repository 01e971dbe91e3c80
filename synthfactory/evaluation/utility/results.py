"""What remains of the trained models: their predictions and scores on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.learners import BOOSTING
from synthfactory.evaluation.utility.scores import Scored, judge
from synthfactory.evaluation.utility.task import Rows, Task, task_of, test_rows

Floats = npt.NDArray[np.float64]

SYNTHETIC = "synthetic rows"
REAL = "real rows"
FRESH = "fresh real rows"
WITH_SYNTHETIC = "real and synthetic rows"
WITH_FRESH = "real and fresh rows"
ALONE = (SYNTHETIC, REAL, FRESH)
TOGETHER = {WITH_SYNTHETIC: SYNTHETIC, WITH_FRESH: FRESH}

Model = tuple[str, str]
"""A learner, and the rows that it was trained on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What remains of a trained model.

    Parameters
    ----------
    predicted
        **Shape** (n_test,) numbers or (n_test, n_classes) probabilities for the test rows.
    n_rows
        Rows that it was trained on.
    losses
        Of gradient boosting: what each feature is worth on single test rows; see `importance`.
    """

    predicted: Floats
    n_rows: int
    losses: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Every model's predictions and scores on the same test rows."""

    evidence: Evidence
    task: Task
    test: Rows
    trained: Mapping[Model, Trained]
    scored: Mapping[Model, Scored]

    def lift(self, learner: str, source: str) -> Scored:
        """How much better than chance a model is."""
        score = self.scored[learner, source]
        return Scored(
            estimate=score.estimate - self.task.chance, repeats=score.repeats - self.task.chance
        )


def judged(evidence: Evidence, trained: Mapping[Model, Trained]) -> Results:
    """The scores of all models.

    Raises
    ------
    EvaluationError
        When the real rows themselves teach nothing.
    """
    task = task_of(evidence)
    test = test_rows(evidence, task)
    predictions = {model: found.predicted for model, found in trained.items()}
    scored = judge(evidence, test.y, predictions, task, test.persons)
    real = scored[BOOSTING, REAL].interval(evidence.confidence)
    if real.lcb <= task.chance:
        raise EvaluationError(
            f"Even the real rows hardly predict '{evidence.schema.target}' ({task.score_name} "
            f"{real.estimate:.3f}, chance {task.chance}): utility cannot be told. "
            "Choose another target."
        )
    return Results(evidence=evidence, task=task, test=test, trained=trained, scored=scored)
