"""The utility suite: scores against brute force, orderings that must hold, degenerate tables."""

from __future__ import annotations

import functools
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from scipy import stats
from sklearn.metrics import r2_score, roc_auc_score

from synthfactory.evaluation import Findings
from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.evidence import Evidence, shuffled
from synthfactory.evaluation.learners import (
    LEARNERS,
    boosted_classifier,
    boosted_regressor,
    few_threads,
    predicted,
    train,
)
from synthfactory.evaluation.utility import fairness, importance, ranks, scores
from synthfactory.evaluation.utility.scores import judge
from synthfactory.evaluation.utility.suite import MEASURES, SUITE
from synthfactory.evaluation.utility.task import Rows, Task
from synthfactory.tables import Column, Encoded, Schema

COLUMNS = (
    Column(name="x", kind="numerical", dtype="double", nullable=True),
    Column(name="z", kind="numerical", dtype="double"),
    Column(name="amount", kind="numerical", dtype="double"),
    Column(name="group", kind="categorical", dtype="string", categories=("a", "b", "rare")),
    Column(name="level", kind="ordinal", dtype="int64", categories=(0, 1, 2, 3)),
    Column(name="binary", kind="boolean", dtype="bool", categories=(False, True)),
    Column(name="several", kind="categorical", dtype="string", categories=("p", "q", "r")),
)
BINARY = Task(place=5, classes=np.array([0, 1]))
NUMBERS = Task(place=2, classes=None)


def draw(n: int, chance: np.random.Generator) -> Encoded:
    """People whose amount, and whose two outcomes, depend on x, level and group."""
    x, z = chance.normal(size=(2, n))
    group = chance.choice(3, n, p=[0.6, 0.39, 0.01])
    level = np.clip(np.rint(x + chance.normal(0, 0.7, n) + 1.5), 0, 3)
    amount = 2 * x + level + group + chance.normal(0, 1, n)
    binary = amount + chance.normal(0, 1, n) > 2
    several = np.digitize(amount + chance.normal(0, 1, n), [1, 3])
    x[chance.random(n) < 0.05] = np.nan
    return Encoded(
        numbers=np.column_stack([x, z, amount]),
        codes=np.column_stack([group, level, binary, several]).astype(np.int32),
    )


def evidence(
    target: str | None = "binary", *, seed: int = 0, n: int = 300, **more: Any
) -> Evidence:
    """The synthetic rows are fresh real ones."""
    chance = np.random.default_rng(seed)
    learnt, control, test, synthetic = (draw(size, chance) for size in (2 * n, n, n, 2 * n))
    roles = {"quasi_identifiers": more.pop("quasi_identifiers", ("x", "group"))}
    return Evidence(
        schema=Schema(columns=COLUMNS, target=target, **roles),
        train=learnt, control=control, test=test, synthetic=synthetic, seed=seed, threads=1,
        repeats=more.pop("repeats", 40), **more,
    )  # fmt: skip


def measured(base: Evidence) -> Findings:
    return conclude(base, [SUITE], measure(base, [SUITE]))


def relabelled(base: Evidence, binary: Any) -> Evidence:
    """The same synthetic rows with another binary outcome."""
    codes = base.synthetic.codes.copy()
    codes[:, 2] = binary
    return base.judging(Encoded(numbers=base.synthetic.numbers, codes=codes))


@functools.cache
def of_kind(kind: str) -> Findings:
    """The findings on synthetic rows that are fresh, or that somebody spoilt."""
    base, chance = evidence(n=500), np.random.default_rng(7)
    if kind == "noisy":
        flipped = base.synthetic.codes[:, 2] ^ (chance.random(len(base.synthetic)) < 0.3)
        return measured(relabelled(base, flipped))
    if kind == "favouring":
        return measured(relabelled(base, base.synthetic.codes[:, 0] == 1))
    if kind == "independent":
        return measured(base.judging(shuffled(base.train, len(base.synthetic), chance)))
    return measured(base)


# Scores


def test_auc_is_the_weighted_share_of_ordered_pairs() -> None:
    chance = np.random.default_rng(0)
    positive = chance.random(60) < 0.4
    predictions = chance.integers(0, 9, 60) / 7.0
    weights = chance.integers(0, 4, (5, 60)).astype(float)
    found = scores.auc(positive, predictions, weights)
    for w, value in zip(weights, found, strict=True):
        up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
        won = sum(
            w[i] * w[j] * (0.5 + 0.5 * np.sign(predictions[i] - predictions[j]))
            for i in up
            for j in down
        )
        assert value == pytest.approx(won / (w[up].sum() * w[down].sum()))
        assert value == pytest.approx(roc_auc_score(positive, predictions, sample_weight=w))


