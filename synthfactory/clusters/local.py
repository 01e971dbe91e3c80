"""A Dask cluster of processes on this machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthfactory import interruption
from synthfactory.clusters.settings import DASK, tell_dashboard
from synthfactory.clusters.sites import Site
from synthfactory.errors import OrderError, expect_count
from synthfactory.workers import Connect, Workers


@dataclass(frozen=True, kw_only=True)
class Local:
    """Worker processes on this machine, each making one stage of one order at a time.

    Parameters
    ----------
    n_workers
        Processes; ``None`` for as many as the processors allow at the orders' thread counts,
        but not more than there are orders.
    memory_limit_gb
        Memory at which a worker is stopped and its task tried elsewhere; 0 for no limit.
    models_per_fit
        Orders that differ in their seed alone are trained together, so many in a step; ``None``
        for 16 on a GPU and one on a processor, where one model per core is faster.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    n_workers: int | None = None
    memory_limit_gb: float = 0.0
    models_per_fit: int | None = None

    def __post_init__(self) -> None:
        for name in ("n_workers", "models_per_fit"):
            expect_count(f"cluster.{name}", getattr(self, name), 1)
        if not self.memory_limit_gb >= 0:
            raise OrderError(
                f"cluster.memory_limit_gb: expected 0 or more, got {self.memory_limit_gb!r}."
            )

    @contextlib.contextmanager
    def session(self, site: Site, runs: Path) -> Iterator[Connect]:
        """What gives a cluster, when there is something to do; a site has no part in it."""
        yield self.connect

    @contextlib.contextmanager
    def connect(self, n_orders: int, threads_per_order: int) -> Iterator[Workers]:
        """The workers of a cluster that lives as long as the ``with`` block.

        Parameters
        ----------
        n_orders
            Orders that are left to make: more workers than that would idle.
        threads_per_order
            Processor threads that one fit uses.
        """
        import dask
        from distributed import Client, LocalCluster

        from synthfactory.clusters.gpus import OwnGPUs, visible_gpus

        with (
            dask.config.set(DASK),
            tempfile.TemporaryDirectory(prefix="synthfactory-") as scratch,
            interruption.stop_file(Path(scratch) / "stop"),
            LocalCluster(
                n_workers=self.n_workers or default_workers(n_orders, threads_per_order),
                threads_per_worker=1,
                processes=True,
                memory_limit=f"{self.memory_limit_gb}GB" if self.memory_limit_gb else 0,
                # Any free port: the usual one is often taken on shared machines.
                dashboard_address="127.0.0.1:0",
                local_directory=scratch,
                silence_logs=50,
                # Others on this machine could send work to an open scheduler, in our name.
                security=True,
            ) as cluster,
            Client(cluster) as client,
        ):
            client.register_plugin(OwnGPUs(len(cluster.workers), *visible_gpus()))
            tell_dashboard(client)
            yield Workers(client=client)


def default_workers(n_orders: int, threads_per_order: int) -> int:
    """Workers that keep the processors busy without overloading them."""
    processors = len(os.sched_getaffinity(0))
    return max(1, min(n_orders, processors // threads_per_order))
