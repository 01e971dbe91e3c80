"""Ranks of MPI: ``mpirun -n 4 synthfactory run cluster=mpi ...``, or ``srun --mpi=pmix``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthfactory.clusters.ranks import SCHEDULER, Rank, take_part
from synthfactory.clusters.sites import Site
from synthfactory.errors import ClusterError, expect_count
from synthfactory.workers import Connect


@dataclass(frozen=True, kw_only=True)
class MPI:
    """Every rank runs the same command: one is the scheduler, one the client, the others work.

    Parameters
    ----------
    worker_memory_gb
        Memory at which a worker is stopped and its task begun again; 0 for no limit.
    models_per_gpu
        Fits that share a GPU.
    models_per_fit
        Orders that differ in their seed alone are trained together, so many in a step; ``None``
        for 16 on a GPU and one on a processor.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    worker_memory_gb: float = 0.0
    models_per_gpu: int = 1
    models_per_fit: int | None = None

    def __post_init__(self) -> None:
        expect_count("cluster.models_per_gpu", self.models_per_gpu, 1)
        expect_count("cluster.models_per_fit", self.models_per_fit, 1)

    @contextlib.contextmanager
    def session(self, site: Site, runs: Path) -> Iterator[Connect]:
        """Take this rank's part; only the client comes back, with what gives its workers.

        Parameters
        ----------
        site
            Where the ranks run.
        runs
            The folder of all runs, which every node sees.

        Raises
        ------
        ClusterError
            Without mpi4py or an MPI library, or with too few ranks.
        """
        try:
            from mpi4py import MPI as mpi
        except (ImportError, RuntimeError) as error:
            raise ClusterError(
                f"cluster=mpi needs mpi4py and an MPI library ({error}): install "
                "synthfactory[mpi] and load the site's MPI, or use another cluster."
            ) from error
        world = mpi.COMM_WORLD
        node = world.Split_type(mpi.COMM_TYPE_SHARED, key=world.rank)
        firsts = world.allgather(node.bcast(world.rank, root=0))
        rank = Rank(
            rank=world.rank,
            size=world.size,
            local_rank=node.rank,
            n_nodes=len(set(firsts)),
            first_node=firsts[world.rank] == SCHEDULER,
        )
        with take_part(
            rank,
            _base_runner,
            models_per_gpu=self.models_per_gpu,
            memory_limit_gb=self.worker_memory_gb,
            site=site,
            exchange=Broadcast(world),
        ) as connect:
            yield connect


def _base_runner() -> Any:
    from dask_jobqueue.runner import BaseRunner

    return BaseRunner


@dataclass(frozen=True)
class Broadcast:
    """A broadcast from the scheduler's rank."""

    world: Any

    def tell(self, text: str) -> None:
        """Broadcast the text."""
        self.world.bcast(text, root=SCHEDULER)

    def hear(self) -> str:
        """Receive the text."""
        return str(self.world.bcast(None, root=SCHEDULER))
