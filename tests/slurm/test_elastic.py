"""Jobs of cluster=slurm share the work, and outlive a worker process that dies."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from devclusters import eventually

from synthfactory.journal import read_events

if TYPE_CHECKING:
    from devclusters import DevCluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

N_ORDERS = 10


def worker_of(cluster: DevCluster, job: str) -> psutil.Process | None:
    """The process of a job's only Dask worker, below its nanny."""
    wanted = {"SLURM_CONF": cluster.env["SLURM_CONF"], "SLURM_JOB_ID": job}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = wanted.items() <= process.environ().items()
            if ours and "spawn_main" in " ".join(process.cmdline()):
                return process
    return None


def jobs(runs: Path, event: str) -> Iterator[str]:
    """The job of each event of a kind, in no order."""
    for run in runs.glob("*-*"):
        yield from (str(line["job"]) for line in read_events(run) if line["event"] == event)


def test_jobs_share_the_work_and_one_goes_on_when_its_worker_is_killed(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path
) -> None:
    devcluster.reset()
    runs = tmp_path / "runs"
    campaign = subprocess.Popen(
        [
            sys.executable, "-m", "synthfactory", "run", "--multirun", "--json", "-q",
            "cluster=slurm", "site=devcluster", "cluster.max_gpu_jobs=0", "cluster.max_cpu_jobs=2",
            "cluster.cpu_job_cpus=2", "cluster.workers_per_cpu_job=1",
            "cluster.cpu_job_memory_gb=3", f"dataset.path={people_csv}", f"paths.runs={runs}",
            "generator=tvae", "generator.epochs=4", f"seed=range(0,{N_ORDERS})", "threads=1",
            "evaluation=quick", "evaluation.max_rows=500", "evaluation.repeats=20",
        ],
        env=devcluster.env,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        eventually("two jobs at work", lambda: len(set(jobs(runs, "started"))) == 2, timeout_s=300)
        victim = min(set(jobs(runs, "started")), key=int)
        worker = worker_of(devcluster, victim)
        assert worker is not None
        # It commits nothing between the count and its death.
        worker.suspend()
        before = list(jobs(runs, "committed")).count(victim)
        worker.kill()
        output, _ = campaign.communicate(timeout=900)
    finally:
        campaign.kill()
        campaign.wait()
    assert len(json.loads(output)) == N_ORDERS
    committed = list(jobs(runs, "committed"))
    assert committed.count(victim) > before
    assert len(set(committed)) == 2
    assert min(committed.count(job) for job in set(committed)) >= N_ORDERS // 2
