"""What folders of runs tell: a row per run, and how long the like took."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import synthfactory as sf
from synthfactory import artifacts, history
from synthfactory.cli import compose, main
from synthfactory.cli.console import Foresight, SparseLines, live_table
from synthfactory.errors import OrderError
from synthfactory.factory import perform
from synthfactory.journal import STAGES, Progress, write_failure
from synthfactory.run import Run


@pytest.fixture
def runs(certified_run: Path, tmp_path: Path) -> Path:
    """A run that was really made, and a copy of it that failed before it was evaluated."""
    folder = tmp_path / "runs"
    shutil.copytree(certified_run, folder / certified_run.name)
    other = folder / certified_run.name.replace("-s0-", "-s7-")
    shutil.copytree(certified_run, other)
    document = artifacts.read_json(other / "order.json")
    document["order"]["seed"] = 7
    artifacts.write_json(other / "order.json", document)
    for stage in ("evaluate", "decide", "release"):
        shutil.rmtree(other / stage)
    write_failure(other, "evaluate", RuntimeError("the power went"))
    return folder


def test_a_row_per_run_with_every_finding_and_its_bounds(runs: Path) -> None:
    frame = sf.runs(runs).to_frame().set_index("seed")
    assert list(frame["state"]) == ["certified", "failed"]
    assert list(frame["generator"]) == ["tvae", "tvae"]
    assert list(frame["dataset"]) == ["people", "people"]
    first = next(iter(sf.runs(runs)))
    findings = artifacts.read_json(first.folder / "evaluate" / "findings.json")
    assert len(findings["measurements"]) > 5
    for item in findings["measurements"]:
        assert frame.loc[0, item["id"]] == item["estimate"]
        assert frame.loc[0, f"{item['id']}.lcb"] == item["lcb"]
        assert frame.loc[0, f"{item['id']}.ucb"] == item["ucb"]
        assert pd.isna(frame.loc[7, item["id"]])


def test_costs_are_those_of_resources_json(runs: Path) -> None:
    (record,) = [record for record in sf.runs(runs) if record.state == "certified"]
    told = artifacts.read_json(record.folder / "resources.json")
    assert record.costs["total"] == told["total"]
    row = record.row()
    assert row["wall_s"] == told["total"]["wall_s"]
    (other,) = [record for record in sf.runs(runs) if record.state == "failed"]
    assert 0 < other.row()["wall_s"] < row["wall_s"]


def test_runs_are_found_by_name_place_and_slice(runs: Path) -> None:
    found = sf.runs(runs)
    assert len(found) == 2
    assert found[found[1].name].folder == found[1].folder
    assert len(found[:1]) == 1
    with pytest.raises(KeyError, match="did you mean"):
        found[found[0].name[:-1]]
    assert sf.runs(found[0].folder)[0].name == found[0].name


def test_reprs_say_why(runs: Path) -> None:
    found = sf.runs(runs)
    assert "the power went" in repr(found[1])
    assert "the power went" in found._repr_html_()
    assert found[0].name in repr(found)
    assert "privacy.exact_match" in found[0]._repr_html_()


def test_no_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="no folder"):
        sf.runs(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert len(sf.runs(tmp_path / "empty")) == 0
    assert list(sf.runs(tmp_path / "empty").to_frame()) == []


def test_names_with_brackets_and_dashes(tmp_path: Path) -> None:
    assert history.generator_name("a_b-sdv_ctgan-s12-0123456789ab", "a-b", 12) == "sdv_ctgan"


def expected(runs: Path, name: str, **changes: object) -> history.Expectation | None:
    document = artifacts.read_json(runs / name / "order.json")
    order = document["order"] | changes
    stem = name.rpartition("-s")[0]
    ahead = runs / f"{stem}-s{order['seed']}-000000000000"
    return history.expect(ahead, order, document["table"])


def test_time_is_the_median_of_runs_that_differ_in_their_seed(
    runs: Path, certified_run: Path
) -> None:
    found = expected(runs, certified_run.name, seed=99)
    assert found is not None
    costs = {stage: artifacts.read_done(certified_run / stage)["wall_s"] for stage in STAGES}
    assert (found.n_runs, found.alike) == (2, True)
    assert found.seconds == costs
    assert found.left_s(STAGES) == pytest.approx(sum(costs.values()))
    assert found.left_s(STAGES[1:], "fit", 0.75) == pytest.approx(
        sum(costs.values()) - costs["split"] - 0.75 * costs["fit"]
    )


def test_other_settings_are_told_and_other_generators_do_not_count(
    runs: Path, certified_run: Path
) -> None:
    other = expected(runs, certified_run.name, seed=99, rows=17)
    assert other is not None
    assert not other.alike
    assert "other settings" in other.source
    document = artifacts.read_json(runs / certified_run.name / "order.json")
    ahead = runs / "people-ctgan-s0-000000000000"
    assert history.expect(ahead, document["order"], document["table"]) is None


def test_a_run_is_no_history_of_itself(certified_run: Path) -> None:
    document = artifacts.read_json(certified_run / "order.json")
    assert history.expect(certified_run, document["order"], document["table"]) is None


def words(people_csv: Path, runs: Path, seed: int) -> list[str]:
    return [
        f"dataset.path={people_csv}", f"paths.runs={runs}", "generator=independent",
        f"seed={seed}",
    ]  # fmt: skip


@pytest.fixture
def past(people_csv: Path, tmp_path: Path) -> tuple[Path, Run]:
    """Runs of which one has a past: its stages are committed, in times that are known."""
    runs = tmp_path / "past"
    settings = compose.one(words(people_csv, runs, 0), None)
    run = Run.open(settings.order, runs)
    perform("split", run)
    for seconds, stage in enumerate(STAGES[1:], start=10):
        artifacts.commit(
            run.folder / stage,
            lambda work: artifacts.write_json(work / "empty.json", {}),
            note=lambda seconds=seconds: {"wall_s": float(seconds)},
        )
    artifacts.write_json(run.folder / "decide" / "verdict.json", {"certified": True, "reasons": []})
    return runs, run


def test_plan_tells_how_long_only_from_the_past(
    past: tuple[Path, Run], people_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, run = past
    split_s = artifacts.read_done(run.folder / "split")["wall_s"]
    assert main(["plan", "--json", *words(people_csv, runs, 5)]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["left"]["seconds"] == pytest.approx(split_s + 10 + 11 + 12 + 13, abs=0.002)
    assert told["left"]["source"] == "1 past run of other seeds or policies"
    assert main(["plan", *words(people_csv, runs, 5)]) == 0
    assert "from 1 past run of other seeds or policies" in capsys.readouterr().out
    other = [word for word in words(people_csv, runs, 5) if "generator" not in word]
    assert main(["plan", *other, "generator=bootstrap"]) == 0
    out = capsys.readouterr().out
    assert "no past run here tells" in out
    times = [line for line in out.lower().splitlines() if "rare values" not in line]
    assert "about" not in " ".join(times).replace("about 0 s", "")


def test_the_live_view_tells_what_is_left_only_from_the_past(
    past: tuple[Path, Run], people_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from synthfactory.campaign import View

    runs, _ = past
    run = Run.open(compose.one(words(people_csv, runs, 5), None).order, runs)
    seen = Progress(stage="sample", fraction=0.5, detail="part 3")
    view = View(runs=(run,), progress={run.folder.name: seen})
    screen = Console(width=160, force_terminal=False)
    with screen.capture() as captured:
        screen.print(live_table(view, Foresight()))
    assert "sample 3/5" in captured.get()
    assert "about 30 s left (1 past run)" in captured.get()
    SparseLines(left=Foresight())(view)
    line = capsys.readouterr().err
    assert line.rstrip().endswith("sample 3/5 50% part 3 - about 30 s left (1 past run)")
    shutil.rmtree(next(iter(runs.glob("*-s0-*"))))
    SparseLines(left=Foresight())(view)
    assert "left" not in capsys.readouterr().err
