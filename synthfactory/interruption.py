"""Whether this process was asked to stop: by a signal, a deadline, or a file that appeared.

A batch job ends at a time that it knows, is preempted, or is told so by its early signal.  A signal
handler only sets a flag; a file reaches the processes of all nodes; and the deadline needs neither.
Long work asks `asked` now and then, writes down where it is, and raises `Interrupted`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from synthfactory.errors import OrderError

DEADLINE_VARIABLE = "SYNTHFACTORY_DEADLINE"
LEAD_VARIABLE = "SYNTHFACTORY_LEAD_S"
STOP_FILE_VARIABLE = "SYNTHFACTORY_STOP_FILE"
EARLY_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
LEAD_S = 60.0
LOOK_EVERY_S = 1.0

_flag = threading.Event()
_looked_s = -LOOK_EVERY_S


def ask() -> None:
    """Ask this process to stop."""
    _flag.set()


def forget() -> None:
    """Take the request back; a deadline or a file may ask again."""
    global _looked_s
    _flag.clear()
    _looked_s = -LOOK_EVERY_S


def spread() -> None:
    """Ask the processes that look at the same file, too."""
    stop_file = os.environ.get(STOP_FILE_VARIABLE)
    if stop_file:
        with contextlib.suppress(OSError):
            Path(stop_file).touch()


@contextlib.contextmanager
def stop_file(path: Path) -> Iterator[None]:
    """Let the processes that are started in the block look at a file; it is removed first."""
    before = os.environ.get(STOP_FILE_VARIABLE)
    path.unlink(missing_ok=True)
    os.environ[STOP_FILE_VARIABLE] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ[STOP_FILE_VARIABLE]
        else:
            os.environ[STOP_FILE_VARIABLE] = before


def listen(*signals: signal.Signals) -> None:
    """Let these signals ask; by default the early signals of batch systems.

    Does nothing outside the main thread, where Python allows no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(number: int, frame: FrameType | None) -> None:
        _flag.set()

    for number in signals or EARLY_SIGNALS:
        signal.signal(number, handle)


def asked() -> bool:
    """Whether to stop; cheap enough for every step of a fit."""
    global _looked_s
    if _flag.is_set():
        return True
    now_s = time.monotonic()
    if now_s - _looked_s < LOOK_EVERY_S:
        return False
    _looked_s = now_s
    left_s = seconds_left()
    stop_file = os.environ.get(STOP_FILE_VARIABLE)
    if (left_s is not None and left_s <= lead_s()) or (stop_file and Path(stop_file).exists()):
        _flag.set()
    return _flag.is_set()


def seconds_left() -> float | None:
    """Seconds until the batch job ends; None where no deadline is known.

    Raises
    ------
    OrderError
        When the variable is no number of seconds since 1970.
    """
    deadline_s = _number(DEADLINE_VARIABLE)
    return None if deadline_s is None else deadline_s - time.time()


def lead_s() -> float:
    """Seconds before the deadline at which work stops."""
    given_s = _number(LEAD_VARIABLE)
    return LEAD_S if given_s is None else given_s


def _number(variable: str) -> float | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise OrderError(f"{variable}: expected a number of seconds, got '{text}'.") from error
