"""Campaigns on a devcluster: the command line, as a user types it there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from devclusters import DevCluster

from synthfactory.journal import read_events

# Workers of a 2-core machine, with room for torch and the evaluation.
JOBS = (
    "site=devcluster",
    "cluster.max_gpu_jobs=2",
    "cluster.max_cpu_jobs=2",
    "cluster.cpu_job_memory_gb=2",
    "cluster.gpu_job_memory_gb=2",
)
SMALL = ("evaluation=quick", "threads=1", "evaluation.max_rows=500", "evaluation.repeats=20")


def synthfactory(*words: str) -> list[str]:
    """The command that runs synthfactory with these words."""
    return [sys.executable, "-m", "synthfactory", *words]


def run_on(
    devcluster: DevCluster, *words: str, timeout_s: float = 900, before: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Run a command to its end, as a client of the cluster; its outcomes as JSON."""
    done = subprocess.run(
        [*before, *synthfactory(*words, "--json")],
        env=devcluster.env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode in (0, 3), done.stderr[-4000:]
    outcomes: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("[\n") :])
    return outcomes


def submit(devcluster: DevCluster, *words: str) -> str:
    """Submit one allocation; its job's number."""
    done = subprocess.run(
        synthfactory("submit", *words),
        env=devcluster.env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def order(people_csv: Path, runs: Path, *more: str, epochs: int) -> list[str]:
    """The words of one order, a fit of so many epochs."""
    return [
        f"dataset.path={people_csv}", "generator=tvae", f"generator.epochs={epochs}",
        f"paths.runs={runs}", *SMALL, *more,
    ]  # fmt: skip


def events_of(runs: Path, stage: str, event: str) -> list[dict[str, Any]]:
    """What happened to a stage, over all runs of a folder."""
    return [
        found
        for run in runs.glob("*-*")
        for found in read_events(run)
        if (found["stage"], found["event"]) == (stage, event)
    ]


def no_debris(runs: Path) -> bool:
    """Whether nothing half-written is left in the run folders."""
    return not [path for path in runs.glob("*-*/**/*") if ".tmp" in path.name]
