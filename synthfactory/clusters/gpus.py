"""Which GPUs a worker uses: its own ones, where a machine has several."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from distributed import WorkerPlugin

from synthfactory.accounting.allocation import CPU_SHARE, GPU_SHARE, VISIBLE

COUNTERS = (
    ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"),
    ("rocm-smi", "--showuniqueid", "--csv"),
)
TIMEOUT_S = 20.0


def visible_gpus() -> tuple[str, list[str]]:
    """The variable that chooses GPUs here, and the GPUs that this process may use.

    A batch system that gave GPUs to the job has set the variable; otherwise the vendor's own tool
    counts them.  Torch is not asked: it would take hold of one.
    """
    for name in VISIBLE:
        if name in os.environ:
            listed = os.environ[name].split(",")
            return name, [gpu.strip() for gpu in listed if gpu.strip() not in ("", "-1")]
    for tool, *words in COUNTERS:
        if shutil.which(tool) is None:
            continue
        try:
            done = subprocess.run(
                [tool, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        n_gpus = len(lines) if tool == "nvidia-smi" else max(0, len(lines) - 1)
        name = VISIBLE[0] if tool == "nvidia-smi" else VISIBLE[1]
        return name, [str(number) for number in range(n_gpus)]
    return VISIBLE[0], []


def share_of(worker: int, n_workers: int, gpus: list[str]) -> list[str]:
    """The GPUs of a worker: its part of them, or one together with others when there are fewer.

    >>> share_of(1, 2, ["0", "1", "2", "3"]), share_of(2, 3, ["0", "1"])
    (['2', '3'], ['0'])
    """
    each = max(1, len(gpus) // n_workers)
    start = worker * each % max(1, len(gpus))
    return gpus[start : start + each]


def sharers_of(worker: int, n_workers: int, n_gpus: int) -> int:
    """How many workers `share_of` gives the GPUs of this one, itself included.

    >>> [sharers_of(worker, 3, 2) for worker in range(3)], sharers_of(0, 2, 4)
    ([2, 1, 2], 1)
    """
    first = worker % max(1, n_gpus)
    return max(1, len(range(first, n_workers, max(1, n_gpus))))


class OwnGPUs(WorkerPlugin):
    """Lets each worker process see its own GPUs only, before torch is imported there.

    It also says which share of processors and GPUs is its own, for the accounts.

    Parameters
    ----------
    n_workers
        Workers of this machine, named 0, 1, ...
    variable, gpus
        As `visible_gpus` gives them.
    """

    def __init__(self, n_workers: int, variable: str, gpus: list[str]) -> None:
        self._n_workers, self._variable, self._gpus = n_workers, variable, gpus

    def setup(self, worker: Any) -> None:
        """Set the variables in the worker's process."""
        number = int(worker.name)
        os.environ[CPU_SHARE] = f"1/{self._n_workers}"
        if self._gpus:
            mine = share_of(number, self._n_workers, self._gpus)
            os.environ[self._variable] = ",".join(mine)
            os.environ[GPU_SHARE] = f"1/{sharers_of(number, self._n_workers, len(self._gpus))}"


class JobGPUs(WorkerPlugin):
    """The same for the workers of batch jobs, named ``<job>-<number>`` where a job has several.

    Parameters
    ----------
    sizes
        Workers of a job, by the first word of its name; a kind other than ``gpu`` uses none.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = dict(sizes)

    def setup(self, worker: Any) -> None:
        """Set the variable in the worker's process."""
        kind, *numbers = str(worker.name).split("-")
        variable, gpus = visible_gpus()
        size = self._sizes[kind]
        mine = share_of(int(numbers[-1]) if size > 1 else 0, size, gpus) if kind == "gpu" else []
        if gpus:
            os.environ[variable] = ",".join(mine)
