"""The same orders on every kind of cluster: the same bytes."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import campaigns
import pytest
from campaigns import JOBS, SMALL, events_of, run_on, submit, synthfactory
from devclusters import DevCluster, eventually
from stage_files import bytes_of
from standing import standing_still, stopped_fit

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def sweep(people_csv: Path, runs: Path) -> list[str]:
    return [
        f"dataset.path={people_csv}", "generator=independent", "seed=0,1",
        "rows=500", f"paths.runs={runs}", *SMALL,
    ]  # fmt: skip


order = functools.partial(campaigns.order, epochs=4)


@pytest.fixture(scope="module")
def local(
    people_csv: Path, tmp_path_factory: pytest.TempPathFactory, devcluster: DevCluster
) -> dict[str, str]:
    """The bytes of the order, made on this machine."""
    runs = tmp_path_factory.mktemp("local")
    run_on(devcluster, "run", *order(people_csv, runs))
    made = bytes_of(runs)
    assert any(name.endswith("sample/manifest.json") for name in made)
    return made


def test_jobs_that_come_and_go(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path, local: dict[str, str]
) -> None:
    devcluster.reset()
    (outcome,) = run_on(
        devcluster, "run", "cluster=slurm", *JOBS, *order(people_csv, tmp_path / "runs")
    )
    assert outcome["state"] in ("certified", "refused")
    assert bytes_of(tmp_path / "runs") == local
    eventually("all jobs gone", lambda: not devcluster.squeue(), timeout_s=180)
    (fit,) = events_of(tmp_path / "runs", "fit", "started")
    (split,) = events_of(tmp_path / "runs", "split", "started")
    # A fit runs on a GPU job and the rest on a CPU job; each job has a log of its own.
    assert (fit["gpus"], split["gpus"]) == (1, 0)
    assert "synthfactory-gpu-" in fit["log"]
    assert "synthfactory-cpu-" in split["log"]
    assert Path(fit["log"]).exists()
    assert Path(split["log"]).exists()


def test_two_models_share_a_gpu(devcluster: DevCluster, people_csv: Path, tmp_path: Path) -> None:
    devcluster.reset()
    runs = tmp_path / "runs"
    words = (
        "run", "--multirun", "cluster=slurm", *JOBS, *order(people_csv, runs), "seed=0,1",
        "generator.epochs=150", "cluster.max_gpu_jobs=1", "cluster.models_per_gpu=2",
        "cluster.models_per_fit=1",
    )  # fmt: skip
    with ThreadPoolExecutor(1) as beside:
        campaign = beside.submit(run_on, devcluster, *words)
        # The second worker may be ready long after the first: until then the first fit waits.
        with standing_still(stopped_fit(runs)):
            eventually(
                "two fits at once",
                lambda: len(events_of(runs, "fit", "started")) == 2,
                timeout_s=300,
            )
        campaign.result()
    starts = events_of(runs, "fit", "started")
    ends = events_of(runs, "fit", "committed")
    assert len({event["job"] for event in starts}) == 1
    assert [event["gpus"] for event in starts] == [0.5, 0.5]
    assert max(event["at"] for event in starts) < min(event["at"] for event in ends)


def test_one_allocation_over_two_nodes(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path, local: dict[str, str]
) -> None:
    devcluster.reset()
    job = submit(
        devcluster, "site=devcluster", "cluster.nodes=2", "cluster.gpus_per_node=1",
        "cluster.cpu_workers=1", *order(people_csv, tmp_path / "runs"),
    )  # fmt: skip
    devcluster.wait(job, ENDED, timeout_s=600)
    log = (tmp_path / "runs" / ".campaigns" / f"job-{job}.log").read_text()
    assert devcluster.job(job)["ExitCode"] in ("0:0", "3:0"), log
    assert bytes_of(tmp_path / "runs") == local
    assert re.search(r"ssh -N -L \d+:127.0.0.1:\d+ ", log)
    (fit,) = events_of(tmp_path / "runs", "fit", "started")
    assert (fit["job"], fit["gpus"]) == (job, 1)
    listed = subprocess.run(
        synthfactory("logs", str(next((tmp_path / "runs").glob("*-*")))),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"committed fit (job {job} on " in listed.stdout
    assert "refused" in listed.stdout or "certified" in listed.stdout


@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_ranks_of_mpi(
    devcluster: DevCluster,
    people_csv: Path,
    tmp_path: Path,
    local: dict[str, str],
    launcher: str,
) -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("needs an MPI: apt-get install openmpi-bin, and pip install mpi4py")
    devcluster.reset()
    words = order(people_csv, tmp_path / "runs", "cluster=mpi")
    if launcher == "mpirun":
        run_on(devcluster, "run", *words, before=("mpirun", "--oversubscribe", "-n", "4"))
    else:
        devcluster.expect_pmix()
        script = f"srun --mpi=pmix {' '.join(synthfactory('run', *words))}"
        log = tmp_path / "log"
        job = devcluster.sbatch(
            "-N2",
            "--ntasks-per-node=2",
            "--mem=6000",
            "-o",
            log,
            f"--chdir={tmp_path}",
            body=script,
        )
        devcluster.wait(job, ENDED, timeout_s=600)
        assert devcluster.job(job)["ExitCode"] in ("0:0", "3:0"), log.read_text()
    assert bytes_of(tmp_path / "runs") == local


def test_sweep_in_the_repository_s_script(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path
) -> None:
    devcluster.reset()
    bin_folder = Path(synthfactory()[0]).parent
    environment = {**devcluster.env, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    script = Path(__file__).resolve().parents[2] / "slurm" / "allocation.sbatch"
    done = subprocess.run(
        [
            "sbatch", "--parsable", "--mem=6000", f"--chdir={tmp_path}", str(script),
            *sweep(people_csv, Path("runs")), "--json",
        ],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    job = done.stdout.strip()
    devcluster.wait(job, ENDED, timeout_s=600)
    log = (tmp_path / f"synthfactory-{job}.log").read_text()
    assert devcluster.job(job)["ExitCode"] == "3:0", log
    outcomes = json.loads(log[log.index("[\n  {") : log.rindex("]") + 1])
    assert len(outcomes) == 2


def test_worker_jobs_that_cannot_work_are_reported_and_not_submitted_for_ever(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path
) -> None:
    devcluster.reset()
    done = subprocess.run(
        synthfactory(
            "run", "cluster=slurm", *JOBS, *order(people_csv, tmp_path / "runs"),
            "+site.prologue=[exit 9]",
        ),
        env=devcluster.env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "ended before they worked" in done.stderr
    eventually("no job left", lambda: not devcluster.squeue(), timeout_s=180)


def test_submission_that_is_refused_is_reported_in_the_batch_system_s_words(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path
) -> None:
    words = order(people_csv, tmp_path / "runs", "cluster=slurm", "cluster.partition=nowhere")
    done = subprocess.run(
        synthfactory("run", *words), env=devcluster.env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1, done.stderr
    assert "The batch system took no job" in done.stderr
    assert "invalid partition" in done.stderr


def test_job_that_the_site_would_not_take_is_refused_before_it_is_submitted(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path
) -> None:
    words = order(people_csv, tmp_path / "runs", "site=devcluster", "cluster.walltime_min=90")
    for command in (["submit", *words], ["run", "cluster=slurm", *words]):
        done = subprocess.run(
            synthfactory(*command), env=devcluster.env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 2
        assert "allows 60 minutes, got 90" in done.stderr
    assert not (tmp_path / "runs").exists()
