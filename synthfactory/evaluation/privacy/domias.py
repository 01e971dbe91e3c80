"""DOMIAS: are the synthetic rows denser at members than the population explains?

van Breugel, Sun, Qian, van der Schaar 2023, arXiv 2302.12580.  A generator that overfits puts too
many rows where its training people are.  So a person x is scored by equation 2,

    p_S(x) / p_R(x),

the density of the synthetic rows over that of reference rows, which nobody trained on.  Whoever
has a higher score is taken for a member; scores of members are compared with those of strangers.

Two forms, because kernel densities fail beyond about ten columns:

- nearest neighbours: the density at x is proportional to ``1 / (n r^d)`` with r the distance to the
  k-th nearest of n rows, so the logarithm of the ratio is ``d (log r_R - log r_S)`` and a constant.
  The nearest row shows copies, the fifth nearest a crowd; numbers are compared by their spread, and
  by each table's own ranks, which undoes a shift or a stretch of every column.  The worst of these
  four is reported;
- a classifier that tells synthetic from reference rows: its logit is the logarithm of the ratio.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence, features, take
from synthfactory.evaluation.intervals import Interval, detectable
from synthfactory.evaluation.learners import boosted_classifier, few_threads
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import (
    Points,
    by_rank,
    by_scale,
    nearest_k,
    part,
    scales,
)
from synthfactory.evaluation.privacy import epsilon_audit
from synthfactory.evaluation.roc import auc, auc_interval, placements, rate_at, rates
from synthfactory.evaluation.subgroups import compare, subgroups
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]

ID_KNN = "privacy.domias_knn"
ID_CLASSIFIER = "privacy.domias_classifier"
ID_TPR, ID_TPR_LOW = "privacy.tpr_at_1pct_fpr", "privacy.tpr_at_1permille_fpr"
RATES = {ID_TPR: 0.01, ID_TPR_LOW: 0.001}
KS = (1, 5)
# Below the ratio of any two distances that are above 0 in float32.
FLOOR = 1e-30
NEIGHBOURS, CLASSIFIER = "neighbours", "classifier"


class Scores(NamedTuple):
    """**Shape** (n,) each: the scores of members and of strangers."""

    members: Floats
    strangers: Floats


class Judged(NamedTuple):
    """Scores by attack, for the synthetic rows and for reference rows in their place."""

    synthetic: Mapping[str, Scores]
    control: Mapping[str, Scores]
    n_synthetic: int
    n_reference: int


def log_ratio(to_synthetic: Floats, to_reference: Floats, n_columns: int) -> Floats:
    """**Shape** (n,): ``d (log r_R - log r_S)`` of distances to synthetic and reference rows.

    A distance of 0 counts as `FLOOR`: who equals a synthetic row and no reference row scores
    higher than anybody who equals none, and who equals rows of both scores 0.
    """
    near, far = (np.log(np.maximum(part, FLOOR)) for part in (to_synthetic, to_reference))
    return n_columns * (far - near)


def neighbour_scores(
    people: Points, synthetic: Points, reference: Points, *, threads: int
) -> list[Floats]:
    """For each k of `KS` **shape** (n_people,): the log ratio of densities by k-th nearest rows.

    Parameters
    ----------
    people
        Who is scored.
    synthetic, reference
        Rows whose densities are compared; their numbers need not be equal.
    """
    synthetic_far, reference_far = (
        nearest_k(people, rows, min(max(KS), len(rows)), threads=threads)[0].astype(np.float64)
        for rows in (synthetic, reference)
    )
    n_columns = people.numbers.shape[1] + people.codes.shape[1]
    return [
        log_ratio(
            synthetic_far[:, min(k, synthetic_far.shape[1]) - 1],
            reference_far[:, min(k, reference_far.shape[1]) - 1],
            n_columns,
        )
        for k in KS
    ]


def by_spread(evidence: Evidence, rows: Encoded, reference: Encoded) -> dict[str, Scores]:
    """Scores with numbers divided by their spread in the reference."""
    spread = scales(reference)
    synthetic, known, members, strangers = (
        by_scale(table, spread) for table in (rows, reference, evidence.members, evidence.strangers)
    )
    return _by_k("numbers by spread", members, strangers, synthetic, known, evidence.threads)


def by_own_ranks(evidence: Evidence, rows: Encoded, reference: Encoded) -> dict[str, Scores]:
    """Scores with numbers by rank: real rows among all real rows, synthetic among themselves."""
    real = (evidence.members, evidence.strangers, reference)
    ranked = by_rank(
        Encoded(
            numbers=np.vstack([table.numbers for table in real]),
            codes=np.vstack([table.codes for table in real]),
        )
    )
    ends = np.cumsum([0, *map(len, real)])
    members, strangers, known = (
        part(ranked, first, last) for first, last in itertools.pairwise(ends)
    )
    return _by_k("numbers by rank", members, strangers, by_rank(rows), known, evidence.threads)


def _by_k(
    how: str, members: Points, strangers: Points, synthetic: Points, known: Points, threads: int
) -> dict[str, Scores]:
    sides = [
        neighbour_scores(people, synthetic, known, threads=threads)
        for people in (members, strangers)
    ]
    return {
        f"k = {k}, {how}": Scores(ours, theirs) for k, ours, theirs in zip(KS, *sides, strict=True)
    }


def by_classifier(evidence: Evidence, rows: Encoded, reference: Encoded) -> dict[str, Scores]:
    """The logit of gradient boosting that tells equally many synthetic and reference rows apart."""
    n = min(len(rows), len(reference), evidence.max_rows)
    chance = evidence.stream("domias: rows of the classifier")
    sides = [take(table, chance.permutation(len(table))[:n]) for table in (rows, reference)]
    matrices = [features(table, None, evidence.schema) for table in sides]
    judge = boosted_classifier(matrices[0][1], evidence.integer("domias: classifier"))
    with few_threads(1):
        judge.fit(np.vstack([matrix for matrix, _ in matrices]), np.repeat([1, 0], n))
        scores = [
            np.asarray(judge.decision_function(features(people, None, evidence.schema)[0]), float)
            for people in (evidence.members, evidence.strangers)
        ]
    return {"gradient boosting": Scores(*scores)}


FORMS = {NEIGHBOURS: (by_spread, by_own_ranks), CLASSIFIER: (by_classifier,)}


def halves(evidence: Evidence) -> tuple[Encoded, Encoded]:
    """The reference, divided by chance: rows in the place of synthetic ones, and a reference."""
    order = evidence.stream("domias: halves").permutation(len(evidence.reference))
    middle = len(order) // 2
    return (
        take(evidence.reference, np.sort(order[:middle])),
        take(evidence.reference, np.sort(order[middle:])),
    )


def work(evidence: Evidence, piece: str) -> Judged:
    """The scores of one form, and those of the control."""
    rows, others = halves(evidence)
    n_synthetic, n_reference = len(evidence.synthetic), len(evidence.reference)
    if piece == CLASSIFIER:
        n_synthetic = n_reference = min(n_synthetic, n_reference, evidence.max_rows)
    found: dict[str, Scores] = {}
    control: dict[str, Scores] = {}
    for form in FORMS[piece]:
        found |= form(evidence, evidence.synthetic, evidence.reference)
        control |= form(evidence, rows, others)
    return Judged(found, control, n_synthetic, n_reference)


def area(evidence: Evidence, scores: Scores, confidence: float) -> tuple[Interval, float]:
    """Interval and error of the area under the ROC curve; rows of one person count together."""
    groups: dict[str, Any] = {}
    if evidence.schema.entity is not None:
        groups = {
            "positive_groups": evidence.persons("train")[evidence.member_places],
            "negative_groups": evidence.persons("control")[: len(evidence.strangers)],
        }
    value, error = auc(scores.members, scores.strangers, **groups)
    return auc_interval(value, error, len(scores.strangers), confidence)


def worst_area(
    evidence: Evidence, rows: Encoded, reference: Encoded, confidence: float
) -> Interval:
    """The area of the form by neighbours with the highest lower bound, with Bonferroni.

    Parameters
    ----------
    rows, reference
        What takes the place of the synthetic rows, and what the attacker knows.
    """
    scores = [
        each for form in FORMS[NEIGHBOURS] for each in form(evidence, rows, reference).values()
    ]
    shared = 1 - (1 - confidence) / len(scores)
    return max(
        (area(evidence, each, shared)[0] for each in scores), key=lambda interval: interval.lcb
    )


def measurement(evidence: Evidence, name: str, judged: Judged, method: str) -> Measurement:
    """The form with the highest upper bound, its interval widened for the number of forms."""
    confidence = 1 - (1 - evidence.confidence) / len(judged.synthetic)
    found = {form: area(evidence, scores, confidence) for form, scores in judged.synthetic.items()}
    worst = max(found, key=lambda form: found[form][0].ucb)
    interval, error = found[worst]
    members, strangers = judged.synthetic[worst]
    groups = subgroups(evidence, evidence.members, evidence.strangers, evidence.whose)
    return Measurement(
        id=name,
        family="privacy",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(members) + len(strangers),
        baseline=0.5,
        control=area(evidence, judged.control[worst], confidence)[0].estimate,
        unit="AUC",
        better="lower",
        confidence=evidence.confidence,
        method=method,
        mde=detectable(error, confidence),
        details={
            "worst": worst,
            "forms": {
                form: {"auc": each.estimate, "lcb": each.lcb, "ucb": each.ucb}
                for form, (each, _) in found.items()
            },
            **rates(members, strangers, evidence.confidence, evidence.whose),
            "n_members": len(members),
            "n_strangers": len(strangers),
            "n_synthetic": judged.n_synthetic,
            "n_reference": judged.n_reference,
            "subgroups": compare(
                groups,
                placements(members, strangers),
                placements(strangers, strangers),
                evidence.confidence,
                evidence.whose,
            ),
        },
    )


def true_positives(
    evidence: Evidence, name: str, synthetic: Mapping[str, Scores], control: Mapping[str, Scores]
) -> Measurement | None:
    """Who is recognised almost for certain: the true positive rate at a small false positive rate.

    Of all forms of the attack the one with the highest upper bound, with Bonferroni; None where
    there are too few strangers to tell so small a rate.
    """
    fpr = RATES[name]
    confidence = 1 - (1 - evidence.confidence) / len(synthetic)
    whose = evidence.whose
    found = {form: rate_at(*scores, fpr, confidence, whose) for form, scores in synthetic.items()}
    worst = max(found, key=lambda form: found[form]["ucb"] or 0.0)
    rate = found[worst]
    if rate["tpr"] is None:
        return None
    return Measurement(
        id=name,
        family="privacy",
        estimate=rate["tpr"],
        lcb=rate["lcb"],
        ucb=rate["ucb"],
        n=rate["n"],
        baseline=fpr,
        control=rate_at(*control[worst], fpr, confidence, whose)["tpr"],
        unit="share of members",
        better="lower",
        confidence=evidence.confidence,
        method=f"true positive rate at a false positive rate of {fpr:g}, worst of "
        f"{len(synthetic)} forms of DOMIAS, Clopper and Pearson's interval with Bonferroni",
        mde=detectable(math.sqrt(fpr * (1 - fpr) * 2 / rate["n"]), confidence),
        details={"worst": worst, "n_strangers": len(synthetic[worst].strangers)},
    )


def conclude(evidence: Evidence, results: Mapping[str, Any]) -> Found:
    """Both forms, who is recognised for certain, and what the best guesses say about epsilon."""
    near, told = results[NEIGHBOURS], results[CLASSIFIER]
    synthetic = {**near.synthetic, **told.synthetic}
    control = {**near.control, **told.control}
    told_rates = (true_positives(evidence, name, synthetic, control) for name in RATES)
    return Found(
        measurements=[
            measurement(
                evidence,
                ID_KNN,
                near,
                "AUC of d (log r_R - log r_S), r the distance to the k-th nearest reference or "
                "synthetic row, members against strangers, DeLong interval; worst of k = 1 and 5, "
                "numbers by spread and by rank, with Bonferroni",
            ),
            measurement(
                evidence,
                ID_CLASSIFIER,
                told,
                "AUC of the logit of gradient boosting, synthetic against reference rows, members "
                "against strangers, DeLong interval",
            ),
            *(found for found in told_rates if found is not None),
            epsilon_audit.measure(evidence, synthetic, control),
        ],
    )


SUITE = Suite(
    name="privacy.domias",
    ids=(ID_KNN, ID_CLASSIFIER, *RATES, epsilon_audit.ID),
    pieces=lambda evidence: (NEIGHBOURS, CLASSIFIER),
    work=work,
    conclude=conclude,
    weight=10,
)
