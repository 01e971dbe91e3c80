"""Distance shares, authenticity and exact matches: definitions by hand, intervals by repetition."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.evidence import Evidence, take
from synthfactory.evaluation.intervals import Interval, newcombe
from synthfactory.evaluation.neighbours import Points
from synthfactory.evaluation.privacy import authenticity, dcr, exact_match
from synthfactory.tables import Column, Encoded, Schema, row_numbers

LEVELS = tuple("abcd")
Generator = np.random.Generator


def draw(n: int, chance: Generator) -> Encoded:
    factor = chance.normal(size=(n, 1))
    numbers = factor + chance.normal(size=(n, 3))
    numbers[chance.random((n, 3)) < 0.02] = np.nan
    codes = np.clip(np.rint(factor + chance.normal(0, 0.7, (n, 2)) + 2), 0, 3)
    return Encoded(numbers=numbers, codes=codes.astype(np.int32))


def evidence(synthetic: str = "fresh", *, seed: int = 0, n: int = 600) -> Evidence:
    chance = np.random.default_rng(seed)
    train, control, test, fresh = (draw(size, chance) for size in (2 * n, n, n, 2 * n))
    numeric = [Column(name=f"x{i}", kind="numerical", dtype="double") for i in range(3)]
    discrete = [
        Column(name=f"c{i}", kind="categorical", dtype="string", categories=LEVELS)
        for i in range(2)
    ]
    rows = {
        "fresh": fresh,
        "copy": train,
        "collapse": take(train, chance.integers(0, 20, 2 * n)),
        "noise": Encoded(
            numbers=train.numbers + 0.05 * chance.normal(size=train.numbers.shape),
            codes=train.codes,
        ),
    }[synthetic]
    return Evidence(
        schema=Schema(columns=(*numeric, *discrete)),
        train=train, control=control, test=test, synthetic=rows, seed=seed, threads=1,
    )  # fmt: skip


def line(*values: float) -> Points:
    """Points on a line; the distance is capped at 1."""
    return Points(
        numbers=np.array(values, dtype=np.float32)[:, None],
        codes=np.zeros((len(values), 0), dtype=np.int32),
    )


def normal_points(n: int, chance: Generator, d: int = 3) -> Points:
    return Points(
        numbers=chance.normal(size=(n, d)).astype(np.float32), codes=np.zeros((n, 0), np.int32)
    )


def test_shares_are_those_counted_by_hand() -> None:
    rows, members, strangers = line(0.0, 0.5, 1.0), line(0.0, 0.3), line(0.7, 1.0)
    found = dcr.near(rows, members, strangers, k=2, threads=1)
    # Distances to members 0, 0.2, 0.7 and to strangers 0.7, 0.2, 0: one win, one tie, one loss.
    assert dcr.nearer_share(found, 0.95, 2).estimate == pytest.approx(0.5)
    # Ratios to members 0, 0.4, 0.7 and to strangers 0.7, 0.4, 0.
    assert np.allclose(dcr.ratios(found.members), [0, 0.2 / 0.5, 0.7])
    assert np.allclose(dcr.ratios(found.strangers), [0.7, 0.2 / 0.5, 0])


def ratio_share(near: dcr.Near) -> Interval:
    won = dcr.wins(dcr.ratios(near.members), dcr.ratios(near.strangers))
    return dcr.share(won, near.real, 0.95)


def test_ratio_of_a_copy_of_twins_is_a_copy() -> None:
    found = dcr.near(line(0.0), line(0.0, 0.0), line(0.2, 0.4), k=2, threads=1)
    assert dcr.ratios(found.members).tolist() == [0.0]
    assert ratio_share(found).estimate == 1.0


def test_pieces_give_the_same_as_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    base = evidence("noise")
    suites = (dcr.SUITE, authenticity.SUITE)
    once = conclude(base, suites, measure(base, suites)).to_dict()
    for module in (dcr, authenticity):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 170)
    shares = [measure(base, suites, number=number, of=3) for number in range(3)]
    assert sum(map(len, shares)) > 30
    merged = conclude(base, suites, shares[2] | shares[0] | shares[1]).to_dict()
    assert once == merged


def test_results_do_not_depend_on_threads() -> None:
    base = evidence("noise")
    found = [
        [m.to_dict() for m in dcr.measure(replace(base, threads=threads))] for threads in (1, 3)
    ]
    assert found[0] == found[1]


def test_more_rows_than_can_be_searched_are_sampled_and_n_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = evidence("fresh")
    assert dcr.measure(base)[0].n == 1_200
    monkeypatch.setattr(dcr, "EXACT_ROWS", 500)
    small = replace(base, max_rows=400)
    assert dcr.measure(small)[0].n == 500
    assert authenticity.measure(small).n == 500


def test_noisy_copy_is_flagged_by_all_three_shares_and_the_rare_are_hit() -> None:
    for found in dcr.measure(evidence("noise")):
        assert found.lcb > 0.6, found.id
        assert found.control == pytest.approx(0.5, abs=0.06)
        assert found.mde is not None
        assert 0 < found.mde < 0.2
        assert found.details["by_rarity"]["worst"]["p_holm"] < 1e-4
        assert found.details["by_rarity"]["n_groups"] >= 8


def test_fresh_rows_are_not_flagged() -> None:
    for found in dcr.measure(evidence("fresh")):
        assert found.lcb < 0.5 < found.ucb
        assert found.details["by_rarity"]["worst"]["p_holm"] > 0.01


def test_details_hold_no_rows() -> None:
    for found in (*dcr.measure(evidence("fresh")), authenticity.measure(evidence("fresh"))):
        assert len(json.dumps(found.to_dict(), allow_nan=False)) < 2_000


def one_point(chance: Generator) -> Points:
    return Points(
        numbers=np.repeat(chance.normal(size=(1, 3)), 400, axis=0).astype(np.float32),
        codes=np.zeros((400, 0), np.int32),
    )


def few_points(chance: Generator) -> Points:
    base = normal_points(20, chance)
    picked = chance.integers(0, 20, 400)
    return Points(numbers=base.numbers[picked], codes=base.codes[picked])


WORLDS: dict[str, Callable[[Generator], Points]] = {
    "fresh": lambda chance: normal_points(400, chance),
    "few": few_points,
    "one": one_point,
}


@pytest.mark.parametrize("world", WORLDS)
def test_intervals_cover_one_half_when_nothing_leaks(world: str) -> None:
    covered, alarms, n = np.zeros(2), np.zeros(2), 250
    for seed in range(n):
        chance = np.random.default_rng([seed, 3])
        rows = WORLDS[world](chance)
        members, strangers = normal_points(100, chance), normal_points(100, chance)
        near = dcr.near(rows, members, strangers, k=2, threads=1)
        for place, found in enumerate((dcr.nearer_share(near, 0.95, 100), ratio_share(near))):
            covered[place] += found.lcb <= 0.5 <= found.ucb
            alarms[place] += found.lcb > 0.5
    # Of 250 intervals that cover with 95 %, fewer than 228 do once in a thousand times.
    assert (covered >= 228).all(), covered / n
    assert (alarms <= 16).all(), alarms / n


def test_interval_covers_a_known_leak_and_is_as_narrow_as_repetitions_say() -> None:
    """A tenth of the rows are copies: the true share is 0.55."""
    estimates, covered, widths = [], 0, []
    for seed in range(200):
        chance = np.random.default_rng([seed, 4])
        rows, members, strangers = (normal_points(n, chance) for n in (400, 100, 100))
        rows.numbers[:40] = members.numbers[chance.integers(0, 100, 40)]
        near = dcr.near(rows, members, strangers, k=1, threads=1)
        found = dcr.nearer_share(near, 0.95, 100)
        estimates.append(found.estimate)
        widths.append(found.ucb - found.lcb)
        covered += found.lcb <= 0.55 <= found.ucb
    assert np.mean(estimates) == pytest.approx(0.55, abs=0.008)
    assert covered >= 182
    assert np.mean(widths) < 1.3 * 2 * 1.96 * np.std(estimates)


def test_all_ties_are_not_taken_for_certainty() -> None:
    found = dcr.share(np.full(100, 0.5), np.arange(100), 0.95)
    assert found.estimate == 0.5
    assert found.lcb < 0.5 < found.ucb


def test_authenticity_is_the_definition() -> None:
    # The training row at 0 has its fellow at 0.3, the one at 0.3 too, the one at 0.8 at 0.5.
    train = line(0.0, 0.3, 0.8)
    rows = line(0.0, 0.1, -0.35, 0.8, 1.25, 1.4)
    found, number = authenticity.authentic(rows, train, threads=1)
    assert number.tolist() == [0, 0, 0, 2, 2, 2]
    assert found.tolist() == [False, False, True, False, False, True]


def brute_authenticity(rows: Points, train: Points) -> npt.NDArray[np.bool_]:
    def distances(a: Points, b: Points) -> npt.NDArray[np.float32]:
        gaps = np.minimum(np.abs(a.numbers[:, None] - b.numbers[None]), 1).sum(axis=2)
        return gaps + (a.codes[:, None] != b.codes[None]).sum(axis=2)

    among = distances(train, train)
    np.fill_diagonal(among, np.inf)
    fellow = among.min(axis=1)
    to_train = distances(rows, train)
    return to_train.min(axis=1) > fellow[to_train.argmin(axis=1)]


def test_authenticity_is_brute_force() -> None:
    chance = np.random.default_rng(0)
    train, rows = normal_points(80, chance), normal_points(300, chance)
    twins = Points(  # with twins among the training rows
        numbers=np.vstack([train.numbers, train.numbers[:5]]),
        codes=np.vstack([train.codes, train.codes[:5]]),
    )
    found, _ = authenticity.authentic(rows, twins, threads=1)
    assert np.array_equal(found, brute_authenticity(rows, twins))
    assert 0.3 < found.mean() < 0.95


def test_mode_collapse_is_not_authentic() -> None:
    # synthcity compares with the wrong training rows here and says 0.944.
    found = authenticity.measure(evidence("collapse"))
    assert found.estimate == 0.0
    assert found.ucb < 0.25
    assert found.control is not None
    assert found.control > 0.3


def test_authenticity_of_copies_noise_and_fresh_rows() -> None:
    assert authenticity.measure(evidence("copy")).estimate == 0.0
    assert authenticity.measure(evidence("noise")).ucb < 0.2
    fresh = authenticity.measure(evidence("fresh"))
    assert fresh.control is not None
    assert fresh.lcb < fresh.control < fresh.ucb
    assert fresh.baseline is not None
    assert fresh.baseline > fresh.estimate


def test_equal_rows_get_equal_numbers() -> None:
    chance = np.random.default_rng(0)
    tables = [
        Encoded(
            numbers=chance.choice([np.nan, -0.0, 0.0, 1.5], (n, 2)),
            codes=chance.integers(0, 2, (n, 40)).astype(np.int32) * 2**30,
        )
        for n in (50, 30)
    ]
    # 40 columns of large codes do not fit into one integer: they are counted anew on the way.
    tables[1].numbers[:10], tables[1].codes[:10] = tables[0].numbers[:10], tables[0].codes[:10]
    first, second = row_numbers(*tables)
    keys = [
        [(*(None if x != x else x for x in row.tolist()), *map(int, codes))
         for row, codes in zip(rows.numbers, rows.codes, strict=True)]
        for rows in tables
    ]  # fmt: skip
    every, numbers = [*keys[0], *keys[1]], np.concatenate([first, second])
    for i, key in enumerate(every):
        assert [key == other for other in every] == (numbers == numbers[i]).tolist()
    assert numbers.max() + 1 == len(set(every))


def test_rows_without_columns_are_equal() -> None:
    empty = Encoded(numbers=np.empty((3, 0)), codes=np.empty((3, 0), np.int32))
    assert row_numbers(empty, empty)[1].tolist() == [0, 0, 0]


def test_excess_is_the_difference_of_shares_where_both_are_defined() -> None:
    """Equally many people, no two alike: Newcombe's interval of the plain difference."""
    covered = {"excess": 0, "newcombe": 0}
    for seed in range(200):
        chance = np.random.default_rng(seed)
        # 5 of 100 rows are copies of members, 10 of 100 look like anybody by chance.
        people = chance.permutation(4_000)
        members, strangers = people[:500], people[500:1_000]
        rows = np.where(
            chance.random(1_000) < 0.05,
            chance.choice(members, 1_000),
            np.where(chance.random(1_000) < 0.1, chance.choice(people[:1_000], 1_000), 5_000),
        )
        found = exact_match.excess(members, strangers, rows, 0.95)
        n_member, n_stranger = (float(np.isin(rows, p).sum()) for p in (members, strangers))
        plain = newcombe(n_member, 1_000, n_stranger, 1_000, 0.95)
        assert found.estimate == pytest.approx(plain.estimate)
        covered["excess"] += found.lcb <= 0.05 <= found.ucb
        covered["newcombe"] += plain.lcb <= 0.05 <= plain.ucb
    assert covered["excess"] >= 182
    assert covered["newcombe"] >= 182


def test_exact_match_tells_who_is_copied() -> None:
    found = exact_match.measure(evidence("copy"))
    assert found.mde is not None
    assert found.mde < 0.1
    assert found.details["difference_at_equal_sizes"]["lcb"] > 0.4
    assert found.details["subgroups"]["worst"]["advantage"] > 0.9
    clean = exact_match.measure(evidence("fresh"))
    assert clean.details["equal_to_a_stranger_unlike_all_others"] == 0
    assert clean.details["subgroups"]["worst"]["p_holm"] > 0.05
