"""Two-sample test: how well does a trained judge tell synthetic from real rows?

Lopez-Paz and Oquab 2017, arXiv 1610.06545, with gradient boosting and out-of-fold scores.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedKFold

from synthfactory.evaluation.evidence import Evidence, features, take
from synthfactory.evaluation.intervals import normal
from synthfactory.evaluation.learners import boosted_classifier, few_threads
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.roc import auc
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

N_FOLDS = 3


def told_apart(evidence: Evidence, real: Encoded, other: Encoded) -> tuple[float, float]:
    """Out-of-fold AUC of real against other rows, and its error."""
    n = min(len(real), len(other), evidence.max_rows // 2)
    chance = evidence.stream("two samples")
    sides = [take(rows, chance.permutation(len(rows))[:n]) for rows in (real, other)]
    matrices = [features(rows, None, evidence.schema) for rows in sides]
    x = np.vstack([matrix for matrix, _ in matrices])
    y = np.repeat([0, 1], n)
    scores = np.empty(2 * n)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=evidence.integer("folds"))
    for fit, held in folds.split(x, y):
        judge = boosted_classifier(matrices[0][1], evidence.integer("judge"))
        scores[held] = judge.fit(x[fit], y[fit]).decision_function(x[held])
    return auc(scores[y == 1], scores[y == 0])


def measure(evidence: Evidence) -> Measurement:
    """The judge's AUC; 0.5 is a coin."""
    with few_threads(evidence.threads):
        value, error = told_apart(evidence, evidence.train, evidence.synthetic)
        control, _ = told_apart(evidence, evidence.train, evidence.control)
    found = normal(value, error, evidence.confidence)
    return Measurement(
        id="fidelity.two_sample_auc",
        family="fidelity",
        estimate=value,
        lcb=max(found.lcb, 0.0),
        ucb=max(min(found.ucb, 1.0), value),
        n=min(len(evidence.train), len(evidence.synthetic), evidence.max_rows // 2),
        baseline=0.5,
        control=control,
        unit="AUC",
        better="lower",
        confidence=evidence.confidence,
        method=f"{N_FOLDS}-fold out-of-fold AUC of gradient boosting, real against synthetic rows",
    )


SUITE = Suite.of("fidelity.two_sample", measure, ids=("fidelity.two_sample_auc",), weight=10)
