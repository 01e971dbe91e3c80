"""What is planted in a confidential table is found nowhere in what is published about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import AnOrder

from synthfactory.certification import decide
from synthfactory.evaluation import Evaluation
from synthfactory.generators import Bootstrap
from synthfactory.release import build_report, write_report
from synthfactory.tables import Dataset, Split, split_report

pytestmark = pytest.mark.slow

CANARY = "canary-7d0e"
FEW = "forty-3c1b"
EXTREME = 918_273_645.5


def confidential_table(path: Path, n_rows: int = 900) -> None:
    """A table with rare levels, an extreme number and a name for every person."""
    chance = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "person": [f"{CANARY}-{number:04d}" for number in range(n_rows)],
            "income": chance.normal(30_000, 5_000, n_rows).round(2),
            "illness": chance.choice(["none", "flu"], n_rows),
            "<b>town</b>": chance.choice(["Ålesund", "Łódź", "<script>alert(1)</script>"], n_rows),
        }
    )
    frame.loc[:4, "income"] = EXTREME
    frame.loc[:4, "illness"] = f"{CANARY}-syndrome"
    # A level that bar charts may show, but no subgroup: fewer than 50 people have it.
    frame.loc[5:44, "illness"] = f"{FEW}-syndrome"
    frame.to_csv(path, index=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The report of a generator that copies its training rows."""
    folder = tmp_path_factory.mktemp(f"{CANARY}-folder")
    confidential_table(folder / "people.csv")
    dataset = Dataset(
        path=str(folder / "people.csv"),
        name="people",
        target="illness",
        # The report keeps them back, also where the table still holds them.
        min_people=0,
        columns={"person": {"kind": "identifier"}},
        quasi_identifiers=("<b>town</b>", "income"),
        sensitive=("illness", "income"),
    )
    order = AnOrder(
        dataset=dataset, generator=Bootstrap(), evaluation=Evaluation(repeats=20), split=Split()
    )
    table, rare = dataset.load_with_changes()
    parts = order.split.apply(table, seed=0)
    synthetic = order.generator.fit(parts.train, seed=0).sample(300, seed=1)
    findings = order.evaluation.run(**parts._asdict(), synthetic=synthetic, seed=2)
    report: dict[str, Any] = build_report(
        order,
        schema=table.schema,
        rare=rare,
        split=split_report(parts),
        findings=findings,
        verdict=decide(findings, order.policy),
        manifest={"merkleRoot": "sha256:" + "0" * 64, "parts": [{"rows": 300}]},
    )
    write_report(folder, report)
    return {path.name: path.read_text() for path in folder.glob("report.*")}


@pytest.mark.parametrize("name", ["report.json", "report.html"])
def test_no_planted_value_is_published(published: dict[str, str], name: str) -> None:
    text = published[name]
    assert CANARY not in text
    for written in ("918273645", "918,273,645", "918,000,000", "9.18e+08", "9.18274e+08"):
        assert written not in text


def test_the_page_shows_real_findings(published: dict[str, str]) -> None:
    report = json.loads(published["report.json"])
    assert {chart["name"] for chart in report["findings"]["charts"]["columns"]} == {
        "income",
        "illness",
        "<b>town</b>",
    }
    assert "<b>town</b>" not in published["report.html"]
    assert "&lt;b&gt;town&lt;/b&gt;" in published["report.html"]
    assert "&lt;script&gt;alert(1)" in published["report.html"]


def walk(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a nested value, with where it stands."""
    yield where, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{where}.{key}", key
            yield from walk(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from walk(item, f"{where}[]")


def told_by_measurements(report: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything that measurements, failures and the instrument tell, charts aside."""
    for finding in report["findings"]["measurements"]:
        yield from walk(finding["details"], finding["id"])
    yield from walk(report["findings"]["failures"], "failures")
    yield from walk(report["findings"]["instrument"], "instrument")
    yield from walk(report["findings"]["protocol"], "protocol")


def test_no_detail_names_a_level_of_fewer_than_fifty_people(published: dict[str, str]) -> None:
    report = json.loads(published["report.json"])
    texts = [(where, value) for where, value in told_by_measurements(report)
             if isinstance(value, str)]  # fmt: skip
    assert [where for where, value in texts if FEW in value or CANARY in value] == []
    # The search would find one: common levels are named.
    assert any("illness = none" in value for _, value in texts)


def test_a_group_of_forty_is_drawn_but_named_in_no_sentence(published: dict[str, str]) -> None:
    page = published["report.html"]
    assert FEW in page
    privacy = page[page.index('id="privacy"') : page.index('id="fidelity"')]
    assert FEW not in privacy
    utility = page[page.index('id="utility"') : page.index('id="method"')]
    assert FEW not in utility


@pytest.mark.parametrize("name", ["deep_report", "leaking_report"])
def test_a_real_report_names_no_small_group_and_no_score_of_a_person(
    name: str, request: pytest.FixtureRequest
) -> None:
    report = request.getfixturevalue(name)
    for where, value in told_by_measurements(report):
        if isinstance(value, dict) and "group" in value:
            assert min(value["n_members"], value["n_strangers"]) >= 50, where
        # A person's score would come with those of all others: nothing is as long as that.
        assert not isinstance(value, list) or len(value) <= 25, where
    if name == "deep_report":
        # Of 900 people 45 or so live there: fewer than 50 in any part.
        texts = [value for _, value in told_by_measurements(report) if isinstance(value, str)]
        assert not any("west" in value for value in texts)
