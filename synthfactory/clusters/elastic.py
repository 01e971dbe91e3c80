"""Batch jobs that come when there is work for them and go when there is none, of two kinds.

Dask's own adaptive scaling knows one kind of worker; a campaign needs GPUs for its fits and
processors for the rest.  So this counts what is waiting for each kind, asks for jobs between two
bounds, gives back those that idle, and gives up with a reason when jobs end before they work.
"""

from __future__ import annotations

import asyncio
import getpass
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthfactory.errors import ClusterError

MAX_STILLBORN = 3
# A batch system that is busy refuses a submission now and then.
MAX_REFUSED = 5
LOOK_EVERY_S = 10.0
# A job that the queue does not list yet may just be new.
GRACE_S = 5.0
# A worker process that died is started again by its job, on a busy node within half a minute.
RETURN_S = 60.0
# States of Dask in which a task could run if there was a worker, or does.
WANTED = ("processing", "no-worker", "queued")


@dataclass(kw_only=True)
class Kind:
    """One kind of job.

    Parameters
    ----------
    name
        ``gpu`` or ``cpu``.
    resource
        The Dask resource that its tasks ask for.
    capacity
        How much of it a job offers.
    minimum, maximum
        Bounds of the number of jobs.
    spec
        What `distributed.SpecCluster` needs to start one.
    jobs
        The jobs by name.
    stillborn
        Jobs that ended before they worked, since one that did work.
    """

    name: str
    resource: str
    capacity: float
    minimum: int
    maximum: int
    spec: Mapping[str, Any]
    jobs: dict[str, Job] = field(default_factory=dict)
    stillborn: int = 0
    made: int = 0
    surplus_since_s: float | None = None


@dataclass(kw_only=True)
class Job:
    """A job that was asked for: when, whether it ever worked, since when it idles or is silent."""

    asked_s: float
    connected: bool = False
    idle_since_s: float | None = None
    gone_since_s: float | None = None


