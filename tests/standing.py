"""Processes that stand still while a test arranges what happens to them.

A fit lasts seconds on one machine and a blink on another.  A signal, or the death of a node, that
is meant for the midst of it would meet its end there: so the process that makes a stage is stopped
(SIGSTOP) as soon as it is seen at work, and goes on once all is arranged.  To the rest of the
system it is a process of a busy machine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from waiting import eventually

from synthfactory import interruption
from synthfactory.generators.training import CHECKPOINT_S
from synthfactory.journal import CURVE_FILE, read_events

CHECKPOINT = "fit.checkpoint.safetensors"


def maker_of(run: Path, stage: str) -> psutil.Process:
    """The process that began a stage last."""
    *_, pid = [
        event["pid"]
        for event in read_events(run)
        if (event["event"], event["stage"]) == ("started", stage)
    ]
    return psutil.Process(pid)


@contextlib.contextmanager
def standing_still(process: psutil.Process) -> Iterator[None]:
    """The process does nothing while the block runs."""
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def stopped_fit(runs: Path) -> psutil.Process:
    """The process of the only fit, stopped after its first report of losses."""
    (curve, *_) = eventually("losses of a fit", lambda: list(runs.glob(f"*/{CURVE_FILE}")))
    process = maker_of(curve.parent, "fit")
    process.suspend()
    return process


def stopped_at_checkpoint(runs: Path) -> psutil.Process:
    """The process of the only fit, stopped after its first checkpoint, however fast it is.

    A checkpoint is due after some seconds on the clock, which goes on while the process is stopped.
    """
    process = stopped_fit(runs)
    time.sleep(CHECKPOINT_S[0])
    process.resume()
    eventually("a checkpoint", lambda: list(runs.glob(f"*/{CHECKPOINT}")))
    process.suspend()
    return process


def resume_when_asked_to_stop(process: psutil.Process) -> None:
    """Let a stopped worker go on once its campaign asks it to stop: it sees that at once."""
    stop_file = Path(process.environ()[interruption.STOP_FILE_VARIABLE])
    eventually(f"the file {stop_file.name}", stop_file.exists)
    # It looks once a second.
    time.sleep(interruption.LOOK_EVERY_S)
    process.resume()
