"""What a batch machine is like: its partitions, its rules, how a job asks it for things.

A `Site` holds figures and rules; a `JobRequest` says what one job needs.  `Site.check` answers
before the queue does, in words.  Nothing here starts anything, and nothing here knows Dask.
The text of a job is made in `scripts`.

Every figure comes from ``conf/site/*.yaml`` and can be set on the command line
(``site.partitions.gpu.max_walltime_min=120``): sites change their limits without asking us.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import psutil

from synthfactory.errors import OrderError, did_you_mean, expect_count

VENDORS = ("nvidia", "amd", "none")
ARCHITECTURES = ("x86_64", "aarch64")
SHELLS = ("bash", "bash -l")
CPU_WORKER_CORES = 8
SERVICE_TASKS = 2  # the Dask scheduler and the client
MIB_PER_GB = 1e9 / 2**20  # SLURM's M and G are binary, what nodes are said to have is decimal

Part = TypeVar("Part")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What one batch job needs.

    Parameters
    ----------
    nodes
        Nodes of the job.
    gpus_per_node, tasks_per_node, cpus_per_task
        Per node and per task.
    memory_gb
        Memory per node; ``None`` for what the site gives.
    walltime_min
        Minutes after which the scheduler ends the job.
    partition, qos, account
        ``None`` for the site's own, where it has one.
    name, log
        Name in the queue; file of the output (``%j``: job id).
    signal_lead_s
        Seconds before the end at which the batch shell is told; ``None`` for no signal.
    requeue
        Whether the scheduler may start the job again after a node failed or it was preempted.
    extra_directives
        More ``sbatch`` options, such as ``--constraint=gpu``.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    memory_gb: float | None = None
    walltime_min: int = 60
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    name: str = "synthfactory"
    log: str = "synthfactory-%j.log"
    signal_lead_s: int | None = 120
    requeue: bool = True
    extra_directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, minimum in {
            "nodes": 1,
            "gpus_per_node": 0,
            "tasks_per_node": 1,
            "cpus_per_task": 1,
            "walltime_min": 1,
            "signal_lead_s": 1,
        }.items():
            if name != "signal_lead_s" or self.signal_lead_s is not None:
                expect_count(f"job.{name}", getattr(self, name), minimum, optional=False)
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise OrderError(f"job.memory_gb: expected more than 0, got {self.memory_gb!r}.")
        for name in ("partition", "qos", "account", "name", "log"):
            _expect_one_word(f"job.{name}", getattr(self, name))
        object.__setattr__(
            self, "extra_directives", _texts("job.extra_directives", self.extra_directives)
        )

    @property
    def cores_per_node(self) -> int:
        """Processor cores that the job's tasks ask for on each node."""
        return self.tasks_per_node * self.cpus_per_task


@dataclass(frozen=True, kw_only=True)
class QoS:
    """A quality of service: limits that replace the partition's.

    Parameters
    ----------
    max_walltime_min, max_nodes
        ``None`` for the partition's.
    notes
        For people.
    """

    max_walltime_min: int | None = None
    max_nodes: int | None = None
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """Whether a site wants ``--account`` or ``--qos``, and what the value looks like.

    Parameters
    ----------
    required
        Whether a job without it is rejected.
    pattern
        Regular expression that a value must match as a whole; ``None`` for any.
    example
        A value as people there have it.
    """

    required: bool = False
    pattern: str | None = None
    example: str = ""

    def __post_init__(self) -> None:
        _expect_pattern("site: pattern", self.pattern)


