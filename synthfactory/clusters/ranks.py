"""A cluster of ranks: every process of a parallel job runs the same command, and takes a part.

Rank 0 is the scheduler, rank 1 the client that goes on with the command, and the others are
workers, the first of each node one for each of its GPUs.  Ranks that serve never come back: they
end when the client has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from synthfactory import interruption
from synthfactory.accounting.allocation import GPU_SHARE, VISIBLE
from synthfactory.clusters import settings
from synthfactory.clusters.gpus import visible_gpus
from synthfactory.clusters.sites import SERVICE_TASKS, Site
from synthfactory.errors import ClusterError
from synthfactory.workers import Connect, Workers

if TYPE_CHECKING:
    from distributed import Security

SCHEDULER, CLIENT = 0, 1
# The first core beside each GPU of a node, where its numbering is unusual.
GPU_CORES_VARIABLE = "SYNTHFACTORY_GPU_CORES"
# A worker without its scheduler, and a scheduler without work, end after so long.
DEATH_TIMEOUT_S = 120
IDLE_TIMEOUT_S = 600
# A rank asks now and then whether the scheduler is still there.
ASK_EVERY_S, ASK_TIMEOUT_S, MAX_SILENT = 4.0, 30.0, 3


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One process of a parallel job.

    Parameters
    ----------
    rank, size
        Its number, and how many there are.
    local_rank
        Its number on its node.
    n_nodes
        Nodes of the job.
    first_node
        Whether the scheduler and the client are on its node.
    """

    rank: int
    size: int
    local_rank: int
    n_nodes: int
    first_node: bool

    @property
    def place(self) -> int:
        """Its number among the workers of its node; negative for those that serve."""
        return self.local_rank - SERVICE_TASKS if self.first_node else self.local_rank

    def check(self) -> None:
        """Refuse a job that is too small.

        Raises
        ------
        ClusterError
            With how many ranks are needed.
        """
        if self.size <= SERVICE_TASKS:
            raise ClusterError(
                f"Expected at least {SERVICE_TASKS + 1} ranks (a scheduler, a client, a worker), "
                f"got {self.size}: ask for the number of GPUs plus {SERVICE_TASKS}."
            )


@dataclass(frozen=True, kw_only=True)
class Duty:
    """What a worker of a node does.

    Parameters
    ----------
    gpus
        The GPUs that it uses, and the ``variable`` that says so; none for a worker on processors.
    cores
        The processor cores beside its GPU, where the site says which these are; empty for no
        binding.
    """

    variable: str = VISIBLE[0]
    gpus: tuple[str, ...] = ()
    cores: frozenset[int] = frozenset()

    @classmethod
    def of(cls, rank: Rank) -> Duty:
        """One GPU for each of the first workers of a node.

        A batch system that binds a GPU to each rank shows one only: that is the rank's own.
        """
        variable, gpus = visible_gpus()
        if len(gpus) == 1 and os.environ.get("SLURM_GPUS_PER_TASK") == "1":
            return cls(variable=variable, gpus=tuple(gpus))
        mine = tuple(gpus[max(0, rank.place) : rank.place + 1])
        return cls(
            variable=variable,
            gpus=mine,
            cores=_cores_beside(rank.place) if mine else frozenset(),
        )

    def take(self, models_per_gpu: int) -> None:
        """Let this process and its children see these GPUs alone, and account for their shares."""
        os.environ[GPU_SHARE] = f"1/{models_per_gpu}"
        if self.variable in os.environ or self.gpus:
            os.environ[self.variable] = ",".join(self.gpus)
        if self.cores:
            os.sched_setaffinity(0, self.cores)


