"""What the ranks of one fit tell each other; a fit of one process tells nobody.

A fit over several ranks is synchronous data-parallel stochastic gradient descent, as PyTorch's
``DistributedDataParallel`` does it (Li et al. 2020, arXiv 2006.15704, section 2): each rank
computes the gradient of its own rows of the batch, and all ranks make the same optimiser step with
the average of the gradients, so their weights stay equal.  That wrapper itself hangs on automatic
differentiation, which this engine does not use: derivatives are written out, and all gradients of
a network lie in one piece of memory (`synthfactory.generators.flat`), so that one reduction per
optimiser step does the same.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from synthfactory.errors import TrainingError
from synthfactory.seeds import derive

HOST = "127.0.0.1"
# The longest wait for another rank: one that judges, or writes a checkpoint.  A rank that ends is
# noticed at once, by the process that started it.
TIMEOUT = datetime.timedelta(minutes=30)


class LostPeersError(TrainingError):
    """An exchange failed: the consequence of what happened to another rank."""


@dataclass(frozen=True, kw_only=True)
class Peers:
    """A rank's place among the ranks of a fit; by default alone, where every exchange is nothing.

    Parameters
    ----------
    rank, size
        Which of how many.
    """

    rank: int = 0
    size: int = 1

    def streams(self, seeds: Sequence[int]) -> Sequence[int]:
        """The members' seeds, as those of this rank's own streams of chance."""
        if self.size == 1:
            return seeds
        return [derive(seed, "rank", self.rank) for seed in seeds]

    def average(self, values: Tensor) -> None:
        """Replace numbers by their mean over the ranks, the same bits on all of them."""
        if self.size > 1:
            with _exchange(self):
                torch.distributed.all_reduce(values)
            values.div_(self.size)

    def of_first(self, ask: Callable[[], Sequence[float]]) -> Sequence[float]:
        """What ``ask`` gives at rank 0, told to all; the others do not ask.

        Clocks and judgements differ between ranks, decisions must not.
        """
        if self.size == 1:
            return ask()
        told: list[Any] = [ask() if self.rank == 0 else None]
        with _exchange(self):
            torch.distributed.broadcast_object_list(told)
        answer: Sequence[float] = told[0]
        return answer

    def all(self, fact: bool) -> bool:
        """Whether something is so at every rank."""
        if self.size == 1:
            return fact
        return all(self._of_each(fact))

    def gather(self, own: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
        """At rank 0 what every rank has, by rank; at the others nothing."""
        if self.size == 1:
            return [own]
        mine = {name: value.detach().cpu() for name, value in own.items()}
        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with _exchange(self):
            torch.distributed.gather_object(mine, gathered)
        return gathered or []

    def check_equal(self, tensors: Iterable[Tensor], step: int) -> None:
        """Make sure that what the ranks have learnt is the same to the bit.

        Raises
        ------
        TrainingError
            When it is not: averages of gradients at different weights mean nothing.
        """
        if self.size == 1:
            return
        sums = [int(values.view(torch.int32).sum(dtype=torch.int64)) for values in tensors]
        if len({tuple(each) for each in self._of_each(sums)}) > 1:
            raise TrainingError(
                f"The {self.size} ranks' weights are no longer equal at step {step}, which they "
                "are on processors or GPUs of one kind: fit on one kind, or with ranks=1."
            )

    def _of_each(self, own: Any) -> list[Any]:
        every: list[Any] = [None] * self.size
        with _exchange(self):
            torch.distributed.all_gather_object(every, own)
        return every


ALONE = Peers()


@contextlib.contextmanager
def _exchange(peers: Peers) -> Iterator[None]:
    try:
        yield
    # torch raises RuntimeError and its children for every broken connection and time limit.
    except RuntimeError as error:
        raise LostPeersError(
            f"Rank {peers.rank} of {peers.size} lost its peers: {error}"
        ) from error


@contextlib.contextmanager
def joined(rank: int, size: int, port: int, device: torch.device) -> Iterator[Peers]:
    """The peers of this process, which is one of ``size``.

    Parameters
    ----------
    port
        Where the starting process holds the store by which the ranks find each other.
    device
        Gradients go from GPU to GPU by NCCL; everything else by Gloo.
    """
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    peers = Peers(rank=rank, size=size)
    with _exchange(peers):
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            HOST, port, is_master=False, timeout=TIMEOUT
        )
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT
        )
    yield peers
    # Not after an error: it could wait for a rank that is gone, and the process ends anyway.
    torch.distributed.destroy_process_group()
