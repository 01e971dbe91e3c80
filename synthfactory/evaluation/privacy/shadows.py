"""Shadow models: does the release bear the traces of single persons?

The strongest attacker can train the generator, too.  She trains shadow models on random halves of a
pool of people, so that everybody is learnt by half of them, looks at how a person's traces differ
between shadows that learnt that person and shadows that did not, and then judges the release.

What she looks at, for each target and each model, is one number:

- black box: what synthetic rows show at the target: the distance to the nearest rows, and counts of
  rows that share the target's values in single columns, pairs and random sets of columns (Stadler,
  Oprisanu, Troncoso 2022, arXiv 2011.07018; Houssiau et al. 2022, arXiv 2211.06550), weighed by a
  logistic regression that was trained on the shadows;
- white box: the model's own log-likelihood of the target, where it has one.

How she judges it:

- LiRA (Carlini et al. 2022, arXiv 2112.03570, algorithm 1): the ratio of two normal densities that
  were fitted to the number with and without the target, of one variance for all targets when there
  are few shadows;
- RMIA (Zarifzadeh, Liu, Shokri 2024, arXiv 2312.03262, equations 2 and 4): how many people of the
  population the target beats in likelihood relative to its mean over the shadows.

Targets are the people who are easiest to recognise, and random ones: half each.  Vulnerable are
those whose nearest people are far away (Meeus, Guepin, Cretu, de Montjoye 2023, arXiv 2306.10308).

Legend: S shadows, T targets, Z people of the population, P = T + Z, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, ShadowModel, Sides, pairs_of, take
from synthfactory.evaluation.intervals import Interval, detectable
from synthfactory.evaluation.learners import few_threads
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import by_scale, nearest_k, scales
from synthfactory.evaluation.privacy import epsilon_audit
from synthfactory.evaluation.roc import auc, auc_interval, placements, rates
from synthfactory.evaluation.subgroups import compare, subgroups
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.seeds import derive
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ID_BLACK = "privacy.membership_black_box"
ID_WHITE = "privacy.membership_white_box"
JUDGED = "judged model"
POPULATION = 1_000
NEIGHBOURS = 5
LEAST_TARGETS = 40
# Below it, distances say "the same person".
NEAR = 0.01
SETS_OF_EACH_SIZE = 8
# Carlini et al. 2022, section VI-B: with fewer shadows, one variance for all.
MANY_SHADOWS = 64
LEAST_SPREAD = 1e-3
FAR_BELOW = 20.0


class Targets(NamedTuple):
    """Whose membership is tested.

    Parameters
    ----------
    places
        **Shape** (T,): rows of the pool, which is the train rows, then the control rows.
    member, vulnerable
        **Shape** (T,): whether the judged model learnt the row; whether it was chosen for being
        far from others.
    """

    places: Codes
    member: Mask
    vulnerable: Mask


class Seen(NamedTuple):
    """What one model shows of the targets and the population.

    Parameters
    ----------
    features
        **Shape** (F, P).
    log_likelihood
        **Shape** (P,), or None.
    """

    features: Floats
    log_likelihood: Floats | None


class Numbers(NamedTuple):
    """One number for each model and person.

    Parameters
    ----------
    judged, population
        **Shape** (T,), (Z,): of the judged model.
    shadows, shadow_population
        **Shape** (S, T), (S, Z).
    """

    judged: Floats
    population: Floats
    shadows: Floats
    shadow_population: Floats


def choose_targets(evidence: Evidence) -> Targets:
    """Equally many members and strangers; half of each the farthest from others, half by chance.

    Raises
    ------
    EvaluationError
        When there are too few people.
    """
    n_side = len(evidence.members)
    n_each = min(evidence.targets // 4, n_side // 2)
    if 4 * n_each < LEAST_TARGETS:
        raise EvaluationError(
            f"Shadow models need at least {LEAST_TARGETS} targets, half of them members; the "
            f"smaller of the train and control parts has {n_side} rows. Use a larger table."
        )
    people = _join(evidence.members, evidence.strangers)
    points = by_scale(people, scales(evidence.reference))
    k = min(NEIGHBOURS, len(people) - 1)
    distances, _ = nearest_k(points, points, k, threads=evidence.threads, exclude_self=True)
    remote = distances.astype(np.float64).mean(axis=1)
    chance = evidence.stream("shadows: targets")
    places, vulnerable = [], []
    rows = (evidence.member_places, len(evidence.train) + np.arange(n_side))
    for side, of_pool in zip(np.split(remote, 2), rows, strict=True):
        order = chance.permutation(n_side)
        order = order[np.argsort(-side[order], kind="stable")]
        drawn = chance.permutation(order[n_each:])[:n_each]
        places += [of_pool[order[:n_each]], of_pool[drawn]]
        vulnerable += [np.ones(n_each, dtype=bool), np.zeros(n_each, dtype=bool)]
    return Targets(
        places=np.concatenate(places),
        member=np.repeat([True, False], 2 * n_each),
        vulnerable=np.concatenate(vulnerable),
    )


def whose_targets(evidence: Evidence, targets: Targets) -> Sides:
    """Whose the targets are, members and strangers."""
    train, control = evidence.entities("train"), evidence.entities("control")
    members, strangers = targets.places[targets.member], targets.places[~targets.member]
    return Sides(
        None if train is None else train[members],
        None if control is None else control[strangers - len(evidence.train)],
    )


def divide_pool(evidence: Evidence) -> Mask:
    """**Shape** (S, n_pool): which rows each shadow learns.

    Shadows come in pairs that share the persons of the pool between them, so that everybody is
    learnt by half of the shadows, together with all rows of the same person.
    """
    train, control = evidence.persons("train"), evidence.persons("control")
    persons = np.concatenate([train, control + train.max() + 1])
    names, persons = np.unique(persons, return_inverse=True)
    inside = np.zeros((evidence.shadows, len(persons)), dtype=bool)
    for first in range(0, evidence.shadows, 2):
        order = evidence.stream(f"shadows: pair {first // 2}").permutation(len(names))
        lot = np.empty(len(names), dtype=np.int64)
        lot[order] = np.arange(len(names)) // (len(names) // 2)
        for number in (0, 1):
            if first + number < evidence.shadows:
                inside[first + number] = (lot == number)[persons]
    return inside


_LOOKED_AT: WeakKeyDictionary[Evidence, Encoded] = WeakKeyDictionary()


def _looked_at(evidence: Evidence) -> Encoded:
    """The targets and the population, found once for all pieces of a process."""
    if evidence not in _LOOKED_AT:
        _LOOKED_AT[evidence] = people_of(evidence, choose_targets(evidence))
    return _LOOKED_AT[evidence]


def people_of(evidence: Evidence, targets: Targets) -> Encoded:
    """The targets, then people of the population: reference rows, which no model learns."""
    n = min(POPULATION, len(evidence.reference))
    drawn = evidence.stream("shadows: population").permutation(len(evidence.reference))[:n]
    return _join(
        take(_join(evidence.train, evidence.control), targets.places),
        take(evidence.reference, np.sort(drawn)),
    )


def _join(first: Encoded, second: Encoded) -> Encoded:
    return Encoded(
        numbers=np.vstack([first.numbers, second.numbers]),
        codes=np.vstack([first.codes, second.codes]),
    )


def black_box(evidence: Evidence, people: Encoded, rows: Encoded) -> Floats:
    """**Shape** (F, P): what synthetic rows show at each person."""
    spread = scales(evidence.reference)
    k = min(NEIGHBOURS, len(rows))
    distances, _ = nearest_k(
        by_scale(people, spread), by_scale(rows, spread), k, threads=evidence.threads
    )
    near = -np.log(np.maximum(distances.astype(np.float64), NEAR))
    found = [near[:, 0], near.mean(axis=1)]
    theirs, ours = evidence.binning(people), evidence.binning(rows)
    for sets in column_sets(theirs.shape[1], evidence.stream("shadows: sets of columns")):
        counts = [shared_counts(theirs[:, columns], ours[:, columns]) for columns in sets]
        found.append(np.mean([np.log((each + 0.5) / len(rows)) for each in counts], axis=0))
    return np.stack(found)


def column_sets(n_columns: int, chance: np.random.Generator) -> list[list[list[int]]]:
    """Queries: all single columns, all pairs, random sets of three, of half and of all columns."""
    sets: list[list[list[int]]] = [[[column] for column in range(n_columns)]]
    if n_columns > 1:
        sets.append([list(pair) for pair in pairs_of(n_columns)])
    for size in sorted({3, n_columns // 2}):
        if 2 < size < n_columns:
            sets.append(
                [
                    sorted(chance.permutation(n_columns)[:size].tolist())
                    for _ in range(SETS_OF_EACH_SIZE)
                ]
            )
    if n_columns > 2:
        sets.append([list(range(n_columns))])
    return sets


def shared_counts(people: Codes, rows: Codes) -> Codes:
    """**Shape** (P,): for each person how many rows have the same values in all columns."""
    keys = np.zeros(len(people) + len(rows), dtype=np.int64)
    for column in range(people.shape[1]):
        values = np.concatenate([people[:, column], rows[:, column]])
        _, keys = np.unique(keys * (int(values.max()) + 1) + values, return_inverse=True)
    counts = np.bincount(keys[len(people) :], minlength=int(keys.max()) + 1)
    return counts[keys[: len(people)]]


def look(evidence: Evidence, people: Encoded, rows: Encoded, model: ShadowModel | None) -> Seen:
    """What a model and its rows show of the people."""
    return Seen(
        features=black_box(evidence, people, rows),
        log_likelihood=None if model is None else model.log_likelihood(people),
    )


def groups_of(evidence: Evidence) -> dict[str, range]:
    """Shadows that are trained together, by piece."""
    assert evidence.trainer is not None
    size = evidence.trainer.at_once
    groups = [
        range(first, min(first + size, evidence.shadows))
        for first in range(0, evidence.shadows, size)
    ]
    return {
        f"shadow {group[0] + 1}"
        if len(group) == 1
        else f"shadows {group[0] + 1} to {group[-1] + 1}": group
        for group in groups
    }


def pieces(evidence: Evidence) -> Sequence[str]:
    """Groups of shadows, and the judged model."""
    return (*(groups_of(evidence) if evidence.trainer is not None else ()), JUDGED)


def trained_by(evidence: Evidence, piece: str) -> int:
    """How many shadows a piece trains."""
    return 0 if piece == JUDGED else len(groups_of(evidence)[piece])


def work(evidence: Evidence, piece: str) -> list[Seen]:
    """Train one group of shadows and look at them, or look at the judged model.

    Raises
    ------
    EvaluationError
        When the generator is not known, or there are too few people.
    Interrupted
        When the process is asked to stop while shadows train.
    """
    if evidence.trainer is None:
        raise EvaluationError(
            "There is no generator to train shadow models with: pass generator and model."
        )
    people = _looked_at(evidence)
    judged = evidence.at_most(evidence.synthetic, "shadows: rows")
    if piece == JUDGED:
        return [look(evidence, people, judged, evidence.model)]
    numbers = groups_of(evidence)[piece]
    pool, inside = _join(evidence.train, evidence.control), divide_pool(evidence)
    models = evidence.trainer.fit(
        [take(pool, np.flatnonzero(inside[number])) for number in numbers],
        [derive(evidence.seed, "shadows: fit", number) for number in numbers],
    )
    return [
        look(
            evidence,
            people,
            model.sample(len(judged), seed=derive(evidence.seed, "shadows: sample", number)),
            model,
        )
        for number, model in zip(numbers, models, strict=True)
    ]


def weigh(judged: Floats, shadows: Floats, inside: Mask, n_targets: int, seed: int) -> Numbers:
    """One number of many features: how much more they look like those of shadows that learnt.

    Features count from each person's mean over the shadows.  A shadow is weighed by a regression
    that was trained on all other shadows, the judged model by one that was trained on all.

    Parameters
    ----------
    judged, shadows
        **Shape** (F, P), (S, F, P).
    inside
        **Shape** (S, T): whether a shadow learnt a target.
    n_targets, seed
        T, and the regression's seed.
    """
    centre = shadows.mean(axis=0)
    scale = np.maximum((shadows - centre).std(axis=(0, 2)), LEAST_SPREAD)[:, None]
    moved = (shadows - centre) / scale

    def trained_on(picked: Codes) -> LogisticRegression:
        x = moved[picked][:, :, :n_targets].transpose(0, 2, 1).reshape(-1, len(centre))
        return LogisticRegression(random_state=seed).fit(x, inside[picked].ravel())

    def weighed(model: LogisticRegression, features: Floats) -> Floats:
        values: Floats = model.decision_function(features.T)
        return values

    every = np.arange(len(shadows))
    own = weighed(trained_on(every), (judged - centre) / scale)
    others = np.stack([weighed(trained_on(every[every != place]), moved[place]) for place in every])
    return Numbers(own[:n_targets], own[n_targets:], others[:, :n_targets], others[:, n_targets:])


def likelihoods(judged: Floats, shadows: Floats, n_targets: int) -> Numbers:
    """The models' log-likelihoods; one that is far below almost all counts as far below."""
    finite = shadows[np.isfinite(shadows)]
    least = float(np.quantile(finite, 0.01)) - FAR_BELOW if len(finite) else -FAR_BELOW
    own, others = np.maximum(judged, least), np.maximum(shadows, least)
    return Numbers(own[:n_targets], own[n_targets:], others[:, :n_targets], others[:, n_targets:])


