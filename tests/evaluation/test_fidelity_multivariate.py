"""Whole rows compared: brute force, known verdicts, traps, awkward tables, honest errors."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from latent import LEVELS, draw, schema_of

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.evidence import Evidence, shuffled, take
from synthfactory.evaluation.fidelity import alpha_precision, mmd, prdc, two_sample
from synthfactory.evaluation.fidelity.alpha_precision import Curve, Nearest, score
from synthfactory.evaluation.fidelity.balls import within
from synthfactory.evaluation.fidelity.embedding import Embedded, Embedding
from synthfactory.evaluation.fidelity.samples import samples
from synthfactory.evaluation.measurement import Findings
from synthfactory.evaluation.neighbours import Points, by_scale, scales
from synthfactory.tables import Encoded, Schema

Floats = npt.NDArray[np.float64]

SUITES = (two_sample.SUITE, mmd.SUITE, prdc.SUITE, alpha_precision.SUITE)
QUICK = SUITES[1:]


def evidence(
    *, seed: int = 0, n: int = 300, n_numeric: int = 3, n_discrete: int = 2, threads: int = 1
) -> Evidence:
    """Synthetic rows of the same distribution as the real ones, equally many in every part."""
    chance = np.random.default_rng(seed)
    train, control, test, fresh = (draw(n, chance, n_numeric, n_discrete) for _ in range(4))
    return Evidence(
        schema=schema_of(n_numeric, n_discrete),
        train=train,
        control=control,
        test=test,
        synthetic=fresh,
        seed=seed,
        threads=threads,
        repeats=40,
    )


def judge(base: Evidence, suites: tuple = QUICK) -> Findings:  # type: ignore[type-arg]
    return conclude(base, suites, measure(base, suites))


def moved(rows: Encoded, by: float) -> Encoded:
    return Encoded(numbers=rows.numbers + by, codes=rows.codes)


def with_gaps(rows: Encoded, chance: np.random.Generator) -> Encoded:
    numbers, codes = rows.numbers.copy(), rows.codes.copy()
    numbers[chance.random(numbers.shape) < 0.2] = np.nan
    codes[chance.random(codes.shape) < 0.2] = len(LEVELS)
    return Encoded(numbers=numbers, codes=codes)


# Samples


def test_samples_are_equally_many_and_the_same_for_everybody() -> None:
    base = evidence()
    base = base.judging(take(base.synthetic, np.arange(120)))
    first, second = samples(base), samples(base)
    assert {len(rows) for rows in first} == {120}
    assert all(np.array_equal(a.numbers, b.numbers) for a, b in zip(first, second, strict=True))
    for measurement in judge(base, SUITES).measurements:
        assert measurement.n == 120


def test_a_table_that_is_too_small_is_a_named_failure() -> None:
    few = evidence(n=9)
    found = judge(few, SUITES)
    assert not found.measurements
    assert "9 rows" in found.failures["fidelity.mmd2"]
    with pytest.raises(EvaluationError, match="at least 10"):
        samples(few)


# Embedding


def dense(points: Embedded, sizes: tuple[int, ...]) -> Floats:
    """The coordinates that the codes stand for."""
    one_hot = [np.eye(size)[points.codes[:, i]] / np.sqrt(2) for i, size in enumerate(sizes)]
    return np.hstack([points.numbers.astype(np.float64), *one_hot])


def embedded_with_gaps() -> tuple[Embedding, Embedded, Embedded]:
    chance = np.random.default_rng(3)
    base = evidence(n=40)
    rows, others = with_gaps(base.train, chance), with_gaps(base.synthetic, chance)
    embed = Embedding.of(
        Evidence(schema=base.schema, train=rows, control=rows, test=rows, synthetic=others, seed=0)
    )
    return embed, embed(rows), embed(others)


def test_distances_from_the_centre_are_those_of_one_hot_vectors() -> None:
    embed, rows, others = embedded_with_gaps()
    full, other = dense(rows, embed.sizes), dense(others, embed.sizes)
    expected = np.linalg.norm(other - full.mean(axis=0), axis=1)
    assert embed.centre(rows).distances(others) == pytest.approx(expected, abs=1e-5)


def test_missing_is_as_far_from_present_as_a_level_from_another() -> None:
    rows = Encoded(
        numbers=np.array([[1.0], [np.nan], [2.0], [3.0]]), codes=np.zeros((4, 0), np.int32)
    )
    embed = Embedding.of(
        Evidence(
            schema=schema_of(1, 0), train=rows, control=rows, test=rows, synthetic=rows, seed=0
        )
    )
    points = dense(embed(rows), embed.sizes)
    assert np.linalg.norm(points[1] - points[2]) == pytest.approx(1.0)


def test_an_outlier_counts_as_the_most_extreme_value_and_scale_shows() -> None:
    base = evidence()
    embed = Embedding.of(base)
    far = embed(Encoded(numbers=np.full((1, 3), 1e300), codes=base.train.codes[:1]))
    assert far.numbers == pytest.approx(np.full((1, 3), np.sqrt(3)))
    stretched = Encoded(numbers=base.synthetic.numbers * 1_000 + 5e6, codes=base.synthetic.codes)
    assert judge(base.judging(stretched), (mmd.SUITE,))["fidelity.mmd2"].lcb > 0.2


def test_two_random_rows_are_half_apart_in_a_number() -> None:
    points = Embedding.of(base := evidence(n=2_000))(base.synthetic).numbers
    assert 2 * points.var(axis=0) == pytest.approx(np.full(3, 0.5), abs=0.03)


# MMD


def test_mmd_is_brute_force() -> None:
    embed, rows, others = embedded_with_gaps()
    x, y, width = dense(rows, embed.sizes), dense(others, embed.sizes), 1.3

    def kernel(a: Floats, b: Floats) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * width**2)))

    m, n = len(x), len(y)
    own_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    own_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(kernel(a, b) for a in x for b in y) / (m * n)
    value, _ = mmd.mmd2(
        *(mmd.Own.of(side, width, None, threads=1) for side in (rows, others)),
        mmd.kernel_sums(rows, others, width, threads=1),
        mmd.kernel_sums(others, rows, width, threads=1),
    )
    assert value == pytest.approx(own_x + own_y - 2 * across, abs=1e-6)


def test_bandwidth_is_the_median_distance() -> None:
    embed, rows, _ = embedded_with_gaps()
    x = dense(rows, embed.sizes)
    every = [np.linalg.norm(x[i] - x[j]) for i in range(len(x)) for j in range(i)]
    found = mmd.bandwidth(rows, np.random.default_rng(0))
    assert found == pytest.approx(np.median(every), rel=0.05)
    alike = Embedded(numbers=np.zeros((20, 1), np.float32), codes=np.zeros((20, 0), np.int32))
    assert mmd.bandwidth(alike, np.random.default_rng(0)) == 1.0


def test_mmd_sees_lost_dependence_and_nothing_in_fresh_rows() -> None:
    base = evidence(n=600)
    fresh = mmd.measure(base)
    assert fresh.lcb < 0 < fresh.ucb
    lone = shuffled(base.train, 600, np.random.default_rng(1))
    assert mmd.measure(base.judging(lone)).lcb > 0
    assert fresh.baseline is not None
    assert fresh.baseline > fresh.ucb


# Balls


def gower(a: Points, b: Points) -> Floats:
    """**Shape** (n_a, n_b), by definition, in float64."""
    x, y = a.numbers.astype(np.float64)[:, None], b.numbers.astype(np.float64)[None]
    both = np.isneginf(x) & np.isneginf(y)
    with np.errstate(invalid="ignore"):
        gaps = np.where(both, 0.0, np.minimum(np.abs(x - y), 1.0))
    return gaps.sum(axis=2) + (a.codes[:, None] != b.codes[None]).sum(axis=2)


@pytest.mark.parametrize("n_others", [7, 600])
@pytest.mark.parametrize("threads", [1, 3])
def test_within_is_brute_force(n_others: int, threads: int) -> None:
    chance = np.random.default_rng(1)
    rows, others = with_gaps(draw(150, chance), chance), with_gaps(draw(n_others, chance), chance)
    a, b = (by_scale(part, scales(rows)) for part in (rows, others))
    reach = chance.uniform(0.5, 2.5, 150).astype(np.float32)
    others_reach = chance.uniform(0.5, 2.5, n_others).astype(np.float32)
    weights = chance.random(n_others)
    for mine, theirs in ((reach, None), (None, others_reach), (reach, others_reach)):
        hit = np.ones((150, n_others), dtype=bool)
        if mine is not None:
            hit &= gower(a, b) <= mine[:, None]
        if theirs is not None:
            hit &= gower(a, b) <= theirs[None, :]
        found = within(a, b, reach=mine, others_reach=theirs, weights=weights, threads=threads)
        assert np.array_equal(found.counts, hit.sum(axis=1))
        assert found.sums == pytest.approx(hit @ weights)
        alone = found.counts == 1
        assert np.array_equal(found.places[alone], hit[alone].argmax(axis=1))
        assert (found.places[found.counts == 0] == -1).all()


# Precision, recall, density, coverage


def euclidean_prdc(x: Floats, y: Floats, k: int) -> tuple[float, float, float, float]:
    """The formulas of the authors' package, on the line: open balls, density over k."""
    across = np.abs(x[:, None] - y[None, :])
    x_radii, y_radii = (np.sort(np.abs(z[:, None] - z[None, :]))[:, k] for z in (x, y))
    inside = across < x_radii[:, None]
    return (
        float(inside.any(axis=0).mean()),
        float((across < y_radii[None, :]).any(axis=1).mean()),
        float(inside.sum(axis=0).mean() / k),
        float((across.min(axis=1) < x_radii).mean()),
    )


