"""What the documents say can be done."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from synthfactory.cli import parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    fences = r"^```(\w*)\n(.*?)^```$"
    found = re.findall(fences, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_are_in_the_grammar(page: Path) -> None:
    for block in blocks(page, ""):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["synthfactory"]:
                parser().parse_known_args(words[1:])


@pytest.mark.slow
def test_python_in_the_readme_runs(
    people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(people_csv, tmp_path / "people.csv")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "README.md", "python")
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["synthetic"].n_rows == 1_000  # type: ignore[attr-defined]
    assert names["findings"].instrument_valid is not None  # type: ignore[attr-defined]


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
