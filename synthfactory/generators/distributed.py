"""A fit of one model by several processes of one machine, for tables too large for one GPU.

Each process, a *rank*, holds its share of the encoded rows on a GPU of its own and takes its share
of every batch; what the ranks tell each other is in `synthfactory.generators.peers`.  The starting
process keeps all rows in its memory, hands them out, listens, and finishes the model: marginals are
calibrated to all rows.  Modes and levels are those of the whole table on every rank; conditions are
drawn by its frequencies among the levels that a rank's own rows have.  Batch normalisation looks at
a rank's own rows, as in ``DistributedDataParallel``; a judgement (``patience``) is made by rank 0,
with the marginals of its rows, a random sample of all.

Ranks are started by the fit itself, so under SLURM one task per node with as many GPUs as ranks is
right (``--ntasks=1 --gpus-per-task=4``), and no launcher such as ``torchrun``.  They are plain
subprocesses: a Dask worker is a daemon, which `multiprocessing` forbids to have children.  Rows
travel through a pipe, never through a file.  Several ranks take the plain path: steps are not
recorded as CUDA graphs.

A rank ends when the process that started it does, by the end of its pipe; that process ends the fit
when a rank ends early, by the same sign.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from synthfactory.errors import OrderError, SynthfactoryError, TrainingError
from synthfactory.generators.base import Callback, Progress
from synthfactory.generators.drawing import Deck
from synthfactory.generators.holdout import Judge
from synthfactory.generators.peers import HOST, LostPeersError, joined
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.training import Checkpoint, find_device, using_threads
from synthfactory.seeds import numpy_stream

if TYPE_CHECKING:
    from synthfactory.generators.neural import NeuralGenerator

SERVE = "from synthfactory.generators.distributed import serve; serve({handle}, {rank}, {size})"
# Ranks that lost a peer tell so before the one that was lost is found to have ended.
LAST_WORDS_S = 3.0
GOODBYE_S = 10.0


def devices_of(device: str, ranks: int) -> list[torch.device]:
    """The device of each rank: GPUs in their order, or the processor for all.

    Raises
    ------
    OrderError
        When there are fewer GPUs than ranks, or one of them was named.
    """
    place = find_device(device)
    if ranks == 1 or place.type == "cpu":
        return [place] * ranks
    if place.index is not None:
        raise OrderError(
            f"device: {device} names one GPU, but ranks={ranks} takes as many; use device=cuda."
        )
    count = torch.cuda.device_count()
    if ranks > count:
        raise OrderError(
            f"generator.ranks: expected at most one for each of the {count} GPUs that torch sees "
            f"here, got {ranks}; ask for more GPUs, or set ranks={count}."
        )
    return [torch.device("cuda", rank) for rank in range(ranks)]


def shares_of(n_rows: int, ranks: int, *, seed: int) -> list[npt.NDArray[np.int64]]:
    """The row numbers of each rank: every row is at one, and their counts differ by at most one."""
    order = numpy_stream(seed, "rows of ranks").permutation(n_rows)
    return [order[rank::ranks] for rank in range(ranks)]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one rank is to do; it goes through a pipe, so rows are arrays.

    Parameters
    ----------
    spec
        The hyperparameters of the whole fit.
    representation
        Of the whole table.
    scalars_BM, codes_BS
        The rank's rows.
    steps
        Steps of the fit.
    threads
        Processor threads of this rank.
    port
        Where the ranks find each other.
    """

    spec: NeuralGenerator
    representation: Representation
    scalars_BM: npt.NDArray[np.float32]
    codes_BS: npt.NDArray[np.signedinteger[Any]]
    seed: int
    steps: int
    device: torch.device
    threads: int
    port: int
    checkpoint: Checkpoint | None
    judge: Judge | None


