"""What a run leaves behind: no row of the confidential table, and all that a reader needs."""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from synthfactory import accounting
from synthfactory.artifacts import is_done, read_done, read_json
from synthfactory.errors import StageError, TableError
from synthfactory.evaluation import Evaluation
from synthfactory.factory import fit_together, perform, produce
from synthfactory.generators import TVAE, Independent
from synthfactory.journal import STAGES
from synthfactory.order import Order
from synthfactory.run import Run
from synthfactory.status import read_status
from synthfactory.tables import Dataset

QUICK = Evaluation(max_rows=500, repeats=20)


def test_no_file_of_a_run_holds_an_identifier_of_the_real_table(certified_run: Path) -> None:
    identifier = re.compile(rb"P\d{6}")
    for path in certified_run.rglob("*"):
        if path.is_file():
            assert not identifier.search(path.read_bytes()), path
            if path.suffix == ".parquet":
                drawn = pq.read_table(path).column("patient").to_pylist()
                assert all(name.startswith("syn-") for name in drawn)


def test_no_synthetic_row_repeats_a_real_one(certified_run: Path, people_csv: Path) -> None:
    real = pd.read_csv(people_csv).drop(columns="patient").astype(str)
    drawn = pd.concat(
        [pq.read_table(path).to_pandas() for path in certified_run.glob("release/data/*.parquet")]
    )
    drawn = drawn.drop(columns="patient").astype(str)
    both = drawn.merge(real, how="inner", on=list(real.columns))
    assert len(both) <= 0.01 * len(drawn)


def test_run_has_few_files(certified_run: Path) -> None:
    """Big machines count files: one to two million for all users of a project."""
    parts = len(list(certified_run.rglob("*.parquet")))
    others = [path for path in certified_run.rglob("*") if path.is_file()]
    assert len(others) - parts <= 40


def test_every_stage_lists_the_digests_of_its_files(certified_run: Path) -> None:
    for stage in STAGES:
        assert is_done(certified_run / stage)
        listed = read_done(certified_run / stage)
        assert listed["files"]
        assert listed["wall_s"] >= 0


def test_order_tells_what_was_made_and_report_tells_no_path(certified_run: Path) -> None:
    assert read_json(certified_run / "order.json")["order"]["generator"]["epochs"] == 10
    assert "people.csv" not in (certified_run / "decide" / "report.json").read_text()


def test_costs_are_told_in_the_release_and_in_no_stage(certified_run: Path) -> None:
    told = read_json(certified_run / "resources.json")
    assert tuple(stage["stage"] for stage in told["stages"]) == STAGES
    for stage in told["stages"]:
        done = read_done(certified_run / stage["stage"])
        assert stage["wall_s"] == done["wall_s"]
        assert done["cpu_allocated_s"] == pytest.approx(done["wall_s"] * done["cpus"], abs=0.01)
    assert told["total"]["cpu_used_h"] > 0
    assert told["energy"]
    release = certified_run / "release"
    assert (release / "resources.json").read_bytes() == (
        certified_run / "resources.json"
    ).read_bytes()
    page, draft = (release / "report.html").read_text(), certified_run / "decide" / "report.html"
    assert "CPU-hours used" in page
    assert "CPU-hours used" not in draft.read_text()
    assert platform.node() not in (release / "resources.json").read_text()


def test_models_trained_together_share_the_cost(people_csv: Path, tmp_path: Path) -> None:
    orders = [
        Order(
            dataset=Dataset(path=str(people_csv), target="outcome"),
            generator=TVAE(epochs=10),
            evaluation=QUICK,
            threads=1,
            device="cpu",
            seed=seed,
        )
        for seed in range(3)
    ]
    runs = [Run.open(order, tmp_path) for order in orders]
    with accounting.measured() as cost:
        fit_together(runs, 3)
        whole = cost()
    parts = [read_done(run.folder / "fit") for run in runs]
    assert [part["members"] for part in parts] == [3, 3, 3]
    for name in ("cpu_s", "cpu_allocated_s"):
        # Writing the models to the disk is not part of the shares.
        assert 0.6 * whole[name] < sum(part[name] for part in parts) <= whole[name]
    assert all(part["wall_s"] <= whole["wall_s"] for part in parts)


def order_for(path: Path) -> Order:
    return Order(
        dataset=Dataset(path=str(path), target="outcome"), generator=Independent(), evaluation=QUICK
    )


def test_table_that_changed_meanwhile_stops_the_run(people_csv: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    shutil.copy(people_csv, table)
    run = Run.open(order_for(table), tmp_path / "runs")
    perform("split", run)
    table.write_text(table.read_text().replace("north", "south", 1))
    with pytest.raises(TableError, match="changed since this run began"):
        perform("fit", run)
    (state,) = read_status(tmp_path / "runs")
    assert state.state == "failed"
    assert "changed since" in state.reasons[0]
    assert Run.open(order_for(table), tmp_path / "runs").folder != run.folder


def test_accident_in_a_stage_is_a_failure_with_its_reason(
    people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Run) -> None:
        raise ZeroDivisionError("division by zero")

    run = Run.open(order_for(people_csv), tmp_path)
    monkeypatch.setattr(Run, "load_parts", broken)
    with pytest.raises(StageError, match=r"Stage 'fit' of people-independent.*ZeroDivisionError"):
        perform("fit", run)
    assert not (run.folder / "fit").exists()


def test_same_order_names_the_same_run_and_every_change_another(people_csv: Path) -> None:
    first = Run.open(order_for(people_csv), Path("runs"))
    assert Run.open(order_for(people_csv), Path("runs")).folder == first.folder
    other = Order(dataset=first.order.dataset, generator=Independent(), evaluation=QUICK, seed=1)
    assert Run.open(other, Path("runs")).folder != first.folder


def test_refused_run_has_a_report_and_no_release(people_csv: Path, tmp_path: Path) -> None:
    from synthfactory.certification import new_key

    outcome = produce(order_for(people_csv), tmp_path / "runs", key=new_key(tmp_path / "key.pem"))
    assert outcome.state == "refused"
    assert outcome.exit_code == 3
    assert any("fidelity.association" in reason for reason in outcome.reasons)
    assert (outcome.folder / "decide" / "report.html").is_file()
    assert not (outcome.folder / "release").exists()
    assert read_json(outcome.folder / "resources.json")["total"]["wall_s"] > 0


def test_fit_tells_what_it_ran_on(certified_run: Path) -> None:
    told = read_json(certified_run / "fit" / "training.json")
    assert len(told["losses"]) > 1
    assert told["ensemble"] == 1
    engine = told["engine"]
    assert engine["device"] in ("cpu", "cuda")
    assert engine["threads"] == 1
    assert "float32" in engine["products"]
    left = {path.name for path in certified_run.iterdir()}
    assert not left & {"fit.checkpoint.safetensors", "fit.losses.jsonl"}


def test_a_run_tells_what_it_made_common(certified_run: Path) -> None:
    """Exactly to who answers for the table; rounded to everybody else."""
    changes = read_json(certified_run / "split" / "quality.json")["rare_values"]["changes"]
    assert {change["column"] for change in changes} == {"pressure", "visit"}
    assert {change["cells"] for change in changes} <= set(range(1, 10))
    released = read_json(certified_run / "release" / "report.json")["rareValues"]
    assert released["minPeople"] == 10
    assert {change["cells"] for change in released["changes"]} == {None}
    told = read_json(certified_run / "release" / "croissant.json")["description"]
    assert "Values that fewer than 10 people have were made common" in told