@dataclass(frozen=True, kw_only=True)
class Billing:
    """What an hour costs, in the unit that the site counts in.

    A job is charged the largest of what its GPUs, cores and memory come to; whole nodes are
    charged ``per_node``.  What a rate is not known for does not count.

    Parameters
    ----------
    unit
        Such as ``GPU-hours``; empty when not known.
    per_node, per_gpu, per_core, per_gb
        Units for an hour of one node, GPU (GCD on AMD's MI250X), core, GB of memory.
    step
        What is charged for an hour is rounded up to a multiple of this.
    formula
        The rule, for people.
    """

    unit: str = ""
    per_node: float | None = None
    per_gpu: float | None = None
    per_core: float | None = None
    per_gb: float | None = None
    step: float | None = None
    formula: str = ""

    def units(self, request: JobRequest, *, whole_nodes: bool) -> float | None:
        """What the request costs when it runs for all of its walltime; ``None`` if not known.

        >>> billing = Billing(unit="GPU-hours", per_gpu=0.5, per_core=0.0625, step=0.5)
        >>> billing.units(JobRequest(gpus_per_node=1, cpus_per_task=14), whole_nodes=False)
        1.0
        """
        hours = request.walltime_min / 60
        if whole_nodes and self.per_node is not None:
            return request.nodes * self.per_node * hours
        parts = [
            rate * amount
            for rate, amount in (
                (self.per_gpu, request.gpus_per_node),
                (self.per_core, request.cores_per_node),
                (self.per_gb, request.memory_gb),
            )
            if rate is not None and amount is not None
        ]
        if not parts:
            return None
        each = max(parts)
        if self.step:
            each = math.ceil(each / self.step - 1e-9) * self.step
        return request.nodes * each * hours


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition of a site, and how its nodes differ from the site's.

    Parameters
    ----------
    name
        Its name; taken from the mapping that it stands in.
    max_walltime_min, max_nodes
        Limits of a job; ``None`` for none that is known.
    whole_nodes
        Whether jobs get (and pay) whole nodes.
    gpus_required
        Whether a job without GPUs is rejected.
    gpus_per_node, usable_cores, usable_memory_gb
        Of its nodes; ``None`` for the site's.
    qos
        Qualities of service by name; empty when any will do.
    default_qos
        The one for jobs that name none.
    account
        Accounts that may run here; ``None`` for the site's rule.
    billing
        ``None`` for the site's.
    notes
        For people.
    """

    name: str = ""
    max_walltime_min: int | None = None
    max_nodes: int | None = None
    whole_nodes: bool = False
    gpus_required: bool = False
    gpus_per_node: int | None = None
    usable_cores: int | None = None
    usable_memory_gb: float | None = None
    qos: Mapping[str, QoS] = field(default_factory=dict)
    default_qos: str | None = None
    account: Flag | None = None
    billing: Billing | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        where = f"site.partitions.{self.name}"
        for name in ("max_walltime_min", "max_nodes"):
            if getattr(self, name) is not None:
                expect_count(f"{where}.{name}", getattr(self, name), 1, optional=False)
        if self.gpus_per_node is not None:
            expect_count(f"{where}.gpus_per_node", self.gpus_per_node, 0, optional=False)
        _fill(self, "qos", _mapping(f"{where}.qos", self.qos, QoS))
        if self.account is not None:
            _fill(self, "account", _part(f"{where}.account", self.account, Flag))
        if self.billing is not None:
            _fill(self, "billing", _part(f"{where}.billing", self.billing, Billing))
        if self.default_qos is not None and self.qos and self.default_qos not in self.qos:
            raise OrderError(
                f"{where}.default_qos: expected one of its qualities of service, got "
                f"'{self.default_qos}'{did_you_mean(self.default_qos, self.qos)}"
            )


@dataclass(frozen=True, kw_only=True)
class Site:
    """A batch machine as ``conf/site/*.yaml`` describes it; without values, one with no rules.

    Parameters
    ----------
    name, title, documentation
        Name on the command line, name for people, address of the site's own documents.
    vendor, gpu_model, gpu_memory_gb, gpus_per_node
        The GPUs of a node as the scheduler counts them; ``none`` for a site without.
    arch
        Of the compute nodes: ``x86_64`` or ``aarch64``.
    cores_per_node, usable_cores, memory_gb, usable_memory_gb
        What a node has, and what jobs may ask for; ``None`` when not known.
    partitions
        By name; empty when any will do.
    default_partition, default_cpu_partition
        For jobs that name none, with and without GPUs.
    gpu_request
        The option that asks for GPUs: ``{n}`` stands for those of a node, ``{total}`` for those
        of the job; ``None`` when whole nodes come with them.
    account, qos
        Whether ``--account`` and ``--qos`` are needed and what they look like.
    skip_directives
        Options that the site forbids or ignores, such as ``mem``.
    extra_directives
        Options that every job gets.
    srun_options
        Options of every ``srun``.
    interfaces
        Network interfaces for Dask, best first; ``*`` and ``?`` match.
    scratch_variables
        Environment variables that name scratch folders, best first.
    modules
        Environment modules that jobs load.
    shell
        ``bash``, or ``bash -l`` where modules need a login shell.
    container_command, container_variable
        How a container is entered, and the variable that names its image; when the variable is
        unset, jobs run without a container.
    exports
        Environment variables that jobs set.
    prologue
        More shell lines before the work begins.
    gpu_cores
        First core beside each GPU of a whole node, where the numbering is unusual.
    internet
        Whether compute nodes reach the internet; ``None`` when not known, taken for no.
    long_lived_login
        Whether a process that submits jobs for hours may stay on a login node.
    billing
        What an hour costs.
    uncertain
        Fields (dotted) whose values nobody confirmed.

    Raises
    ------
    OrderError
        When a value has the wrong type or names something that does not exist.
    """

    name: str = "generic"
    title: str = "Any SLURM cluster"
    documentation: str = ""
    vendor: str = "nvidia"
    arch: str = "x86_64"
    gpus_per_node: int | None = None
    gpu_model: str = ""
    gpu_memory_gb: float | None = None
    cores_per_node: int | None = None
    usable_cores: int | None = None
    memory_gb: float | None = None
    usable_memory_gb: float | None = None
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    default_partition: str | None = None
    default_cpu_partition: str | None = None
    gpu_request: str | None = "--gres=gpu:{n}"
    account: Flag = field(default_factory=Flag)
    qos: Flag = field(default_factory=Flag)
    skip_directives: tuple[str, ...] = ()
    extra_directives: tuple[str, ...] = ()
    srun_options: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    scratch_variables: tuple[str, ...] = ("SCRATCH", "WORK", "PROJECT")
    modules: tuple[str, ...] = ()
    shell: str = "bash"
    container_command: str = "apptainer exec --nv"
    container_variable: str = "SYNTHFACTORY_IMAGE"
    exports: Mapping[str, str] = field(default_factory=dict)
    prologue: tuple[str, ...] = ()
    gpu_cores: tuple[int, ...] = ()
    internet: bool | None = None
    long_lived_login: bool = False
    billing: Billing = field(default_factory=Billing)
    uncertain: tuple[str, ...] = ()

    LISTS: ClassVar = (
        "skip_directives",
        "extra_directives",
        "srun_options",
        "interfaces",
        "scratch_variables",
        "modules",
        "prologue",
        "uncertain",
    )

    def __post_init__(self) -> None:
        for name, known in (("vendor", VENDORS), ("arch", ARCHITECTURES), ("shell", SHELLS)):
            if getattr(self, name) not in known:
                raise OrderError(
                    f"site.{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        for name in ("gpus_per_node", "cores_per_node", "usable_cores"):
            if getattr(self, name) is not None:
                expect_count(f"site.{name}", getattr(self, name), 0, optional=False)
        for name in self.LISTS:
            _fill(self, name, _texts(f"site.{name}", getattr(self, name)))
        _fill(self, "gpu_cores", tuple(int(core) for core in self.gpu_cores))
        _fill(self, "exports", {str(key): str(value) for key, value in dict(self.exports).items()})
        for name, kind in (("account", Flag), ("qos", Flag), ("billing", Billing)):
            _fill(self, name, _part(f"site.{name}", getattr(self, name), kind))
        _fill(self, "partitions", _mapping("site.partitions", self.partitions, Partition))
        for name in ("default_partition", "default_cpu_partition"):
            value = getattr(self, name)
            if value is not None and self.partitions and value not in self.partitions:
                raise OrderError(
                    f"site.{name}: there is no partition '{value}'"
                    f"{did_you_mean(value, self.partitions)}"
                )
        for path in self.uncertain:
            _expect_path(self, path)

    @property
    def launch(self) -> Literal["slurm", "allocation"]:
        """How orders run here unless told otherwise: jobs that come and go, or one allocation."""
        return "slurm" if self.long_lived_login else "allocation"

    def partition(self, name: str | None) -> Partition:
        """The partition of that name, with what its nodes have filled in.

        Raises
        ------
        OrderError
            When the site has no such partition.
        """
        if self.partitions and name not in self.partitions:
            hint = did_you_mean(str(name), self.partitions)
            said = f"there is no partition '{name}'" if name else "a partition is needed"
            raise OrderError(f"cluster.partition: on {self.title} {said}{hint}")
        found = self.partitions.get(str(name), Partition(name=name or ""))
        return dataclasses.replace(
            found,
            gpus_per_node=_first(found.gpus_per_node, self.gpus_per_node),
            usable_cores=_first(found.usable_cores, self.usable_cores, self.cores_per_node),
            usable_memory_gb=_first(found.usable_memory_gb, self.usable_memory_gb, self.memory_gb),
            account=found.account or self.account,
            billing=found.billing or self.billing,
        )

    def complete(self, request: JobRequest) -> JobRequest:
        """The request with the site's partition and quality of service, where it names none."""
        fallback = self.default_partition
        if request.gpus_per_node == 0 and self.default_cpu_partition is not None:
            fallback = self.default_cpu_partition
        name = request.partition or fallback
        qos = request.qos or self.partition(name).default_qos
        return dataclasses.replace(request, partition=name, qos=qos)

    def check(self, request: JobRequest) -> JobRequest:
        """The completed request, when the site would take it.

        Raises
        ------
        OrderError
            Naming the rule of the site that the request breaks.
        """
        request = self.complete(request)
        partition = self.partition(request.partition)
        for rule in (_check_account, _check_qos, _check_limits, _check_node, _check_whole_nodes):
            rule(self, partition, request)
        return request

    def directives(self, request: JobRequest) -> list[str]:
        """The options of ``sbatch`` for the request, checked: ``["--partition=gpu", ...]``.

        Raises
        ------
        OrderError
            As `check`.
        """
        request = self.check(request)
        options = [*_options(self, request), *self.extra_directives, *request.extra_directives]
        return [option for option in options if _option_name(option) not in self.skip_directives]

    def charge(self, request: JobRequest) -> float | None:
        """What the request costs at most, in ``billing.unit``; ``None`` if not known."""
        request = self.complete(request)
        partition = self.partition(request.partition)
        billing = partition.billing or self.billing
        return billing.units(request, whole_nodes=partition.whole_nodes)

    def resolve_interface(self) -> str | None:
        """The first of `interfaces` that is up on this node and has an IPv4 address.

        ``None`` leaves the choice to Dask, which takes the address of the node's name.
        """
        addresses = psutil.net_if_addrs()
        up = [
            name
            for name, state in psutil.net_if_stats().items()
            if state.isup
            and any(address.family == socket.AF_INET for address in addresses.get(name, ()))
        ]
        matching = (
            name for wanted in self.interfaces for name in sorted(fnmatch.filter(up, wanted))
        )
        return next(matching, None)

    def scratch(self) -> Path | None:
        """The first scratch folder that the environment names and that can be written."""
        for variable in self.scratch_variables:
            value = os.environ.get(variable, "")
            if value and Path(value).is_dir() and os.access(value, os.W_OK):
                return Path(value)
        return None


def lead_of(walltime_min: int) -> int:
    """Seconds before a job's end at which its work stops: a fifth of it, two minutes at most.

    >>> lead_of(60), lead_of(1)
    (120, 12)
    """
    return min(120, 12 * walltime_min)


def allocation_request(
    site: Site,
    *,
    nodes: int = 1,
    gpus_per_node: int | None = None,
    cpu_workers: int = 1,
    cpus_per_task: int | None = None,
    **others: Any,
) -> JobRequest:
    """One allocation for everything: scheduler, client, a worker for each GPU, and CPU workers.

    Parameters
    ----------
    gpus_per_node
        ``None`` for all GPUs of a node that there are cores for.
    cpu_workers
        Workers without a GPU on each node.
    cpus_per_task
        ``None`` for an equal share of the cores that go with the GPUs.
    others
        More fields of `JobRequest`.

    Raises
    ------
    OrderError
        When a value is outside its range or the partition does not exist.
    """
    gpus = gpus_per_node
    if gpus is None:
        home = site.partition(others.get("partition") or site.default_partition)
        spare = (home.usable_cores or math.inf) - SERVICE_TASKS - cpu_workers
        gpus = int(max(0, min(home.gpus_per_node or 0, spare)))
    tasks = gpus + SERVICE_TASKS + cpu_workers
    draft = JobRequest(nodes=nodes, gpus_per_node=gpus, tasks_per_node=tasks, **others)
    partition = site.partition(site.complete(draft).partition)
    cores = _share(partition, gpus, tasks)
    memory = others.get("memory_gb") or _memory(partition, cores)
    each = cpus_per_task or max(1, cores // tasks)
    return dataclasses.replace(draft, cpus_per_task=each, memory_gb=memory)


def worker_request(site: Site, *, gpu: bool, **others: Any) -> JobRequest:
    """One worker of a cluster whose jobs come and go: a GPU with its share of a node, or cores.

    Where only whole nodes are given, it is a whole node.  The scheduler must not start it again:
    Dask has replaced it by then.

    Parameters
    ----------
    others
        More fields of `JobRequest`.

    Raises
    ------
    OrderError
        When the partition does not exist, or a GPU is wanted where there is none.
    """
    draft = JobRequest(gpus_per_node=int(gpu), **others)
    partition = site.partition(site.complete(draft).partition)
    n_gpus = partition.gpus_per_node
    if gpu and (site.vendor == "none" or n_gpus == 0):
        raise OrderError(f"{site.title} has no GPUs in '{partition.name}': use CPU workers.")
    gpus = (n_gpus or int(gpu)) if partition.whole_nodes else int(gpu)
    cores = _share(partition, gpus, 1)
    given: dict[str, Any] = {
        "gpus_per_node": gpus,
        "cpus_per_task": cores,
        "memory_gb": _memory(partition, cores),
        "requeue": False,
        "signal_lead_s": None,
    }
    return dataclasses.replace(draft, **given | others)


def _share(partition: Partition, gpus: int, tasks: int) -> int:
    """Cores of a node that go with so many GPUs, and at least one for each task.

    A worker without a GPU gets the cores of one, or `CPU_WORKER_CORES` where there are no GPUs.
    """
    cores = partition.usable_cores
    if cores is None:
        return 1
    if partition.whole_nodes:
        return cores
    share = CPU_WORKER_CORES
    if partition.gpus_per_node:
        share = cores * max(1, gpus) // partition.gpus_per_node
    return min(cores, max(share, tasks))


def _memory(partition: Partition, cores: int) -> float | None:
    """Memory in GB that goes with so many cores."""
    if partition.usable_memory_gb is None or not partition.usable_cores:
        return None
    return math.floor(cores / partition.usable_cores * partition.usable_memory_gb * 10) / 10


def _check_account(site: Site, partition: Partition, request: JobRequest) -> None:
    rule = partition.account or site.account
    where = f"{site.title}, partition '{partition.name}'" if partition.name else site.title
    _check_flag("account", rule, request.account, where)


def _check_qos(site: Site, partition: Partition, request: JobRequest) -> None:
    _check_flag("qos", site.qos, request.qos, site.title, tuple(partition.qos))
    if request.qos is not None and partition.qos and request.qos not in partition.qos:
        raise OrderError(
            f"cluster.qos: partition '{partition.name}' of {site.title} has no quality of service "
            f"'{request.qos}'{did_you_mean(request.qos, partition.qos)}. If it has, add "
            f"+site.partitions.{partition.name}.qos.{request.qos}={{}}"
        )


def _check_flag(
    name: str, rule: Flag, value: str | None, where: str, known: Sequence[str] = ()
) -> None:
    example = f"cluster.{name}={rule.example or '...'}"
    if value is None and rule.required:
        listed = f" (one of {', '.join(known)})" if known else ""
        raise OrderError(f"cluster.{name}: {where} takes no job without one{listed}: add {example}")
    if value is not None and rule.pattern and not re.fullmatch(rule.pattern, value):
        raise OrderError(
            f"cluster.{name}: {where} expects one that matches {rule.pattern}, such as {example}, "
            f"got '{value}'."
        )


def _check_limits(site: Site, partition: Partition, request: JobRequest) -> None:
    qos = partition.qos.get(request.qos or "", QoS())
    for setting, limit, asked, unit in (
        (
            "walltime_min",
            qos.max_walltime_min or partition.max_walltime_min,
            request.walltime_min,
            "minutes",
        ),
        ("nodes", qos.max_nodes or partition.max_nodes, request.nodes, "nodes"),
    ):
        if limit is not None and asked > limit:
            named = f" with qos '{request.qos}'" if request.qos else ""
            raise OrderError(
                f"cluster.{setting}: partition '{partition.name}' of {site.title}{named} allows "
                f"{limit} {unit}, got {asked}. Ask for less (an interrupted run continues), or "
                f"another partition or qos."
            )


def _check_node(site: Site, partition: Partition, request: JobRequest) -> None:
    if request.gpus_per_node and (site.vendor == "none" or partition.gpus_per_node == 0):
        raise OrderError(
            f"cluster.gpus_per_node: partition '{partition.name}' of {site.title} has no GPUs, "
            f"got {request.gpus_per_node}. Choose another partition, or 0 GPUs."
        )
    if partition.gpus_required and not request.gpus_per_node:
        raise OrderError(
            f"cluster.gpus_per_node: partition '{partition.name}' of {site.title} takes no job "
            "without GPUs, got 0. Ask for at least 1, or choose another partition."
        )
    for what, has, asked in (
        ("GPUs", partition.gpus_per_node, request.gpus_per_node),
        ("cores", partition.usable_cores, request.cores_per_node),
        ("GB of memory", partition.usable_memory_gb, request.memory_gb),
    ):
        if has is not None and asked is not None and asked > has:
            raise OrderError(
                f"cluster: a node of partition '{partition.name}' of {site.title} gives "
                f"{has:g} {what}, got {asked:g} per node. Ask for less per node, or for more nodes."
            )


def _check_whole_nodes(site: Site, partition: Partition, request: JobRequest) -> None:
    if not partition.whole_nodes:
        return
    gpus, cores = partition.gpus_per_node, partition.usable_cores
    if gpus and request.gpus_per_node != gpus:
        asked, has = f"{request.gpus_per_node} GPUs", f"all {gpus} GPUs"
    elif not gpus and cores and request.cores_per_node + request.cpus_per_task <= cores:
        asked, has = f"{request.cores_per_node} cores", f"all {cores} cores"
    else:
        return
    shared = [name for name, other in site.partitions.items() if not other.whole_nodes]
    others = f" or use a shared partition ({', '.join(shared)})" if shared else ""
    raise OrderError(
        f"cluster: partition '{partition.name}' of {site.title} gives, and charges, whole nodes; "
        f"got {asked} per node. Ask for {has}{others}."
    )


def _options(site: Site, request: JobRequest) -> Iterator[str]:
    yield f"--job-name={request.name}"
    for name in ("account", "partition", "qos"):
        value = getattr(request, name)
        if value is not None:
            yield f"--{name}={value}"
    yield f"--nodes={request.nodes}"
    yield f"--ntasks-per-node={request.tasks_per_node}"
    yield f"--cpus-per-task={request.cpus_per_task}"
    if request.gpus_per_node and site.gpu_request:
        n = request.gpus_per_node
        yield site.gpu_request.format(n=n, total=n * request.nodes)
    if request.memory_gb is not None:
        yield f"--mem={int(request.memory_gb * MIB_PER_GB)}M"
    yield f"--time={walltime(request.walltime_min)}"
    if request.signal_lead_s is not None:
        yield f"--signal=B:USR1@{request.signal_lead_s}"
    yield "--requeue" if request.requeue else "--no-requeue"
    yield f"--output={request.log}"
    yield "--open-mode=append"


def walltime(minutes: int) -> str:
    """Minutes as Slurm writes them.

    >>> walltime(90), walltime(2 * 24 * 60 + 5)
    ('01:30:00', '2-00:05:00')
    """
    days, rest = divmod(minutes, 24 * 60)
    clock = f"{rest // 60:02d}:{rest % 60:02d}:00"
    return f"{days}-{clock}" if days else clock


def _option_name(option: str) -> str:
    """
    >>> _option_name("--mem=7000M"), _option_name("--exclusive")
    ('mem', 'exclusive')
    """
    return re.split(r"[=\s]", option.lstrip("-"), maxsplit=1)[0]


def _first(*values: Value | None) -> Value | None:
    return next((value for value in values if value is not None), None)


def _fill(owner: object, name: str, value: object) -> None:
    object.__setattr__(owner, name, value)


def _part(where: str, value: object, kind: type[Part]) -> Part:
    """A mapping from YAML as the dataclass that it describes."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise OrderError(f"{where}: expected values by name, got {value!r}.")
    known = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in value:
        if name not in known:
            raise OrderError(f"{where}: there is no '{name}'{did_you_mean(str(name), known)}")
    return kind(**value)


def _mapping(where: str, value: object, kind: type[Part]) -> dict[str, Part]:
    if not isinstance(value, Mapping):
        raise OrderError(f"{where}: expected a mapping by name, got {value!r}.")
    named = any(item.name == "name" for item in dataclasses.fields(kind))  # type: ignore[arg-type]
    return {
        str(name): _part(
            f"{where}.{name}",
            {**item, "name": str(name)} if named and isinstance(item, Mapping) else item,
            kind,
        )
        for name, item in value.items()
    }


def _texts(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise OrderError(f"{where}: expected a list of texts, got {value!r}.")
    return tuple(str(item) for item in value)


def _expect_one_word(where: str, value: object) -> None:
    """A value that ends up in a ``#SBATCH`` line must not begin another one."""
    if value is not None and (not isinstance(value, str) or not re.fullmatch(r"\S+", value)):
        raise OrderError(f"{where}: expected a text without spaces, got {value!r}.")


def _expect_pattern(where: str, pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise OrderError(f"{where}: '{pattern}' is no regular expression: {error}.") from error


def _expect_path(site: Site, path: str) -> None:
    """A dotted path of `uncertain` must lead to a field."""
    node: Any = site
    for name in path.split("."):
        known = (
            list(node)
            if isinstance(node, Mapping)
            else [item.name for item in dataclasses.fields(node)]
            if dataclasses.is_dataclass(node)
            else []
        )
        if name not in known:
            raise OrderError(
                f"site.uncertain: '{path}' leads nowhere at '{name}'{did_you_mean(name, known)}"
            )
        node = node[name] if isinstance(node, Mapping) else getattr(node, name)
