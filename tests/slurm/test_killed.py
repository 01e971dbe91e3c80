"""Killed at any moment, for real: what is committed stays, the rest goes on to the same bytes."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import campaigns
import psutil
import pytest
from campaigns import (
    JOBS,
    events_of,
    no_debris,
    run_on,
    submit,
    synthfactory,
)
from devclusters import DevCluster, eventually
from stage_files import bytes_of
from standing import CHECKPOINT, resume_when_asked_to_stop, stopped_at_checkpoint

from synthfactory.generators import step_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
# What is left of a fit after its checkpoint takes longer than a process takes to hear a signal.
EPOCHS = 500


order = functools.partial(campaigns.order, epochs=EPOCHS)


@pytest.fixture(scope="module")
def undisturbed(
    people_csv: Path, tmp_path_factory: pytest.TempPathFactory, devcluster: DevCluster
) -> dict[str, str]:
    """The bytes of the order, made without a disturbance."""
    runs = tmp_path_factory.mktemp("undisturbed")
    run_on(devcluster, "run", *order(people_csv, runs))
    assert [event["step"] for event in events_of(runs, "fit", "started")] == [0]
    return bytes_of(runs)


@dataclass(frozen=True)
class Campaign:
    """The process of the command, and the one that fits: it stands still at its checkpoint."""

    client: subprocess.Popen[str]
    fit: psutil.Process

    def finish(self, timeout_s: float = 600) -> None:
        """The command ends well."""
        _, errors = self.client.communicate(timeout=timeout_s)
        assert self.client.returncode in (0, 3), errors[-4000:]


@pytest.fixture
def campaign(devcluster: DevCluster, people_csv: Path, tmp_path: Path) -> Iterator[Campaign]:
    """A campaign with jobs that come and go, in the midst of its fit."""
    devcluster.reset()
    process = subprocess.Popen(
        synthfactory("run", "cluster=slurm", *JOBS, *order(people_csv, tmp_path / "runs")),
        env=devcluster.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Campaign(process, stopped_at_checkpoint(tmp_path / "runs"))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def node_of_fit(devcluster: DevCluster, runs: Path) -> str:
    (started,) = events_of(runs, "fit", "started")
    return devcluster.job(started["job"])["NodeList"]


def assert_continued(runs: Path, expected: dict[str, str], restarts: int = 1) -> None:
    """The same bytes, from a checkpoint on, each stage committed once, nothing left over."""
    assert bytes_of(runs) == expected
    steps = [event["step"] for event in events_of(runs, "fit", "started")]
    assert len(steps) >= 1 + restarts
    assert steps == sorted(steps)
    assert steps[-1] > 0 or not restarts
    assert no_debris(runs)
    for stage in ("split", "fit", "sample", "evaluate", "decide"):
        committed = events_of(runs, stage, "committed")
        assert [event.get("second") for event in committed].count(None) == 1
        assert "different" not in [event.get("second") for event in committed]


def test_node_dies(
    campaign: Campaign,
    devcluster: DevCluster,
    tmp_path: Path,
    undisturbed: dict[str, str],
) -> None:
    devcluster.kill_node(node_of_fit(devcluster, tmp_path / "runs"))
    campaign.finish()
    assert_continued(tmp_path / "runs", undisturbed)


def test_node_is_lost_but_its_job_runs_on(
    campaign: Campaign,
    devcluster: DevCluster,
    tmp_path: Path,
    undisturbed: dict[str, str],
) -> None:
    node = node_of_fit(devcluster, tmp_path / "runs")
    devcluster.kill_node(node, zombie=True)
    eventually("the node down", lambda: "down" in devcluster.node_state(node), timeout_s=180)
    campaign.fit.resume()
    campaign.finish()
    # Dask still reaches the worker: it finishes, and nothing is made twice.
    assert_continued(tmp_path / "runs", undisturbed, restarts=0)


def test_worker_s_job_is_cancelled(
    campaign: Campaign,
    devcluster: DevCluster,
    tmp_path: Path,
    undisturbed: dict[str, str],
) -> None:
    (started,) = events_of(tmp_path / "runs", "fit", "started")
    # Slurm lets what is stopped go on to hear the signal.
    devcluster.run("scancel", started["job"])
    campaign.finish()
    assert_continued(tmp_path / "runs", undisturbed)


def test_client_is_killed_and_the_command_repeated(
    campaign: Campaign,
    devcluster: DevCluster,
    people_csv: Path,
    tmp_path: Path,
    undisturbed: dict[str, str],
) -> None:
    os.killpg(campaign.client.pid, signal.SIGKILL)
    campaign.client.wait()
    campaign.fit.resume()
    run_on(devcluster, "run", "cluster=slurm", *JOBS, *order(people_csv, tmp_path / "runs"))
    # The worker may end the fit before it notices that nobody waits for it.
    assert_continued(tmp_path / "runs", undisturbed, restarts=0)


def test_client_is_terminated_and_stops_where_it_can_go_on(
    campaign: Campaign,
    devcluster: DevCluster,
    tmp_path: Path,
    undisturbed: dict[str, str],
) -> None:
    runs = tmp_path / "runs"
    (checkpoint,) = runs.glob(f"*/{CHECKPOINT}")
    before = step_of(checkpoint)
    campaign.client.terminate()
    resume_when_asked_to_stop(campaign.fit)
    _, errors = campaign.client.communicate(timeout=300)
    assert campaign.client.returncode == 75, errors
    assert step_of(checkpoint) > before
    assert len(events_of(runs, "fit", "interrupted")) >= 1
    eventually("no job left", lambda: not devcluster.squeue(), timeout_s=180)
    outcomes = run_on(devcluster, "resume", str(runs))
    assert len(outcomes) == 1
    assert_continued(runs, undisturbed)


def test_time_limit_of_an_allocation(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    devcluster.reset()
    job = submit(
        devcluster, "site=devcluster", "cluster.partition=short", "cluster.walltime_min=1",
        "cluster.gpus_per_node=0",
        *order(people_csv, tmp_path / "runs", "generator.epochs=1000000"),
    )  # fmt: skip
    runs = tmp_path / "runs"
    eventually(
        "a fit that stopped in time",
        lambda: events_of(runs, "fit", "interrupted"),
        timeout_s=400,
    )
    (interrupted, *_) = events_of(runs, "fit", "interrupted")
    log = Path(interrupted["log"])
    eventually("a second life", lambda: len(events_of(runs, "fit", "started")) > 1, timeout_s=400)
    starts = events_of(runs, "fit", "started")
    # On a busy machine the first minute may end before the fit begins.
    assert int(starts[1]["restart"]) == int(starts[0]["restart"] or 0) + 1
    assert starts[0]["job"] == starts[1]["job"] == job
    said = int(re.search(r"goes on from step (\d+)", interrupted["why"])[1])  # type: ignore[index]
    assert starts[1]["step"] == said
    assert "interrupted" in log.read_text()
    devcluster.run("scancel", job)
    devcluster.wait(job, ENDED, timeout_s=180)


def test_preempted_allocation(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    devcluster.reset()
    runs = tmp_path / "runs"
    job = submit(
        devcluster, "site=devcluster", "cluster.partition=preempt", "cluster.gpus_per_node=1",
        *order(people_csv, runs),
    )  # fmt: skip
    stopped_at_checkpoint(runs)
    # Before it preempts the job, Slurm lets what is stopped go on to hear the signal.
    other = devcluster.sbatch("-N3", "--exclusive", "-p", "gpu", "-o", "/dev/null", body="sleep 5")
    devcluster.wait(other, "COMPLETED", timeout_s=300)
    devcluster.wait(job, ENDED, timeout_s=600)
    assert_continued(runs, undisturbed)
    assert {event["job"] for event in events_of(runs, "fit", "started")} == {job}


@pytest.mark.parametrize("rank", [0, 1], ids=["scheduler", "client"])
def test_served_rank_of_an_allocation_is_killed(
    devcluster: DevCluster,
    people_csv: Path,
    tmp_path: Path,
    undisturbed: dict[str, str],
    rank: int,
) -> None:
    devcluster.reset()
    runs = tmp_path / "runs"
    job = submit(devcluster, "site=devcluster", "cluster.gpus_per_node=1", *order(people_csv, runs))
    fit = stopped_at_checkpoint(runs)
    victims = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "synthfactory" in (process.info["cmdline"] or [])
        and process.info["cmdline"][0].endswith("python")
        and str(runs) in " ".join(process.info["cmdline"])
        and process.environ().get("SLURM_JOB_ID") == job
        and process.environ().get("SLURM_PROCID") == str(rank)
    ]
    assert victims
    for victim in victims:
        victim.kill()
    fit.resume()
    devcluster.wait(job, ENDED, timeout_s=600)
    # The fit may end before its worker notices: then it is committed, and nothing begins again.
    assert_continued(runs, undisturbed, restarts=0)
    assert {event["restart"] for event in events_of(runs, "decide", "committed")} == {"1"}


def test_memory_that_is_too_small_stops_the_order_with_its_reason(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path
) -> None:
    devcluster.reset()
    done = subprocess.run(
        synthfactory(
            "run", "cluster=slurm", *JOBS, *order(people_csv, tmp_path / "runs"),
            "cluster.gpu_job_memory_gb=0.3",
        ),
        env=devcluster.env, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-3000:]
    assert "memory" in done.stderr
