"""What a cluster gives to a campaign: a Dask client, and how its workers are to be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synthfactory.errors import SynthfactoryError

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True, kw_only=True)
class Workers:
    """A Dask client and the rules of its workers.

    Parameters
    ----------
    client
        Of the scheduler that the workers ask.
    on_gpu, on_cpu
        Dask resources that a task asks for when it can use a GPU, and when it cannot; empty where
        workers are all alike.
    gpus_per_worker
        GPUs of one worker, where tasks ask for them.
    places
        How many GPUs work at a time; None to ask the workers that are there.
    elastic
        Whether a worker that is asked to stop is replaced by another one.  Otherwise all stop.
    check
        Raises a `ClusterError` when workers cannot be had.
    """

    client: Client
    on_gpu: Mapping[str, float] = field(default_factory=dict)
    on_cpu: Mapping[str, float] = field(default_factory=dict)
    gpus_per_worker: int = 1
    places: int | None = None
    elastic: bool = False
    check: Callable[[], None] = lambda: None


LEAVE_S = 1.0

DIED = (
    "The worker processes died again and again, most likely for lack of memory: use fewer workers "
    "(cluster.n_workers=1), more memory, or, of a run, a smaller table or batch; then repeat the "
    "command."
)

# Called with (number of orders, threads per order).
Connect = Callable[[int, int], AbstractContextManager[Workers]]


def in_words(error: BaseException) -> str:
    """Why a task failed, for who asked for it."""
    if isinstance(error, SynthfactoryError):
        return str(error)
    # Dask's own class would have to be imported.
    if type(error).__name__ == "KilledWorker":
        return DIED
    return f"{type(error).__name__}: {error}"


def leave() -> None:
    """Let this worker end, and have another one take the task.

    Raises
    ------
    Reschedule
        Always: the scheduler gives the task to somebody else.
    """
    from distributed import Reschedule, get_worker

    worker = get_worker()
    worker.loop.add_callback(worker.close_gracefully, restart=False, reason="asked to stop")
    # The scheduler should know that this worker leaves before it looks for another.
    time.sleep(LEAVE_S)
    raise Reschedule
