"""What a terminal gets, and what a file, a pipe and NO_COLOR get, from the command itself."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

COLOUR = "\x1b[3"


@pytest.fixture
def runs(certified_run: Path) -> str:
    return str(certified_run.parent)


def on_terminal(words: list[str], **environment: str) -> str:
    """What a process writes to a terminal, standard output and errors together."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.pop("CI", None)
        os.environ.update(TERM="xterm-256color", **environment)
        os.execv(sys.executable, [sys.executable, "-m", "synthfactory", *words])
    shown = b""
    try:
        while block := os.read(terminal, 65_536):
            shown += block
    except OSError:
        # The other end is closed: the process has ended.
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode(errors="replace")


@pytest.mark.slow
def test_colours_are_for_terminals_without_no_color(runs: str) -> None:
    assert COLOUR in on_terminal(["status", runs])
    plain = on_terminal(["status", runs], NO_COLOR="1")
    assert "certified" in plain
    assert COLOUR not in plain


@pytest.mark.slow
def test_a_terminal_gets_a_live_table_and_ci_gets_lines(people_csv: Path, tmp_path: Path) -> None:
    def words(name: str) -> list[str]:
        order = "evaluation=quick generator=independent cluster.n_workers=1 threads=1"
        return [
            "run",
            f"dataset.path={people_csv}",
            f"paths.runs={tmp_path / name}",
            *order.split(),
        ]

    hides_cursor = "\x1b[?25l"
    live = on_terminal(words("terminal"))
    assert hides_cursor in live
    assert "people: rare values: " in live
    lines = on_terminal(words("ci"), CI="true")
    assert hides_cursor not in lines
    assert "people: rare values: " in lines
    line = r"\[ +\d+:\d\d\] people-independent-s0-"
    assert re.search(line, lines)
    quiet = on_terminal([*words("quiet"), "-q"])
    assert "rare values" not in quiet
    assert hides_cursor not in quiet
    assert not re.search(line, quiet)
    assert "refused" in quiet


def test_json_stands_alone_on_standard_output(runs: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthfactory", "status", runs, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("[")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
