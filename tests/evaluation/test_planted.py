"""Tables whose verdict is known: planted leaks are found, clean data pass, traps are avoided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from latent import LEVELS, draw

from synthfactory.evaluation.evidence import Binning, Evidence, shuffled, take
from synthfactory.evaluation.fidelity import pairs, shapes, two_sample
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import by_rank, by_scale, nearest, scales
from synthfactory.evaluation.privacy import attribute_inference, dcr, exact_match
from synthfactory.evaluation.utility import scores
from synthfactory.tables import Column, Encoded, Schema


def schema(n_numeric: int, n_discrete: int, **roles: Any) -> Schema:
    numeric = [Column(name=f"x{i}", kind="numerical", dtype="double") for i in range(n_numeric)]
    discrete = [
        Column(name=f"c{i}", kind="categorical", dtype="string", nullable=True, categories=LEVELS)
        for i in range(n_discrete)
    ]
    return Schema(columns=(*numeric, *discrete), **roles)


def evidence(
    synthetic: str | Encoded = "fresh", *, seed: int = 0, n: int = 1_000, **more: Any
) -> Evidence:
    chance = np.random.default_rng(seed)
    shape = {"n_numeric": more.pop("n_numeric", 3), "n_discrete": more.pop("n_discrete", 2)}
    train, control, test, fresh = (draw(size, chance, **shape) for size in (2 * n, n, n, 2 * n))
    made = (
        {"fresh": fresh, "copy": train}.get(synthetic) if isinstance(synthetic, str) else synthetic
    )
    assert made is not None
    return Evidence(
        schema=schema(**shape, **more),
        train=train,
        control=control,
        test=test,
        synthetic=made,
        seed=seed,
        threads=1,
        repeats=40,
    )


def test_neighbours_are_brute_force() -> None:
    chance = np.random.default_rng(0)
    a, b = draw(40, chance), draw(60, chance)
    a.numbers[3, 0] = b.numbers[5, 0] = b.numbers[6, 1] = np.nan
    spread = scales(b)
    distances, numbers = nearest(by_scale(a, spread), by_scale(b, spread), threads=1)
    for i in range(len(a)):
        every = []
        for j in range(len(b)):
            x, y = a.numbers[i] / spread, b.numbers[j] / spread
            gap = np.where(np.isnan(x) & np.isnan(y), 0.0, np.minimum(np.abs(x - y), 1.0))
            every.append(np.where(np.isnan(gap), 1.0, gap).sum() + (a.codes[i] != b.codes[j]).sum())
        assert distances[i] == pytest.approx(min(every), rel=1e-5)
        assert every[numbers[i]] == pytest.approx(min(every), rel=1e-5)


def test_ranks_do_not_see_a_shift_or_a_stretch() -> None:
    rows = draw(100, np.random.default_rng(0))
    moved = Encoded(numbers=rows.numbers * 7 + 1e3, codes=rows.codes)
    assert np.array_equal(by_rank(rows).numbers, by_rank(moved).numbers)


def test_copy_is_seen_by_every_attack() -> None:
    copied = evidence("copy")
    assert exact_match.measure(copied).lcb > 0.9
    scaled, aligned, _ = dcr.measure(copied)
    assert scaled.lcb > 0.6
    assert aligned.lcb > 0.6


def test_clean_rows_are_not_flagged() -> None:
    clean = evidence("fresh")
    assert abs(exact_match.measure(clean).estimate) < 0.002
    for found in dcr.measure(clean):
        assert found.lcb <= 0.5 <= found.ucb
        assert found.control == pytest.approx(0.5, abs=0.05)


def test_shifted_copy_is_invisible_to_plain_distances_and_seen_after_alignment() -> None:
    base = evidence("copy")
    shifted = Encoded(numbers=base.train.numbers + 50.0, codes=base.train.codes)
    scaled, aligned, _ = dcr.measure(base.judging(shifted))
    assert scaled.lcb <= 0.51, "the trap: plain distances see nothing"
    assert aligned.lcb > 0.6


def test_verbatim_copy_of_a_discrete_table_is_no_tie() -> None:
    # Counting ties for the holdout, as SDMetrics does, calls such a copy perfectly safe.
    copied = evidence("copy", n_numeric=0, n_discrete=8)
    scaled, *_ = dcr.measure(copied)
    assert scaled.lcb > 0.6
    assert exact_match.measure(copied).lcb > 0.5


def test_table_of_few_possible_rows_raises_no_false_alarm() -> None:
    clean = evidence("fresh", n_numeric=0, n_discrete=2)
    found = exact_match.measure(clean)
    assert found.details["equal_to_a_member"] > 0.9
    assert found.lcb <= 0 <= found.ucb


@pytest.mark.parametrize("n_control", [300, 1000, 3000])
def test_unequal_sizes_raise_no_false_alarm(n_control: int) -> None:
    # anonymeter with a control of another size than the original raises one here.
    alarms = 0
    for seed in range(20):
        chance = np.random.default_rng(seed)
        members, strangers, rows = (
            chance.integers(0, 3_000, size) for size in (2_000, n_control, 2_000)
        )
        found = exact_match.excess(members, strangers, rows, 0.95)
        alarms += found.lcb > 0
    assert alarms <= 3


def test_one_percent_of_memorised_rows_is_found() -> None:
    base = evidence("fresh")
    chance = np.random.default_rng(5)
    n = len(base.synthetic)
    few = take(base.train, chance.choice(len(base.train), n // 100, replace=False))
    rest = take(base.synthetic, np.arange(n - n // 100))
    mixed = Encoded(
        numbers=np.vstack([few.numbers, rest.numbers]), codes=np.vstack([few.codes, rest.codes])
    )
    found = exact_match.measure(base.judging(mixed))
    assert found.estimate == pytest.approx(0.01, abs=0.002)
    assert found.lcb > 0.005 - 0.002


def test_one_outlier_does_not_spoil_a_pair_and_a_wrong_scale_does() -> None:
    base = evidence("fresh")
    clean = {m.id: m for m in pairs.measure(base)}["fidelity.pair_trends"].estimate
    spoilt = Encoded(numbers=base.synthetic.numbers.copy(), codes=base.synthetic.codes)
    spoilt.numbers[0, 0] = 1e9
    one = {m.id: m for m in pairs.measure(base.judging(spoilt))}["fidelity.pair_trends"].estimate
    assert one == pytest.approx(clean, abs=0.005)
    spoilt.numbers[:, 0] = spoilt.numbers[:, 0] * 1_000 + 5e6
    assert pairs.measure(base.judging(spoilt))[0].estimate < clean - 0.2


def test_independent_columns_keep_shapes_and_no_dependence() -> None:
    base = evidence("fresh")
    lone = base.judging(shuffled(base.train, 2_000, np.random.default_rng(1)))
    assert shapes.measure(lone).lcb > 0.9
    _, association = pairs.measure(lone)
    assert association.ucb < 0.2
    assert association.control is not None
    assert association.control > 0.8


def test_collapse_onto_one_row_has_poor_fidelity() -> None:
    base = evidence("fresh")
    one = base.judging(take(base.train, np.zeros(2_000, dtype=np.int64)))
    assert shapes.measure(one).ucb < 0.6


def judged(base: Evidence) -> Measurement:
    results = {piece: two_sample.work(base, piece) for piece in two_sample.PIECES}
    return two_sample.conclude(base, results).measurements[0]


def test_judge_tells_shifted_rows_apart_and_fresh_rows_not() -> None:
    base = evidence("fresh")
    assert judged(base).estimate == pytest.approx(0.5, abs=0.06)
    moved = Encoded(numbers=base.synthetic.numbers + 3, codes=base.synthetic.codes)
    assert judged(base.judging(moved)).lcb > 0.9


def test_auc_is_the_share_of_ordered_pairs() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.0, 2.0, 3.0])
    brute = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert two_sample.auc(a, b)[0] == pytest.approx(brute)
    y = np.array([True] * 4 + [False] * 3)
    weighted = scores.auc(y, np.concatenate([a, b]), np.ones((1, 7)))
    assert weighted[0] == pytest.approx(brute)


def test_coin_flip_secret_is_guessed_half_the_time_by_everybody() -> None:
    # anonymeter aligned guesses by label here: a baseline of 0.02 instead of 0.5.
    chance = np.random.default_rng(0)
    base = evidence("fresh", sensitive=("c0",))
    for part in (base.train, base.control, base.synthetic, base.test):
        part.codes[:, 0] = chance.integers(0, 2, len(part))
    found = attribute_inference.measure(base)
    (secret,) = found.details["secrets"]
    assert secret["strangers"] == pytest.approx(0.5, abs=0.06)
    assert secret["most_frequent"] == pytest.approx(0.5, abs=0.06)
    assert found.lcb <= 0 <= found.ucb


def test_negative_guesses_are_not_successes() -> None:
    # Dividing the error by a signed guess counted every negative one as right.
    base = evidence("fresh", sensitive=("x0",))
    for part in (base.train, base.control, base.synthetic, base.test):
        part.numbers[:, 0] = -np.abs(part.numbers[:, 0]) * 100
    found = attribute_inference.measure(base)
    assert found.details["secrets"][0]["strangers"] < 0.3


def test_memorised_secret_is_a_leak() -> None:
    chance = np.random.default_rng(0)
    base = evidence("copy", sensitive=("c0",), n=400)
    for part in (base.train, base.control, base.test):
        part.codes[:, 0] = chance.integers(0, 8, len(part))
    assert attribute_inference.measure(base.judging(base.train)).lcb > 0.02


def test_bins_come_from_the_real_rows_and_spikes_have_their_own() -> None:
    values = np.concatenate([np.zeros(800), np.linspace(1, 2, 200)])[:, None]
    rows = Encoded(numbers=values, codes=np.zeros((1000, 0), dtype=np.int32))
    bins = Binning.of(schema(1, 0), rows)(rows)[:, 0]
    assert len(np.unique(bins[:800])) == 1
    assert not set(bins[:800]) & set(bins[800:])


def test_dcr_interval_covers_on_clean_data() -> None:
    covered = 0
    for seed in range(60):
        clean = evidence("fresh", seed=seed, n=150)
        found = dcr.scaled_share(clean, clean.synthetic, 0.95)
        covered += found.lcb <= 0.5 <= found.ucb
    assert covered >= 53
