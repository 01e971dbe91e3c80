"""What the terminal shows: a live table for people, sparse lines for logs."""

from __future__ import annotations

import dataclasses
import functools
import getpass
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from synthfactory import history
from synthfactory.certification import IssuerKey, development_key, load_key
from synthfactory.journal import STAGES, Progress

if TYPE_CHECKING:
    from synthfactory.campaign import View, Watch
    from synthfactory.run import Outcome, Run

Seen = TypeVar("Seen")

MARKS = {
    "certified": ("✔", "green"),
    "refused": ("✘", "yellow"),
    "failed": ("✘", "red"),
    "interrupted": ("…", "cyan"),
}
_LINE_EVERY_S = 60.0
_STEP = 0.1


def console(*, stderr: bool = True) -> Console:
    """A console that honours NO_COLOR and whether somebody is looking."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def ask_passphrase() -> bytes:
    """Ask for the issuer key's passphrase."""
    return getpass.getpass("Passphrase of the issuer key: ").encode()


def read_key(path: Path | None, did: str | None = None) -> IssuerKey:
    """A private key, under the ``did:web`` where one is given; by default the development key."""
    key = development_key() if path is None else load_key(path, passphrase=ask_passphrase)
    return dataclasses.replace(key, web=did)


def watching(quiet: bool) -> AbstractContextManager[Watch]:
    """Show a campaign while it runs."""
    foresight = Foresight()
    return shown(
        quiet,
        functools.partial(live_table, left=foresight),
        SparseLines(left=foresight),
        rare_lines,
    )


def rare_lines(view: View) -> list[str]:
    """What is done about rare values of the tables that something is still to be made of."""
    told: dict[str, None] = {}
    for run in view.runs:
        if run.folder.name not in view.outcomes:
            told.update(dict.fromkeys(run.notes))
    return list(told)


class Foresight:
    """How long a run will still take, from past runs beside it and from nothing else."""

    def __init__(self) -> None:
        self._known: dict[str, history.Expectation | None] = {}

    def __call__(self, run: Run, seen: Progress) -> str:
        """Such as ``about 3 min left``; empty where no past run tells."""
        name = run.folder.name
        if name not in self._known:
            order = run.order.to_dict()
            self._known[name] = history.expect(run.folder, order, run.table_digest)
        found = self._known[name]
        if found is None or seen.stage not in STAGES:
            return ""
        ahead = STAGES[STAGES.index(seen.stage) :]
        left_s = found.left_s(ahead, seen.stage, seen.fraction)
        runs = "1 past run" if found.n_runs == 1 else f"{found.n_runs} past runs"
        other = "" if found.alike else ", other settings"
        return f"about {history.in_words(left_s)} left ({runs}{other})"


@contextmanager
def shown(
    quiet: bool,
    picture: Callable[[Seen], RenderableType],
    lines: Callable[[Seen], None],
    first: Callable[[Seen], list[str]] = lambda seen: [],
) -> Iterator[Callable[[Seen], None]]:
    """What is told while something runs: live on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    quiet
        Show nothing.
    picture
        What a terminal shows of what was told.
    lines
        Prints a line now and then.
    first
        What to say before all else, of what is told first.
    """
    screen = console()
    begun = False

    def begin(seen: Seen) -> None:
        nonlocal begun
        if not begun:
            begun = True
            for line in first(seen):
                screen.print(Text(line))

    if quiet:
        yield lambda seen: None
    elif screen.is_terminal and not screen.is_dumb_terminal and not os.environ.get("CI"):
        with Live(console=screen, refresh_per_second=4, transient=True) as live:

            def update(seen: Seen) -> None:
                begin(seen)
                live.update(picture(seen))

            yield update
    else:

        def tell_lines(seen: Seen) -> None:
            begin(seen)
            lines(seen)

        yield tell_lines