def line(values: Floats) -> Points:
    """Numbers whose differences stay below 1, where Gower's distance is Euclid's."""
    return Points(
        numbers=values.astype(np.float32)[:, None], codes=np.zeros((len(values), 0), np.int32)
    )


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.9])
def test_prdc_agrees_with_the_published_formulas_on_continuous_data(shift: float) -> None:
    chance = np.random.default_rng(2)
    x, y = (
        (chance.beta(2, 5, 200) * 0.1 + by).astype(np.float32).astype(np.float64)
        for by in (0.0, shift * 0.1)
    )
    found = prdc.prdc(
        prdc.neighbourhoods(
            *(prdc.balls(line(values), 5, threads=1) for values in (x, y)), threads=1
        )
    )
    assert [each.value for each in found] == pytest.approx(euclidean_prdc(x, y, 5))


def test_verbatim_copy_of_a_table_of_few_possible_rows_covers_it() -> None:
    codes = np.repeat(np.arange(8, dtype=np.int32), 25)[:, None]
    numbers = codes.astype(np.float64)[:, 0]
    assert euclidean_prdc(numbers, numbers, 5)[3] == 0.0, "the trap: open balls are empty"
    points = Points(numbers=np.zeros((200, 0), np.float32), codes=codes)
    both = prdc.balls(points, 5, threads=1)
    found = prdc.prdc(prdc.neighbourhoods(both, both, threads=1))
    assert found.coverage.value == found.precision.value == found.recall.value == 1.0
    assert found.density.value == pytest.approx(25 / 24)


