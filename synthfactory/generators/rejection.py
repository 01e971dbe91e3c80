"""Drawing rows in batches until enough of them meet the conditions, with a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from synthfactory.errors import OrderError
from synthfactory.generators.representation import Rows

MAX_DRAWS_PER_ROW = 1_000


def sample_until(
    draw: Callable[[int], Rows], n_rows: int, wanted: Mapping[int, int], n_numeric: int, batch: int
) -> Rows:
    """``n_rows`` rows of ``draw`` that have the wanted codes.

    Parameters
    ----------
    draw
        Draws that many rows.
    n_rows
        How many are needed.
    wanted
        Code by place of a discrete column; empty to keep every row.
    n_numeric
        Number of numeric columns, whose modes stand before the discrete columns' codes.
    batch
        Rows drawn at once.

    Raises
    ------
    OrderError
        When a thousand draws for each row were not enough.
    """
    kept: list[Rows] = []
    n_kept = n_drawn = 0
    while n_kept < n_rows:
        if wanted and n_drawn >= MAX_DRAWS_PER_ROW * max(n_rows, 10):
            raise OrderError(
                f"Only {n_kept} of {n_rows} rows met the conditions after {n_drawn} draws; the "
                "model gives such rows too rarely. Ask for fewer rows, or drop a condition."
            )
        n_next = batch if wanted else min(batch, n_rows - n_kept)
        rows = draw(n_next)
        n_drawn += n_next
        for place, code in wanted.items():
            hits = torch.nonzero(rows.codes_BS[:, n_numeric + place] == code).squeeze(1)
            rows = Rows(scalars_BM=rows.scalars_BM[hits], codes_BS=rows.codes_BS[hits])
        kept.append(rows)
        n_kept += len(rows)
    if not kept:
        return draw(0)
    every = Rows.cat(kept)
    return Rows(scalars_BM=every.scalars_BM[:n_rows], codes_BS=every.codes_BS[:n_rows])
