"""What is predicted from what: the target, its test rows, and the rows that learners train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, features, take
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Foretell = Callable[[Floats], Floats]
"""From features, **shape** (n, n_features), to numbers (n,) or probabilities (n, n_classes)."""

MAX_CLASSES = 20
MIN_PER_CLASS = 5
MIN_TEST = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is predicted: the target's place, and its classes when it has any."""

    place: int
    classes: npt.NDArray[np.int64] | None

    @property
    def chance(self) -> float:
        """The score of guessing."""
        return 0.0 if self.classes is None else 0.5

    @property
    def score_name(self) -> str:
        """What the scores are."""
        if self.classes is None:
            return "R2"
        return "AUC" if len(self.classes) == 2 else "mean one-against-rest AUC"


def task_of(evidence: Evidence) -> Task:
    """The task that the schema's target sets.

    Raises
    ------
    EvaluationError
        When no target is declared, or it has one class or too few rows of a class.
    """
    target = evidence.schema.target
    if target is None:
        raise EvaluationError(
            "No target is declared, so nothing can be predicted; declare dataset.target."
        )
    place = evidence.names.index(target)
    n_numeric = evidence.train.numbers.shape[1]
    if place < n_numeric:
        return Task(place=place, classes=None)
    column = evidence.schema.column(target)
    counts = np.bincount(
        evidence.test.codes[:, place - n_numeric], minlength=len(column.categories) + 1
    )[: len(column.categories)]
    if column.kind == "ordinal" and len(column.categories) > MAX_CLASSES:
        return Task(place=place, classes=None)
    usual = np.flatnonzero((counts >= MIN_PER_CLASS) & (counts < counts.sum()))
    usual = np.sort(usual[np.argsort(-counts[usual], kind="stable")[:MAX_CLASSES]])
    if len(usual) < 2:
        raise EvaluationError(
            f"The target '{target}' has fewer than two classes with {MIN_PER_CLASS} test rows each."
        )
    return Task(place=place, classes=usual)


def answers(rows: Encoded, task: Task) -> Floats:
    """The target of every row; NaN where it is missing, or of a class that does not count."""
    n_numeric = rows.numbers.shape[1]
    if task.place < n_numeric:
        return rows.numbers[:, task.place]
    codes = rows.codes[:, task.place - n_numeric]
    if task.classes is None:
        return codes.astype(np.float64)
    return np.where(np.isin(codes, task.classes), codes, np.nan).astype(np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows whose answer is known, as a learner takes them.

    Parameters
    ----------
    rows
        The rows.
    x
        **Shape** (n, n_features); see `features`.
    y
        **Shape** (n,): codes of classes, or numbers.
    categorical
        **Shape** (n_features,): which features are codes of levels.
    persons
        **Shape** (n,): numbers from 0 on, equal for rows of one person; None where every row is
        alone.
    """

    rows: Encoded
    x: Floats
    y: Floats
    categorical: Sequence[bool]
    persons: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(
        cls,
        evidence: Evidence,
        rows: Encoded,
        task: Task,
        persons: npt.NDArray[np.int64] | None = None,
    ) -> Rows:
        """The rows of which the answer is known, and whose they are."""
        y = answers(rows, task)
        known = np.flatnonzero(~np.isnan(y))
        rows = take(rows, known)
        x, categorical = features(rows, task.place, evidence.schema)
        if persons is not None:
            persons = np.unique(persons[known], return_inverse=True)[1]
        return cls(rows=rows, x=x, y=y[known], categorical=categorical, persons=persons)


def test_rows(evidence: Evidence, task: Task) -> Rows:
    """The real rows on which every learner is judged: at most ``max_rows`` of the test rows.

    Raises
    ------
    EvaluationError
        When fewer than 10 have an answer.
    """
    places = evidence.places_at_most(len(evidence.test), "utility: test rows")
    persons = evidence.entities("test")
    rows = Rows.of(
        evidence,
        take(evidence.test, places),
        task,
        None if persons is None else persons[places],
    )
    if len(rows) < MIN_TEST:
        raise EvaluationError(
            f"Only {len(rows)} test rows have a target; expected at least {MIN_TEST}."
        )
    return rows