def on_one_level(numbers: Numbers) -> Numbers:
    """The judged model's numbers, moved so that the population's mean is that of the shadows.

    The judged model learnt from more rows than the shadows; what that changes for everybody is
    learnt from people whom no model knows.
    """
    shift = float(numbers.population.mean() - numbers.shadow_population.mean())
    return numbers._replace(judged=numbers.judged - shift, population=numbers.population - shift)


def lira(judged: Floats, shadows: Floats, inside: Mask) -> Floats:
    """**Shape** (T,): log ratio of the densities of the judged number with and without the target.

    Carlini et al. 2022, algorithm 1.

    Parameters
    ----------
    judged, shadows, inside
        **Shape** (T,), (S, T), (S, T).
    """
    logs = []
    for mask in (inside, ~inside):
        n = mask.sum(axis=0)
        mean = np.where(mask, shadows, 0.0).sum(axis=0) / n
        squares = np.where(mask, (shadows - mean) ** 2, 0.0).sum(axis=0)
        if len(shadows) < MANY_SHADOWS:
            spread = np.sqrt(squares.sum() / max((n - 1).sum(), 1))
        else:
            spread = np.sqrt(squares / np.maximum(n - 1, 1))
        logs.append(stats.norm.logpdf(judged, mean, np.maximum(spread, LEAST_SPREAD)))
    ratio: Floats = logs[0] - logs[1]
    return ratio


