"""Completion, asked in real shells: bash with its own words, fish by itself, zsh on a terminal."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from synthfactory.cli import completion, main, parser
from synthfactory.paths import conf_dir

SHELLS = ("bash", "zsh", "fish")
ASK = """
source "$1"
COMP_LINE="$2"
COMP_POINT=${#COMP_LINE}
_synthfactory
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    made = {shell: folder / f"completion.{shell}" for shell in SHELLS}
    for shell, path in made.items():
        path.write_text(completion.script(shell, parser()))
    return made


def in_bash(script: Path, line: str) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "ask", str(script), line],
        capture_output=True,
        text=True,
        check=True,
    )
    return [word for word in done.stdout.splitlines() if word]


def in_fish(script: Path, line: str) -> list[str]:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [word.partition("\t")[0] for word in done.stdout.splitlines()]


CASES = [
    ("synthfactory ru", ["run"]),
    ("synthfactory re", ["renew", "resume", "revoke"]),
    ("synthfactory run --mu", ["--multirun"]),
    ("synthfactory keys ", ["new", "show"]),
    ("synthfactory keys new --pa", ["--passphrase"]),
    ("synthfactory policy ex", ["explain"]),
    ("synthfactory completion ", ["bash", "fish", "zsh"]),
    ("synthfactory attest runs/a --role e", ["evaluator"]),
    ("synthfactory run generator.ep", ["generator.epochs="]),
    ("synthfactory submit -m site.billing.u", ["site.billing.unit="]),
    ("synthfactory status gen", []),
]


@pytest.mark.parametrize(("line", "expected"), CASES, ids=[line for line, _ in CASES])
def test_words_in_bash(scripts: dict[str, Path], line: str, expected: list[str]) -> None:
    assert sorted(in_bash(scripts["bash"], line)) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(("line", "expected"), CASES[:-1], ids=[line for line, _ in CASES[:-1]])
def test_words_in_fish(scripts: dict[str, Path], line: str, expected: list[str]) -> None:
    assert sorted(in_fish(scripts["fish"], line)) == expected


def test_bash_breaks_words_at_equals_signs(scripts: dict[str, Path]) -> None:
    assert in_bash(scripts["bash"], "synthfactory run generator=tv") == ["tvae"]
    assert in_bash(scripts["bash"], "synthfactory run generator=ctgan,tv") == ["ctgan,tvae"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_values_after_a_comma(scripts: dict[str, Path]) -> None:
    line = "synthfactory run generator=ctgan,tv"
    assert in_fish(scripts["fish"], line) == ["generator=ctgan,tvae"]


@pytest.mark.parametrize("group", ["dataset", "generator", "policy", "site", "cluster"])
def test_every_option_of_a_group_is_known(scripts: dict[str, Path], group: str) -> None:
    options = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    assert sorted(in_bash(scripts["bash"], f"synthfactory run {group}=")) == options


def test_every_field_of_a_generator_is_known(scripts: dict[str, Path]) -> None:
    names = {
        f"generator.{name}="
        for path in (conf_dir() / "generator").glob("*.yaml")
        for name in yaml.safe_load(path.read_text())
        if name != "_target_"
    }
    assert set(in_bash(scripts["bash"], "synthfactory run generator.")) == names


def test_every_verb_and_long_option_is_known(scripts: dict[str, Path]) -> None:
    (verbs,) = [
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    assert set(in_bash(scripts["bash"], "synthfactory ")) == set(verbs.choices)
    for name, grammar in verbs.choices.items():
        options = {word for action in grammar._actions for word in action.option_strings}
        assert set(in_bash(scripts["bash"], f"synthfactory {name} -")) == options


def test_a_script_starts_no_program(scripts: dict[str, Path]) -> None:
    for line in ("synthfactory ", "synthfactory run gen", "synthfactory run generator=ctgan,t"):
        done = subprocess.run(
            ["/bin/bash", "--norc", "-c", ASK, "ask", str(scripts["bash"]), line],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": "/nowhere"},
        )
        assert done.stdout.strip()
        assert not done.stderr


def test_the_bash_script_is_clean(scripts: dict[str, Path]) -> None:
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    if shellcheck is None:
        pytest.skip("needs shellcheck")
    subprocess.run([shellcheck, "--shell=bash", str(scripts["bash"])], check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_verb_prints_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == completion.script(shell, parser())


READY = "all is read"


def typed(command: list[str], source: str, keys: str, end: str) -> str:
    """What a terminal shows after ``keys``: until it ends as expected, and is silent after it.

    The keys come when the shell has read ``source``, however long it takes.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", PS1="> ")
        os.execvp(command[0], command)
    try:
        # What is typed shows as well, with its quotes.
        os.write(terminal, f"{source}; echo 'all is' read\n".encode())
        _shown_until(terminal, lambda shown: READY in shown)
        _silence(terminal)
        os.write(terminal, keys.encode())
        shown = _shown_until(terminal, lambda shown: shown.endswith(end))
        return re.sub(r"\x1b\[\?2004[hl]", "", shown + _silence(terminal))
    finally:
        os.write(terminal, b"\x15exit\n")
        os.close(terminal)
        os.waitpid(pid, 0)


def _shown_until(terminal: int, done: Callable[[str], bool], at_most_s: float = 120.0) -> str:
    shown, until = "", time.monotonic() + at_most_s
    while not done(shown) and time.monotonic() < until:
        shown = re.sub(r"\x1b\[\?2004[hl]", "", shown + _silence(terminal, 0.1, 0.2))
    return shown


def _silence(terminal: int, quiet_s: float = 1.0, at_most_s: float = 20.0) -> str:
    shown, end = b"", time.monotonic() + at_most_s
    while time.monotonic() < end and select.select([terminal], [], [], quiet_s)[0]:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:
            break
    return shown.decode(errors="replace")


@pytest.mark.slow
def test_tab_in_a_real_bash(scripts: dict[str, Path]) -> None:
    bash = ["bash", "--norc", "--noprofile", "-i"]
    source = f"source {scripts['bash']}"
    for line, end in (
        ("synthfactory run generator=ctgan,tv", "generator=ctgan,tvae "),
        ("synthfactory run seed=1 generator.ep", "generator.epochs="),
    ):
        assert typed(bash, source, f"{line}\t", end).endswith(end)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("synthfactory ru", "synthfactory run "),
        ("synthfactory run --mu", "--multirun "),
        ("synthfactory keys sh", "keys show "),
        ("synthfactory run generator=ctgan,tv", "generator=ctgan,tvae "),
        ("synthfactory run seed=1 generator.ep", "generator.epochs="),
    ],
)
def test_tab_in_a_real_zsh(scripts: dict[str, Path], line: str, end: str) -> None:
    source = f"autoload -U compinit && compinit -u -D; source {scripts['zsh']}"
    assert typed(["zsh", "-f", "-i"], source, f"{line}\t", end).endswith(end)
