"""Which rows lie in the balls around other rows: what precision, recall and coverage count."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.fidelity.blocks import in_blocks
from synthfactory.evaluation.neighbours import Points

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]

HUGE = np.float32(3e38)


class Within(NamedTuple):
    """What lies within reach of every row; each of **shape** (n_rows,).

    Parameters
    ----------
    counts
        How many others.
    places
        The one of them with the smallest value, -1 without any; the only one where the count is 1.
    least, second
        The smallest value among them and the next; infinite without one.
    """

    counts: Codes
    places: Codes
    least: Floats
    second: Floats


def within(
    rows: Points,
    others: Points,
    *,
    reach: Floats32 | None = None,
    others_reach: Floats32 | None = None,
    values: Floats | None = None,
    threads: int,
) -> Within:
    """Others within reach of every row.

    Parameters
    ----------
    rows, others
        Points.
    reach
        **Shape** (n_rows,): a row holds others that are at most so far away.
    others_reach
        **Shape** (n_others,): another is held by rows that are at most so far away.  Balls are
        closed: in a table of few possible rows most radii are exactly some row's distance, often 0.
    values
        **Shape** (n_others,): which of the others comes first; 0 for all by default.
    threads
        Processor threads; they change no bit of the result.
    """
    from synthfactory.evaluation.fidelity._kernels import find_within

    mine, numbers, codes = _finite(rows), _finite(others).T.copy(), others.codes.T.copy()
    n_rows, n_others = len(rows), len(others)
    far = np.float32(np.inf)
    reach = np.full(n_rows, far) if reach is None else reach
    others_reach = np.full(n_others, far) if others_reach is None else others_reach
    values = np.zeros(n_others) if values is None else values
    found = Within(
        np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows), np.empty(n_rows)
    )

    def work(block: slice) -> None:
        find_within(
            mine[block], rows.codes[block], numbers, codes, reach[block], others_reach, values,
            *(column[block] for column in found),
        )  # fmt: skip

    in_blocks(work, n_rows, threads)
    return found


def _finite(points: Points) -> Floats32:
    """The numbers; a huge one where missing: 0 from another missing one, 1 from the rest."""
    numbers = np.where(np.isneginf(points.numbers), HUGE, points.numbers)
    return np.ascontiguousarray(numbers, dtype=np.float32)
