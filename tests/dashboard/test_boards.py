"""Ranks that may be shared, intervals over runs, coverage and fronts."""

from __future__ import annotations

import dataclasses
import random

import pytest

from synthfactory.dashboard.boards import (
    AXIS_BY_KEY,
    Cell,
    board,
    combine,
    front_of,
    generator_labels,
    group_runs,
    overall,
    pareto_front,
    rank,
)
from synthfactory.dashboard.charts import mark_of
from synthfactory.dashboard.records import LEAKAGE, Record, worst_attack

PLAIN = Record(
    run="a",
    state="refused",
    stage="5/5",
    why=(),
    dataset="people",
    generator="ctgan",
    parameters={"epochs": "300"},
    seed=0,
    version="0.1.0",
    ended_at=1.0,
    metrics={},
    unmeasured=(),
    resources={"wall_s": 1.0, "cpu_h": 1.0, "gpu_h": 0.0, "kwh": None, "peak_mb": 1.0},
    energy_method="",
    certificate=None,
    report=None,
)


def made(run: str, generator: str, dataset: str, **metrics: tuple[float, float, float]) -> Record:
    found = {
        name.replace("__", "."): (*values, 100, 0.0, None, 0.95) for name, values in metrics.items()
    }
    return dataclasses.replace(
        PLAIN, run=run, generator=generator, dataset=dataset, metrics=found, parameters={}
    )


def groups_of(*records: Record) -> dict:  # type: ignore[type-arg]
    datasets = {record.run: record.dataset for record in records}
    return group_runs(records, datasets, generator_labels(records))


def cell(lcb: float, ucb: float) -> Cell:
    return Cell(estimate=(lcb + ucb) / 2, lcb=lcb, ucb=ucb, n_runs=1)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_overlapping_intervals_share_ranks_against_brute_force(better: str) -> None:
    chance = random.Random(7)
    for _ in range(50):
        cells = {}
        for name in "abcdef"[: chance.randint(1, 6)]:
            low = chance.random()
            cells[name] = cell(low, low + chance.random() / 2)
        for name, ranked in rank(cells, better).items():
            own = cells[name]
            ahead = sum(
                other.lcb > own.ucb if better == "higher" else other.ucb < own.lcb
                for other in cells.values()
            )
            behind = sum(
                other.ucb < own.lcb if better == "higher" else other.lcb > own.ucb
                for other in cells.values()
            )
            assert (ranked.best, ranked.worst) == (1 + ahead, len(cells) - behind)


def test_a_generator_missing_on_one_table_is_listed_unranked_with_its_coverage() -> None:
    cells = {
        ("one", "a"): Cell(estimate=0.9, lcb=0.89, ucb=0.91, n_runs=1, best=1, worst=1),
        ("two", "a"): Cell(estimate=0.9, lcb=0.89, ucb=0.91, n_runs=1, best=1, worst=1),
        ("one", "b"): Cell(estimate=0.5, lcb=0.49, ucb=0.51, n_runs=1, best=2, worst=2),
    }
    first, second = overall(cells)
    assert (first.generator, first.rank, first.coverage) == ("a", 1, 2)
    assert (second.generator, second.rank, second.coverage) == ("b", None, 1)


def test_ties_over_all_tables_share_a_rank() -> None:
    cells = {
        (table, name): Cell(estimate=0.5, lcb=0.4, ucb=0.6, n_runs=1, best=best, worst=worst)
        for table in ("one", "two")
        for name, best, worst in (("a", 1, 2), ("b", 1, 2), ("c", 3, 3))
    }
    assert {row.generator: row.rank for row in overall(cells)} == {"a": 1, "b": 1, "c": 3}


def test_the_interval_over_runs_holds_their_own_and_their_spread() -> None:
    mean, low, high = combine([(0.4, 0.3, 0.5), (0.6, 0.5, 0.7)])
    assert mean == pytest.approx(0.5)
    # t(1) = 12.706, s = 0.1 * sqrt(2), R = 2: between-seeds half width 12.706 * 0.1.
    assert high - mean == pytest.approx((0.1**2 + 1.2706**2) ** 0.5)
    assert mean - low == pytest.approx(high - mean)
    identical = combine([(0.5, 0.4, 0.6)] * 30)
    assert identical == pytest.approx((0.5, 0.4, 0.6))


