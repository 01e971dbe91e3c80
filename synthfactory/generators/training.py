"""The one training loop of all neural generators.

A trainer knows how to make a step; the loop knows when to stop, what to write down, and what to do
when a loss is no number any more.

When a fit has several ranks, each runs this loop.  What the loop decides follows from the number of
the step, from losses averaged over the ranks, or from what rank 0 sees; so all decide the same.
"""

from __future__ import annotations

import abc
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from synthfactory import interruption
from synthfactory.artifacts import write_atomic
from synthfactory.errors import Interrupted, OrderError, TrainingError
from synthfactory.generators.base import Callback, Progress
from synthfactory.generators.peers import ALONE, Peers
from synthfactory.tables.encode import Mapper

REPORTS = 200
SNAPSHOTS = 20
CHECKS = 25
MAX_ROLLBACKS = 5
SLOWER = 0.5
WARM_UPS = 2
STEPS_BETWEEN_CLOCKS = 32
# A checkpoint may cost this part of the time, but none is older than a minute.
CHECKPOINT_SHARE = 0.01
CHECKPOINT_S = (5.0, 60.0)


class Trainer(abc.ABC):
    """Networks, optimisers and a step, for K members of one shape.

    Attributes
    ----------
    losses
        **Shape** (n_losses, K): sums since the last report, on the device, so that a step never
        waits for a number.
    block
        Steps that `prepare` makes ready at once.
    own_names
        How the names of those `tensors` begin that every rank has of its own: streams of chance and
        losses.  All others are equal.
    """

    loss_names: ClassVar[tuple[str, ...]]
    own_names: ClassVar[tuple[str, ...]] = ("noise/", "report/")
    losses: Tensor
    block: int = 1

    @abc.abstractmethod
    def prepare(self, step: int) -> None:
        """Draw the chance of the next ``block`` steps; ``step`` are done."""

    @abc.abstractmethod
    def step(self, slot: int) -> None:
        """Step number ``slot`` of the block; it waits for nothing and draws nothing."""

    @property
    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name; not a copy."""

    @abc.abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set what `tensors` gave."""

    @abc.abstractmethod
    def slow_down(self, factor: float) -> None:
        """Multiply the learning rates."""

    @property
    @abc.abstractmethod
    def learnt(self) -> dict[str, Tensor]:
        """The part of `tensors` that the finished model is made of."""

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of `tensors`."""
        return {name: value.clone() for name, value in self.tensors.items()}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a fit is kept while it goes on.

    Parameters
    ----------
    path
        The file; it holds weights, optimiser, streams of chance and loss curve, and no row.
    key
        Names the fit; a file of another key is not continued.
    every_s
        Seconds between two writes, the most that an interruption costs; None for as few as cost
        a hundredth of the time, from 5 to 60.
    """

    path: Path
    key: str
    every_s: float | None = None

    def interval_s(self, cost_s: float) -> float:
        """Seconds until the next write, when one takes ``cost_s``."""
        least_s, most_s = CHECKPOINT_S
        if self.every_s is not None:
            return self.every_s
        return min(most_s, max(least_s, cost_s / CHECKPOINT_SHARE))


@dataclass(kw_only=True)
class Course:
    """How far a fit is; what a checkpoint holds beside tensors.

    Parameters
    ----------
    step
        Steps done.
    seconds
        Wall time spent, over all attempts.
    since
        Steps since the last report.
    reports
        The loss curve so far.
    rollbacks
        How often the fit went back because a loss was no number.
    failed
        Members of an ensemble whose loss was no number.
    best_score, best_step
        The highest score on held-out rows, and when it was reached.
    """

    step: int = 0
    seconds: float = 0.0
    since: int = 0
    reports: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rollbacks: int = 0
    failed: list[int] = dataclasses.field(default_factory=list)
    best_score: float = -math.inf
    best_step: int = 0


