"""Fidelity of columns, pairs, triples and rules: brute force, traps, awkward tables."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from latent import LEVELS, draw, schema_of
from scipy import stats
from scipy.spatial.distance import jensenshannon

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.evidence import Evidence, shuffled, take
from synthfactory.evaluation.fidelity import (
    accuracy,
    ceiling,
    correlation,
    influence,
    joint,
    marginals,
    missing,
    pairs,
    rules,
    shapes,
    time_order,
    triples,
)
from synthfactory.evaluation.measurement import Findings, Measurement
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Column, Encoded, Schema, Table

SUITES = (
    shapes.SUITE, pairs.SUITE, correlation.SUITE, triples.SUITE, accuracy.SUITE, marginals.SUITE,
    missing.SUITE, rules.SUITE, time_order.SUITE,
)  # fmt: skip


def with_holes(rows: Encoded, chance: np.random.Generator) -> Encoded:
    numbers, codes = rows.numbers.copy(), rows.codes.copy()
    numbers[chance.random(numbers.shape) < 0.1] = np.nan
    codes[chance.random(codes.shape) < 0.1] = len(LEVELS)
    return Encoded(numbers=numbers, codes=codes)


def evidence_of(
    train: Encoded,
    synthetic: Encoded,
    holdout: Encoded | None = None,
    schema: Schema | None = None,
    **settings: Any,
) -> Evidence:
    """Evidence whose control and test rows are the halves of the holdout."""
    fresh = train if holdout is None else holdout
    half = len(fresh) // 2
    return Evidence(
        schema=schema or schema_of(train.numbers.shape[1], train.codes.shape[1]),
        train=train,
        control=take(fresh, np.arange(half)),
        test=take(fresh, np.arange(half, len(fresh))),
        synthetic=synthetic,
        seed=0,
        threads=1,
        **settings,
    )


def drawn(seed: int = 0, n: int = 600, **shape: int) -> Evidence:
    chance = np.random.default_rng(seed)
    return evidence_of(*(draw(n, chance, **shape) for _ in range(3)))


def found_by(evidence: Evidence, *suites: Suite) -> Findings:
    chosen = suites or SUITES
    return conclude(evidence, chosen, measure(evidence, chosen))


def one(evidence: Evidence, suite: Suite, name: str) -> Measurement:
    return found_by(evidence, suite)[name]


def total_variation(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """By tables of counts, missing values as a value of their own."""
    p, q = (frame.astype(str).value_counts(normalize=True) for frame in (a, b))
    return float(p.sub(q, fill_value=0).abs().sum() / 2)


# Columns


def test_numbers_are_compared_by_kolmogorov_smirnov() -> None:
    chance = np.random.default_rng(0)
    for a, b in [
        (chance.normal(size=300), chance.normal(0.3, 2, 500)),
        (chance.integers(0, 5, 300).astype(float), chance.integers(1, 9, 200).astype(float)),
        (np.zeros(10), np.ones(10)),
        (np.ones(10), np.ones(3)),
    ]:
        found = shapes.similarity_of_numbers(a, b)
        assert found.score == pytest.approx(1 - stats.ks_2samp(a, b).statistic)


def test_levels_are_compared_by_total_variation() -> None:
    chance = np.random.default_rng(0)
    a, b = chance.integers(0, 6, 300).astype(np.int32), chance.integers(2, 9, 100).astype(np.int32)
    expected = 1 - total_variation(pd.DataFrame(a), pd.DataFrame(b))
    assert shapes.similarity_of_levels(a, b, 9).score == pytest.approx(expected)


def test_missing_values_on_one_side_cost_as_much_as_they_are() -> None:
    values = np.random.default_rng(0).normal(size=1_000)
    holed = values.copy()
    holed[::4] = np.nan
    assert shapes.similarity_of_numbers(values, holed).score == pytest.approx(0.75, abs=0.03)
    empty = np.full(10, np.nan)
    assert shapes.similarity_of_numbers(values, empty).score == 0
    assert shapes.similarity_of_numbers(empty, empty).score == 1


def test_wasserstein_is_scipys_in_interquartile_ranges() -> None:
    chance = np.random.default_rng(0)
    a, b = chance.normal(size=300), chance.normal(0.3, 2, 500)
    a[:20] = np.nan
    expected = stats.wasserstein_distance(a[20:], b) / stats.iqr(a[20:])
    assert marginals.scaled_distance(a, b).value == pytest.approx(expected)
    assert marginals.scaled_distance(a, a + stats.iqr(a[20:])).value == pytest.approx(1.0)


def test_columns_without_a_width_have_a_distance() -> None:
    spike = np.r_[np.zeros(90), np.arange(10.0)]
    assert marginals.yardstick(spike) == (spike.std(), "standard deviation")
    assert marginals.scaled_distance(spike, spike + spike.std()).value == pytest.approx(1.0)
    constant, other = np.full(50, 7.0), np.r_[np.full(30, 7.0), np.full(10, 1e9)]
    assert marginals.scaled_distance(constant, other).value == pytest.approx(0.25)


def test_jensen_shannon_is_scipys() -> None:
    p, q = np.array([0.1, 0.4, 0.5, 0.0]), np.array([0.3, 0.3, 0.0, 0.4])
    assert marginals.jensen_shannon(p, q)[0] == pytest.approx(jensenshannon(p, q, base=2))
    assert marginals.jensen_shannon(p, p)[0] == 0
    apart = marginals.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert apart[0] == pytest.approx(1.0)


def test_an_empty_synthetic_column_is_a_named_failure_not_a_good_distance() -> None:
    base = drawn()
    base.synthetic.numbers[:, 1] = np.nan
    found = found_by(base, marginals.SUITE)
    assert "'x1' holds no value" in found.failures["fidelity.wasserstein"]
    assert found["fidelity.jensen_shannon"].lcb > 0.2


# Pairs and triples


def test_pairs_of_levels_are_compared_by_their_joint_table() -> None:
    chance = np.random.default_rng(0)
    parts = [with_holes(draw(400, chance, 0, 3), chance) for _ in range(3)]
    found = one(evidence_of(*parts), pairs.SUITE, "fidelity.pair_trends")
    frames = [pd.DataFrame(part.codes) for part in parts]
    scores = [
        1 - total_variation(frames[0][[a, b]], frames[1][[a, b]])
        for a, b in itertools.combinations(range(3), 2)
    ]
    assert found.estimate == pytest.approx(np.mean(scores))
    assert found.control == pytest.approx(
        np.mean(
            [
                1 - total_variation(frames[0][[a, b]], frames[2][[a, b]])
                for a, b in itertools.combinations(range(3), 2)
            ]
        )
    )


def test_correlations_are_pearsons_of_the_rows_with_both_values() -> None:
    chance = np.random.default_rng(0)
    parts = [with_holes(draw(300, chance, 4, 1), chance) for _ in range(3)]
    parts[1].numbers[:, 0] *= -1
    scores = []
    for a, b in itertools.combinations(range(4), 2):
        rho = []
        for part in parts[:2]:
            both = part.numbers[:, [a, b]]
            both = both[~np.isnan(both).any(axis=1)]
            rho.append(stats.pearsonr(both[:, 0], both[:, 1]).statistic)
        scores.append(1 - abs(rho[0] - rho[1]) / 2)
    found = one(evidence_of(*parts), correlation.SUITE, "fidelity.correlation")
    assert found.estimate == pytest.approx(np.mean(scores))
    assert found.details["n_pairs"] == 6


def test_weak_pairs_are_not_skipped() -> None:
    # SDMetrics leaves out pairs with |rho| <= 0.5 or V <= 0.3: made-up dependence goes unseen.
    chance = np.random.default_rng(0)
    lone = [Encoded(numbers=chance.normal(size=(2_000, 2)), codes=np.zeros((2_000, 0), np.int32))
            for _ in range(3)]  # fmt: skip
    lone[1].numbers[:, 1] = lone[1].numbers[:, 0]
    found = found_by(evidence_of(*lone), pairs.SUITE, correlation.SUITE)
    assert found["fidelity.correlation"].ucb < 0.6
    assert found["fidelity.correlation"].control is not None
    assert found["fidelity.correlation"].control > 0.95
    assert found["fidelity.pair_trends"].ucb < 0.3
    assert "hardly depend" in found.failures["fidelity.association"]


def test_constant_columns_have_no_correlation() -> None:
    base = drawn(n_discrete=0)
    base.synthetic.numbers[:, 0] = 3e6
    found = one(base, correlation.SUITE, "fidelity.correlation")
    assert found.estimate == pytest.approx(1 - 2 * 0.25 / 3, abs=0.05), "counts as 0"
    base.train.numbers[:, 0] = 5.0
    found = one(base, correlation.SUITE, "fidelity.correlation")
    assert (found.details["n_pairs"], found.details["n_pairs_undefined"]) == (1, 2)
    base.train.numbers[:, 1] = 5.0
    assert "no correlation" in found_by(base, correlation.SUITE).failures["fidelity.correlation"]


@pytest.mark.parametrize("suite", [pairs.SUITE, triples.SUITE, accuracy.SUITE])
def test_one_outlier_changes_nothing_and_a_wrong_scale_much(suite: Suite) -> None:
    # SDMetrics bins both tables together or apart: one outlier took a pair from 0.898 to 0.008,
    # and a column times 1,000 + 5e6 still scored 1.0.
    base = drawn(n=2_000)
    name = suite.ids[0]
    clean = one(base, suite, name).estimate
    numbers = base.synthetic.numbers.copy()
    numbers[0, 0] = 1e9
    spoilt = base.judging(Encoded(numbers=numbers, codes=base.synthetic.codes))
    assert one(spoilt, suite, name).estimate == pytest.approx(clean, abs=0.002)
    numbers[:, 0] = numbers[:, 0] * 1_000 + 5e6
    assert one(spoilt, suite, name).estimate < clean - 0.2


def test_triples_are_brute_force_on_coarse_bins() -> None:
    chance = np.random.default_rng(0)
    parts = [with_holes(draw(500, chance, 2, 2), chance) for _ in range(3)]
    base = evidence_of(*parts)
    bins = triples.CoarseBins(base)
    frames = [pd.DataFrame(bins(part).bins.T) for part in parts[:2]]
    assert max(bins(parts[0]).sizes) <= triples.N_COARSE + 1
    scores = [
        1 - total_variation(*(frame[list(group)] for frame in frames))
        for group in itertools.combinations(range(4), 3)
    ]
    found = one(base, triples.SUITE, "fidelity.triples")
    assert found.estimate == pytest.approx(np.mean(scores))
    assert found.details["n_triples"] == found.details["n_triples_of_all"] == 4


def test_triples_see_what_no_pair_shows() -> None:
    chance = np.random.default_rng(0)

    def parity(n: int, *, kept: bool) -> Encoded:
        codes = chance.integers(0, 2, (n, 3)).astype(np.int32)
        if kept:
            codes[:, 2] = codes[:, 0] ^ codes[:, 1]
        return Encoded(numbers=np.zeros((n, 0)), codes=codes)

    base = evidence_of(
        parity(4_000, kept=True), parity(4_000, kept=False), parity(4_000, kept=True)
    )
    found = found_by(base, pairs.SUITE, triples.SUITE)
    assert found["fidelity.pair_trends"].lcb > 0.95
    assert found["fidelity.triples"].estimate == pytest.approx(0.5, abs=0.03)
    assert found["fidelity.triples"].control is not None
    assert found["fidelity.triples"].control > 0.95


def test_a_sample_of_triples_is_said_and_counts_in_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = drawn(n_numeric=6, n_discrete=2)
    everything = one(base, triples.SUITE, "fidelity.triples")
    monkeypatch.setattr(triples, "MAX_TRIPLES", 12)
    monkeypatch.setattr(triples.triples_of, "__defaults__", (12,))
    some = one(base, triples.SUITE, "fidelity.triples")
    assert (some.details["n_triples"], some.details["n_triples_of_all"]) == (12, 56)
    assert "at random" in some.details["chosen"]
    assert some.lcb < everything.estimate < some.ucb
    assert some.to_dict() == one(base, triples.SUITE, "fidelity.triples").to_dict()


def test_accuracy_is_the_mean_of_means_on_tenths() -> None:
    chance = np.random.default_rng(0)
    parts = [draw(500, chance, 2, 2) for _ in range(3)]
    for part in parts:
        part.numbers[:, 1] = np.rint(part.numbers[:, 1])
    parts[0].codes[:3, 0] = 0
    frames = [
        pd.DataFrame({"x": part.numbers[:, 0], "y": part.numbers[:, 1],
                      "c": part.codes[:, 0], "d": part.codes[:, 1]})
        for part in parts
    ]  # fmt: skip
    ordered = np.sort(frames[0]["x"])
    edges = [ordered[int(499 * k / 10)] for k in range(11)]
    few = next(d for d in range(9) if len({np.floor(e * 10**d) for e in edges}) == 11)
    edges = [np.floor(e * 10**few) / 10**few for e in edges[:-1]]
    for frame in frames:
        frame["x"] = np.searchsorted(edges, frame["x"], side="right").clip(1)
    different = sorted(frames[0]["y"].unique())
    assert len(different) <= 10
    for frame in frames:
        frame["y"] = np.searchsorted(different, frame["y"], side="right").clip(1)
    for name in "cd":
        counts = frames[0][name].value_counts()
        common = counts[counts >= 5].index
        for frame in frames:
            frame[name] = frame[name].where(frame[name].isin(common), -1)
    means = [
        np.mean(
            [
                1 - total_variation(*(frame[list(group)] for frame in frames[:2]))
                for group in itertools.combinations("xycd", size)
            ]
        )
        for size in (1, 2, 3)
    ]
    found = one(evidence_of(*parts), accuracy.SUITE, "fidelity.accuracy")
    assert found.details["univariate"] == pytest.approx(means[0])
    assert found.details["bivariate"] == pytest.approx(means[1])
    assert found.details["trivariate"] == pytest.approx(means[2])
    assert found.estimate == pytest.approx(np.mean(means))


# What stands beside


def test_nothing_is_sub_sampled_silently() -> None:
    base = drawn(n=900)
    few = evidence_of(base.train, base.synthetic, schema=base.schema, max_rows=100)
    full = evidence_of(base.train, base.synthetic, schema=base.schema)
    for measurement in found_by(few).measurements:
        assert measurement.n == 900
        assert measurement.to_dict() == found_by(full)[measurement.id].to_dict()


def test_ceiling_compares_equally_many_rows() -> None:
    chance = np.random.default_rng(0)
    base = evidence_of(draw(900, chance), draw(900, chance), draw(300, chance))
    stand = ceiling.Stand.of(base)
    assert {len(rows) for rows in (stand.synthetic, stand.fresh, stand.independent)} == {300}
    many = evidence_of(draw(900, chance), draw(100, chance), draw(300, chance))
    stand = ceiling.Stand.of(many)
    assert stand.synthetic is many.synthetic
    assert len(stand.fresh) == 100


def test_normalised_is_one_for_fresh_rows_and_zero_for_independent_ones() -> None:
    chance = np.random.default_rng(0)
    train, holdout, fresh = (draw(4_000, chance) for _ in range(3))
    lone = shuffled(train, 4_000, chance)
    suites = (pairs.SUITE, triples.SUITE, correlation.SUITE, accuracy.SUITE)
    for name in (name for suite in suites for name in suite.ids):
        good = found_by(evidence_of(train, fresh, holdout), *suites)[name]
        poor = found_by(evidence_of(train, lone, holdout), *suites)[name]
        assert good.details["normalised"] == pytest.approx(1.0, abs=0.1), name
        assert poor.details["normalised"] == pytest.approx(0.0, abs=0.1), name


def test_pieces_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    base = drawn(n=300)
    suites = (pairs.SUITE, triples.SUITE, accuracy.SUITE)
    whole = found_by(base, *suites).to_dict()
    monkeypatch.setattr(joint, "ROWS_PER_PIECE", 2_000)
    assert len(pairs.SUITE.pieces(base)) > 2
    assert found_by(base, *suites).to_dict() == whole


# Errors


def test_influences_are_derivatives() -> None:
    chance = np.random.default_rng(0)
    table = chance.random((4, 3))
    table /= table.sum()
    strength = pairs.cramers_v(table, 1_000)
    step = np.zeros_like(table)
    step[1, 2], step[3, 0] = 1e-6, -1e-6
    moved = (pairs.cramers_v(table + step, 1_000).value - strength.value) / 1e-6
    assert moved == pytest.approx(strength.slope[1, 2] - strength.slope[3, 0], rel=1e-3)

    numbers = with_holes(draw(200, chance, 4, 1), chance).numbers
    weights = np.array(chance.normal(size=(4, 4)))
    weights += weights.T
    frame = correlation.centres_and_scales(numbers)

    def weighted(rows: Any) -> float:
        rho = correlation.Moments(rows, *frame).rho
        return float((np.triu(weights, 1) * rho).sum())

    found = correlation.Moments(numbers, *frame).influence(weights)
    without = [weighted(np.delete(numbers, row, axis=0)) for row in range(200)]
    left_out = 199 * (weighted(numbers) - np.array(without))
    assert np.corrcoef(found, left_out)[0, 1] > 0.999
    assert found.std() == pytest.approx(left_out.std(), rel=0.05)


def test_rows_of_one_entity_move_together() -> None:
    values = np.random.default_rng(0).normal(size=500)
    alone = influence.standard_error(values)
    together = influence.standard_error(np.repeat(values, 4), np.repeat(np.arange(500), 4))
    assert together == pytest.approx(alone)
    assert influence.standard_error(np.repeat(values, 4)) == pytest.approx(alone / 2)


@pytest.mark.slow
@pytest.mark.parametrize("moved", [False, True])
def test_errors_cover_the_scatter_of_repetitions(moved: bool) -> None:
    suites = (
        shapes.SUITE, pairs.SUITE, correlation.SUITE, triples.SUITE, accuracy.SUITE,
        marginals.SUITE,
    )  # fmt: skip
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(120):
        chance = np.random.default_rng(seed)
        parts = [draw(800, chance) for _ in range(3)]
        if moved:
            parts[1].numbers[:] = parts[1].numbers * 1.2 + 0.3
        for item in found_by(evidence_of(*parts), *suites).measurements:
            found.setdefault(item.id, []).append((item.estimate, item.lcb, item.ucb))
    # A move of each number on its own leaves dependence as it was.
    unmoved = {"fidelity.correlation", "fidelity.association"}
    for name, values in found.items():
        estimates, lows, highs = np.array(values).T
        covered = np.mean((lows <= estimates.mean()) & (estimates.mean() <= highs))
        error = (highs - lows).mean() / (2 * 1.96)
        assert covered >= 0.89, name
        # Where tables are equal, |difference| scatters less than its slope tells.
        assert error < (1.4 if moved and name not in unmoved else 2.2) * estimates.std(), name


# Missing values


def test_missing_patterns_see_what_is_missing_together() -> None:
    chance = np.random.default_rng(0)

    def holed(n: int, *, together: bool) -> Encoded:
        rows = draw(n, chance, 2, 1)
        gone = chance.random((n, 2)) < 0.5
        if together:
            gone[:, 1] = gone[:, 0]
        rows.numbers[gone] = np.nan
        return rows

    real, other, fresh = (holed(4_000, together=kept) for kept in (True, False, True))
    found = one(evidence_of(real, other, fresh), missing.SUITE, "fidelity.missing_patterns")
    assert found.estimate == pytest.approx(0.5, abs=0.03)
    assert found.control is not None
    assert found.control > 0.97
    assert found.baseline == pytest.approx(0.5, abs=0.03)
    patterns = [pd.DataFrame(np.isnan(rows.numbers)) for rows in (real, other)]
    assert found.estimate == pytest.approx(1 - total_variation(*patterns))


def test_a_table_without_missing_values_has_no_missing_patterns() -> None:
    found = found_by(drawn(), missing.SUITE)
    assert not found.measurements
    assert not found.failures


# Rules


def ruled(n: int, chance: np.random.Generator) -> Encoded:
    """``x0 + x1 = x2``, ``x0 <= x2``, and level c0 decides level c1."""
    parts = chance.integers(0, 100, (n, 2)).astype(float)
    codes = chance.integers(0, 8, (n, 1))
    return Encoded(
        numbers=np.column_stack([parts, parts.sum(axis=1)]),
        codes=np.column_stack([codes, codes // 2]).astype(np.int32),
    )


def ruled_schema() -> Schema:
    numbers = [
        Column(name=f"x{place}", kind="numerical", dtype="int64", decimals=0, minimum=0,
               maximum=200)
        for place in range(3)
    ]  # fmt: skip
    return Schema(columns=(*numbers, *schema_of(0, 2).columns))


def test_rules_are_discovered_and_broken_ones_counted() -> None:
    chance = np.random.default_rng(0)
    real, other, fresh = (ruled(1_000, chance) for _ in range(3))
    other.numbers[:100, 2] += 1
    other.codes[100:150, 1] = 7
    other.numbers[150:170, 0] = 0.5
    other.numbers[150:170, 2] = 0.5 + other.numbers[150:170, 1]
    other.numbers[170:180, 1] = np.nan
    base = evidence_of(real, other, fresh, schema=ruled_schema())
    found = one(base, rules.SUITE, "fidelity.rules_kept")
    assert found.estimate == pytest.approx(1 - (100 + 50 + 20 + 10) / 1_000)
    assert found.control == 1.0
    kinds = {(rule["kind"], *rule["columns"]) for rule in found.details["discovered"]}
    assert kinds == {
        ("order", "x0", "x2"), ("order", "x1", "x2"), ("sum", "x0", "x1", "x2"),
        ("dependency", "c0", "c1"),
    }  # fmt: skip
    assert found.details["worst"][0]["kind"] == "sum"
    assert found.details["searched"]["sum"] == 3


def test_accidental_rules_are_dropped() -> None:
    chance = np.random.default_rng(0)
    real, other, fresh = (draw(60, chance, 6, 0) for _ in range(3))
    real.numbers[:, 1] = np.maximum(real.numbers[:, 1], real.numbers[:, 0])
    found = found_by(evidence_of(real, other, fresh), rules.SUITE)
    assert "nothing to keep" in found.failures["fidelity.rules_kept"]


def test_a_declared_rule_that_real_rows_break_is_none() -> None:
    chance = np.random.default_rng(0)
    real, other, fresh = (ruled(500, chance) for _ in range(3))
    for rows in (real, other, fresh):
        rows.numbers[:50, 0] += 500
        rows.numbers[:, 2] = rows.numbers[:, 0] + rows.numbers[:, 1]
    base = evidence_of(real, other, fresh, schema=ruled_schema())
    found = one(base, rules.SUITE, "fidelity.rules_kept")
    assert found.estimate == found.control == 1.0
    assert found.details["dropped"]["declared, but broken by train rows"] == 2


def test_identifiers_must_be_unique_and_present() -> None:
    column = Column(name="id", kind="identifier", dtype="string")
    schema = Schema(columns=(column,))

    def table(names: list[str | None]) -> Table:
        return Table(data=pa.table({"id": pa.array(names, pa.string())}), schema=schema)

    found = rules.identifier_rules(schema, table(["a", "b", "c"]))
    assert set(found) == {("identifier of its type", "id"), ("identifier unique", "id")}
    synthetic = table(["x", "y", "x", None, " "])
    broken = {kind: rules.identifier_broken(kind, column, synthetic).tolist() for kind, _ in found}
    assert broken["identifier unique"] == [True, False, True, False, False]
    assert broken["identifier of its type"] == [False, False, False, True, True]
    assert set(rules.identifier_rules(schema, table(["a", "a"]))) == {
        ("identifier of its type", "id")
    }


def test_money_with_cents_is_whole_and_a_third_of_a_cent_is_not() -> None:
    cents = np.array([0.1 + 0.2, 1234567.89, -0.01, 1e9 + 0.05])
    broken = rules._too_fine(2)
    assert not broken(cents).any()
    assert broken(cents + 1 / 300).all()


# Order in time


def timed_schema(n_numbers: int) -> Schema:
    time = Column(name="t", kind="datetime", dtype="timestamp[us]", nullable=True)
    return Schema(columns=(time, *schema_of(n_numbers, 0).columns))


def series(n: int, chance: np.random.Generator) -> Encoded:
    """An hourly series in which every value is near to the last one."""
    walk = np.empty(n)
    walk[0] = 0.0
    for place in range(1, n):
        walk[place] = 0.95 * walk[place - 1] + chance.normal()
    times = 1.6e9 // 3600 * 3600 + np.arange(n) * 3600.0
    rows = np.column_stack([times, walk])[chance.permutation(n)]
    return Encoded(numbers=rows, codes=np.zeros((n, 0), np.int32))


def test_shuffled_series_keeps_the_calendar_and_loses_the_order() -> None:
    chance = np.random.default_rng(0)
    everything = series(9_000, chance)
    real, same, fresh = (take(everything, np.arange(k, 9_000, 3)) for k in range(3))
    lost = Encoded(numbers=same.numbers.copy(), codes=same.codes)
    lost.numbers[:, 1] = chance.permutation(lost.numbers[:, 1])
    good, poor = (
        one(evidence_of(real, rows, fresh, schema=timed_schema(1)), time_order.SUITE, time_order.ID)
        for rows in (same, lost)
    )
    assert good.lcb > 0.9
    assert good.control == pytest.approx(good.estimate, abs=0.03)
    parts = {part["name"]: part["score"] for part in poor.details["parts"]}
    assert parts["hour"] > 0.9
    assert parts["autocorrelation at lag 1"] < 0.7
    assert poor.ucb < good.lcb
    assert poor.baseline == pytest.approx(poor.estimate, abs=0.03)


def test_autocorrelation_is_pearsons_of_shifted_rows() -> None:
    values = series(300, np.random.default_rng(0)).numbers
    values = values[np.argsort(values[:, 0]), 1:]
    found = time_order.autocorrelations(values)[0]
    for place, lag in enumerate(time_order.LAGS):
        expected = stats.pearsonr(values[:-lag, 0], values[lag:, 0]).statistic
        assert found[place] == pytest.approx(expected)


def visits(n_people: int, chance: np.random.Generator, gap_days: float) -> pd.DataFrame:
    person = np.repeat([f"p{chance.integers(1 << 40)}" for _ in range(n_people)], 4)
    days = np.cumsum(chance.exponential(gap_days, (n_people, 4)), axis=1).ravel()
    days += np.repeat(chance.integers(0, 300, n_people), 4)
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.rint(days * 86_400), "s")
    return pd.DataFrame({"person": person, "t": times})


def test_gaps_between_visits_are_compared_by_person() -> None:
    chance = np.random.default_rng(0)
    schema = Schema(
        columns=(
            Column(name="person", kind="identifier", dtype="string"),
            Column(name="t", kind="datetime", dtype="timestamp[us]"),
        ),
        entity="person",
    )

    def table(gap_days: float, *, lone: bool = False) -> Table:
        frame = visits(300, chance, gap_days)
        if lone:
            frame["person"] = [f"r{row}" for row in range(len(frame))]
        data = pa.Table.from_pandas(frame, preserve_index=False)
        kind = pa.schema([("person", pa.string()), ("t", pa.timestamp("us"))])
        return Table(data=data.cast(kind), schema=schema)

    def judged(synthetic: Table) -> Measurement:
        parts = table(30), table(30), table(30)
        base = Evidence.of(*parts, synthetic, seed=0, threads=1)
        return one(base, time_order.SUITE, time_order.ID)

    def part(found: Measurement, name: str) -> float:
        (score,) = (part["score"] for part in found.details["parts"] if part["name"] == name)
        return float(score)

    good, slow, lone = judged(table(30)), judged(table(90)), judged(table(30, lone=True))
    assert good.details["by"] == "entity"
    assert part(good, "gaps") > 0.9
    assert part(slow, "gaps") < 0.7
    assert part(lone, "gaps") == part(lone, "rows per entity") == 0
    assert lone.ucb < slow.ucb < good.lcb


def test_a_table_without_a_datetime_has_no_time_order() -> None:
    found = found_by(drawn(), time_order.SUITE)
    assert not found.measurements
    assert not found.failures


# Awkward tables


def test_awkward_tables_give_numbers_or_named_failures() -> None:
    chance = np.random.default_rng(0)
    none = np.zeros((50, 0), np.int32)
    tables = {
        "one number": [Encoded(chance.normal(size=(50, 1)), none) for _ in range(3)],
        "constant": [Encoded(np.full((50, 2), 3.0), none) for _ in range(3)],
        "all missing": [Encoded(np.full((50, 2), np.nan), none) for _ in range(3)],
        "one level": [Encoded(np.zeros((50, 0)), np.zeros((50, 1), np.int32)) for _ in range(3)],
        "negative and huge": [
            Encoded(-(10 ** chance.uniform(0, 100, (50, 2))), none) for _ in range(3)
        ],
        "ten rows": [with_holes(draw(10, chance), chance) for _ in range(3)],
    }
    for name, parts in tables.items():
        found = found_by(evidence_of(*parts))
        told = set(found.by_id) | set(found.failures)
        expected = {name for suite in SUITES for name in suite.ids}
        assert told >= expected - {missing.ID, time_order.ID}, name
        json.dumps(found.to_dict(), allow_nan=False)


def test_reports_name_columns_and_no_level() -> None:
    base = drawn()
    schema = Schema(
        columns=tuple(
            Column(name=f"c{place}", kind="categorical", dtype="string", nullable=True,
                   categories=tuple(f"SECRET-{level}" for level in range(8)))
            for place in range(2)
        )
    )  # fmt: skip
    parts = [Encoded(np.zeros((600, 0)), rows.codes) for rows in (base.train, base.synthetic)]
    found = found_by(evidence_of(*parts, schema=schema))
    assert "SECRET" not in json.dumps([item.to_dict() for item in found.measurements])


def test_identifiers_alone_cannot_be_compared() -> None:
    empty = Encoded(np.zeros((20, 0)), np.zeros((20, 0), np.int32))
    with pytest.raises(EvaluationError, match="identifiers only"):
        shapes.measure(evidence_of(empty, empty))
