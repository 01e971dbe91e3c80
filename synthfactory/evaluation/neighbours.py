"""Exact nearest neighbours between tables of mixed types, in one pass over all columns.

The distance is Gower's (1971, https://doi.org/10.2307/2528823), summed over columns: for numbers
``|a - b| / scale``, at most 1; for levels 0 or 1; missing against present 1, missing against
missing 0.  Every column is added in the same order in float32, so that equal rows give exactly
equal distances and ties are ties.  Neither threads nor blocks change a single bit of the result.

On processors a compiled loop goes through tiles that stay in the cache (`_kernels`); on a GPU the
same distances are made of whole-tensor operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.tables import Encoded

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Columns = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

MAX_NEAREST = 64
QUERIES_AT_ONCE = 64
SAMPLE = 256
GPU_PAIRS = 1 << 26
LARGEST = 1e37
FAR = np.float32(3e38)


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Rows as points: scaled numbers (-inf missing) and codes."""

    numbers: Floats32
    codes: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)


def scales(real: Encoded) -> Floats:
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


def centres(real: Encoded) -> Floats:
    """**Shape** (n_numeric,): a number near the middle of each column; 0 where all are missing."""
    found = np.zeros(real.numbers.shape[1])
    for place in range(real.numbers.shape[1]):
        values = real.numbers[:, place]
        values = values[~np.isnan(values)]
        if len(values):
            found[place] = np.partition(values, len(values) // 2)[len(values) // 2]
    return found


def by_scale(rows: Encoded, spread: Floats, centre: Floats | float = 0.0) -> Points:
    """Points whose numbers are divided by their spread.

    Parameters
    ----------
    rows
        The rows.
    spread
        From `scales`.
    centre
        From `centres`, the same for all tables that are compared.  Distances do not depend on it,
        but float32 keeps seven digits only: dates, say, lose their hours without it.
    """
    with np.errstate(over="ignore"):
        scaled = (rows.numbers - centre) / spread
    return Points(numbers=_mark_missing(scaled), codes=rows.codes)


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
    queries: Points, references: Points, *, threads: int, device: str = "cpu"
) -> tuple[Floats32, Integers]:
    """Distance to, and number of, the nearest reference of every query.

    Returns
    -------
    distances, numbers
        **Shape** (n_queries,) each; the first of several equally near references.

    Raises
    ------
    EvaluationError
        When there is no reference.
    """
    distances, numbers = nearest_k(queries, references, 1, threads=threads, device=device)
    return distances[:, 0], numbers[:, 0]


def nearest_k(
    queries: Points,
    references: Points,
    k: int,
    *,
    threads: int,
    device: str = "cpu",
    exclude_self: bool = False,
) -> tuple[Floats32, Integers]:
    """Distances to, and numbers of, the ``k`` nearest references of every query.

    Parameters
    ----------
    queries, references
        Points of the same columns.
    k
        How many; 1 to 64.
    threads
        Processor threads.
    device
        ``cpu``, or ``cuda`` with or without a number.
    exclude_self
        Queries are the references, and no row is its own neighbour.

    Returns
    -------
    distances, numbers
        **Shape** (n_queries, k) each, ascending; of equally near references the first come first.

    Raises
    ------
    EvaluationError
        When there are fewer than ``k`` references.
    """
    if not 1 <= k <= MAX_NEAREST:
        raise EvaluationError(f"Expected 1 to {MAX_NEAREST} nearest neighbours, got k={k}.")
    if len(references) - exclude_self < k:
        raise EvaluationError(
            f"Expected at least {k} other rows to find the {k} nearest among, got "
            f"{len(references) - exclude_self}; use a larger table."
        )
    if exclude_self and len(queries) != len(references):
        raise EvaluationError(
            f"exclude_self: expected the references as queries, got {len(queries)} queries and "
            f"{len(references)} references."
        )
    if device == "cpu":
        return _compiled(queries, references, k, threads, exclude_self)
    return _tensors(queries, references, k, device, exclude_self)