def test_auc_without_one_of_the_classes_is_chance() -> None:
    weights = np.array([[1.0, 1.0, 0.0, 0.0]])
    positive = np.array([True, True, False, False])
    assert scores.auc(positive, np.arange(4.0), weights).tolist() == [0.5]


def test_r2_is_the_usual_one_under_weights_and_far_from_zero() -> None:
    chance = np.random.default_rng(0)
    truth = 1.7e9 + chance.normal(size=80)
    guess = truth + chance.normal(0, 0.5, 80)
    weights = chance.integers(0, 3, (4, 80)).astype(float)
    found = scores.r2(truth, guess, weights)
    for w, value in zip(weights, found, strict=True):
        assert value == pytest.approx(r2_score(truth, guess, sample_weight=w), abs=1e-6)
    assert scores.r2(np.ones(80), guess, weights).tolist() == [0.0] * 4


def test_several_classes_are_scored_one_against_the_rest() -> None:
    chance = np.random.default_rng(1)
    truth = chance.integers(0, 3, 200).astype(float)
    shares = chance.dirichlet([1, 1, 1], 200)
    task = Task(place=6, classes=np.arange(3))
    brute = np.mean([roc_auc_score(truth == k, shares[:, k]) for k in range(3)])
    assert scores.scores(truth, shares, task, np.ones((1, 200)))[0] == pytest.approx(brute)


def test_tau_b_is_scipys_with_ties() -> None:
    chance = np.random.default_rng(2)
    a, b = chance.integers(0, 4, (2, 50, 5)).astype(float)
    found = ranks.tau_b(a, b)
    for x, y, value in zip(a, b, found, strict=True):
        expected = 0.0 if min(np.ptp(x), np.ptp(y)) == 0 else stats.kendalltau(x, y).statistic
        assert value == pytest.approx(expected)


def test_paired_interval_of_a_difference_covers_it() -> None:
    def people(n: int, chance: np.random.Generator) -> tuple[Any, dict[str, Any]]:
        truth = (chance.random(n) < 0.4).astype(float)
        seen = truth + chance.normal(0, 1, n)
        models = {"good": seen, "worse": seen + chance.normal(0, 0.8, n)}
        return truth, {name: np.column_stack([-x, x]) for name, x in models.items()}

    truth, models = people(400_000, np.random.default_rng(0))
    ones = np.ones((1, len(truth)))
    true = {name: scores.scores(truth, x, BINARY, ones)[0] for name, x in models.items()}
    covered, widths, unpaired = 0, [], []
    for seed in range(200):
        base = evidence(seed=seed, n=1, repeats=100)
        found = judge(base, *people(250, np.random.default_rng(seed + 1)), BINARY)
        good, worse = found["good"], found["worse"]
        gap = scores.Scored(
            estimate=good.estimate - worse.estimate, repeats=good.repeats - worse.repeats
        )
        interval = gap.interval(0.95)
        covered += interval.lcb <= true["good"] - true["worse"] <= interval.ucb
        widths.append(interval.ucb - interval.lcb)
        unpaired.append(1.96 * 2 * np.hypot(good.repeats.std(), worse.repeats.std()))
    assert covered >= 0.90 * 200, covered
    assert np.mean(widths) < 0.8 * np.mean(unpaired), "pairing narrows the interval"


# Importance


def test_overlap_of_importances() -> None:
    chance = np.random.default_rng(0)
    base = evidence(n=400)
    rows = Rows.of(base, base.test, NUMBERS)
    first, second = (
        importance.losses(base, rows, NUMBERS, lambda x, place=place: x[:, place])
        for place in (0, 1)
    )
    first = np.nan_to_num(first)
    assert importance.shares(np.ones((1, len(rows))), first)[0].argmax() == 0
    assert importance.agreement(base, first, first).estimate == pytest.approx(1.0)
    assert importance.agreement(base, first, second).estimate < 0.05
    noise = chance.normal(size=first.shape).astype(np.float32)
    assert importance.agreement(base, noise * 0 - 1, first).estimate == 0.0


# Fairness


def test_differences_are_fairlearns_on_every_draw() -> None:
    chance = np.random.default_rng(3)
    n = 300
    groups, truth, chosen = chance.integers(0, 3, n), chance.random(n) < 0.4, chance.random(n) < 0.5
    weights = np.stack([np.bincount(chance.integers(n, size=n), minlength=n) for _ in range(6)])
    parity = fairness.resampled_parity(truth, chosen, groups, weights.astype(float))
    odds = fairness.resampled_odds(truth, chosen, groups, weights.astype(float))
    for place, w in enumerate(weights):
        rows = np.repeat(np.arange(n), w)
        y, f, g = truth[rows], chosen[rows], groups[rows]
        assert parity[place] == pytest.approx(
            demographic_parity_difference(y, f, sensitive_features=g)
        )
        assert odds[place] == pytest.approx(equalized_odds_difference(y, f, sensitive_features=g))


