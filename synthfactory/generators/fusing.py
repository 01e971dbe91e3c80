"""Which compiled loops do the work between matrix products on a device.

On a processor these are numba's (`synthfactory.generators._kernels`), on an NVIDIA GPU Triton's
(`synthfactory.generators._kernels.gpu` and `gpu_variational`).  A GPU without Triton, or of another
maker, takes the plain way, operation by operation; so do ranks that train one model together on
GPUs.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

# One program of a kernel holds a whole row of a batch.
MAX_ROWS = 2**14


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


def loops_of(device: torch.device, n_rows: int = 1) -> Loops | None:
    """The loops for batches of ``n_rows`` on a device; None where there are none."""
    if device.type == "cpu":
        return ProcessorLoops()
    if device.type == "cuda" and _has_triton() and n_rows <= MAX_ROWS:
        return GpuLoops()
    return None


@functools.cache
def _has_triton() -> bool:
    return torch.version.cuda is not None and importlib.util.find_spec("triton") is not None
