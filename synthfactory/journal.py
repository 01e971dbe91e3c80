"""What a run tells while it works: events, progress, the loss curve, failures.

Workers write small files into the run folder; whoever wants to know reads them.  That works the
same on a laptop and across a cluster's nodes, for a watcher who came late, and after a crash.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from synthfactory import artifacts
from synthfactory.errors import StageError

# The stages of a run, in order; each is a folder that is absent or whole.
STAGES = ("split", "fit", "sample", "evaluate", "decide")
ORDER_FILE = "order.json"
PROGRESS_FILE = "progress.json"
FAILURE_FILE = "failure.json"
CURVE_FILE = "fit.losses.jsonl"
EVENTS_FILE = "events.jsonl"
# Below a folder of runs: what campaigns and their jobs wrote.
CAMPAIGNS = ".campaigns"
CAMPAIGN_FILE = "campaign.json"
LOG_VARIABLE = "SYNTHFACTORY_LOG"
MAX_STARTS = 3
STALE_AFTER_S = 60.0
_WRITE_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is: a stage, how far (0 to 1), and one line of detail."""

    stage: str
    fraction: float = 0.0
    detail: str = ""
    written_at: float = 0.0
    host: str = ""
    pid: int = 0

    @property
    def is_stale(self) -> bool:
        """Whether nobody works on it: its process is gone, or has not written for a minute."""
        if self.host == platform.node() and not psutil.pid_exists(self.pid):
            return True
        return time.time() - self.written_at > STALE_AFTER_S


class Reporter:
    """Writes the progress of one run, at most twice a second."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_FILE
        self._last_s = 0.0
        self._told: dict[str, Any] = {}

    def __call__(self, stage: str, fraction: float = 0.0, detail: str = "") -> None:
        self._told = {"stage": stage, "fraction": fraction, "detail": detail}
        if 0.0 < fraction < 1.0 and time.monotonic() - self._last_s < _WRITE_EVERY_S:
            return
        self._write()

    @contextmanager
    def beating(self, every_s: float = STALE_AFTER_S / 3) -> Iterator[None]:
        """Write again what was told last while the block tells nothing new for long.

        Else a stage with a step of more than a minute would look as if nobody worked on it.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(every_s):
                if self._told and time.monotonic() - self._last_s >= every_s:
                    # A full disk is found by the stage itself.
                    with suppress(OSError):
                        self._write()

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()

    def _write(self) -> None:
        self._last_s = time.monotonic()
        place = {"written_at": time.time(), "host": platform.node(), "pid": os.getpid()}
        artifacts.write_json(self._path, {**self._told, **place})


class Curve:
    """The losses of a fit while it goes on: a line of JSON per report, flushed at once.

    A fit that continues tells the reports of before again, so the file always begins anew.
    """

    def __init__(self, folder: Path) -> None:
        self.reports: list[dict[str, float]] = []
        self._path = folder / CURVE_FILE
        self._path.unlink(missing_ok=True)

    def __call__(self, report: dict[str, float]) -> None:
        """Add a report."""
        self.reports.append(report)
        with self._path.open("a") as file:
            file.write(json.dumps(report) + "\n")


def write_event(folder: Path, event: str, stage: str, **more: Any) -> None:
    """Append what happened to the run's events: one line of JSON, written at once.

    Parameters
    ----------
    folder
        The run's folder.
    event
        ``queued``, ``started``, ``committed``, ``interrupted`` or ``failed``; of an evaluation
        also ``measured``, ``unkept`` and ``discarded``, each of one piece.
    stage
        Of which stage.
    more
        Further values, such as ``attempt``, ``campaign`` and ``step``.
    """
    line = {
        "at": round(time.time(), 3),
        "event": event,
        "stage": stage,
        "host": platform.node(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": os.environ.get("SLURM_RESTART_COUNT"),
        "log": os.environ.get(LOG_VARIABLE),
        **more,
    }
    with artifacts.storage_errors("write", folder / EVENTS_FILE):
        folder.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: two writers never mix their lines.
        descriptor = os.open(folder / EVENTS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """What happened to a run, in the order of its file; a line that is not whole is left out."""
    events: list[dict[str, Any]] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for line in (folder / EVENTS_FILE).read_bytes().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                events += [event] if isinstance(event, dict) else []
    return events


def begin_attempt(folder: Path, stage: str, *, campaign: str, step: int, **more: Any) -> str:
    """Note that a stage begins, unless it began too often already; returns the attempt's name.

    Parameters
    ----------
    folder
        The run's folder.
    stage
        Which stage.
    campaign
        Names the campaign; another one tries afresh.
    step
        How far the stage was before, such as the step of a fit; 0 from nothing.
    more
        Further values of the event.

    Raises
    ------
    StageError
        When earlier attempts of this campaign began at the same step and died.
    """
    starts = 0
    for event in read_events(folder):
        if event["stage"] != stage or event.get("campaign") != campaign:
            continue
        if event["event"] == "started":
            starts = starts + 1 if event.get("step") == step else 0
        elif event["event"] == "interrupted":
            # It was asked to stop, and did not die.
            starts = max(0, starts - 1)
        elif event["event"] in ("committed", "failed"):
            starts = 0
    if starts >= MAX_STARTS:
        raise StageError(
            f"Stage '{stage}' began {starts} times at step {step} and its process died each time, "
            "most likely for lack of memory or time: give it more memory, a smaller table or "
            "batch, or a longer time limit; then repeat the command."
        )
    attempt = uuid.uuid4().hex[:12]
    seen = read_progress(folder)
    last_seen = None if seen is None else seen.written_at
    write_event(
        folder,
        "started",
        stage,
        attempt=attempt,
        campaign=campaign,
        step=step,
        last_seen=last_seen,
        **more,
    )
    return attempt


def read_progress(folder: Path) -> Progress | None:
    """The last progress of a run, or None when it has none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return Progress(**artifacts.read_json(folder / PROGRESS_FILE))
    return None


def write_failure(folder: Path, stage: str, error: Exception, attempt: str = "") -> None:
    """Note why a stage failed, for `synthfactory status`; a full disk may hold no such note."""
    failure = {
        "stage": stage,
        "kind": type(error).__name__,
        "message": str(error),
        "at": time.time(),
    }
    with suppress(OSError):
        write_event(folder, "failed", stage, attempt=attempt, why=str(error))
        artifacts.write_json(folder / FAILURE_FILE, failure)


def read_failure(folder: Path) -> Mapping[str, Any] | None:
    """Why the run failed last time, or None."""
    with suppress(FileNotFoundError, NotADirectoryError):
        failure: Mapping[str, Any] = artifacts.read_json(folder / FAILURE_FILE)
        return failure
    return None


def clear_failure(folder: Path) -> None:
    """Forget an earlier failure: the run is being tried again."""
    (folder / FAILURE_FILE).unlink(missing_ok=True)
