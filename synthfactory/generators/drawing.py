"""The training rows on the device, and training-by-sampling (Xu et al. 2019, section 4.3).

Rows are kept as integer codes and scalars, one row after another, so that a batch reads as many
cache lines as it has rows however long the table is; the rows of each level are listed, so that
"a row with this level" is one look-up.

Legend: K members, N rows of all members together, S spans, M numeric columns, D discrete columns,
C levels of all discrete columns, B batch rows, W width of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.layout import Layout
from synthfactory.generators.representation import Representation, Rows
from synthfactory.seeds import torch_stream

# Steps whose rows are looked up at once on a processor, and how many codes they may have.
AHEAD = 16
AHEAD_CODES = 2**20


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


@dataclass(frozen=True)
class Batch:
    """The rows of one step.

    Parameters
    ----------
    codes_KSB
        Codes of every span.
    places
        **Shape** (K * S * B,): where each code stands among the logits (K, W, B), counted through.
    scalars_KMB
        Positions within modes.
    present_KMB
        1 where the mode is a Gaussian, else 0: points and "missing" have no scalar.
    counts_KM
        How many rows have one.
    """

    codes_KSB: Tensor
    places: Tensor
    scalars_KMB: Tensor
    present_KMB: Tensor
    counts_KM: Tensor


class Batches:
    """The rows of every step, each epoch in an order of its own, looked up some steps ahead.

    Parameters
    ----------
    deck, layout
        The rows of all members.
    n_rows
        B.
    streams
        Seeds of the members' orders.
    block
        Steps that are made at once: they find their rows in the same places in every block.
    """

    def __init__(
        self, deck: Deck, layout: Layout, n_rows: int, streams: Sequence[int], block: int
    ) -> None:
        self._deck, self._layout, self._n_rows, self._streams = deck, layout, n_rows, streams
        device = deck.codes_NS.device
        n_members, n_spans, n_numeric = layout.n_members, len(layout.sizes), layout.n_numeric
        most = max(1, min(AHEAD, AHEAD_CODES // (n_members * n_spans * n_rows)))
        self._ahead = block if block > 1 else most
        self._picked = torch.zeros(self._ahead, n_members, n_rows, dtype=torch.int64, device=device)
        self._codes = torch.zeros(
            self._ahead, n_members, n_spans, n_rows, dtype=torch.int64, device=device
        )
        self._places = torch.zeros_like(self._codes)
        self._scalars = torch.zeros(self._ahead, n_members, n_numeric, n_rows, device=device)
        self._present = torch.zeros_like(self._scalars)
        self._counts = torch.zeros(self._ahead, n_members, n_numeric, device=device)
        self._gaussians_KM1 = torch.tensor(layout.gaussians, device=device).unsqueeze(2)
        starts_S1 = torch.tensor(layout.starts, device=device).unsqueeze(1)
        firsts_K11 = torch.arange(n_members, device=device).view(-1, 1, 1) * layout.width
        columns_B = torch.arange(n_rows, device=device)
        self._offsets_KSB = (firsts_K11 + starts_S1) * n_rows + columns_B
        self._batches = [
            Batch(
                codes_KSB=self._codes[slot],
                places=self._places[slot].view(-1),
                scalars_KMB=self._scalars[slot],
                present_KMB=self._present[slot],
                counts_KM=self._counts[slot],
            )
            for slot in range(self._ahead)
        ]
        self._orders: dict[tuple[int, int], Tensor] = {}
        self._known: int | None = None
        self._first = 0

    def prepare(self, step: int) -> None:
        """Look up the rows of the next block; ``step`` are done."""
        ahead, self._first = divmod(step, self._ahead)
        if ahead != self._known:
            self._known = ahead
            self._pick(step - self._first)
            self._look_up()

    def __getitem__(self, slot: int) -> Batch:
        """The rows of a step of this block."""
        return self._batches[self._first + slot]

    def _pick(self, step: int) -> None:
        """Number the rows of the steps after these."""
        for member in range(self._layout.n_members):
            slot = 0
            while slot < self._ahead:
                rows = self._rest_of_epoch(member, step + slot)[: self._ahead - slot]
                self._picked[slot : slot + len(rows), member] = rows
                slot += len(rows)

    def _look_up(self) -> None:
        """Find what stands in the rows that were picked."""
        codes, scalars = self._deck.take(self._picked.flatten(0, 1))
        self._codes.copy_(codes.view_as(self._codes))
        self._scalars.copy_(scalars.reshape(self._scalars.shape))
        torch.add(self._offsets_KSB, self._codes, alpha=self._n_rows, out=self._places)
        self._present.copy_(self._codes[:, :, : self._layout.n_numeric] < self._gaussians_KM1)
        torch.sum(self._present, dim=3, out=self._counts)

    def _rest_of_epoch(self, member: int, step: int) -> Tensor:
        """**Shape** (steps, B): row numbers of this step's batch and of those after it."""
        length = self._deck.lengths[member]
        steps = length // self._n_rows
        epoch, place = divmod(step, steps)
        if (member, epoch) not in self._orders:
            self._orders = {key: value for key, value in self._orders.items() if key[0] != member}
            device = self._picked.device
            stream = torch_stream(self._streams[member], "order of rows", epoch, device=device)
            order = torch.randperm(length, generator=stream, device=device)
            self._orders[member, epoch] = order + self._deck.firsts_K1[member]
        order = self._orders[member, epoch][: steps * self._n_rows]
        return order.view(steps, self._n_rows)[place:]


