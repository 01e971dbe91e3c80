"""How Dask is set for work that takes minutes to hours, and how its connections are protected."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from distributed import Client

# Our own count of restarts without a step forward stops a task long before.
MAX_DEATHS = 20
WORKER_TTL = "30 minutes"

DASK: dict[str, Any] = {
    # Tasks that ask for a resource are all given to the workers that are there, and what follows
    # stays where its data is: without stealing, whoever comes later has nothing to do.  A task that
    # runs is never taken away.
    "distributed.scheduler.work-stealing": True,
    # A fit may hold the interpreter's lock; a node that is gone is noticed by its connection.
    "distributed.scheduler.worker-ttl": WORKER_TTL,
    # `clusters.elastic` decides when a job is lost; Dask would cancel it while its worker restarts.
    "distributed.deploy.lost-worker-timeout": WORKER_TTL,
    "distributed.scheduler.allowed-failures": MAX_DEATHS,
    "distributed.scheduler.no-workers-timeout": None,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.comm.timeouts.connect": "60s",
    # Dask's own setting gives memory back after every array: twice the time in evaluation; and it
    # sets OMP_NUM_THREADS=1, where the order decides.
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.admin.tick.limit": "60s",
    # A job's log is for the campaign's lines; Dask's own end of a connection is no news.
    "logging": {
        "distributed": "warning",
        "distributed.core": "error",
        "distributed.batched": "critical",
        "distributed.nanny": "critical",
        "distributed.nanny.memory": "warning",
        "distributed.worker": "critical",
        "tornado.application": "critical",
    },
}


def apply() -> None:
    """Set Dask for this process and for the worker processes that it starts."""
    import dask

    dask.config.set(DASK)
    os.environ["DASK_INTERNAL_INHERIT_CONFIG"] = dask.config.serialize(DASK)
    for name, level in DASK["logging"].items():
        logging.getLogger(name).setLevel(level.upper())


def tell_dashboard(client: Client) -> None:
    """Say on a terminal or in a job's log where Dask's dashboard is, and how to reach it.

    It listens on the scheduler's own machine alone; a tunnel brings it to a laptop.
    """
    if not (sys.stderr.isatty() or "SLURM_JOB_ID" in os.environ):
        return
    info = client.scheduler_info(n_workers=0)
    port = info["services"].get("dashboard")
    if port is None:
        return
    host = urlsplit(info["address"]).hostname or platform.node()
    machine = platform.node() if host in ("127.0.0.1", "localhost") else host
    print(f"Dask's dashboard: http://127.0.0.1:{port}/status, on {machine}.", file=sys.stderr)
    print(
        f"From elsewhere: ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{machine}",
        "(add -J LOGIN_NODE for a machine inside a cluster)",
        file=sys.stderr,
        flush=True,
    )
