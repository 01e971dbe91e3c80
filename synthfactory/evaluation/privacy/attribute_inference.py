"""Attribute inference: does the synthetic table betray members' secrets more than strangers'?

The third criterion of WP216 (opinion 05/2014).  The attacker knows every column of a person but
one, the secret, and guesses it from the synthetic rows, in two ways:

- *gradient boosting* trained on the synthetic rows;
- *nearest row*: the secret of the nearest synthetic row on the known columns, where copies show.

What is learnt about the population works for strangers too; the leak is the difference,
``accuracy on members - accuracy on strangers``, on equally many of both (Giomi et al. 2023, arXiv
2211.10459, with the difference in place of their risk, which stands beside it).  A level is guessed
when it is the same; a number when it is hit within a tenth of its real interquartile range, an
absolute distance whatever the signs; a missing value when the guess is missing.

Secrets are the columns declared sensitive and the target.  The worst pair of secret and attacker
by its upper bound decides, with an interval widened for their number (Bonferroni).  The same
attackers trained on reference rows, which are neither members nor strangers, show what the
population alone teaches.

Beside that, every column in turn is a secret for the nearest row, with Holm's correction over
columns: a leak of a column that nobody thought of as sensitive shows there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import ALONE, Evidence, Sides, features, take
from synthfactory.evaluation.intervals import Interval, detectable, newcombe
from synthfactory.evaluation.learners import boosted_classifier, boosted_regressor, few_threads
from synthfactory.evaluation.leave_one_out import nearest_without
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, by_scale, centres, nearest, scales
from synthfactory.evaluation.privacy import risk
from synthfactory.evaluation.subgroups import compare, holm, subgroups
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

ID = "privacy.attribute_inference"
TOLERANCE = 0.1
MAX_CLASSES = 30
MAX_SECRETS = 6
BOOSTING, NEAREST = "gradient boosting", "nearest row"
ATTACKERS = (BOOSTING, NEAREST)
EVERY_COLUMN = "every column"
SECRET = "secret: "


class Hits(NamedTuple):
    """**Shape** (n_people,) each: whose secrets are guessed."""

    members: Mask
    strangers: Mask


class Attacked(NamedTuple):
    """One secret, guessed from synthetic rows and from reference rows, by attacker."""

    synthetic: Mapping[str, Hits]
    population: Mapping[str, Hits]
    most_frequent: float


def secrets_of(evidence: Evidence) -> list[str]:
    """Sensitive columns, then the target; without either, the last columns."""
    schema = evidence.schema
    named = [*schema.sensitive, *([schema.target] if schema.target else [])]
    known = [name for name in dict.fromkeys(named) if name in evidence.names]
    return (known or list(evidence.names[-3:]))[:MAX_SECRETS]


def values_of(rows: Encoded, place: int) -> Floats:
    """**Shape** (n_rows,): a column, numeric ones first; codes as numbers."""
    n_numeric = rows.numbers.shape[1]
    if place < n_numeric:
        return rows.numbers[:, place]
    return rows.codes[:, place - n_numeric].astype(np.float64)


def tolerance(evidence: Evidence, place: int) -> float:
    """How far a guess may be off: 0 for levels, a tenth of the real spread for numbers."""
    if place >= evidence.train.numbers.shape[1]:
        return 0.0
    real = values_of(evidence.train, place)
    real = real[~np.isnan(real)]
    if len(real) == 0:
        return 0.0
    low, high = np.quantile(real, [0.25, 0.75])
    return TOLERANCE * float((high - low) or np.std(real))


def right(guesses: Floats, truth: Floats, reach: float) -> Mask:
    """**Shape** (n,): which guesses are within reach, or rightly missing."""
    both_missing = np.isnan(guesses) & np.isnan(truth)
    return both_missing | (np.abs(guesses - truth) <= reach)


def guess_by_boosting(
    evidence: Evidence, learnt_from: Encoded, people: Sequence[Encoded], place: int
) -> list[Floats]:
    """Guesses of gradient boosting trained on rows.

    Raises
    ------
    EvaluationError
        When the secret is missing in nearly all of these rows.
    """
    x, categorical = features(learnt_from, place, evidence.schema)
    # A column without a single number teaches nothing, but stops some learners.
    x = np.where(np.isnan(x).all(axis=0), 0.0, x)
    y = values_of(learnt_from, place)
    seed = evidence.integer("attribute inference")
    queries = [features(side, place, evidence.schema)[0] for side in people]
    if place < learnt_from.numbers.shape[1]:
        known = ~np.isnan(y)
        if known.sum() < 2:
            raise EvaluationError("the secret is missing nearly everywhere in the synthetic rows")
        model = boosted_regressor(categorical, seed).fit(x[known], y[known])
        return [np.asarray(model.predict(query), dtype=np.float64) for query in queries]
    levels, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    common = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])
    if len(common) < 2:
        return [np.full(len(query), levels[0]) for query in queries]
    kept = np.isin(numbers, common)
    # Some learners want classes that are numbered without gaps.
    model = boosted_classifier(categorical, seed)
    model.fit(x[kept], np.searchsorted(common, numbers[kept]))
    return [levels[common[np.asarray(model.predict(query), dtype=int)]] for query in queries]


def guess_by_nearest(
    evidence: Evidence, learnt_from: Encoded, people: Sequence[Encoded], place: int
) -> list[Floats]:
    """The secret of the nearest row on the other columns; of equally near ones, of a random one."""
    spread, centre = scales(evidence.train), centres(evidence.train)
    order = evidence.stream("attribute inference: order").permutation(len(learnt_from))
    rows = take(learnt_from, order)
    known = _without(by_scale(rows, spread, centre), place)
    found = []
    for side in people:
        queries = _without(by_scale(side, spread, centre), place)
        _, numbers = nearest(queries, known, threads=evidence.threads)
        found.append(values_of(rows, place)[numbers])
    return found


def _without(points: Points, place: int) -> Points:
    n_numeric = points.numbers.shape[1]
    if place < n_numeric:
        return Points(
            numbers=np.ascontiguousarray(np.delete(points.numbers, place, axis=1)),
            codes=points.codes,
        )
    codes = np.ascontiguousarray(np.delete(points.codes, place - n_numeric, axis=1))
    return Points(numbers=points.numbers, codes=codes)


GUESS = {BOOSTING: guess_by_boosting, NEAREST: guess_by_nearest}


def hits_of(
    evidence: Evidence, learnt_from: Encoded, place: int, attackers: Sequence[str] = ATTACKERS
) -> dict[str, Hits]:
    """Whose secrets each attacker guesses who learnt from these rows."""
    people = (evidence.members, evidence.strangers)
    reach = tolerance(evidence, place)
    return {
        name: Hits(
            *(
                right(guesses, values_of(side, place), reach)
                for guesses, side in zip(
                    GUESS[name](evidence, learnt_from, people, place), people, strict=True
                )
            )
        )
        for name in attackers
    }


def most_frequent(evidence: Evidence, place: int) -> float:
    """The share of train rows that the best constant guess hits: the mode, or the median."""
    real = values_of(evidence.train, place)
    if place >= evidence.train.numbers.shape[1]:
        return float(np.bincount(real.astype(int)).max() / len(real))
    middle = np.median(real[~np.isnan(real)]) if not np.isnan(real).all() else np.nan
    return float(right(np.full(len(real), middle), real, tolerance(evidence, place)).mean())


def attack_secret(evidence: Evidence, name: str) -> Attacked | str:
    """One secret with all attackers, or why it cannot be attacked."""
    place = evidence.names.index(name)
    rows = evidence.at_most(evidence.synthetic, "attribute inference: rows")
    reference = evidence.at_most(evidence.reference, "attribute inference: reference")
    # Without another column nothing is known, and no row is nearer than another.
    attackers = ATTACKERS if len(evidence.names) > 1 else (BOOSTING,)
    try:
        with few_threads(1):
            return Attacked(
                synthetic=hits_of(evidence, rows, place, attackers),
                population=hits_of(evidence, reference, place, attackers),
                most_frequent=most_frequent(evidence, place),
            )
    except EvaluationError as error:
        return str(error)


def attack_every_column(evidence: Evidence) -> list[Hits]:
    """The nearest row's guess of each column from all others, numeric ones first."""
    rows = evidence.at_most(evidence.synthetic, "attribute inference: rows")
    order = evidence.stream("attribute inference: order").permutation(len(rows))
    rows = take(rows, order)
    sides = []
    for people, places in zip(
        (evidence.members, evidence.strangers), evidence.picked("attribute inference"), strict=True
    ):
        some = take(people, places)
        places = nearest_without(some, rows, scales(evidence.train), threads=evidence.threads)
        sides.append(
            [
                right(
                    values_of(rows, column)[places[:, column]],
                    values_of(some, column),
                    tolerance(evidence, column),
                )
                for column in range(len(evidence.names))
            ]
        )
    return [Hits(*both) for both in zip(*sides, strict=True)]


