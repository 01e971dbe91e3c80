"""What a run cost, in the words of the report; what was not measured is said to be unmeasured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthfactory.release import words

Json = Mapping[str, Any]

UNMEASURED = "unmeasured"
METHODS = {
    "nvml": "Energy: GPUs (NVML)",
    "rapl": "Energy: processors (RAPL)",
    "pm_counters": "Energy: node (Cray pm_counters)",
    "sacct": "Energy: job (sacct)",
    "all": "Energy",
}


def cost_view(resources: Json) -> dict[str, Any]:
    """The table of stages and the lines below it.

    Parameters
    ----------
    resources
        What ``resources.json`` holds.
    """
    stages = resources["stages"]
    return {
        "rows": [_row(stage["stage"], stage) for stage in stages],
        "total": _row("Together", {**resources["total"], "attempts": _begun(resources)}),
        "lines": [
            ("Attempts without a result", _attempts(resources["attempts"])),
            ("Waiting for a worker", duration(resources["waiting"]["queue_s"])),
            *_jobs(resources["waiting"]),
            *((_method(entry), _energy(entry)) for entry in resources["energy"]),
        ],
        "shared": any(stage["members"] > 1 for stage in stages),
    }


def duration(seconds: float | None) -> str:
    """Seconds for reading.

    >>> duration(0.42), duration(75), duration(7_380), duration(None)
    ('0.42 s', '1 min 15 s', '2 h 3 min', 'unmeasured')
    """
    if seconds is None:
        return UNMEASURED
    if seconds < 60:
        return f"{words.number(float(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _row(name: str, stage: Json) -> dict[str, str]:
    return {
        "name": name,
        "wall": duration(stage["wall_s"]),
        "cpu_used": _hours(stage["cpu_used_h"]),
        "cpu_held": _hours(stage["cpu_allocated_h"]),
        "gpu_used": _hours(stage["gpu_used_h"]),
        "gpu_held": _hours(stage["gpu_allocated_h"]),
        "memory": f"{words.number(stage['peak_rss_mb'])} MiB",
        "attempts": UNMEASURED if stage["attempts"] is None else str(stage["attempts"]),
    }


def _begun(resources: Json) -> int | None:
    attempts = resources["attempts"]
    return None if attempts is None else int(attempts["begun"])


def _hours(value: float | None) -> str:
    return UNMEASURED if value is None else words.number(value)


def _attempts(attempts: Json | None) -> str:
    if attempts is None:
        return UNMEASURED
    lost, continued = attempts["ended_without_commit"], attempts["of_these_continued"]
    if not lost:
        return "none"
    length = duration(attempts["uncommitted_wall_s"])
    said = f"{lost}, of {length} in all"
    if attempts["uncommitted_wall_is"] != "exact":
        said = f"{lost}, of at most {length} in all (a killed process does not say when it ended)"
    if continued:
        said += f"; {continued} went on from a checkpoint"
    return f"{said}; not part of the hours above"


def _jobs(waiting: Json) -> list[tuple[str, str]]:
    """Nothing where no batch system was."""
    if not waiting["jobs"]:
        return []
    jobs = "1 job" if waiting["jobs"] == 1 else f"{waiting['jobs']} jobs"
    waited = duration(waiting["jobs_s"])
    return [("Waiting in the batch system", f"{waited} ({jobs}, which may have served other runs)")]


def _method(entry: Json) -> str:
    return METHODS[entry["of"] if entry["method"] == UNMEASURED else entry["method"]]


def _energy(entry: Json) -> str:
    if entry["method"] == UNMEASURED:
        return f"{UNMEASURED}: {entry['why']}"
    return (
        f"{words.number(entry['kwh'])} kWh of {entry['coverage']};"
        f" over {words.number(entry['of_wall'], 'share')} of the time"
    )
