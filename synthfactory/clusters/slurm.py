"""Workers as batch jobs of their own, which come and go with the work."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthfactory import interruption
from synthfactory.accounting.allocation import CPU_SHARE, GPU_SHARE
from synthfactory.clusters.elastic import Elastic, Kind
from synthfactory.clusters.gpus import JobGPUs
from synthfactory.clusters.ranks import DEATH_TIMEOUT_S, quiet_import
from synthfactory.clusters.scripts import worker_preparation
from synthfactory.clusters.settings import DASK, tell_dashboard
from synthfactory.clusters.sites import JobRequest, Site, lead_of, worker_request
from synthfactory.errors import ClusterError, OrderError, expect_count
from synthfactory.journal import CAMPAIGNS
from synthfactory.workers import Connect, Workers

STEP_EVERY_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Jobs for GPU workers and jobs for CPU workers, as many as the work needs, within bounds.

    The scheduler and the client stay in the process that gave the command: on a login node where
    the site allows it, otherwise use `Allocation`.

    Parameters
    ----------
    min_gpu_jobs, max_gpu_jobs, min_cpu_jobs, max_cpu_jobs
        Bounds of the numbers of jobs.  Without GPU jobs, everything runs on CPU workers; without
        CPU jobs, on GPU workers.
    gpus_per_job
        GPUs of a GPU job; ``None`` for one, or for all of a node where jobs get whole nodes.
    gpus_per_worker
        GPUs of a worker process; more than one for orders with ``generator.ranks``.
    models_per_gpu
        Fits that share a GPU.
    models_per_fit
        Orders that differ in their seed alone are trained together, so many in a step; ``None``
        for 16 on a GPU and one on a processor.
    workers_per_cpu_job
        Worker processes of a CPU job; ``None`` for as many as its cores allow at the orders' thread
        counts.
    gpu_job_cpus, cpu_job_cpus, gpu_job_memory_gb, cpu_job_memory_gb
        Processor cores and memory of a job; ``None`` for what goes with a GPU of the site.
    walltime_min
        Minutes of a job.  Work that is left when it ends goes on in another.
    partition, qos, account
        As the site wants them; ``None`` for its defaults.
    cpu_partition, cpu_qos, cpu_account
        The same for CPU jobs; ``None`` for the site's CPU partition, and for ``qos`` and
        ``account``.
    idle_s
        Seconds after which a job without work is given back.
    extra_directives
        More options of ``sbatch``.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    min_gpu_jobs: int = 0
    max_gpu_jobs: int = 8
    min_cpu_jobs: int = 0
    max_cpu_jobs: int = 8
    gpus_per_job: int | None = None
    gpus_per_worker: int = 1
    models_per_gpu: int = 1
    models_per_fit: int | None = None
    workers_per_cpu_job: int | None = None
    gpu_job_cpus: int | None = None
    cpu_job_cpus: int | None = None
    gpu_job_memory_gb: float | None = None
    cpu_job_memory_gb: float | None = None
    walltime_min: int = 60
    partition: str | None = None
    cpu_partition: str | None = None
    qos: str | None = None
    account: str | None = None
    cpu_qos: str | None = None
    cpu_account: str | None = None
    idle_s: float = 60.0
    extra_directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, minimum in (
            ("min_gpu_jobs", 0),
            ("max_gpu_jobs", 0),
            ("min_cpu_jobs", 0),
            ("max_cpu_jobs", 0),
            ("gpus_per_job", 1),
            ("gpus_per_worker", 1),
            ("models_per_gpu", 1),
            ("models_per_fit", 1),
            ("workers_per_cpu_job", 1),
            ("gpu_job_cpus", 1),
            ("cpu_job_cpus", 1),
            ("walltime_min", 1),
        ):
            expect_count(f"cluster.{name}", getattr(self, name), minimum)
        for kind in ("gpu", "cpu"):
            low, high = getattr(self, f"min_{kind}_jobs"), getattr(self, f"max_{kind}_jobs")
            if low > high:
                raise OrderError(
                    f"cluster.min_{kind}_jobs: expected at most max_{kind}_jobs={high}, got {low}."
                )
        if self.max_gpu_jobs + self.max_cpu_jobs == 0:
            raise OrderError("cluster: expected max_gpu_jobs or max_cpu_jobs above 0, got none.")
        if not self.idle_s >= 0:
            raise OrderError(f"cluster.idle_s: expected 0 or more, got {self.idle_s!r}.")
        object.__setattr__(self, "extra_directives", tuple(self.extra_directives))

    def requests(self, site: Site, log: str = "synthfactory-%j.log") -> dict[str, JobRequest]:
        """What jobs of each kind ask of a site, checked against its rules.

        Raises
        ------
        OrderError
            Naming the rule that one breaks.
        """
        made: dict[str, JobRequest] = {}
        common = {
            "walltime_min": self.walltime_min,
            "log": log,
            "extra_directives": self.extra_directives,
        }
        if self._has_gpus(site):
            own = {"cpus_per_task": self.gpu_job_cpus, "memory_gb": self.gpu_job_memory_gb}
            given = {name: value for name, value in own.items() if value is not None}
            if self.gpus_per_job or self.gpus_per_worker > 1:
                given["gpus_per_node"] = self.gpus_per_job or self.gpus_per_worker
            request = worker_request(
                site,
                gpu=True,
                name="synthfactory-gpu",
                partition=self.partition,
                qos=self.qos,
                account=self.account,
                **common,
                **given,
            )
            made["gpu"] = site.check(request)
        if self.max_cpu_jobs:
            own = {"cpus_per_task": self.cpu_job_cpus, "memory_gb": self.cpu_job_memory_gb}
            given = {name: value for name, value in own.items() if value is not None}
            partition = self.cpu_partition or (None if "gpu" in made else self.partition)
            request = worker_request(
                site,
                gpu=False,
                name="synthfactory-cpu",
                partition=partition,
                qos=self.cpu_qos or self.qos,
                account=self.cpu_account or self.account,
                **common,
                **given,
            )
            made["cpu"] = site.check(request)
        if not made:
            raise OrderError(
                f"cluster: {site.title} has no GPUs and max_cpu_jobs is 0: allow CPU jobs."
            )
        return made

    @contextlib.contextmanager
    def session(self, site: Site, runs: Path) -> Iterator[Connect]:
        """What gives a cluster, when there is something to do.

        Parameters
        ----------
        site
            Where jobs are submitted.
        runs
            The folder of all runs, which every node sees.
        """
        self.requests(site)

        @contextlib.contextmanager
        def connect(n_orders: int, threads_per_order: int) -> Iterator[Workers]:
            with self._cluster(site, runs, threads_per_order) as workers:
                yield workers

        yield connect

    @contextlib.contextmanager
    def _cluster(self, site: Site, runs: Path, threads: int) -> Iterator[Workers]:
        import dask
        from distributed import Client, Security

        with quiet_import():
            from dask_jobqueue.slurm import SLURMCluster

        folder = runs.resolve() / CAMPAIGNS / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = str(folder / "%x-%j.log")
        requests = self.requests(site, log)
        sizes = {kind: self._workers_of(kind, job, threads) for kind, job in requests.items()}
        specs = {
            kind: self._options(site, kind, request, folder, sizes[kind], sys.executable)
            for kind, request in requests.items()
        }
        first = next(iter(specs.values()))
        try:
            with (
                dask.config.set(DASK),
                interruption.stop_file(folder / "stop"),
                SLURMCluster(
                    **first,
                    n_workers=0,
                    security=Security.temporary(),
                    shared_temp_directory=str(folder),
                    scheduler_options={
                        "interface": site.resolve_interface(),
                        "dashboard_address": "127.0.0.1:0",
                        "port": 0,
                    },
                    silence_logs=50,
                ) as cluster,
                Client(cluster) as client,
            ):
                client.register_plugin(JobGPUs(sizes))
                kinds = self._kinds(cluster, specs, sizes)
                elastic = Elastic(cluster, kinds, idle_s=self.idle_s, log=str(folder))
                tell_dashboard(client)
                print(f"Jobs write to {folder}.", file=sys.stderr, flush=True)
                keeping = cluster.sync(_start, elastic)
                yield Workers(
                    client=client, elastic=True, check=elastic.check, **self._rules(specs)
                )
                cluster.loop.add_callback(keeping.cancel)
        except FileNotFoundError as error:
            raise ClusterError(
                f"cluster=slurm needs the commands of SLURM here ({error}): run it on a login "
                "node, or use cluster=local."
            ) from error

    def _has_gpus(self, site: Site) -> bool:
        return self.max_gpu_jobs > 0 and site.vendor != "none" and site.gpus_per_node != 0

    def _workers_of(self, kind: str, request: JobRequest, threads: int) -> int:
        """Worker processes of a job."""
        if kind == "gpu":
            return max(1, request.gpus_per_node // self.gpus_per_worker)
        return self.workers_per_cpu_job or max(1, request.cpus_per_task // threads)

    def _rules(self, specs: dict[str, Any]) -> dict[str, Any]:
        """What tasks ask for; where there is one kind only, it does everything."""
        on_gpu = {"GPU": 1 / self.models_per_gpu} if "gpu" in specs else {}
        on_cpu = {"CPU": 1.0} if "cpu" in specs else {"GPU": 1 / self.models_per_gpu}
        places = self.max_gpu_jobs if "gpu" in specs else 0
        return {
            "on_gpu": on_gpu,
            "on_cpu": on_cpu,
            "places": places,
            "gpus_per_worker": self.gpus_per_worker,
        }

    def _kinds(
        self, cluster: Any, specs: dict[str, dict[str, Any]], sizes: dict[str, int]
    ) -> list[Kind]:
        bounds = {
            "gpu": ("GPU", self.gpus_per_worker, self.min_gpu_jobs, self.max_gpu_jobs),
            "cpu": ("CPU", 1, self.min_cpu_jobs, self.max_cpu_jobs),
        }
        # Addresses and credentials of this cluster are the same for both kinds.
        common = {
            name: value
            for name, value in cluster._job_kwargs.items()
            if name in ("protocol", "security", "interface", "config_name")
        }
        made = []
        for kind, options in specs.items():
            resource, each, minimum, maximum = bounds[kind]
            spec: dict[str, Any] = {"cls": cluster.job_cls, "options": {**options, **common}}
            if sizes[kind] > 1:
                spec["group"] = [f"-{number}" for number in range(sizes[kind])]
            made.append(
                Kind(
                    name=kind,
                    resource=resource,
                    capacity=each * sizes[kind],
                    minimum=minimum,
                    maximum=maximum,
                    spec=spec,
                )
            )
        return made

    def job_script(self, site: Site, kind: str, folder: Path, *, python: str) -> str:
        """The script of a worker's job, as dask-jobqueue submits it.

        Parameters
        ----------
        kind
            ``gpu`` or ``cpu``.
        folder
            The campaign's folder.
        python
            The interpreter that runs the worker.
        """
        with quiet_import():
            from dask_jobqueue.slurm import SLURMJob

        request = self.requests(site, str(folder / "%x-%j.log"))[kind]
        size = self._workers_of(kind, request, 1)
        options = self._options(site, kind, request, folder, size, python)
        job: Any = SLURMJob
        return str(job("tls://SCHEDULER", name=f"{kind}-0", **options).job_script())

    def _options(
        self,
        site: Site,
        kind: str,
        request: JobRequest,
        folder: Path,
        size: int,
        python: str,
    ) -> dict[str, Any]:
        """The options of a `dask_jobqueue.slurm.SLURMJob` of so many worker processes."""
        import dask

        on_gpu = kind == "gpu"
        # Fits that share a GPU are threads of one process.
        threads = self.models_per_gpu * self.gpus_per_worker if on_gpu else 1
        resource = f"GPU={self.gpus_per_worker}" if on_gpu else "CPU=1"
        lead_s = lead_of(self.walltime_min)
        # Fits stop by themselves before; what cannot, moves to another worker.
        lifetime_s = 60 * self.walltime_min - lead_s // 2
        return {
            "cores": threads * size,
            "processes": size,
            "memory": f"{request.memory_gb or 0}GB",
            "job_mem": "as the site says",
            # All options come from the site; dask-jobqueue knows too few of them.
            "job_directives_skip": ["#SBATCH"],
            "job_extra_directives": site.directives(request),
            "job_script_prologue": [
                *worker_preparation(site, request, str(folder), lead_s, python),
                f"export {GPU_SHARE}=1/{self.models_per_gpu} {CPU_SHARE}=1/{size}",
                f"export DASK_INTERNAL_INHERIT_CONFIG={dask.config.serialize(DASK)}",
            ],
            "python": '"${run[@]}"',
            "shebang": f"#!/bin/{site.shell}",
            "death_timeout": DEATH_TIMEOUT_S,
            "local_directory": '"${TMPDIR:-/tmp}"',
            "worker_extra_args": [
                "--resources", resource,
                "--lifetime", f"{lifetime_s}s",
                "--lifetime-stagger", f"{lead_s // 4}s",
                '"${interface[@]}"',
            ],
        }  # fmt: skip


async def _start(elastic: Elastic) -> Any:
    import asyncio

    return asyncio.ensure_future(elastic.run(STEP_EVERY_S))
