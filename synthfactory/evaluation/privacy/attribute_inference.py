"""Attribute inference: does the synthetic table betray members' secrets more than strangers'?

The attacker knows every column of a person but one, the secret, and trains gradient boosting on
the synthetic rows to guess it.  What is learnt about the population works for strangers too; the
leak is the difference, ``accuracy on members - accuracy on strangers``, on equally many of both.  A
numerical secret is guessed when it is hit within a tenth of its real interquartile range.

Secrets are the columns declared sensitive and the target; the worst one is reported, with an
interval widened for their number (Bonferroni).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, features
from synthfactory.evaluation.intervals import Interval, newcombe
from synthfactory.evaluation.learners import boosted_classifier, boosted_regressor, few_threads
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

ID = "privacy.attribute_inference"
TOLERANCE = 0.1
MAX_CLASSES = 30
MAX_SECRETS = 6


def secrets_of(evidence: Evidence) -> list[str]:
    """Sensitive columns, then the target; without either, the last discrete columns."""
    schema = evidence.schema
    named = [*schema.sensitive, *([schema.target] if schema.target else [])]
    known = [name for name in dict.fromkeys(named) if name in evidence.names]
    return (known or list(evidence.names[-3:]))[:MAX_SECRETS]


def guessed(
    evidence: Evidence, learnt_from: Encoded, place: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], float]:
    """Which members' and strangers' secrets are guessed, and the share that the mode alone gets.

    Parameters
    ----------
    evidence
        The evidence.
    learnt_from
        Rows that the attacker trains on.
    place
        The secret's place, numeric columns first.
    """
    x, categorical = features(learnt_from, place, evidence.schema)
    n_numeric = learnt_from.numbers.shape[1]
    seed = evidence.integer("attribute inference")
    sides = (evidence.members, evidence.strangers)
    if place < n_numeric:
        values = learnt_from.numbers[:, place]
        known = ~np.isnan(values)
        real = evidence.train.numbers[:, place]
        real = real[~np.isnan(real)]
        if known.sum() < 2 or len(real) < 2:
            raise EvaluationError("the secret is missing nearly everywhere")
        low, high = np.quantile(real, [0.25, 0.75])
        reach = TOLERANCE * ((high - low) or float(np.std(real)))
        model = boosted_regressor(categorical, seed).fit(x[known], values[known])
        hits = []
        for side in sides:
            truth = side.numbers[:, place]
            guess = model.predict(features(side, place, evidence.schema)[0])
            hits.append(np.abs(guess - truth) <= reach)
        middle = float(np.median(real))
        return hits[0], hits[1], float((np.abs(real - middle) <= reach).mean())
    y = learnt_from.codes[:, place - n_numeric]
    real_codes = evidence.train.codes[:, place - n_numeric]
    common = np.argsort(-np.bincount(y), kind="stable")[:MAX_CLASSES]
    kept = np.isin(y, common)
    if len(np.unique(y[kept])) < 2:
        hits = [side.codes[:, place - n_numeric] == common[0] for side in sides]
    else:
        model = boosted_classifier(categorical, seed).fit(x[kept], y[kept])
        hits = [
            model.predict(features(side, place, evidence.schema)[0])
            == side.codes[:, place - n_numeric]
            for side in sides
        ]
    return hits[0], hits[1], float(np.bincount(real_codes).max() / len(real_codes))


def advantage(
    members: npt.NDArray[np.bool_], strangers: npt.NDArray[np.bool_], confidence: float
) -> Interval:
    """Difference of the success rates, Newcombe's interval."""
    return newcombe(
        int(members.sum()), len(members), int(strangers.sum()), len(strangers), confidence
    )


def measure(evidence: Evidence) -> Measurement:
    """The worst secret by its upper bound; the control attacker trains on test rows.

    Raises
    ------
    EvaluationError
        When no secret can be attacked.
    """
    names = secrets_of(evidence)
    confidence = 1 - (1 - evidence.confidence) / len(names)
    rows = evidence.at_most(evidence.synthetic, "attribute inference: rows")
    results: list[dict[str, Any]] = []
    with few_threads(evidence.threads):
        for name in names:
            place = evidence.names.index(name)
            members, strangers, mode = guessed(evidence, rows, place)
            found = advantage(members, strangers, confidence)
            results.append(
                {
                    "secret": name,
                    "advantage": found.estimate,
                    "lcb": found.lcb,
                    "ucb": found.ucb,
                    "members": float(members.mean()),
                    "strangers": float(strangers.mean()),
                    "most_frequent": mode,
                }
            )
        worst = max(results, key=lambda result: float(result["ucb"]))
        place = evidence.names.index(worst["secret"])
        members, strangers, _ = guessed(evidence, evidence.test, place)
    return Measurement(
        id=ID,
        family="privacy",
        estimate=worst["advantage"],
        lcb=worst["lcb"],
        ucb=worst["ucb"],
        n=len(evidence.members),
        baseline=0.0,
        control=advantage(members, strangers, confidence).estimate,
        unit="difference of success rates",
        better="lower",
        confidence=evidence.confidence,
        method="gradient boosting on synthetic rows, success on members minus strangers, "
        f"worst of {len(names)} secrets, Newcombe interval with Bonferroni",
        details={"worst": worst["secret"], "secrets": results},
    )


SUITE = Suite.of("privacy.attribute_inference", measure, ids=(ID,), weight=15)
