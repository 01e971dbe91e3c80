"""From codes to what networks read, and from what they make to rows.

Legend: see `synthfactory.generators.layout`; Q width of the conditions' features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from synthfactory.generators.drawing import Batch, Deck, Known
from synthfactory.generators.flat import Flat
from synthfactory.generators.layout import EMBEDDING, Layout
from synthfactory.generators.networks import Shapes, fill_uniform
from synthfactory.generators.precision import fuses, product, set_product

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
        self._gaussians = layout.gaussian_codes().to(device) if layout.has_points else None
        self._conditions = self._condition_table(dict(self._wide_spans), n_numeric)
        if self._conditions is not None:
            self._conditions = self._conditions.to(device)
        self._columns = _columns(layout, device) if layout.n_levels else ()

    def _condition_table(self, wide: Mapping[int, int], n_numeric: int) -> Tensor | None:
        """**Shape** (C, Q): the features of each level; None when they are one-hot."""
        sizes, device = self.layout.level_sizes, self._narrow.device
        if not any(span >= n_numeric for span in wide):
            return None
        blocks = []
        for place, size in enumerate(sizes):
            span = n_numeric + place
            blocks.append(
                self._embeddings[wide[span]] if span in wide else torch.eye(size, device=device)
            )
        table: Tensor = torch.block_diag(*blocks)
        return table

    @property
    def n_conditions(self) -> int:
        """Q."""
        if self._conditions is not None:
            return int(self._conditions.shape[1])
        return self.layout.n_levels

    @property
    def condition_table(self) -> Tensor:
        """**Shape** (C, Q): the features of each level; (1, 0) when there is none."""
        if self._conditions is not None:
            return self._conditions
        device, n_levels = self._narrow.device, self.layout.n_levels
        return torch.eye(n_levels, device=device) if n_levels else torch.zeros(1, 0, device=device)

    def of_conditions(self, pairs_KB: Tensor, out: Tensor) -> None:
        """Write conditions, as levels of all levels, into ``out``, zeros of (K, Q, \\*rows)."""
        n_members, rows = len(pairs_KB), out.shape[2:]
        if self._conditions is None:
            out.scatter_(1, pairs_KB.view(n_members, 1, *rows), 1.0)
        else:
            found = self._conditions.index_select(0, pairs_KB.view(-1))
            found = found.view(n_members, pairs_KB.shape[1], -1).transpose(1, 2)
            out.copy_(found.reshape(out.shape))

    def of_rows(self, codes_KSB: Tensor, scalars_KMB: Tensor, out: Tensor) -> None:
        """Write real rows into ``out``, zeros of **shape** (K, J, \\*rows)."""
        layout = self.layout
        n_members, rows = len(codes_KSB), out.shape[2:]
        out[:, : layout.n_numeric] = scalars_KMB.view(n_members, -1, *rows)
        narrow = codes_KSB if not self._wide_spans else codes_KSB.index_select(1, self._narrow)
        out.scatter_(1, (narrow + self._starts_S1).view(n_members, -1, *rows), 1.0)
        self._embed(codes_KSB, out)

    def of_known(
        self,
        deck: Deck,
        known: Known,
        inputs_KIB: Tensor,
        x_KFP3G: Tensor,
    ) -> None:
        """Write what CTGAN's networks read but the fake rows.

        Parameters
        ----------
        deck, known
            Real rows, and conditions.
        inputs_KIB
            The generator's input: conditions behind noise.
        x_KFP3G
            The critic's, see `Critic.input`.
        """
        n_features = self.layout.feature_width
        x_KFP3G.zero_()
        if known.pairs is not None:
            assert known.before is not None
            self.of_conditions(known.pairs, inputs_KIB[:, -self.n_conditions :].zero_())
            for sort, levels in enumerate((known.before, known.pairs)):
                self.of_conditions(levels, x_KFP3G[:, n_features:, :, sort])
        self.of_rows(*known.rows(deck), x_KFP3G[:, :n_features, :, 0])

    def of_fakes(self, logits_KWB: Tensor, uniform_KVB: Tensor, x_KFP3G: Tensor) -> None:
        """`of_logits` into the critic's input."""
        self.of_logits(logits_KWB, uniform_KVB, x_KFP3G[:, : self.layout.feature_width, :, 1])

    def of_batch(self, batch: Batch, out_KJB: Tensor) -> None:
        """Write the rows of a batch into ``out_KJB``, whose memory is in one piece."""
        if not self._wide_spans and fuses(out_KJB):
            from synthfactory.generators._kernels import variational as kernels

            places, scalars = batch.places.numpy(), batch.scalars_KMB.numpy()
            kernels.write_rows(places, scalars, out_KJB.numpy())
            return
        out_KJB.zero_()
        if self._wide_spans:
            self.of_rows(batch.codes_KSB, batch.scalars_KMB, out_KJB)
            return
        # Without wide spans features stand where logits stand.
        out_KJB.view(-1).index_fill_(0, batch.places, 1.0)
        out_KJB[:, : self.layout.n_numeric] = batch.scalars_KMB

    def _embed(self, codes_KSB: Tensor, out: Tensor) -> None:
        """Write the features of wide spans."""
        n_members, rows = len(codes_KSB), out.shape[2:]
        for span, place in self._wide_spans:
            found = self._embeddings[place].index_select(0, codes_KSB[:, span].reshape(-1))
            found = found.view(n_members, -1, EMBEDDING).transpose(1, 2)
            out[:, self.layout.wide_rows(place)] = found.reshape(n_members, EMBEDDING, *rows)

    def of_logits(self, logits_KWB: Tensor, uniform_KVB: Tensor, out: Tensor) -> None:
        """Write fake rows into ``out``, (K, J, \\*rows): the Gumbel-softmax of their logits.

        Jang et al. 2017, arXiv 1611.01144, equation 2, with temperature 0.2.  Keeps what
        `backward` needs.

        A scalar is multiplied by the probability that its mode has one: real rows hold an exact 0
        at points and missing values, by which the critic would know them.
        """
        layout = self.layout
        n_numeric, narrow = layout.n_numeric, layout.narrow_width
        n_members, _, n_rows = logits_KWB.shape
        rows = out.shape[2:]
        noisy = uniform_KVB.clamp_min(1e-20).log_().neg_().clamp_min_(1e-20).log_()
        noisy = torch.sub(logits_KWB[:, n_numeric:], noisy, out=noisy).mul_(1.0 / TEMPERATURE)
        self._shares = logits_KWB.new_empty(n_members, narrow - n_numeric, n_rows)
        self._wide_shares: list[Tensor] = []
        for group in layout.groups:
            mine = slice(group.rows.start - n_numeric, group.rows.stop - n_numeric)
            part = noisy[:, mine].unflatten(1, (group.count, group.size))
            if group.rows.stop <= narrow:
                softmax(part, self._shares[:, mine].unflatten(1, (group.count, group.size)))
            else:
                self._wide_shares += torch.softmax(part, dim=2).flatten(1, 2).chunk(group.count, 1)
        out[:, n_numeric:narrow] = self._shares.view(n_members, -1, *rows)
        for place, shares in enumerate(self._wide_shares):
            table = self._embeddings[place].t().expand(n_members, -1, -1)
            embedded = torch.bmm(table, shares)
            out[:, layout.wide_rows(place)] = embedded.view(n_members, EMBEDDING, *rows)
        self._scalars = torch.tanh(logits_KWB[:, :n_numeric])
        self._present, scalars = None, self._scalars
        if self._gaussians is not None:
            self._present = torch.bmm(self._gaussians, self._shares)
            scalars = self._scalars * self._present
        out[:, :n_numeric] = scalars.view(n_members, -1, *rows)

    def backward(self, d_KJB: Tensor) -> Tensor:
        """The gradient at the logits, **shape** (K, W, B), for this one at the fake rows."""
        layout, d_KJB = self.layout, d_KJB.float()
        n_numeric, narrow = layout.n_numeric, layout.narrow_width
        d_KWB = d_KJB.new_empty(len(d_KJB), layout.width, d_KJB.shape[2])
        d_scalars, d_codes = d_KJB[:, :n_numeric], d_KJB[:, n_numeric:narrow]
        if self._present is not None:
            assert self._gaussians is not None
            d_present = d_scalars * self._scalars
            d_scalars = d_scalars * self._present
            d_codes = torch.baddbmm(d_codes, self._gaussians.transpose(1, 2), d_present)
        torch.mul(d_scalars, 1.0 - self._scalars.square(), out=d_KWB[:, :n_numeric])
        place = 0
        for group in layout.groups:
            shape = (group.count, group.size)
            if group.rows.stop <= narrow:
                mine = slice(group.rows.start - n_numeric, group.rows.stop - n_numeric)
                shares, d_shares = self._shares[:, mine], d_codes[:, mine]
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
            _softmax_backward(
                d_shares.unflatten(1, shape),
                shares.unflatten(1, shape),
                d_KWB[:, group.rows].unflatten(1, shape),
            )
        d_KWB[:, n_numeric:] *= 1.0 / TEMPERATURE
        return d_KWB

    def follow(self, logits_KWB: Tensor, pairs_KB: Tensor, d_KWB: Tensor) -> Tensor:
        """The conditioned column's cross-entropy, mean over rows (Xu et al. 2019, section 4.3),
        **shape** (K,).

        Its gradient is added to ``d_KWB``.  Each row looks at the logits of one column only.
        """
        starts_C, sizes_C, firsts_C, widest_L1 = self._columns
        start_K1B = starts_C[pairs_KB].unsqueeze(1)
        outside_KLB = widest_L1 >= sizes_C[pairs_KB].unsqueeze(1)
        # A short column's spare places repeat its first one; nothing is added to it there.
        rows_KLB = start_K1B + widest_L1.masked_fill(outside_KLB, 0)
        part_KLB = logits_KWB.gather(1, rows_KLB).masked_fill_(outside_KLB, -torch.inf)
        shares_KLB = torch.softmax(part_KLB, dim=1)
        level_K1B = (pairs_KB - firsts_C[pairs_KB]).unsqueeze(1)
        loss_K = -shares_KLB.gather(1, level_K1B).clamp_min_(1e-30).log_().mean(dim=(1, 2))
        scale = 1.0 / pairs_KB.shape[1]
        d_KWB.scatter_add_(1, rows_KLB, shares_KLB.mul_(scale))
        taken = torch.full_like(level_K1B, -scale, dtype=d_KWB.dtype)
        d_KWB.scatter_add_(1, start_K1B + level_K1B, taken)
        return loss_K


