"""Rows of mixed types as points of a Euclidean space, fitted on the real rows alone.

Coordinates of a row:

- numbers and dates: the mean rank among the real train rows, 0 to 1, times the square root of 3;
  missing in the middle.  What lies beyond the real range is at its end: an outlier counts as the
  most extreme value, not more.  Two random rows are 1/2 apart in squared distance, as on a balanced
  column of two levels;
- levels (missing is one): one-hot, each with weight ``1 / sqrt(2)``, so that two different levels
  are at squared distance 1 and equal ones at 0;
- for numbers that are missing somewhere: whether it is missing, as two such levels.

The wide one-hot matrix is never made: levels stay codes, and distances count how many differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]

WEIGHT = math.sqrt(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """Rows as points.

    Parameters
    ----------
    numbers
        **Shape** (n_rows, n_numbers): coordinates.
    codes
        **Shape** (n_rows, n_codes): levels, which stand for their one-hot coordinates.
    """

    numbers: Floats32
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """From rows to points.

    Parameters
    ----------
    ordered
        The real values of every number, ascending, without missing ones.
    flagged
        Which numbers have a flag for missing.
    sizes
        How many levels each code has: discrete columns, then flags.
    """

    ordered: tuple[Floats, ...]
    flagged: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, evidence: Evidence) -> Embedding:
        """The embedding of the evidence's train rows."""
        real = evidence.train.numbers
        parts = (evidence.train, evidence.control, evidence.test, evidence.synthetic)
        # A flag that is the same everywhere adds nothing to any distance.
        missing = np.any([np.isnan(part.numbers).any(axis=0) for part in parts], axis=0)
        flagged = tuple(int(place) for place in np.flatnonzero(missing))
        sizes = [len(column.categories) + 1 for column in evidence.schema.discrete]
        return cls(
            ordered=tuple(np.sort(values[~np.isnan(values)]) for values in real.T),
            flagged=flagged,
            sizes=(*sizes, *(2 for _ in flagged)),
        )

    def __call__(self, rows: Encoded) -> Embedded:
        """The points of these rows."""
        places = np.empty(rows.numbers.shape, dtype=np.float32)
        for column, ordered in enumerate(self.ordered):
            values = rows.numbers[:, column]
            below = np.searchsorted(ordered, values, side="left")
            up_to = np.searchsorted(ordered, values, side="right")
            rank = (below + up_to) / max(2 * len(ordered), 1)
            places[:, column] = WEIGHT * np.where(np.isnan(values), 0.5, rank)
        flags = np.isnan(rows.numbers[:, list(self.flagged)]).astype(np.int32)
        return Embedded(numbers=places, codes=np.hstack([rows.codes, flags]))

    def centre(self, points: Embedded, weights: Floats | None = None) -> Centre:
        """The mean of these points, when they count with these weights."""
        weights = np.ones(len(points)) if weights is None else weights
        total = weights.sum()
        shares = [
            np.bincount(points.codes[:, place], weights, size) / total
            for place, size in enumerate(self.sizes)
        ]
        return Centre(weights @ points.numbers / total, tuple(shares))


class Centre(NamedTuple):
    """The mean of points: of every number, and the share of every level of each code."""

    numbers: Floats
    shares: tuple[Floats, ...]

    def distances(self, points: Embedded) -> Floats:
        """**Shape** (n_points,): Euclidean distance of every point from this mean."""
        squares: Floats = ((points.numbers - self.numbers) ** 2).sum(axis=1)
        for place, shares in enumerate(self.shares):
            # |one-hot of the code - shares|^2 / 2, without making the one-hot vector.
            squares += 0.5 * (1 + (shares**2).sum()) - shares[points.codes[:, place]]
        return np.sqrt(np.maximum(squares, 0.0))
