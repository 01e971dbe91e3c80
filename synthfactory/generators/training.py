"""The one training loop of all neural generators."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from synthfactory.errors import OrderError, TrainingError
from synthfactory.generators.base import Callback, Progress

REPORTS = 200


def train(
    step: Callable[[], Mapping[str, Tensor]],
    *,
    steps: int,
    max_minutes: float | None = None,
    callback: Callback | None = None,
) -> int:
    """Call ``step`` until the planned number is reached or the time is up.

    Parameters
    ----------
    step
        One optimiser step; returns its losses as tensors, which are read rarely, so that a GPU is
        not made to wait.
    steps
        How many.
    max_minutes
        Stop after this wall time; such a fit depends on the machine's speed.
    callback
        Called about 200 times with the mean losses.

    Returns
    -------
    int
        Steps done.

    Raises
    ------
    TrainingError
        When a loss is no finite number any more.
    """
    began_s = time.monotonic()
    every = max(1, steps // REPORTS)
    sums: dict[str, Tensor] = {}
    since = 0
    for done in range(1, steps + 1):
        for name, loss in step().items():
            sums[name] = sums[name] + loss if name in sums else loss
        since += 1
        seconds = time.monotonic() - began_s
        late = max_minutes is not None and seconds > 60.0 * max_minutes
        if done % every == 0 or done == steps or late:
            losses = {name: float(total) / since for name, total in sums.items()}
            _check_finite(losses, done)
            if callback is not None:
                callback(Progress(step=done, steps=steps, losses=losses, seconds=seconds))
            sums, since = {}, 0
        if late:
            return done
    return steps


def _check_finite(losses: Mapping[str, float], step: int) -> None:
    wild = [name for name, value in losses.items() if not math.isfinite(value)]
    if wild:
        raise TrainingError(
            f"The {wild[0]} is no finite number at step {step}. Lower the learning rate (for "
            "example halve it), or look for extreme values in the table's numeric columns."
        )


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Set torch's processor threads, and put them back: their number changes the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def find_device(device: str) -> torch.device:
    """The torch device that ``auto``, ``cpu``, ``cuda`` or ``cuda:<i>`` names.

    Raises
    ------
    OrderError
        When it does not exist on this machine.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise OrderError(f"device: expected auto, cpu, cuda or cuda:<number>, got {device!r}.")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise OrderError(
                f"device: {device} was asked for, but torch sees {count} GPUs here; use "
                "device=auto, or install a torch build for this machine's GPU."
            )
    return torch.device(device)