def advantage(hits: Hits, confidence: float, whose: Sides = ALONE) -> Interval:
    """Difference of the success rates, Newcombe's interval.

    Rows of one person count as fewer independent ones.
    """
    (right, n), (wrong, n_strangers) = _counted(hits, whose)
    return newcombe(right, n, wrong, n_strangers, confidence)


def standard_error(hits: Hits, whose: Sides = ALONE) -> float:
    """Of the difference of the success rates, were both the same."""
    (right, n), (wrong, n_strangers) = _counted(hits, whose)
    share = (right + wrong + 1) / (n + n_strangers + 2)
    return math.sqrt(share * (1 - share) * (1 / n + 1 / n_strangers))


def _counted(hits: Hits, whose: Sides) -> tuple[tuple[float, float], tuple[float, float]]:
    return risk.counted(hits.members, whose.members), risk.counted(hits.strangers, whose.strangers)


def pieces(evidence: Evidence) -> list[str]:
    """One for each secret, and one for every column as a secret."""
    return [*(SECRET + name for name in secrets_of(evidence)), EVERY_COLUMN]


def work(evidence: Evidence, piece: str) -> Attacked | str | list[Hits]:
    """Make one piece."""
    if piece == EVERY_COLUMN:
        return attack_every_column(evidence) if len(evidence.names) > 1 else []
    return attack_secret(evidence, piece.removeprefix(SECRET))


