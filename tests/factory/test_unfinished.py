"""An evaluation that is killed goes on where it was: the same bytes, and no piece made twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from people import LENIENT, make_people
from stage_files import bytes_of
from waiting import eventually

import synthfactory as sf
from synthfactory import artifacts, campaign, factory, history, interruption
from synthfactory.certification import Policy, new_key
from synthfactory.errors import Interrupted, StageError
from synthfactory.evaluation import Evaluation, Standing
from synthfactory.journal import Reporter, read_events, read_progress
from synthfactory.order import Order
from synthfactory.run import Run
from synthfactory.shadowing import steps_of
from synthfactory.status import read_run_status
from synthfactory.tables import Dataset
from synthfactory.unfinished import Course, reached

QUICK = Evaluation(max_rows=500, repeats=20, attacks=100)


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    interruption.forget()
    yield
    interruption.forget()


def order(people_csv: Path, evaluation: Evaluation = QUICK) -> Order:
    return Order(
        dataset=Dataset(path=str(people_csv), target="outcome"),
        generator=sf.Independent(),
        evaluation=evaluation,
        threads=1,
    )


def prepared(people_csv: Path, runs: Path, evaluation: Evaluation = QUICK) -> Run:
    """A run whose rows are sampled."""
    run = Run.open(order(people_csv, evaluation), runs)
    factory.plan_together([run])
    for stage in ("split", "fit", "sample"):
        factory.perform(stage, run)
    return run


def interrupt(run: Run, n_pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin the evaluation, and ask it to stop when so many of its pieces are kept."""
    plain = Course.__call__

    def until(course: Course, standing: Standing) -> None:
        if standing.pieces == n_pieces:
            interruption.ask()
        plain(course, standing)

    with monkeypatch.context() as patched:
        patched.setattr(Course, "__call__", until)
        with pytest.raises(Interrupted, match="before"):
            factory.perform("evaluate", run, "campaign")
    interruption.forget()


def measured(run: Run) -> list[str]:
    return [event["piece"] for event in read_events(run.folder) if event["event"] == "measured"]


def events(run: Run, kind: str) -> list[dict[str, object]]:
    found = read_events(run.folder)
    return [event for event in found if (event["event"], event["stage"]) == (kind, "evaluate")]


def findings(run: Run) -> bytes:
    return (run.folder / "evaluate" / "findings.json").read_bytes()