def test_small_groups_and_missing_levels_are_no_groups() -> None:
    codes = np.repeat([0, 1, 2, 3], [60, 50, 49, 80])
    assert np.unique(fairness.grouped(codes, 3)).tolist() == [-1, 0, 1]


def test_synthetic_rows_that_favour_a_group_are_seen_and_fresh_rows_are_not() -> None:
    fresh = of_kind("fresh")["utility.fairness_gap"]
    assert fresh.lcb == 0.0
    unfair = of_kind("favouring")["utility.fairness_gap"]
    assert unfair.details["worst"] == "group"
    assert unfair.lcb > 0.2
    assert unfair.control is not None
    assert unfair.control < 0.2
    parity = next(row for row in unfair.details["compared"] if row["difference"] == fairness.PARITY)
    assert parity["synthetic"] == pytest.approx(1.0, abs=0.02)
    assert parity["n_groups"] == 2


@pytest.mark.parametrize(
    ("target", "declared"), [("binary", ("x",)), ("amount", ("group",)), ("several", ("group",))]
)
def test_fairness_is_not_asked_for_without_groups_or_two_classes(
    target: str, declared: tuple[str, ...]
) -> None:
    base = evidence(target, quasi_identifiers=declared, n=60)
    found = measured(base)
    assert "utility.fairness_gap" not in {*found.by_id, *found.failures}


def test_groups_that_are_too_small_are_a_named_failure() -> None:
    found = measured(evidence(n=60))
    assert "two groups of at least 50" in found.failures["utility.fairness_gap"]
    assert "utility.retained" in found.by_id


# The suite


def test_fresh_rows_beat_noisy_ones_and_these_independent_ones() -> None:
    kept = [
        {name: of_kind(kind)[name] for name in MEASURES}
        for kind in ("fresh", "noisy", "independent")
    ]
    for name in ("utility.tstr", "utility.retained", "utility.retained_mean"):
        values = [found[name].estimate for found in kept]
        assert values == sorted(values, reverse=True), name
        assert kept[0][name].lcb > kept[2][name].ucb
    assert kept[0]["utility.retained"].estimate > 0.9
    assert kept[0]["utility.retained"].control == pytest.approx(1.0, abs=0.15)
    assert kept[2]["utility.retained"].lcb < 0.2
    matters = [found["utility.feature_importance"].estimate for found in kept]
    assert matters[0] > 0.7 > matters[2]


def test_adding_fresh_rows_does_no_harm_and_adding_wrong_ones_does() -> None:
    fresh, wrong = (of_kind(kind)["utility.augmentation"] for kind in ("fresh", "favouring"))
    assert fresh.lcb > -0.02
    assert fresh.ucb > 0
    assert wrong.ucb < 0
    assert wrong.baseline == 0
    assert wrong.control is not None
    assert wrong.control > wrong.ucb


def test_rows_that_carry_nothing_keep_no_order_of_learners() -> None:
    found = of_kind("independent")["utility.rank_agreement"]
    assert found.lcb < 0.5
    assert -1 <= found.estimate <= 1


def test_every_learner_is_drawn_with_both_scores() -> None:
    bars = of_kind("fresh").charts["learners"]
    assert [bar["name"] for bar in bars] == list(LEARNERS)
    assert len(LEARNERS) >= 5
    for bar in bars:
        assert bar["tstr"]["lcb"] <= bar["tstr"]["estimate"] <= bar["tstr"]["ucb"]
        assert bar["trtr"]["lcb"] > bar["chance"] == 0.5


@pytest.mark.parametrize(
    ("target", "unit", "chance"),
    [("amount", "R2", 0.0), ("several", "mean one-against-rest AUC", 0.5)],
)
def test_numbers_and_several_classes(target: str, unit: str, chance: float) -> None:
    found = measured(evidence(target))
    assert not found.failures
    assert found["utility.tstr"].unit == unit
    assert found["utility.tstr"].baseline == chance
    assert found["utility.retained_mean"].estimate > 0.8
    assert len(found["utility.retained_mean"].details["learners"]) == len(LEARNERS)


@pytest.mark.parametrize("target", ["binary", "amount", "several"])
def test_synthetic_rows_of_one_answer_teach_nothing(target: str) -> None:
    base = evidence(target, n=200)
    place = base.names.index(target)
    numbers, codes = base.synthetic.numbers.copy(), base.synthetic.codes.copy()
    if place < numbers.shape[1]:
        numbers[:, place] = 2.0
    else:
        codes[:, place - numbers.shape[1]] = 1
    found = measured(base.judging(Encoded(numbers=numbers, codes=codes)))
    assert found["utility.retained"].ucb < 0.1
    assert found["utility.rank_agreement"].estimate == 0.0
    assert found["utility.feature_importance"].estimate == 0.0


