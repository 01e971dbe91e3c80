"""Where the columns of a row stand in the tensors of the networks.

Tensors are feature-major: features are rows, the rows of the table are columns.  So the levels of
one column lie together in memory, a softmax over them is one pass, the rows of a pac are
neighbouring columns without a copy, and the members of an ensemble are a leading dimension.

Two arrangements of the same row are used:

- *logits*: the M scalars, then the codes of every span; spans of equal size stand together, so
  that one operation serves all of them, however many columns the table has;
- *features*, what the critic and the encoder see: the same, except that a span of more than `WIDE`
  codes is replaced by `EMBEDDING` numbers, a fixed random projection of its one-hot vector
  (Johnson and Lindenstrauss 1984, https://doi.org/10.1090/conm/026/737400).

The output layers produce an arrangement of their own for wide spans, too: `EMBEDDING` numbers,
which a trained matrix turns into logits (a factored softmax).  A column of 10,000 codes then costs
a network 10,000 x 32 weights instead of 10,000 x 640.

Legend: K members of an ensemble, B batch rows, M numeric columns, S spans (numeric columns first),
D discrete columns, V codes of all spans, W = M + V, J width of the features, O width of the output
layer, C levels of all discrete columns.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthfactory.generators.representation import Representation
from synthfactory.seeds import torch_stream

WIDE = 512
EMBEDDING = 32
ABSENT = -1e4


@dataclass(frozen=True, kw_only=True)
class Group:
    """Spans of one size that stand together.

    Parameters
    ----------
    start
        Row of the logits at which they begin.
    count, size
        How many spans, and the codes of each.
    """

    start: int
    count: int
    size: int

    @property
    def rows(self) -> slice:
        """The rows of the logits that they fill."""
        return slice(self.start, self.start + self.count * self.size)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The arrangement that the members of an ensemble share.

    Parameters
    ----------
    sizes
        **Shape** (S,): codes of each span; for numeric columns the most that a member has.
    n_numeric
        M.
    own_modes
        For each member the modes of each numeric column, of ``sizes`` at most.
    gaussians
        For each member how many of those modes are Gaussians.
    """

    sizes: tuple[int, ...]
    n_numeric: int
    own_modes: tuple[tuple[int, ...], ...]
    gaussians: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, representations: Sequence[Representation]) -> Layout:
        """The layout of these members, which have one schema."""
        modes = tuple(
            tuple(column.n_modes for column in member.modes) for member in representations
        )
        first = representations[0]
        widest = tuple(max(sizes) for sizes in zip(*modes, strict=True))
        return cls(
            sizes=widest + tuple(first.level_sizes),
            n_numeric=first.n_numeric,
            own_modes=modes,
            gaussians=tuple(
                tuple(len(column.means) for column in member.modes) for member in representations
            ),
        )

    @property
    def n_members(self) -> int:
        """K."""
        return len(self.own_modes)

    def member(self, place: int) -> Layout:
        """The layout of one member on its own, without what others need."""
        own = self.own_modes[place]
        return dataclasses.replace(
            self,
            sizes=own + self.sizes[self.n_numeric :],
            own_modes=(own,),
            gaussians=(self.gaussians[place],),
        )

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """All groups, the narrow ones first."""
        ordered = sorted(set(self.sizes))
        groups, start = [], self.n_numeric
        for size in ordered:
            group = Group(start=start, count=self.sizes.count(size), size=size)
            groups.append(group)
            start = group.rows.stop
        return tuple(groups)

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """**Shape** (S,): row of the logits at which each span begins."""
        following = {group.size: group.start for group in self.groups}
        starts = []
        for size in self.sizes:
            starts.append(following[size])
            following[size] += size
        return tuple(starts)

    @functools.cached_property
    def order(self) -> tuple[int, ...]:
        """**Shape** (S,): the spans as they follow one another among the logits."""
        return tuple(sorted(range(len(self.sizes)), key=self.starts.__getitem__))

    @functools.cached_property
    def bounds(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """**Shape** (S,) each: `starts` and `sizes`, for compiled loops."""
        return np.array(self.starts, dtype=np.int64), np.array(self.sizes, dtype=np.int64)

    @property
    def width(self) -> int:
        """W."""
        return self.n_numeric + sum(self.sizes)

    @functools.cached_property
    def wide(self) -> tuple[Group, ...]:
        """Every span of more than `WIDE` codes, one by one."""
        return tuple(
            Group(start=group.start + place * group.size, count=1, size=group.size)
            for group in self.groups
            if group.size > WIDE
            for place in range(group.count)
        )

    @functools.cached_property
    def narrow_width(self) -> int:
        """Rows that logits, features and outputs share: the scalars and all narrow spans."""
        return self.width - sum(span.size for span in self.wide)

    @property
    def feature_width(self) -> int:
        """J = O: what the critic sees and the output layer makes."""
        return self.narrow_width + EMBEDDING * len(self.wide)

    @functools.cached_property
    def level_sizes(self) -> tuple[int, ...]:
        """**Shape** (D,): levels of the discrete columns."""
        return self.sizes[self.n_numeric :]

    @property
    def n_levels(self) -> int:
        """C."""
        return sum(self.level_sizes)

    def wide_rows(self, place: int) -> slice:
        """Rows of the features, or of the output, that stand for a wide span."""
        start = self.narrow_width + EMBEDDING * place
        return slice(start, start + EMBEDDING)

    @functools.cached_property
    def is_padded(self) -> bool:
        """Whether some member has fewer modes than there is room for."""
        return any(own != self.sizes[: self.n_numeric] for own in self.own_modes)

    @functools.cached_property
    def has_points(self) -> bool:
        """Whether some mode has no scalar: an exact value, or "missing"."""
        return self.gaussians != self.own_modes

    def placement(self, member: int) -> Tensor:
        """**Shape** (own W,): for each row of a member's own logits the row here."""
        own = self.member(member)
        rows = torch.arange(own.width)
        for place, size in enumerate(own.sizes):
            start = own.starts[place]
            rows[start : start + size] = torch.arange(size) + self.starts[place]
        return rows

    def feature_placement(self, member: int) -> Tensor:
        """**Shape** (own J,): for each row of a member's own features the row here."""
        own = self.member(member)
        embedded = torch.arange(self.narrow_width, self.feature_width)
        return torch.cat([self.placement(member)[: own.narrow_width], embedded])

    def absences(self) -> Tensor:
        """**Shape** (K, W, 1): 0 for codes that a member has, very negative for others."""
        absent = torch.full((self.n_members, self.width, 1), ABSENT)
        for member in range(self.n_members):
            absent[member, self.placement(member)] = 0.0
        return absent

    def gaussian_codes(self) -> Tensor:
        """**Shape** (K, M, narrow codes): 1 where a code is a Gaussian mode of a numeric column."""
        width = self.narrow_width - self.n_numeric
        codes = torch.zeros(self.n_members, self.n_numeric, width)
        for member, counts in enumerate(self.gaussians):
            for place, count in enumerate(counts):
                start = self.starts[place] - self.n_numeric
                codes[member, place, start : start + count] = 1.0
        return codes

    def embeddings(self) -> list[Tensor]:
        """For each wide span **shape** (size, EMBEDDING): a fixed random vector of each code."""
        stream = torch_stream(0, "embeddings of wide spans")
        return [
            torch.randn(span.size, EMBEDDING, generator=stream) / EMBEDDING**0.5
            for span in self.wide
        ]
