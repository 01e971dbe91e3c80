"""Does training on synthetic rows treat groups of people otherwise than training on real rows?

For each declared quasi-identifier and sensitive column of levels: the demographic parity difference
(the largest difference of two groups' selection rates) and the equalized odds difference (the
larger of the largest differences of true and of false positive rates; Hardt, Price and Srebro 2016,
arXiv 1610.02413), through fairlearn (https://jmlr.org/papers/v24/23-0389.html).  The gap is
``|difference under the model of synthetic rows - difference under the model of real rows|`` on the
same real test people; the worst of all columns and both differences is reported.

The interval is the estimate plus and minus the normal quantile times the bootstrap error of the
signed gap, widened for the number of gaps (Bonferroni), and folded at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import Interval, normal
from synthfactory.evaluation.learners import BOOSTING
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.people import FEWEST_COMPARED
from synthfactory.evaluation.utility.results import FRESH, REAL, SYNTHETIC, Results
from synthfactory.evaluation.utility.scores import Scored, draws
from synthfactory.evaluation.utility.task import Rows, Task
from synthfactory.evaluation.utility.tstr import trained_on

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]

ID = "utility.fairness_gap"
MIN_OUTCOMES = 20
PARITY = "demographic parity difference"
ODDS = "equalized odds difference"


def attributes_of(evidence: Evidence) -> list[str]:
    """Declared quasi-identifiers and sensitive columns of levels, without the target."""
    schema = evidence.schema
    levels = {column.name for column in schema.discrete} - {schema.target}
    named = dict.fromkeys((*schema.quasi_identifiers, *schema.sensitive))
    return [name for name in named if name in levels]


def is_assessed(evidence: Evidence, task: Task) -> bool:
    """Whether there is anything to ask: two classes to choose from, and groups of people."""
    two = task.classes is not None and len(task.classes) == 2
    return two and bool(attributes_of(evidence))


def grouped(codes: Codes, n_levels: int) -> Codes:
    """Levels of at least 50 people keep their number, all others become -1.

    Missing values (code ``n_levels``) are no group.
    """
    large = np.bincount(codes, minlength=n_levels + 1) >= FEWEST_COMPARED
    large[n_levels] = False
    return np.where(large[codes], codes, -1)


def with_outcomes(groups: Codes, truth: Mask) -> Codes:
    """Groups with at least 20 people of either outcome; the others become -1."""
    kept = [
        group
        for group in np.unique(groups[groups >= 0])
        if min(truth[groups == group].sum(), (~truth[groups == group]).sum()) >= MIN_OUTCOMES
    ]
    return np.where(np.isin(groups, kept), groups, -1)


def parity(truth: Mask, chosen: Mask, groups: Codes) -> float:
    """fairlearn's demographic parity difference."""
    from fairlearn.metrics import demographic_parity_difference

    return float(demographic_parity_difference(truth, chosen, sensitive_features=groups))


def odds(truth: Mask, chosen: Mask, groups: Codes) -> float:
    """fairlearn's equalized odds difference."""
    from fairlearn.metrics import equalized_odds_difference

    return float(equalized_odds_difference(truth, chosen, sensitive_features=groups))


def resampled_parity(truth: Mask, chosen: Mask, groups: Codes, weights: Floats) -> Floats:
    """`parity` under each row of weights, **shape** (n_draws, n)."""
    return spread(chosen, np.ones_like(truth), groups, weights)


def resampled_odds(truth: Mask, chosen: Mask, groups: Codes, weights: Floats) -> Floats:
    """`odds` under each row of weights, **shape** (n_draws, n)."""
    return np.maximum(
        spread(chosen, truth, groups, weights), spread(chosen, ~truth, groups, weights)
    )


def spread(chosen: Mask, among: Mask, groups: Codes, weights: Floats) -> Floats:
    """Largest difference of two groups' shares of chosen among some people.

    Groups without any weight are left out.

    Parameters
    ----------
    chosen, among
        **Shape** (n,).
    groups
        **Shape** (n,).
    weights
        **Shape** (n_draws, n).
    """
    members = (groups[:, None] == np.unique(groups)) & among[:, None]
    sizes = weights @ members.astype(np.float64)
    hits = weights @ (members & chosen[:, None]).astype(np.float64)
    some = sizes > 0
    rates = hits / np.where(some, sizes, 1.0)
    highest = np.where(some, rates, -np.inf).max(axis=1)
    lowest = np.where(some, rates, np.inf).min(axis=1)
    return np.where(some.any(axis=1), highest - lowest, 0.0)


