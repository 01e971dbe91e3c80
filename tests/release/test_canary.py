"""Planted values are found in no paper of a run: release, report, log, journal, ledger, dashboard.

A table with unique names, a rare level, an extreme number and an extreme date goes the whole way:
by default to a certificate, and with its rare values kept to a refusal.  Then every byte that is
left behind is searched.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import canary
import numpy as np
import pandas as pd
import pytest
from people import LENIENT, make_people

pytestmark = pytest.mark.slow

NAME, PERSON, RARE = "quokka-name", "quokka-person", "quokka-syndrome"
EXTREME, DAY = 918_273_645.5, date(1871, 3, 14)
PLANTED = {
    "a name": canary.plain(NAME),
    "a person": canary.plain(PERSON),
    "a rare level": canary.plain(RARE),
    "an extreme number": canary.renderings_of_number(EXTREME),
    "an extreme date": canary.renderings_of_day(DAY),
    "a place": canary.plain("quokka-folder"),
}
N_ROWS = 2_000


def plant(path: Path) -> None:
    """Confidential rows; three persons of them have what nobody else has."""
    chance = np.random.default_rng(5)
    frame = make_people(N_ROWS).drop(columns="patient")
    frame["person"] = [f"{PERSON}-{number // 2:05d}" for number in range(N_ROWS)]
    frame["full_name"] = [f"{NAME}-{number}" for number in chance.permutation(N_ROWS)]
    rare = chance.choice(N_ROWS, 3, replace=False)
    frame["illness"] = chance.choice(["none", "flu", "gout"], N_ROWS)
    frame.loc[rare, "illness"] = RARE
    frame["income"] = chance.normal(30_000, 5_000, N_ROWS).round(1)
    frame.loc[rare, "income"] = EXTREME
    frame["born"] = pd.Timestamp("1980-01-01") + pd.to_timedelta(
        chance.integers(0, 9_000, N_ROWS), unit="D"
    )
    frame["born"] = frame["born"].dt.strftime("%Y-%m-%d")
    frame.loc[rare, "born"] = DAY.isoformat()
    frame.to_csv(path, index=False)


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, one certified and one refused, with what was said while they were made."""
    folder = tmp_path_factory.mktemp("quokka-folder")
    plant(folder / "people.csv")
    write = folder / "conf" / "policy" / "lenient.yaml"
    write.parent.mkdir(parents=True)
    write.write_text(json.dumps(LENIENT))
    kept = ["dataset.min_people=0"]
    for generator, policy, more, code in (
        ("tvae", "lenient", ["generator.epochs=5"], 0),
        ("bootstrap", "default", kept, 3),
    ):
        words = [
            "run",
            f"dataset.path={folder / 'people.csv'}",
            "dataset.target=outcome",
            "dataset.entity=person",
            f"generator={generator}",
            *more,
            "evaluation=quick",
            f"policy={policy}",
            "threads=1",
            "rows_per_shard=1000",
            f"paths.runs={folder / 'runs'}",
            *("--config-dir", str(folder / "conf")),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "synthfactory", *words],
            capture_output=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=folder,
        )
        assert done.returncode == code, done.stderr.decode()
        (folder / "runs" / f"said-{generator}.txt").write_bytes(done.stdout + done.stderr)
    return folder / "runs"


@pytest.fixture(scope="module")
def found(left_behind: Path) -> set[tuple[str, str]]:
    return canary.search(left_behind, PLANTED)


def of_rows_or_model(name: str) -> bool:
    """Whether a file holds rows or a model; every other one is a paper."""
    return name.endswith(".parquet") or "/fit/model/" in name


def may_name_a_place(name: str) -> bool:
    """The order, which stays where it was given, and the user's own terminal."""
    return name.endswith("/order.json") or name.startswith("said-")


def test_search_finds_what_is_there(tmp_path: Path) -> None:
    wrapped = gzip.compress(json.dumps({"payload": "x" + RARE}).encode())
    (tmp_path / "a.gz").write_bytes(wrapped)
    (tmp_path / "b.json").write_text(json.dumps({"income": EXTREME, "born": DAY.isoformat()}))
    pd.DataFrame({"income": [EXTREME], "born": [pd.Timestamp(DAY)], "name": [NAME]}).to_parquet(
        tmp_path / "c.parquet"
    )
    assert canary.search(tmp_path, PLANTED) == {
        ("a rare level", "a.gz"),
        ("an extreme number", "b.json"),
        ("an extreme date", "b.json"),
        ("an extreme number", "c.parquet"),
        ("an extreme date", "c.parquet"),
        ("a name", "c.parquet"),
    }


def test_both_runs_ended_as_they_should(left_behind: Path) -> None:
    assert len(list(left_behind.glob("*-tvae-*/release/certificate.json"))) == 1
    assert not list(left_behind.glob("*-bootstrap-*/release"))
    assert len(list(left_behind.glob("*/decide/report.html"))) == 2


def test_what_was_kept_is_there_and_is_said(left_behind: Path, found: set[tuple[str, str]]) -> None:
    """The search would find them: where they are kept, a copying generator writes them down."""
    kept = {what for what, name in found if "-bootstrap-" in name and name.endswith(".parquet")}
    assert {"a rare level", "an extreme number", "an extreme date"} <= kept
    for name, expected in (("tvae", False), ("bootstrap", True)):
        (path,) = left_behind.glob(f"*-{name}-*/decide/report.json")
        report = json.loads(path.read_text())
        assert report["rareValues"]["kept"] is expected
        gaps = [item["what"] for item in report["notAssessed"]]
        assert ("Rare values" in gaps) is expected
        told = (left_behind / f"said-{name}.txt").read_text()
        assert ("rare values were kept" if expected else "rare values: about") in told


def test_no_paper_holds_a_planted_value(found: set[tuple[str, str]]) -> None:
    assert {
        (what, name)
        for what, name in found
        if not of_rows_or_model(name) and not (what == "a place" and may_name_a_place(name))
    } == set()


def test_rows_and_model_hold_no_planted_value(found: set[tuple[str, str]]) -> None:
    """By default rare levels and extremes stay behind: they are made common at the door."""
    assert {hit for hit in found if "-tvae-" in hit[1] and of_rows_or_model(hit[1])} == set()
