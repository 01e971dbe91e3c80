"""The cost of one stage, as it is noted in its ``DONE.json``.

=====================  =============================================================================
``wall_s``             seconds on a clock
``cpu_s``              processor seconds of the process and of every process below it
``peak_rss_mb``        the most memory that one of these processes held
``cpus``, ``gpus``     what the process held; ``gpus`` counts shared GPUs in parts
``cpu_allocated_s``    ``wall_s`` times ``cpus``; ``gpu_allocated_s`` likewise
``gpu_busy_s``         GPU-seconds at work by the GPUs' own utilisation; None for unmeasured
``energy``             readings with method and coverage, or ``unmeasured`` with the reason
``members``            how many models a cost was divided among
``began_at``           seconds since 1970
``host``, ``job``      where, and in which job of the batch system; never published
=====================  =============================================================================
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from synthfactory.accounting.allocation import find_allocation
from synthfactory.accounting.batch import job_of
from synthfactory.accounting.meters import Meters

ADDITIVE = ("cpu_s", "cpu_allocated_s", "gpu_allocated_s", "gpu_busy_s")
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs, since Linux 4.0


@contextmanager
def measured(
    *, environment: Mapping[str, str] = os.environ, system: Path = Path("/")
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Measure a stage; the yielded function returns its cost so far.

    Processor time and memory are those of this process, of its children and of theirs, so one
    process should make one stage at a time.  What a process did that outlived its parent and was
    handed to another is not seen.

    Parameters
    ----------
    environment
        What tells the allocation (`find_allocation`).
    system
        Where the system's ``dev`` and ``sys`` lie.

    Raises
    ------
    OrderError
        When a variable that shares the machine out is not a share.
    """
    allocation = find_allocation(environment, system=system)
    gpus = allocation.gpus * allocation.gpu_share
    own_peak = _reset_peak()
    childrens_peak_kib = _childrens_peak_kib()
    began_at, began_s, cpu_s = time.time(), time.monotonic(), processor_seconds()
    with Meters(allocation, environment=environment, system=system) as meters:

        def cost() -> dict[str, Any]:
            wall_s = time.monotonic() - began_s
            busy_s, energy = meters.read(wall_s)
            grown_kib = _childrens_peak_kib()
            peak_kib = max(own_peak(), grown_kib if grown_kib > childrens_peak_kib else 0)
            return {
                "wall_s": round(wall_s, 3),
                "cpu_s": round(processor_seconds() - cpu_s, 3),
                "peak_rss_mb": round(peak_kib / 1024),
                "cpus": round(allocation.cpus, 6),
                "gpus": round(gpus, 6),
                "cpu_allocated_s": round(wall_s * allocation.cpus, 3),
                "gpu_allocated_s": round(wall_s * gpus, 3),
                "gpu_busy_s": busy_s,
                "energy": energy,
                "members": 1,
                "began_at": round(began_at, 3),
                "host": platform.node(),
                "job": job_of(environment),
            }

        yield cost


def share(cost: Mapping[str, Any], members: int) -> dict[str, Any]:
    """One member's part of what an ensemble cost.

    All that adds up is divided: processor and GPU seconds, used and allocated, and energy.  The
    seconds on the clock and the peak of memory are everybody's.

    >>> share({"wall_s": 10.0, "cpu_s": 8.0, "gpu_busy_s": None, "energy": []}, 4)
    {'wall_s': 10.0, 'cpu_s': 2.0, 'gpu_busy_s': None, 'energy': [], 'members': 4}
    """
    divided = {
        name: round(cost[name] / members, 6)
        for name in ADDITIVE
        if name in cost and cost[name] is not None
    }
    energy = [
        {**reading, "joules": round(reading["joules"] / members, 6)}
        if "joules" in reading
        else reading
        for reading in cost["energy"]
    ]
    return {**cost, **divided, "energy": energy, "members": members}


def combined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cost of a stage that several processes made in parts, side by side or in turn.

    What is the process's own is added.  Readings that include other processes (``shared``) of one
    host are added only where they do not overlap in time: of those that do, the longest counts,
    and what it leaves out shows as a smaller ``covered_s``.

    Parameters
    ----------
    parts
        At least one cost, as `measured` gives it.
    """
    first = min(parts, key=lambda part: part["began_at"])
    ends = max(part["began_at"] + part["wall_s"] for part in parts)
    sums: dict[str, Any] = {}
    for name in ADDITIVE:
        values = [part[name] for part in parts]
        sums[name] = None if None in values else round(sum(values), 3)
    return {
        **first,
        **sums,
        "wall_s": round(ends - first["began_at"], 3),
        "peak_rss_mb": max(part["peak_rss_mb"] for part in parts),
        "energy": _combined_energy(parts),
    }


def _combined_energy(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    readings = [(part, reading) for part in parts for reading in part["energy"]]
    own = [(part, reading) for part, reading in readings if not reading.get("shared")]
    shared = [(part, reading) for part, reading in readings if reading.get("shared")]
    kept: list[tuple[Mapping[str, Any], dict[str, Any]]] = []
    for part, reading in sorted(shared, key=lambda item: -item[1]["covered_s"]):
        same = [
            other
            for other, known in kept
            if other["host"] == part["host"] and known["method"] == reading["method"]
        ]
        if not any(_overlap(part, other) for other in same):
            kept.append((part, reading))
    return [reading for _, reading in (*own, *kept)]


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = sorted((one, other), key=lambda part: part["began_at"])
    return bool(second["began_at"] < first["began_at"] + first["wall_s"])


def processor_seconds() -> float:
    """Processor seconds so far of this process, of its ended children, and of those that live.

    A difference of two such sums counts each child once, also one that ends in between.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return float(total)


def _reset_peak() -> Callable[[], int]:
    """Begin a new peak of this process's memory; returns what reads it, in KiB.

    Where the kernel does not allow it, the peak is that of the process's whole life.
    """
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        _high_water_kib()
    except (OSError, ValueError):
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _high_water_kib


def _high_water_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise ValueError("the kernel does not tell the peak of memory")


def _childrens_peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