def _cores_beside(gpu: int) -> frozenset[int]:
    """The cores beside a GPU of a whole node, as far as this process may use them."""
    firsts = os.environ.get(GPU_CORES_VARIABLE, "").split(",")
    if gpu >= len(firsts) or not firsts[gpu].isdigit():
        return frozenset()
    count = int(os.environ.get("SLURM_CPUS_PER_TASK") or 1)
    wanted = range(int(firsts[gpu]), int(firsts[gpu]) + count)
    return frozenset(wanted) & os.sched_getaffinity(0)


def worker_options(duty: Duty, models_per_gpu: int, memory_limit_gb: float) -> dict[str, Any]:
    """The options of a Dask worker for a duty."""
    return {
        "nthreads": models_per_gpu if duty.gpus else 1,
        "resources": {"GPU": 1.0} if duty.gpus else {"CPU": 1.0},
        "memory_limit": f"{memory_limit_gb}GB" if memory_limit_gb else 0,
        "death_timeout": DEATH_TIMEOUT_S,
        "local_directory": tempfile.gettempdir(),
    }


def describe_workers(rank: Rank, models_per_gpu: int) -> dict[str, Any]:
    """The rules of the job's workers, as `synthfactory.workers.Workers` takes them.

    The client sees the GPUs of its own node; all nodes of a job are alike.
    """
    n_gpus = len(visible_gpus()[1]) * rank.n_nodes
    n_workers = rank.size - SERVICE_TASKS
    if not n_gpus:
        return {"on_cpu": {"CPU": 1.0}, "places": 0}
    # Without a worker on processors, those with GPUs do everything.
    on_cpu = {"CPU": 1.0} if n_workers > n_gpus else {}
    return {"on_gpu": {"GPU": 1 / models_per_gpu}, "on_cpu": on_cpu, "places": n_gpus}


class Exchange(Protocol):
    """How a text gets from the scheduler's rank to all others."""

    def tell(self, text: str) -> None:
        """Give the text; called by the scheduler's rank, once."""

    def hear(self) -> str:
        """Wait for the text; called by every other rank, once."""


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Import dask-jobqueue without its handler of Ctrl-C, which it sets when it is imported.

    Raises
    ------
    ClusterError
        When it is not installed.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except ImportError as error:
        raise ClusterError(
            f"This cluster needs dask-jobqueue ({error}): pip install 'synthfactory[slurm]', or "
            "'synthfactory[mpi]' for cluster=mpi."
        ) from error
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def take_part(
    rank: Rank,
    load_base: Callable[[], type[Any]],
    *,
    models_per_gpu: int,
    memory_limit_gb: float,
    site: Site,
    exchange: Exchange,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Connect]:
    """Take a rank's part; only the client comes back, with what gives its workers.

    Parameters
    ----------
    load_base
        Imports the `dask_jobqueue.runner.BaseRunner` of this kind of ranks.
    site
        Names the network interface to listen on.
    models_per_gpu, memory_limit_gb, exchange, options
        As for `make_runner`.
    """
    settings.apply()
    with quiet_import():
        base = load_base()
    runner = make_runner(
        base,
        rank,
        models_per_gpu=models_per_gpu,
        memory_limit_gb=memory_limit_gb,
        interface=site.resolve_interface(),
        exchange=exchange,
        options=options,
    )
    with session(runner, describe_workers(rank, models_per_gpu)) as connect:
        yield connect


