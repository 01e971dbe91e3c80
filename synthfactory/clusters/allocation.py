"""One batch job that holds scheduler, client and workers: the way for most big machines."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthfactory.artifacts import write_atomic
from synthfactory.clusters.ranks import Rank, take_part
from synthfactory.clusters.sites import JobRequest, Site, allocation_request, lead_of
from synthfactory.errors import ClusterError, OrderError, expect_count
from synthfactory.journal import CAMPAIGNS
from synthfactory.workers import Connect

HEAR_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """One job of a batch system, started by ``srun`` with a rank for each process.

    `synthfactory submit` writes the job's script from these values; inside the job, they tell a
    rank what to do.

    Parameters
    ----------
    nodes
        Nodes of the job.
    gpus_per_node
        GPUs of each node; ``None`` for all that a node of the site has.
    cpu_workers
        Workers without a GPU on each node, for evaluation; the others can do it too.
    cpus_per_task
        Processor cores of each rank; ``None`` for an equal share of a node.
    memory_gb
        Memory of a node; ``None`` for what the site gives.
    worker_memory_gb
        Memory at which a worker is stopped and its task begun again; 0 for no limit.
    walltime_min
        Minutes of the job.  Work that is left goes on when the job is queued again.
    partition, qos, account
        As the site wants them; ``None`` for its defaults.
    models_per_gpu
        Fits that share a GPU.
    models_per_fit
        Orders that differ in their seed alone are trained together, so many in a step; ``None``
        for 16 on a GPU and one on a processor.
    extra_directives
        More options of ``sbatch``.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    nodes: int = 1
    gpus_per_node: int | None = None
    cpu_workers: int = 1
    cpus_per_task: int | None = None
    memory_gb: float | None = None
    worker_memory_gb: float = 0.0
    walltime_min: int = 60
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    models_per_gpu: int = 1
    models_per_fit: int | None = None
    extra_directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, minimum in (
            ("nodes", 1),
            ("gpus_per_node", 0),
            ("cpu_workers", 0),
            ("cpus_per_task", 1),
            ("walltime_min", 1),
            ("models_per_gpu", 1),
            ("models_per_fit", 1),
        ):
            expect_count(f"cluster.{name}", getattr(self, name), minimum)
        if not self.worker_memory_gb >= 0:
            raise OrderError(
                f"cluster.worker_memory_gb: expected 0 or more, got {self.worker_memory_gb!r}."
            )
        object.__setattr__(self, "extra_directives", tuple(self.extra_directives))

    def request(self, site: Site, log: str = "synthfactory-%j.log") -> JobRequest:
        """What the job asks of a site, checked against its rules.

        Parameters
        ----------
        log
            File of its output; ``%j`` is the job's number.

        Raises
        ------
        OrderError
            Naming the rule that it breaks.
        """
        return site.check(
            allocation_request(
                site,
                nodes=self.nodes,
                gpus_per_node=self.gpus_per_node,
                cpu_workers=self.cpu_workers,
                cpus_per_task=self.cpus_per_task,
                memory_gb=self.memory_gb,
                walltime_min=self.walltime_min,
                signal_lead_s=lead_of(self.walltime_min),
                partition=self.partition,
                qos=self.qos,
                account=self.account,
                log=log,
                extra_directives=self.extra_directives,
            )
        )

    @contextlib.contextmanager
    def session(self, site: Site, runs: Path) -> Iterator[Connect]:
        """Take this rank's part; only the client comes back, with what gives its workers.

        Parameters
        ----------
        site
            Where the job runs.
        runs
            The folder of all runs, which every node sees.

        Raises
        ------
        ClusterError
            Outside a job of SLURM, or when it has too few ranks.
        """
        rank = slurm_rank()
        folder = runs / CAMPAIGNS / os.environ["SLURM_JOB_ID"]
        # A job that is queued again must not meet the address of its former life.
        life = f"{os.environ.get('SLURM_RESTART_COUNT', '0')}.{os.environ['SLURM_STEP_ID']}"
        folder.mkdir(parents=True, exist_ok=True)
        with take_part(
            rank,
            _slurm_runner,
            models_per_gpu=self.models_per_gpu,
            memory_limit_gb=self.worker_memory_gb,
            site=site,
            exchange=SharedFile(folder / f"ranks.{life}.json"),
            options={"scheduler_file": str(folder / f"scheduler.{life}.json")},
        ) as connect:
            yield connect


def _slurm_runner() -> Any:
    from dask_jobqueue.slurm import SLURMRunner

    return SLURMRunner


@dataclass(frozen=True)
class SharedFile:
    """A file on a shared disk, readable by its owner alone; it holds the job's credentials."""

    path: Path

    def tell(self, text: str) -> None:
        """Write the file."""
        write_atomic(self.path, text.encode(), mode=0o600)

    def hear(self) -> str:
        """Wait for the file.

        Raises
        ------
        ClusterError
            When it does not come.
        """
        until_s = time.monotonic() + HEAR_TIMEOUT_S
        while time.monotonic() < until_s:
            with contextlib.suppress(FileNotFoundError):
                return self.path.read_text()
            time.sleep(0.2)
        raise ClusterError(
            f"The scheduler's rank did not write {self.path} within {HEAR_TIMEOUT_S:.0f} s: its "
            "own lines in the job's log say why. Every node must see the folder of runs "
            "(paths.runs)."
        )


def slurm_rank() -> Rank:
    """This process within its ``srun``.

    Raises
    ------
    ClusterError
        Outside of one.
    """
    try:
        number = {
            name: int(os.environ[f"SLURM_{variable}"])
            for name, variable in (
                ("rank", "PROCID"),
                ("size", "NTASKS"),
                ("local_rank", "LOCALID"),
                ("n_nodes", "JOB_NUM_NODES"),
                ("node", "NODEID"),
                ("step", "STEP_ID"),
            )
        }
    except (KeyError, ValueError) as error:
        raise ClusterError(
            "cluster=allocation runs inside a job, in every rank of its srun, but "
            f"{error.args[0]} is not set: use `sbatch slurm/allocation.sbatch ...` or "
            "`synthfactory submit ...`, or cluster=local on this machine."
        ) from error
    return Rank(
        rank=number["rank"],
        size=number["size"],
        local_rank=number["local_rank"],
        n_nodes=number["n_nodes"],
        first_node=number["node"] == 0,
    )