@dataclass(frozen=True)
class Known:
    """What is known of CTGAN's steps before their networks: conditions and real rows.

    Of a block of T steps, or without T of one of them.

    Parameters
    ----------
    picked
        **Shape** (T, K, B): the numbers of the real rows.
    pairs, before
        **Shape** (T, K, B): the conditions of the fake rows and of the real ones, as levels of all
        levels; None without discrete columns.
    codes, scalars
        **Shape** (T, K, S, B) and (T, K, M, B): what stands in the real rows, where it was looked
        up ahead.
    """

    picked: Tensor
    pairs: Tensor | None
    before: Tensor | None
    codes: Tensor | None
    scalars: Tensor | None

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.picked, self.pairs, self.before, self.codes, self.scalars

    def of_step(self, slot: int) -> Known:
        """That of one step of a block."""
        picked, *others = (None if part is None else part[slot] for part in self._parts)
        assert picked is not None
        return Known(picked, *others)

    def rows(self, deck: Deck) -> tuple[Tensor, Tensor]:
        """Codes and scalars of the real rows of one step."""
        if self.codes is None or self.scalars is None:
            codes, scalars = deck.take(self.picked)
            return codes, scalars.contiguous()
        return self.codes, self.scalars

    def overwrite(self, other: Known) -> None:
        """Take what another block knows, in place."""
        for mine, new in zip(self._parts, other._parts, strict=True):
            assert (mine is None) == (new is None)
            if mine is not None and new is not None:
                mine.copy_(new)


