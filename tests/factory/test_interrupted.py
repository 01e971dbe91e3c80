"""What kills a run on one machine, caused for real: a process that dies, a full disk, a signal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from stage_files import bytes_of
from standing import resume_when_asked_to_stop, stopped_fit

from synthfactory.errors import StageError
from synthfactory.journal import begin_attempt, read_events, write_event
from synthfactory.status import read_status

pytestmark = pytest.mark.slow

SMALL = ("evaluation=quick", "evaluation.max_rows=500", "evaluation.repeats=20", "threads=1")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "synthfactory", "run", "--json", *SMALL, *words]


DEADLY = """
    import os, signal
    from dataclasses import dataclass
    from synthfactory.generators import TVAE

    @dataclass(frozen=True, kw_only=True)
    class Deadly(TVAE):
        def fit(self, *arguments, **more):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_fit_that_kills_its_process_is_given_up_with_its_reason(
    people_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "deadly.py").write_text(textwrap.dedent(DEADLY))
    folder = tmp_path / "conf" / "generator"
    folder.mkdir(parents=True)
    (folder / "deadly.yaml").write_text("_target_: deadly.Deadly\n")
    words = [
        f"dataset.path={people_csv}", "generator=deadly", f"paths.runs={tmp_path / 'runs'}",
        "trusted_targets=[synthfactory.,deadly.]", "--config-dir", str(tmp_path / "conf"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command(*words), env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1, done.stderr
    (outcome,) = json.loads(done.stdout)
    assert outcome["state"] == "failed"
    assert "began 3 times at step 0 and its process died each time" in outcome["reasons"][0]
    (run,) = (tmp_path / "runs").glob("*-*")
    started = [event for event in read_events(run) if event["event"] == "started"]
    assert [event["stage"] for event in started] == ["split", "fit", "fit", "fit"]
    (listed,) = read_status(tmp_path / "runs")
    assert listed.state == "failed"


def test_attempts_that_get_further_are_not_counted(tmp_path: Path) -> None:
    for step in (0, 0, 10, 10, 20, 20):
        begin_attempt(tmp_path, "fit", campaign="one", step=step)
    begin_attempt(tmp_path, "fit", campaign="one", step=20)
    with pytest.raises(StageError, match="began 3 times at step 20"):
        begin_attempt(tmp_path, "fit", campaign="one", step=20)
    # Another campaign tries afresh, and so does one that has finished.
    begin_attempt(tmp_path, "fit", campaign="two", step=20)
    write_event(tmp_path, "committed", "fit", campaign="one")
    begin_attempt(tmp_path, "fit", campaign="one", step=20)


def test_terminated_command_stops_where_it_can_go_on(people_csv: Path, tmp_path: Path) -> None:
    words = [f"dataset.path={people_csv}", "generator=tvae", "generator.epochs=400"]
    whole = subprocess.run(
        command(*words, f"paths.runs={tmp_path / 'whole'}"),
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert whole.returncode in (0, 3), whole.stderr
    runs = tmp_path / "runs"
    process = subprocess.Popen(
        command(*words, f"paths.runs={runs}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        fit = stopped_fit(runs)
        process.send_signal(signal.SIGTERM)
        resume_when_asked_to_stop(fit)
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 75, errors
    (outcome,) = json.loads(output)
    assert outcome["state"] == "interrupted"
    assert "it goes on from step" in outcome["reasons"][0]
    assert list(runs.glob("*/fit.checkpoint.safetensors"))
    done = subprocess.run(
        command(*words, f"paths.runs={runs}"), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == whole.returncode, done.stderr
    assert bytes_of(runs) == bytes_of(tmp_path / "whole")


FULL = """
    set -eu
    mount -t tmpfs -o size=200k tmpfs "$1"
    shift
    "$@" && exit 9
    code=$?
    mount -o remount,size=64m "$RUNS"
    find "$RUNS" -name '*.tmp' | grep . && exit 8
    [ "$code" = 2 ] || exit 7
    "$@"
"""


def test_full_disk_loses_nothing_and_the_same_command_goes_on(
    people_csv: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    unshare = shutil.which("unshare")
    probe = ["true"] if unshare is None else [unshare, "-rm", "mount", "-t", "tmpfs", "x", runs]
    if unshare is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own: unshare -rm")
    words = [f"dataset.path={people_csv}", "generator=tvae", "generator.epochs=3"]
    script = ["sh", "-c", textwrap.dedent(FULL), "full", str(runs)]
    done = subprocess.run(
        [unshare, "-rm", *script, *command(*words, f"paths.runs={runs}")],
        env={**os.environ, "RUNS": str(runs)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode in (0, 3), (done.returncode, done.stdout, done.stderr)
    assert "the disk is full" in done.stdout