def live_table(view: View, left: Callable[[Run, Progress], str]) -> RichTable:
    """The campaign as a table: a row for each run, the unfinished first where there are many."""
    table = RichTable(box=None, padding=(0, 2, 0, 0), show_header=len(view.runs) > 1)
    for heading in ("run", "stage", "", "left", "detail"):
        table.add_column(heading, no_wrap=True)
    runs = {run.folder.name: run for run in view.runs}
    names = [run.folder.name for run in view.runs]
    names.sort(key=lambda name: (name in view.outcomes, name not in view.progress))
    for name in names[:30]:
        outcome = view.outcomes.get(name)
        if outcome is not None:
            mark, colour = MARKS[outcome.state]
            table.add_row(Text(name), Text(f"{mark} {outcome.state}", style=colour), "", "", "")
        elif name in view.progress:
            seen = view.progress[name]
            ahead = Text(left(runs[name], seen))
            detail = Text(seen.detail)
            table.add_row(Text(name), stage_label(seen), bar(seen.fraction), ahead, detail)
        else:
            table.add_row(Text(name), Text("waiting", style="dim"), "", "", "")
    if len(names) > 30:
        table.add_row(Text(f"... and {len(names) - 30} more", style="dim"), "", "", "", "")
    return table


def stage_label(progress: Progress) -> str:
    """The stage and its place in the way, such as ``fit 2/5``."""
    if progress.stage not in STAGES:
        return progress.stage
    return f"{progress.stage} {STAGES.index(progress.stage) + 1}/{len(STAGES)}"


def bar(fraction: float, width: int = 20) -> Text:
    """A bar that is full at 1."""
    full = round(fraction * width)
    return Text("━" * full, style="cyan") + Text("━" * (width - full), style="dim")


class SparseLines:
    """Prints a line when a stage begins, at every tenth of it, at least once a minute of change."""

    def __init__(self, left: Callable[[Run, Progress], str]) -> None:
        self._left = left
        self._began_s = time.monotonic()
        self._told: dict[str, tuple[str, float, float]] = {}
        self._ended: set[str] = set()

    def __call__(self, view: View) -> None:
        runs = {run.folder.name: run for run in view.runs}
        for name, seen in view.progress.items():
            stage, fraction, told_s = self._told.get(name, ("", 0.0, 0.0))
            now_s = time.monotonic()
            news = seen.stage != stage or seen.fraction >= fraction + _STEP
            if news or (now_s - told_s >= _LINE_EVERY_S and seen.fraction != fraction):
                self._told[name] = (seen.stage, seen.fraction, now_s)
                ahead = self._left(runs[name], seen)
                words = (f"{seen.fraction:.0%}", seen.detail, ahead and f"- {ahead}")
                self._say(f"{name}: {stage_label(seen)} {' '.join(filter(None, words))}")
        for name, outcome in view.outcomes.items():
            if name not in self._ended:
                self._ended.add(name)
                self._say(f"{name}: {outcome.state}")

    def _say(self, text: str) -> None:
        seconds = int(time.monotonic() - self._began_s)
        print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {text}", file=sys.stderr, flush=True)


def tell(outcomes: list[Outcome]) -> None:
    """The end of a campaign in words: what came out, why not, and what to type next."""
    screen = console()
    for outcome in outcomes:
        mark, colour = MARKS[outcome.state]
        line = Text(f"{mark} {outcome.state}  ", style=colour)
        screen.print(line + Text(outcome.run, style="bold"))
        for reason in outcome.reasons:
            screen.print(Text(f"    {reason}"))
        release, report = outcome.folder / "release", outcome.folder / "decide" / "report.html"
        if outcome.state == "certified":
            screen.print(Text(f"    data    {release / 'data'}"))
            screen.print(Text(f"    report  {release / 'report.html'}"))
            screen.print(Text(f"    check   synthfactory verify {release}"))
        elif outcome.state == "refused":
            screen.print(Text(f"    report  {report}"))
    if len(outcomes) > 1:
        counts = {state: sum(outcome.state == state for outcome in outcomes) for state in MARKS}
        screen.print(", ".join(f"{count} {state}" for state, count in counts.items()))
