"""Two commands over one folder of runs at the same time: both may compute, one commits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from synthfactory import artifacts
from synthfactory.journal import STAGES, read_events

pytestmark = pytest.mark.slow

POLICY = """\
id: test-lenient
version: "1"
title: A policy that a short fit satisfies
use_class: restricted
rules:
  - {id: no-copies, metric: privacy.exact_match, bound: ucb, op: "<=", value: 0.5, why: a test}
"""


def start(runs: Path, people_csv: Path, conf: Path, seeds: str = "0,1") -> subprocess.Popen[str]:
    (conf / "policy").mkdir(parents=True, exist_ok=True)
    (conf / "policy" / "lenient.yaml").write_text(POLICY)
    return subprocess.Popen(
        [
            sys.executable, "-W", "error::UserWarning", "-m", "synthfactory", "run",
            "--config-dir", str(conf), "--multirun", "--json", "-q",
            f"paths.runs={runs}", f"dataset.path={people_csv}", "policy=lenient",
            "generator=tvae", "generator.epochs=3", f"seed={seeds}", "threads=1",
            "evaluation=quick", "evaluation.max_rows=500", "cluster.n_workers=1",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    output, errors = process.communicate(timeout=600)
    assert process.returncode in (0, 3), errors
    outcomes: list[dict[str, object]] = json.loads(output)
    return outcomes


def files_of(runs: Path) -> dict[str, str]:
    """Digest of every file of every stage, as it lies there."""
    return {
        str(path.relative_to(runs)): artifacts.digest_file(path)
        for run in runs.glob("*-*")
        for stage in STAGES
        for path in (run / stage).rglob("*")
        if path.is_file() and path.name != artifacts.DONE
    }


def test_two_campaigns_of_the_same_orders_end_well_with_the_same_bytes(
    people_csv: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    wanted = end(start(alone, people_csv, tmp_path / "conf"))
    both = [start(shared, people_csv, tmp_path / "conf") for _ in range(2)]
    for process in both:
        ended = end(process)
        assert [(item["run"], item["state"]) for item in ended] == [
            (item["run"], item["state"]) for item in wanted
        ]
    assert files_of(shared) == files_of(alone)
    assert not list(shared.glob("*/.*.tmp"))
    assert not list(shared.glob("*/failure.json"))
    campaigns: set[str] = set()
    for run in shared.glob("*-tvae-*"):
        events = read_events(run)
        campaigns |= {event["campaign"] for event in events if event["event"] == "queued"}
        seconds = Counter(event.get("second") for event in events if event["event"] == "committed")
        assert seconds["different"] == 0
        assert all(artifacts.is_done(run / stage) for stage in STAGES)
    assert len(campaigns) == 2


def test_what_killed_workers_left_is_cleared_away(people_csv: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    end(start(runs, people_csv, tmp_path / "conf", "range(0,1)"))
    run = next(runs.glob("*-tvae-*"))
    # As if a worker had been killed after it committed the fit, and others while they wrote.
    (run / "fit.checkpoint.safetensors").touch()
    (run / ".evaluate.0123.tmp" / "part").mkdir(parents=True)
    (run / ".progress.json.0123.tmp").touch()
    for stage in ("decide", "evaluate"):
        for path in (run / stage).iterdir():
            path.unlink()
        (run / stage).rmdir()
    end(start(runs, people_csv, tmp_path / "conf", "range(0,1)"))
    assert all(artifacts.is_done(run / stage) for stage in STAGES)
    left = {path.name for path in run.iterdir() if path.suffix in (".tmp", ".safetensors")}
    assert left == set()