def test_fresh_rows_reach_the_ceiling_on_every_kind_of_table() -> None:
    for kinds in ((3, 2), (4, 0), (0, 4)):
        found = judge(evidence(n=400, n_numeric=kinds[0], n_discrete=kinds[1]))
        for measurement in found.measurements:
            assert measurement.control is not None
            gap = abs(measurement.estimate - measurement.control)
            # Both vary: their difference is within four errors of 0.
            assert gap <= measurement.ucb - measurement.lcb, measurement.id
        assert found["fidelity.coverage"].estimate > 0.93
        assert found["fidelity.density"].estimate == pytest.approx(1.0, abs=0.12)


def test_collapse_covers_little_and_is_believable() -> None:
    base = evidence(n=400)
    few = np.random.default_rng(0).choice(10, 400)
    found = judge(base.judging(take(base.train, few)))
    assert found["fidelity.precision"].estimate > 0.95
    assert found["fidelity.coverage"].ucb < 0.3
    assert found["fidelity.recall"].ucb < 0.1
    assert found["fidelity.beta_recall"].ucb < 0.4
    assert found["fidelity.mmd2"].lcb > 0.01


def test_shifted_rows_are_not_believable() -> None:
    base = evidence(n=400)
    found = judge(base.judging(moved(base.synthetic, 6.0)))
    assert found["fidelity.precision"].ucb < 0.3
    assert found["fidelity.density"].ucb < 0.1
    assert found["fidelity.alpha_precision"].ucb < 0.3


def test_rows_that_crowd_in_the_middle_have_high_density_and_low_recall() -> None:
    base = evidence(n=400)
    narrow = Encoded(numbers=base.synthetic.numbers * 0.3, codes=base.synthetic.codes)
    found = judge(base.judging(narrow))
    assert found["fidelity.density"].lcb > 1.1
    assert found["fidelity.recall"].ucb < 0.5
    # Covering by any row of the support, not by the nearest, would rank it above fresh rows.
    assert found["fidelity.beta_recall"].ucb < judge(base)["fidelity.beta_recall"].lcb


