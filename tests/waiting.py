"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def eventually(
    what: str, ask: Callable[[], Answer], *, timeout_s: float = 300.0, every_s: float = 0.02
) -> Answer:
    """The first true answer of `ask`.

    Raises
    ------
    AssertionError
        Naming ``what`` and the last answer, after ``timeout_s`` without one.
    """
    until = time.monotonic() + timeout_s
    while not (answer := ask()):
        if time.monotonic() > until:
            raise AssertionError(f"expected within {timeout_s:.0f} s: {what}; last: {answer!r}")
        time.sleep(every_s)
    return answer
