"""The networks of CTGAN and TVAE for K members at once, with their derivatives written out.

A step of a small network is mostly overhead: operators that are launched, graphs that are built,
gradients that nobody uses.  So forward and backward passes are plain functions over batched matrix
products; they compute what the papers' formulas say and nothing else, in an order that is the same
for one member and for sixty-four, on a processor and in a CUDA graph.  The tests compare every
derivative with automatic differentiation.

Tensors are feature-major, see `synthfactory.generators.layout`.

Legend: K members, B batch rows, P rows of a pac, G = B / P pacs, Z width of the noise, H a hidden
width, O width of the output layer, J width of the features, C levels of all discrete columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from synthfactory.generators.flat import Flat
from synthfactory.generators.precision import add_product, product

LEAK = 0.2
EPSILON = 1e-5
PENALTY = 10.0

Shapes = dict[str, tuple[int, ...]]


def fill_uniform(target: Tensor, n_in: int, stream: torch.Generator) -> None:
    """Initial weights of variance 1 / (3 n_in), torch's default for linear layers."""
    bound = 1.0 / math.sqrt(n_in)
    drawn = torch.empty(target.shape).uniform_(-bound, bound, generator=stream)
    target.copy_(drawn)


class Residual:
    """CTGAN's generator: blocks ``cat(relu(batchnorm(fc(x))), x)`` (Xu et al. 2019, section 4.4).

    Its input is noise and a condition.  The condition is one-hot, so that its part of each layer is
    a row of a table, *levels*; nothing of width C is ever multiplied.

    All activations live in one buffer, **shape** (K, H_n + ... + H_1 + Z, B), the latest first: the
    input of each layer is the end of it.

    Parameters
    ----------
    n_noise, hidden, n_out, n_levels
        Z, the hidden widths, O and C.
    """

    def __init__(self, n_noise: int, hidden: Sequence[int], n_out: int, n_levels: int) -> None:
        self.n_noise, self.hidden = n_noise, tuple(hidden)
        self.n_out, self.n_levels = n_out, n_levels
        self.n_hidden = sum(hidden)
        # Where the input of each layer begins; the output layer reads everything.
        self._starts = [sum(hidden[place:]) for place in range(len(hidden))] + [0]

    @property
    def shapes(self) -> Shapes:
        """The weights of one member."""
        shapes: Shapes = {}
        for place, size in enumerate(self.hidden):
            n_in = self.n_hidden - self._starts[place] + self.n_noise
            shapes[f"layer.{place}.weight"] = (size, n_in)
            shapes[f"layer.{place}.gain"] = (size,)
            shapes[f"layer.{place}.bias"] = (size,)
        shapes["out.weight"] = (self.n_out, self.n_hidden + self.n_noise)
        if self.n_levels:
            shapes["levels"] = (self.n_levels, self.n_hidden + self.n_out)
        return shapes

    def initialise(
        self, value: Mapping[str, Tensor], outputs: Tensor, stream: torch.Generator
    ) -> None:
        """Initial weights of one member, which uses these rows of the output layer."""
        start = 0
        for place, size in enumerate(self.hidden):
            weight = value[f"layer.{place}.weight"]
            n_in = weight.shape[1] + self.n_levels
            fill_uniform(weight, n_in, stream)
            value[f"layer.{place}.gain"].fill_(1.0)
            if self.n_levels:
                fill_uniform(value["levels"][:, start : start + size], n_in, stream)
            start += size
        n_in = self.n_hidden + self.n_noise + self.n_levels
        drawn = torch.empty(len(outputs), value["out.weight"].shape[1])
        fill_uniform(drawn, n_in, stream)
        value["out.weight"][outputs] = drawn.to(value["out.weight"].device)
        if self.n_levels:
            drawn = torch.empty(self.n_levels, len(outputs))
            fill_uniform(drawn, n_in, stream)
            device = value["levels"].device
            value["levels"][:, start + outputs.to(device)] = drawn.to(device)

    def _blocks(self) -> list[tuple[slice, slice]]:
        """For each layer the rows of its output in the buffer and in the table of levels."""
        blocks, start = [], 0
        for place, size in enumerate(self.hidden):
            end = self._starts[place]
            blocks.append((slice(end - size, end), slice(start, start + size)))
            start += size
        return blocks

    def _conditions(self, flat: Flat, pairs_KB: Tensor) -> tuple[Tensor, Tensor]:
        """What the conditions add to each layer, **shape** (K, F, B), and rows of the table."""
        n_members, n_rows = pairs_KB.shape
        first_K1 = torch.arange(n_members, device=pairs_KB.device).unsqueeze(1) * self.n_levels
        rows = (pairs_KB + first_K1).view(-1)
        found = flat.value["levels"].flatten(0, 1).index_select(0, rows)
        return found.view(n_members, n_rows, -1).transpose(1, 2).contiguous(), rows

    def forward(self, flat: Flat, z_KZB: Tensor, pairs_KB: Tensor | None) -> Tensor:
        """**Shape** (K, O, B); batch normalisation over the batch.  Keeps what `backward` needs.

        Parameters
        ----------
        z_KZB
            Noise.
        pairs_KB
            The condition of each row, a level of all levels; None without discrete columns.
        """
        n_members, _, n_rows = z_KZB.shape
        matrix, value = flat.matrix, flat.value
        dtype = matrix["out.weight"].dtype
        self._buffer = z_KZB.new_empty(n_members, self.n_hidden + self.n_noise, n_rows)
        self._buffer[:, self.n_hidden :] = z_KZB
        self._norms: list[tuple[Tensor, Tensor, Tensor]] = []
        added, self._rows = (None, None)
        if pairs_KB is not None:
            added, self._rows = self._conditions(flat, pairs_KB)
        for place, (mine, listed) in enumerate(self._blocks()):
            inputs = self._buffer[:, self._starts[place] :]
            sums = _affine(
                None if added is None else added[:, listed],
                matrix[f"layer.{place}.weight"],
                inputs,
                dtype,
            )
            normed, mean, scale = torch.native_batch_norm(
                sums.view(1, -1, n_rows),
                value[f"layer.{place}.gain"].view(-1),
                value[f"layer.{place}.bias"].view(-1),
                None,
                None,
                True,
                0.0,
                EPSILON,
            )
            self._norms.append((sums, mean, scale))
            torch.clamp_min(normed.view_as(sums), 0.0, out=self._buffer[:, mine])
        listed = slice(self.n_hidden, None)
        return _affine(
            None if added is None else added[:, listed],
            matrix["out.weight"],
            self._buffer,
            dtype,
        )

    def statistics(self) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of each layer's sums in the last batch, **shape** (K, H) each."""
        n_members = len(self._buffer)
        return [
            (
                mean.view(n_members, -1),
                scale.view(n_members, -1).pow(-2) - EPSILON,
            )
            for _, mean, scale in self._norms
        ]

    def backward(self, flat: Flat, d_out_KOB: Tensor) -> None:
        """Write the gradients of the weights for this gradient of the output."""
        matrix, value, grad = flat.matrix, flat.value, flat.grad
        dtype = matrix["out.weight"].dtype
        n_members, _, n_rows = d_out_KOB.shape
        d_added = None
        if self._rows is not None:
            d_added = d_out_KOB.new_empty(n_members, self.n_hidden + self.n_out, n_rows)
            d_added[:, self.n_hidden :] = d_out_KOB
        set_product(grad["out.weight"], d_out_KOB, self._buffer.transpose(1, 2), dtype)
        d_hidden = product(
            matrix["out.weight"][:, :, : self.n_hidden].transpose(1, 2), d_out_KOB, dtype
        )
        for place, (mine, listed) in reversed(list(enumerate(self._blocks()))):
            sums, mean, scale = self._norms[place]
            d_normed = torch.ops.aten.threshold_backward(
                d_hidden[:, mine], self._buffer[:, mine], 0.0
            )
            d_sums, d_gain, d_bias = torch.ops.aten.native_batch_norm_backward(
                d_normed.reshape(1, -1, n_rows),
                sums.view(1, -1, n_rows),
                value[f"layer.{place}.gain"].view(-1),
                None,
                None,
                mean,
                scale,
                True,
                EPSILON,
                [True, True, True],
            )
            d_sums = d_sums.view_as(sums)
            grad[f"layer.{place}.gain"].copy_(d_gain.view(n_members, -1))
            grad[f"layer.{place}.bias"].copy_(d_bias.view(n_members, -1))
            if d_added is not None:
                d_added[:, listed] = d_sums
            start = self._starts[place]
            set_product(
                grad[f"layer.{place}.weight"],
                d_sums,
                self._buffer[:, start:].transpose(1, 2),
                dtype,
            )
            n_before = self.n_hidden - start
            if n_before:
                weight = matrix[f"layer.{place}.weight"][:, :, :n_before]
                add_product(d_hidden[:, start:], weight.transpose(1, 2), d_sums, dtype)
        if d_added is not None and self._rows is not None:
            rows = d_added.transpose(1, 2).reshape(n_members * n_rows, -1)
            grad["levels"].zero_().flatten(0, 1).index_add_(0, self._rows, rows)

    def fold(self, flat: Flat, statistics: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Weights of one member for `apply`, with these means and variances folded in."""
        value = {name: view[0] for name, view in flat.value.items()}
        kept = self.folded(flat.shapes)
        folded = {name: view.clone() for name, view in value.items() if name in kept}
        for place, ((_, listed), (mean, variance)) in enumerate(
            zip(self._blocks(), statistics, strict=True)
        ):
            scale = value[f"layer.{place}.gain"] * (variance[0] + EPSILON).rsqrt()
            shift = value[f"layer.{place}.bias"] - mean[0] * scale
            folded[f"layer.{place}.weight"] *= scale.unsqueeze(1)
            if self.n_levels:
                folded["levels"][:, listed] *= scale
                folded["levels"][:, listed] += shift
            else:
                folded[f"layer.{place}.bias"] = shift
        return folded

    def folded(self, shapes: Shapes) -> Shapes:
        """The shapes of folded weights; a shift of every row is part of the table of levels."""
        gone = {f"layer.{place}.gain" for place in range(len(self.hidden))}
        if self.n_levels:
            gone |= {f"layer.{place}.bias" for place in range(len(self.hidden))}
        return {name: shape for name, shape in shapes.items() if name not in gone}

    def apply(self, weights: Mapping[str, Tensor], z_ZB: Tensor, pairs_B: Tensor | None) -> Tensor:
        """**Shape** (O, B): the output of folded weights."""
        buffer = z_ZB.new_empty(self.n_hidden + self.n_noise, z_ZB.shape[1])
        buffer[self.n_hidden :] = z_ZB
        added = None
        if pairs_B is not None:
            added = weights["levels"].index_select(0, pairs_B).t().contiguous()
        for place, (mine, listed) in enumerate(self._blocks()):
            start = weights[f"layer.{place}.bias"].unsqueeze(1) if added is None else added[listed]
            sums = torch.addmm(
                start, weights[f"layer.{place}.weight"], buffer[self._starts[place] :]
            )
            torch.clamp_min(sums, 0.0, out=buffer[mine])
        if added is None:
            return weights["out.weight"] @ buffer
        return torch.addmm(added[self.n_hidden :], weights["out.weight"], buffer)


def _affine(added: Tensor | None, weight: Tensor, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """``added + weight @ inputs``."""
    if added is None:
        return product(weight, inputs, dtype)
    if dtype == torch.float32:
        return torch.baddbmm(added, weight, inputs)
    return added + product(weight, inputs, dtype)


def set_product(target: Tensor, a: Tensor, b: Tensor, dtype: torch.dtype) -> None:
    """``target = a @ b``, in place."""
    if dtype == torch.float32:
        torch.bmm(a, b, out=target)
    else:
        target.copy_(torch.bmm(a.to(dtype), b.to(dtype)))


class Critic:
    """The discriminator, which judges P rows together (PacGAN, Lin et al. 2018, arXiv 1712.04086).

    Its first layer has two matrices: *rows*, **shape** (H, J * P), for what is judged, and
    *levels*, **shape** (H, Q * P), for the conditions, whose part is the same for real rows and
    fake ones and is computed once.

    Parameters
    ----------
    n_features, n_conditions
        J, and width Q of the conditions' features.
    pac, hidden, dropout
        P, the hidden widths, and the share of dropped units.
    """

    def __init__(
        self, n_features: int, n_conditions: int, pac: int, hidden: Sequence[int], dropout: float
    ) -> None:
        self.n_features, self.n_conditions, self.pac = n_features, n_conditions, pac
        self.hidden, self.dropout = tuple(hidden), dropout

    @property
    def shapes(self) -> Shapes:
        """The weights of one member."""
        shapes: Shapes = {"rows": (self.hidden[0], self.n_features * self.pac)}
        if self.n_conditions:
            shapes["levels"] = (self.hidden[0], self.n_conditions * self.pac)
        for place, size in enumerate(self.hidden):
            shapes[f"layer.{place}.bias"] = (size,)
            if place:
                shapes[f"layer.{place}.weight"] = (size, self.hidden[place - 1])
        return {**shapes, "out.weight": (self.hidden[-1],), "out.bias": (1,)}

    def initialise(
        self, value: Mapping[str, Tensor], features: Tensor, stream: torch.Generator
    ) -> None:
        """Initial weights of one member, which uses these features."""
        n_in = (len(features) + self.n_conditions) * self.pac
        drawn = torch.empty(self.hidden[0], len(features), self.pac)
        fill_uniform(drawn, n_in, stream)
        rows = value["rows"].view(self.hidden[0], self.n_features, self.pac)
        rows[:, features] = drawn.to(rows.device)
        if self.n_conditions:
            fill_uniform(value["levels"], n_in, stream)
        for place, size in enumerate(self.hidden):
            if place:
                n_in = self.hidden[place - 1]
                fill_uniform(value[f"layer.{place}.weight"], n_in, stream)
            fill_uniform(value[f"layer.{place}.bias"], n_in, stream)
            n_in = size
        fill_uniform(value["out.weight"], n_in, stream)
        fill_uniform(value["out.bias"], n_in, stream)

    @property
    def n_masked(self) -> int:
        """Uniform numbers per pac that dropout uses."""
        return sum(self.hidden) if self.dropout else 0

    def learn(
        self,
        flat: Flat,
        real_KJB: Tensor,
        fake_KJB: Tensor,
        levels_KQB: Tensor | None,
        share_K1G: Tensor,
        mask: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Write the gradients of the critic's loss: ``mean fake - mean real + gradient penalty``.

        The penalty is WGAN-GP's (Gulrajani et al. 2017, arXiv 1704.00028, equation 3) on whole
        pacs.  The network is piecewise linear, so that its slope at a point is a product of its
        weights and of the local factors of its units; the product is formed directly, and its
        derivative with it, instead of differentiating a derivative.  The first layer is linear,
        so that what it makes of a point between two others lies between what it makes of them.

        Parameters
        ----------
        real_KJB, fake_KJB
            Features of the rows; row ``p * G + g`` belongs to pac g.
        levels_KQB
            The conditions of the fake rows; the real rows of pac g have those of pac g - 1, so
            that no real pac is compared with a fake one of the same conditions.
        share_K1G
            Where between real and fake the slope is taken.
        mask
            Uniform numbers for dropout, **shape** (K, H, 3 G) for each layer; empty without.

        Returns
        -------
        difference_K, penalty_K
        """
        matrix, grad = flat.matrix, flat.grad
        dtype = matrix["rows"].dtype
        real, fake = self._pacs(real_KJB), self._pacs(fake_KJB)
        n_pacs = real.shape[2]
        first_real = product(matrix["rows"], real, dtype)
        first_fake = product(matrix["rows"], fake, dtype)
        levels = None
        if levels_KQB is not None:
            levels = self._pacs(levels_KQB)
            theirs = product(matrix["levels"], levels, dtype)
            first_fake += theirs
            first_real += theirs.roll(1, 2)
        sums = torch.cat([first_real, first_fake], dim=2)
        sums += flat.value["layer.0.bias"].unsqueeze(2)
        between = torch.lerp(sums[:, :, n_pacs:], sums[:, :, :n_pacs], share_K1G)
        scores, factors, units = self._up(flat, sums, [m[:, :, : 2 * n_pacs] for m in mask])
        difference = scores[:, n_pacs:].mean(dim=1) - scores[:, :n_pacs].mean(dim=1)
        d_scores = torch.full_like(scores, 1.0 / n_pacs)
        d_scores[:, :n_pacs] = -1.0 / n_pacs
        d_sums = self._down(flat, d_scores, factors, units)
        d_real, d_fake = d_sums[:, :, :n_pacs], d_sums[:, :, n_pacs:]
        set_product(grad["rows"], d_real, real.transpose(1, 2), dtype)
        add_product(grad["rows"], d_fake, fake.transpose(1, 2), dtype)
        if levels is not None:
            both = d_fake + d_real.roll(-1, 2)
            set_product(grad["levels"], both, levels.transpose(1, 2), dtype)
        penalty = self._penalise(flat, between, [m[:, :, 2 * n_pacs :] for m in mask])
        return difference, penalty

    def guide(
        self,
        flat: Flat,
        fake_KJB: Tensor,
        levels_KQB: Tensor | None,
        mask: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The generator's loss, ``-mean score``, **shape** (K,), and its gradient at the features.

        No gradient of the critic's weights is formed.
        """
        matrix = flat.matrix
        dtype = matrix["rows"].dtype
        sums = product(matrix["rows"], self._pacs(fake_KJB), dtype)
        if levels_KQB is not None:
            sums += product(matrix["levels"], self._pacs(levels_KQB), dtype)
        sums += flat.value["layer.0.bias"].unsqueeze(2)
        scores, factors, units = self._up(flat, sums, mask)
        d_scores = torch.full_like(scores, -1.0 / scores.shape[1])
        d_sums = self._down(flat, d_scores, factors, units, learning=False)
        d_pacs = product(matrix["rows"].transpose(1, 2), d_sums, dtype)
        return -scores.mean(dim=1), d_pacs.view_as(fake_KJB)

    def _pacs(self, x_KJB: Tensor) -> Tensor:
        """**Shape** (K, J * P, G), without a copy."""
        n_members, n_features, n_rows = x_KJB.shape
        return x_KJB.reshape(n_members, n_features * self.pac, n_rows // self.pac)

    def _up(
        self, flat: Flat, sums: Tensor, mask: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Scores from the first layer's sums, with each layer's local factors and units."""
        factors: list[Tensor] = []
        units: list[Tensor] = []
        for place in range(len(self.hidden)):
            if place:
                sums = _affine(
                    flat.value[f"layer.{place}.bias"].unsqueeze(2),
                    flat.matrix[f"layer.{place}.weight"],
                    units[-1],
                    flat.matrix["rows"].dtype,
                )
            factors.append(self._factors(sums, mask[place] if mask else None))
            units.append(sums * factors[-1])
        weight = flat.value["out.weight"].unsqueeze(1)
        scores = torch.baddbmm(flat.value["out.bias"].unsqueeze(2), weight, units[-1])
        return scores.squeeze(1), factors, units

    def _factors(self, sums: Tensor, mask: Tensor | None) -> Tensor:
        """What leaky ReLU and dropout multiply each sum by."""
        factors = torch.where(sums > 0.0, 1.0, LEAK)
        if mask is not None:
            factors *= (mask >= self.dropout) / (1.0 - self.dropout)
        return factors

    def _down(
        self,
        flat: Flat,
        d_scores: Tensor,
        factors: Sequence[Tensor],
        units: Sequence[Tensor],
        learning: bool = True,
    ) -> Tensor:
        """The gradient at the first layer's sums; writes those of later layers when learning."""
        matrix, value, grad = flat.matrix, flat.value, flat.grad
        dtype = matrix["rows"].dtype
        d_units = value["out.weight"].unsqueeze(2) * d_scores.unsqueeze(1)
        if learning:
            grad["out.weight"].copy_((units[-1] * d_scores.unsqueeze(1)).sum(dim=2))
            grad["out.bias"].copy_(d_scores.sum(dim=1, keepdim=True))
        for place in reversed(range(len(self.hidden))):
            d_sums = d_units * factors[place]
            if learning:
                torch.sum(d_sums, dim=2, out=grad[f"layer.{place}.bias"])
            if place:
                if learning:
                    before = units[place - 1].transpose(1, 2)
                    set_product(grad[f"layer.{place}.weight"], d_sums, before, dtype)
                weight = matrix[f"layer.{place}.weight"]
                d_units = product(weight.transpose(1, 2), d_sums, dtype)
        return d_sums

    def _penalise(self, flat: Flat, sums: Tensor, mask: Sequence[Tensor]) -> Tensor:
        """Add the gradient penalty's gradients; returns the penalty, **shape** (K,)."""
        matrix, grad = flat.matrix, flat.grad
        dtype = matrix["rows"].dtype
        _, factors, _ = self._up(flat, sums, mask)
        # Slopes of the score with respect to each layer's sums, the last layer's first.
        slope = flat.value["out.weight"].unsqueeze(2) * factors[-1]
        slopes = [slope]
        for place in reversed(range(1, len(self.hidden))):
            weight = matrix[f"layer.{place}.weight"]
            slope = product(weight.transpose(1, 2), slope, dtype) * factors[place - 1]
            slopes.insert(0, slope)
        inputs = [name for name in ("rows", "levels") if name in matrix]
        ends = [product(matrix[name].transpose(1, 2), slopes[0], dtype) for name in inputs]
        norm_K1G = torch.stack([end.square().sum(dim=1, keepdim=True) for end in ends])
        norm_K1G = norm_K1G.sum(dim=0).clamp_min(1e-24).sqrt()
        penalty_K = PENALTY * (norm_K1G - 1.0).square().mean(dim=(1, 2))
        pull_K1G = (2.0 * PENALTY / norm_K1G.shape[2]) * (norm_K1G - 1.0) / norm_K1G
        d_slope = torch.zeros_like(slopes[0])
        for name, end in zip(inputs, ends, strict=True):
            d_end = end * pull_K1G
            add_product(grad[name], slopes[0], d_end.transpose(1, 2), dtype)
            add_product(d_slope, matrix[name], d_end, dtype)
        for place in range(1, len(self.hidden)):
            d_local = d_slope * factors[place - 1]
            later = f"layer.{place}.weight"
            add_product(grad[later], slopes[place], d_local.transpose(1, 2), dtype)
            d_slope = product(matrix[later], d_local, dtype)
        grad["out.weight"].add_((d_slope * factors[-1]).sum(dim=2))
        return penalty_K


class Perceptron:
    """Linear layers with ReLU between them: TVAE's encoder and decoder.

    Parameters
    ----------
    name
        Begins the names of its weights.
    n_in, hidden, n_out
        Widths.
    out_bias
        Whether the last layer has a bias of its own.
    """

    def __init__(
        self, name: str, n_in: int, hidden: Sequence[int], n_out: int, *, out_bias: bool
    ) -> None:
        self.sizes = (n_in, *hidden, n_out)
        self._names = [f"{name}.{place}" for place in range(len(hidden) + 1)]
        self._out_bias = out_bias

    def _has_bias(self, place: int) -> bool:
        return self._out_bias or place < len(self._names) - 1

    @property
    def shapes(self) -> Shapes:
        """The weights of one member."""
        shapes: Shapes = {}
        for place, name in enumerate(self._names):
            shapes[f"{name}.weight"] = (self.sizes[place + 1], self.sizes[place])
            if self._has_bias(place):
                shapes[f"{name}.bias"] = (self.sizes[place + 1],)
        return shapes

    def initialise(
        self,
        value: Mapping[str, Tensor],
        stream: torch.Generator,
        *,
        inputs: Tensor | None = None,
        outputs: Tensor | None = None,
    ) -> None:
        """Initial weights of one member, which uses these inputs and outputs; None for all."""
        for place, name in enumerate(self._names):
            weight = value[f"{name}.weight"]
            rows = outputs if place == len(self._names) - 1 else None
            columns = inputs if place == 0 else None
            n_out = weight.shape[0] if rows is None else len(rows)
            n_in = weight.shape[1] if columns is None else len(columns)
            drawn = torch.empty(n_out, n_in)
            fill_uniform(drawn, n_in, stream)
            part = weight if rows is None else weight.index_select(0, rows.to(weight.device))
            if columns is None:
                part = drawn.to(weight.device)
            else:
                part = part[:n_out].clone()
                part[:, columns.to(weight.device)] = drawn.to(weight.device)
            if rows is None:
                weight.copy_(part)
            else:
                weight[rows.to(weight.device)] = part
            if self._has_bias(place):
                fill_uniform(value[f"{name}.bias"], n_in, stream)

    def forward(self, flat: Flat, x_KIB: Tensor) -> Tensor:
        """**Shape** (K, n_in, B) to (K, n_out, B); keeps what `backward` needs."""
        self._inputs = []
        for place, name in enumerate(self._names):
            if place:
                x_KIB = torch.relu_(x_KIB)
            self._inputs.append(x_KIB)
            weight = flat.matrix[f"{name}.weight"]
            bias = flat.value[f"{name}.bias"].unsqueeze(2) if self._has_bias(place) else None
            x_KIB = _affine(bias, weight, x_KIB, weight.dtype)
        return x_KIB

    def backward(self, flat: Flat, d_KOB: Tensor, *, to_input: bool = False) -> Tensor:
        """Write the gradients of the weights; returns the input's, when it is asked for."""
        for place, name in reversed(list(enumerate(self._names))):
            weight = flat.matrix[f"{name}.weight"]
            inputs = self._inputs[place]
            if self._has_bias(place):
                torch.sum(d_KOB, dim=2, out=flat.grad[f"{name}.bias"])
            set_product(flat.grad[f"{name}.weight"], d_KOB, inputs.transpose(1, 2), weight.dtype)
            if place or to_input:
                d_KOB = product(weight.transpose(1, 2), d_KOB, weight.dtype)
            if place:
                d_KOB = torch.ops.aten.threshold_backward(d_KOB, inputs, 0.0)
        return d_KOB

    def apply(self, weights: Mapping[str, Tensor], x_IB: Tensor) -> Tensor:
        """**Shape** (n_in, B) to (n_out, B), of the weights of one member."""
        for place, name in enumerate(self._names):
            if place:
                x_IB = torch.relu_(x_IB)
            weight = weights[f"{name}.weight"]
            if self._has_bias(place):
                x_IB = torch.addmm(weights[f"{name}.bias"].unsqueeze(1), weight, x_IB)
            else:
                x_IB = weight @ x_IB
        return x_IB
