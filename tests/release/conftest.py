"""Reports of runs that were really made: every measurement, a refusal, health data by person."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_examples as examples

Report = dict[str, Any]
QUICK = {"max_rows": 1_000, "repeats": 20, "attacks": 300}
ROLES: dict[str, Any] = {
    "quasi_identifiers": ("age", "region", "smoker"),
    "sensitive": ("outcome",),
}


@pytest.fixture(scope="session")
def certified_report(certified_run: Path) -> Report:
    """Of a certified run of 3,000 people."""
    report: Report = json.loads((certified_run / "release" / "report.json").read_text())
    return report


@pytest.fixture(scope="session")
def deep_report(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of 900 people with everything that can be measured: shadow models, a population, groups."""
    from synthfactory.certification import load_policy, new_key
    from synthfactory.certification.needs import Needs
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import TVAE
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    folder = tmp_path_factory.mktemp("deep")
    everybody = pd.read_csv(people_csv)
    everybody.head(900).to_csv(folder / "small.csv", index=False)
    everybody[["age", "region", "smoker"]].to_csv(folder / "population.csv", index=False)
    order = Order(
        dataset=Dataset(path=str(folder / "small.csv"), target="outcome", **ROLES),
        generator=TVAE(epochs=3),
        evaluation=Evaluation(
            **QUICK, shadows=16, targets=100, population=str(folder / "population.csv")
        ),
        # Refused in any case: so few people are not enough for its rules.
        policy=dataclasses.replace(load_policy("sf2"), needs=Needs()),
        threads=1,
        rows_per_shard=1_000,
    )
    outcome = produce(order, folder / "runs", key=new_key(folder / "issuer.pem"))
    return _decided(outcome.folder)


@pytest.fixture(scope="session")
def leaking_report(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of health data with several rows per person, and a generator that copies them."""
    from synthfactory.certification import load_policy, new_key
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import Bootstrap
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    folder = tmp_path_factory.mktemp("leaking")
    visits = pd.read_csv(people_csv).head(1_500)
    visits["patient"] = [f"P{number // 3:05d}" for number in range(len(visits))]
    visits.to_csv(folder / "visits.csv", index=False)
    dataset = Dataset(
        path=str(folder / "visits.csv"),
        title="Clinic visits",
        target="outcome",
        entity="patient",
        health=True,
        columns={"patient": {"kind": "identifier"}},
        **ROLES,
    )
    order = Order(
        dataset=dataset,
        generator=Bootstrap(),
        evaluation=Evaluation(**QUICK),
        policy=load_policy("default"),
        threads=1,
        rows_per_shard=1_000,
    )
    outcome = produce(order, folder / "runs", key=new_key(folder / "issuer.pem"))
    return _decided(outcome.folder)


@pytest.fixture(scope="session")
def second_attempt(leaking_report: Report) -> Report:
    """The same as if five candidates had been tried."""
    findings = dict(leaking_report["findings"])
    findings["protocol"] = {**findings["protocol"], "attempts": 5, "confidence": 0.99}
    return {**leaking_report, "findings": findings}


@pytest.fixture(scope="session")
def pages(
    tmp_path_factory: pytest.TempPathFactory,
    certified_report: Report,
    deep_report: Report,
    leaking_report: Report,
) -> dict[str, Path]:
    """The page of every example and of every real report, by name."""
    from synthfactory.release import render_html

    folder = tmp_path_factory.mktemp("pages")
    reports = {name: make() for name, make in examples.ALL.items()}
    reports |= dict(
        zip(examples.REAL, (certified_report, deep_report, leaking_report), strict=True)
    )
    paths = {name: folder / f"{name}.html" for name in reports}
    for name, path in paths.items():
        # A refused run has no release, and so no page with costs.
        costs = examples.costs() if reports[name]["outcome"] == "certified" else None
        path.write_text(render_html(reports[name], costs), encoding="utf-8")
    return paths


def _decided(folder: Path) -> Report:
    found = [*folder.glob("release/report.json"), *folder.glob("decide/report.json")]
    assert found, f"{folder} holds no report"
    report: Report = json.loads(found[0].read_text())
    return report
