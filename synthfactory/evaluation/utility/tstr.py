"""Train on synthetic, test on real, against train on real, test on real.

Esteban et al. 2017, arXiv 1706.02633.  Learners are trained on the synthetic and on the real train
rows to predict the target, and judged on the same real test rows.  Scores: AUC of two classes, mean
one-against-rest AUC of more, R2 of numbers.  The test rows are bootstrapped in pairs, so that both
scores move together.  The interval speaks about other test people, not about other training runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.learners import BOOSTING, LEARNERS
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.utility.results import FRESH, REAL, SYNTHETIC, Results
from synthfactory.evaluation.utility.scores import Scored, bounds

TSTR = "utility.tstr"
RETAINED = "utility.retained"
RETAINED_MEAN = "utility.retained_mean"
LEAST_LIFT = 1e-9


def retained(found: Results, learner: str, source: str) -> Scored:
    """``(TSTR - chance) / (TRTR - chance)`` of one learner."""
    ours, real = found.lift(learner, source), found.lift(learner, REAL)
    return Scored(
        estimate=ours.estimate / max(real.estimate, LEAST_LIFT),
        repeats=ours.repeats / np.maximum(real.repeats, LEAST_LIFT),
    )


def able(found: Results) -> list[str]:
    """The learners that predict better than chance when they are trained on the real rows."""
    confidence = found.evidence.confidence
    return [
        learner for learner in LEARNERS if found.lift(learner, REAL).interval(confidence).lcb > 0
    ]


def retained_mean(found: Results, source: str) -> Scored:
    """The mean of `retained` over the learners that are `able`.

    Raises
    ------
    EvaluationError
        When there is none.
    """
    each = [retained(found, learner, source) for learner in able(found)]
    if not each:
        raise EvaluationError(
            f"No learner predicts '{found.evidence.schema.target}' from real rows better than "
            "chance: utility cannot be told. Choose another target."
        )
    return Scored(
        estimate=float(np.mean([one.estimate for one in each])),
        repeats=np.mean([one.repeats for one in each], axis=0),
    )


def measure(found: Results) -> Measurement:
    """The score of gradient boosting; the control is trained on real rows."""
    evidence, task = found.evidence, found.task
    interval = found.scored[BOOSTING, SYNTHETIC].interval(evidence.confidence)
    return Measurement(
        id=TSTR,
        family="utility",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(found.test),
        baseline=task.chance,
        control=found.scored[BOOSTING, REAL].estimate,
        unit=task.score_name,
        better="higher",
        confidence=evidence.confidence,
        method="gradient boosting trained on synthetic rows, judged on real test rows; the "
        "control is trained on real rows",
        details={"n_test": len(found.test), **trained_on(found)},
    )


def measure_retained(found: Results) -> Measurement:
    """The lift that gradient boosting keeps; the control is trained on fresh real rows."""
    return _share(
        found,
        RETAINED,
        retained(found, BOOSTING, SYNTHETIC),
        retained(found, BOOSTING, FRESH),
        "(TSTR - chance) / (TRTR - chance), gradient boosting, paired bootstrap; the control is "
        "trained on fresh real rows",
        {},
    )


def measure_retained_mean(found: Results) -> Measurement:
    """The lift that learners keep on average."""
    chosen = able(found)
    return _share(
        found,
        RETAINED_MEAN,
        retained_mean(found, SYNTHETIC),
        retained_mean(found, FRESH),
        "mean of (TSTR - chance) / (TRTR - chance) over the learners that predict better than "
        "chance after training on real rows, paired bootstrap; the control is trained on fresh "
        "real rows",
        {"learners": {name: retained(found, name, SYNTHETIC).estimate for name in chosen}},
    )


def _share(
    found: Results, name: str, kept: Scored, fresh: Scored, method: str, details: dict[str, Any]
) -> Measurement:
    evidence = found.evidence
    interval = kept.interval(evidence.confidence)
    return Measurement(
        id=name,
        family="utility",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(found.test),
        baseline=0.0,
        control=fresh.estimate,
        unit="share of lift kept",
        better="higher",
        confidence=evidence.confidence,
        method=method,
        details={**trained_on(found), **details},
    )


def trained_on(found: Results) -> dict[str, Any]:
    """The target, and how many rows were trained on."""
    return {
        "target": found.evidence.schema.target,
        "n_synthetic": found.trained[BOOSTING, SYNTHETIC].n_rows,
        "n_real": found.trained[BOOSTING, REAL].n_rows,
        "n_fresh": found.trained[BOOSTING, FRESH].n_rows,
    }


def bars(found: Results) -> list[dict[str, Any]]:
    """Every learner's scores for the report."""
    confidence = found.evidence.confidence
    return [
        {
            "name": learner,
            "tstr": bounds(found.scored[learner, SYNTHETIC].interval(confidence)),
            "trtr": bounds(found.scored[learner, REAL].interval(confidence)),
            "chance": found.task.chance,
        }
        for learner in LEARNERS
    ]