def make_runner(
    base: type[Any],
    rank: Rank,
    *,
    models_per_gpu: int,
    memory_limit_gb: float,
    interface: str | None,
    exchange: Exchange,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Take this rank's part; come back as the client, with a running cluster, or not at all.

    Parameters
    ----------
    base
        A `dask_jobqueue.runner.BaseRunner`.
    interface
        The network interface to listen on; None for Dask's choice.
    exchange
        How the ranks learn the scheduler's address and the credentials of this job.
    options
        Further arguments of ``base``.
    """
    import asyncio
    import json

    from dask_jobqueue.runner import Role
    from distributed import Nanny, Scheduler, SchedulerPlugin, Security
    from distributed.core import Status

    class _EndWithClient(SchedulerPlugin):
        def __init__(self, scheduler: Scheduler) -> None:
            self._scheduler = scheduler

        def remove_client(self, scheduler: Scheduler, client: str) -> None:
            # Workers have clients of their own only inside tasks, which ours do not open.
            self._scheduler.loop.add_callback(self._scheduler.close, reason="its client is gone")

    class Runner(base):  # type: ignore[misc]
        """Roles by rank, encrypted connections, one worker process for each rank."""

        security: Security

        async def get_role(self) -> Role:
            return {SCHEDULER: Role.scheduler, CLIENT: Role.client}.get(rank.rank, Role.worker)

        async def start_scheduler(self) -> None:
            self.security = Security.temporary()
            self.scheduler_options.update(security=self.security)
            await self.before_scheduler_start()
            async with Scheduler(**self.scheduler_options) as scheduler:
                # Without its client a scheduler has nothing to live for.
                scheduler.add_plugin(_EndWithClient(scheduler))
                await self.set_scheduler_address(scheduler)
                await scheduler.finished()

        async def set_scheduler_address(self, scheduler: Any) -> None:
            exchange.tell(
                json.dumps({"address": scheduler.address, "security": _export(self.security)})
            )

        async def get_scheduler_address(self) -> str:
            told = json.loads(await asyncio.to_thread(exchange.hear))
            self.security = Security(**told["security"])
            return str(told["address"])

        async def start_worker(self) -> None:
            address = await self.get_scheduler_address()
            duty = Duty.of(rank)
            duty.take(models_per_gpu)
            async with Nanny(
                address,
                name=f"rank-{rank.rank}",
                security=self.security,
                interface=interface,
                **worker_options(duty, models_per_gpu, memory_limit_gb),
            ) as nanny:
                # A worker that dies while its scheduler closes would be started again for nobody.
                ends = [asyncio.ensure_future(end) for end in (nanny.finished(), _gone(nanny))]
                _, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for other in others:
                    other.cancel()

        async def _close(self) -> None:
            # The scheduler ends when its client leaves; nobody has to tell it.
            self.status = Status.closed

    rank.check()
    interruption.listen()
    before = signal.getsignal(signal.SIGINT)
    # A rank that has served sends itself an interrupt, which is its way out.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    runner = Runner(
        scheduler_options={
            "protocol": "tls",
            "port": 0,
            "interface": interface,
            "dashboard": True,
            "dashboard_address": "127.0.0.1:0",
            "idle_timeout": f"{IDLE_TIMEOUT_S} s",
        },
        **(options or {}),
    )
    signal.signal(signal.SIGINT, before)
    return runner


async def _gone(nanny: Any) -> None:
    """Come back when the scheduler has not answered for a while."""
    import asyncio

    silent = 0
    while silent < MAX_SILENT:
        await asyncio.sleep(ASK_EVERY_S)
        try:
            await asyncio.wait_for(nanny.scheduler.identity(n_workers=0), ASK_TIMEOUT_S)
            silent = 0
        except (OSError, TimeoutError):
            silent += 1


def _export(security: Security) -> dict[str, Any]:
    """Credentials as JSON-able arguments of `distributed.Security`."""
    roles, parts = ("client", "scheduler", "worker"), ("key", "cert")
    names = ["tls_ca_file", *(f"tls_{role}_{part}" for role in roles for part in parts)]
    return {"require_encryption": True, **{name: getattr(security, name) for name in names}}


@contextlib.contextmanager
def session(runner: Any, rules: Mapping[str, Any]) -> Iterator[Connect]:
    """What gives the job's workers; afterwards every rank ends."""

    @contextlib.contextmanager
    def connect(n_orders: int, threads_per_order: int) -> Iterator[Workers]:
        from distributed import Client

        with Client(runner.scheduler_address, security=runner.security) as client:
            settings.tell_dashboard(client)
            yield Workers(client=client, **rules)

    with runner:
        yield connect
