"""What the documents say can be done."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import synthfactory as sf
from synthfactory.cli import EXIT_MEANINGS, parser
from synthfactory.generators.store import load_document

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


def script(name: str) -> ModuleType:
    """A script that makes a page, imported without running it."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_exit_codes_is_the_one_in_the_help() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_MEANINGS


def test_the_transcript_holds_all_three_ends_and_no_path_of_a_machine() -> None:
    page = (ROOT / "docs" / "transcript.md").read_text(encoding="utf-8")
    assert page.startswith(script("make_transcript").HEAD)
    for state in ("certified", "refused", "failed"):
        assert re.search(rf"[✔✘] {state}  people-", page), state
    assert re.search(r"^ok: all \d+ checks hold", page, re.MULTILINE)
    assert "did you mean 'status'" in page
    assert not re.search(r"/(tmp|home|root|work|usr)/", page)


def test_the_example_notebook_is_executed_and_is_its_script() -> None:
    notebook = json.loads((ROOT / "docs" / "example.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in code] == script("make_example").sources()
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert len(outputs) >= 8
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not re.search(r"/(tmp|home|root|work|usr)/", json.dumps(outputs))


@pytest.mark.slow
def test_the_cells_of_the_example_notebook_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    names: dict[str, object] = {}
    for number, source in enumerate(script("make_example").sources()):
        exec(compile(source, f"cell {number}", "exec"), names)
    runs = names["runs"]
    assert isinstance(runs, sf.Runs)
    assert [run.state for run in runs] == ["refused"]
    assert names["synthetic"].n_rows == 2_000  # type: ignore[attr-defined]


def test_the_generator_and_the_metric_of_the_page_on_extending_work(
    people_csv: Path, tmp_path: Path
) -> None:
    names: dict[str, object] = {"__name__": "extending"}
    for block in blocks(ROOT / "docs" / "extending.md", "python"):
        exec(compile(block, "extending.md", "exec", dont_inherit=True), names)
    train, control, test = sf.split(sf.read_table(people_csv), seed=0)
    model = names["Uniform"](cut=0.05).fit(train, seed=0)  # type: ignore[operator]
    rows = model.sample(500, seed=1)
    assert model.sample(500, seed=1).digest == rows.digest
    assert set(model.sample(20, seed=1, conditions={"outcome": "ill"}).to_pandas()["outcome"]) == {
        "ill"
    }
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", load_document(tmp_path / "model"))
    assert loaded.sample(500, seed=1).digest == rows.digest
    evidence = sf.Evaluation().gather(
        train=train, control=control, test=test, synthetic=rows, seed=3, threads=1
    )
    suite = names["SUITE"]
    found = suite.conclude(evidence, {"whole": suite.work(evidence, "whole")})  # type: ignore[attr-defined]
    (measured,) = found.measurements
    levels = ["region", "smoker", "outcome"]
    seen = set(map(tuple, rows.to_pandas()[levels].to_numpy()))
    people = test.to_pandas()[levels].to_numpy()
    assert measured.estimate == sum(tuple(person) in seen for person in people) / len(people)


def test_the_site_of_the_page_on_extending_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from synthfactory.cli import main

    (block,) = blocks(ROOT / "docs" / "extending.md", "yaml")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mymachine.yaml").write_text(block)
    words = ["--config-dir", str(tmp_path), "site=mymachine", "cluster.account=project_1"]
    assert main(["submit", "--show", *words]) == 0
    assert "#SBATCH --gres=gpu:4" in capsys.readouterr().out
    assert main(["plan", *words, "cluster=slurm", f"paths.runs={tmp_path / 'runs'}"]) == 0
    assert "on My machine" in capsys.readouterr().out


@pytest.mark.slow
def test_the_site_builds_offline_without_a_warning_and_asks_for_nothing_remote(
    tmp_path: Path,
) -> None:
    if (
        importlib.util.find_spec("mkdocs") is None
        or importlib.util.find_spec("mkdocstrings") is None
    ):
        pytest.skip("needs the extra docs (make docs)")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "http_proxy": "http://127.0.0.1:9", "LC_ALL": "C.UTF-8"},
    )
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {"quick-start.html", "extending.html", "transcript.html"} <= {
        page.name for page in pages
    }
    remote = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//")
    for page in pages:
        assert not remote.search(page.read_text(encoding="utf-8")), page.name
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    for name in ("read_table", "CTGAN", "evaluate", "decide", "runs", "certificate"):
        assert re.search(rf'id="synthfactory[\w.]*\.{name}"', reference), name
