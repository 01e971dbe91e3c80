"""What the batch system tells about the job that a process belongs to."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 10.0
SACCT_FIELDS = "ConsumedEnergyRaw,ElapsedRaw,AllocTRES"
SACCT_COVERAGE = "whole nodes of the job, from its start to its end"


def job_of(environment: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """The Slurm job of this process, and how long it waited before it began.

    Returns
    -------
    dict
        ``id``, ``restart`` (how often it was requeued) and ``wait_s`` (None when Slurm does not
        say); None outside a job.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        return None
    restart = environment.get("SLURM_RESTART_COUNT", "0")
    return {
        "id": job,
        "restart": int(restart) if restart.isdigit() else 0,
        "wait_s": _ask_wait(job, restart),
    }


@functools.cache
def _ask_wait(job: str, restart: str) -> float | None:
    """Ask Slurm once per process; it has no variable for this (22.05)."""
    try:
        return wait_in(_ask(["scontrol", "show", "job", "-o", job]))
    except _Silence:
        return None


def wait_in(text: str) -> float | None:
    """Seconds from a job's submission to its start, of ``scontrol show job -o`` in epoch seconds.

    >>> wait_in("JobId=7 Restarts=0 SubmitTime=1795644686 StartTime=1795644694 EndTime=Unknown")
    8.0
    >>> wait_in("JobId=7 SubmitTime=1795644686 StartTime=Unknown") is None
    True
    """
    times = dict(re.findall(r"\b(SubmitTime|StartTime)=(\d+)(?=\s|$)", text))
    if len(times) < 2:
        return None
    return max(0.0, float(times["StartTime"]) - float(times["SubmitTime"]))


def read_sacct(job: str) -> dict[str, Any]:
    """A reading of the energy of a whole job, from Slurm's accounting.

    It belongs to the job, not to a run: an elastic worker's job serves many runs, and Slurm counts
    the energy of a step when it has ended.  So it is read for jobs that are over, and never added
    to what a run measured itself.

    Returns
    -------
    dict
        A reading as those of `measured`: ``method``, ``joules``, ``covered_s``, ``coverage``,
        ``shared`` and ``allocated`` (Slurm's words); or ``unmeasured`` with the reason.
    """
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return _unmeasured(f"expected the number of a job, got {job[:40]!r}")
    try:
        return sacct_reading(
            _ask(["sacct", "-X", "-j", job, f"--format={SACCT_FIELDS}", "-P", "-n"])
        )
    except _Silence as silence:
        return _unmeasured(str(silence))


def sacct_reading(text: str) -> dict[str, Any]:
    """The reading in what ``sacct -X -P -n`` printed: a line for each part of the job.

    >>> told = "360000|3600|billing=64,cpu=64,energy=360000,gres/gpu=4,mem=200G,node=1"
    >>> sacct_reading(told)["joules"], sacct_reading("0|12|cpu=1,node=1")["why"]
    (360000.0, 'the site does not count energy, or the job is not over')
    """
    lines = [line.split("|") for line in text.splitlines() if line.strip()]
    if not lines:
        return _unmeasured("Slurm's accounting knows no such job")
    if any(len(line) != 3 for line in lines):
        return _unmeasured("Slurm's accounting answered in another form")
    energies = [int(energy) if energy.isdigit() else 0 for energy, _, _ in lines]
    if not all(energies):
        return _unmeasured("the site does not count energy, or the job is not over")
    return {
        "method": "sacct",
        "joules": float(sum(energies)),
        "covered_s": float(sum(int(elapsed) for _, elapsed, _ in lines if elapsed.isdigit())),
        "coverage": SACCT_COVERAGE,
        "shared": True,
        "allocated": "; ".join(resources for _, _, resources in lines),
    }


def _unmeasured(why: str) -> dict[str, Any]:
    return {"method": "unmeasured", "of": "sacct", "why": why}


class _Silence(Exception):
    """Why a tool of the batch system gave no answer."""


def _ask(command: list[str]) -> str:
    """What a tool of the batch system prints, with times in epoch seconds."""
    tool = command[0]
    if shutil.which(tool) is None:
        raise _Silence(f"there is no {tool} here")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
        )
    except subprocess.TimeoutExpired:
        raise _Silence(f"{tool} did not answer within {TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise _Silence(f"{tool} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise _Silence(lines[-1][:200] if lines else f"{tool} failed")
    return done.stdout