def _compiled(
    queries: Points, references: Points, k: int, threads: int, exclude_self: bool
) -> tuple[Floats32, Integers]:
    from synthfactory.evaluation import _kernels

    narrow, wide = _narrow_and_wide(queries, references, _kernels.MAX_NARROW)
    ours, theirs = (_columns(points, narrow, wide) for points in (queries, references))
    order = _neighbourly(theirs, _kernels.TILE)
    # The last tile is filled up with the last reference.
    n_tiles = -(-len(order) // _kernels.TILE)
    places = order[np.minimum(np.arange(n_tiles * _kernels.TILE), len(order) - 1)]
    tiles = [_tiled(columns[places], n_tiles) for columns in theirs]
    boxes = [np.stack([tile.min(axis=2).T, tile.max(axis=2).T]) for tile in tiles]
    own = np.arange(len(queries)) if exclude_self else np.full(len(queries), -1)
    distances = np.empty((len(queries), k), dtype=np.float32)
    numbers = np.empty((len(queries), k), dtype=np.int64)

    cut: list[npt.NDArray[Any]] = [distances, numbers, own, *ours]
    shared: list[Any] = [places.reshape(n_tiles, -1), *tiles, *boxes, len(order)]

    def search(block: slice) -> None:
        _kernels.search(*[*(rows[block] for rows in cut), *shared])

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for _ in pool.map(search, _blocks(len(queries), QUERIES_AT_ONCE)):
            pass
    return distances, numbers


def _tiled(columns: npt.NDArray[Any], n_tiles: int) -> npt.NDArray[Any]:
    """**Shape** (n_tiles, n_columns, n_rows / n_tiles)."""
    n_columns = columns.shape[1]
    tiles = columns.reshape(n_tiles, len(columns) // n_tiles, n_columns)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1))


def _neighbourly(columns: Columns, size: int) -> Integers:
    """An order of rows in which each ``size`` that follow each other are near each other.

    Halves are halved again, at a multiple of ``size``, in the order of the column in which their
    rows differ most: a k-d tree (Bentley 1975, https://doi.org/10.1145/361002.361007).
    """
    every = [column for table in columns for column in table.T]
    order = np.arange(len(columns[0]))
    waiting = [(0, len(order))]
    while waiting and every:
        first, last = waiting.pop()
        if last - first <= size:
            continue
        rows = order[first:last]
        sample = rows[:: -(-len(rows) // SAMPLE)]
        widest = max(every, key=lambda column: _spread(column[sample]))
        half = -(-len(rows) // size) // 2 * size
        order[first:last] = rows[np.argpartition(widest[rows], half)]
        waiting += [(first, first + half), (first + half, last)]
    return order


def _spread(values: npt.NDArray[Any]) -> float:
    """About the mean distance of two values: for codes, the share of pairs that differ."""
    if values.dtype.kind == "f":
        middle = np.partition(values, len(values) // 2)[len(values) // 2]
        return float(np.minimum(np.abs(values - middle), 1).mean())
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(1 - (shares**2).sum())


def _blocks(n_rows: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, n_rows)) for first in range(0, n_rows, size))


def _narrow_and_wide(queries: Points, references: Points, most: int) -> tuple[list[int], list[int]]:
    """Places of the codes that fit into a byte, at most so many, and of the others."""
    narrow: list[int] = []
    wide: list[int] = []
    for place in range(queries.codes.shape[1]):
        both = (queries.codes[:, place], references.codes[:, place])
        fits = all(len(c) == 0 or (c.min() >= 0 and c.max() <= 255) for c in both)
        (narrow if fits and len(narrow) < most else wide).append(place)
    return narrow, wide


def _columns(points: Points, narrow: list[int], wide: list[int]) -> Columns:
    """Narrow codes, wide codes and finite numbers, **shape** (n_rows, n_columns) each."""
    return (
        points.codes[:, narrow].astype(np.uint8, order="C"),
        points.codes[:, wide].astype(np.int32, order="C"),
        _finite(points.numbers),
    )


def _tensors(
    queries: Points, references: Points, k: int, device: str, exclude_self: bool
) -> tuple[Floats32, Integers]:
    """The same with whole-tensor operations on ``device``, in blocks of queries and references."""
    import torch

    ours, theirs = _to_device(queries, device), _to_device(references, device)
    side = max(int(GPU_PAIRS**0.5), k)
    found = [torch.empty(0, k, dtype=torch.int64, device=device)]
    for block in _blocks(len(queries), side):
        # A distance and its reference's number in one integer: its order is the neighbours' order.
        best = torch.empty(block.stop - block.start, 0, dtype=torch.int64, device=device)
        for others in _blocks(len(references), side):
            places = torch.arange(others.start, others.stop, device=device)
            total = torch.zeros(len(best), len(places), device=device)
            sums = _add(total, [c[block] for c in ours], [c[others] for c in theirs])
            keys = (sums.view(torch.int32).to(torch.int64) << 32) | places
            if exclude_self:
                rows = torch.arange(block.start, block.stop, device=device)
                keys.masked_fill_(rows[:, None] == places, torch.iinfo(torch.int64).max)
            near = keys.topk(min(k, keys.shape[1]), dim=1, largest=False).values
            best = torch.cat([best, near], dim=1).sort(dim=1).values[:, :k]
        found.append(best)
    keys_QK = torch.cat(found).cpu()
    distances = (keys_QK >> 32).to(torch.int32).view(torch.float32)
    return distances.numpy(), (keys_QK & 0xFFFFFFFF).numpy()


def _add(total: torch.Tensor, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> torch.Tensor:
    """Add every column's difference or gap to ``total``, **shape** (n_queries, n_references)."""
    for mine, other in zip(ours, theirs, strict=True):
        a, b = mine[:, None], other[None, :]
        if mine.dtype.is_floating_point:
            total += (b - a).abs_().clamp_(max=1.0)
        else:
            total += a != b
    return total


def _to_device(points: Points, device: str) -> list[torch.Tensor]:
    """Codes, then finite numbers: a tensor for each column, in the order of the compiled loop."""
    import torch

    columns = (*points.codes.T, *_finite(points.numbers).T)
    return [torch.from_numpy(np.array(column)).to(device) for column in columns]


def _finite(numbers: Floats32) -> Floats32:
    """`FAR` where missing: as far as can be from every number, and no distance from itself."""
    return np.where(np.isneginf(numbers), FAR, numbers).astype(np.float32, order="C")


def _mark_missing(numbers: Floats) -> Floats32:
    """Float32 numbers, -inf where missing; what float32 cannot hold is as far away as it can be."""
    held = np.clip(numbers, -LARGEST, LARGEST)
    return np.where(np.isnan(numbers), -np.inf, held).astype(np.float32)
