"""The devcluster behaves like a batch machine: GPUs, queues, signals, preemption, faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from devclusters import (
    GPUS_PER_NODE,
    NODES,
    DevCluster,
    eventually,
    free_ports,
    temporary_cluster,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ONE_GPU = ("--gres=gpu:1", "--mem=500")


def lines_of(path: Path) -> list[str]:
    """The lines of a file that a job writes; none before it exists."""
    return path.read_text().splitlines() if path.exists() else []


@dataclass(frozen=True)
class LimitedJobs:
    """Two jobs of one minute that ask for a signal 25 s early: one ends then, one doesn't.

    Slurm looks twice a minute and sends it half a minute early: after the traps are set, however.
    """

    cluster: DevCluster
    stubborn: str
    yielding: str

    def output(self, job: str) -> list[str]:
        """What a job wrote."""
        return lines_of(self.cluster.folder / f"job-{job}")


@pytest.fixture(scope="module", autouse=True)
def limited_jobs(slurm_programs: None) -> Iterator[LimitedJobs]:
    """On a cluster of their own, and first of all: their minute passes beside the other tests.

    Under root that cluster belongs to a user without rights.
    """
    work = "for second in {1..900}; do sleep 1; done"
    stubborn = f"""trap 'echo warned' USR1
echo start
{work}"""
    yielding = f"""trap 'echo "warned $SECONDS"; scontrol requeue $SLURM_JOB_ID' USR1
echo "start ${{SLURM_RESTART_COUNT:-0}}"
[[ ${{SLURM_RESTART_COUNT:-0}} == 0 ]] || exit 0
{work}"""
    with temporary_cluster(run_as="nobody" if os.getuid() == 0 else None) as cluster:
        options = ("-p", "short", "-t", "1", "--signal=B:USR1@25", "--open-mode=append", *ONE_GPU)
        output = f"{cluster.folder}/job-%j"
        yield LimitedJobs(
            cluster,
            stubborn=cluster.sbatch(*options, "-o", output, body=stubborn),
            yielding=cluster.sbatch(*options, "-o", output, body=yielding),
        )


@pytest.fixture
def cluster(devcluster: DevCluster) -> DevCluster:
    """The session's cluster with no jobs and three idle nodes."""
    devcluster.reset()
    return devcluster


def test_thirteenth_gpu_job_waits_and_no_two_jobs_share_a_gpu(
    cluster: DevCluster, tmp_path: Path
) -> None:
    body = f'echo "$SLURMD_NODENAME $CUDA_VISIBLE_DEVICES" >> {tmp_path}/gpus; sleep 900'
    jobs = [cluster.sbatch(*ONE_GPU, "-o", "/dev/null", body=body) for _ in range(13)]
    for job in jobs[:12]:
        cluster.wait(job, "RUNNING", timeout_s=180)
    held = eventually(
        "twelve jobs with a GPU",
        lambda: lines if len(lines := lines_of(tmp_path / "gpus")) == 12 else [],
        timeout_s=180,
    )
    assert sorted(held) == [f"{node} {gpu}" for node in NODES for gpu in range(GPUS_PER_NODE)]
    eventually(
        "the thirteenth waits for resources",
        lambda: cluster.job(jobs[12])["Reason"] == "Resources",
        timeout_s=180,
    )
    assert cluster.job(jobs[12])["JobState"] == "PENDING"
    cluster.run("scancel", jobs[0])
    cluster.wait(jobs[12], "RUNNING", timeout_s=180)


@pytest.mark.parametrize(
    ("option", "seen"),
    [("--gpus-per-node=3", "0,1,2"), ("--gpus=2", "0,1"), ("--gres=gpu:4", "0,1,2,3")],
)
def test_gpus_are_asked_for_in_each_way(
    cluster: DevCluster, tmp_path: Path, option: str, seen: str
) -> None:
    output = tmp_path / "output"
    job = cluster.sbatch(option, "-N1", "-o", output, body="echo $CUDA_VISIBLE_DEVICES")
    cluster.wait(job, "COMPLETED", timeout_s=180)
    assert lines_of(output) == [seen]