def _columns(layout: Layout, device: torch.device) -> tuple[Tensor, ...]:
    """For each level of all levels where its column's logits begin, how many there are, and which
    level is its column's first; and the numbers up to the most that there are, **shape** (L, 1)."""
    sizes = torch.tensor(layout.level_sizes)
    starts = torch.tensor(layout.starts[layout.n_numeric :])
    firsts = sizes.cumsum(0) - sizes
    each = (part.repeat_interleave(sizes).to(device) for part in (starts, sizes, firsts))
    return (*each, torch.arange(int(sizes.max())).view(-1, 1).to(device))


def softmax(logits: Tensor, out: Tensor) -> None:
    """Write the softmax over the third dimension."""
    if out.is_contiguous():
        torch.softmax(logits, dim=2, out=out)
    else:
        out.copy_(torch.softmax(logits, dim=2))


def _softmax_backward(d_shares: Tensor, shares: Tensor, out: Tensor) -> None:
    """Write the gradient at the logits of a softmax over the third dimension."""
    if out.is_contiguous():
        backward = torch.ops.aten._softmax_backward_data.out
        backward(d_shares, shares, 2, torch.float32, grad_input=out)
    else:
        # torch 2.13 writes wrong places of an output that is not contiguous.
        out.copy_(torch._softmax_backward_data(d_shares, shares, 2, torch.float32))


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

    def place(self, out_KOB: Tensor) -> Tensor:
        """Where `forward` may write the logits of ``out_KOB`` each time."""
        if not self.layout.wide:
            return out_KOB
        return out_KOB.new_empty(len(out_KOB), self.layout.width, out_KOB.shape[2])

    def forward(self, flat: Flat, out_KOB: Tensor, logits_KWB: Tensor | None = None) -> Tensor:
        """**Shape** (K, O, B) to (K, W, B), in their `place`; ``out_KOB`` may be overwritten."""
        bias = flat.value["head.bias"].unsqueeze(2)
        if self._absences is not None:
            bias = bias + self._absences
        if not self.layout.wide:
            return out_KOB.add_(bias)
        self._out = out_KOB
        logits = self.place(out_KOB) if logits_KWB is None else logits_KWB
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
        torch.sum(d_KWB, dim=2, dtype=torch.float32, out=flat.grad["head.bias"])
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
