"""The utility suite: every learner trained once, and what its predictions say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.evaluation.utility import (
    augmentation,
    fairness,
    importance,
    models,
    ranks,
    tstr,
)
from synthfactory.evaluation.utility.results import Results, judged
from synthfactory.evaluation.utility.task import Task, task_of, test_rows

Measure = Callable[[Results], Measurement]

MEASURES: Mapping[str, Measure] = {
    tstr.TSTR: tstr.measure,
    tstr.RETAINED: tstr.measure_retained,
    tstr.RETAINED_MEAN: tstr.measure_retained_mean,
    ranks.ID: ranks.measure,
    importance.ID: importance.measure,
    augmentation.ID: augmentation.measure,
}
WHERE_GROUPS_ARE_DECLARED: Mapping[str, Measure] = {fairness.ID: fairness.measure}


def pieces(evidence: Evidence) -> Sequence[str]:
    """A piece for every model; none where there is nothing to predict."""
    try:
        test_rows(evidence, task_of(evidence))
    except EvaluationError:
        return ()
    return [models.name_of(model) for model in models.models()]


def conclude(evidence: Evidence, made: Mapping[str, Any]) -> Found:
    """Every measurement; what cannot be made is named with its reason."""
    try:
        task = task_of(evidence)
    except EvaluationError as error:
        return Found(failures=dict.fromkeys(asked(evidence, None), str(error)))
    wanted = asked(evidence, task)
    try:
        test_rows(evidence, task)
        trained = {model: made[models.name_of(model)] for model in models.models()}
        results = judged(evidence, trained)
    except EvaluationError as error:
        return Found(failures=dict.fromkeys(wanted, str(error)))
    measurements, failures = [], {}
    for name, measure in wanted.items():
        try:
            measurements.append(measure(results))
        except EvaluationError as error:
            failures[name] = str(error)
    return Found(
        measurements=measurements, failures=failures, charts={"learners": tstr.bars(results)}
    )


def asked(evidence: Evidence, task: Task | None) -> dict[str, Measure]:
    """Which measurements this table asks for; fairness only where groups of people are declared.

    Parameters
    ----------
    evidence
        The evidence.
    task
        What is predicted; None where that cannot be told.
    """
    fair = (
        bool(fairness.attributes_of(evidence))
        if task is None
        else fairness.is_assessed(evidence, task)
    )
    return {**MEASURES, **(WHERE_GROUPS_ARE_DECLARED if fair else {})}


SUITE = Suite(
    name="utility",
    ids=tuple(MEASURES),
    pieces=pieces,
    work=models.work,
    conclude=conclude,
    weight=30,
)
