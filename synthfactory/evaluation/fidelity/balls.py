"""Which rows lie in the balls around other rows: what precision, recall and coverage count."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation import neighbours
from synthfactory.evaluation.fidelity.blocks import in_blocks
from synthfactory.evaluation.neighbours import Floats32, Points

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Within(NamedTuple):
    """What lies within reach of every row; each of **shape** (n_rows,).

    Parameters
    ----------
    counts
        How many others.
    sums
        The sum of their weights.
    places
        The last of them, so the only one where the count is 1; -1 where there is none.
    """

    counts: Integers
    sums: Floats
    places: Integers


def within(
    rows: Points,
    others: Points,
    *,
    reach: Floats32 | None = None,
    others_reach: Floats32 | None = None,
    weights: Floats | None = None,
    threads: int,
) -> Within:
    """Others within reach of every row, by the distance of `neighbours`.

    Balls are closed: in a table of few possible rows most radii are exactly some row's distance,
    and often 0.

    Parameters
    ----------
    rows, others
        Points.
    reach
        **Shape** (n_rows,): the radius of each row's own ball.
    others_reach
        **Shape** (n_others,): the radius of each other's ball, in which the row must be.
    weights
        **Shape** (n_others,): 1 by default.
    threads
        Processor threads; they change no bit of the result.
    """
    from synthfactory.evaluation import _kernels
    from synthfactory.evaluation.fidelity._kernels import find_within

    narrow, wide = neighbours.narrow_and_wide(rows, others, _kernels.MAX_NARROW)
    ours = neighbours.columns_of(rows, narrow, wide)
    tiles = neighbours.tile_places(np.arange(len(others)), _kernels.TILE)
    theirs = [
        neighbours.tiled(columns, tiles) for columns in neighbours.columns_of(others, narrow, wide)
    ]
    n_rows, n_others = len(rows), len(others)
    everything = np.float32(np.inf)
    mine = np.full(n_rows, everything) if reach is None else reach
    other = np.full(n_others, everything) if others_reach is None else others_reach
    weighted = np.ones(n_others) if weights is None else weights
    found = Within(np.empty(n_rows, np.int64), np.empty(n_rows), np.empty(n_rows, np.int64))

    def work(block: slice) -> None:
        counts, sums, places = (column[block] for column in found)
        columns = [column[block] for column in ours]
        find_within(counts, sums, places, mine[block], other, weighted, *columns, *theirs)

    in_blocks(work, n_rows, threads)
    return found
