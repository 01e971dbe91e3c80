"""What a command would do, and orders that are read back from the folders of their runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from synthfactory import artifacts
from synthfactory.campaign import View
from synthfactory.cli import compose, main, plans
from synthfactory.cli.console import rare_lines
from synthfactory.errors import OrderError
from synthfactory.factory import perform
from synthfactory.journal import write_failure
from synthfactory.run import Outcome, Run


def words(people_csv: Path, runs: Path, *more: str) -> list[str]:
    return [f"dataset.path={people_csv}", f"paths.runs={runs}", "generator=independent", *more]


def plan_of(people_csv: Path, runs: Path, *more: str) -> plans.Plan:
    (plan,) = plans.plan([compose.one(words(people_csv, runs, *more), None)])
    return plan


def test_plan_says_what_is_new_and_how_it_differs(people_csv: Path, tmp_path: Path) -> None:
    first = plan_of(people_csv, tmp_path)
    assert first.state == "new"
    assert first.missing == ("split", "fit", "sample", "evaluate", "decide")
    assert first.reasons == ("Nothing of this dataset and generator was made here yet.",)
    settings = compose.one(words(people_csv, tmp_path), None)
    run = Run.open(settings.order, settings.runs)
    perform("split", run)
    begun = plan_of(people_csv, tmp_path)
    assert (begun.state, begun.cached) == ("continue", ("split",))
    other = plan_of(people_csv, tmp_path, "seed=4", "rows=100")
    assert other.state == "new"
    assert other.reasons == (f"Unlike {run.folder.name}:", "rows: None -> 100", "seed: 0 -> 4")
    assert not (tmp_path / other.run).exists()


def test_plan_says_why_a_run_failed(people_csv: Path, tmp_path: Path) -> None:
    settings = compose.one(words(people_csv, tmp_path), None)
    run = Run.open(settings.order, settings.runs)
    perform("split", run)
    write_failure(run.folder, "fit", RuntimeError("no memory"))
    failed = plan_of(people_csv, tmp_path)
    assert (failed.state, failed.reasons) == ("continue", ("It failed in fit: no memory",))


def test_plan_notices_another_table(people_csv: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    shutil.copy(people_csv, table)
    runs = tmp_path / "runs"
    settings = compose.one(words(table, runs), None)
    perform("split", Run.open(settings.order, runs))
    table.write_text("\n".join(people_csv.read_text().splitlines()[:2000]) + "\n")
    assert "the table's content changed" in plan_of(table, runs).reasons


def test_plan_of_a_sweep_says_what_jobs_ask_for(
    people_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        [
            "plan", "--multirun", "--json", *words(people_csv, tmp_path, "seed=0,1"),
            "cluster=slurm", "site=lumi_g", "cluster.account=project_1", "cluster.max_gpu_jobs=3",
        ]
    )  # fmt: skip
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in told["runs"]] == ["new", "new"]
    assert told["jobs"][0].startswith("0 to 3 GPU jobs on LUMI-G: 1 node(s), 1 GPU(s)")


def test_orders_are_read_back_from_their_folders(people_csv: Path, tmp_path: Path) -> None:
    others = ("generator=ctgan", "policy=strict", "evaluation.attacks=6000", "seed=3")
    more = ("evaluation.max_rows=4000",)
    settings = compose.one(words(people_csv, tmp_path, *others, *more), None)
    run = Run.open(settings.order, tmp_path)
    run.record()
    (found,) = compose.unfinished(tmp_path, ["cluster.n_workers=1"], None)
    assert found.order == settings.order
    assert Run.open(found.order, tmp_path).folder == run.folder
    document = artifacts.read_json(run.folder / "order.json")
    document["order"]["generator"]["_target_"] = "os.system"
    with pytest.raises(OrderError, match="not trusted"):
        compose.order_of(document, ("synthfactory.",))


def test_resume_takes_nothing_that_changes_the_orders(people_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="would change the orders"):
        compose.unfinished(tmp_path, ["generator.epochs=3"], None)
    with pytest.raises(OrderError, match="no folder"):
        compose.unfinished(tmp_path / "none", [], None)


def test_submit_prints_the_script_without_submitting(
    people_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account = "cluster.account=project_1"
    code = main(
        ["submit", "--show", "site=lumi_g", account, *words(people_csv, tmp_path, "seed=0,1")]
    )
    assert code == 0
    script = capsys.readouterr().out
    assert "#SBATCH --account=project_1" in script
    assert "seed=0,1" in script
    assert not list(tmp_path.glob("*.sbatch"))


def test_submit_is_for_allocations(people_csv: Path, tmp_path: Path) -> None:
    assert main(["submit", "--show", "cluster=slurm", *words(people_csv, tmp_path)]) == 2


def test_submit_without_a_batch_system_says_so(
    people_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", *words(people_csv, tmp_path / "runs")]) == 1
    assert "There is no sbatch here" in capsys.readouterr().err


TOO_FEW = "needs 4,000 people on either side of the split (train and control); there are 1,800 and"


def test_plan_says_that_a_table_is_too_small_for_a_policy(
    people_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    plan = plan_of(people_csv, runs, "policy=sf2")
    assert (plan.state, plan.missing) == ("blocked", ())
    assert TOO_FEW in plan.reasons[0]
    assert plan.reasons[0].endswith("use a table of at least 10,003 people, or another policy.")
    assert plans.in_words([plan]) == ""
    assert main(["plan", "--multirun", *words(people_csv, runs, "policy=sf2,default")]) == 0
    told = capsys.readouterr().out
    assert "0 done, 0 continue, 1 new, 1 blocked" in told
    assert "4,000 people" in told
    assert main(["plan", *words(people_csv, runs)]) == 0
    assert "blocked" not in capsys.readouterr().out
    assert not list(runs.glob("people-*"))


def test_run_refuses_a_small_table_before_a_worker_is_asked_for(
    people_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    # Workers of so little memory could not be had.
    starved = ("cluster.n_workers=64", "cluster.memory_limit_gb=0.001")
    assert main(["run", "--json", *words(people_csv, runs, "policy=sf2", *starved)]) == 2
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["state"] == "failed"
    assert TOO_FEW in outcome["reasons"][0]
    assert not runs.exists(), "neither planned in the ledger nor begun"


def test_submit_refuses_a_small_table_before_a_job_is_asked_for(
    people_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\necho asked > {asked}\necho 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main(["submit", *words(people_csv, tmp_path / "runs", "policy=sf2")]) == 2
    assert TOO_FEW in " ".join(capsys.readouterr().err.split())
    assert not asked.exists()
    assert main(["submit", *words(people_csv, tmp_path / "runs")]) == 0
    assert asked.exists()


def test_plan_and_run_tell_what_is_made_common(people_csv: Path, tmp_path: Path) -> None:
    plan = plan_of(people_csv, tmp_path)
    assert plan.notes[0].endswith("cells of 2 columns were made common (dataset.min_people=10)")
    assert plan.to_dict()["notes"] == list(plan.notes)
    (kept,) = plan_of(people_csv, tmp_path, "dataset.min_people=0").notes
    assert "rare values were kept" in kept
    settings = compose.one(words(people_csv, tmp_path), None)
    run = Run.open(settings.order, settings.runs)
    twin = Run.open(dataclasses.replace(settings.order, seed=1), settings.runs)
    assert rare_lines(View(runs=(run, twin))) == list(plan.notes)
    ended = Outcome(run=run.folder.name, folder=run.folder, state="refused")
    assert rare_lines(View(runs=(run,), outcomes={ended.run: ended})) == []