@pytest.fixture(scope="module")
def whole(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An evaluation that nothing disturbed."""
    run = prepared(people_csv, tmp_path_factory.mktemp("whole"))
    factory.perform("evaluate", run)
    return run


def test_interrupted_evaluation_makes_what_is_missing_and_nothing_else(
    whole: Run, people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(people_csv, tmp_path)
    for n_pieces in (4, 20):
        interrupt(run, n_pieces, monkeypatch)
        assert len(measured(run)) == len(run.unfinished) == n_pieces
    factory.perform("evaluate", run)
    assert Counter(measured(run)) == Counter(measured(whole))
    assert max(Counter(measured(run)).values()) == 1
    assert findings(run) == findings(whole)
    assert not run.unfinished_evaluation.exists()
    assert [event["step"] for event in events(run, "started")] == [0, 4, 20]


def test_run_certified_after_an_interruption_releases_nothing_of_it(
    certified_run: Path, people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = artifacts.read_json(certified_run / "order.json")["order"]
    same = replace(
        order(people_csv, Evaluation(max_rows=1_000, repeats=20)),
        generator=sf.TVAE(epochs=10),
        policy=Policy.from_dict(LENIENT),
        rows_per_shard=1_000,
    )
    assert same.to_dict() == written
    run = Run.open(same, tmp_path)
    factory.plan_together([run])
    for stage in ("split", "fit", "sample"):
        factory.perform(stage, run)
    interrupt(run, 12, monkeypatch)
    # What a worker that was thought to be dead writes after the commit.
    late = next(iter(run.unfinished)).read_bytes()
    outcome = factory.produce(same, tmp_path, key=new_key(tmp_path / "issuer.pem"))
    assert outcome.state == "certified"
    artifacts.write_atomic(run.unfinished_evaluation / "late.piece", late)
    campaign._clear_away(run)
    names = {path.relative_to(run.folder) for path in run.folder.rglob("*")}
    expected = {path.relative_to(certified_run) for path in certified_run.rglob("*")}
    assert names == expected
    ours, theirs = bytes_of(tmp_path), bytes_of(certified_run.parent)
    assert ours == {name: theirs[name] for name in ours}


def test_damaged_piece_in_a_run_folder_is_made_again(
    whole: Run, people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(people_csv, tmp_path)
    interrupt(run, 9, monkeypatch)
    first, second, third = sorted(run.unfinished)[:3]
    first.write_bytes(first.read_bytes()[:-3])
    second.write_bytes(third.read_bytes())
    factory.perform("evaluate", run)
    assert len(events(run, "discarded")) == 2
    assert sorted(Counter(measured(run)).values())[-3:] == [1, 2, 2]
    assert findings(run) == findings(whole)


def test_other_settings_use_nothing(
    people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(people_csv, tmp_path)
    interrupt(run, 9, monkeypatch)
    other = prepared(people_csv, tmp_path, replace(QUICK, repeats=21))
    shutil.copytree(run.unfinished_evaluation, other.unfinished_evaluation)
    factory.perform("evaluate", other)
    assert len(set(measured(other))) == len(measured(other)) > 40
    assert not events(other, "discarded"), "files of another name are not even opened"


def test_evaluation_that_dies_without_getting_further_is_given_up(
    people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(people_csv, tmp_path)
    for n_pieces in (2, 5, 8, 11):
        interrupt(run, n_pieces, monkeypatch)
    for _ in range(3):
        # Each begins, and its process dies without a word.
        factory._begin(run, "evaluate", "campaign", reached(run, "evaluate"))
    with pytest.raises(StageError, match="began 3 times at step 11"):
        factory.perform("evaluate", run, "campaign")


def test_kept_pieces_are_progress_of_a_campaign(
    people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(people_csv, tmp_path)
    before = campaign._marks([run])
    interrupt(run, 3, monkeypatch)
    assert campaign._marks([run]) != before


def test_times_of_continued_stages_are_no_expectation(
    people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(people_csv, tmp_path)
    interrupt(run, 3, monkeypatch)
    for stage in ("evaluate", "decide"):
        factory.perform(stage, run)
    ahead = Run.open(replace(run.order, seed=1), tmp_path)
    told = history.expect(ahead.folder, ahead.order.to_dict(), ahead.table_digest)
    assert told is None
    document = run.folder / "events.jsonl"
    document.write_text(document.read_text().replace('"step": 3', '"step": 0'))
    told = history.expect(ahead.folder, ahead.order.to_dict(), ahead.table_digest)
    assert told is not None


def test_long_silence_is_no_death(tmp_path: Path) -> None:
    report = Reporter(tmp_path)
    report("evaluate", 0.5, "a long piece")

    def written() -> float:
        progress = read_progress(tmp_path)
        assert progress is not None
        assert (progress.detail, progress.fraction) == ("a long piece", 0.5)
        return progress.written_at

    first = written()
    with report.beating(every_s=0.05):
        eventually("a sign of life", lambda: written() > first)
    last = written()
    time.sleep(0.3)
    assert written() == last, "it beats no longer than the block lasts"


# Real processes.  So many epochs that a group of shadow models, in which tests stop, takes seconds.

DEEP = (
    "generator=tvae", "generator.epochs=300", "evaluation=deep", "evaluation.max_rows=500",
    "evaluation.repeats=20", "evaluation.attacks=100", "evaluation.targets=100", "threads=1",
    "device=cpu",
)  # fmt: skip


def command(people_csv: Path, runs: Path, n_workers: int = 1) -> list[str]:
    return [
        sys.executable, "-m", "synthfactory", "run", "--json", f"dataset.path={people_csv}",
        f"paths.runs={runs}", f"cluster.n_workers={n_workers}", *DEEP,
    ]  # fmt: skip


def started(people_csv: Path, runs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(people_csv, runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for(what: str, happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_evaluation_killed_terminated_and_killed_ends_with_the_same_bytes(tmp_path: Path) -> None:
    people_csv = tmp_path / "people.csv"
    make_people(1_500).to_csv(people_csv, index=False)
    done = subprocess.run(
        command(people_csv, tmp_path / "whole"), capture_output=True, text=True, timeout=600
    )
    assert done.returncode in (0, 3), done.stderr
    runs = tmp_path / "runs"
    pieces = lambda: len(list(runs.glob("*/evaluate.unfinished/*.piece")))  # noqa: E731
    checkpoints = lambda: list(runs.glob("*/evaluate.unfinished/*.safetensors"))  # noqa: E731

    def shown(words: str) -> bool:
        return any(
            words in read_run_status(path.parent).stage for path in runs.glob("*/order.json")
        )

    # Killed between two pieces, or within one.
    process = started(people_csv, runs)
    wait_for("ten pieces", lambda: pieces() >= 10, process)
    kill(process)
    at_first = pieces()

    # Asked to stop while shadow models train.
    process = started(people_csv, runs)
    wait_for("shadows that train", lambda: shown("shadows 1 to 4, step "), process)
    (run,) = runs.glob("*-*")
    status = read_run_status(run)
    assert status.state == "running"
    assert "pieces, 0 of 16 shadows: " in status.stage
    asked_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert time.monotonic() - asked_s < campaign.MAX_WAIT_S + 30
    assert process.returncode == 75, errors
    (outcome,) = json.loads(output)
    assert outcome["state"] == "interrupted"
    (reason,) = outcome["reasons"]
    within_group = "it goes on from step" in reason
    steps = steps_of(run / "evaluate.unfinished")
    if within_group:
        assert len(checkpoints()) == 1
        assert steps > 0
    else:
        # Asked to stop when a group of shadow models had just ended: its piece is kept instead.
        assert "asked to stop before privacy.shadows" in reason
        assert steps == 0
    at_second = pieces()
    assert at_second > at_first

    # Killed while the second group of shadows trains; the first one went on from its checkpoint.
    process = started(people_csv, runs)
    wait_for("the second group", lambda: shown("shadows 5 to 8, step "), process)
    assert " 4 of 16 shadows: " in read_run_status(run).stage
    kill(process)
    assert pieces() == at_second + within_group

    # Two workers share what is left.
    done = subprocess.run(
        command(people_csv, runs, n_workers=2), capture_output=True, text=True, timeout=600
    )
    assert done.returncode in (0, 3), done.stderr
    assert bytes_of(runs) == bytes_of(tmp_path / "whole")
    assert not (run / "evaluate.unfinished").exists()

    (undisturbed,) = (tmp_path / "whole").glob("*-*")
    made = [
        Counter(event["piece"] for event in read_events(folder) if event["event"] == "measured")
        for folder in (run, undisturbed)
    ]
    # A process that is killed after a piece is kept may not come to say so.
    assert max(made[0].values()) == 1
    assert set(made[0]) <= set(made[1])
    assert len(made[1]) - len(made[0]) <= 2
    begun = [
        event["step"]
        for event in read_events(run)
        if (event["event"], event["stage"]) == ("started", "evaluate")
    ]
    assert begun[0] == 0
    assert begun[1] == at_first
    assert begun[2] == at_second + steps
    assert begun[3] >= len(made[1]), "workers had made every piece before they were put together"
