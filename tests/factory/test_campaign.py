"""Many orders on a real Dask cluster: one process each, killed at any moment, same bytes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stage_files import bytes_of

from synthfactory import artifacts
from synthfactory.status import read_status

pytestmark = pytest.mark.slow

SMALL = ["evaluation=quick", "threads=1"]


def command(runs: Path, *words: str) -> list[str]:
    return [
        sys.executable, "-W", "error::UserWarning", "-m", "synthfactory", "run", "--json",
        f"paths.runs={runs}", *SMALL, *words,
    ]  # fmt: skip


def make(runs: Path, *words: str, expected: tuple[int, ...] = (0, 3)) -> list[dict[str, object]]:
    done = subprocess.run(
        command(runs, *words), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode in expected, done.stderr
    outcomes: list[dict[str, object]] = json.loads(done.stdout)
    return outcomes


@pytest.fixture(scope="module")
def undisturbed(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    words = sweep(people_csv)
    outcomes = make(runs, *words)
    assert len(outcomes) == 4
    return runs


def sweep(people_csv: Path) -> list[str]:
    return ["--multirun", f"dataset.path={people_csv}", "generator=ctgan,tvae", "seed=0,1",
            "generator.epochs=3"]  # fmt: skip


def test_killed_campaign_continues_to_the_same_bytes(
    undisturbed: Path, people_csv: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(tmp_path, *sweep(people_csv)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not bytes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    half_way = bytes_of(tmp_path)
    assert 0 < len(half_way) < len(bytes_of(undisturbed))
    make(tmp_path, *sweep(people_csv))
    assert bytes_of(tmp_path) == bytes_of(undisturbed)


def test_finished_campaign_returns_without_a_cluster(undisturbed: Path, people_csv: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("DONE.json")}
    words = [*sweep(people_csv), "cluster.n_workers=64", "cluster.memory_limit_gb=0.001"]
    assert len(make(undisturbed, *words)) == 4
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("DONE.json")}


def test_number_of_workers_does_not_change_the_bytes(
    undisturbed: Path, people_csv: Path, tmp_path: Path
) -> None:
    make(tmp_path, *sweep(people_csv), "cluster.n_workers=1")
    assert bytes_of(tmp_path) == bytes_of(undisturbed)


def test_orders_that_differ_in_their_seed_are_trained_together(
    people_csv: Path, tmp_path: Path
) -> None:
    words = ["--multirun", f"dataset.path={people_csv}", "generator=ctgan"]
    outcomes = make(
        tmp_path, *words, "seed=0,1,2", "cluster.models_per_fit=2", "generator.epochs=3"
    )
    assert len(outcomes) == 3
    sizes = {
        run.name.split("-")[2]: artifacts.read_json(run / "fit" / "training.json").get("ensemble")
        for run in tmp_path.glob("*-ctgan-*")
    }
    assert sizes == {"s0": 2, "s1": 2, "s2": 1}


@pytest.mark.skipif(importlib.util.find_spec("sdv") is not None, reason="needs sdv to be absent")
def test_one_failing_order_does_not_stop_the_others(people_csv: Path, tmp_path: Path) -> None:
    words = ["--multirun", f"dataset.path={people_csv}", "generator=sdv_tvae,independent"]
    failed, other = make(tmp_path, *words, expected=(2,))
    assert failed["state"] == "failed"
    assert "synthfactory[sdv]" in str(failed["reasons"])
    assert other["state"] == "refused"
    listed = read_status(tmp_path)
    assert {state.state for state in listed} == {"failed", "refused"}
    assert any("synthfactory[sdv]" in reason for state in listed for reason in state.reasons)


def test_a_policy_that_needs_more_people_does_not_stop_the_others(
    people_csv: Path, tmp_path: Path
) -> None:
    words = ["--multirun", f"dataset.path={people_csv}", "generator=independent"]
    words += ["evaluation.attacks=2000", "evaluation.max_rows=4000"]
    small, other = make(tmp_path, *words, "policy=sf2,default", expected=(2,))
    assert small["state"] == "failed"
    assert "4,000 people on either side" in str(small["reasons"])
    assert other["state"] == "refused"
    assert [state.run for state in read_status(tmp_path)] == [other["run"]]


def test_status_reads_the_folders_alone(undisturbed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthfactory", "status", str(undisturbed), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    states = json.loads(done.stdout)
    assert len(states) == 4
    assert {state["state"] for state in states} <= {"certified", "refused"}
