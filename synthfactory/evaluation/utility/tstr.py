"""Train on synthetic, test on real, against train on real, test on real.

Esteban et al. 2017, arXiv 1706.02633.  Two learners, gradient boosting and a linear model, are
trained on the synthetic and on the real train rows to predict the target, and judged on the same
real test rows.  Scores: AUC of two classes, mean one-against-rest AUC of more, R2 of numbers.  The
test rows are bootstrapped in pairs, so that both scores move together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, features, take
from synthfactory.evaluation.intervals import Interval, percentile
from synthfactory.evaluation.learners import boosted_classifier, boosted_regressor, few_threads
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
MAX_CLASSES = 20
MIN_PER_CLASS = 5


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


Scored = tuple[Interval, Floats]
Predict = Callable[[Encoded], Floats]


def train_learner(evidence: Evidence, learner: str, rows: Encoded, task: Task) -> Predict:
    """Train on rows; the result predicts scores, **shape** (n,) or (n, n_classes)."""
    y = answers(rows, task)
    known = ~np.isnan(y)
    rows, y = take(rows, np.flatnonzero(known)), y[known]
    seen = np.unique(y)
    if task.classes is not None and len(seen) < 2:
        # A single class teaches nothing: every score is the same, which is chance.
        return lambda queries: np.zeros((len(queries), len(task.classes or ())))
    if len(y) < 2:
        return lambda queries: np.zeros(len(queries))
    x, categorical = features(rows, task.place, evidence.schema)
    model = _make(learner, categorical, task, evidence.integer("learners"))
    model.fit(x, y)

    def predict(queries: Encoded) -> Floats:
        matrix, _ = features(queries, task.place, evidence.schema)
        if task.classes is None:
            return np.asarray(model.predict(matrix), dtype=np.float64)
        scores = np.zeros((len(queries), len(task.classes)))
        shares = model.predict_proba(matrix)
        for column, label in enumerate(model.classes_):
            scores[:, np.searchsorted(task.classes, int(label))] = shares[:, column]
        return scores

    return predict


def _make(learner: str, categorical: Any, task: Task, seed: int) -> Any:
    if learner == "gradient boosting":
        make = boosted_regressor if task.classes is None else boosted_classifier
        return make(categorical, seed)
    numbers = [place for place, is_level in enumerate(categorical) if not is_level]
    levels = [place for place, is_level in enumerate(categorical) if is_level]
    prepare = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(
                    SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
                ),
                numbers,
            ),
            ("levels", OneHotEncoder(handle_unknown="ignore", min_frequency=10), levels),
        ]
    )
    head = Ridge() if task.classes is None else LogisticRegression(max_iter=2_000, C=1.0)
    return make_pipeline(prepare, head)


def score(y: Floats, predicted: Floats, task: Task, weights: Floats | None = None) -> float:
    """AUC, mean AUC or R2, for weighted rows."""
    w = np.ones(len(y)) if weights is None else weights
    if task.classes is None:
        mean = float(np.average(y, weights=w))
        total = float((w * (y - mean) ** 2).sum())
        return 1 - float((w * (y - predicted) ** 2).sum()) / total if total > 0 else 0.0
    if len(task.classes) == 2:
        return weighted_auc(y == task.classes[1], predicted[:, 1] - predicted[:, 0], w)
    return float(
        np.mean(
            [
                weighted_auc(y == label, predicted[:, place], w)
                for place, label in enumerate(task.classes)
            ]
        )
    )


def weighted_auc(positive: npt.NDArray[np.bool_], scores: Floats, weights: Floats) -> float:
    """Area under the ROC curve, ties half; 0.5 when a class has no weight."""
    _, groups = np.unique(scores, return_inverse=True)
    up = np.bincount(groups, weights * positive)
    down = np.bincount(groups, weights * ~positive)
    if up.sum() == 0 or down.sum() == 0:
        return 0.5
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def measure(evidence: Evidence) -> tuple[list[Measurement], list[dict[str, Any]]]:
    """`utility.tstr` and `utility.retained` of gradient boosting, and all learners for the report.

    Raises
    ------
    EvaluationError
        When there is nothing to predict, or the real rows themselves teach nothing.
    """
    task = task_of(evidence)
    truth = answers(evidence.test, task)
    test = take(evidence.test, np.flatnonzero(~np.isnan(truth)))
    truth = truth[~np.isnan(truth)]
    if len(truth) < 10:
        raise EvaluationError(f"Only {len(truth)} test rows have a target; expected at least 10.")
    real = evidence.at_most(evidence.train, "utility: real rows")
    synthetic = evidence.at_most(evidence.synthetic, "utility: rows")
    chance = evidence.stream("utility: bootstrap")
    draws = [
        np.bincount(chance.integers(len(truth), size=len(truth)), minlength=len(truth)).astype(
            float
        )
        for _ in range(evidence.repeats)
    ]
    learners: list[tuple[str, Scored, Scored]] = []
    with few_threads(evidence.threads):
        for learner in ("gradient boosting", "linear"):
            pair = []
            for rows in (synthetic, real):
                predicted = train_learner(evidence, learner, rows, task)(test)
                value = score(truth, predicted, task)
                repeats = np.array([score(truth, predicted, task, draw) for draw in draws])
                pair.append((percentile(value, repeats, evidence.confidence), repeats))
            learners.append((learner, pair[0], pair[1]))
    _, (tstr, tstr_repeats), (trtr, trtr_repeats) = learners[0]
    if trtr.lcb <= task.chance:
        raise EvaluationError(
            f"Even the real rows hardly predict '{evidence.schema.target}' ({task.score_name} "
            f"{trtr.estimate:.3f}, chance {task.chance}): utility cannot be told. "
            "Choose another target."
        )
    lift = (tstr.estimate - task.chance) / (trtr.estimate - task.chance)
    lifts = (tstr_repeats - task.chance) / np.maximum(trtr_repeats - task.chance, 1e-9)
    retained = percentile(lift, lifts, evidence.confidence)
    common = {"family": "utility", "n": len(truth), "better": "higher"}
    measurements = [
        Measurement(
            id="utility.tstr",
            estimate=tstr.estimate,
            lcb=tstr.lcb,
            ucb=tstr.ucb,
            baseline=task.chance,
            control=trtr.estimate,
            unit=task.score_name,
            confidence=evidence.confidence,
            method="gradient boosting trained on synthetic rows, judged on real test rows; the "
            "control is trained on real rows",
            details={"target": evidence.schema.target, "n_test": len(truth)},
            **common,  # type: ignore[arg-type]
        ),
        Measurement(
            id="utility.retained",
            estimate=retained.estimate,
            lcb=retained.lcb,
            ucb=retained.ucb,
            baseline=0.0,
            control=1.0,
            unit="share of lift kept",
            confidence=evidence.confidence,
            method="(TSTR - chance) / (TRTR - chance), gradient boosting, paired bootstrap",
            details={"target": evidence.schema.target},
            **common,  # type: ignore[arg-type]
        ),
    ]
    bars = [
        {
            "name": learner,
            "tstr": _bounds(tstr_interval),
            "trtr": _bounds(trtr_interval),
            "chance": task.chance,
        }
        for learner, (tstr_interval, _), (trtr_interval, _) in learners
    ]
    return measurements, bars


def measure_and_draw(evidence: Evidence) -> Found:
    """The measurements, with every learner's scores for the report."""
    measurements, bars = measure(evidence)
    return Found(measurements=measurements, charts={"learners": bars})


def _bounds(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "lcb": interval.lcb, "ucb": interval.ucb}


SUITE = Suite.of(
    "utility.tstr", measure_and_draw, ids=("utility.tstr", "utility.retained"), weight=15
)
