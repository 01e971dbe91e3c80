"""How exactly matrices are multiplied.

- ``float32``: IEEE single precision, by torch's default library.
- ``bf16``: matrix products read bfloat16 and sum in float32; weights, statistics, losses and the
  optimiser stay in float32 (Micikevicius et al. 2018, arXiv 1710.03740).
- ``auto``: TensorFloat-32 on an NVIDIA GPU; on a processor float32 by oneDNN where it is found to
  be as exact as the default library, which it is twice as fast as on some processors.  (torch's
  setting that chooses oneDNN *allows* it to round to bfloat16; whether it does depends on the
  processor, hence the trial.)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from synthfactory.errors import OrderError

PRECISIONS = ("auto", "float32", "bf16")
TRIALS = ((256, 1720, 50), (172, 500, 640), (16, 64, 8))
EXACT = 1e-4


def expect_precision(owner: str, value: object) -> None:
    """Check the name of a precision.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    if value not in PRECISIONS:
        raise OrderError(
            f"{owner}.precision: expected one of {', '.join(PRECISIONS)}, got {value!r}."
        )


def matrix_dtype(precision: str) -> torch.dtype:
    """What matrix products read."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def fuses(tensor: Tensor) -> bool:
    """Whether a processor's compiled loops (`_kernels`) serve tensors like this."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


@contextlib.contextmanager
def using_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Set how torch multiplies float32 matrices, and put it back."""
    with _using(_setting(precision, device)):
        yield


def _setting(precision: str, device: torch.device) -> str:
    if precision != "auto":
        return "highest"
    return "high" if device.type == "cuda" else _fast_setting()


def describe_products(precision: str, device: torch.device) -> str:
    """What multiplies matrices, in words, for the record of a fit."""
    if precision == "bf16":
        return "bfloat16, summed in float32"
    words = {"highest": "float32", "medium": "float32 by oneDNN", "high": "TensorFloat-32"}
    return words[_setting(precision, device)]


@contextlib.contextmanager
def _using(setting: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def _fast_setting() -> str:
    """``medium``, which chooses oneDNN, where its products are float32's; else ``highest``.

    Measured against the square root of the number of terms, bfloat16 errs by 1e-2 and float32 by
    less than 1e-5.
    """
    stream = torch.Generator().manual_seed(0)
    for m, k, n in TRIALS:
        a, b = (torch.randn(1, *shape, generator=stream) for shape in ((m, k), (k, n)))
        with _using("medium"):
            error = (torch.bmm(a, b) - torch.bmm(a.double(), b.double())).abs().max()
        if float(error) > EXACT * k**0.5:
            return "highest"
    return "medium"


def product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """``a @ b`` in float32, of operands in ``dtype``; **shape** (K, m, n) x (K, n, p)."""
    if dtype == torch.float32:
        return torch.bmm(a, b)
    return torch.bmm(a.to(dtype), b.to(dtype)).float()


def add_product(total: Tensor, a: Tensor, b: Tensor, dtype: torch.dtype) -> None:
    """``total += a @ b``, in place."""
    if dtype == torch.float32:
        total.baddbmm_(a, b)
    else:
        total += torch.bmm(a.to(dtype), b.to(dtype))


def set_product(target: Tensor, a: Tensor, b: Tensor, dtype: torch.dtype) -> None:
    """``target = a @ b``, in place."""
    if dtype == torch.float32:
        torch.bmm(a, b, out=target)
    else:
        target.copy_(torch.bmm(a.to(dtype), b.to(dtype)))