# Alpha-precision and beta-recall


def test_score_is_the_integral_over_many_alphas() -> None:
    chance = np.random.default_rng(4)
    real, synthetic = chance.random(400), chance.random(300) ** 1.5
    alphas = np.linspace(0, 1, 20_001)
    reached = np.array([(synthetic <= r).mean() for r in np.quantile(real, alphas)])
    expected = 1 - 2 * np.abs(reached - alphas).mean()
    assert score(Curve(real, synthetic)()) == pytest.approx(expected, abs=3e-3)


def test_score_of_known_curves() -> None:
    same = np.repeat([0.0, 1.0, 2.0], 20)
    assert score(Curve(same, same)()) == 1.0, "rows at equal distance enter in proportion"
    ladder = np.arange(1_000.0)
    assert score(Curve(ladder, np.full(50, np.inf))()) == pytest.approx(0.0)
    assert score(Curve(ladder, np.full(50, -1.0))()) == pytest.approx(0.0)
    half = np.concatenate([ladder[::2], np.full(500, np.inf)])
    assert score(Curve(ladder, half)()) == pytest.approx(0.5, abs=0.01)


def test_weights_are_repeated_rows() -> None:
    chance = np.random.default_rng(5)
    real, judged = chance.random(30), chance.random(40)
    times = chance.integers(0, 3, 30), chance.integers(0, 3, 40)
    weighted = Curve(real, judged)(*(each.astype(np.float64) for each in times))
    repeated = Curve(np.repeat(real, times[0]), np.repeat(judged, times[1]))()
    assert score(weighted) == pytest.approx(score(repeated))


def test_beta_recall_ends_at_coverage() -> None:
    base = evidence().judging(draw(300, np.random.default_rng(9)))
    found = judge(base)
    reached = found["fidelity.beta_recall"].details["reached"]
    assert reached[-1] == pytest.approx(found["fidelity.coverage"].estimate)
    assert "naive" in found["fidelity.beta_recall"].method
    assert found["fidelity.alpha_precision"].details["variant"] == "naive"


def test_losing_a_nearest_row_is_what_leaving_it_out_does() -> None:
    chance = np.random.default_rng(6)
    real, synthetic = line(chance.random(60) * 0.1), line(chance.random(50) * 0.08)
    own = np.abs(synthetic.numbers[:, 0].astype(np.float64) - 0.04)
    nearest = Nearest.of(prdc.balls(real, 5, threads=1), synthetic, own, threads=1)
    curve = Curve(own, nearest.first)
    lost = alpha_precision._lost(curve(), own, nearest)
    for place in range(50):
        gone = nearest.places == place
        after = Curve(own, np.where(gone, nearest.second, nearest.first))
        # Linear in one row: what bends is of second order.
        assert score(curve()) - score(after()) == pytest.approx(lost[place], abs=1e-3)
    assert np.abs(lost).max() > 5e-3


# The trained judge


def test_labels_dealt_anew_give_a_uniform_p() -> None:
    chance = np.random.default_rng(7)
    is_positive = np.repeat([True, False], 20)
    found = [
        two_sample.permutation_p(
            [(chance.normal(size=40), is_positive), (chance.normal(size=40), is_positive)],
            99,
            chance,
        )
        for _ in range(400)
    ]
    for level in (0.05, 0.2, 0.5, 0.8):
        # Within four standard errors of the level.
        share = np.mean(np.array(found) <= level)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / 400)


def test_p_is_exact_on_a_case_that_can_be_counted() -> None:
    # One of the 6 ways to label 2 of 4 rows puts both positive rows on top.
    scores, is_positive = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])
    p = two_sample.permutation_p([(scores, is_positive)], 20_000, np.random.default_rng(0))
    assert p == pytest.approx(1 / 6, abs=0.012)
    tied = two_sample.permutation_p([(np.ones(4), is_positive)], 99, np.random.default_rng(0))
    assert tied == 1.0


