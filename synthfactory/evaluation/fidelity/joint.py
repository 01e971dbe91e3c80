"""Joint tables of binned columns, and how alike those of two tables are.

One pass over the rows counts a joint table; a second one hands each row the slope of its cell,
which is all that the error needs.  Nothing is sub-sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.intp]
Columns = Sequence[int]

ROWS_PER_PIECE = 300_000_000


@dataclass(frozen=True, eq=False)
class Binned:
    """A table as small numbers.

    Parameters
    ----------
    bins
        **Shape** (n_columns, n_rows): the bin of every value, contiguous by column.
    sizes
        How many bins each column has.
    """

    bins: npt.NDArray[np.int16]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, bins: npt.NDArray[np.int64], sizes: Sequence[int]) -> Binned:
        """From **shape** (n_rows, n_columns)."""
        return cls(np.ascontiguousarray(bins.T, dtype=np.int16), tuple(sizes))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.bins.shape[1])

    def cells(self, columns: Columns) -> Cells:
        """**Shape** (n_rows,): which cell of the columns' joint table every row is in."""
        first, *others = columns
        found: Cells = self.bins[first].astype(np.intp)
        for column in others:
            found *= self.sizes[column]
            found += self.bins[column]
        return found

    def n_cells(self, columns: Columns) -> int:
        """Number of cells of the columns' joint table."""
        return int(np.prod([self.sizes[column] for column in columns]))

    def shares(self, columns: Columns) -> Floats:
        """**Shape** (n_cells,): the joint table."""
        return shares(self.cells(columns), self.n_cells(columns))


def shares(cells: Cells, n_cells: int) -> Floats:
    """**Shape** (n_cells,): the share of rows in each cell."""
    found: Floats = np.bincount(cells, minlength=n_cells) / max(len(cells), 1)
    return found


def tables_of(rows: Binned, groups: Sequence[Columns]) -> list[Floats]:
    """The joint table of each group."""
    return [rows.shares(group) for group in groups]


def similarities(real: Sequence[Floats], other: Binned, groups: Sequence[Columns]) -> Floats:
    """**Shape** (n_groups,): 1 - total variation distance from each of the real joint tables."""
    return np.array(
        [similarity(p, other.shares(group)) for p, group in zip(real, groups, strict=True)]
    )


def similarity(p: Floats, q: Floats) -> float:
    """1 - total variation distance of two tables of shares."""
    return 1 - 0.5 * float(np.abs(p - q).sum())


class Agreement(NamedTuple):
    """Similarities of joint tables, and how each row moves their weighted sum.

    Parameters
    ----------
    scores
        **Shape** (n_groups,).
    real, other
        **Shape** (n_rows,): influences of the rows of each table.
    tables
        The real joint tables.
    """

    scores: Floats
    real: Floats
    other: Floats
    tables: list[Floats]


def agreement(real: Binned, other: Binned, groups: Sequence[Columns], weights: Floats) -> Agreement:
    """Similarities of the groups' joint tables with the influences on ``weights @ scores``."""
    found = Agreement(np.empty(len(groups)), np.zeros(real.n_rows), np.zeros(other.n_rows), [])
    for place, group in enumerate(groups):
        mine, theirs = real.cells(group), other.cells(group)
        p, q = shares(mine, real.n_cells(group)), shares(theirs, real.n_cells(group))
        found.tables.append(p)
        found.scores[place] = similarity(p, q)
        slope = 0.5 * weights[place] * np.sign(p - q)
        found.real[:] -= slope[mine]
        found.other[:] += slope[theirs]
    return found


def blocks(n_groups: int, n_rows: int) -> list[str]:
    """Names of pieces of a few seconds each, such as ``0-105``.

    >>> blocks(105, 58_000), blocks(4950, 200_000)[:2]
    (['0-105'], ['0-1500', '1500-3000'])
    """
    size = max(ROWS_PER_PIECE // max(n_rows, 1), 1)
    return [f"{first}-{min(first + size, n_groups)}" for first in range(0, max(n_groups, 1), size)]


def block(groups: Sequence[Columns], piece: str) -> Sequence[Columns]:
    """The groups of one piece."""
    first, last = map(int, piece.split("-"))
    return groups[first:last]