class Picks:
    """Draws the conditions and the real rows of all steps of a block at once.

    Parameters
    ----------
    conditions, deck
        What is drawn from; no conditions without discrete columns.
    n_rows, pac
        B, and rows of a pac: real rows meet the conditions of the pac before, see `Critic.input`.
    turns, n_drawn
        How often a step draws, and how many uniform numbers each time; 3 B are read here.
    block
        Steps; on a GPU they find everything in the same places in every block.
    """

    def __init__(
        self,
        conditions: Conditions | None,
        deck: Deck,
        *,
        n_rows: int,
        pac: int,
        turns: int,
        n_drawn: int,
        block: int,
    ) -> None:
        self._conditions, self._deck, self._n_rows, self._pac = conditions, deck, n_rows, pac
        self._firsts = [turn * n_drawn for turn in range(turns)]
        self._block = block
        # A recorded graph reads the same places in every block.
        self._in_place = deck.codes_NS.is_cuda
        self._blocks: list[Known] = []
        self._steps: list[list[Known]] = []

    def prepare(self, uniform: Tensor) -> None:
        """Draw the next block by its uniform numbers, **shape** (K, block, turns * n_drawn)."""
        if self._blocks and self._in_place:
            for old, first in zip(self._blocks, self._firsts, strict=True):
                old.overwrite(self._draw(uniform, first))
            return
        made = self._blocks = [self._draw(uniform, first) for first in self._firsts]
        self._steps = [[known.of_step(slot) for slot in range(self._block)] for known in made]

    def of_step(self, slot: int, turn: int) -> Known:
        """What a turn of a step of this block knows."""
        return self._steps[turn][slot]

    def _draw(self, uniform: Tensor, first: int) -> Known:
        n_rows, n_members = self._n_rows, len(uniform)
        mine = uniform[:, :, first : first + 3 * n_rows].unflatten(2, (3, n_rows))
        which_KN = mine[:, :, 0].reshape(n_members, -1)
        rows_K2N = mine[:, :, 1:].transpose(1, 2).reshape(n_members, 2, -1)
        pairs_KN = before_KN = None
        if self._conditions is None:
            picked_KN = self._deck.uniformly(rows_K2N)
        else:
            pairs_KN = self._conditions.draw(which_KN)
            pacs = pairs_KN.view(n_members, -1, self._pac, n_rows // self._pac)
            before_KN = pacs.roll(1, 3).view_as(pairs_KN)
            picked_KN = self._conditions.rows_with(before_KN, rows_K2N)
        picked, pairs, before = (
            None if part is None else part.view(n_members, -1, n_rows).transpose(0, 1).contiguous()
            for part in (picked_KN, pairs_KN, before_KN)
        )
        assert picked is not None
        codes = scalars = None
        if self._in_place:
            codes, scalars = (
                part.unflatten(0, (-1, n_members)).contiguous()
                for part in self._deck.take(picked.flatten(0, 1))
            )
        return Known(picked, pairs, before, codes, scalars)


class Conditions:
    """Draws a discrete column uniformly, a level of it by log frequency, and a row that has it.

    Column and level are drawn at once, as one level of all levels.
    """

    def __init__(
        self, representations: Sequence[Representation], deck: Deck, device: torch.device
    ) -> None:
        sizes = representations[0].level_sizes
        firsts = np.cumsum(deck.lengths) - deck.lengths
        owners = _first_equals(representations, deck)
        tables = {
            place: _member_table(representations[place], _codes_of(deck, place, len(sizes)))
            for place in sorted(set(owners))
        }
        cumulated, starts, counts, orders = (
            [tables[owner][part] for owner in owners] for part in range(4)
        )
        self._cumulated_KC = torch.from_numpy(np.stack(cumulated)).to(device)
        starts_KC = np.stack(starts) + firsts[:, None] * len(sizes)
        self._starts_KC = torch.from_numpy(starts_KC).to(device)
        self._counts_KC = torch.from_numpy(np.stack(counts)).to(device)
        known = {place: torch.from_numpy(tables[place][3]).to(device) for place in tables}
        n_places = sum(len(order) for order in orders)
        self._order = torch.empty(n_places, dtype=torch.int32, device=device)
        parts = self._order.split([len(order) for order in orders])
        for part, owner, first in zip(parts, owners, firsts, strict=True):
            torch.add(known[owner], int(first), out=part)

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


def _first_equals(representations: Sequence[Representation], deck: Deck) -> list[int]:
    """For each member the first one with the same representation and the same levels."""
    n_columns = len(representations[0].level_sizes)
    known: dict[tuple[int, int], int] = {}
    firsts = [
        known.setdefault((id(member), deck.lengths[place]), place)
        for place, member in enumerate(representations)
    ]
    alike = [place for place, first in enumerate(firsts) if first != place]
    if alike:
        codes = {place: _codes_of(deck, place, n_columns) for place in {*alike, *firsts}}
        # All are compared before the host waits for the answers, once.
        equal = torch.stack([(codes[place] == codes[firsts[place]]).all() for place in alike])
        for place, is_equal in zip(alike, equal.cpu().tolist(), strict=True):
            firsts[place] = firsts[place] if is_equal else place
    return firsts


def _codes_of(deck: Deck, place: int, n_columns: int) -> Tensor:
    """**Shape** (own N, D): the levels in a member's rows."""
    first = sum(deck.lengths[:place])
    last_columns = deck.codes_NS.shape[1] - n_columns
    return deck.codes_NS[first : first + deck.lengths[place], last_columns:]


def _member_table(
    member: Representation, codes_ND: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cumulated chances, and where each level's rows begin in the list of rows, how many there
    are, and the list: the member's rows, ordered by each column in turn, counted from its first.
    """
    codes, length = codes_ND.cpu().numpy(), len(codes_ND)
    chances, starts, counts, orders = [], [], [], []
    for column, levels in enumerate(member.level_counts):
        counted = np.bincount(codes[:, column], minlength=len(levels))
        weights = np.log1p(np.asarray(levels, dtype=np.float64)) * (counted > 0)
        chances.append(weights / max(weights.sum(), 1e-300) / len(member.level_counts))
        starts.append(column * length + np.cumsum(counted) - counted)
        counts.append(counted)
        orders.append(np.argsort(codes[:, column], kind="stable").astype(np.int32))
    empty = np.empty(0, dtype=np.int64)
    return (
        np.cumsum(np.concatenate([np.empty(0), *chances])),
        np.concatenate([empty, *starts]),
        np.concatenate([empty, *counts]),
        np.concatenate([empty.astype(np.int32), *orders]),
    )