def rmia(numbers: Numbers, gamma: float = 1.0) -> Floats:
    """**Shape** (T,): share of the population that a target beats, by likelihood ratios.

    Zarifzadeh et al. 2024: ``Pr_z[ (P(x | model) / P(x)) / (P(z | model) / P(z)) >= gamma ]``, with
    P(x) and P(z) the means over the shadows, half of which learnt x.
    """
    n_shadows = math.log(len(numbers.shadows))

    def ratio(own: Floats, shadows: Floats) -> Floats:
        values: Floats = own - (special.logsumexp(shadows, axis=0) - n_shadows)
        return values

    targets = ratio(numbers.judged, numbers.shadows) - math.log(gamma)
    population = np.sort(ratio(numbers.population, numbers.shadow_population))
    beaten: Floats = np.searchsorted(population, targets, side="right") / len(population)
    return beaten


def shadows_told(shadows: Floats, inside: Mask) -> float:
    """Mean area under the curve when each shadow takes the judged model's place among the others.

    It says what the attack could find if the judged model were like its shadows.
    """
    areas = []
    for place in range(len(shadows)):
        rest = np.arange(len(shadows)) != place
        scores = lira(shadows[place], shadows[rest], inside[rest])
        areas.append(auc(scores[inside[place]], scores[~inside[place]])[0])
    return float(np.mean(areas))


