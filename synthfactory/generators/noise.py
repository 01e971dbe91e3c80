"""The chance of a fit: every member of an ensemble draws from streams of its own.

Numbers are drawn in blocks outside the step and read inside it, so that a step itself draws
nothing: it can be recorded as a CUDA graph, and a member sees the same numbers whoever trains
beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from synthfactory.seeds import torch_stream

BLOCK = 32
BLOCK_BYTES = 2**30


def block_of(numbers: int, device: torch.device) -> int:
    """Steps whose chance is drawn at once: one on a processor, many on a GPU, within a gibibyte."""
    if device.type == "cpu":
        return 1
    return max(1, min(BLOCK, BLOCK_BYTES // (4 * max(1, numbers))))


class Noise:
    """Standard normal and uniform numbers of K members for a block of steps.

    Parameters
    ----------
    seeds
        One per member.
    purpose
        Names the streams.
    n_normal, n_uniform
        Numbers that one step of one member uses.
    block
        Steps that are filled at once.
    places
        For each member where its uniform numbers go, when it uses fewer than ``n_uniform``; it
        draws as many as it uses, so that its numbers are those of its own, single fit.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        purpose: str,
        *,
        n_normal: int,
        n_uniform: int,
        device: torch.device,
        block: int = 1,
        places: Sequence[Tensor] | None = None,
    ) -> None:
        self.block = block
        self._places = places
        self._normals = torch.zeros(block, len(seeds), n_normal, device=device)
        self._uniforms = torch.full((block, len(seeds), n_uniform), 0.5, device=device)
        self._streams = [
            tuple(
                torch_stream(seed, f"{purpose}: {sort}", device=device)
                for sort in ("normal", "uniform")
            )
            for seed in seeds
        ]

    def fill(self) -> None:
        """Draw the next block."""
        for member, (normal, uniform) in enumerate(self._streams):
            self._normals[:, member] = self._draw(self._normals.shape[2], "normal_", normal)
            if self._places is None:
                self._uniforms[:, member] = self._draw(self._uniforms.shape[2], "uniform_", uniform)
            else:
                places = self._places[member]
                self._uniforms[:, member, places] = self._draw(len(places), "uniform_", uniform)

    def _draw(self, count: int, how: str, stream: torch.Generator) -> Tensor:
        drawn = torch.empty(self.block, count, device=self._normals.device)
        numbers: Tensor = getattr(drawn, how)(generator=stream)
        return numbers

    def reader(self, slot: int) -> Reader:
        """Reads one step's numbers from the start."""
        return Reader(self._normals[slot], self._uniforms[slot])

    @property
    def state(self) -> dict[str, Tensor]:
        """Where every stream stands."""
        return {
            f"{member}.{place}": stream.get_state()
            for member, streams in enumerate(self._streams)
            for place, stream in enumerate(streams)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set what `state` gave."""
        for member, streams in enumerate(self._streams):
            for place, stream in enumerate(streams):
                stream.set_state(state[f"{member}.{place}"].cpu())


class Reader:
    """Hands out a step's numbers piece by piece, **shape** (K, \\*shape) each."""

    def __init__(self, normals: Tensor, uniforms: Tensor) -> None:
        self._normals, self._uniforms = normals, uniforms
        self._normals_read = self._uniforms_read = 0

    def normal(self, *shape: int) -> Tensor:
        """The next standard normal numbers."""
        count = torch.Size(shape).numel()
        start, self._normals_read = self._normals_read, self._normals_read + count
        return self._normals[:, start : start + count].view(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """The next uniform numbers, from 0 up to but not including 1."""
        count = torch.Size(shape).numel()
        start, self._uniforms_read = self._uniforms_read, self._uniforms_read + count
        return self._uniforms[:, start : start + count].view(-1, *shape)
