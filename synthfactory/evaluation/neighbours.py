"""Exact nearest neighbours between tables of mixed types, in blocks.

The distance is Gower's (1971, https://doi.org/10.2307/2528823), summed over columns: for numbers
``|a - b| / scale``, at most 1; for levels 0 or 1; missing against present 1, missing against
missing 0.  Every column is added in the same order in float32, so that equal rows give exactly
equal distances and ties are ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthfactory.tables import Encoded

if TYPE_CHECKING:
    import torch

Floats32 = npt.NDArray[np.float32]
BLOCK_PAIRS = 4_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Rows as points: scaled numbers (-inf missing) and codes."""

    numbers: Floats32
    codes: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)


def scales(real: Encoded) -> npt.NDArray[np.float64]:
    """**Shape** (n_numeric,): the spread of each number, between its 5 % and 95 % quantiles."""
    found = np.ones(real.numbers.shape[1])
    for place in range(real.numbers.shape[1]):
        values = real.numbers[:, place]
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, [0.05, 0.95])
            spread = high - low or float(np.ptp(values)) or 1.0
            found[place] = spread
    return found


def by_scale(rows: Encoded, spread: npt.NDArray[np.float64]) -> Points:
    """Points whose numbers are divided by their spread."""
    return Points(numbers=_mark_missing(rows.numbers / spread), codes=rows.codes)


def by_rank(rows: Encoded) -> Points:
    """Points whose numbers are the table's own ranks, 0 to 1: no shift or stretch shows."""
    ranked = np.full(rows.numbers.shape, np.nan)
    for place in range(rows.numbers.shape[1]):
        values = rows.numbers[:, place]
        present = ~np.isnan(values)
        ordered = np.sort(values[present])
        below = np.searchsorted(ordered, values[present], side="left")
        up_to = np.searchsorted(ordered, values[present], side="right")
        ranked[present, place] = (below + up_to) / (2 * max(len(ordered), 1))
    return Points(numbers=_mark_missing(ranked), codes=rows.codes)


def part(points: Points, first: int, last: int) -> Points:
    """The points from ``first`` up to ``last``."""
    return Points(numbers=points.numbers[first:last], codes=points.codes[first:last])


def nearest(
    queries: Points, references: Points, *, threads: int
) -> tuple[Floats32, npt.NDArray[np.int64]]:
    """Distance to, and number of, the nearest reference of every query.

    Returns
    -------
    distances, numbers
        **Shape** (n_queries,) each; the first of several equally near references.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours, theirs = _columns(queries), _columns(references)
        block = min(len(queries), max(1, BLOCK_PAIRS // max(len(references), 1)))
        distances = torch.empty(len(queries))
        numbers = torch.empty(len(queries), dtype=torch.int64)
        # Buffers are kept: fresh ones for every column cost more in page faults than the sums.
        totals = torch.empty(block, len(references))
        gaps = torch.empty(block, len(references))
        differ = torch.empty(block, len(references), dtype=torch.bool)
        for first in range(0, len(queries), block):
            n_rows = min(block, len(queries) - first)
            total, gap, other = totals[:n_rows].zero_(), gaps[:n_rows], differ[:n_rows]
            for mine, theirs_all in zip(ours, theirs, strict=True):
                a, b = mine[first : first + n_rows, None], theirs_all[None, :]
                if mine.dtype.is_floating_point:
                    # -inf - -inf is NaN: both missing, distance 0; one missing: infinite, so 1.
                    torch.sub(a, b, out=gap)
                    total += gap.abs_().nan_to_num_(nan=0.0).clamp_(max=1.0)
                else:
                    total += torch.ne(a, b, out=other)
            distances[first : first + n_rows], numbers[first : first + n_rows] = total.min(dim=1)
        return distances.numpy(), numbers.numpy()
    finally:
        torch.set_num_threads(before)


def _columns(points: Points) -> list[torch.Tensor]:
    import torch

    numbers = torch.from_numpy(np.ascontiguousarray(points.numbers.T))
    codes = torch.from_numpy(np.ascontiguousarray(points.codes.T))
    return [*numbers, *codes]


def _mark_missing(numbers: npt.NDArray[np.float64]) -> Floats32:
    return np.where(np.isnan(numbers), -np.inf, numbers).astype(np.float32)