def attack(numbers: Numbers, inside: Mask) -> dict[str, Floats]:
    """The targets' scores by each way of judging."""
    level = on_one_level(numbers)
    return {"LiRA": lira(level.judged, level.shadows, inside), "RMIA": rmia(level)}


def control(numbers: Numbers, inside: Mask, member: Mask, score: str) -> float:
    """The area with models that learnt half of members and strangers alike in the judged one's
    place: no membership of the judged model can show."""
    areas = []
    for place in range(len(numbers.shadows)):
        rest = np.arange(len(numbers.shadows)) != place
        other = Numbers(
            numbers.shadows[place],
            numbers.shadow_population[place],
            numbers.shadows[rest],
            numbers.shadow_population[rest],
        )
        scores = attack(other, inside[rest])[score]
        areas.append(auc(scores[member], scores[~member])[0])
    return float(np.mean(areas))


class Look(NamedTuple):
    """One way of judging, on one sort of targets."""

    score: str
    group: str
    interval: Interval
    error: float
    n: int


def measurement(
    evidence: Evidence, name: str, numbers: Numbers, targets: Targets, inside: Mask, method: str,
    details: Mapping[str, Any],
) -> Measurement:  # fmt: skip
    """The worst of both ways of judging and both sorts of targets, by its upper bound."""
    scores = attack(numbers, inside)
    whose = whose_targets(evidence, targets)
    groups = {"vulnerable": targets.vulnerable, "random": ~targets.vulnerable}
    confidence = 1 - (1 - evidence.confidence) / (len(scores) * len(groups))
    looks = []
    for score, values in scores.items():
        for group, mask in groups.items():
            ours, theirs = values[mask & targets.member], values[mask & ~targets.member]
            own = whose.take(
                np.flatnonzero(mask[targets.member]), np.flatnonzero(mask[~targets.member])
            )
            value, error = auc(
                ours, theirs, positive_groups=own.members, negative_groups=own.strangers
            )
            interval, error = auc_interval(value, error, len(theirs), confidence)
            looks.append(Look(score, group, interval, error, int(mask.sum())))
    worst = max(looks, key=lambda each: each.interval.ucb)
    best = scores[worst.score]
    members, strangers = best[targets.member], best[~targets.member]
    people = take(_join(evidence.train, evidence.control), targets.places)
    sides = [take(people, np.flatnonzero(mask)) for mask in (targets.member, ~targets.member)]
    return Measurement(
        id=name,
        family="privacy",
        estimate=worst.interval.estimate,
        lcb=worst.interval.lcb,
        ucb=worst.interval.ucb,
        n=worst.n,
        baseline=0.5,
        control=control(numbers, inside, targets.member, worst.score),
        unit="AUC",
        better="lower",
        confidence=evidence.confidence,
        method=method,
        mde=detectable(worst.error, confidence),
        details={
            "worst": {"score": worst.score, "targets": worst.group},
            "looks": [
                {
                    "score": each.score,
                    "targets": each.group,
                    "auc": each.interval.estimate,
                    "lcb": each.interval.lcb,
                    "ucb": each.interval.ucb,
                    "n": each.n,
                }
                for each in looks
            ],
            **rates(members, strangers, evidence.confidence, whose),
            "shadows_told_apart": shadows_told(numbers.shadows, inside),
            "epsilon_lower_bound": _epsilon(evidence, scores, targets),
            "subgroups": compare(
                subgroups(evidence, sides[0], sides[1], whose),
                placements(members, strangers),
                placements(strangers, strangers),
                evidence.confidence,
                whose,
            ),
            **details,
        },
    )