def test_nothing_is_imputed_and_the_newest_version_counts() -> None:
    old = made("r1", "ctgan", "people", fidelity__x=(0.2, 0.1, 0.3))
    new = dataclasses.replace(
        made("r2", "ctgan", "people", fidelity__x=(0.8, 0.7, 0.9)), version="0.10.0"
    )
    silent = made("r3", "tvae", "people")
    cells = board(groups_of(old, new, silent), "fidelity.x", "higher")
    assert set(cells) == {("people", "ctgan")}
    assert cells["people", "ctgan"].estimate == 0.8
    assert cells["people", "ctgan"].n_runs == 1


def test_the_front_against_brute_force() -> None:
    chance = random.Random(3)
    for _ in range(100):
        points = [(chance.randint(0, 6) / 6, chance.randint(0, 6) / 6) for _ in range(12)]
        expected = [
            at
            for at, (x, y) in enumerate(points)
            if not any(a <= x and b <= y and (a < x or b < y) for a, b in points)
        ]
        assert pareto_front(points) == expected


def test_the_front_is_drawn_on_bounds_not_on_middles() -> None:
    x, y = AXIS_BY_KEY["cpu_h"], AXIS_BY_KEY["utility"]
    sure = made("sure", "a", "t", utility__retained=(0.7, 0.68, 0.72))
    vague = made("vague", "b", "t", utility__retained=(0.9, 0.2, 1.0))
    assert front_of([sure, vague], x, y) == ["sure"]
    assert front_of([made("none", "c", "t")], x, y) == []


def test_tuned_variants_are_named_by_what_differs() -> None:
    usual = [dataclasses.replace(PLAIN, run=f"u{at}") for at in range(2)]
    tuned = dataclasses.replace(PLAIN, run="t", parameters={"epochs": "5"})
    labels = generator_labels([*usual, tuned])
    assert labels == {"u0": "ctgan", "u1": "ctgan", "t": "ctgan (epochs=5)"}


def test_marks_do_not_depend_on_what_else_is_shown() -> None:
    names = ("ctgan", "tvae", "independent", "bootstrap", "sdv_ctgan", "sdv_tvae",
             "sdv_gaussian_copula")  # fmt: skip
    assert len({mark_of(name) for name in names}) == len(names)
    assert mark_of("somebody-elses") == mark_of("somebody-elses")


def finding(metric: str, ucb: float, baseline: float | None = 0.0, unit: str = "share of rows",
            better: str = "lower") -> dict:  # type: ignore[type-arg] # fmt: skip
    return {"id": metric, "family": metric.split(".")[0], "estimate": ucb - 0.1, "lcb": ucb - 0.2,
            "ucb": ucb, "n": 10, "baseline": baseline, "control": None, "confidence": 0.95,
            "unit": unit, "better": better}  # fmt: skip


def test_the_worst_attack_is_the_one_with_the_largest_bound_above_chance() -> None:
    findings = {
        "failures": {},
        "measurements": [
            finding("privacy.dcr_share", 0.55, 0.5),
            finding("privacy.linkability", 0.08),
            finding("privacy.authenticity", 0.9, better="higher"),
            finding("privacy.k_map", 5.0, unit="people"),
            finding("fidelity.jensen", 0.9),
        ],
    }
    worst = worst_attack(findings)
    assert worst is not None
    assert worst[:3] == pytest.approx((-0.02, -0.12, 0.08))


def test_a_failed_attack_leaves_no_bound() -> None:
    findings = {
        "failures": {"privacy.linkability": "out of memory"},
        "measurements": [finding("privacy.dcr_share", 0.55, 0.5)],
    }
    assert worst_attack(findings) is None
    assert LEAKAGE == "privacy.worst_attack"
