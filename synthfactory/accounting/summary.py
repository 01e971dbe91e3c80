"""The document of what a run cost: ``resources.json``.

The stages of a run follow each other, so their seconds, hours and joules add up, also those of
counters that include other processes: no moment is counted twice.  Methods of measuring energy are
never added to each other (a node's counter holds its processors' and GPUs'), and a reading that
includes other processes must not be added up over runs that shared a machine.

Events say what no stage can: attempts that ended without a commit, and waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RESOURCES_FILE = "resources.json"
FORMAT = "synthfactory-resources/1"
JOULES_PER_KWH = 3.6e6
ENDINGS = ("committed", "interrupted", "failed")
HOURS = ("cpu_allocated_h", "cpu_used_h", "gpu_allocated_h", "gpu_used_h")

Event = Mapping[str, Any]
Cost = Mapping[str, Any]


def summarise(costs: Mapping[str, Cost], events: Sequence[Event] = ()) -> dict[str, Any]:
    """What a run cost, by stage and in total.

    Parameters
    ----------
    costs
        The cost of each committed stage, in the stages' order, as `measured` gives it.
    events
        The run's events; without them nothing is known of attempts and waiting.

    Returns
    -------
    dict
        JSON-able; hours, seconds, MiB and kWh; None is unmeasured.  No host, job, user or path.
    """
    attempts = attempts_of(events)
    stages = [
        _stage(stage, cost, [attempt for attempt in attempts if attempt.stage == stage])
        for stage, cost in costs.items()
    ]
    wall_s = sum(cost["wall_s"] for cost in costs.values())
    return {
        "format": FORMAT,
        "stages": stages,
        "total": {
            "wall_s": round(wall_s, 3),
            "peak_rss_mb": max((cost["peak_rss_mb"] for cost in costs.values()), default=0),
            **{name: _sum(stage[name] for stage in stages) for name in HOURS},
        },
        "attempts": _count(attempts) if events else None,
        "waiting": {
            "queue_s": queue_wait_s(events) if events else None,
            **_jobs(costs.values()),
        },
        "energy": _energy(costs.values(), wall_s),
    }


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try to make a stage.

    Parameters
    ----------
    stage
        Its stage.
    began_at, ended_at
        Seconds since 1970; no end while it may still be working.
    committed
        Whether its result counts.
    known
        Whether its end was told by itself or seen; otherwise ``ended_at`` is when the stage was
        queued or begun again, at the latest.
    continued
        Whether the next attempt went on from its checkpoint, so that not all was lost.
    cpus, gpus
        What it held, where its event says so.
    """

    stage: str
    began_at: float
    ended_at: float | None
    committed: bool
    known: bool
    continued: bool
    cpus: float | None
    gpus: float | None

    @property
    def wall_s(self) -> float:
        """Seconds on the clock; 0 while it may still be working."""
        return 0.0 if self.ended_at is None else max(0.0, self.ended_at - self.began_at)


def attempts_of(events: Sequence[Event]) -> list[Attempt]:
    """Every attempt that began, in the order in which they began.

    A process that is killed tells nothing.  Its attempt ends at ``last_seen`` of the next attempt's
    ``started`` event where that is given, else when the stage was next queued or started.
    """
    ordered = sorted(events, key=lambda event: event["at"])
    return [
        _attempt(event, ordered[at + 1 :])
        for at, event in enumerate(ordered)
        if event["event"] == "started"
    ]


def queue_wait_s(events: Sequence[Event]) -> float:
    """Seconds in which a stage was queued and waited for a worker.

    From ``queued`` (the last one before it, when a campaign was ordered again) to ``started``,
    less the time in which the run's earlier stage was still being made.
    """
    waited_s = 0.0
    queued: dict[Any, float] = {}
    free_at = float("-inf")
    for event in sorted(events, key=lambda event: event["at"]):
        at, kind, stage = float(event["at"]), event["event"], event.get("stage")
        if kind == "queued":
            queued[stage] = at
        elif kind == "started":
            since = queued.pop(stage, queued.pop(None, None))
            if since is not None:
                waited_s += max(0.0, at - max(since, free_at))
        if kind in ENDINGS:
            free_at = at
    return round(waited_s, 3)