def train(
    trainer: Trainer,
    *,
    steps: int,
    max_minutes: float | None = None,
    callback: Callback | None = None,
    checkpoint: Checkpoint | None = None,
    judge: Callable[[], float] | None = None,
    patience: int = 0,
    aside: dict[int, dict[str, Tensor]] | None = None,
    peers: Peers = ALONE,
) -> Course:
    """Make steps until the planned number is reached, the time is up, or nothing improves.

    Parameters
    ----------
    trainer
        Makes them.
    steps
        How many.
    max_minutes
        Stop after this wall time; such a fit depends on the machine's speed.
    callback
        Called about 200 times with the mean losses; after a restart first with those of before.
    checkpoint
        Where to keep the fit; what is there already is continued, bitwise on a processor.
    judge
        The score of what is learnt so far, on held-out rows; asked about 25 times.
    patience
        Stop after this many judgements without improvement, and go back to the best.
    aside
        By step, what is learnt when that step is reached is put there: a member of an ensemble may
        end before others.  A step that isn't reached keeps what it had.
    peers
        The ranks that train the same weights; each calls this function with equal arguments.  Rank
        0 reads the clock, judges, and writes the checkpoint.

    Returns
    -------
    Course
        How it went.

    Raises
    ------
    TrainingError
        When a loss is no finite number even after five returns at ever lower learning rates.
    Interrupted
        When the process is asked to stop and there is a checkpoint, which was written then.
    """
    aside = {} if aside is None else aside
    course, best = _resume(trainer, checkpoint, aside, peers)
    if callback is not None:
        for report in course.reports:
            callback(Progress(**{**report, "steps": steps}))
    run = Runner(trainer, peers)
    before_s = course.seconds - time.monotonic()
    every = _multiple(steps // REPORTS, trainer.block)
    check = _multiple(steps // CHECKS, every)
    keep = _multiple(steps // SNAPSHOTS, every)
    alone = trainer.losses.shape[1] == 1
    good = (
        dataclasses.replace(course, reports=list(course.reports)),
        trainer.snapshot() if alone else {},
    )
    written_s = time.monotonic()
    interval_s = 0.0 if checkpoint is None else checkpoint.interval_s(0.0)
    while course.step < steps:
        left = trainer.block - course.step % trainer.block
        count = min(left, steps - course.step, every - course.step % every)
        count = min([count, *(stop - course.step for stop in aside if stop > course.step)])
        run(course.step, count)
        course.step += count
        course.since += count
        course.seconds = before_s + time.monotonic()
        told = course.step % every == 0 or course.step == steps
        late = due = asked = False
        if told or peers.size == 1 or course.step % STEPS_BETWEEN_CLOCKS < count:
            late, due, asked = _look_at_clock(
                course, max_minutes, checkpoint, written_s + interval_s, peers
            )
        ended = course.step == steps or late
        if told or ended:
            wild = _report(trainer, course, steps, callback, peers)
            if wild and not alone:
                break
            if wild:
                course = _roll_back(trainer, good, course, wild[0])
                run = Runner(trainer, peers)
                continue
            peers.check_equal(trainer.learnt.values(), course.step)
            if alone and course.step % keep == 0:
                good = (
                    dataclasses.replace(course, reports=list(course.reports)),
                    trainer.snapshot(),
                )
        if course.step in aside:
            aside[course.step] = {name: value.clone() for name, value in trainer.learnt.items()}
        if judge is not None and patience and (course.step % check == 0 or ended):
            (score,) = peers.of_first(lambda: [judge()])
            if score > course.best_score:
                course.best_score, course.best_step = score, course.step
                best = {name: value.clone() for name, value in trainer.learnt.items()}
            ended = ended or course.step - course.best_step >= patience * check
        # Within a block the chance of its other steps would be lost.
        whole = course.step % trainer.block == 0
        if checkpoint and (due or asked) and whole and not ended:
            began_s = time.monotonic()
            _write(checkpoint, trainer, course, best, aside, peers)
            written_s = time.monotonic()
            interval_s = checkpoint.interval_s(written_s - began_s)
            if asked:
                raise Interrupted(f"The fit was asked to stop; it goes on from step {course.step}.")
        if ended:
            break
    if best:
        trainer.restore({**trainer.tensors, **best})
    return course


Capture = Callable[[Callable[[], None]], Callable[[], None]]


class Runner:
    """Makes the steps of a block: one by one, or recorded once and replayed as a CUDA graph.

    A step of a small network launches hundreds of tiny kernels; on a GPU launching takes longer
    than computing.  A graph of a whole block is launched at once.  ROCm takes the plain path, and
    so do several ranks, whose steps exchange gradients.

    Parameters
    ----------
    capture
        Records a function once and gives what replays it; None for `cuda_graph` where it works.
    """

    def __init__(
        self, trainer: Trainer, peers: Peers = ALONE, capture: Capture | None = None
    ) -> None:
        self._trainer = trainer
        self._replay: Callable[[], None] | None = None
        on_gpu = trainer.losses.is_cuda and torch.version.hip is None
        # Kernels are launched on the current device, whichever their tensors are on.
        self._device = trainer.losses.device if on_gpu and torch.version.cuda is not None else None
        if capture is None and on_gpu and peers.size == 1:
            capture = functools.partial(cuda_graph, device=trainer.losses.device)
        self._capture = capture

    def __call__(self, done: int, count: int) -> None:
        """``count`` steps after ``done`` steps, within one block; blocks begin at its multiples."""
        with contextlib.nullcontext() if self._device is None else torch.cuda.device(self._device):
            self._make(done, count)

    def _make(self, done: int, count: int) -> None:
        slot = done % self._trainer.block
        whole = count == self._trainer.block
        if whole and self._capture is not None and self._replay is None:
            self._replay = self._recorded(done, self._capture)
        if slot == 0:
            self._trainer.prepare(done)
        if whole and self._replay is not None:
            self._replay()
        else:
            self._steps(slot, count)

    def _steps(self, slot: int, count: int) -> None:
        for number in range(slot, slot + count):
            self._trainer.step(number)

    def _recorded(self, done: int, capture: Capture) -> Callable[[], None]:
        """The replay of a block; what recording it does to the trainer is undone."""
        kept = self._trainer.snapshot()
        self._trainer.prepare(done)
        replay = capture(lambda: self._steps(0, self._trainer.block))
        self._trainer.restore(kept)
        return replay


def cuda_graph(body: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A function as a CUDA graph, after it ran a few times on a stream of its own.

    Streams belong to the current device: a graph recorded on another one's would be empty.
    """
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                body()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=aside):
            body()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay


def _multiple(number: int, unit: int) -> int:
    """The least positive multiple of ``unit`` that is at least ``number``."""
    return max(1, -(-number // unit)) * unit


def _look_at_clock(
    course: Course,
    max_minutes: float | None,
    checkpoint: Checkpoint | None,
    due_s: float,
    peers: Peers,
) -> tuple[bool, bool, bool]:
    """Whether the time is up, whether a checkpoint is due, and whether to stop after it."""
    if max_minutes is None and checkpoint is None:
        return False, False, False

    def look() -> Sequence[bool]:
        late = max_minutes is not None and course.seconds > 60.0 * max_minutes
        due = checkpoint is not None and time.monotonic() >= due_s
        return late, due, checkpoint is not None and interruption.asked()

    late, due, asked = peers.of_first(look)
    return bool(late), bool(due), bool(asked)


def _report(
    trainer: Trainer, course: Course, steps: int, callback: Callback | None, peers: Peers
) -> list[str]:
    """Read the losses, tell them, and return the names of those that are no numbers.

    In an ensemble the members concerned are noted, and the means are over the others.
    """
    means = (trainer.losses / course.since).double().cpu()
    peers.average(means)
    trainer.losses.zero_()
    course.since = 0
    finite = torch.isfinite(means)
    course.failed = sorted({*course.failed, *torch.nonzero(~finite.all(dim=0)).view(-1).tolist()})
    alive = [place for place in range(means.shape[1]) if place not in course.failed]
    if not alive:
        rows = zip(trainer.loss_names, finite.tolist(), strict=True)
        wild = [name for name, row in rows if not row[0]]
        return wild or list(trainer.loss_names[:1])
    losses = dict(zip(trainer.loss_names, means[:, alive].mean(dim=1).tolist(), strict=True))
    report = {"step": course.step, "losses": losses, "seconds": course.seconds}
    course.reports.append(report)
    if callback is not None:
        callback(Progress(step=course.step, steps=steps, losses=losses, seconds=course.seconds))
    return []


def _roll_back(
    trainer: Trainer, good: tuple[Course, dict[str, Tensor]], course: Course, loss: str
) -> Course:
    """Go back to the last state that was good, at half the learning rates."""
    if course.rollbacks >= MAX_ROLLBACKS:
        _give_up([loss], course.step)
    trainer.restore(good[1])
    # That state may be of a rate that was lowered already.
    trainer.slow_down(SLOWER ** (course.rollbacks + 1 - good[0].rollbacks))
    return dataclasses.replace(
        good[0],
        reports=list(good[0].reports),
        seconds=course.seconds,
        rollbacks=course.rollbacks + 1,
        failed=[],
    )


def _give_up(losses: list[str], step: int) -> None:
    raise TrainingError(
        f"The {losses[0]} is no finite number at step {step}, even at ever lower learning rates. "
        "Lower the learning rate further, or look for extreme values in the table's numeric "
        "columns."
    )


def _resume(
    trainer: Trainer,
    checkpoint: Checkpoint | None,
    aside: dict[int, dict[str, Tensor]],
    peers: Peers,
) -> tuple[Course, dict[str, Tensor]]:
    """What the checkpoint holds, if it is of this fit and every rank can read it."""
    found = None if checkpoint is None else _read(checkpoint)
    if not peers.all(found is not None) or found is None:
        return Course(), {}
    course, tensors = found
    trainer.restore({**part_of(tensors, "now."), **part_of(tensors, f"rank {peers.rank}.")})
    device = trainer.losses.device
    for step in aside:
        if step <= course.step:
            learnt = part_of(tensors, f"step {step}.")
            aside[step] = {name: value.to(device) for name, value in learnt.items()}
    return course, {name: value.to(device) for name, value in part_of(tensors, "best.").items()}


def _read(checkpoint: Checkpoint) -> tuple[Course, dict[str, Tensor]] | None:
    """The content of the file; None when there is none, or one of another fit."""
    if not checkpoint.path.exists():
        return None
    try:
        with safe_open(checkpoint.path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != checkpoint.key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError):
        return None
    return Course(**json.loads(metadata["course"])), tensors


def step_of(path: Path) -> int:
    """The step that a checkpoint has reached; 0 without one that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads((file.metadata() or {})["course"])["step"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0


def part_of(tensors: Mapping[str, Tensor], of: str) -> dict[str, Tensor]:
    """Those whose names begin with ``of``, without it."""
    return {name.removeprefix(of): value for name, value in tensors.items() if name.startswith(of)}


def _write(
    checkpoint: Checkpoint,
    trainer: Trainer,
    course: Course,
    best: Mapping[str, Tensor],
    aside: Mapping[int, Mapping[str, Tensor]],
    peers: Peers,
) -> None:
    """Write one file for all ranks: what they share, as rank 0 has it, and what each has alone."""
    now = trainer.tensors
    own = {name: value for name, value in now.items() if name.startswith(trainer.own_names)}
    ranks = peers.gather(own)
    if peers.rank:
        return
    tensors = {f"now.{name}": value for name, value in now.items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for step, learnt in aside.items():
        tensors |= {f"step {step}.{name}": value for name, value in learnt.items()}
    for rank, part in enumerate(ranks[1:], start=1):
        tensors |= {f"rank {rank}.{name}": value for name, value in part.items()}
    content = safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
        metadata={"key": checkpoint.key, "course": json.dumps(dataclasses.asdict(course))},
    )
    write_atomic(checkpoint.path, content)


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Set torch's processor threads, and put them back: their number changes the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def mapping_in_threads(threads: int) -> Iterator[Mapper]:
    """`map` in so many threads, each of which computes alone; torch's number is put back."""
    if threads == 1:
        yield map
        return
    with (
        using_threads(1),
        concurrent.futures.ThreadPoolExecutor(
            threads, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
    ):
        yield pool.map


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
