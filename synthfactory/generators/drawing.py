"""The training rows on the device, and training-by-sampling (Xu et al. 2019, section 4.3).

Rows are kept as integer codes and scalars, one row after another, so that a batch reads as many
cache lines as it has rows however long the table is; the rows of each level are listed, so that
"a row with this level" is one look-up.

Legend: K members, N rows of all members together, S spans, M numeric columns, D discrete columns,
C levels of all discrete columns, B batch rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.representation import Representation, Rows


class Deck:
    """The encoded rows of K members on a device."""

    def __init__(self, members: Sequence[Rows], device: torch.device) -> None:
        widest = max((int(rows.codes_BS.max()) for rows in members if len(rows)), default=0)
        kind = torch.int16 if widest < 2**15 else torch.int32
        self.codes_NS = torch.cat([rows.codes_BS.to(kind) for rows in members]).to(device)
        self.scalars_NM = torch.cat([rows.scalars_BM for rows in members]).to(device)
        self.lengths = [len(rows) for rows in members]
        firsts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.firsts_K1 = torch.tensor(firsts, dtype=torch.int64, device=device).view(-1, 1)
        self.lengths_K1 = torch.tensor(self.lengths, dtype=torch.int64, device=device).view(-1, 1)

    def take(self, picked_KB: Tensor) -> tuple[Tensor, Tensor]:
        """Codes **shape** (K, S, B), int64, and scalars (K, M, B) of these rows."""
        shape = (*picked_KB.shape, -1)
        picked = picked_KB.reshape(-1)
        codes = self.codes_NS.index_select(0, picked).view(shape).transpose(1, 2)
        scalars = self.scalars_NM.index_select(0, picked).view(shape).transpose(1, 2)
        return codes.to(torch.int64, memory_format=torch.contiguous_format), scalars

    def uniformly(self, uniform_K2B: Tensor) -> Tensor:
        """**Shape** (K, B): row numbers, each row equally likely."""
        within = _below(uniform_K2B, self.lengths_K1)
        return self.firsts_K1 + within

    def of_member(self, place: int) -> Rows:
        """One member's rows."""
        start = int(self.firsts_K1[place])
        mine = slice(start, start + self.lengths[place])
        return Rows(scalars_BM=self.scalars_NM[mine], codes_BS=self.codes_NS[mine].long())


class Conditions:
    """Draws a discrete column uniformly, a level of it by log frequency, and a row that has it.

    Column and level are drawn at once, as one level of all levels.
    """

    def __init__(
        self, representations: Sequence[Representation], deck: Deck, device: torch.device
    ) -> None:
        sizes = representations[0].level_sizes
        self.n_columns = len(sizes)
        columns = np.repeat(np.arange(len(sizes)), sizes)
        self.column_of_C = torch.tensor(columns, dtype=torch.int64, device=device)
        self.first_of_C = torch.tensor(
            (np.cumsum(sizes) - sizes)[columns] if sizes else [], dtype=torch.int64, device=device
        )
        tables = [
            _member_table(member, deck, place) for place, member in enumerate(representations)
        ]
        cumulated, starts, counts, orders = zip(*tables, strict=True)
        self._cumulated_KC = torch.tensor(np.stack(cumulated), device=device)
        self._starts_KC = torch.tensor(np.stack(starts), device=device)
        self._counts_KC = torch.tensor(np.stack(counts), device=device)
        self._order = torch.tensor(np.concatenate(orders), device=device)

    def draw(self, uniform_KB: Tensor) -> Tensor:
        """**Shape** (K, B): levels of all levels."""
        pairs_KB = torch.searchsorted(self._cumulated_KC, uniform_KB.double(), right=True)
        return pairs_KB.clamp_max_(self._cumulated_KC.shape[1] - 1)

    def rows_with(self, pairs_KB: Tensor, uniform_K2B: Tensor) -> Tensor:
        """**Shape** (K, B): a row number for each, uniformly among its rows."""
        starts, counts = self._starts_KC.gather(1, pairs_KB), self._counts_KC.gather(1, pairs_KB)
        places = starts + _below(uniform_K2B, counts)
        return self._order.index_select(0, places.view(-1)).view_as(places).long()


def _below(uniform_K2B: Tensor, counts: Tensor) -> Tensor:
    """Whole numbers below ``counts``; two uniform numbers of 24 bits make one of 48."""
    fine = uniform_K2B[:, 0].double() + uniform_K2B[:, 1].double() * 2.0**-24
    return torch.minimum((fine * counts).long(), counts - 1)


def _member_table(
    member: Representation, deck: Deck, place: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cumulated chances, and where each level's rows begin in the list of rows, and the list."""
    first, length = int(deck.firsts_K1[place]), deck.lengths[place]
    codes = deck.codes_NS[first : first + length, member.n_numeric :].cpu().numpy()
    begin = first * len(member.level_sizes)
    chances, starts, counts, orders = [], [], [], []
    for column, levels in enumerate(member.level_counts):
        counted = np.bincount(codes[:, column], minlength=len(levels))
        weights = np.log1p(np.asarray(levels, dtype=np.float64)) * (counted > 0)
        chances.append(weights / max(weights.sum(), 1e-300) / len(member.level_counts))
        starts.append(begin + column * length + np.cumsum(counted) - counted)
        counts.append(counted)
        order = np.argsort(codes[:, column], kind="stable").astype(np.int32)
        orders.append(order + np.int32(first))
    empty = np.empty(0, dtype=np.int64)
    return (
        np.cumsum(np.concatenate([np.empty(0), *chances])),
        np.concatenate([empty, *starts]),
        np.concatenate([empty, *counts]),
        np.concatenate([empty.astype(np.int32), *orders]),
    )
