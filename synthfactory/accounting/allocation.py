"""Which part of a machine a process holds, by the variables of whoever gave it.

Allocated is what nobody else could use meanwhile, whether it worked or idled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from synthfactory.errors import OrderError

CPU_SHARE = "SYNTHFACTORY_CPU_SHARE"
GPU_SHARE = "SYNTHFACTORY_GPU_SHARE"
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What a process holds.

    Parameters
    ----------
    cpus
        Processors, in the batch system's own unit (hardware threads, where it counts those).
    gpus
        GPUs that the process may use.
    gpu_share
        Its part of each of them: 1/K where K processes were given the same GPUs.
    """

    cpus: float
    gpus: int
    gpu_share: float = 1.0


def find_allocation(
    environment: Mapping[str, str] = os.environ,
    *,
    system: Path = Path("/"),
    bound: int | None = None,
) -> Allocation:
    """What this process holds of the machine.

    Parameters
    ----------
    environment
        Variables of the batch system and of whoever started this process.
        ``SYNTHFACTORY_CPU_SHARE`` and ``SYNTHFACTORY_GPU_SHARE`` (such as ``1/4``) say that other
        processes were given the same processors or GPUs.
    system
        Where the system's ``dev`` and ``sys`` lie.
    bound
        Processors that this process may run on; None to ask the system.

    Raises
    ------
    OrderError
        When a share is no number above 0 and up to 1.
    """
    processors = _processors(environment, bound or len(os.sched_getaffinity(0)))
    return Allocation(
        cpus=float(processors * _share(environment, CPU_SHARE)),
        gpus=_count_gpus(environment, system),
        gpu_share=float(_share(environment, GPU_SHARE)),
    )


def visible_gpus(environment: Mapping[str, str]) -> list[str] | None:
    """The GPUs that the variables name, or None when none of them is set.

    Each variable narrows the choice, so the shortest list counts.  A list ends at the first entry
    that names no GPU, as CUDA reads it; Slurm writes ``NoDevFiles`` where none was given.

    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3", "ROCR_VISIBLE_DEVICES": "0,1,2,3"})
    ['2', '3']
    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}), visible_gpus({})
    ([], None)
    """
    lists = [_named(environment[name]) for name in VISIBLE if name in environment]
    return min(lists, key=len) if lists else None


def gpu_count(text: str) -> int:
    """The number of GPUs in a word of Slurm's.

    >>> gpu_count("8(S:0-1)"), gpu_count("a100:2(S:0,2),v100:1"), gpu_count("gpu:4"), gpu_count("")
    (8, 3, 4, 0)
    """
    words = re.sub(r"\([^)]*\)", "", text).split(",")
    return sum(int(count[0]) for word in words if (count := re.findall(r"(?:^|:)(\d+)$", word)))


def tasks_here(text: str, node: int) -> int:
    """Tasks on a node, from Slurm's list for all nodes.

    >>> tasks_here("2(x3),1", 2), tasks_here("2(x3),1", 3)
    (2, 1)
    """
    tasks = [
        int(count)
        for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
        for _ in range(int(times or 1))
    ]
    return tasks[node] if node < len(tasks) else 1


def _processors(environment: Mapping[str, str], bound: int) -> Fraction:
    """Processors that a process holds: those of its task, or of its job on this node.

    Where the system binds tasks, the binding is the truth; where it doesn't, every processor of
    the machine is in it.  So the smaller number counts.
    """
    on_node = environment.get("SLURM_CPUS_ON_NODE", "")
    per_task = environment.get("SLURM_CPUS_PER_TASK", "")
    if "SLURM_STEP_ID" not in environment:
        # A batch script, or what it started itself, holds all that the job has here.
        given = on_node or per_task
    elif per_task:
        given = per_task
    else:
        tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
        node = environment.get("SLURM_NODEID", "0")
        each = tasks_here(tasks, int(node) if node.isdigit() else 0)
        given_here = Fraction(int(on_node), each) if on_node.isdigit() else Fraction(bound)
        return min(Fraction(bound), given_here)
    return Fraction(min(bound, int(given)) if given.isdigit() else bound)


def _count_gpus(environment: Mapping[str, str], system: Path) -> int:
    named = visible_gpus(environment)
    if named is not None:
        return len(named)
    if "SLURM_JOB_ID" in environment:
        return gpu_count(environment.get("SLURM_GPUS_ON_NODE", ""))
    nvidia = [path for path in (system / "dev").glob("nvidia*") if path.name[6:].isdigit()]
    nodes = (system / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id")
    return len(nvidia) or sum(_is_gpu(path) for path in nodes)


def _is_gpu(path: Path) -> bool:
    """Whether a node of AMD's driver is a GPU: processors have the number 0."""
    try:
        return path.read_text().strip() not in ("", "0")
    except OSError:
        return False


def _named(text: str) -> list[str]:
    names: list[str] = []
    for name in text.split(","):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name.strip()):
            break
        names.append(name.strip())
    return names


def _share(environment: Mapping[str, str], name: str) -> Fraction:
    text = environment.get(name, "1")
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise OrderError(f"{name}: expected a share above 0 and at most 1, as 1/4, got {text!r}.")
    return share
