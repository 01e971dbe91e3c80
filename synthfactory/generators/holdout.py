"""When to stop: how well a model's rows fit rows that it did not learn from.

Training losses of an adversarial game say little.  The score is the mean, over all columns and all
pairs of columns, of 1 - total variation distance between model and held-out rows, numbers being
binned at the held-out rows' deciles.

Legend: N rows, D columns.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from synthfactory.generators.base import Model
from synthfactory.seeds import derive, numpy_stream
from synthfactory.tables import Encoder, Table

SHARE = 0.1
MAX_ROWS = 10_000
MIN_ROWS = 20
N_BINS = 10

Codes = npt.NDArray[np.int64]


def hold_out(table: Table, *, seed: int) -> tuple[Table, Table]:
    """Rows to learn from, and a tenth (at most 10,000) to judge by."""
    order = numpy_stream(seed, "held-out rows").permutation(table.n_rows)
    count = min(MAX_ROWS, max(MIN_ROWS, round(SHARE * table.n_rows)), table.n_rows // 2)
    return table.take(np.sort(order[count:])), table.take(np.sort(order[:count]))


class Judge:
    """Scores models by the same held-out rows, and with the same stream of chance."""

    def __init__(self, held: Table, *, seed: int) -> None:
        self._encoder = Encoder(held.schema)
        self._seed = derive(seed, "judgement")
        numbers = self._encoder.encode(held).numbers
        self._edges = [
            np.unique(np.quantile(column[~np.isnan(column)], np.arange(1, N_BINS) / N_BINS))
            if np.any(~np.isnan(column))
            else np.empty(0)
            for column in numbers.T
        ]
        self._held = self._bins(held)
        self._n_rows = max(held.n_rows, 1_000)

    def __call__(self, model: Model) -> float:
        """The score, 0 to 1."""
        drawn = self._bins(model.sample(self._n_rows, seed=self._seed))
        columns = range(self._held.shape[1])
        singles = [_similarity(self._held[:, a], drawn[:, a]) for a in columns]
        pairs = []
        for a, b in itertools.combinations(columns, 2):
            size = int(max(self._held[:, b].max(), drawn[:, b].max())) + 1
            pairs.append(
                _similarity(
                    self._held[:, a] * size + self._held[:, b], drawn[:, a] * size + drawn[:, b]
                )
            )
        return float(np.mean([np.mean(part) for part in (singles, pairs) if part]))

    def _bins(self, table: Table) -> Codes:
        """**Shape** (N, D)."""
        encoded = self._encoder.encode(table)
        binned = [
            np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column))
            for column, edges in zip(encoded.numbers.T, self._edges, strict=True)
        ]
        return np.column_stack([*binned, encoded.codes.astype(np.int64)]).astype(np.int64)


def _similarity(a: Codes, b: Codes) -> float:
    """1 - total variation distance of two lists of codes."""
    _, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    size = int(codes.max()) + 1
    ours = np.bincount(codes[: len(a)], minlength=size) / len(a)
    theirs = np.bincount(codes[len(a) :], minlength=size) / len(b)
    return 1.0 - 0.5 * float(np.abs(ours - theirs).sum())
