"""The script of one allocation on a real SLURM: deadline, stop file, exit code, queueing again."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from devclusters import eventually

from synthfactory.clusters import JobRequest, Site, allocation_body, render

if TYPE_CHECKING:
    from devclusters import DevCluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
SUBMIT = Callable[..., str]


@pytest.fixture
def submit(devcluster: DevCluster, tmp_path: Path) -> SUBMIT:
    """Submits an allocation of three tasks whose program is a few lines of shell."""
    devcluster.reset()

    def submit(program: str, *options: str, **request: object) -> str:
        tool = tmp_path / "tool"
        tool.write_text(f"#!/bin/bash\ncd {tmp_path}\n{program}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        wanted = JobRequest(
            tasks_per_node=3,
            memory_gb=1,
            log=f"{tmp_path}/log-%j",
            **request,  # type: ignore[arg-type]
        )
        script = tmp_path / "job.sbatch"
        script.write_text(render(Site(), wanted, allocation_body(str(tool))))
        words = (*options, f"--chdir={tmp_path}", script, f"paths.runs={tmp_path}/all runs")
        return devcluster.sbatch(*words)

    return submit


# As scheduler and workers do: they end once the client is done.
AS_CLIENT = """\
if [ "$SLURM_PROCID" != 1 ]; then
    until [ -e "$SYNTHFACTORY_EXIT_FILE" ]; do sleep 0.1; done
    exec sleep 1
fi
"""


def await_client(folder: Path) -> None:
    """Wait until the client says that it works: the script's traps are set before it begins."""
    eventually("a client at work", (folder / "ready").exists, timeout_s=180)


def test_job_with_work_left_is_queued_again_until_it_is_done(
    devcluster: DevCluster, submit: SUBMIT, tmp_path: Path
) -> None:
    job = submit(
        AS_CLIENT + 'echo "$SYNTHFACTORY_DEADLINE $(date +%s) $SRUN_CPUS_PER_TASK $*" >>seen\n'
        '[ "${SLURM_RESTART_COUNT:-0}" = 2 ] || exit 75',
        cpus_per_task=1,
        walltime_min=7,
    )
    assert devcluster.wait(job, ENDED, timeout_s=240) == "COMPLETED"
    seen = (tmp_path / "seen").read_text().splitlines()
    assert len(seen) == 3
    for line in seen:
        deadline, now, cpus, words = line.split(maxsplit=3)
        assert 6 * 60 < int(deadline) - int(now) <= 7 * 60
        assert (cpus, words) == ("1", f"run cluster=allocation paths.runs={tmp_path}/all runs")
    control = tmp_path / "all runs" / ".campaigns" / job
    assert sorted(path.name for path in control.iterdir()) == ["exit.0", "exit.1", "exit.2"]


def test_early_signal_that_comes_too_early_leaves_it_to_the_deadline(
    devcluster: DevCluster, submit: SUBMIT, tmp_path: Path
) -> None:
    # Slurm itself sends none here: it might come before the script's first line.
    job = submit(
        AS_CLIENT + "echo ready >ready\nuntil [ -e go ]; do sleep 0.1; done; exit 0",
        walltime_min=3,
        signal_lead_s=None,
    )
    await_client(tmp_path)
    devcluster.run("scancel", "--batch", "--signal=USR1", job)
    time.sleep(4)  # longer than a signal takes
    (tmp_path / "go").touch()
    assert devcluster.wait(job, ENDED, timeout_s=180) == "COMPLETED"
    assert not (tmp_path / "all runs" / ".campaigns" / job / "stop.0").exists()


def test_preemption_becomes_the_stop_file_and_the_client_ends_in_its_own_time(
    devcluster: DevCluster, submit: SUBMIT, tmp_path: Path
) -> None:
    job = submit(
        AS_CLIENT
        + 'echo ready >ready\nuntil [ -e "$SYNTHFACTORY_STOP_FILE" ]; do sleep 0.2; done\n'
        "sleep 2; echo stopped >>seen; exit 0",
        walltime_min=10,
    )
    await_client(tmp_path)
    devcluster.run("scancel", "--batch", "--signal=USR1", job)
    assert devcluster.wait(job, ENDED, timeout_s=240) == "COMPLETED"
    assert (tmp_path / "seen").read_text() == "stopped\n"
    assert (tmp_path / "all runs" / ".campaigns" / job / "stop.0").exists()


@pytest.mark.parametrize("code", [0, 1, 3, 127])
def test_exit_code_of_the_client_is_the_job_s(
    devcluster: DevCluster, submit: SUBMIT, code: int
) -> None:
    job = submit(AS_CLIENT + f"exit {code}")
    devcluster.wait(job, ENDED, timeout_s=240)
    assert devcluster.job(job)["ExitCode"] == f"{code}:0"


def test_lost_worker_does_not_end_the_job(devcluster: DevCluster, submit: SUBMIT) -> None:
    job = submit('[ "$SLURM_PROCID" != 2 ] || exit 9\n' + AS_CLIENT + "sleep 3; exit 0")
    assert devcluster.wait(job, ENDED, timeout_s=240) == "COMPLETED"


def test_job_whose_client_is_killed_is_queued_again(
    devcluster: DevCluster, submit: SUBMIT, tmp_path: Path
) -> None:
    job = submit(
        AS_CLIENT + 'echo life >>seen\n[ "${SLURM_RESTART_COUNT:-0}" = 1 ] || kill -KILL $$'
    )
    assert devcluster.wait(job, ENDED, timeout_s=240) == "COMPLETED"
    assert (tmp_path / "seen").read_text() == "life\nlife\n"


def test_cancelled_job_is_not_queued_again(
    devcluster: DevCluster, submit: SUBMIT, tmp_path: Path
) -> None:
    job = submit(AS_CLIENT + "trap 'exit 75' TERM\necho ready >ready\nwhile :; do sleep 0.1; done")
    await_client(tmp_path)
    devcluster.run("scancel", job)
    devcluster.wait(job, "CANCELLED", timeout_s=240)
    time.sleep(8)  # longer than the scheduler takes to start what is queued again
    assert devcluster.job(job)["JobState"] == "CANCELLED"
    assert (tmp_path / "all runs" / ".campaigns" / job / "exit.0").read_text() == "75\n"


def test_task_of_an_array_is_queued_again_alone(
    devcluster: DevCluster, submit: SUBMIT, tmp_path: Path
) -> None:
    job = submit(
        AS_CLIENT + 'echo "$SLURM_ARRAY_TASK_ID ${SLURM_RESTART_COUNT:-0} '
        '$((SYNTHFACTORY_DEADLINE > $(date +%s)))" >>seen\n'
        '[ "$SLURM_ARRAY_TASK_ID${SLURM_RESTART_COUNT:-0}" != 10 ] || exit 75',
        "--array=0-1",
    )
    for task in ("0", "1"):
        assert devcluster.wait(f"{job}_{task}", ENDED, timeout_s=240) == "COMPLETED"
    assert sorted((tmp_path / "seen").read_text().splitlines()) == ["0 0 1", "1 0 1", "1 1 1"]