@pytest.mark.slow
def test_judge_raises_no_more_false_alarms_than_it_says() -> None:
    # Labels dealt anew under all folds' scores at once call about 1 of 9 clean tables different.
    n_tables = 150
    found = []
    for seed in range(n_tables):
        base = evidence(seed=seed, n=60, n_discrete=0)
        drawn = samples(base)
        found.append(two_sample.judged(base, drawn.real, drawn.synthetic, explain=False))
    alarms = np.mean([each.p <= 0.05 for each in found])
    assert alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_tables)
    covered = np.mean([abs(each.auc - 0.5) <= 1.96 * each.error for each in found])
    assert covered >= 0.93
    spread = np.std([each.auc for each in found])
    plain = np.mean([each.error for each in found]) / np.sqrt(2)
    assert spread > 1.1 * plain, "the trap: the plain error is too small"


def test_judge_names_the_column_that_gives_rows_away() -> None:
    base = evidence(n=400)
    synthetic = Encoded(numbers=base.synthetic.numbers.copy(), codes=base.synthetic.codes)
    synthetic.numbers[:, 1] += 2.0
    found = judge(base.judging(synthetic), (two_sample.SUITE,))["fidelity.two_sample_auc"]
    assert found.lcb > 0.8
    assert found.details["p"] == pytest.approx(1 / 1_000)
    assert found.details["columns"][0]["name"] == "x1"
    assert found.details["control_p"] > 0.01
    assert found.control == pytest.approx(0.5, abs=0.1)


def test_perfect_order_has_an_interval() -> None:
    value, error = two_sample.auc(np.arange(20.0) + 100, np.arange(20.0))
    assert value == 1.0
    assert 0 < error < 0.1


# Errors


@pytest.mark.slow
@pytest.mark.parametrize("narrow", [1.0, 0.5])
def test_intervals_cover_over_repeated_samples(narrow: float) -> None:
    found = []
    for seed in range(120):
        base = evidence(seed=seed, n=150)
        synthetic = Encoded(numbers=base.synthetic.numbers * narrow, codes=base.synthetic.codes)
        found.append(judge(base.judging(synthetic)).by_id)
    for name in found[0]:
        each = [measured[name] for measured in found]
        true = np.mean([measurement.estimate for measurement in each])
        covered = np.mean([measurement.lcb <= true <= measurement.ucb for measurement in each])
        assert covered >= 0.9, (name, covered)


# Shares, threads and awkward tables


def test_shares_of_the_pieces_merged_are_one_pass_and_threads_change_nothing() -> None:
    base = evidence(n=120)
    whole = judge(base, SUITES).to_dict()
    shares = measure(base, SUITES, number=0, of=2) | measure(base, SUITES, number=1, of=2)
    assert conclude(base, SUITES, shares).to_dict() == whole
    assert (
        judge(evidence(n=120, threads=2), SUITES).to_dict()["measurements"]
        == (whole["measurements"])
    )


def part_of(kind: str, chance: np.random.Generator) -> tuple[Schema, Encoded]:
    n = 80
    nothing, constant = np.full((n, 1), np.nan), np.full((n, 1), 1.5)
    dates = 1.6e9 + 86_400.0 * chance.integers(0, 3_000, (n, 1))
    numbers = {
        "constant": constant,
        "all missing": nothing,
        "one number": chance.normal(size=(n, 1)),
        "dates, gaps, negative": np.hstack(
            [dates, np.where(chance.random((n, 1)) < 0.5, np.nan, -1e12)]
        ),
        "levels only": np.empty((n, 0)),
        "infinite range": np.where(chance.random((n, 1)) < 0.5, -1e300, 1e300),
    }[kind]
    n_discrete = 1 if kind in ("levels only", "all missing") else 0
    codes = chance.integers(0, 9, (n, n_discrete)).astype(np.int32)
    return schema_of(numbers.shape[1], n_discrete), Encoded(numbers=numbers, codes=codes)


@pytest.mark.parametrize(
    "kind",
    [
        "constant", "all missing", "one number", "dates, gaps, negative", "levels only",
        "infinite range",
    ],
)  # fmt: skip
def test_awkward_tables_are_measured(kind: str) -> None:
    chance = np.random.default_rng(8)
    parts = [part_of(kind, chance) for _ in range(4)]
    train, control, test, synthetic = (rows for _, rows in parts)
    found = judge(
        Evidence(
            schema=parts[0][0], train=train, control=control, test=test, synthetic=synthetic,
            seed=0, threads=1, repeats=20,
        ),
        QUICK if kind == "all missing" else SUITES,
    )  # fmt: skip
    assert not found.failures
    json.dumps(found.to_dict(), allow_nan=False)
    assert found["fidelity.coverage"].estimate > 0.8
    assert found["fidelity.precision"].estimate > 0.8
    assert found["fidelity.mmd2"].lcb <= 0.02
