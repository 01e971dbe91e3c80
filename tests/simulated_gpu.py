"""A GPU that is simulated on the processor: what a real one would refuse or wait for is noticed.

Tensors on it say that they are on ``cuda:0``; their numbers lie, and are computed, in the
processor's memory.  What is known of every operation:

- a tensor of the processor beside one of the GPU is an error, as it is on a real one;
- what makes the host wait for the GPU (a number read, a copy from or to the host, an operation
  whose result's shape depends on numbers) is counted, and is an error while a graph is recorded;
- a graph is a list of operations with the memory that they read and write: what Python does beside
  them is not repeated when it is replayed, and drawing chance in one is an error.

What is not simulated: streams, speed, a GPU's rounding.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
# Their results' shapes depend on numbers, so that the host has to know them.
WAITING = ("nonzero", "masked_select", "unique", "equal", "is_nonzero", "repeat_interleave")
READING = ("_local_scalar_dense", "item")


class SimulatedError(RuntimeError):
    """What a real GPU, or the recording of a CUDA graph, does not allow."""


class GpuTensor(Tensor):
    """A tensor that says it is on the GPU, and its numbers on the processor.

    Below Python it is on torch's device without numbers, the only one beside the processor for
    which a build without CUDA has all that it takes.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("meta"),
        )
        made.held = inner
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The simulated one."""
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """As on a real one."""
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        """As on a real one."""
        return False

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_indices(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_indices(index), value)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"on the simulated GPU: {self.held!r}"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise SimulatedError(f"{function} on the simulated GPU, but it is not running.")


class GpuStream(torch.Generator):
    """A stream of chance that says it is the GPU's."""

    @property
    def device(self) -> torch.device:
        """Where it draws."""
        return GPU


@dataclass(frozen=True)
class _Operation:
    function: Any
    args: Any
    kwargs: Mapping[str, Any]
    results: tuple[Tensor, ...]


class SimulatedGpu(TorchDispatchMode):
    """The device, while it is entered.

    Attributes
    ----------
    launched
        How often each operation that launches a kernel was asked for.
    waits
        How often the host waited for the GPU, by operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launched: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.replays = 0
        self._tape: list[_Operation] | None = None

    def forget(self) -> None:
        """Count from 0 again."""
        self.launched.clear()
        self.waits.clear()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        leaves, _ = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        ours = [leaf for leaf in tensors if isinstance(leaf, GpuTensor)]
        asked = kwargs.get("device")
        there = bool(ours)
        if asked is not None:
            there = torch.device(asked).type == "cuda"
            kwargs["device"] = CPU
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if not ours and not there:
            return function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if name == "_to_copy" and ours and there and _is_same(ours[0], kwargs):
            return ours[0]
        self._watch(name, function, tensors, ours, there, kwargs)
        wrappers = {id(leaf.held): leaf for leaf in ours}
        inner_args, inner_kwargs = tree_map(_inside, (args, kwargs))
        results = function(*inner_args, **inner_kwargs)
        if asked is not None and ours and not there and isinstance(results, Tensor):
            return results.clone() if any(results is leaf.held for leaf in ours) else results
        if name == "copy_" and not isinstance(args[0], GpuTensor):
            return args[0]
        self._note(name, function, inner_args, inner_kwargs, results)
        return tree_map(functools.partial(_outside, wrappers=wrappers), results)

    def _watch(
        self,
        name: str,
        function: Any,
        tensors: Sequence[Tensor],
        ours: Sequence[Tensor],
        there: bool,
        kwargs: Mapping[str, Any],
    ) -> None:
        """Refuse what is not allowed, and count what the host waits for."""
        host = [leaf for leaf in tensors if not isinstance(leaf, GpuTensor)]
        if any(leaf.is_meta for leaf in host):
            raise SimulatedError(
                f"{function}: a tensor without numbers, made behind Python's back."
            )
        moves = name in ("copy_", "_to_copy") and (bool(host) or bool(ours) != there)
        if host and not moves and any(leaf.dim() for leaf in host):
            if name not in ("index", "index_put_", "_index_put_impl_"):
                raise SimulatedError(
                    f"{function}: expected all tensors on one device, got shapes "
                    f"{[tuple(leaf.shape) for leaf in host]} on the processor beside "
                    f"{[tuple(leaf.shape) for leaf in ours]} on the GPU."
                )
            moves = True
        masks = name.startswith(("index", "_index_put")) and any(
            leaf.dtype in (torch.bool, torch.uint8) for leaf in tensors[1:]
        )
        if moves or masks or name in WAITING or name in READING:
            self.waits[name] += 1
            if self._tape is not None:
                raise SimulatedError(f"{function} waits for the GPU while a graph is recorded.")
        if self._tape is not None and kwargs.get("generator") is not None:
            raise SimulatedError(f"{function} draws chance while a graph is recorded.")

    def _note(self, name: str, function: Any, args: Any, kwargs: Any, results: Any) -> None:
        found, _ = tree_flatten(results)
        made = tuple(leaf for leaf in found if isinstance(leaf, Tensor))
        if _is_view(function) or name in READING:
            return
        self.launched[name] += 1
        if self._tape is not None:
            self._tape.append(_Operation(function, args, kwargs, made))

    @property
    def submit(self) -> Callable[..., concurrent.futures.Future[Any]]:
        """`ThreadPoolExecutor.submit` whose threads, too, have this GPU."""
        original = concurrent.futures.ThreadPoolExecutor.submit

        def submit(pool: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            def there() -> Any:
                with self:
                    return function(*args, **kwargs)

            return original(pool, there)

        return submit

    def record(self, body: Callable[[], None], device: torch.device) -> Callable[[], None]:
        """As `training.cuda_graph`: run a function twice, record it, and give what replays it."""
        for _ in range(2):
            body()
        tape = self._tape = []
        try:
            body()
        finally:
            self._tape = None

        def replay() -> None:
            self.replays += 1
            with _unwatched():
                for operation in tape:
                    _repeat(operation)

        return replay


@contextlib.contextmanager
def _lifted_from_host() -> Iterator[None]:
    """``torch.tensor(numbers, device=...)`` makes them on the processor and copies them."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    with torch.utils._python_dispatch._disable_current_modes():
        yield