def conclude(evidence: Evidence, results: Mapping[str, Any]) -> Found:
    """The worst secret and attacker by the upper bound.

    Raises
    ------
    EvaluationError
        When no secret can be attacked.
    """
    secrets = {
        piece.removeprefix(SECRET): results[piece]
        for piece in pieces(evidence)
        if piece != EVERY_COLUMN
    }
    attacked = {name: each for name, each in secrets.items() if isinstance(each, Attacked)}
    spared = {name: each for name, each in secrets.items() if isinstance(each, str)}
    if not attacked:
        raise EvaluationError(
            f"No secret can be attacked: {spared}. Declare dataset.sensitive or dataset.target."
        )
    n_looks = sum(len(each.synthetic) for each in attacked.values())
    confidence = 1 - (1 - evidence.confidence) / n_looks
    whose = evidence.whose
    described = [_describe(name, each, confidence, whose) for name, each in attacked.items()]
    worst = max(described, key=lambda secret: float(secret["ucb"]))
    hits = attacked[worst["secret"]].synthetic[worst["attacker"]]
    groups = subgroups(evidence, evidence.members, evidence.strangers, whose)
    measurement = Measurement(
        id=ID,
        family="privacy",
        estimate=worst["advantage"],
        lcb=worst["lcb"],
        ucb=worst["ucb"],
        n=len(evidence.members),
        baseline=0.0,
        control=worst["population_advantage"],
        unit="difference of success rates",
        better="lower",
        confidence=evidence.confidence,
        method="best guess from synthetic rows (gradient boosting, nearest row), success on "
        f"members minus strangers, worst of {len(attacked)} secrets, Newcombe interval with "
        f"Bonferroni over {n_looks} pairs of secret and attacker",
        mde=detectable(standard_error(hits, whose), confidence),
        details={
            "worst": worst["secret"],
            "attacker": worst["attacker"],
            "secrets": described,
            "not_attacked": spared,
            "every_column": _every_column(evidence, results[EVERY_COLUMN]),
            "subgroups": compare(
                groups,
                hits.members.astype(np.float64),
                hits.strangers.astype(np.float64),
                evidence.confidence,
                whose,
            ),
        },
    )
    return Found(measurements=[measurement])


def _describe(name: str, attacked: Attacked, confidence: float, whose: Sides) -> dict[str, Any]:
    """The worst attacker on a secret, with the others beside it."""
    attackers: list[dict[str, Any]] = []
    for attacker, hits in attacked.synthetic.items():
        found = advantage(hits, confidence, whose)
        (right, n), (wrong, n_strangers) = _counted(hits, whose)
        gained = risk.estimate(right, n, wrong, n_strangers, confidence)
        population = attacked.population[attacker]
        attackers.append(
            {
                "attacker": attacker,
                "advantage": found.estimate,
                "lcb": found.lcb,
                "ucb": found.ucb,
                "members": float(hits.members.mean()),
                "strangers": float(hits.strangers.mean()),
                "risk": gained.estimate,
                "risk_ucb": gained.ucb,
                "population": float(population.strangers.mean()),
                "population_advantage": advantage(population, confidence).estimate,
            }
        )
    worst = max(attackers, key=lambda each: float(each["ucb"]))
    return {
        "secret": name,
        **worst,
        "most_frequent": attacked.most_frequent,
        "attackers": attackers,
    }


def _every_column(evidence: Evidence, columns: Sequence[Hits]) -> dict[str, Any]:
    """Each column as a secret of the nearest row, one-sided p with Holm's correction."""
    found: list[dict[str, Any]] = []
    whose = evidence.whose.take(*evidence.picked("attribute inference"))
    for name, hits in zip(evidence.names, columns, strict=False):
        difference = advantage(hits, evidence.confidence, whose)
        found.append(
            {
                "column": name,
                "advantage": difference.estimate,
                "lcb": difference.lcb,
                "ucb": difference.ucb,
                "members": float(hits.members.mean()),
                "strangers": float(hits.strangers.mean()),
                "p": float(stats.norm.sf(difference.estimate / standard_error(hits, whose))),
            }
        )
    for each, adjusted in zip(found, holm([each["p"] for each in found]), strict=True):
        each["p_holm"] = adjusted
    return {
        "attacker": NEAREST,
        "n": len(columns[0].members) if columns else 0,
        "columns": sorted(found, key=lambda each: float(each["p"])),
    }


def measure(evidence: Evidence) -> Measurement:
    """All pieces, one after the other."""
    found = conclude(evidence, {piece: work(evidence, piece) for piece in pieces(evidence)})
    return found.measurements[0]


SUITE = Suite(name=ID, ids=(ID,), pieces=pieces, work=work, conclude=conclude, weight=15)
