"""How exactly matrices are multiplied.

- ``float32``: IEEE single precision everywhere.
- ``bf16``: matrix products read bfloat16 and sum in float32; weights, statistics, losses and the
  optimiser stay in float32 (Micikevicius et al. 2018, arXiv 1710.03740).
- ``auto``: TensorFloat-32 on an NVIDIA GPU, ``float32`` on a processor (oneDNN instead of the
  default library gained nothing in a step on the processor where it was measured).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from synthfactory.errors import OrderError

PRECISIONS = ("auto", "float32", "bf16")


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


@contextlib.contextmanager
def using_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Set how torch multiplies float32 matrices, and put it back."""
    before = torch.get_float32_matmul_precision()
    on_gpu = device.type == "cuda"
    torch.set_float32_matmul_precision("high" if precision == "auto" and on_gpu else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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
