"""A real SLURM cluster of three nodes, driven from tests (see slurm/devcluster)."""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import waiting

SCRIPT = Path(__file__).resolve().parents[2] / "slurm" / "devcluster" / "devcluster"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "squeue")
INSTALL = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
NODES = ("n1", "n2", "n3")
GPUS_PER_NODE = 4
MAX_ASKED = 5


def missing_programs() -> list[str]:
    """The Slurm programs that this machine lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin:/usr/sbin:/sbin"])
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_ports(count: int) -> int:
    """The first of `count` adjacent TCP ports that nobody listens on, below the ephemeral ones."""
    for _ in range(200):
        first = random.SystemRandom().randrange(20_000, 32_000)
        if all(_is_free(first + offset) for offset in range(count)):
            return first
    raise RuntimeError(f"expected {count} adjacent free ports from 20000 to 32000, found none")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True


# Slurm is asked by a program of its own each time.
eventually = functools.partial(waiting.eventually, every_s=0.1)


@dataclass(frozen=True)
class DevCluster:
    """A handle on one devcluster.

    Parameters
    ----------
    folder
        Folder of its state, at most 60 characters long.
    port
        First of its four TCP ports.
    script
        The devcluster script.
    run_as
        User that starts it and submits the jobs; needs root, default the user of this process.
    """

    folder: Path
    port: int
    script: Path = SCRIPT
    run_as: str | None = None

    @property
    def env(self) -> dict[str, str]:
        """Environment of a client's process, as `devcluster env` prints it.

        What a surrounding job set for itself is left out.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM", "SBATCH_", "SRUN_", "SALLOC_", "DEVCLUSTER_"))
        }
        return kept | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "OMPI_MCA_btl": "self,tcp",
            "PMIX_MCA_gds": "hash",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "DEVCLUSTER_DIR": str(self.folder),
            "DEVCLUSTER_PORT": str(self.port),
        }

    def run(self, *command: str | Path, timeout_s: float = 180, stdin: str | None = None) -> str:
        """What a command prints that runs as this cluster's client; fails if the command does.

        A question that the controller of a busy machine does not answer in Slurm's five seconds is
        asked again.
        """
        words = [str(word) for word in command]
        if self.run_as is not None:
            words = ["runuser", "-u", self.run_as, "--", *words]
        is_question = command[0] in ("squeue", "sinfo") or "show" in command
        for _ in range(MAX_ASKED if is_question else 1):
            done = subprocess.run(
                words,
                env=self.env,
                input=stdin or "",
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
            if "timed out" not in done.stderr:
                break
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def expect_pmix(self) -> None:
        """Skip the test where Slurm cannot start ranks of MPI by itself."""
        tried = subprocess.run(
            ["srun", "--mpi=pmix", "true"],
            env=self.env, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        if "can not load PMIx library" in tried.stderr:
            pytest.skip("needs PMIx for Slurm; on Debian or Ubuntu: apt-get install libpmix-dev")

    def up(self) -> None:
        """Start what isn't running, wait for the three nodes; it never outlives this process."""
        self.run(self.script, "up", "--while", str(os.getpid()), timeout_s=300)

    def down(self) -> None:
        """End every daemon and job."""
        self.run(self.script, "down", timeout_s=300)

    def sbatch(self, *arguments: str | Path, body: str | None = None) -> str:
        """Submit a job and return its number.

        Parameters
        ----------
        arguments
            Of sbatch: options, and a script's path unless `body` is given.
        body
            Lines of a bash script, in place of a file.
        """
        script = None if body is None else f"#!/bin/bash\n{body}\n"
        return self.run("sbatch", "--parsable", *arguments, stdin=script).split(";")[0].strip()

    def squeue(self) -> dict[str, str]:
        """State of each job that waits or runs, by its number (tasks of an array one by one)."""
        lines = self.run("squeue", "--noheader", "--array", "-o", "%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def job(self, job_id: str) -> dict[str, str]:
        """The fields that `scontrol show job` prints, until an hour after the job's end."""
        line = self.run("scontrol", "--oneliner", "show", "job", job_id).splitlines()[0]
        return dict(re.findall(r"(\S+?)=(.*?)(?=\s+\S+?=|\s*$)", line))

    def wait(self, job_id: str, states: str | Collection[str], *, timeout_s: float) -> str:
        """The job's state, as soon as it is one of `states`; fails after `timeout_s`."""
        wanted = {states} if isinstance(states, str) else set(states)
        deadline = time.monotonic() + timeout_s
        while (job := self.job(job_id))["JobState"] not in wanted:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"expected job {job_id} {' or '.join(sorted(wanted))} within {timeout_s} s, "
                    f"however: {job}\n{self.log()}"
                )
            time.sleep(0.1)
        return job["JobState"]

    def node_state(self, name: str) -> str:
        """State of a node as sinfo shows it; a trailing star says that it doesn't answer."""
        return self.run("sinfo", "--noheader", "-N", "-p", "gpu", "-n", name, "-o", "%T").strip()

    def kill_node(self, name: str, *, zombie: bool = False) -> None:
        """The node dies with all its processes; as a zombie its jobs run on, unseen by Slurm."""
        self.run(self.script, "kill-node", name, *(["--zombie"] if zombie else []))

    def revive_node(self, name: str) -> None:
        """The node comes back; does nothing to one that never left."""
        self.run(self.script, "revive-node", name, timeout_s=120)

    def cancel_all(self) -> None:
        """Cancel every job and wait until the queue is empty."""
        if jobs := self.squeue():
            self.run("scancel", *jobs)
        eventually("an empty queue", lambda: not self.squeue(), timeout_s=120)

    def reset(self) -> None:
        """No jobs, three idle nodes; where that does not come about, a new cluster."""
        try:
            self._calm()
        except AssertionError:
            # A job whose controller was restarted may be seen as ending for minutes.
            self.down()
            self.up()
            self._calm()

    def _calm(self) -> None:
        for name in NODES:
            self.revive_node(name)
        self.cancel_all()
        for name in NODES:
            eventually(f"{name} idle", lambda n=name: self.node_state(n) == "idle", timeout_s=120)

    def log(self, n_lines: int = 15) -> str:
        """The last lines of the daemons' logs."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text().splitlines()[-n_lines:])
            for path in sorted((self.folder / "log").glob("slurm*.log"))
        )


@contextmanager
def temporary_cluster(*, run_as: str | None = None) -> Iterator[DevCluster]:
    """A cluster of its own in a new folder, on free ports; taken down at the end.

    Parameters
    ----------
    run_as
        User that starts it and submits the jobs; needs root, default the user of this process.
    """
    # A folder of pytest's own would be too long for a Unix socket in it.
    folder = Path(tempfile.mkdtemp(prefix="devcluster-"))
    script = SCRIPT
    if run_as is not None:
        # A checkout may lie where other users can't read.
        script = Path(shutil.copy(SCRIPT, folder))
        shutil.chown(folder, run_as)
    else:
        # Jobs of other users reach the configuration through it.
        folder.chmod(0o755)
    cluster = DevCluster(folder / "s", port=free_ports(4), script=script, run_as=run_as)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder)