def test_srun_inside_a_batch_job_reaches_all_nodes_and_their_gpus(
    cluster: DevCluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    job = cluster.sbatch(
        "-N3",
        "--ntasks-per-node=2",
        "--gpus-per-node=2",
        "-o",
        output,
        body="""srun bash -c '
echo $SLURM_PROCID $SLURM_LOCALID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'""",
    )
    cluster.wait(job, "COMPLETED", timeout_s=180)
    assert sorted(lines_of(output)) == [
        f"{rank} {rank % 2} {NODES[rank // 2]} 0,1" for rank in range(6)
    ]


@pytest.mark.parametrize("launcher", ["srun --mpi=pmix", "mpirun"])
def test_mpi_ranks_meet_across_nodes(cluster: DevCluster, tmp_path: Path, launcher: str) -> None:
    pytest.importorskip("mpi4py")
    if shutil.which("mpirun") is None:
        pytest.skip("needs an MPI; on Debian or Ubuntu: apt-get install openmpi-bin")
    if launcher != "mpirun":
        cluster.expect_pmix()
    script = tmp_path / "rank.py"
    script.write_text(
        """import os
from pathlib import Path
from mpi4py import MPI

world = MPI.COMM_WORLD
ranks = world.allgather(world.rank)
Path(f"rank{world.rank}").write_text(f"{os.environ['SLURMD_NODENAME']} {ranks}")
"""
    )
    job = cluster.sbatch(
        *("-N2", "--ntasks-per-node=2", "-D", tmp_path, "-o", tmp_path / "output"),
        body=f"{launcher} {sys.executable} {script}",
    )
    cluster.wait(job, "COMPLETED", timeout_s=180)
    nodes = ["n1", "n1", "n2", "n2"]
    assert [(tmp_path / f"rank{rank}").read_text() for rank in range(4)] == [
        f"{node} [0, 1, 2, 3]" for node in nodes
    ]


def test_a_step_overlaps_another_one_and_a_failed_task_ends_its_step(
    cluster: DevCluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    job = cluster.sbatch(
        "-N2",
        "-n2",
        "-o",
        output,
        body="""srun --overlap sleep 600 &
srun --overlap bash -c 'echo beside'
SECONDS=0
srun --overlap --kill-on-bad-exit=1 bash -c '[ $SLURM_PROCID = 0 ] && exit 3; sleep 600'
echo "status $? after $((SECONDS < 300 ? 1 : 600)) s"
scancel $SLURM_JOB_ID""",
    )
    cluster.wait(job, "CANCELLED", timeout_s=180)
    lines = lines_of(output)
    assert lines[:2] == ["beside", "beside"]
    end = next(line.split() for line in lines if line.startswith("status"))
    assert end[1] != "0"
    assert end[3] == "1"


def test_array_runs_each_index_once(cluster: DevCluster, tmp_path: Path) -> None:
    cluster.sbatch(
        "--array=0-4%2",
        *ONE_GPU,
        "-o",
        "/dev/null",
        body=f'echo "$SLURM_ARRAY_TASK_ID" >> {tmp_path}/indices',
    )
    eventually("an empty queue", lambda: not cluster.squeue(), timeout_s=180)
    assert sorted(lines_of(tmp_path / "indices")) == list("01234")


def test_preempted_job_is_warned_requeued_and_runs_again(
    cluster: DevCluster, tmp_path: Path
) -> None:
    body = f"""trap 'echo warned >> {tmp_path}/low' TERM
echo "start ${{SLURM_RESTART_COUNT:-0}}" >> {tmp_path}/low
for second in {{1..900}}; do sleep 1; done"""
    low = [
        cluster.sbatch("-p", "preempt", "--gres=gpu:4", "-o", "/dev/null", body=body) for _ in NODES
    ]
    eventually("three starts", lambda: lines_of(tmp_path / "low") == ["start 0"] * 3, timeout_s=180)
    high = cluster.sbatch("-p", "gpu", "--gres=gpu:4", "-o", "/dev/null", body="sleep 1")
    cluster.wait(high, "COMPLETED", timeout_s=180)
    eventually("a second start", lambda: "start 1" in lines_of(tmp_path / "low"), timeout_s=180)
    *first, again = lines_of(tmp_path / "low")
    # Slurm may say it once more before it kills.
    assert first[:4] == [*["start 0"] * 3, "warned"]
    assert (set(first[4:]) | {"warned"}, again) == ({"warned"}, "start 1")
    assert sum(int(cluster.job(job)["Restarts"]) for job in low) == 1


def test_job_above_its_memory_is_killed(cluster: DevCluster, tmp_path: Path) -> None:
    grow = "import time; held = bytearray(400 << 20); held[::4096] = held[::4096]; time.sleep(600)"
    job = cluster.sbatch(
        "--mem=100", "-o", tmp_path / "output", body=f'python3 -c "{grow}"\necho survived'
    )
    cluster.wait(job, {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}, timeout_s=180)
    assert "survived" not in lines_of(tmp_path / "output")
    assert "exceeded memory limit" in (tmp_path / "output").read_text()


# A job that writes, five times a second, how often it was restarted and where it runs.
WITNESS = """while true; do
echo "${{SLURM_RESTART_COUNT:-0}} $SLURMD_NODENAME" >> {}; sleep 0.2
done"""


def test_jobs_of_lost_nodes_run_again_elsewhere_beside_the_orphan_of_a_zombie(
    cluster: DevCluster, tmp_path: Path
) -> None:
    files = {"n1": tmp_path / "dead", "n2": tmp_path / "zombie"}
    jobs = {
        node: cluster.sbatch(
            *ONE_GPU, f"--exclude={other}", "-o", "/dev/null", body=WITNESS.format(files[node])
        )
        for node, other in (("n1", "n2"), ("n2", "n1"))
    }
    for node, path in files.items():
        eventually(f"a job on {node}", lambda p=path: lines_of(p), timeout_s=180)
        assert cluster.job(jobs[node])["NodeList"] == node

    cluster.kill_node("n1")
    at_death = len(lines_of(files["n1"]))
    cluster.kill_node("n2", zombie=True)
    at_loss = len(lines_of(files["n2"]))
    eventually("the orphan writes", lambda: len(lines_of(files["n2"])) > at_loss, timeout_s=180)
    # Slurm may have started the job of the dead node again by now.
    assert lines_of(files["n1"]).count("0 n1") == at_death

    for path in files.values():
        eventually("a second start on n3", lambda p=path: "1 n3" in lines_of(p), timeout_s=180)
    assert set(lines_of(files["n1"])[at_death:]) == {"1 n3"}
    assert cluster.node_state("n1") == "down*"
    both = lines_of(files["n2"])
    since = both[both.index("1 n3") :]
    eventually(
        "orphan and successor write side by side",
        lambda: {"0 n2", "1 n3"} <= set(lines_of(files["n2"])[-len(since) - 10 :]),
        timeout_s=60,
    )

    cluster.revive_node("n1")
    again = cluster.sbatch("-w", "n1", *ONE_GPU, "-o", "/dev/null", body="true")
    cluster.wait(again, "COMPLETED", timeout_s=180)


def status_of(cluster: DevCluster) -> int:
    """The exit status of `devcluster status`."""
    return subprocess.run(
        [cluster.script, "status"], env=cluster.env, capture_output=True, timeout=180
    ).returncode


def test_up_restarts_a_controller_and_the_job_has_gone_on(
    cluster: DevCluster, tmp_path: Path
) -> None:
    job = cluster.sbatch(*ONE_GPU, "-o", "/dev/null", body=WITNESS.format(tmp_path / "lines"))
    eventually("the job writes", lambda: lines_of(tmp_path / "lines"), timeout_s=180)
    cluster.run("kill", "-TERM", (cluster.folder / "slurmctld.pid").read_text().strip())
    eventually("status says so", lambda: status_of(cluster) == 1, timeout_s=180)
    cluster.up()
    assert status_of(cluster) == 0
    assert cluster.job(job)["JobState"] == "RUNNING"
    n_lines = len(lines_of(tmp_path / "lines"))
    eventually("more", lambda: len(lines_of(tmp_path / "lines")) > n_lines, timeout_s=60)
    assert set(lines_of(tmp_path / "lines")) == {"0 n1"}
    # The job may be seen as ending for minutes: whoever comes next gets a new cluster at once.
    cluster.down()
    cluster.up()


def left_running(path: Path) -> list[str]:
    """Command lines of processes that name a file, or one below a folder, or have it open."""
    mark = str(path).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
            if mark in (process / "environ").read_bytes() or any(
                file == str(path) or file.startswith(f"{path}/") for file in files
            ):
                found.append((process / "cmdline").read_text())
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a cluster."""
    folder = Path(tempfile.mkdtemp(prefix="devcluster-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("trouble", ["port", "folder"])
def test_taken_port_and_foreign_folder_are_refused(
    devcluster: DevCluster, short_folder: Path, trouble: str
) -> None:
    if trouble == "port":
        refused = replace(devcluster, folder=short_folder / "state")
        words = f"port {devcluster.port} is taken by another program"
    else:
        (short_folder / "precious").write_text("kept")
        refused = replace(devcluster, folder=short_folder, port=free_ports(4))
        words = f"the folder {short_folder} isn't empty"
    done = subprocess.run(
        [refused.script, "up"], env=refused.env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert left_running(refused.folder) == []
    assert trouble == "port" or (short_folder / "precious").read_text() == "kept"


def test_printed_environment_is_the_one_of_the_tests(devcluster: DevCluster) -> None:
    bare = devcluster.env
    for name in ("SLURM_CONF", "OMPI_MCA_btl", "PMIX_MCA_gds"):
        del bare[name]
    done = subprocess.run(
        ["bash", "-c", f'eval "$({devcluster.script} env)" && env'],
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("SLURM_CONF", "OMPI_MCA_btl", "PMIX_MCA_gds"):
        assert f"{name}={devcluster.env[name]}" in done.stdout.splitlines()


def test_daemon_that_cannot_start_is_quoted_and_nothing_is_left(short_folder: Path) -> None:
    path = short_folder / "bin"
    path.mkdir()
    (path / "uname").write_text("#!/bin/sh\necho another-machine\n")
    (path / "uname").chmod(0o755)
    cluster = DevCluster(short_folder / "state", port=free_ports(4))
    env = cluster.env | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [cluster.script, "up"], env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 1
    assert "slurmctld" in done.stderr
    assert "not a valid controller" in done.stderr
    assert left_running(cluster.folder) == []


def test_warned_job_requeues_itself_and_counts_its_restart(limited_jobs: LimitedJobs) -> None:
    job = limited_jobs.yielding
    limited_jobs.cluster.wait(job, "COMPLETED", timeout_s=180)
    lines = limited_jobs.output(job)
    assert lines[0] == "start 0"
    assert lines[-1] == "start 1"
    warned = next(line for line in lines if line.startswith("warned"))
    assert 0 < int(warned.split()[1]) < 60


def test_signal_comes_early_and_the_time_limit_ends_the_job(limited_jobs: LimitedJobs) -> None:
    job = limited_jobs.stubborn
    limited_jobs.cluster.wait(job, "TIMEOUT", timeout_s=180)
    lines = limited_jobs.output(job)
    assert lines[:2] == ["start", "warned"]
    assert any("TIME LIMIT" in line for line in lines)


def test_user_without_root_runs_jobs_on_each_node_and_takes_all_of_it_down(
    limited_jobs: LimitedJobs,
) -> None:
    cluster = limited_jobs.cluster
    output = cluster.folder / "output"
    job = cluster.sbatch(
        "-N3", *ONE_GPU, "-o", output, body="srun id -un; (setsid sleep 900 &) ; sleep 900"
    )
    user = cluster.run("id", "-un").strip()
    eventually("a user per node", lambda: lines_of(output) == [user] * 3, timeout_s=180)
    cluster.wait(job, "RUNNING", timeout_s=180)
    assert left_running(cluster.folder)
    cluster.down()
    assert left_running(cluster.folder) == []


def test_cluster_ends_with_the_process_that_it_was_started_for(short_folder: Path) -> None:
    cluster = DevCluster(short_folder / "state", port=free_ports(4))
    owner = subprocess.Popen(["sleep", "900"])
    try:
        cluster.run(cluster.script, "up", "--while", str(owner.pid))
        assert cluster.node_state("n1") == "idle"
        # It waits without a child, which a `down` at the wrong moment would leave behind.
        assert len(left_running(cluster.folder / "log/watcher.log")) == 1
    finally:
        owner.kill()
        owner.wait()
    eventually("nothing left", lambda: not left_running(cluster.folder), timeout_s=180)
