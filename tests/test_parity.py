"""Parity: where another library has the same definition and is right, ours gives the same number.

Every test here runs beside the other library (``make parity``).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from known_tables import evidence_of
from other_libraries import library, parity

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity import accuracy, correlation, joint, pairs, shapes
from synthfactory.evaluation.intervals import clopper_pearson
from synthfactory.evaluation.neighbours import by_scale, nearest
from synthfactory.evaluation.privacy import (
    attribute_inference,
    epsilon_audit,
    linkability,
    risk,
    singling_out,
)

Frame = pd.DataFrame


def mixed(n_rows: int, chance: np.random.Generator) -> Frame:
    """Numbers, dates and levels that depend on each other, with no value missing."""
    factor = chance.normal(size=n_rows)
    days = np.clip(np.rint(5_000 + 900 * factor + chance.normal(0, 300, n_rows)), 0, 10_000)
    return pd.DataFrame(
        {
            "age": np.clip(np.rint(45 + 12 * factor + chance.normal(0, 6, n_rows)), 18, 90),
            "pressure": 120 + 10 * factor + chance.normal(0, 8, n_rows),
            "income": np.exp(8 + 0.4 * factor + chance.normal(0, 0.5, n_rows)).round(2),
            "visit": pd.Timestamp("2000-01-01") + pd.to_timedelta(days, unit="D"),
            "region": np.array(list("nesw"))[np.digitize(factor, [-0.8, 0.1, 1.0])],
            "smoker": np.where(chance.random(n_rows) < 1 / (1 + np.exp(-factor)), "yes", "no"),
            "town": chance.choice([f"t{number:02d}" for number in range(30)], n_rows),
        }
    )


def worse(rows: Frame, chance: np.random.Generator) -> Frame:
    """Rows that differ from real ones in shapes and in dependence."""
    changed = rows.copy()
    changed["age"] = np.clip(changed["age"] + 4, 18, 95)
    changed["income"] *= 1.3
    changed["smoker"] = chance.permutation(changed["smoker"])
    changed["town"] = np.where(chance.random(len(rows)) < 0.2, "t00", changed["town"])
    return changed


@pytest.fixture(scope="module")
def frames() -> dict[str, Frame]:
    """Four tables, the synthetic one worse."""
    chance = np.random.default_rng(0)
    parts = {name: mixed(n, chance) for name, n in (("train", 3_000), ("control", 1_500))}
    parts |= {"test": mixed(1_500, chance), "synthetic": worse(mixed(2_500, chance), chance)}
    return parts


@pytest.fixture(scope="module")
def evidence(frames: dict[str, Frame]) -> Evidence:
    """The same as evidence."""
    return evidence_of(**frames)


# Fidelity: SDMetrics column by column and pair by pair, mostlyai-qa as a whole.

NUMBERS, LEVELS = ["age", "pressure", "income", "visit"], ["region", "smoker", "town"]


@parity
def test_shapes_of_numbers_and_dates_are_those_of_kscomplement(
    frames: dict[str, Frame], evidence: Evidence
) -> None:
    metric = library("sdmetrics.single_column").KSComplement
    ours = shapes.column_shapes(evidence.train, evidence.synthetic, evidence.schema)
    for place, name in enumerate(NUMBERS):
        theirs = metric.compute(frames["train"][name], frames["synthetic"][name])
        assert ours[place] == pytest.approx(theirs, abs=1e-12)
    assert ours[: len(NUMBERS)].min() < 0.95


@parity
def test_shapes_of_levels_are_those_of_tvcomplement(
    frames: dict[str, Frame], evidence: Evidence
) -> None:
    metric = library("sdmetrics.single_column").TVComplement
    ours = shapes.column_shapes(evidence.train, evidence.synthetic, evidence.schema)
    for place, name in enumerate(LEVELS, start=len(NUMBERS)):
        theirs = metric.compute(frames["train"][name], frames["synthetic"][name])
        assert ours[place] == pytest.approx(theirs, abs=1e-12)
    assert ours[len(NUMBERS) :].min() < 0.95


@parity
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_correlations_are_those_of_correlationsimilarity(
    frames: dict[str, Frame], missing: float
) -> None:
    metric = library("sdmetrics.column_pairs").CorrelationSimilarity
    chance = np.random.default_rng(1)
    holed = {
        part: rows.assign(**{
            name: rows[name].mask(chance.random(len(rows)) < missing) for name in NUMBERS
        })
        for part, rows in frames.items()
    }  # fmt: skip
    seen = evidence_of(**holed)
    frame = correlation.centres_and_scales(seen.train.numbers)
    real, other = (
        correlation.Moments(rows.numbers, *frame) for rows in (seen.train, seen.synthetic)
    )
    ours = correlation.similarity(real, other)
    for a, b in itertools.combinations(range(len(NUMBERS)), 2):
        pair = [NUMBERS[a], NUMBERS[b]]
        theirs = metric.compute(holed["train"][pair], holed["synthetic"][pair])
        assert ours[a, b] == pytest.approx(theirs, abs=1e-9)


@parity
def test_pairs_of_levels_are_those_of_contingencysimilarity(
    frames: dict[str, Frame], evidence: Evidence
) -> None:
    metric = library("sdmetrics.column_pairs").ContingencySimilarity
    binning = evidence.binning
    real, other = (
        joint.Binned.of(binning(rows), binning.sizes)
        for rows in (evidence.train, evidence.synthetic)
    )
    for a, b in itertools.combinations(range(len(NUMBERS), len(evidence.names)), 2):
        pair = [evidence.names[a], evidence.names[b]]
        theirs = metric.compute(frames["train"][pair], frames["synthetic"][pair])
        ours = joint.similarity(real.shares((a, b)), other.shares((a, b)))
        assert ours == pytest.approx(theirs, abs=1e-12)


@parity
def test_all_pairs_on_bins_of_the_real_rows_are_those_of_contingencysimilarity(
    evidence: Evidence,
) -> None:
    metric = library("sdmetrics.column_pairs").ContingencySimilarity
    binning, names = evidence.binning, list(evidence.names)
    binned = [
        pd.DataFrame(binning(rows), columns=names) for rows in (evidence.train, evidence.synthetic)
    ]
    every = list(itertools.combinations(range(len(names)), 2))
    theirs = [metric.compute(*(rows[[names[a], names[b]]] for rows in binned)) for a, b in every]
    found = {item.id: item for item in pairs.measure(evidence)}["fidelity.pair_trends"]
    assert found.estimate == pytest.approx(np.mean(theirs), abs=1e-12)
    assert found.n == len(evidence.synthetic)


@parity
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_accuracy_is_that_of_mostlyai_qa(frames: dict[str, Frame], missing: float) -> None:
    qa = library("mostlyai.qa._accuracy")
    chance = np.random.default_rng(2)
    holed = {
        part: rows.apply(lambda column: column.mask(chance.random(len(column)) < missing))
        for part, rows in frames.items()
    }
    real, other = (holed[part].add_prefix("tgt::") for part in ("train", "synthetic"))
    real_bins, bins = qa.bin_data(real, 10)
    other_bins, _ = qa.bin_data(other, bins)
    theirs = [
        calculate(real_bins, other_bins)
        for calculate in (
            qa.calculate_univariates, qa.calculate_bivariates, qa.calculate_trivariates,
        )
    ]  # fmt: skip
    seen = evidence_of(**holed)
    results = {piece: accuracy.work(seen, piece) for piece in accuracy.pieces(seen)}
    (ours,) = accuracy.conclude(seen, results).measurements
    # Theirs are rounded to five digits, each.
    for name, found in zip(("univariate", "bivariate", "trivariate"), theirs, strict=True):
        assert ours.details[name] == pytest.approx(found["accuracy"].mean(), abs=1e-5)
    means, best = ([found[column].mean() for found in theirs]
                   for column in ("accuracy", "accuracy_max"))  # fmt: skip
    assert ours.estimate == pytest.approx(np.mean(means), abs=1e-5)
    assert ours.details["expected_of_equal_distributions"] == pytest.approx(np.mean(best), abs=1e-5)


# Privacy: anonymeter in its safe regime (equal sizes, discrete secret, continuous halves).


@parity
@pytest.mark.parametrize("counts", [(300, 100), (90, 100), (0, 0), (500, 3), (17, 17)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_risk_of_counts_is_that_of_anonymeter(
    counts: tuple[int, int], confidence: float
) -> None:
    results = library("anonymeter.stats.confidence").EvaluationResults(
        n_attacks=500, n_success=counts[0], n_baseline=0, n_control=counts[1],
        confidence_level=confidence,
    )  # fmt: skip
    theirs = results.risk()
    ours = risk.estimate(counts[0], 500, counts[1], 500, confidence)
    assert ours.attack == pytest.approx(tuple(results.attack_rate))
    assert ours.control == pytest.approx(tuple(results.control_rate))
    # Theirs is cut off at 0 and 1.
    assert np.clip(ours.estimate, 0, 1) == pytest.approx(theirs.value)
    assert np.clip(ours.lcb, 0, 1) == pytest.approx(theirs.ci[0])
    assert np.clip(ours.ucb, 0, 1) == pytest.approx(theirs.ci[1])


N_PEOPLE, N_ATTACKS = 2_000, 1_000


def continuous(n_rows: int, chance: np.random.Generator) -> Frame:
    """Numbers without ties, and a secret level that they tell in part."""
    factor = chance.normal(size=(n_rows, 1))
    numbers = factor + chance.normal(size=(n_rows, 6))
    frame = pd.DataFrame(numbers, columns=list("abcdef"))
    told = factor[:, 0] + chance.normal(size=n_rows)
    return frame.assign(secret=np.array(["low", "mid", "high"])[np.digitize(told, [-0.7, 0.7])])


def half_copied(noise: float = 0.02) -> dict[str, Frame]:
    """A generator that copies every second row, with a little noise; equal sizes."""
    chance = np.random.default_rng(7)
    names = ("train", "control", "test", "synthetic")
    parts = {name: continuous(N_PEOPLE, chance) for name in names}
    copied = parts["train"].iloc[: N_PEOPLE // 2].copy()
    copied[list("abcdef")] += noise * chance.normal(size=(len(copied), 6))
    parts["synthetic"] = pd.concat(
        [copied, parts["synthetic"].iloc[: N_PEOPLE // 2]], ignore_index=True
    )
    return parts


def spread_as_theirs(synthetic: Frame, people: Frame, columns: list[str]) -> Any:
    """anonymeter divides numbers by their range in both tables."""
    both = pd.concat([synthetic[columns], people[columns]])
    return (both.max() - both.min()).to_numpy()


def assert_agree(ours: risk.Risk, theirs: Any) -> None:
    """Both risks are equal but for the chance in who is attacked, and how."""
    value, (low, high) = theirs
    reach = math.hypot(ours.ucb - ours.estimate, (high - low) / 2)
    assert ours.estimate == pytest.approx(value, abs=reach)


@parity
def test_the_same_predicates_isolate_the_same_number_of_people() -> None:
    polars = library("polars")
    attacks = library("anonymeter.evaluators.singling_out_evaluator")
    parts = half_copied()
    seen = evidence_of(**parts)
    ordered = singling_out.ordered_columns(seen.schema)
    matrix = singling_out.as_matrix(seen.synthetic, seen.schema)
    predicates = singling_out.multivariate(
        matrix, ordered, np.arange(0, N_PEOPLE, 5), np.random.default_rng(0), n_columns=(3, 3)
    )
    levels = seen.schema.column("secret").categories
    queries = []
    for columns, sides, values in zip(
        predicates.columns, predicates.sides, predicates.values, strict=True
    ):
        query = polars.lit(True)
        for place, side, value in zip(columns, sides, values, strict=True):
            column = polars.col(seen.names[place])
            query &= {
                singling_out.AT_LEAST: lambda c=column, v=value: c >= v,
                singling_out.AT_MOST: lambda c=column, v=value: c <= v,
                singling_out.EQUAL: lambda c=column, v=value: c == levels[int(v)],
            }[side]()
        queries.append(query)
    assert len(queries) > 100
    for name, rows in (("train", seen.train), ("control", seen.control)):
        theirs = np.array(attacks._evaluate_queries(polars.DataFrame(parts[name]), queries)) == 1
        ours = singling_out.isolated(predicates, singling_out.as_matrix(rows, seen.schema)) >= 0
        assert np.array_equal(ours, theirs)


def drawn_as_theirs(matrix: Any, ordered: Any) -> singling_out.Predicates:
    """Different predicates of random rows and columns, as many as isolate a row in fifteen tries.

    Our attack tries a row until a predicate isolates it; theirs takes what isolates at once.
    """
    every = np.arange(matrix.shape[1])
    drawn = [
        singling_out.multivariate(
            matrix, ordered, every, np.random.default_rng(seed), n_columns=(3, 3), tries=1
        )
        for seed in range(15)
    ]
    columns, sides, values = (
        np.vstack([getattr(part, field) for part in drawn])
        for field in ("columns", "sides", "values")
    )
    by_name = np.argsort(columns, axis=1)
    keys = np.hstack([np.take_along_axis(part, by_name, 1) for part in (columns, values)])
    _, first = np.unique(keys, axis=0, return_index=True)
    return singling_out.Predicates(columns=columns, sides=sides, values=values)[np.sort(first)]


@parity
def test_singling_out_agrees_with_anonymeter_on_equal_sizes() -> None:
    evaluators = library("anonymeter.evaluators")
    parts = half_copied(noise=0.0)
    theirs = (
        evaluators.SinglingOutEvaluator(
            ori=parts["train"],
            syn=parts["synthetic"],
            control=parts["control"],
            n_attacks=N_ATTACKS,
            n_cols=3,
            seed=0,
        )
        .evaluate("multivariate")
        .risk()
    )
    seen = evidence_of(**parts)
    matrix, members, strangers = (
        singling_out.as_matrix(rows, seen.schema)
        for rows in (seen.synthetic, seen.members, seen.strangers)
    )
    predicates = drawn_as_theirs(matrix, singling_out.ordered_columns(seen.schema))
    hits = [int((singling_out.isolated(predicates, side) >= 0).sum())
            for side in (members, strangers)]  # fmt: skip
    n = len(predicates)
    assert n > 500
    ours = risk.estimate(hits[0], n, hits[1], n, 0.95)
    assert_agree(ours, theirs)
    assert ours.lcb > 0.05, "there is something to agree on"


HALVES = (["a", "b", "c"], ["d", "e", "f"])


@parity
def test_nearest_rows_link_the_same_people_as_those_of_anonymeter() -> None:
    evaluator = library("anonymeter.evaluators.linkability_evaluator")
    parts = half_copied()
    seen = evidence_of(**parts)
    theirs, ours = [], []
    for columns, half in zip(HALVES, ((0, 1, 2), (3, 4, 5)), strict=True):
        spread = np.ones(6)
        spread[list(half)] = spread_as_theirs(parts["synthetic"], parts["train"], columns)
        people, synthetic = (
            linkability.columns_of(by_scale(rows, spread), half)
            for rows in (seen.train, seen.synthetic)
        )
        ours.append(nearest(people, synthetic, threads=1)[1])
        found = evaluator._find_nn(
            syn=parts["synthetic"][columns], ori=parts["train"][columns], n_jobs=1, n_neighbors=1
        )
        theirs.append(found[:, 0])
    # Ours are compared in less than double precision: a distance in a million is a tie.
    for mine, other in zip(ours, theirs, strict=True):
        assert np.mean(mine != other) < 0.005
    linked = [linkability.linked(near[0][:, None], near[1][:, None]) for near in (ours, theirs)]
    assert np.mean(linked[0] != linked[1]) < 0.005
    assert 0.3 < linked[0].mean() < 0.7


@parity
def test_linkability_agrees_with_anonymeter_on_continuous_data() -> None:
    evaluators = library("anonymeter.evaluators")
    parts = half_copied()
    np.random.seed(0)  # noqa: NPY002  (the library draws from it)
    theirs = (
        evaluators.LinkabilityEvaluator(
            ori=parts["train"],
            syn=parts["synthetic"],
            control=parts["control"],
            aux_cols=HALVES,
            n_attacks=N_ATTACKS,
            n_neighbors=1,
        )
        .evaluate(n_jobs=1)
        .risk()
    )
    seen = evidence_of(**parts, settings={"attacks": N_ATTACKS})
    found = linkability.attack(seen, seen.synthetic, ((0, 1, 2), (3, 4, 5)), "parity")
    ours = linkability.judge(found, 0.95)
    assert_agree(ours, theirs)
    assert ours.lcb > 0.2


@parity
def test_inference_of_a_level_agrees_with_anonymeter() -> None:
    evaluators = library("anonymeter.evaluators")
    parts = half_copied()
    np.random.seed(0)  # noqa: NPY002  (the library draws from it)
    results = (
        evaluators.InferenceEvaluator(
            ori=parts["train"],
            syn=parts["synthetic"],
            control=parts["control"],
            aux_cols=list("abcdef"),
            secret="secret",
            regression=False,
            n_attacks=N_ATTACKS,
        )
        .evaluate(n_jobs=1)
        .results()
    )
    seen = evidence_of(**parts, sensitive=("secret",))
    hits = attribute_inference.hits_of(
        seen, seen.synthetic, seen.names.index("secret"), (attribute_inference.NEAREST,)
    )[attribute_inference.NEAREST]
    ours = risk.estimate(
        int(hits.members.sum()), len(hits.members), int(hits.strangers.sum()), len(hits.strangers),
        0.95,
    )  # fmt: skip
    assert_agree(ours, results.risk())
    assert ours.attack.value == pytest.approx(
        results.attack_rate.value, abs=math.hypot(ours.attack.reach, results.attack_rate.error)
    )
    assert ours.lcb > 0.2


# Privacy: the one-run audit beside the epsilon that dp-accounting gives the mechanism.

DELTA = 1e-5
N_CANARIES, REPEATS, CONFIDENCE = 1_000, 150, 0.95


def epsilon_of_gaussian(noise: float) -> float:
    """The epsilon of one release of a count with Gaussian noise, by privacy loss distributions."""
    event = library("dp_accounting").GaussianDpEvent(noise)
    accountant = library("dp_accounting.pld").PLDAccountant()
    return float(accountant.compose(event).get_epsilon(DELTA))


def audited(noise: float, seed: int) -> float:
    """The lower bound of an audit of as many releases as canaries, each with its own coin."""
    chance = np.random.default_rng(seed)
    persons = np.arange(N_CANARIES)
    members, strangers = (side + chance.normal(0, noise, N_CANARIES) for side in (1.0, 0.0))
    canaries = epsilon_audit.draw_canaries(persons, persons, chance)
    bound = epsilon_audit.best_bound(
        canaries, {"released value": (members, strangers)}, CONFIDENCE, DELTA
    )
    return bound.epsilon


@parity
@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_the_audit_of_a_gaussian_mechanism_stays_below_its_epsilon(noise: float) -> None:
    epsilon = epsilon_of_gaussian(noise)
    bounds = np.array([audited(noise, seed) for seed in range(REPEATS)])
    n_wrong = int((bounds > epsilon).sum())
    assert clopper_pearson(n_wrong, REPEATS, 0.99).lcb <= 1 - CONFIDENCE
    if noise < 1:
        assert np.median(bounds) > 0.1 * epsilon, "an audit that finds nothing proves nothing"
