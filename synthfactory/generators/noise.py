"""The chance of a fit: every member of an ensemble draws from streams of its own.

Numbers are drawn in blocks outside the step and read inside it, so that a step itself draws
nothing: it can be recorded as a CUDA graph, and a member sees the same numbers whoever trains
beside it.

On a processor the bits are AES's in counter mode, for which it has instructions, and become numbers
by vectorised arithmetic: torch draws one after the other there, which takes several times as long.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from synthfactory.seeds import derive, torch_stream

BLOCK = 32
BLOCK_BYTES = 2**30
BLOCK_OF_BITS = 16


def block_of(numbers: int, device: torch.device) -> int:
    """Steps whose chance is drawn at once: one on a processor, many on a GPU, within a gibibyte."""
    if device.type == "cpu":
        return 1
    return max(1, min(BLOCK, BLOCK_BYTES // (4 * max(1, numbers))))


class BitStream:
    """Numbers from raw bits for the processor: AES in counter mode, keyed by the seed."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(16, "little")
        self._go_to(0)

    def _go_to(self, block: int) -> None:
        self._block = block
        mode = modes.CTR(block.to_bytes(16, "big"))
        self._cipher = Cipher(algorithms.AES(self._key), mode).encryptor()

    def bits(self, count: int, kind: torch.dtype) -> Tensor:
        """``count`` whole numbers of random bits, from the next whole blocks."""
        n_blocks = -(-count * kind.itemsize // BLOCK_OF_BITS)
        self._block += n_blocks
        n_bytes = n_blocks * BLOCK_OF_BITS
        # The cipher may ask for room for a block more than it writes.
        bits = torch.empty(n_bytes + BLOCK_OF_BITS, dtype=torch.uint8)
        self._cipher.update_into(_zeros(n_bytes), bits.numpy().data)
        return bits.view(kind)[:count]

    def normal(self, count: int) -> Tensor:
        """Standard normal numbers, each one of `_quantiles`."""
        from synthfactory.generators._kernels import arithmetic

        numbers = torch.empty(count)
        places = self.bits(count, torch.uint16)
        arithmetic.look_up(places.numpy(), _quantiles().numpy(), numbers.numpy())
        return numbers

    def uniform(self, count: int) -> Tensor:
        """Multiples of 2^-24 from 0 up to but not including 1."""
        from synthfactory.generators._kernels import arithmetic

        numbers = torch.empty(count)
        arithmetic.write_uniform(self.bits(count, torch.int32).numpy(), numbers.numpy())
        return numbers

    def keep(self, count: int, drop: float) -> Tensor:
        """0 with chance ``drop`` (in steps of 2^-16), else 1 / (1 - drop)."""
        from synthfactory.generators._kernels import arithmetic

        least, factor = round(drop * 2**16) - 2**15, np.float32(1.0 / (1.0 - drop))
        kept = torch.empty(count)
        bits = self.bits(count, torch.int16)
        arithmetic.write_kept(bits.numpy(), least, factor, kept.numpy())
        return kept

    def get_state(self) -> Tensor:
        """Where the stream stands."""
        return torch.tensor([self._block])

    def set_state(self, state: Tensor) -> None:
        """Set what `get_state` gave."""
        self._go_to(int(state[0]))


@functools.cache
def _quantiles() -> Tensor:
    """**Shape** (65536,): the normal distribution's quantiles at the odd multiples of 2^-17,
    stretched to a variance of 1.

    To look a number up takes a quarter of the time of computing it.
    """
    shares = (torch.arange(2**16, dtype=torch.float64) + 0.5) * 2.0**-16
    numbers = torch.special.ndtri(shares)
    quantiles: Tensor = numbers / numbers.square().mean().sqrt()
    return quantiles.float()


def normal(shape: Sequence[int], stream: torch.Generator) -> Tensor:
    """Standard normal numbers on the stream's device, for which it gives a seed."""
    if stream.device.type != "cpu":
        return torch.randn(*shape, generator=stream, device=stream.device)
    return _bits_of(stream).normal(math.prod(shape)).view(*shape)


def bits(shape: Sequence[int], stream: torch.Generator) -> Tensor:
    """Whole numbers of 32 random bits, for a processor; the stream gives their seed."""
    return _bits_of(stream).bits(math.prod(shape), torch.int32).view(*shape)


def _bits_of(stream: torch.Generator) -> BitStream:
    return BitStream(int(torch.randint(2**63 - 1, (), generator=stream)))


@functools.lru_cache(maxsize=16)
def _zeros(count: int) -> bytes:
    """What is encrypted."""
    return bytes(count)


class DeviceStream:
    """Numbers from torch's generator on a GPU."""

    def __init__(self, seed: int, purpose: str, device: torch.device) -> None:
        self._stream = torch_stream(seed, purpose, device=device)
        self._device = device

    def uniform(self, count: int) -> Tensor:
        """Numbers from 0 up to but not including 1."""
        return torch.rand(count, generator=self._stream, device=self._device)

    def fill(self, place: Tensor, sort: str, drop: float) -> None:
        """Numbers in place: standard "normal", "uniform" ones, or a "mask": 0 with chance ``drop``,
        else 1 / (1 - drop)."""
        if sort == "normal":
            place.normal_(generator=self._stream)
            return
        place.uniform_(generator=self._stream)
        if sort == "mask":
            place.ge_(drop).mul_(1.0 / (1.0 - drop))

    def get_state(self) -> Tensor:
        """Where the stream stands."""
        return self._stream.get_state()

    def set_state(self, state: Tensor) -> None:
        """Set what `get_state` gave."""
        self._stream.set_state(state.cpu())


def stream_of(seed: int, purpose: str, device: torch.device) -> BitStream | DeviceStream:
    """The stream of ``(seed, purpose)`` for a device."""
    if device.type == "cpu":
        return BitStream(derive(seed, purpose))
    return DeviceStream(seed, purpose, device)


class Noise:
    """Normal and uniform numbers and masks of dropout, of K members, for a block of steps.

    Parameters
    ----------
    seeds
        One per member.
    purpose
        Names the streams.
    n_normal, n_uniform, n_masked
        Numbers that one step of one member uses.
    drop
        Chance that a mask is 0.
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
        n_masked: int = 0,
        drop: float = 0.0,
        block: int = 1,
        places: Sequence[Tensor] | None = None,
    ) -> None:
        self.block = block
        self._places = None if places is None else [rows.to(device) for rows in places]
        self._drop = drop
        sizes = {"normal": n_normal, "uniform": n_uniform, "mask": n_masked}
        self._numbers = {
            sort: torch.full((len(seeds), block, size), 0.5, device=device)
            for sort, size in sizes.items()
            if size
        }
        self._streams = [
            {sort: stream_of(seed, f"{purpose}: {sort}", device) for sort in self._numbers}
            for seed in seeds
        ]

    def fill(self) -> None:
        """Draw the next block."""
        for member, streams in enumerate(self._streams):
            for sort, stream in streams.items():
                rows = self._numbers[sort][member]
                places = self._places[member] if sort == "uniform" and self._places else None
                count = rows.shape[1] if places is None else len(places)
                if places is not None:
                    rows[:, places] = stream.uniform(self.block * count).view(-1, count)
                elif isinstance(stream, DeviceStream):
                    stream.fill(rows, sort, self._drop)
                elif len(self._streams) > 1:
                    rows.copy_(self._drawn(stream, sort, self.block * count).view(-1, count))
                else:
                    drawn = self._drawn(stream, sort, self.block * count)
                    self._numbers[sort] = drawn.view(1, self.block, count)

    def _drawn(self, stream: BitStream, sort: str, count: int) -> Tensor:
        if sort == "mask":
            return stream.keep(count, self._drop)
        return stream.normal(count) if sort == "normal" else stream.uniform(count)

    @property
    def uniform(self) -> Tensor:
        """**Shape** (K, block, n_uniform): the block's uniform numbers."""
        return self._numbers["uniform"]

    def reader(self, slot: int) -> Reader:
        """Reads one step's numbers from the start."""
        return Reader({sort: numbers[:, slot] for sort, numbers in self._numbers.items()})

    @property
    def state(self) -> dict[str, Tensor]:
        """Where every stream stands."""
        return {
            f"{member}.{sort}": stream.get_state()
            for member, streams in enumerate(self._streams)
            for sort, stream in streams.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set what `state` gave."""
        for member, streams in enumerate(self._streams):
            for sort, stream in streams.items():
                stream.set_state(state[f"{member}.{sort}"].cpu())


class Reader:
    """Hands out a step's numbers piece by piece, **shape** (K, \\*shape) each."""

    def __init__(self, numbers: Mapping[str, Tensor]) -> None:
        self._numbers = numbers
        self._read = dict.fromkeys(numbers, 0)

    def _next(self, sort: str, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        start = self._read[sort]
        self._read[sort] = start + count
        return self._numbers[sort][:, start : start + count].view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """The next standard normal numbers."""
        return self._next("normal", shape)

    def uniform(self, *shape: int) -> Tensor:
        """The next uniform numbers, from 0 up to but not including 1."""
        return self._next("uniform", shape)

    def mask(self, *shape: int) -> Tensor:
        """The next factors of dropout."""
        return self._next("mask", shape)