Difference = Callable[[Mask, Mask, Codes], float]
Resampled = Callable[[Mask, Mask, Codes, Floats], Floats]
DIFFERENCES: Mapping[str, tuple[Difference, Resampled]] = {
    PARITY: (parity, resampled_parity),
    ODDS: (odds, resampled_odds),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A column and a difference that can be measured.

    Parameters
    ----------
    attribute, difference
        Which ones.
    people
        **Shape** (n,): places of the test people who belong to a group.
    groups
        **Shape** (n,): the number of each one's group.
    """

    attribute: str
    difference: str
    people: npt.NDArray[np.intp]
    groups: Codes


def comparisons(evidence: Evidence, test: Rows, truth: Mask) -> list[Comparison]:
    """Each attribute and difference that can be measured, with its groups.

    Raises
    ------
    EvaluationError
        When no attribute has two groups of at least 50 test people.
    """
    found = []
    for name in attributes_of(evidence):
        place = [column.name for column in evidence.schema.discrete].index(name)
        n_levels = len(evidence.schema.discrete[place].categories)
        codes = test.rows.codes[:, place]
        groups = grouped(codes, n_levels)
        for difference, kept in ((PARITY, groups), (ODDS, with_outcomes(groups, truth))):
            if len(np.unique(kept[kept >= 0])) >= 2:
                people = np.flatnonzero(kept >= 0)
                found.append(
                    Comparison(
                        attribute=name, difference=difference, people=people, groups=kept[people]
                    )
                )
    if not found:
        raise EvaluationError(
            f"Fairness cannot be told: none of {', '.join(attributes_of(evidence))} has two groups "
            f"of at least {FEWEST_COMPARED} test people. Use a larger table."
        )
    return found


def differences(
    evidence: Evidence,
    truth: Mask,
    chosen: Mask,
    compared: Sequence[Comparison],
    persons: npt.NDArray[np.int64] | None = None,
) -> list[Scored]:
    """Each comparison's difference under one model, and the same on each draw of the test people.

    Parameters
    ----------
    evidence
        Gives the draws.
    truth
        **Shape** (n_test,): who is of the second class.
    chosen
        **Shape** (n_test,): whom the model takes for one.
    compared
        See `comparisons`.
    persons
        **Shape** (n_test,): whose each row is; None where every row is alone.
    """
    repeats: list[list[Floats]] = [[] for _ in compared]
    for block in draws(evidence, len(truth), persons):
        for made, one in zip(repeats, compared, strict=True):
            _, resampled = DIFFERENCES[one.difference]
            people = one.people
            made.append(resampled(truth[people], chosen[people], one.groups, block[:, people]))
    found = []
    for made, one in zip(repeats, compared, strict=True):
        exactly, _ = DIFFERENCES[one.difference]
        value = exactly(truth[one.people], chosen[one.people], one.groups)
        found.append(Scored(estimate=value, repeats=np.concatenate(made)))
    return found


def gap(ours: Scored, real: Scored, confidence: float) -> Interval:
    """``|ours - real|`` with bounds that are folded at 0."""
    signed = ours.estimate - real.estimate
    error = float(np.std(ours.repeats - real.repeats, ddof=1))
    found = normal(signed, error, confidence)
    estimate = abs(signed)
    lcb = min(max(found.lcb, -found.ucb, 0.0), estimate)
    return Interval(estimate, lcb, max(found.ucb, -found.lcb))


def measure(found: Results) -> Measurement:
    """The worst gap by its upper bound; the control's model was trained on fresh real rows.

    Raises
    ------
    EvaluationError
        When no declared column has two groups of at least 50 test people.
    """
    evidence, task = found.evidence, found.task
    assert task.classes is not None
    truth = found.test.y == task.classes[1]
    compared = comparisons(evidence, found.test, truth)
    synthetic, real, fresh = (
        differences(
            evidence,
            truth,
            chosen(found.trained[BOOSTING, source].predicted),
            compared,
            found.test.persons,
        )
        for source in (SYNTHETIC, REAL, FRESH)
    )
    confidence = 1 - (1 - evidence.confidence) / len(compared)
    gaps = [gap(ours, theirs, confidence) for ours, theirs in zip(synthetic, real, strict=True)]
    place = max(range(len(gaps)), key=lambda place: gaps[place].ucb)
    interval, worst = gaps[place], compared[place]
    return Measurement(
        id=ID,
        family="utility",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(worst.people),
        baseline=0.0,
        control=max(
            gap(ours, theirs, confidence).estimate for ours, theirs in zip(fresh, real, strict=True)
        ),
        unit="difference of rates",
        better="lower",
        confidence=evidence.confidence,
        method="|difference under gradient boosting trained on synthetic rows - difference under "
        "gradient boosting trained on real rows|, demographic parity and equalized odds "
        f"differences between groups of at least {FEWEST_COMPARED} real test people (fairlearn), "
        f"worst of {len(compared)} by its upper bound, normal interval with the paired bootstrap's "
        "error and Bonferroni; the control is the worst under a model of fresh real rows",
        details={
            "worst": worst.attribute,
            "worst_difference": worst.difference,
            "compared": [
                {
                    "attribute": one.attribute,
                    "difference": one.difference,
                    "synthetic": ours.estimate,
                    "real": theirs.estimate,
                    "n_groups": len(np.unique(one.groups)),
                    "n": len(one.people),
                }
                for one, ours, theirs in zip(compared, synthetic, real, strict=True)
            ],
            **trained_on(found),
        },
    )


def chosen(predicted: Floats) -> Mask:
    """**Shape** (n,): whom a model takes for one of the second class, from (n, 2)."""
    return np.asarray(predicted[:, 1] > predicted[:, 0])
