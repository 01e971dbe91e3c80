"""Small real parts that many tests share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from browsers import ENGINES, Window, missing
from chromium import ARGUMENTS, CHROMIUM, PATIENCE_MS
from people import HOSTILE, LENIENT, hostile_table, make_people

# Without a GPU its kernels run in Triton's interpreter, which is chosen when triton is first
# imported: torch imports it, too, where it is installed.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Scripts of another environment (make validators).
collect_ignore = ["certification/outside", "webkit_window.py"]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
VALIDATORS = SHARED.with_name("validators")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what failed at first where `--reruns` tried again: that is a fault, too."""
    again = terminalreporter.getreports("rerun")
    if again:
        terminalreporter.section("FAILED AT FIRST, AND TRIED AGAIN", red=True, bold=True)
    for report in again:
        terminalreporter.section(report.nodeid, sep="_", red=True)
        terminalreporter.line(report.longreprtext)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of further real tables, which lies beside a developer's checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder of real tables {SHARED.relative_to(SHARED.parents[2])}")
    return SHARED


@pytest.fixture(scope="session")
def shared_validators() -> Path:
    """The folder of published shapes and contexts, which lies beside a developer's checkout."""
    if not VALIDATORS.is_dir():
        pytest.skip(f"needs the folder {VALIDATORS.relative_to(VALIDATORS.parents[1])}")
    return VALIDATORS


@pytest.fixture(autouse=True)
def own_configuration_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep tests away from the user's keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture(scope="session")
def people_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_people` as a CSV file of 3,000 rows."""
    path = tmp_path_factory.mktemp("people") / "people.csv"
    make_people(3_000).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def certified_run(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was really made, of 3,000 people, and certified."""
    from synthfactory.certification import Policy, new_key
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import TVAE
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    order = Order(
        dataset=Dataset(path=str(people_csv), target="outcome"),
        generator=TVAE(epochs=10),
        evaluation=Evaluation(max_rows=1_000, repeats=20),
        policy=Policy.from_dict(LENIENT),
        threads=1,
        rows_per_shard=1_000,
    )
    key = new_key(tmp_path_factory.mktemp("keys") / "issuer.pem")
    outcome = produce(order, tmp_path_factory.mktemp("runs"), key=key)
    assert outcome.state == "certified", outcome.reasons
    return outcome.folder


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `hostile_table`: health data, several parts, a did:web issuer."""
    from synthfactory.certification import Policy, new_key
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import TVAE
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    folder = tmp_path_factory.mktemp("hostile")
    pq.write_table(hostile_table(), folder / "hostile.parquet")
    term = {"iri": "http://purl.obolibrary.org/obo/NCIT_C25150", "unit": "a", "description": "Age"}
    dataset = Dataset(
        path=str(folder / "hostile.parquet"),
        target=HOSTILE["outcome"],
        title='Ti"tle <b>',
        description="Rows & more\nrows",
        licence="CC-BY-4.0",
        health=True,
        columns={HOSTILE["age"]: term, HOSTILE["pressure"]: {"iri": "no address"}},
    )
    order = Order(
        dataset=dataset,
        generator=TVAE(epochs=5),
        evaluation=Evaluation(max_rows=1_000, repeats=20),
        policy=Policy.from_dict(LENIENT),
        threads=1,
        rows_per_shard=1_000,
    )
    key = dataclasses.replace(new_key(folder / "issuer.pem"), web="did:web:lab.example.eu:data")
    outcome = produce(order, folder / "runs", key=key)
    assert outcome.state == "certified", outcome.reasons
    return outcome.folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs the extra synthfactory[test]"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"needs Debian's chromium at {CHROMIUM}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=list(ARGUMENTS), timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=list(ENGINES))
def window(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Window]:
    """A window of Firefox, then one of WebKit."""
    if reason := missing(request.param):
        pytest.skip(f"{reason}: sh tests/setup.sh")
    with ENGINES[request.param](tmp_path_factory.mktemp(request.param)) as opened:
        yield opened