def _epsilon(evidence: Evidence, scores: Mapping[str, Floats], targets: Targets) -> float:
    n = int(targets.member.sum())
    canaries = epsilon_audit.draw_canaries(
        np.arange(n), np.arange(n), evidence.stream("shadows: epsilon")
    )
    sides = {
        name: (values[targets.member], values[~targets.member]) for name, values in scores.items()
    }
    return epsilon_audit.best_bound(canaries, sides, evidence.confidence).epsilon


def conclude(evidence: Evidence, results: Mapping[str, Any]) -> Found:
    """Both measurements; the white box only where every model has a likelihood.

    Raises
    ------
    EvaluationError
        When pieces are missing because machines of different sorts made them.
    """
    names = [*groups_of(evidence)]
    if missing := [name for name in (*names, JUDGED) if name not in results]:
        raise EvaluationError(
            f"The piece '{missing[0]}' was not made: workers with and without a GPU divided the "
            "shadow models differently. Set device=cpu or device=cuda."
        )
    judged: Seen = results[JUDGED][0]
    shadows: list[Seen] = [seen for name in names for seen in results[name]]
    targets = choose_targets(evidence)
    n_targets = len(targets.places)
    halves = divide_pool(evidence)
    inside = halves[:, targets.places]
    known = [seen.log_likelihood for seen in (judged, *shadows)]
    details: dict[str, Any] = {
        "shadows": len(shadows),
        "shadow_rows": int(halves.sum(axis=1).min()),
        "judged_rows": len(evidence.train),
        "synthetic_rows": len(evidence.at_most(evidence.synthetic, "shadows: rows")),
        "population": judged.features.shape[1] - n_targets,
        "not_assessed": {},
    }
    with few_threads(1):
        black = weigh(
            judged.features,
            np.stack([seen.features for seen in shadows]),
            inside,
            n_targets,
            evidence.integer("shadows: regression"),
        )
    white = None
    if all(each is not None for each in known):
        white = likelihoods(np.asarray(known[0]), np.stack(known[1:]), n_targets)  # type: ignore[arg-type]
    else:
        why = "the model is not given" if evidence.model is None else "it has no likelihood"
        details["not_assessed"] = {ID_WHITE: why}
    how = (
        f"AUC of membership with {len(shadows)} shadow models; worst of LiRA and RMIA, vulnerable "
        "and random targets, DeLong interval with Bonferroni; "
    )
    found = [
        measurement(
            evidence, ID_BLACK, black, targets, inside,
            how + "distances and counts of synthetic rows at the target", details,
        )
    ]  # fmt: skip
    if white is not None:
        found.append(
            measurement(
                evidence, ID_WHITE, white, targets, inside,
                how + "the model's own log-likelihood of the target", details,
            )
        )  # fmt: skip
    return Found(measurements=found)


SUITE = Suite(
    name="privacy.shadows",
    ids=(ID_BLACK, ID_WHITE),
    pieces=pieces,
    work=work,
    conclude=conclude,
    weight=600,
    shadows=trained_by,
)
