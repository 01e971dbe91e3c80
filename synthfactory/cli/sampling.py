"""The verb `sample`: more rows from a committed model, on any cluster, with progress."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from rich.text import Text

from synthfactory import interruption
from synthfactory.cli import compose
from synthfactory.cli.console import bar, shown
from synthfactory.clusters import Local
from synthfactory.errors import OrderError
from synthfactory.generation import Advance, Generated, Request, generate

_LINE_EVERY_S = 30.0


def sample_rows(arguments: argparse.Namespace) -> Generated:
    """Make what the parsed arguments ask for."""
    request = Request(
        run=arguments.run,
        n_rows=arguments.rows,
        seed=arguments.seed,
        conditions=dict(_condition(text) for text in arguments.where),
        shortfall=arguments.shortfall,
    )
    cluster, site = compose.place(arguments.settings, arguments.config_dir)
    workers = cluster.n_workers if isinstance(cluster, Local) else None
    alone = isinstance(cluster, Local) and (workers or len(os.sched_getaffinity(0))) == 1
    interruption.listen(*interruption.EARLY_SIGNALS, signal.SIGTERM)
    # Ranks that serve the client of their job do not come back from here.
    with (
        cluster.session(site, arguments.run.resolve().parent) as connect,
        shown(arguments.quiet, _picture, SparseLines()) as watch,
    ):
        return generate(
            request,
            default_folder(arguments),
            connect=None if alone else connect,
            threads=workers,
            watch=watch,
        )


def default_folder(arguments: argparse.Namespace) -> Path:
    """Where the rows go: ``-o``, or below the run."""
    name = f"{arguments.rows}-s{arguments.seed}"
    folder: Path = arguments.output or arguments.run / "samples" / name
    return folder


def in_words(advance: Advance) -> str:
    """How far a request is, as one line."""
    words = [
        f"{advance.parts_done:,}/{advance.n_parts:,} parts",
        f"{advance.rows_done:,} rows",
    ]
    if advance.rows_made:
        words.append(f"{advance.rows_per_s:,.0f} rows/s")
    if advance.left_s:
        words.append(f"{_duration(advance.left_s)} left")
    return ", ".join(words)


def _picture(advance: Advance) -> Text:
    return bar(_fraction(advance)) + Text(f"  {in_words(advance)}")


class SparseLines:
    """Prints a line at the beginning and the end, and twice a minute between them."""

    def __init__(self) -> None:
        self._told_s = -_LINE_EVERY_S

    def __call__(self, advance: Advance) -> None:
        now_s = time.monotonic()
        last = advance.parts_done == advance.n_parts
        if last or now_s - self._told_s >= _LINE_EVERY_S:
            self._told_s = now_s
            print(
                f"[{_duration(advance.seconds)}] {_fraction(advance):.0%}, {in_words(advance)}",
                file=sys.stderr,
                flush=True,
            )


def _fraction(advance: Advance) -> float:
    return advance.parts_done / advance.n_parts if advance.n_parts else 1.0


def _duration(seconds: float) -> str:
    whole = int(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _condition(text: str) -> tuple[str, str]:
    column, separator, value = text.partition("=")
    if not separator:
        raise OrderError(f"--where: expected COLUMN=VALUE, got '{text}'.")
    return column, value
