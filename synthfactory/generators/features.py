"""From codes to what networks read, and from what they make to rows.

Legend: see `synthfactory.generators.layout`; Q width of the conditions' features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from synthfactory.generators.flat import Flat
from synthfactory.generators.layout import EMBEDDING, Layout
from synthfactory.generators.networks import Shapes, fill_uniform, set_product
from synthfactory.generators.precision import product

TEMPERATURE = 0.2


class Features:
    """Real rows, conditions and fake rows as the critic and the encoder see them."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        n_numeric = layout.n_numeric
        wide = {span.start: place for place, span in enumerate(layout.wide)}
        self._wide_spans = [
            (span, wide[start]) for span, start in enumerate(layout.starts) if start in wide
        ]
        narrow = [span for span, start in enumerate(layout.starts) if start not in wide]
        self._narrow = torch.tensor(narrow, dtype=torch.int64, device=device)
        starts = torch.tensor([layout.starts[span] for span in narrow], dtype=torch.int64)
        self._starts_S1 = starts.view(-1, 1).to(device)
        self._embeddings = [table.to(device) for table in layout.embeddings()]
        self._gaussians = layout.gaussian_rows().to(device) if layout.has_points else None
        self._conditions = self._condition_table(dict(self._wide_spans), n_numeric)
        if self._conditions is not None:
            self._conditions = self._conditions.to(device)

    def _condition_table(self, wide: Mapping[int, int], n_numeric: int) -> Tensor | None:
        """**Shape** (C, Q): the features of each level; None when they are one-hot."""
        sizes = self.layout.level_sizes
        if not any(span >= n_numeric for span in wide):
            return None
        blocks = []
        for place, size in enumerate(sizes):
            span = n_numeric + place
            blocks.append(self._embeddings[wide[span]] if span in wide else torch.eye(size))
        table: Tensor = torch.block_diag(*blocks)
        return table

    @property
    def n_conditions(self) -> int:
        """Q."""
        if self._conditions is not None:
            return int(self._conditions.shape[1])
        return self.layout.n_levels

    def of_conditions(self, pairs_KB: Tensor) -> Tensor:
        """**Shape** (K, Q, B): the conditions, given as levels of all levels."""
        if self._conditions is not None:
            rows = self._conditions.index_select(0, pairs_KB.view(-1))
            return rows.view(*pairs_KB.shape, -1).transpose(1, 2).contiguous()
        n_members, n_rows = pairs_KB.shape
        one_hot = torch.zeros(n_members, self.layout.n_levels, n_rows, device=pairs_KB.device)
        return one_hot.scatter_(1, pairs_KB.unsqueeze(1), 1.0)

    def of_rows(self, codes_KSB: Tensor, scalars_KMB: Tensor) -> Tensor:
        """**Shape** (K, J, B): real rows."""
        layout = self.layout
        n_members, _, n_rows = codes_KSB.shape
        x_KJB = torch.zeros(n_members, layout.feature_width, n_rows, device=codes_KSB.device)
        x_KJB[:, : layout.n_numeric] = scalars_KMB
        narrow = codes_KSB if not self._wide_spans else codes_KSB.index_select(1, self._narrow)
        x_KJB.scatter_(1, narrow + self._starts_S1, 1.0)
        for span, place in self._wide_spans:
            rows = self._embeddings[place].index_select(0, codes_KSB[:, span].reshape(-1))
            rows = rows.view(n_members, n_rows, EMBEDDING)
            x_KJB[:, layout.wide_rows(place)] = rows.transpose(1, 2)
        return x_KJB

    def of_logits(self, logits_KWB: Tensor, uniform_KVB: Tensor) -> Tensor:
        """**Shape** (K, J, B): fake rows, by the Gumbel-softmax of their logits.

        Jang et al. 2017, arXiv 1611.01144, equation 2, with temperature 0.2.  Keeps what
        `backward` needs.

        A scalar is multiplied by the probability that its mode has one: real rows hold an exact 0
        at points and missing values, by which the critic would know them.
        """
        layout = self.layout
        n_numeric = layout.n_numeric
        noisy = uniform_KVB.clamp_min(1e-20).log_().neg_().clamp_min_(1e-20).log_()
        noisy = torch.sub(logits_KWB[:, n_numeric:], noisy, out=noisy)
        noisy *= 1.0 / TEMPERATURE
        x_KJB = logits_KWB.new_empty(len(logits_KWB), layout.feature_width, logits_KWB.shape[2])
        self._wide_shares: list[Tensor] = []
        for group in layout.groups:
            rows = slice(group.rows.start - n_numeric, group.rows.stop - n_numeric)
            part = noisy[:, rows].unflatten(1, (group.count, group.size))
            shares = torch.softmax(part, dim=2).flatten(1, 2)
            if group.rows.stop <= layout.narrow_width:
                x_KJB[:, group.rows] = shares
            else:
                self._wide_shares += shares.chunk(group.count, dim=1)
        for place, shares in enumerate(self._wide_shares):
            table = self._embeddings[place].t().expand(len(shares), -1, -1)
            x_KJB[:, layout.wide_rows(place)] = torch.bmm(table, shares)
        self._scalars = torch.tanh(logits_KWB[:, :n_numeric])
        self._present = None
        if self._gaussians is None:
            x_KJB[:, :n_numeric] = self._scalars
        elif n_numeric:
            x_KJB[:, :n_numeric] = 0.0
            self._present = torch.bmm(self._gaussians, x_KJB)
            torch.mul(self._scalars, self._present, out=x_KJB[:, :n_numeric])
        self._fake = x_KJB
        return x_KJB

    def backward(self, d_KJB: Tensor) -> Tensor:
        """The gradient at the logits, **shape** (K, W, B), for this one at the fake rows."""
        layout = self.layout
        n_numeric = layout.n_numeric
        d_KWB = d_KJB.new_empty(len(d_KJB), layout.width, d_KJB.shape[2])
        d_scalars = d_KJB[:, :n_numeric]
        if self._present is not None:
            assert self._gaussians is not None
            d_present = d_scalars * self._scalars
            d_scalars = d_scalars * self._present
            d_KJB = torch.baddbmm(d_KJB, self._gaussians.transpose(1, 2), d_present)
        torch.mul(d_scalars, 1.0 - self._scalars.square(), out=d_KWB[:, :n_numeric])
        place = 0
        for group in layout.groups:
            shape = (group.count, group.size)
            if group.rows.stop <= layout.narrow_width:
                shares, d_shares = self._fake[:, group.rows], d_KJB[:, group.rows]
            else:
                last = place + group.count
                shares = torch.cat(self._wide_shares[place:last], dim=1)
                d_shares = torch.cat(
                    [
                        torch.matmul(self._embeddings[spot], d_KJB[:, layout.wide_rows(spot)])
                        for spot in range(place, last)
                    ],
                    dim=1,
                )
                place = last
            d_KWB[:, group.rows] = torch._softmax_backward_data(
                d_shares.unflatten(1, shape), shares.unflatten(1, shape), 2, torch.float32
            ).flatten(1, 2)
        d_KWB[:, n_numeric:] *= 1.0 / TEMPERATURE
        return d_KWB


