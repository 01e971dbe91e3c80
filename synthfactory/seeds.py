"""Addressed randomness: a stream is named, never consumed by somebody else first.

Each use of chance (a split, a fit, a logical shard, an attack) draws from a counter-based
generator of its own, keyed by ``(root seed, purpose, index)``.  So neither the number of
workers nor the order of completion can change a single byte, and adding a draw in one place
does not move the draws of another.

References
----------
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
https://doi.org/10.1145/2063384.2063405 (Philox).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit integer that depends on all of ``(seed, purpose, index)``.

    >>> derive(0, "split") == derive(0, "split"), derive(0, "split") == derive(0, "fit")
    (True, False)
    """
    text = f"{seed}\x1f{purpose}\x1f{index}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def numpy_stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A numpy generator of its own for ``(seed, purpose, index)``."""
    return np.random.Generator(np.random.Philox(key=derive(seed, purpose, index)))


def torch_stream(
    seed: int, purpose: str, index: int = 0, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator of its own for ``(seed, purpose, index)`` on ``device``."""
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(derive(seed, purpose, index))
    return generator