class Elastic:
    """Keeps a cluster's jobs in step with its tasks.

    Parameters
    ----------
    cluster
        A `dask_jobqueue.SLURMCluster`, whose scheduler is in this process.
    kinds
        The kinds of jobs.
    idle_s
        Seconds after which a job without work is given back.
    log
        Where the jobs' output is, for messages.
    """

    def __init__(self, cluster: Any, kinds: Sequence[Kind], *, idle_s: float, log: str) -> None:
        self._cluster, self._kinds, self._idle_s, self._log = cluster, kinds, idle_s, log
        self._looked_s = time.monotonic()
        self.error: ClusterError | None = None

    async def run(self, every_s: float) -> None:
        """Keep step until the campaign ends or workers cannot be had."""
        refused = 0
        while self.error is None:
            try:
                asked = await self.step()
            except ClusterError as error:
                self.error = error
            except RuntimeError as error:
                refused += 1
                self._forget_refused()
                if refused >= MAX_REFUSED:
                    self.error = ClusterError(f"The batch system took no job: {error}")
            else:
                refused = 0 if asked else refused
            await asyncio.sleep(every_s)

    def check(self) -> None:
        """Raise what went wrong.

        Raises
        ------
        ClusterError
            When workers cannot be had.
        """
        if self.error is not None:
            raise self.error

    async def step(self) -> int:
        """Count, compare, ask for jobs and give some back; returns how many were asked for.

        Raises
        ------
        ClusterError
            When jobs end before they work.
        RuntimeError
            When the batch system refuses a job.
        """
        asked = 0
        need = self._needed()
        now_s = time.monotonic()
        alive = await self._queue(now_s)
        for kind in self._kinds:
            self._notice(kind, now_s, alive)
            wanted = min(
                kind.maximum, max(kind.minimum, math.ceil(need[kind.name] / kind.capacity))
            )
            for _ in range(len(kind.jobs), wanted):
                name = f"{kind.name}-{kind.made}"
                kind.made += 1
                kind.jobs[name] = Job(asked_s=now_s)
                self._cluster.worker_spec[name] = kind.spec
                asked += 1
            self._give_back(kind, wanted, now_s)
        await self._cluster._correct_state()
        return asked

    def _needed(self) -> dict[str, float]:
        """What of each kind's resource could be used now.

        A fit whose table is just being split counts already: GPUs may take long to come.
        """
        need = {kind.name: 0.0 for kind in self._kinds}
        for task in self._cluster.scheduler.tasks.values():
            asks = task.resource_restrictions or {}
            kind = next((kind for kind in self._kinds if kind.resource in asks), None)
            if kind is not None and (task.state in WANTED or _comes_soon(task, kind.resource)):
                need[kind.name] += asks[kind.resource]
        return need

    async def _queue(self, now_s: float) -> set[str] | None:
        """The ids of our jobs in the queue, now and then; None when nobody looked or can tell."""
        if now_s - self._looked_s < LOOK_EVERY_S:
            return None
        self._looked_s = now_s
        process = await asyncio.create_subprocess_exec(
            "squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        output, _ = await process.communicate()
        return set(output.decode().split()) if process.returncode == 0 else None

    def _notice(self, kind: Kind, now_s: float, alive: set[str] | None) -> None:
        """Take note of workers that came, idle, or are gone."""
        there: dict[str, list[Any]] = {}
        for worker in self._cluster.scheduler.workers.values():
            there.setdefault(_job_of(str(worker.name), kind.jobs), []).append(worker)
        for name, job in list(kind.jobs.items()):
            if name in there:
                job.connected = True
                job.gone_since_s = None
                kind.stillborn = 0
                busy = any(worker.processing for worker in there[name])
                job.idle_since_s = None if busy else job.idle_since_s or now_s
            elif job.connected:
                job.gone_since_s = job.gone_since_s or now_s
                if now_s - job.gone_since_s > RETURN_S or self._has_ended(name, alive):
                    self._forget(kind, name)
            elif now_s - job.asked_s > GRACE_S and self._has_ended(name, alive):
                self._forget(kind, name)
                kind.stillborn += 1
        if kind.stillborn >= MAX_STILLBORN:
            raise ClusterError(
                f"The last {kind.stillborn} jobs for {kind.name.upper()} workers ended before "
                f"they worked; their output in {self._log} says why. Usual reasons: another "
                "environment on the compute nodes, no network between them and this machine, or "
                "too little memory."
            )

    def _has_ended(self, name: str, alive: set[str] | None) -> bool:
        """Whether the queue was looked at and does not list a job that was submitted."""
        started = self._cluster.workers.get(name)
        return alive is not None and started is not None and str(started.job_id) not in alive

    def _forget_refused(self) -> None:
        """Forget what the batch system refused: it never was a job, and is asked for again."""
        from distributed.core import Status

        for kind in self._kinds:
            for name in list(kind.jobs):
                started = self._cluster.workers.get(name)
                if started is not None and started.job_id is None:
                    self._forget(kind, name)
                    del self._cluster.workers[name]
                    started.status = Status.failed

    def _forget(self, kind: Kind, name: str) -> None:
        kind.jobs.pop(name)
        self._cluster.worker_spec.pop(name, None)

    def _give_back(self, kind: Kind, wanted: int, now_s: float) -> None:
        """Cancel what is too much, once it has been for a while: who waits in the queue first."""
        if len(kind.jobs) <= wanted:
            kind.surplus_since_s = None
            return
        kind.surplus_since_s = kind.surplus_since_s or now_s
        if now_s - kind.surplus_since_s < self._idle_s:
            return
        waiting = [name for name, job in kind.jobs.items() if not job.connected]
        idle = [
            name
            for name, job in kind.jobs.items()
            if job.idle_since_s is not None and now_s - job.idle_since_s >= self._idle_s
        ]
        for name in [*reversed(waiting), *idle][: len(kind.jobs) - wanted]:
            self._forget(kind, name)


def _comes_soon(task: Any, resource: str) -> bool:
    """Whether a task waits only for tasks that run now, on workers of another kind."""
    return task.state == "waiting" and all(
        before.state == "processing" and resource not in (before.resource_restrictions or {})
        for before in task.waiting_on
    )


def _job_of(worker: str, jobs: Mapping[str, Job]) -> str:
    """The job of a worker: a job with several workers numbers them ``<job>-0``, ``<job>-1``."""
    return worker if worker in jobs else worker.rpartition("-")[0]