class Heads:
    """The end of a generating network: from its output to logits.

    Narrow spans' logits are the output itself; a wide span's are the product of a trained matrix,
    **shape** (size, EMBEDDING), and its rows of the output: a factored softmax.  Every logit and
    every scalar has a bias.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        self._absences = layout.absences().to(device) if layout.is_padded else None

    @property
    def shapes(self) -> Shapes:
        """The weights of one member."""
        shapes: Shapes = {"head.bias": (self.layout.width,)}
        for place, span in enumerate(self.layout.wide):
            shapes[f"head.wide.{place}"] = (span.size, EMBEDDING)
        return shapes

    def initialise(
        self, value: Mapping[str, Tensor], logits: Tensor, n_in: int, stream: torch.Generator
    ) -> None:
        """Initial weights of one member, which uses these rows of the logits."""
        drawn = torch.empty(len(logits))
        fill_uniform(drawn, n_in, stream)
        value["head.bias"][logits] = drawn.to(value["head.bias"].device)
        for place in range(len(self.layout.wide)):
            fill_uniform(value[f"head.wide.{place}"], EMBEDDING, stream)

    def forward(self, flat: Flat, out_KOB: Tensor) -> Tensor:
        """**Shape** (K, O, B) to (K, W, B); ``out_KOB`` may be overwritten."""
        bias = flat.value["head.bias"].unsqueeze(2)
        if self._absences is not None:
            bias = bias + self._absences
        if not self.layout.wide:
            return out_KOB.add_(bias)
        self._out = out_KOB
        shape = (len(out_KOB), self.layout.width, out_KOB.shape[2])
        logits = out_KOB.new_empty(shape)
        narrow = self.layout.narrow_width
        logits[:, :narrow] = out_KOB[:, :narrow]
        for place, span in enumerate(self.layout.wide):
            matrix = flat.matrix[f"head.wide.{place}"]
            logits[:, span.rows] = product(
                matrix, out_KOB[:, self.layout.wide_rows(place)], matrix.dtype
            )
        return logits.add_(bias)

    def backward(self, flat: Flat, d_KWB: Tensor) -> Tensor:
        """Write the gradients of the weights; returns the output's, **shape** (K, O, B)."""
        torch.sum(d_KWB, dim=2, out=flat.grad["head.bias"])
        if not self.layout.wide:
            return d_KWB
        narrow = self.layout.narrow_width
        d_out = d_KWB.new_empty(len(d_KWB), self.layout.feature_width, d_KWB.shape[2])
        d_out[:, :narrow] = d_KWB[:, :narrow]
        for place, span in enumerate(self.layout.wide):
            name, mine = f"head.wide.{place}", self.layout.wide_rows(place)
            matrix = flat.matrix[name]
            d_span = d_KWB[:, span.rows]
            set_product(flat.grad[name], d_span, self._out[:, mine].transpose(1, 2), matrix.dtype)
            d_out[:, mine] = product(matrix.transpose(1, 2), d_span, matrix.dtype)
        return d_out

    def apply(self, weights: Mapping[str, Tensor], out_OB: Tensor) -> Tensor:
        """**Shape** (O, B) to (W, B), of the weights of one member."""
        if self.layout.wide:
            narrow = out_OB[: self.layout.narrow_width]
            wide = [
                weights[f"head.wide.{place}"] @ out_OB[self.layout.wide_rows(place)]
                for place in range(len(self.layout.wide))
            ]
            out_OB = torch.cat([narrow, *wide])
        return out_OB.add_(weights["head.bias"].unsqueeze(1))
