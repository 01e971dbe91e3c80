"""Counters of a folder of runs in the format of Prometheus, read from files alone.

`synthfactory status RUNS --prometheus` prints them, for the textfile collector of a node exporter
or any scraper; Dask's scheduler serves its own under ``/metrics`` of its dashboard's address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from synthfactory import artifacts
from synthfactory.accounting import RESOURCES_FILE
from synthfactory.journal import STAGES, read_events, read_progress
from synthfactory.status import RunStatus

STATES = ("certified", "refused", "failed", "running", "interrupted")
HOURS = ("cpu_allocated_h", "cpu_used_h", "gpu_allocated_h", "gpu_used_h")
ENDINGS = ("started", "committed", "interrupted", "failed")


def exposition(runs: Path, states: Sequence[RunStatus]) -> str:
    """The metrics as text.

    Parameters
    ----------
    runs
        The folder.
    states
        What `synthfactory.status.read_status` found in it.
    """
    registry = CollectorRegistry()
    by_state = Gauge("synthfactory_runs", "Runs by state", ["state"], registry=registry)
    counts = Counter(state.state for state in states)
    for name in STATES:
        by_state.labels(name).set(counts[name])
    stages = Gauge(
        "synthfactory_stages_committed", "Committed stages", ["stage"], registry=registry
    )
    for stage in STAGES:
        done = sum(artifacts.is_done(runs / state.run / stage) for state in states)
        stages.labels(stage).set(done)
    attempts = Gauge(
        "synthfactory_attempts", "Attempts at a stage, by what happened", ["stage", "event"],
        registry=registry,
    )  # fmt: skip
    seen = Counter(
        (event["stage"], event["event"])
        for state in states
        for event in read_events(runs / state.run)
    )
    for stage in STAGES:
        for event in ENDINGS:
            attempts.labels(stage, event).set(seen[stage, event])
    progress = Gauge(
        "synthfactory_progress_ratio", "How far a running stage is", ["run", "stage"],
        registry=registry,
    )  # fmt: skip
    for state in states:
        found = read_progress(runs / state.run) if state.state == "running" else None
        if found is not None:
            progress.labels(state.run, found.stage).set(found.fraction)
    hours = Gauge(
        "synthfactory_hours", "Hours of processors and GPUs of finished runs", ["what"],
        registry=registry,
    )  # fmt: skip
    totals: Counter[str] = Counter()
    for state in states:
        path = runs / state.run / RESOURCES_FILE
        if path.exists():
            total = artifacts.read_json(path)["total"]
            totals.update({name: total[name] for name in HOURS if total[name] is not None})
    for name in HOURS:
        if name in totals:
            hours.labels(name.removesuffix("_h")).set(totals[name])
    return generate_latest(registry).decode()