def train_on_ranks(
    spec: NeuralGenerator,
    representation: Representation,
    rows: Rows,
    *,
    seed: int,
    devices: Sequence[torch.device],
    threads: int,
    callback: Callback | None,
    checkpoint: Checkpoint | None,
    judge: Judge | None,
) -> Mapping[str, Tensor]:
    """Train one model with a process for each device.

    Parameters
    ----------
    spec
        Its ``ranks`` is the number of devices.
    threads
        Processor threads of all ranks together.
    callback
        Called in this process.
    checkpoint
        Written by rank 0, for all ranks.

    Returns
    -------
    mapping of str to Tensor
        What was learnt (`Trainer.learnt`), on the processor.

    Raises
    ------
    TrainingError
        When the losses are no numbers, or a rank ends before the fit does.
    """
    size = len(devices)
    # Codes travel, and lie on a device, as small integers.
    kind = torch.int16 if int(rows.codes_BS.max()) < 2**15 else torch.int32
    with _meeting_point() as port, _started(size) as processes:
        for process, share in zip(processes, shares_of(len(rows), size, seed=seed), strict=True):
            picked = torch.from_numpy(share)
            process.hand(
                Work(
                    spec=spec,
                    representation=representation,
                    scalars_BM=rows.scalars_BM[picked].numpy(),
                    codes_BS=rows.codes_BS[picked].to(kind).numpy(),
                    seed=seed,
                    steps=spec.steps(len(rows)),
                    device=devices[process.rank],
                    threads=max(1, threads // size),
                    port=port,
                    checkpoint=checkpoint,
                    judge=judge,
                )
            )
        return safetensors.torch.load(_listen(processes, callback))


@contextlib.contextmanager
def _meeting_point() -> Iterator[int]:
    """The port of a store at which the ranks find each other, open to this machine only."""
    listener = socket.socket()
    listener.bind((HOST, 0))
    listener.listen()
    port = int(listener.getsockname()[1])
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
        HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    yield port
    del store


@dataclass(frozen=True, kw_only=True)
class _Process:
    """A rank, as the process that started it sees it."""

    rank: int
    size: int
    popen: subprocess.Popen[bytes]
    pipe: Connection

    @classmethod
    def start(cls, rank: int, size: int) -> _Process:
        ours, theirs = Pipe()
        environment = {
            # Ranks talk within this machine; the interface of its name may be closed or missing.
            "GLOO_SOCKET_IFNAME": "lo",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        handle = theirs.fileno()
        serve = SERVE.format(handle=handle, rank=rank, size=size)
        popen = subprocess.Popen([sys.executable, "-c", serve], pass_fds=[handle], env=environment)
        theirs.close()
        return cls(rank=rank, size=size, popen=popen, pipe=ours)

    def hand(self, work: Work) -> None:
        """Send the work; a rank that has ended already is noticed in `hear`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL))

    def hear(self) -> Progress | bytes | Exception:
        """The next word: how far it is, its result, or why there will be none."""
        try:
            word: Progress | bytes | Exception = self.pipe.recv()
        except (EOFError, OSError):
            return self._ended()
        return word

    def _ended(self) -> TrainingError:
        code = self.popen.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return TrainingError(
            f"Rank {self.rank} of {self.size} ended {how} before the model was learnt. Its last "
            "lines of output may say why; memory that ran out is the usual reason: ask for more. "
            "Where a checkpoint is kept, the same fit goes on from there."
        )


@contextlib.contextmanager
def _started(size: int) -> Iterator[list[_Process]]:
    """The processes of all ranks; none of them outlives the ``with`` block."""
    processes: list[_Process] = []
    try:
        for rank in range(size):
            processes.append(_Process.start(rank, size))
        yield processes
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(GOODBYE_S)
    finally:
        for process in processes:
            process.popen.kill()
            process.popen.wait()
            process.pipe.close()


def _listen(processes: Sequence[_Process], callback: Callback | None) -> bytes:
    """Wait for the result, which rank 0 has, and tell the progress meanwhile."""
    result = b""
    errors: list[Exception] = []
    at_work = {process.pipe: process for process in processes}
    until: float | None = None
    while at_work:
        ready = wait(list(at_work), None if until is None else max(0.0, until - time.monotonic()))
        if not ready:
            break
        for pipe in ready:
            assert isinstance(pipe, Connection)
            word = at_work[pipe].hear()
            if isinstance(word, Progress):
                if callback is not None and not errors:
                    callback(word)
                continue
            del at_work[pipe]
            if isinstance(word, bytes):
                result = word or result
            else:
                errors.append(word)
                until = until or time.monotonic() + LAST_WORDS_S
    if errors:
        # The first that is no mere consequence of another.
        raise min(errors, key=lambda error: isinstance(error, LostPeersError))
    return result


def serve(handle: int, rank: int, size: int) -> None:
    """The life of a rank's process: read the work from a pipe, do it, and tell how it went."""
    # Ctrl-C reaches the whole group of processes; the one that started us decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Connection(handle)
    try:
        work: Work = pickle.loads(pipe.recv_bytes())
        threading.Thread(target=_end_with_starter, args=(pipe,), daemon=True).start()
        pipe.send(do(work, rank, size, pipe.send))
    except SynthfactoryError as error:
        pipe.send(error)
        raise SystemExit(1) from None
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        pipe.send(TrainingError(f"Rank {rank} of {size} failed: {what}"))
        raise


def _end_with_starter(pipe: Connection) -> None:
    """End this process when the other end of the pipe is closed: nothing more is sent to it."""
    pipe.poll(None)
    os._exit(1)


def do(work: Work, rank: int, size: int, tell: Callback) -> bytes:
    """Train as one of the ranks.

    Returns
    -------
    bytes
        What was learnt, as safetensors, of rank 0; nothing of the others.
    """
    spec, device = work.spec, work.device
    own = replace(spec, batch_size=spec.batch_size // size, ranks=1)
    rows = Rows(
        scalars_BM=torch.from_numpy(work.scalars_BM), codes_BS=torch.from_numpy(work.codes_BS)
    )
    with (
        using_threads(work.threads),
        using_precision(spec.precision, device),
        joined(rank, size, work.port, device) as peers,
    ):
        deck = Deck([rows], device)
        trainer = own._trainer([work.representation], deck, [work.seed], device, peers)
        callback = tell if rank == 0 else None
        own._train(trainer, work.steps, callback, work.checkpoint, work.judge, peers)
        learnt = {name: value.cpu() for name, value in trainer.learnt.items()}
    return safetensors.torch.save(learnt) if rank == 0 else b""
