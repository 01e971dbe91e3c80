"""Parameters of K networks of one shape in one piece of memory, and their optimiser.

One tensor holds every weight: an optimiser's step, a moving average, a checkpoint, a copy to go
back to and a reduction over processes are then one operation each, on a processor and on a GPU.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from synthfactory.generators.fusing import GpuLoops, Loops

ALIGNMENT = 16
EPSILON = 1e-8
# How often `Adam.tidy` looks, and the least that stays: of weights and means of gradients, and of
# squares, whose root is added to EPSILON.
TIDY_STEPS = 32
LEAST, LEAST_SQUARE = 1e-20, 1e-30


class Flat:
    """Named tensors of K members that lie one behind the other.

    Parameters
    ----------
    shapes
        The shape of each tensor of one member.
    n_members
        K; every view has it as its first dimension.
    dtype
        What `matrix` is in: float32, or bfloat16 for a copy of lower precision.

    Attributes
    ----------
    values, grads
        All weights, all gradients, **shape** (n,), float32.
    value, grad, matrix
        Views by name, **shape** (K, \\*shape).
    dtype
        What `matrix` is in.
    low
        All weights in that, when it is not float32.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        n_members: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shapes = dict(shapes)
        self.n_members = n_members
        self.dtype = dtype
        self._places: dict[str, tuple[int, int]] = {}
        total = 0
        for name, shape in shapes.items():
            length = n_members * math.prod(shape)
            self._places[name] = (total, length)
            total += -(-length // ALIGNMENT) * ALIGNMENT
        self.values = torch.zeros(total, device=device)
        self.grads = torch.zeros(total, device=device)
        self.value = self.views(self.values)
        self.grad = self.views(self.grads)
        self.low = None if dtype == torch.float32 else self.values.to(dtype)
        self.matrix = self.value if self.low is None else self.views(self.low)

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Another tensor of the same length, by name."""
        return {
            name: flat[start : start + length].view(self.n_members, *self.shapes[name])
            for name, (start, length) in self._places.items()
        }

    def refresh(self) -> None:
        """Bring the copy of lower precision up to date, where there is one."""
        if self.low is not None:
            self.low.copy_(self.values)

    def repeated(self, n_members: int) -> Flat:
        """The weights of the only member, read as those of so many; nothing is copied."""
        several = copy.copy(self)
        several.n_members = n_members
        several.value, several.matrix = (
            {name: view.expand(n_members, *view.shape[1:]) for name, view in views.items()}
            for views in (self.value, self.matrix)
        )
        return several

    def member(self, place: int, flat: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors of one member; of ``flat`` instead of the values when given."""
        views = self.value if flat is None else self.views(flat)
        return ((name, view[place]) for name, view in views.items())


class Average:
    """A moving average of all weights, which forgets the start: early iterates weigh less.

    Parameters
    ----------
    values
        The average itself, **shape** (n,).
    done
        The number of steps that are in it, on the device.
    most
        The most that it keeps of itself in a step.
    """

    def __init__(self, values: Tensor, done: Tensor, most: float) -> None:
        self.values, self.done, self.most = values, done, most

    def follow(self, values: Tensor) -> None:
        """One step towards these weights."""
        self.done += 1.0
        keep = torch.clamp_max((1.0 + self.done) / (10.0 + self.done), self.most)
        self.values.lerp_(values, 1.0 - keep)


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) over a `Flat`, in one fused operation.

    Parameters
    ----------
    flat
        The weights and their gradients.
    lr, betas, weight_decay
        As in the paper; the decay is added to the gradient.
    average
        Follows the weights.
    loops
        The device's.
    """

    def __init__(
        self,
        flat: Flat,
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float = 0.0,
        average: Average | None = None,
        loops: Loops | None = None,
    ) -> None:
        self._average = average
        self._update = loops.adversarial.update if isinstance(loops, GpuLoops) else None
        self._flat = flat
        self._lr, self._betas, self._weight_decay = lr, betas, weight_decay
        device = flat.values.device
        self._means = torch.zeros_like(flat.values)
        self._squares = torch.zeros_like(flat.values)
        self._steps = torch.zeros((), device=device)

    def step(self) -> None:
        """One update; the average and the copy of lower precision follow."""
        if self._update is not None:
            self._step_at_once(self._update)
            return
        adam(
            [self._flat.values],
            [self._flat.grads],
            [self._means],
            [self._squares],
            [],
            [self._steps],
            fused=True,
            capturable=self._steps.is_cuda,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self._lr,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        self._flat.refresh()
        if self._average is not None:
            self._average.follow(self._flat.values)

    def _step_at_once(self, update: Callable[..., None]) -> None:
        flat, average = self._flat, self._average
        self._steps += 1.0
        if average is not None:
            average.done += 1.0
        update(
            flat.values,
            flat.grads,
            self._means,
            self._squares,
            flat.low,
            self._steps,
            lr=self._lr,
            betas=self._betas,
            decay=self._weight_decay,
            epsilon=EPSILON,
            average=None if average is None else (average.values, average.done, average.most),
        )

    def tidy(self, step: int) -> None:
        """Before some steps, make 0 of what is next to nothing: weights of units that nobody uses,
        which decay again and again, and what is left of their gradients.

        Below float32's normal numbers a processor computes up to a hundred times slower: a few
        hundred such weights double the time of a long fit's matrix products.  A GPU does not.
        """
        if step % TIDY_STEPS or self._steps.is_cuda:
            return
        tiny = [(self._flat.values, LEAST), (self._means, LEAST), (self._squares, LEAST_SQUARE)]
        if self._average is not None:
            tiny.append((self._average.values, LEAST))
        for tensor, least in tiny:
            # Writes 0 for what is not beyond `least`; what is no number stays none.
            torch.ops.aten.hardshrink.out(tensor, least, out=tensor)
        self._flat.refresh()

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rate."""
        self._lr *= factor

    @property
    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, apart from the weights."""
        return {
            "means": self._means,
            "squares": self._squares,
            "steps": self._steps,
            "lr": torch.tensor(self._lr, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set what `state` gave, in place."""
        self._means.copy_(state["means"])
        self._squares.copy_(state["squares"])
        self._steps.copy_(state["steps"])
        self._lr = float(state["lr"])
