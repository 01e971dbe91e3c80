"""What Slurm tells: read from its own forms, and from its tools where they are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synthfactory.accounting import batch, job_of, read_sacct
from synthfactory.accounting.batch import sacct_reading, wait_in

# `scontrol show job -o` of Slurm 22.05 with SLURM_TIME_FORMAT=%s: a job that was requeued, which
# begins to wait anew.
REQUEUED = (
    "JobId=1 JobName=job.sh UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=1 Nice=0 "
    "Account=(null) QOS=(null) JobState=RUNNING Reason=None Dependency=(null) Requeue=1 "
    "Restarts=1 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:00 TimeLimit=01:00:00 "
    "TimeMin=N/A SubmitTime=1795644694 EligibleTime=1795644815 AccrueTime=1795644815 "
    "StartTime=1795644815 EndTime=1795648415 Deadline=N/A"
)


def test_wait_of_a_job_is_from_its_submission_to_its_start() -> None:
    assert wait_in(REQUEUED) == 121.0


def test_times_in_another_form_are_not_guessed() -> None:
    assert wait_in("SubmitTime=2026-11-25T22:11:26 StartTime=2026-11-25T22:11:34") is None


@pytest.mark.parametrize(
    ("text", "joules", "why"),
    [
        ("7200000|3600|billing=64,cpu=64,energy=7200000,gres/gpu=4,mem=200G,node=1", 7.2e6, ""),
        # A job of several components has a line for each.
        ("100|10|cpu=1,node=1\n250|10|cpu=2,node=1\n", 350.0, ""),
        ("|3600|billing=64,cpu=64,node=1", 0.0, "does not count energy"),
        ("0|3600|billing=64,cpu=64,node=1", 0.0, "does not count energy"),
        ("", 0.0, "knows no such job"),
        ("7200000|3600", 0.0, "another form"),
    ],
)
def test_energy_of_a_job_is_read_or_unmeasured(text: str, joules: float, why: str) -> None:
    reading = sacct_reading(text)
    if why:
        assert reading["method"] == "unmeasured"
        assert why in reading["why"]
    else:
        assert reading["joules"] == joules
        assert reading["shared"] is True
        assert "whole nodes" in reading["coverage"]


def test_without_slurm_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_sacct("12") == {
        "method": "unmeasured",
        "of": "sacct",
        "why": "there is no sacct here",
    }
    assert job_of({"SLURM_JOB_ID": "11112", "SLURM_RESTART_COUNT": "2"}) == {
        "id": "11112",
        "restart": 2,
        "wait_s": None,
    }
    assert job_of({}) is None


def test_number_of_a_job_is_no_place_for_options() -> None:
    assert "expected the number of a job" in read_sacct("--help")["why"]


def test_tool_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "sacct"
    tool.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(batch, "TIMEOUT_S", 0.2)
    assert "did not answer" in read_sacct("12")["why"]


@pytest.mark.skipif(shutil.which("sacct") is None, reason="needs Slurm's sacct")
def test_real_sacct_without_accounting_is_unmeasured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "slurm.conf"
    settings.write_text(
        "ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nAuthType=auth/none\n"
        "CredType=cred/none\nAccountingStorageType=accounting_storage/none\n"
        "NodeName=n1 NodeHostname=localhost\nPartitionName=p Nodes=n1\n"
    )
    monkeypatch.setenv("SLURM_CONF", str(settings))
    reading = read_sacct("12")
    assert reading["method"] == "unmeasured"
    assert "accounting storage is disabled" in reading["why"]