def _repeat(operation: _Operation) -> None:
    """Run it again on the same memory; its results go where they were."""
    again, _ = tree_flatten(operation.function(*operation.args, **operation.kwargs))
    fresh = [leaf for leaf in again if isinstance(leaf, Tensor)]
    for before, now in zip(operation.results, fresh, strict=True):
        if before.data_ptr() != now.data_ptr():
            before.copy_(now)


def _is_view(function: Any) -> bool:
    """Whether nothing is computed: the result is the same memory, seen otherwise."""
    returns = function._schema.returns
    aliases = [value.alias_info for value in returns]
    return bool(aliases) and all(info is not None and not info.is_write for info in aliases)


def _indices(index: Any) -> Any:
    """Numbers in a list, which torch puts on the tensor's device, as a tensor of the host."""
    if isinstance(index, tuple):
        return tuple(_indices(part) for part in index)
    return torch.tensor(index) if isinstance(index, list) else index


def _is_same(tensor: Tensor, kwargs: Mapping[str, Any]) -> bool:
    """Whether ``Tensor.to`` returns the tensor itself."""
    return kwargs.get("dtype") in (None, tensor.dtype) and kwargs.get("memory_format") is None


def _inside(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, GpuTensor) else leaf


def _outside(leaf: Any, wrappers: Mapping[int, GpuTensor]) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    known = wrappers.get(id(leaf))
    return GpuTensor(leaf) if known is None else known


def _stream(device: Any = "cpu") -> torch.Generator:
    return GpuStream() if torch.device(device).type == "cuda" else torch.Generator()


@contextlib.contextmanager
def simulated_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    """A machine with one GPU; ``training.cuda_graph`` records on it."""
    from synthfactory import seeds
    from synthfactory.generators import training

    def torch_stream(
        seed: int, purpose: str, index: int = 0, *, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        stream = _stream(device)
        stream.manual_seed(seeds.derive(seed, purpose, index))
        return stream

    gpu = SimulatedGpu()
    with monkeypatch.context() as patched, _lifted_from_host(), gpu:
        for module in ("neural", "noise", "drawing", "sampling", "ctgan", "tvae"):
            patched.setattr(
                f"synthfactory.generators.{module}.torch_stream", torch_stream, raising=False
            )
        patched.setattr(torch.cuda, "_lazy_init", lambda: None)
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "device_count", lambda: 1)
        patched.setattr(torch.cuda, "get_device_name", lambda *_: "a simulated GPU")
        patched.setattr(training, "cuda_graph", gpu.record)
        patched.setattr(concurrent.futures.ThreadPoolExecutor, "submit", gpu.submit)
        yield gpu
