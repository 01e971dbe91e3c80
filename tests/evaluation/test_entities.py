"""Rows of one person count together: intervals that hold for tables of repeated rows.

Without a declared entity nothing changes: values and intervals are those recorded before.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from latent import LEVELS, schema_of
from latent import draw as draw_alone
from test_fidelity_multivariate import dense

from synthfactory.errors import EvaluationError
from synthfactory.evaluation import Findings
from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.evidence import Evidence, Sides, take
from synthfactory.evaluation.fidelity import alpha_precision, mmd, pairs, prdc, triples, two_sample
from synthfactory.evaluation.fidelity.embedding import Embedding
from synthfactory.evaluation.fidelity.samples import Groups, groups, samples
from synthfactory.evaluation.neighbours import Points
from synthfactory.evaluation.privacy import (
    attribute_inference,
    authenticity,
    dcr,
    domias,
    exact_match,
    linkability,
    shadows,
    singling_out,
)
from synthfactory.evaluation.roc import rate_at
from synthfactory.evaluation.subgroups import RAREST, Group, compare, subgroups
from synthfactory.evaluation.suite import Suite
from synthfactory.evaluation.utility import scores, task
from synthfactory.evaluation.utility import suite as utility
from synthfactory.tables import Column, Schema, Table

Floats = npt.NDArray[np.float64]

GOLDEN = Path(__file__).parent / "golden" / "rows_alone.json"
WHOLE_ROWS = (two_sample.SUITE, mmd.SUITE, prdc.SUITE, alpha_precision.SUITE)
ROWS_OF_ONE = 6


def judge(evidence: Evidence, *suites: Suite) -> Findings:
    return conclude(evidence, suites, measure(evidence, suites))


def schema(entity: str | None = "person") -> Schema:
    person = Column(name="person", kind="identifier", dtype="string")
    return Schema(columns=(person, *schema_of(2, 1).columns), target="c0", entity=entity)


def draw(n_people: int, chance: np.random.Generator, spread: float = 1.0) -> Table:
    """People of several rows each, which are nearly the same: 99 % of the variance."""
    factor = spread * chance.normal(size=(n_people, 3))
    rows = np.repeat(factor, ROWS_OF_ONE, axis=0)
    rows = rows + spread / 10 * chance.normal(size=rows.shape)
    levels = np.clip(np.rint((rows[:, 0] + rows[:, 2]) / 2 + 3.5), 3, 4).astype(int)
    frame = pd.DataFrame(
        {
            "person": np.repeat([f"p{i}" for i in range(n_people)], ROWS_OF_ONE),
            "x0": rows[:, 0],
            "x1": rows[:, 1],
            "c0": np.array(LEVELS)[levels],
        }
    )
    return Table(data=pa.Table.from_pandas(frame, preserve_index=False), schema=schema())


def evidence(seed: int, *, n_people: int = 40, spread: float = 1.0) -> Evidence:
    """Synthetic rows of other people, of the same distribution or of a wider one."""
    chance = np.random.default_rng(seed)
    real = [draw(n_people, chance) for _ in range(3)]
    return Evidence.of(*real, draw(n_people, chance, spread), seed=seed, threads=1, repeats=40)


def without_entity(base: Evidence) -> Evidence:
    """The same rows, taken for independent ones."""
    return dataclasses.replace(base, schema=schema(entity=None))


# Without an entity


def test_without_an_entity_every_value_and_interval_is_as_recorded() -> None:
    chance = np.random.default_rng(0)
    parts = {name: draw_alone(200, chance) for name in ("train", "control", "test", "synthetic")}
    alone = Schema(columns=schema_of(3, 2).columns, target="c0", quasi_identifiers=("c1",))
    base = Evidence(schema=alone, **parts, seed=0, threads=1, repeats=40)
    found = {
        item.id: [item.estimate, item.lcb, item.ucb, item.control, item.details.get("p", 0.0)]
        for item in judge(base, *WHOLE_ROWS, utility.SUITE).measurements
    }
    if os.environ.get("SYNTHFACTORY_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    recorded = json.loads(GOLDEN.read_text())
    assert found.keys() == recorded.keys()
    for name, values in recorded.items():
        assert found[name] == pytest.approx(values, rel=1e-6, abs=1e-9), name


# With one


def test_groups_follow_the_sampled_rows() -> None:
    base = dataclasses.replace(evidence(0), max_rows=150)
    drawn, whose = samples(base), groups(base)
    assert base.tables is not None
    persons = base.tables.train.data.column("person").to_pylist()
    first = {float(x): person for x, person in zip(base.train.numbers[:, 0], persons, strict=True)}
    assert whose.real is not None
    named = [first[float(x)] for x in drawn.real.numbers[:, 0]]
    same = np.array(named)[:, None] == np.array(named)
    assert (same == (whose.real[:, None] == whose.real)).all()
    assert set(whose.real) == set(range(len(set(named))))


def test_few_people_are_a_named_failure() -> None:
    base = evidence(0, n_people=9)
    with pytest.raises(EvaluationError, match="9 different 'person'"):
        groups(base)
    found = judge(base, *WHOLE_ROWS)
    assert not found.measurements
    assert "at least 10" in found.failures["fidelity.mmd2"]
    assert judge(without_entity(base), *WHOLE_ROWS).measurements


def test_mmd_counts_pairs_of_different_people_only() -> None:
    base = evidence(0, n_people=12)
    embed, width = Embedding.of(base), 0.7
    whose = base.entities("train")
    assert whose is not None
    points = embed(base.train)
    full = dense(points, embed.sizes)
    kernel = np.exp(-((full[:, None] - full) ** 2).sum(axis=2) / (2 * width**2))
    others = whose[:, None] != whose
    own = mmd.Own.of(points, width, whose, threads=1)
    assert own.sums == pytest.approx((kernel * others).sum(axis=1), abs=1e-4)
    assert own.mean == pytest.approx(kernel[others].mean(), abs=1e-6)
    # Moving the weight of a row moves the mean as its influence says.
    weights = np.ones(len(full))
    weights[5] += 1e-4
    both = np.outer(weights, weights) * others
    moved = (kernel * both).sum() / both.sum()
    slope = (moved - kernel[others].mean()) / 1e-4 * len(full) / 2
    assert own.influence[5] == pytest.approx(slope, abs=1e-3)


def test_a_row_is_lost_with_the_person_who_alone_holds_it() -> None:
    base = evidence(0, n_people=15)
    place = prdc.as_points(base)
    real, synthetic = (
        prdc.balls(place(rows), prdc.K, threads=1) for rows in (base.train, base.synthetic)
    )
    whose = Groups(base.entities("train"), base.entities("synthetic"))
    assert whose.synthetic is not None
    found = prdc.neighbourhoods(real, synthetic, whose, threads=1).real
    gaps = distances(real.points, synthetic.points) <= synthetic.radii
    holders = [np.unique(whose.synthetic[row]) for row in gaps]
    assert found.lone.tolist() == [int(one[0]) if len(one) == 1 else -1 for one in holders]
    assert (found.lone >= 0).sum() > (gaps.sum(axis=1) == 1).sum() > 0


def distances(rows: prdc.Points, others: prdc.Points) -> npt.NDArray[np.float32]:
    """Every distance, from the nearest-neighbour search of all rows."""
    found, places = prdc.nearest_k(rows, others, min(64, len(others)), threads=1)
    every = np.full((len(rows), len(others)), np.inf, np.float32)
    np.put_along_axis(every, places, found, axis=1)
    return every


def test_persons_stay_whole_in_folds_and_both_sides_are_in_each() -> None:
    chance = np.random.default_rng(0)
    real, other = np.repeat(np.arange(40), 6), np.arange(240)
    whose = two_sample.Whose.of(real, None, 240)
    assert whose is not None
    folds = whose.folds(chance)
    assert sorted(np.concatenate(folds)) == list(range(480))
    for fold in folds:
        assert (np.bincount(real[fold[fold < 240]], minlength=40) % 6 == 0).all()
        assert (fold >= 240).sum() == len(other) / 3
        assert 12 <= len(np.unique(real[fold[fold < 240]])) <= 14


def test_judge_does_not_recognise_people_whom_it_saw() -> None:
    found = [
        [judge(each, two_sample.SUITE)["fidelity.two_sample_auc"] for each in (base, alone)]
        for base in (evidence(seed, n_people=100) for seed in range(4))
        for alone in [without_entity(base)]
    ]
    together, apart = np.array([[item.estimate for item in pair] for pair in found]).mean(axis=0)
    assert apart > 0.65, "rows of the same people in training and in the fold give the side away"
    assert together == pytest.approx(0.5, abs=0.08)


def test_labels_of_persons_dealt_anew_give_a_uniform_p() -> None:
    chance, found, alone = np.random.default_rng(0), [], []
    for _ in range(300):
        # The one side has rows of its own, the other six rows of a person.
        side = np.repeat([False, True], 120)
        persons = np.concatenate([np.repeat(np.arange(20), 6), np.arange(20, 140)])
        values = chance.normal(size=140)[persons]
        found.append(two_sample.permutation_p([(values, side)], 199, chance, [persons]))
        alone.append(two_sample.permutation_p([(values, side)], 199, chance))
    assert np.mean(np.array(found) <= 0.05) <= 0.09
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(alone) <= 0.05) > 0.12, "rows dealt one by one are too sure"


def test_whole_persons_are_drawn() -> None:
    base = evidence(0)
    test = task.test_rows(base, task.task_of(base))
    assert test.persons is not None
    (block,) = scores.draws(base, len(test), test.persons)
    for person in range(40):
        assert (block[:, test.persons == person].std(axis=1) == 0).all()
    assert len(np.unique(block[:, ::ROWS_OF_ONE])) > 2
    assert (block[:, ::ROWS_OF_ONE].sum(axis=1) == 40).all()


# Coverage: intervals hold the mean of repeated samples, and those of independent rows do not

MULTIVARIATE = (mmd.SUITE, prdc.SUITE, alpha_precision.SUITE, pairs.SUITE, triples.SUITE)


def test_members_and_strangers_know_whose_rows_they_are() -> None:
    base = evidence(3)
    assert base.tables is not None
    for whose, rows, table in (
        (base.whose.members, base.members, base.tables.train),
        (base.whose.strangers, base.strangers, base.tables.control),
    ):
        assert whose is not None
        persons = table.data.column("person").to_pylist()
        known = {
            float(x): persons[place] for place, x in enumerate(table.data.column("x0").to_pylist())
        }
        named = np.array([known[float(x)] for x in rows.numbers[:, 0]])
        assert ((named[:, None] == named) == (whose[:, None] == whose)).all()
    assert without_entity(base).whose == (None, None)
    some = base.whose.take(np.array([5, 0]), np.array([1]))
    assert some.members is not None
    assert base.whose.members is not None
    assert some.members.tolist() == base.whose.members[[5, 0]].tolist()


def test_copies_of_one_persons_rows_are_one_cluster() -> None:
    # Six rows of each of 50 members; every row of five of them is copied.
    members, strangers = np.arange(300), np.arange(300, 600)
    whose = np.repeat(np.arange(50), 6)
    synthetic = np.concatenate([np.arange(30), 600 + np.arange(270)])
    alone = exact_match.excess(members, strangers, synthetic, 0.95)
    together = exact_match.excess(members, strangers, synthetic, 0.95, whose)
    assert alone.estimate == together.estimate == pytest.approx(0.1)
    # Sums of five clusters of six copies, and an unseen one: 6 sqrt(5 + 1) / 300.
    assert together.ucb - together.estimate == pytest.approx(1.95996 * 6 * 6**0.5 / 300, rel=1e-4)
    assert alone.ucb - alone.estimate == pytest.approx(1.95996 * 31**0.5 / 300, rel=1e-4)


def test_a_row_that_several_persons_have_is_its_own_cluster() -> None:
    members, strangers = np.array([0, 0, 1, 2]), np.array([3, 4, 5, 6])
    whose = np.array([0, 1, 1, 1])
    shared = exact_match.excess(members, strangers, np.array([0, 1, 2]), 0.95, whose)
    # Clusters: row 0 of two persons, and rows 1 and 2 of one; two members a person on average.
    error = (1.0**2 + 2.0**2 + 2.0**2) ** 0.5 / 3
    assert shared.ucb - shared.estimate == pytest.approx(1.95996 * error, rel=1e-4) or (
        shared.ucb == max(1.0, shared.estimate)
    )
    assert shared.estimate - shared.lcb == pytest.approx(1.95996 * error, rel=1e-4)


def one_of_many_rows(others: int) -> npt.NDArray[np.int64]:
    """Whose rows are: 50 of one person, then one of each of the others."""
    return np.concatenate([np.zeros(50, np.int64), 1 + np.arange(others)])


def test_a_level_that_few_people_fill_with_many_rows_is_no_subgroup() -> None:
    base = evidence(0, n_people=60)
    groups = subgroups(base, base.members, base.strangers, base.whose)
    alone = subgroups(base, base.members, base.strangers)
    assert set(groups) < set(alone), "every level has 50 rows, none has 50 people on both sides"
    assert RAREST not in groups
    large = evidence(0, n_people=400)
    found = subgroups(large, large.members, large.strangers, large.whose)
    assert found.keys() == subgroups(large, large.members, large.strangers).keys()


def test_hits_on_one_persons_rows_hit_one_person() -> None:
    whose = Sides(one_of_many_rows(60), one_of_many_rows(60))
    everybody = np.ones(110, dtype=bool)
    hits = np.zeros(110)
    hits[:50] = 1.0
    groups = {"c0 = u": Group(everybody, everybody)}
    together = compare(groups, hits, np.zeros(110), 0.95, whose)["worst"]
    apart = compare(groups, hits, np.zeros(110), 0.95)["worst"]
    assert together["advantage"] == apart["advantage"] == pytest.approx(50 / 110)
    assert (together["n_members"], together["n_strangers"]) == (61, 61)
    assert apart["p"] < 1e-12
    assert together["p"] > 0.02
    assert together["lcb"] < 0 < apart["lcb"]


def test_groups_where_nothing_varies_keep_the_error_of_half_a_person() -> None:
    whose = Sides(np.repeat(np.arange(60), 5), np.repeat(np.arange(60), 5))
    everybody = np.ones(300, dtype=bool)
    groups = {"c0 = u": Group(everybody, everybody)}
    found = compare(groups, np.zeros(300), np.zeros(300), 0.95, whose)["worst"]
    assert found["ucb"] == pytest.approx(1.95996 * 0.5 / 60 * 2**0.5, rel=1e-4)


@pytest.mark.parametrize(
    "suite", [linkability.SUITE, attribute_inference.SUITE, singling_out.SUITE,
              exact_match.SUITE, domias.SUITE], ids=lambda suite: suite.name,
)  # fmt: skip
def test_every_attack_counts_the_people_of_its_subgroups(suite: Suite) -> None:
    base = evidence(0, n_people=120)
    counted = 0
    for item in judge(base, suite).measurements:
        worst = item.details.get("subgroups", {}).get("worst")
        if worst is not None:
            assert worst["n_members"] <= 120
            assert worst["n_strangers"] <= 120
            counted += 1
    assert counted > 0


def copied(n_people: int = 200) -> Evidence:
    """Synthetic rows of other people, and 50 copies of the many rows of one member."""
    base = evidence(0, n_people=n_people)
    chance = np.random.default_rng(1)
    real = [draw(n_people, chance) for _ in range(3)]
    frame = real[0].to_pandas()
    # The first nine people are one.
    frame.loc[frame.index[: 9 * ROWS_OF_ONE], "person"] = "p0"
    train = Table(data=pa.Table.from_pandas(frame, preserve_index=False), schema=schema())
    made = draw(20, chance).to_pandas()
    made = pd.concat([made, frame.head(50)])
    synthetic = Table(data=pa.Table.from_pandas(made, preserve_index=False), schema=schema())
    return Evidence.of(train, *real[1:], synthetic, seed=base.seed, threads=1, repeats=40)


def test_copies_of_one_persons_rows_are_one_persons_nearness() -> None:
    base = copied()
    together, apart = (judge(each, dcr.SUITE) for each in (base, without_entity(base)))
    for name in (dcr.ID, dcr.ID_ALIGNED, dcr.ID_RATIO):
        assert together[name].estimate == apart[name].estimate
        assert together[name].ucb - together[name].lcb > apart[name].ucb - apart[name].lcb
    assert together[dcr.ID].lcb < 0.5 < apart[dcr.ID].lcb
    one, many = (judge(each, authenticity.SUITE)[authenticity.ID]
                 for each in (base, without_entity(base)))  # fmt: skip
    assert one.estimate == many.estimate
    assert one.ucb - one.lcb > 1.5 * (many.ucb - many.lcb)


def test_fifty_rows_near_one_person_are_one_row_by_both_ways_of_counting() -> None:
    whose = np.concatenate([one_of_many_rows(50), 100 + np.arange(100)])
    near = np.arange(50)
    for n_each in (None, 100):
        alone = dcr.share(np.ones(50), near, 0.95, n_each)
        together = dcr.share(np.ones(50), near, 0.95, n_each, whose)
        assert alone.lcb > 0.8
        assert together.lcb == pytest.approx(1 / (1 + 1.95996**2), abs=0.005)


def test_a_tenth_of_few_people_is_left_out_and_a_person_counts_once_in_it() -> None:
    chance = np.random.default_rng(0)
    tenths = np.repeat(np.arange(10), 120)
    whose = np.repeat(np.arange(600), 2)
    # The rarest rows are of two people only, the commonest of 60.
    whose[-120:] = np.repeat([600, 601], 60)
    real = np.concatenate([chance.permutation(120), 1_080 + chance.permutation(120)])
    won = chance.permutation(np.repeat([0.0, 1.0], 120))
    found = dcr.by_rarity(won, real, tenths, 0.95, whose)
    assert found["n_groups"] == 1
    assert found["rarest"] is None
    assert dcr.by_rarity(won, real, tenths, 0.95)["n_groups"] == 2
    mine = real < 120
    alike = dcr.by_rarity((whose[real] % 2).astype(float), real, tenths, 0.95, whose)["worst"]
    rows = dcr.share((whose[real] % 2).astype(float)[mine], real[mine], 0.95)
    assert alike["ucb"] - alike["lcb"] > 1.2 * (rows.ucb - rows.lcb)


def test_intervals_of_nearness_cover_one_half_with_repeated_rows() -> None:
    held = {"nearest": [0, 0], "ratio": [0, 0]}
    persons = np.repeat(np.arange(80), ROWS_OF_ONE)
    for seed in range(200):
        chance = np.random.default_rng(seed)
        members, strangers, rows = (visits(n, chance) for n in (40, 40, 60))
        found = dcr.near(rows, members, strangers, k=2, threads=1)
        ratio = dcr.wins(dcr.ratios(found.members), dcr.ratios(found.strangers))
        for place, whose in enumerate((persons, None)):
            for name, interval in (
                ("nearest", dcr.nearer_share(found, 0.95, 40 * ROWS_OF_ONE, whose)),
                ("ratio", dcr.share(ratio, found.real, 0.95, whose=whose)),
            ):
                held[name][place] += interval.lcb <= 0.5 <= interval.ucb
    for together, apart in held.values():
        assert together >= 0.92 * 200, held
        assert apart < 0.7 * 200, held


def visits(n_people: int, chance: np.random.Generator) -> Points:
    """As many visits of each person, who is somewhere on a line each time."""
    places = np.repeat(chance.random((n_people, 1)), ROWS_OF_ONE, axis=0)
    numbers = np.tile(np.arange(ROWS_OF_ONE), n_people)[:, None]
    return Points(numbers=places.astype(np.float32), codes=numbers.astype(np.int32))


def test_recognised_rows_of_one_person_are_one_recognised_person() -> None:
    chance = np.random.default_rng(0)
    strangers = chance.normal(size=1_000)
    members = np.concatenate([np.full(50, 9.0), np.full(60, -9.0)])
    whose = Sides(one_of_many_rows(60), np.arange(1_000))
    together = rate_at(members, strangers, 0.01, 0.95, whose)
    apart = rate_at(members, strangers, 0.01, 0.95)
    assert together["tpr"] == pytest.approx(apart["tpr"])
    assert together["lcb"] < 0.15 < apart["lcb"]
    few = rate_at(members, strangers, 0.01, 0.95, Sides(None, np.repeat(np.arange(500), 2)))
    assert few["tpr"] is None
    assert "there are 500" in few["why"]


def test_shadows_know_whose_rows_their_targets_are() -> None:
    base = dataclasses.replace(evidence(0, n_people=60), targets=200)
    targets = shadows.choose_targets(base)
    whose = shadows.whose_targets(base, targets)
    pool = shadows._join(base.train, base.control)
    for side, persons, part in (
        (targets.member, whose.members, "train"),
        (~targets.member, whose.strangers, "control"),
    ):
        assert persons is not None
        rows = take(pool, targets.places[side])
        table, all_persons = getattr(base, part), base.persons(part)
        for place in range(20):
            same = (table.numbers == rows.numbers[place]).all(axis=1)
            assert all_persons[same].tolist() == [persons[place]]
    assert shadows.whose_targets(without_entity(base), targets) == (None, None)


@pytest.mark.slow
def test_attacks_on_repeated_rows_cover() -> None:
    attacks = (linkability.SUITE, attribute_inference.SUITE, singling_out.SUITE)
    together, apart = [], []
    for seed in range(80):
        base = evidence(seed)
        together.append(judge(base, *attacks))
        apart.append(judge(without_entity(base), *attacks))
    assert min(coverage(together).values()) >= 0.92, coverage(together)
    assert coverage(apart)["privacy.attribute_inference"] < 0.88, coverage(apart)


def coverage(found: list[Findings]) -> dict[str, float]:
    """How many intervals hold the mean of all estimates, by measurement."""
    shares = {}
    for name in found[0].by_id:
        each = [one[name] for one in found]
        true = np.mean([item.estimate for item in each])
        shares[name] = float(np.mean([item.lcb <= true <= item.ucb for item in each]))
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, 1.5])
def test_intervals_of_whole_rows_cover_with_repeated_rows(spread: float) -> None:
    together, apart = [], []
    for seed in range(150):
        base = evidence(seed, spread=spread)
        together.append(judge(base, *MULTIVARIATE))
        apart.append(judge(without_entity(base), *MULTIVARIATE))
    held, lost = coverage(together), coverage(apart)
    assert min(held.values()) >= 0.92, held
    # Taken for independent, the same rows give intervals that are too narrow.
    assert max(lost["fidelity.mmd2"], lost["fidelity.alpha_precision"]) < 0.85, lost
    assert np.mean([lost[name] for name in lost]) < 0.87, lost


@pytest.mark.slow
def test_the_judges_interval_covers_and_its_p_is_honest_with_repeated_rows() -> None:
    found = [judge(evidence(seed), two_sample.SUITE) for seed in range(60)]
    assert coverage(found)["fidelity.two_sample_auc"] >= 0.92
    p = np.array([one["fidelity.two_sample_auc"].details["p"] for one in found])
    assert np.mean(p <= 0.1) <= 0.22
    alone = [judge(without_entity(evidence(seed)), two_sample.SUITE) for seed in range(20)]
    p = np.array([one["fidelity.two_sample_auc"].details["p"] for one in alone])
    assert np.mean(p <= 0.05) > 0.5, "a judge who saw the same people calls chance a difference"


def test_interval_of_a_score_covers_with_repeated_test_rows() -> None:
    covered = {"together": 0, "apart": 0}
    base, n_repeats = evidence(0), 200
    true = 0.7602  # of N(1, 1) against N(0, 1), Phi(1 / sqrt(2))
    for seed in range(n_repeats):
        chance = np.random.default_rng(seed)
        positive = np.arange(60) % 2 == 1
        people = positive + chance.normal(size=60)
        guess = np.repeat(people, ROWS_OF_ONE) + 1e-3 * chance.normal(size=360)
        truth = np.repeat(positive, ROWS_OF_ONE).astype(np.float64)
        persons = np.repeat(np.arange(60), ROWS_OF_ONE)
        drawn = dataclasses.replace(base, seed=seed, repeats=200)
        binary = task.Task(place=2, classes=np.array([0, 1]))
        predicted = {"model": np.column_stack([-guess, guess])}
        for name, whose in (("together", persons), ("apart", None)):
            scored = scores.judge(drawn, truth, predicted, binary, whose)["model"]
            interval = scored.interval(0.95)
            covered[name] += interval.lcb <= true <= interval.ucb
    assert covered["together"] >= 0.91 * n_repeats
    assert covered["apart"] < 0.75 * n_repeats
