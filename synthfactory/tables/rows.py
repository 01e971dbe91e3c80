"""Which rows are equal: a number for every row, the same for equal rows of all tables.

Rows are compared value by value, exactly, without a hash that could collide; missing equals
missing.  Columns are packed into one integer as long as they fit, and only then counted anew, so
that a million rows take seconds and a few times eight bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.tables.encode import Encoded

Numbers = npt.NDArray[np.int64]
# More than any row's number times any column's: both are below 2**31.
LARGEST = 1 << 62


def row_numbers(*tables: Encoded) -> list[Numbers]:
    """Equal rows, over all tables, get equal numbers.

    Parameters
    ----------
    tables
        Encoded with the same schema.

    Returns
    -------
    list
        For each table an array of **shape** (n_rows,): numbers from 0 on, below the number of
        different rows.
    """
    ends = np.cumsum([len(rows) for rows in tables])
    packed, n_packed = np.zeros(ends[-1], dtype=np.int64), 1
    for codes in _columns(tables):
        n_codes = int(codes.max(initial=0)) + 1
        if n_packed > LARGEST // n_codes:
            packed = _counted(packed)
            n_packed = int(packed.max(initial=0)) + 1
        packed *= n_codes
        packed += codes
        n_packed *= n_codes
    return np.split(_counted(packed), ends[:-1])


def n_equal(rows: Encoded, others: Encoded) -> int:
    """How many of ``rows`` occur among ``others``."""
    mine, theirs = row_numbers(rows, others)
    return int(np.isin(mine, theirs).sum())


def _columns(tables: tuple[Encoded, ...]) -> Iterator[npt.NDArray[Any]]:
    """Each column of all tables, as whole numbers from 0 on."""
    for place in range(tables[0].codes.shape[1]):
        yield np.concatenate([rows.codes[:, place] for rows in tables])
    for place in range(tables[0].numbers.shape[1]):
        yield _counted(np.concatenate([rows.numbers[:, place] for rows in tables]))


def _counted(values: npt.NDArray[Any]) -> Numbers:
    """Numbers of the different values, in their order; 0.0 is -0.0, and NaN is NaN."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64, copy=False)