def _attempt(start: Event, later: Sequence[Event]) -> Attempt:
    stage, name = start["stage"], start.get("attempt")
    own = [event for event in later if name and event.get("attempt") == name]
    end = next((event for event in own if event["event"] in ENDINGS), None)
    others = [
        event
        for event in later
        if event.get("stage") == stage and (not name or event.get("attempt") != name)
    ]
    again = next((event for event in others if event["event"] == "started"), None)
    ended_at, known = (float(end["at"]), True) if end else _last_seen(start, others, again)
    return Attempt(
        stage=stage,
        began_at=float(start["at"]),
        ended_at=ended_at,
        committed=end is not None and end["event"] == "committed",
        known=known,
        continued=bool(again and again.get("step")),
        cpus=start.get("cpus"),
        gpus=start.get("gpus"),
    )


def _last_seen(
    start: Event, others: Sequence[Event], again: Event | None
) -> tuple[float | None, bool]:
    """When a killed attempt ended, and whether that is known rather than a latest moment."""
    seen_at = again.get("last_seen") if again else None
    if again and seen_at is not None and start["at"] <= seen_at <= again["at"]:
        return float(seen_at), True
    waiting = next((event for event in others if event["event"] in ("queued", "started")), None)
    return (float(waiting["at"]), False) if waiting else (None, False)


def _stage(stage: str, cost: Cost, attempts: Sequence[Attempt]) -> dict[str, Any]:
    return {
        "stage": stage,
        "wall_s": cost["wall_s"],
        "peak_rss_mb": cost["peak_rss_mb"],
        "members": cost.get("members", 1),
        "cpu_allocated_h": _hours(cost.get("cpu_allocated_s")),
        "cpu_used_h": _hours(cost["cpu_s"]),
        "gpu_allocated_h": _hours(cost.get("gpu_allocated_s")),
        "gpu_used_h": _hours(cost.get("gpu_busy_s")),
        "attempts": len(attempts) or None,
    }


def _count(attempts: Sequence[Attempt]) -> dict[str, Any]:
    lost = [attempt for attempt in attempts if not attempt.committed and attempt.ended_at]
    return {
        "begun": len(attempts),
        "ended_without_commit": len(lost),
        "of_these_continued": sum(attempt.continued for attempt in lost),
        "uncommitted_wall_s": round(sum(attempt.wall_s for attempt in lost), 3),
        "uncommitted_wall_is": "exact" if all(attempt.known for attempt in lost) else "at most",
        "uncommitted_cpu_allocated_h": _sum(_allocated_h(lost, "cpus")),
        "uncommitted_gpu_allocated_h": _sum(_allocated_h(lost, "gpus")),
    }


def _allocated_h(attempts: Sequence[Attempt], what: str) -> Iterable[float | None]:
    for attempt in attempts:
        held = getattr(attempt, what)
        yield None if held is None else attempt.wall_s * held / 3_600


def _jobs(costs: Iterable[Cost]) -> dict[str, Any]:
    """The batch jobs that made the committed stages, and how long these jobs had waited."""
    jobs = [cost["job"] for cost in costs if cost.get("job")]
    waits = {(job["id"], job["restart"]): job["wait_s"] for job in jobs}
    return {"jobs": len(waits), "jobs_s": _sum(waits.values()) if waits else None}


def _energy(costs: Iterable[Cost], wall_s: float) -> list[dict[str, Any]]:
    """One entry for each method, then why others gave nothing."""
    readings = [reading for cost in costs for reading in cost.get("energy", ())]
    methods = list(dict.fromkeys(reading["method"] for reading in readings))
    measured = [
        _method([reading for reading in readings if reading["method"] == method], wall_s)
        for method in methods
        if method != "unmeasured"
    ]
    reasons = {
        (reading["of"], reading["why"]): None
        for reading in readings
        if reading["method"] == "unmeasured"
    }
    missing = [{"method": "unmeasured", "of": of, "why": why} for of, why in reasons]
    if not readings:
        missing = [{"method": "unmeasured", "of": "all", "why": "no reading was made"}]
    return measured + missing


def _method(readings: Sequence[Mapping[str, Any]], wall_s: float) -> dict[str, Any]:
    covered_s = sum(reading["covered_s"] for reading in readings)
    return {
        "method": readings[0]["method"],
        "kwh": _rounded(sum(reading["joules"] for reading in readings) / JOULES_PER_KWH),
        "coverage": "; ".join(dict.fromkeys(reading["coverage"] for reading in readings)),
        "shared": any(reading["shared"] for reading in readings),
        "of_wall": round(min(1.0, covered_s / wall_s), 3) if wall_s else 0.0,
    }


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds / 3_600)


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum, which is unmeasured when a part of it is."""
    known = list(values)
    measured = [value for value in known if value is not None]
    return _rounded(sum(measured)) if len(measured) == len(known) else None


def _rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