def test_no_target_and_an_unpredictable_one_are_named_failures() -> None:
    assert set(measured(evidence(None)).failures) == {*MEASURES, "utility.fairness_gap"}
    base = evidence(n=200)
    chance = np.random.default_rng(0)
    for part in (base.train, base.control, base.test):
        part.codes[:, 2] = chance.integers(0, 2, len(part))
    found = measured(base)
    assert "hardly predict" in found.failures["utility.retained"]
    assert not found.measurements


def test_same_seed_gives_the_same_findings_whoever_makes_the_pieces() -> None:
    base = evidence(n=200)
    whole = measured(base).to_dict()
    shares: dict[Any, Any] = {}
    for number in (2, 0, 1):
        made = measure(pickle.loads(pickle.dumps(base)), [SUITE], number=number, of=3)
        shares |= pickle.loads(pickle.dumps(made))
    assert conclude(base, [SUITE], shares).to_dict() == whole


def test_rows_are_capped_and_told() -> None:
    found = measured(evidence(n=200, max_rows=150))
    retained = found["utility.retained"]
    assert retained.n == 150
    assert (retained.details["n_synthetic"], retained.details["n_real"]) == (150, 150)


def test_no_row_level_result_reaches_the_findings() -> None:
    def longest(value: Any) -> int:
        if isinstance(value, dict):
            return max([len(value), *map(longest, value.values())])
        if isinstance(value, list):
            return max([len(value), *map(longest, value)])
        return 0

    found = of_kind("fresh").to_dict()
    assert longest([item["details"] for item in found["measurements"]]) < 20
    assert "rare" not in json.dumps(found["measurements"])


# Learners

WEIRD = {
    "no column": (np.zeros((60, 1)), [False]),
    "all missing": (np.full((60, 2), np.nan), [False, False]),
    "levels only": (np.arange(60.0)[:, None] % 7, [True]),
    "many levels": (np.arange(60.0)[:, None] * 5, [False]),
    "huge and infinite": (np.r_[np.full(30, 1e300), np.full(30, -np.inf)][:, None], [False]),
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("table", WEIRD)
def test_learners_take_weird_tables(name: str, table: str) -> None:
    x, categorical = WEIRD[table]
    for classes, y in ((True, np.arange(60) % 3), (False, np.arange(60.0))):
        model = train(name, x, y, classes=classes, categorical=categorical, seed=0)
        unseen = np.vstack([x, np.full((1, x.shape[1]), 199.0)])
        guess = predicted(model, unseen, classes=classes)
        assert guess.shape == ((61, 3) if classes else (61,))
        assert np.isfinite(guess).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_repeat_themselves_with_the_same_threads(name: str) -> None:
    base = evidence(n=300)
    x = np.column_stack([np.nan_to_num(base.train.numbers), base.train.codes[:, :2]])
    y = base.train.codes[:, 3]
    with few_threads(2):
        first, second = (
            predicted(
                train(name, x, y, classes=True, categorical=[False] * 3 + [True] * 2, seed=4),
                x,
                classes=True,
            )
            for _ in range(2)
        )
    assert np.array_equal(first, second)


def test_boosting_learns_one_class_as_a_certainty() -> None:
    model = boosted_classifier([False], 0).fit(np.zeros((9, 1)), np.full(9, 4))
    assert model.predict(np.zeros((2, 1))).tolist() == [4, 4]
    assert model.predict_proba(np.zeros((2, 1))).tolist() == [[1.0], [1.0]]


def test_boosting_sees_seconds_in_dates() -> None:
    # As float32, seconds since 1970 fall into steps of 128.
    seconds = 1.7e9 + np.arange(200.0)
    model = boosted_regressor([False], 0).fit(seconds[:, None], seconds)
    assert np.abs(model.predict(seconds[:, None]) - seconds).max() < 10


def test_margins_rank_as_probabilities() -> None:
    chance = np.random.default_rng(0)
    x = chance.normal(size=(200, 2))
    y = x[:, 0] + chance.normal(size=200) > 0
    model = boosted_classifier([False, False], 0).fit(x, y)
    margins = model.decision_function(x)
    assert margins.shape == (200,)
    assert roc_auc_score(y, margins) == roc_auc_score(y, model.predict_proba(x)[:, 1])


def test_importing_the_evaluation_brings_neither_xgboost_nor_fairlearn() -> None:
    code = (
        "import sys, synthfactory.evaluation;"
        "print({'xgboost', 'fairlearn'} & set(sys.modules) or 'none')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "none"
