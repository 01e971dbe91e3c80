"""Singling out, linkability, attribute inference and k-map: brute force, and known answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import synthfactory as sf
from synthfactory.errors import EvaluationError, OrderError, SchemaError
from synthfactory.evaluation import Evaluation, leave_one_out
from synthfactory.evaluation.evidence import Evidence, Sides, shuffled, take
from synthfactory.evaluation.intervals import effective_size
from synthfactory.evaluation.neighbours import by_scale, scales
from synthfactory.evaluation.privacy import (
    attribute_inference,
    k_map,
    linkability,
    risk,
    singling_out,
)
from synthfactory.order import Order
from synthfactory.tables import OTHER, Column, Dataset, Encoded, Schema

LEVELS = tuple("abcdefgh")
DAY = 86_400.0


def schema(**roles: Any) -> Schema:
    """A number, a date, an ordered column and two columns of levels."""
    return Schema(
        columns=(
            Column(name="number", kind="numerical", dtype="double", nullable=True),
            Column(name="date", kind="datetime", dtype="timestamp[us]", nullable=True),
            Column(name="grade", kind="ordinal", dtype="string", nullable=True, categories=LEVELS),
            Column(name="place", kind="categorical", dtype="string", nullable=True,
                   categories=LEVELS),
            Column(name="work", kind="categorical", dtype="string", nullable=True,
                   categories=LEVELS),
        ),
        **roles,
    )  # fmt: skip


def draw(n: int, chance: np.random.Generator) -> Encoded:
    """Negative numbers, dates around 1970, levels that follow from both, and gaps."""
    factor = chance.normal(size=n)
    numbers = np.column_stack(
        [-1_000 + 50 * factor + chance.normal(0, 50, n), np.rint(chance.normal(0, 9_000, n)) * DAY]
    )
    numbers[chance.random((n, 2)) < 0.05] = np.nan
    noisy = factor[:, None] + chance.normal(0, 0.7, (n, 3))
    codes = np.clip(np.rint(noisy + 4), 0, 8).astype(np.int32)
    return Encoded(numbers=numbers, codes=codes)


def evidence(
    *, seed: int = 0, n: int = 600, n_control: int | None = None, copied: bool = False, **more: Any
) -> Evidence:
    chance = np.random.default_rng(seed)
    roles = {name: more.pop(name) for name in ("sensitive", "target", "quasi_identifiers")
             if name in more}  # fmt: skip
    sizes = (n, n_control or n, n, n)
    train, control, test, fresh = (draw(size, chance) for size in sizes)
    settings = {"attacks": 500, "seed": seed, "threads": 1} | more
    return Evidence(
        schema=schema(**roles),
        train=train,
        control=control,
        test=test,
        synthetic=train if copied else fresh,
        **settings,
    )


ATTACKS = {
    "singling out": singling_out.measure,
    "linkability": linkability.measure,
    "attribute inference": attribute_inference.measure,
}


# Risk


def test_risk_interval_covers_the_true_risk() -> None:
    chance = np.random.default_rng(0)
    for r_attack, r_control in ((0.3, 0.3), (0.02, 0.0), (0.6, 0.2), (0.9, 0.85)):
        truth = (r_attack - r_control) / (1 - r_control)
        covered = 0
        for _ in range(400):
            hits, others = chance.binomial(1_000, r_attack), chance.binomial(1_000, r_control)
            found = risk.estimate(int(hits), 1_000, int(others), 1_000, 0.95)
            covered += found.lcb <= truth <= found.ucb
        assert covered >= 372, (r_attack, r_control)


def test_risk_is_unbiased_on_clean_data_because_it_is_not_clipped() -> None:
    chance = np.random.default_rng(0)
    found = [
        risk.estimate(int(a), 500, int(b), 500, 0.95).estimate
        for a, b in chance.binomial(500, 0.2, (400, 2))
    ]
    assert min(found) < 0
    assert abs(np.mean(found)) < 0.005


def test_smallest_detectable_risk_is_detected_four_times_in_five() -> None:
    chance = np.random.default_rng(0)
    mde = risk.estimate(400, 2_000, 400, 2_000, 0.95).mde
    rate = 0.2 + mde * 0.8
    seen = sum(
        risk.estimate(int(chance.binomial(2_000, rate)), 2_000,
                      int(chance.binomial(2_000, 0.2)), 2_000, 0.95).lcb > 0
        for _ in range(400)
    )  # fmt: skip
    assert 0.72 <= seen / 400 <= 0.9


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(EvaluationError, match="got 11 of 10"):
        risk.rate(11, 10, 0.95)


# All attacks alike


@pytest.mark.parametrize("name", ATTACKS)
def test_copies_are_found_and_test_rows_are_not(name: str) -> None:
    found = ATTACKS[name](evidence(copied=True, sensitive=("number",)))
    assert found.lcb > 0.05
    assert found.control is not None
    assert abs(found.control) < found.estimate / 3
    assert found.mde is not None
    assert 0 < found.mde < 0.2
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("n_control", [200, 1_500])
def test_independent_rows_of_unequal_sizes_raise_no_false_alarm(name: str, n_control: int) -> None:
    # anonymeter with a control of another size than the original raises one.
    alarms = 0
    for seed in range(4):
        clean = evidence(seed=seed, n_control=n_control, sensitive=("number",), max_rows=200)
        alarms += ATTACKS[name](clean).lcb > 0
    assert alarms <= 1


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_gives_the_same_attack(name: str) -> None:
    first, second, other = (
        ATTACKS[name](evidence(seed=seed, sensitive=("number",), max_rows=200)).to_dict()
        for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other


# Singling out


def brute_matches(
    predicates: singling_out.Predicates, matrix: npt.NDArray[np.float64]
) -> list[list[int]]:
    """The rows that match each predicate, by plain loops."""
    found = []
    for p in range(len(predicates)):
        rows = []
        for row in range(matrix.shape[1]):
            conditions = []
            for column, side, value in zip(
                predicates.columns[p], predicates.sides[p], predicates.values[p], strict=True
            ):
                if column < 0:
                    continue
                cell = matrix[column, row]
                conditions.append(
                    {
                        singling_out.AT_LEAST: cell >= value,
                        singling_out.AT_MOST: cell <= value,
                        singling_out.EQUAL: cell == value,
                        singling_out.MISSING: np.isnan(cell),
                    }[int(side)]
                )
            if all(conditions):
                rows.append(row)
        found.append(rows)
    return found


def both_kinds(
    matrix: npt.NDArray[np.float64], ordered: npt.NDArray[np.bool_], n: int
) -> list[singling_out.Predicates]:
    chance = np.random.default_rng(0)
    return [
        singling_out.univariate(matrix, ordered, n, chance),
        singling_out.multivariate(matrix, ordered, np.arange(n), chance),
        singling_out.naive(matrix, ordered, n, chance, n_columns=(1, 5)),
    ]


def test_predicate_counts_are_brute_force() -> None:
    chance = np.random.default_rng(0)
    rows, people = (
        singling_out.as_matrix(draw(size, chance), schema()) for size in (150, 700)
    )  # fmt: skip
    for predicates in both_kinds(rows, singling_out.ordered_columns(schema()), 150):
        matches = brute_matches(predicates, people)
        single = [found[0] if len(found) == 1 else -1 for found in matches]
        assert np.maximum(singling_out.isolated(predicates, people), -1).tolist() == single
        assert {len(found) for found in matches} >= {0, 1, 2}


def test_every_guess_isolates_one_synthetic_row() -> None:
    matrix = singling_out.as_matrix(draw(300, np.random.default_rng(0)), schema())
    ordered = singling_out.ordered_columns(schema())
    for predicates in both_kinds(matrix, ordered, 300)[:2]:
        assert len(predicates) > 50
        assert all(len(found) == 1 for found in brute_matches(predicates, matrix))


def test_extremes_single_values_and_the_only_gap_are_guessed() -> None:
    matrix = np.array([[5.0, 1.0, np.nan, 9.0, 5.0]])
    found = singling_out.univariate(matrix, np.array([True]), 99, np.random.default_rng(0))
    told = {(int(side), float(value)) for (side,), (value,) in
            zip(found.sides, np.nan_to_num(found.values, nan=-7.0), strict=True)}  # fmt: skip
    assert told == {
        (singling_out.EQUAL, 1.0), (singling_out.EQUAL, 9.0), (singling_out.AT_MOST, 1.0),
        (singling_out.AT_LEAST, 9.0), (singling_out.MISSING, -7.0),
    }  # fmt: skip


def test_numbers_dates_and_ordered_levels_have_sides_and_other_levels_are_equal() -> None:
    matrix = singling_out.as_matrix(draw(400, np.random.default_rng(0)), schema())
    ordered = singling_out.ordered_columns(schema())
    assert ordered.tolist() == [True, True, True, False, False]
    found = singling_out.multivariate(matrix, ordered, np.arange(400), np.random.default_rng(0))
    used = found.columns >= 0
    assert (used.sum(axis=1) >= 3).all()
    has_order = ordered[found.columns[used]]
    assert (found.sides[used] == singling_out.EQUAL).tolist() == (~has_order).tolist()
    sides = set(found.sides[used][has_order].tolist())
    assert sides == {singling_out.AT_LEAST, singling_out.AT_MOST, singling_out.MISSING}


def test_dates_single_out() -> None:
    # A date compared with a text matched nobody, and the error was swallowed.
    base = evidence(copied=True)
    for part in (base.train, base.control, base.test):
        part.numbers[:, 0] = 1.0
        part.codes[:] = 0
    (univariate, _) = singling_out.measure(base).details["attacks"]
    assert univariate["members"] > 0.9
    assert univariate["strangers"] < 0.3


def test_single_values_of_members_single_out_even_when_no_row_is_kept() -> None:
    base = evidence(n=1_000)
    found = singling_out.measure(
        base.judging(shuffled(base.train, 1_000, np.random.default_rng(1)))
    )
    assert found.details["worst"] == "univariate"
    assert found.lcb > 0.3


def test_repeating_every_row_hides_nobody() -> None:
    base = evidence(copied=True)
    twice = base.judging(take(base.train, np.repeat(np.arange(len(base.train)), 2)))
    found = singling_out.measure(twice)
    assert found.lcb > 0.3
    (_, multivariate) = found.details["attacks"]
    once = singling_out.measure(base).details["attacks"][1]
    assert multivariate["ucb"] - multivariate["lcb"] > once["ucb"] - once["lcb"]


def test_guesses_from_equal_rows_and_of_one_person_count_as_few() -> None:
    rows = np.repeat(np.arange(20), 5)
    hits = np.where(rows < 10, rows, -1)
    nobody = np.full(100, -1)
    found = singling_out.Attack(100, np.arange(100), hits, nobody)
    alone = singling_out.judge(found, 0.95)
    equal = singling_out.judge(found._replace(sources=rows), 0.95)
    assert alone.attack == risk.rate(50, 100, 0.95)
    share = effective_size((hits >= 0).astype(float), rows) / 100
    assert equal.attack == risk.rate(50 * share, 100 * share, 0.95)
    assert 0.19 < share < 0.2
    # Ten members who are one person: half of all guesses are one.
    person = singling_out.judge(found, 0.95, Sides(np.zeros(10, np.int64), None))
    assert person.attack.reach > 1.5 * equal.attack.reach


def test_table_in_which_nobody_can_be_singled_out_shows_no_risk() -> None:
    chance = np.random.default_rng(0)
    columns = tuple(
        Column(name=name, kind="categorical", dtype="string", categories=LEVELS) for name in "xyz"
    )
    parts = [
        Encoded(numbers=np.empty((900, 0)), codes=chance.integers(0, 3, (900, 3)).astype(np.int32))
        for _ in range(4)
    ]
    names = ("train", "control", "test", "synthetic")
    found = singling_out.measure(
        Evidence(schema=Schema(columns=columns), seed=0, **dict(zip(names, parts, strict=True)))
    )
    assert found.ucb < 0.02
    assert found.n == 900


def test_few_single_predicates_are_judged_with_the_others() -> None:
    base = evidence()
    for part in (base.train, base.control, base.test, base.synthetic):
        part.numbers[:] = np.round(part.numbers / (300 * DAY)) * DAY
    base.synthetic.numbers[0, 0] = 12_345.0
    (only,) = singling_out.measure(base).details["attacks"]
    assert only["attack"] == "multivariate"
    assert base.attacks < only["n"] < base.attacks + singling_out.MIN_PREDICATES


def test_single_column_is_attacked_and_cannot_be_linked() -> None:
    def alone(rows: Encoded, column: Column) -> Evidence:
        control = Encoded(numbers=rows.numbers + 0.5, codes=rows.codes)
        lone = Schema(columns=(column,))
        return Evidence(
            schema=lone, train=rows, control=control, test=control, synthetic=rows, seed=0
        )

    few = Encoded(numbers=np.empty((400, 0)), codes=np.arange(400, dtype=np.int32)[:, None] % 4)
    levels = alone(few, Column(name="x", kind="categorical", dtype="string", categories=LEVELS))
    assert singling_out.measure(levels).ucb < 0.02
    every = Encoded(numbers=np.arange(400.0)[:, None], codes=np.empty((400, 0), dtype=np.int32))
    numbers = alone(every, Column(name="x", kind="numerical", dtype="double"))
    assert singling_out.measure(numbers).lcb > 0.9
    with pytest.raises(EvaluationError, match="cannot be split"):
        linkability.measure(numbers)


# Linkability


def test_chance_link_is_what_random_neighbours_give() -> None:
    chance = np.random.default_rng(0)
    first, second = (
        np.array([chance.choice(50, 3, replace=False) for _ in range(4_000)]) for _ in range(2)
    )
    brute = np.mean([bool(set(a) & set(b)) for a, b in zip(first, second, strict=True)])
    assert linkability.linked(first, second).mean() == pytest.approx(brute)
    assert linkability.naive(50, 3) == pytest.approx(brute, abs=0.02)


def test_equally_near_rows_have_their_share() -> None:
    # Two halves of one column of few levels each: everybody has many nearest rows.
    chance = np.random.default_rng(0)
    rows = Encoded(
        numbers=np.empty((120, 0)), codes=chance.integers(0, 3, (120, 2)).astype(np.int32)
    )
    people = take(rows, np.arange(30))
    share = []
    for person in people.codes:
        left, right = rows.codes[:, 0] == person[0], rows.codes[:, 1] == person[1]
        share.append((left & right).sum() / (left | right).sum())
    linked = np.mean(
        [
            linkability.links(
                by_scale(take(rows, np.random.default_rng(seed).permutation(120)), np.ones(0)),
                by_scale(people, np.ones(0)),
                ([0], [1]),
                threads=1,
            )
            for seed in range(600)
        ],
        axis=0,
    )
    assert np.abs(linked - share).max() < 0.09
    assert linked.mean() == pytest.approx(np.mean(share), abs=0.03)


def test_verbatim_copy_of_a_discrete_table_is_linked() -> None:
    base = evidence(copied=True, n=300)
    for part in (base.train, base.control, base.test):
        part.numbers[:] = np.round(part.numbers / [40.0, 5_000 * DAY])
    assert linkability.measure(base).lcb > 0.02


def test_quasi_identifiers_are_split_and_all_columns_too() -> None:
    base = evidence(quasi_identifiers=("number", "grade", "place"))
    found = linkability.splits(base)
    assert found[linkability.DECLARED] == ([0, 3], [2])
    assert sorted([*found[linkability.EVERY][0], *found[linkability.EVERY][1]]) == [0, 1, 2, 3, 4]
    assert linkability.measure(base).details["rows"] == len(base.synthetic)


# Attribute inference


def test_search_without_a_column_is_brute_force() -> None:
    chance = np.random.default_rng(0)
    queries, rows = draw(60, chance), draw(1_100, chance)
    for part in (queries, rows):
        part.numbers[:, 0] = np.round(part.numbers[:, 0] / 50)
    rows = take(rows, np.r_[0:1_100, 0:100])
    spread = scales(rows)
    found = leave_one_out.nearest_without(queries, rows, spread, threads=2)
    ours, theirs = (
        np.column_stack([part.numbers / spread, part.codes]) for part in (queries, rows)
    )
    for i, row in enumerate(ours):
        numbers = np.abs(row[:2] - theirs[:, :2])
        missing = np.isnan(row[:2]) + 0 + np.isnan(theirs[:, :2])
        numbers = np.where(missing == 2, 0.0, np.where(missing == 1, 1.0, np.minimum(numbers, 1)))
        gaps = np.column_stack([numbers, row[2:] != theirs[:, 2:]])
        for column in range(5):
            distances = np.delete(gaps, column, axis=1).sum(axis=1)
            # Whole numbers keep five digits after the point.
            near = np.flatnonzero(distances <= distances.min() + 1e-5)
            assert found[i, column] == near.min() or (
                found[i, column] in near and distances[found[i, column]] != distances[near.min()]
            )


def test_wide_table_is_searched_beyond_one_tile_and_block() -> None:
    chance = np.random.default_rng(0)
    rows = draw(1_500, chance)
    found = leave_one_out.nearest_without(rows, rows, scales(rows), threads=2)
    same = [np.array_equal(np.delete(rows.codes[i], 0), np.delete(rows.codes[found[i, 2]], 0))
            for i in range(1_500)]  # fmt: skip
    assert np.mean(same) == 1.0


def test_coin_flip_secret_is_guessed_half_the_time_by_every_attacker() -> None:
    chance = np.random.default_rng(0)
    base = evidence(n=2_000, sensitive=("work",))
    for part in (base.train, base.control, base.synthetic, base.test):
        part.codes[:, 2] = chance.integers(0, 2, len(part))
    found = attribute_inference.measure(base)
    (secret,) = found.details["secrets"]
    assert {each["attacker"] for each in secret["attackers"]} == set(attribute_inference.ATTACKERS)
    for each in secret["attackers"]:
        for who in ("members", "strangers", "population"):
            assert each[who] == pytest.approx(0.5, abs=0.05)
    assert found.lcb <= 0 <= found.ucb


def test_numbers_are_guessed_within_an_absolute_distance() -> None:
    guesses = np.array([-10.0, -10.0, 10.0, np.nan, np.nan, 3.0])
    truth = np.array([-10.5, 500.0, -10.0, np.nan, 3.0, np.nan])
    hits = attribute_inference.right(guesses, truth, 1.0)
    assert hits.tolist() == [True, False, False, True, False, False]


def test_nearest_row_finds_copies_of_a_secret_that_nothing_predicts() -> None:
    chance = np.random.default_rng(0)
    base = evidence(copied=True, n=1_000, sensitive=("place",))
    for part in (base.train, base.control, base.test):
        part.codes[:, 1] = chance.integers(0, 8, len(part))
    found = attribute_inference.measure(base)
    assert found.details["attacker"] == attribute_inference.NEAREST
    assert found.lcb > 0.5
    assert found.details["secrets"][0]["strangers"] < 0.2


@pytest.mark.parametrize("secret", ["number", "date"])
def test_copied_negative_numbers_and_dates_are_guessed(secret: str) -> None:
    found = attribute_inference.measure(evidence(copied=True, sensitive=(secret,)))
    assert found.details["secrets"][0]["strangers"] < 0.4
    assert found.lcb > 0.3


def test_leak_of_a_column_that_nobody_declared_shows_among_all_columns() -> None:
    base = evidence(n=1_000, sensitive=("place",))
    leaking = Encoded(numbers=base.train.numbers.copy(), codes=base.train.codes.copy())
    order = np.random.default_rng(0).permutation(len(leaking))
    leaking.codes[:, 1] = leaking.codes[order, 1]
    found = attribute_inference.measure(base.judging(leaking))
    columns = {each["column"]: each for each in found.details["every_column"]["columns"]}
    assert set(columns) == set(base.names)
    assert columns["date"]["p_holm"] < 1e-6
    assert columns["place"]["p_holm"] > 0.05
    assert found.lcb < 0.05


def test_secret_that_is_always_missing_is_named_and_the_others_are_attacked() -> None:
    base = evidence(sensitive=("number", "place"))
    base.synthetic.numbers[:, 0] = np.nan
    found = attribute_inference.measure(base)
    assert "missing" in found.details["not_attacked"]["number"]
    assert [secret["secret"] for secret in found.details["secrets"]] == ["place"]
    nothing = dataclasses.replace(base, schema=schema(sensitive=("number",)))
    with pytest.raises(EvaluationError, match="No secret can be attacked"):
        attribute_inference.measure(nothing)


def test_pieces_put_together_are_the_whole() -> None:
    base = evidence(sensitive=("number", "date"), max_rows=200)
    suite = attribute_inference.SUITE
    assert list(suite.pieces(base)) == [
        "secret: number", "secret: date", "every column",
    ]  # fmt: skip
    made = {piece: suite.work(base, piece) for piece in reversed(suite.pieces(base))}
    assert suite.conclude(base, made).measurements[0] == attribute_inference.measure(base)


# k-map


KNOWN = ("number", "grade", "place")


def test_k_is_brute_force() -> None:
    chance = np.random.default_rng(0)
    base = evidence(quasi_identifiers=KNOWN)
    for part in (base.train, base.control, base.test, base.synthetic):
        part.numbers[:, 0] = np.round(part.numbers[:, 0] / 100)
    everybody = draw(6_000, chance)
    numbers = np.round(everybody.numbers[:, :1] / 100)
    population = Encoded(numbers=numbers, codes=everybody.codes[:, :2])
    found = k_map.measure(dataclasses.replace(base, population=population))

    def frame(numbers: Any, codes: Any) -> pd.DataFrame:
        return pd.DataFrame(np.column_stack([numbers, codes]), columns=list(KNOWN)).fillna(-9e9)

    counts = frame(numbers, population.codes).value_counts()
    classes = frame(base.synthetic.numbers[:, 0], base.synthetic.codes[:, :2])
    sizes = np.array([counts.get(tuple(row), 0) for row in classes.to_numpy()])
    assert (sizes == 0).any()
    assert found.estimate == found.lcb == found.ucb == sizes[sizes > 0].min()
    assert found.details["rows_that_fit_nobody"] == pytest.approx((sizes == 0).mean())
    assert found.details["mean_chance_of_the_right_person"] == pytest.approx(
        (1 / sizes[sizes > 0]).mean()
    )
    assert found.details["numbers_in_bins"]["k"] is not None


def test_population_of_other_people_is_a_named_failure() -> None:
    base = evidence(quasi_identifiers=KNOWN)
    strange = Encoded(numbers=np.full((50, 1), 1e6), codes=np.zeros((50, 2), dtype=np.int32))
    with pytest.raises(EvaluationError, match="same people"):
        k_map.measure(dataclasses.replace(base, population=strange))
    with pytest.raises(EvaluationError, match="no quasi-identifier is declared"):
        k_map.measure(dataclasses.replace(evidence(), population=strange))


def test_population_is_read_with_levels_that_the_table_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "everybody.csv"
    pd.DataFrame(
        {
            "place": ["a", "zz", None, "h", "aa"],
            "name": list("pqrst"),
            "number": [1.5, -2.0, None, 3.0, 4.0],
            "grade": ["b", "b", "c", None, "d"],
        }
    ).to_csv(file, index=False)
    found = k_map.read_population(file, schema(quasi_identifiers=KNOWN))
    assert found.codes.tolist() == [[1, 0], [1, 9], [2, 8], [8, 7], [3, 9]]
    assert np.isnan(found.numbers[2, 0])
    with pytest.raises(SchemaError, match="has no column"):
        k_map.read_population(file, schema(quasi_identifiers=("date", "grade")))


def test_levels_that_were_put_together_are_looked_up_together(tmp_path: Path) -> None:
    """A synthetic row of a rare town fits everybody of a town that the table does not list."""
    towns = ["a"] * 500 + ["b"] * 480 + ["c"] * 7 + ["d"] * 6 + ["e"] * 7
    pd.DataFrame({"town": towns, "side": ["x", "y"] * 500}).to_csv(tmp_path / "t.csv", index=False)
    table = Dataset(path=str(tmp_path / "t.csv"), quasi_identifiers=("town",)).load()
    others = table.schema.column("town").categories.index(OTHER)
    pd.DataFrame({"town": ["a", "c", "d", "zz"]}).to_csv(tmp_path / "all.csv", index=False)
    found = k_map.read_population(tmp_path / "all.csv", table.schema)
    assert found.codes[:, 0].tolist() == [0, others, others, others]


def test_population_of_an_evaluation_is_looked_up_and_its_path_is_not_told(
    people_csv: Path, tmp_path: Path
) -> None:
    everybody = pd.concat([pd.read_csv(people_csv)] * 3)
    everybody.to_csv(tmp_path / "everybody.csv", index=False)
    table = sf.read_table(people_csv, quasi_identifiers=["age", "region"])
    train, control, test = sf.split(table, seed=0)
    evaluation = Evaluation(population=str(tmp_path / "everybody.csv"), max_rows=400, repeats=20)
    known = evaluation.gather(train=train, control=control, test=test, synthetic=train, seed=0)
    (found,) = k_map.SUITE.conclude(known, {"whole": k_map.SUITE.work(known, "whole")}).measurements
    assert found.estimate >= 3
    assert found.details["rows_that_fit_nobody"] == 0
    order = Order(dataset=Dataset(path=str(people_csv)), evaluation=evaluation)
    assert str(tmp_path) not in json.dumps(order.to_dict()["evaluation"])
    assert evaluation.population_digest is not None
    with pytest.raises(OrderError, match="there is no file"):
        _ = Evaluation(population=str(tmp_path / "absent.csv")).population_digest


def test_without_a_population_k_map_is_not_assessed() -> None:
    base = evidence(quasi_identifiers=KNOWN)
    found = k_map.measure_if_known(base)
    assert not found.measurements
    assert not found.failures


def test_independent_columns_leak_nothing() -> None:
    base = evidence(n=1_000, sensitive=("place",))
    lone = base.judging(shuffled(base.synthetic, 1_000, np.random.default_rng(1)))
    for measure in ATTACKS.values():
        found = measure(lone)
        assert found.lcb <= 0.01
        assert found.ucb < 0.15
