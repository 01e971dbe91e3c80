"""Work on blocks of rows, shared among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

BLOCK = 64


def in_blocks(work: Callable[[slice], None], n_rows: int, threads: int) -> None:
    """Do the work for every block of 64 rows; blocks depend on the number of rows alone."""
    blocks = [slice(first, min(first + BLOCK, n_rows)) for first in range(0, n_rows, BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, blocks):
            pass
