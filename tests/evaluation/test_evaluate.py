"""The whole evaluation on real and on awkward tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synthfactory as sf
from synthfactory.errors import EvaluationError, OrderError
from synthfactory.evaluation import Evaluation, Evidence, Findings, Measurement
from synthfactory.evaluation.charts import column_charts
from synthfactory.evaluation.people import FEWEST_SHOWN

QUICK = Evaluation(max_rows=600, repeats=20)
IDS = {
    "fidelity.column_shapes", "fidelity.pair_trends", "fidelity.association",
    "fidelity.correlation", "fidelity.triples", "fidelity.accuracy", "fidelity.wasserstein",
    "fidelity.jensen_shannon", "fidelity.rules_kept",
    "fidelity.two_sample_auc", "privacy.exact_match", "privacy.dcr_share",
    "privacy.dcr_share_aligned", "privacy.nndr_share", "privacy.authenticity",
    "privacy.singling_out", "privacy.linkability", "privacy.attribute_inference", "utility.tstr",
    "utility.retained",
    "fidelity.mmd2", "fidelity.precision", "fidelity.recall", "fidelity.density",
    "fidelity.coverage", "fidelity.alpha_precision", "fidelity.beta_recall",
    "utility.retained_mean", "utility.rank_agreement", "utility.feature_importance",
    "utility.augmentation", "utility.fairness_gap",
    "privacy.domias_knn", "privacy.domias_classifier",
    "privacy.epsilon_lower_bound",
}  # fmt: skip
# Measured where there is something to measure; otherwise neither a measurement nor a failure.
WHERE_THERE_IS_SOME = {"fidelity.missing_patterns", "fidelity.time_order"}
# Asked for only where groups of people are declared.
IF_DECLARED = {"utility.fairness_gap"}


def judge(table: sf.Table, generator: Any, evaluation: Evaluation = QUICK) -> Findings:
    train, control, test = sf.split(table, seed=0)
    synthetic = generator.fit(train, seed=0, threads=1).sample(len(train), seed=1)
    return evaluation.run(
        train=train, control=control, test=test, synthetic=synthetic, seed=2, threads=1
    )


def read(frame: pd.DataFrame, folder: Path, **options: Any) -> sf.Table:
    frame.to_csv(folder / "t.csv", index=False)
    return sf.read_table(folder / "t.csv", **options)


def test_everything_is_measured_and_the_instrument_is_valid(people_csv: Path) -> None:
    found = judge(sf.read_table(people_csv), sf.Independent(), Evaluation(repeats=20))
    assert set(found.by_id) == IDS | WHERE_THERE_IS_SOME
    assert not found.failures
    assert found.instrument_valid, found.instrument
    assert found["utility.retained"].ucb < 0.5


def test_same_seed_gives_the_same_findings(people_csv: Path) -> None:
    table = sf.read_table(people_csv)
    first, second = (judge(table, sf.Bootstrap()).to_dict() for _ in range(2))
    assert first == second
    json.dumps(first, allow_nan=False)
    assert Findings.from_dict(first).to_dict() == first


def test_bootstrap_leaks_and_independent_does_not(people_csv: Path) -> None:
    table = sf.read_table(people_csv)
    assert judge(table, sf.Bootstrap())["privacy.exact_match"].lcb > 0.9
    assert judge(table, sf.Independent())["privacy.exact_match"].ucb < 0.02


def test_no_target_is_a_named_failure(people_csv: Path) -> None:
    frame = pd.read_csv(people_csv).drop(columns=["outcome", "smoker", "region"])
    frame.to_csv(people_csv.parent / "plain.csv", index=False)
    found = judge(sf.read_table(people_csv.parent / "plain.csv"), sf.Independent())
    assert "declare dataset.target" in found.failures["utility.retained"]
    with pytest.raises(KeyError, match="No target is declared"):
        found["utility.retained"]
    assert not sf.decide(found).certified


CHANCE = np.random.default_rng(0)
N = 300
AWKWARD = {
    "numbers only": {"a": CHANCE.normal(size=N), "b": CHANCE.normal(size=N).round(1)},
    "levels only": {"a": CHANCE.choice(list("xyz"), N), "b": CHANCE.choice(list("pq"), N)},
    "constant and missing": {
        "a": CHANCE.integers(0, 99, N), "b": ["same"] * N, "c": [None] * N, "d": [1.5] * N,
        "e": CHANCE.choice(["u", "v"], N),
    },
    "many levels": {
        "a": [f"level {i % 150}" for i in range(N)], "b": CHANCE.integers(0, 2, N),
    },
    "dates and gaps": {
        "a": pd.date_range("2020-01-01", periods=N).strftime("%Y-%m-%d"),
        "b": np.where(CHANCE.random(N) < 0.4, np.nan, CHANCE.normal(size=N)),
        "c": CHANCE.choice(["u", "v"], N),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("generator", [sf.Independent(), sf.TVAE(epochs=1), sf.CTGAN(epochs=1)])
def test_awkward_tables_are_judged_without_a_crash(
    name: str, generator: Any, tmp_path: Path
) -> None:
    found = judge(read(pd.DataFrame(AWKWARD[name]), tmp_path), generator)
    told = (set(found.by_id) | set(found.failures)) - WHERE_THERE_IS_SOME
    assert IDS - IF_DECLARED <= told <= IDS
    json.dumps(found.to_dict(), allow_nan=False)


def test_regression_target_is_scored_with_r2(tmp_path: Path) -> None:
    x = CHANCE.normal(size=1_000)
    frame = pd.DataFrame(
        {"x": x, "z": CHANCE.normal(size=1_000), "y": 3 * x + CHANCE.normal(size=1_000)}
    )
    found = judge(read(frame, tmp_path, target="y"), sf.Bootstrap())
    assert found["utility.tstr"].unit == "R2"
    assert found["utility.retained"].estimate > 0.8


def test_charts_show_no_rare_level_and_no_extreme(tmp_path: Path) -> None:
    level = ["common"] * 990 + ["SECRET-1", "SECRET-2"] * 5
    number = CHANCE.normal(size=1_000)
    number[0] = 987654321.5
    frame = pd.DataFrame(
        {"level": level, "number": number, "other": CHANCE.choice(["u", "v"], 1_000)}
    )
    text = json.dumps(judge(read(frame, tmp_path), sf.Bootstrap()).to_dict())
    assert "SECRET" not in text
    assert "98765432" not in text


def test_charts_show_no_few_people(tmp_path: Path) -> None:
    """Neither rare levels together, nor missing values, of fewer than ten real people."""
    n = FEWEST_SHOWN - 1
    level: list[str | None] = ["u"] * 500 + ["v"] * (500 - n) + [f"rare-{i}" for i in range(n)]
    other: list[str | None] = ["u"] * (1_000 - n) + [None] * n
    number = np.where(np.arange(1_000) < n, np.nan, CHANCE.normal(size=1_000) ** 3)
    frame = pd.DataFrame({"level": level, "other": other, "number": number})
    table = read(frame, tmp_path)
    alone = Evidence.of(table, table, table, table, seed=0)
    charts = {
        name: column_charts(alone, [{"name": name, "score": 1, "reference": 1, "error": 0}])[0]
        for name in frame
    }
    assert charts["level"]["levels"] == ["u", "v", "(all others)"]
    assert charts["level"]["real"][-1] == 0.0
    assert charts["level"]["synthetic"][-1] == n / 1_000
    assert charts["other"]["missing"] == {"real": 0.0, "synthetic": n / 1_000}
    assert charts["number"]["missing"] == {"real": 0.0, "synthetic": n / 1_000}
    counts = np.array(charts["number"]["real"]) * (1_000 - n)
    assert (counts == 0).any()
    assert ((counts == 0) | (counts > n + 0.5)).all()


def test_measurement_refuses_what_is_no_number() -> None:
    values = {
        "id": "x.y", "family": "privacy", "n": 1, "baseline": None, "control": None, "unit": "",
        "better": "lower", "confidence": 0.95, "method": "",
    }  # fmt: skip
    with pytest.raises(EvaluationError, match="finite"):
        Measurement(estimate=float("nan"), lcb=0.0, ucb=1.0, **values)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="does not hold its estimate"):
        Measurement(estimate=2.0, lcb=0.0, ucb=1.0, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"confidence": 1.0}, {"max_rows": 1}, {"repeats": 2.5}, {"controls": "yes"}]
)
def test_settings_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(OrderError, match=f"evaluation.{next(iter(values))}"):
        Evaluation(**values)
