"""Which compiled loops do the work between matrix products on a device.

On a processor these are numba's (`synthfactory.generators._kernels`), on an NVIDIA GPU Triton's
(`synthfactory.generators._kernels.gpu` and `gpu_variational`).  A GPU of another maker, and one on
a machine where Triton is not or cannot build (it asks for a C compiler and Python's headers), takes
the plain way, operation by operation.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from typing import Any

import torch
from torch import Tensor

# A program of a kernel holds a whole row of a batch; the critic's hold three times as many columns
# (real, fake and points between) where a pac is one row.
MAX_ROWS = 2**13
# Places within a member's part of a tensor are numbered with 32 bits.
MAX_NUMBERS = 2**31


class Aside:
    """Work that others need not wait for: on a GPU on a stream of its own, beside the current one.

    >>> aside = Aside(torch.device("cpu"))
    >>> with aside:
    ...     later = torch.ones(2) + 1
    >>> aside.join()
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._entered: list[Any] = []

    def __enter__(self) -> None:
        """What follows begins when what was asked for before is done."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
            entered = torch.cuda.stream(self._stream)
            entered.__enter__()
            self._entered.append(entered)

    def __exit__(self, *raised: Any) -> None:
        if self._entered:
            self._entered.pop().__exit__(*raised)

    def join(self) -> None:
        """What follows needs what was done aside."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)


class ProcessorLoops:
    """Numba's loops, which read NumPy's arrays."""

    @functools.cached_property
    def adversarial(self) -> Any:
        """CTGAN's."""
        from synthfactory.generators._kernels import adversarial

        return adversarial

    @functools.cached_property
    def variational(self) -> Any:
        """TVAE's."""
        from synthfactory.generators._kernels import variational

        return variational

    def array_of(self, tensor: Tensor) -> Any:
        """The numbers of a tensor as the loops take them: bfloat16 as its bits."""
        return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


class GpuLoops:
    """Triton's kernels, which read tensors."""

    @functools.cached_property
    def adversarial(self) -> Any:
        """CTGAN's."""
        from synthfactory.generators._kernels import gpu

        return gpu

    @functools.cached_property
    def variational(self) -> Any:
        """TVAE's."""
        from synthfactory.generators._kernels import gpu_variational

        return gpu_variational

    def array_of(self, tensor: Tensor) -> Any:
        """The tensor itself."""
        return tensor


Loops = ProcessorLoops | GpuLoops


def loops_of(device: torch.device, n_rows: int = 1, width: int = 1) -> Loops | None:
    """The loops for batches of ``n_rows`` on a device; None where there are none.

    Parameters
    ----------
    width
        Numbers that a row has in the widest tensor.
    """
    if device.type == "cpu":
        return ProcessorLoops()
    fits = n_rows <= MAX_ROWS and n_rows * width < MAX_NUMBERS
    if device.type == "cuda" and fits and _may_build() and _builds(device):
        return GpuLoops()
    return None


def describe_loops(device: torch.device, n_rows: int = 1) -> str:
    """What does the work between matrix products, in words, for the record of a fit.

    Features of embedded columns take single operations on every device.
    """
    loops = loops_of(device, n_rows)
    if loops is None:
        return "single operations"
    package = importlib.import_module("triton" if isinstance(loops, GpuLoops) else "numba")
    return f"{package.__name__} {package.__version__}"


def _may_build() -> bool:
    return torch.version.cuda is not None and importlib.util.find_spec("triton") is not None


@functools.cache
def _builds(device: torch.device) -> bool:
    """Whether a kernel can be compiled here and does its work; says so once where it does not."""
    try:
        with torch.cuda.device(device):
            try_kernel(device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (compilers and drivers fail in many ways)
        warnings.warn(
            "Triton's kernels cannot be built or run here, so that fits on this GPU take single "
            f"operations, which are about three times slower: {type(error).__name__}: {error}. "
            "Triton needs a C compiler, Python's headers, and a folder it may write to "
            "(TRITON_CACHE_DIR).",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def try_kernel(device: torch.device) -> None:
    """Make a step of Adam in a kernel, with a copy in bfloat16, and compare it with the formula.

    Raises
    ------
    RuntimeError
        When the numbers are wrong; a compiler's and driver's errors are their own.
    """
    values, grads = torch.ones(8, device=device), torch.full((8,), -2.0, device=device)
    means, squares = torch.zeros(2, 8, device=device)
    low = values.to(torch.bfloat16)
    rate, steps = 0.25, torch.ones((), device=device)
    GpuLoops().adversarial.update(
        values, grads, means, squares, low, steps, lr=rate, betas=(0.5, 0.9), decay=0.0,
        epsilon=1e-8,
    )  # fmt: skip
    # The first step is one of length lr against the gradient.
    for made, exact in ((values, 1e-4), (low.float(), 1e-2)):
        if not torch.allclose(made.cpu(), torch.full((8,), 1.0 + rate), rtol=exact):
            raise RuntimeError(f"a kernel made {made.tolist()} of 1 + {rate}")
