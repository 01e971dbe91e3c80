"""The networks of CTGAN and TVAE for K members at once, with their derivatives written out.

A step of a small network is mostly overhead: operators that are launched, graphs that are built,
gradients that nobody uses.  So forward and backward passes are plain functions over batched matrix
products; they compute what the papers' formulas say and nothing else, in an order that is the same
for one member and for sixty-four, on a processor and in a CUDA graph.  The tests compare every
derivative with automatic differentiation.

Tensors are feature-major, see `synthfactory.generators.layout`.

Legend: K members, B batch rows, P rows of a pac, G = B / P pacs, I width of the input, H a hidden
width, O width of the output layer, J width of the features, F = J + Q with width Q of the
conditions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from synthfactory.generators.flat import Flat
from synthfactory.generators.precision import add_product, product, set_product

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

    All activations live in one buffer, **shape** (K, H_n + ... + H_1 + I, B), the latest first: the
    input of each layer is the end of it, and nothing is ever concatenated.

    Parameters
    ----------
    n_in, hidden, n_out
        Width I of the input (noise and condition), the hidden widths, and O.
    """

    def __init__(self, n_in: int, hidden: Sequence[int], n_out: int) -> None:
        self.n_in, self.hidden, self.n_out = n_in, tuple(hidden), n_out
        self.n_hidden = sum(hidden)
        # Where the input of each layer begins; the output layer reads everything.
        self.starts = [sum(hidden[place:]) for place in range(len(hidden))] + [0]

    @property
    def fan_in(self) -> int:
        """What the output layer reads."""
        return self.n_hidden + self.n_in

    @property
    def shapes(self) -> Shapes:
        """The weights of one member."""
        shapes: Shapes = {}
        for place, size in enumerate(self.hidden):
            shapes[f"layer.{place}.weight"] = (size, self.fan_in - self.starts[place])
            shapes[f"layer.{place}.gain"] = (size,)
            shapes[f"layer.{place}.bias"] = (size,)
        return {**shapes, "out.weight": (self.n_out, self.fan_in)}

    def initialise(
        self, value: Mapping[str, Tensor], outputs: Tensor, stream: torch.Generator
    ) -> None:
        """Initial weights of one member, which uses these rows of the output layer."""
        for place in range(len(self.hidden)):
            weight = value[f"layer.{place}.weight"]
            fill_uniform(weight, weight.shape[1], stream)
            value[f"layer.{place}.gain"].fill_(1.0)
        drawn = torch.empty(len(outputs), self.fan_in)
        fill_uniform(drawn, self.fan_in, stream)
        weight = value["out.weight"]
        weight[outputs.to(weight.device)] = drawn.to(weight.device)

    @property
    def outputs(self) -> list[slice]:
        """For each layer the rows of its output in the buffer."""
        return [
            slice(self.starts[place] - size, self.starts[place])
            for place, size in enumerate(self.hidden)
        ]

    def input(self, flat: Flat, n_rows: int) -> Tensor:
        """**Shape** (K, I, B): where the next forward pass reads from; to be filled."""
        matrix = flat.matrix["out.weight"]
        self._buffer = matrix.new_empty(flat.n_members, self.fan_in, n_rows)
        return self._buffer[:, self.n_hidden :]

    def forward(self, flat: Flat) -> Tensor:
        """**Shape** (K, O, B) of the filled `input`; keeps what `backward` needs.

        Batch normalisation over the batch: in this arrangement the normalisation of each row.
        """
        matrix, value = flat.matrix, flat.value
        dtype = self._buffer.dtype
        n_rows = self._buffer.shape[2]
        self._norms: list[tuple[Tensor, Tensor, Tensor]] = []
        for place, mine in enumerate(self.outputs):
            inputs = self._buffer[:, self.starts[place] :]
            sums = product(matrix[f"layer.{place}.weight"], inputs, dtype)
            normed, mean, scale = torch.native_layer_norm(sums, [n_rows], None, None, EPSILON)
            self._norms.append((normed, mean, scale))
            gain = value[f"layer.{place}.gain"].unsqueeze(2)
            bias = value[f"layer.{place}.bias"].unsqueeze(2)
            # A ternary operation is not vectorised over a repeated number, two binary ones are.
            set_positive(self._buffer[:, mine], (normed * gain).add_(bias))
        return product(matrix["out.weight"], self._buffer, dtype)

    def statistics(self) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of each layer's sums in the last batch, **shape** (K, H) each."""
        return [
            (mean.squeeze(2), scale.squeeze(2).pow(-2) - EPSILON) for _, mean, scale in self._norms
        ]

    def backward(self, flat: Flat, d_out_KOB: Tensor) -> None:
        """Write the gradients of the weights for this gradient of the output."""
        matrix, value, grad = flat.matrix, flat.value, flat.grad
        dtype = self._buffer.dtype
        share = 1.0 / d_out_KOB.shape[2]
        set_product(grad["out.weight"], d_out_KOB, self._buffer.transpose(1, 2), dtype)
        weight = matrix["out.weight"][:, :, : self.n_hidden]
        d_hidden = product(weight.transpose(1, 2), d_out_KOB, dtype)
        for place, mine in reversed(list(enumerate(self.outputs))):
            normed, _, scale = self._norms[place]
            d_sums = positive_backward(d_hidden[:, mine], self._buffer[:, mine])
            d_gain, d_bias = grad[f"layer.{place}.gain"], grad[f"layer.{place}.bias"]
            torch.sum(d_sums * normed, dim=2, out=d_gain)
            torch.sum(d_sums, dim=2, out=d_bias)
            # (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3), its three sums being known.
            d_sums -= (normed * (d_gain * share).unsqueeze(2)).add_((d_bias * share).unsqueeze(2))
            d_sums *= value[f"layer.{place}.gain"].unsqueeze(2) * scale
            start = self.starts[place]
            inputs = self._buffer[:, start:].transpose(1, 2)
            set_product(grad[f"layer.{place}.weight"], d_sums, inputs, dtype)
            n_before = self.n_hidden - start
            if n_before:
                weight = matrix[f"layer.{place}.weight"][:, :, :n_before]
                add_product(d_hidden[:, start:], weight.transpose(1, 2), d_sums, dtype)

    def fold(self, flat: Flat, statistics: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Weights of one member for `apply`, with these means and variances folded in."""
        value = {name: view[0] for name, view in flat.value.items()}
        folded = {name: value[name].clone() for name in self.folded(flat.shapes)}
        for place, (mean, variance) in enumerate(statistics):
            scale = value[f"layer.{place}.gain"] * (variance[0] + EPSILON).rsqrt()
            folded[f"layer.{place}.weight"] *= scale.unsqueeze(1)
            folded[f"layer.{place}.bias"] -= mean[0] * scale
        return folded

    def folded(self, shapes: Shapes) -> Shapes:
        """The shapes of folded weights."""
        return {name: shape for name, shape in shapes.items() if not name.endswith(".gain")}

    def apply(self, weights: Mapping[str, Tensor], x_IB: Tensor) -> Tensor:
        """**Shape** (O, B): the output of folded weights."""
        buffer = x_IB.new_empty(self.fan_in, x_IB.shape[1])
        buffer[self.n_hidden :] = x_IB
        for place, mine in enumerate(self.outputs):
            bias, weight = weights[f"layer.{place}.bias"], weights[f"layer.{place}.weight"]
            sums = torch.addmm(bias.unsqueeze(1), weight, buffer[self.starts[place] :])
            torch.clamp_min(sums, 0.0, out=buffer[mine])
        return weights["out.weight"] @ buffer


class Looked:
    """`Residual.apply` for rows whose condition is one of C: what it adds to a layer is looked up.

    Rows are rows here, so that to look up is to copy a row of a table; more than a fifth of the
    multiplications are saved on Adult.

    Parameters
    ----------
    network, weights
        The network and its folded weights.
    conditions_CQ
        The features of every condition; one without any when the table has no discrete column.
    """

    def __init__(
        self, network: Residual, weights: Mapping[str, Tensor], conditions_CQ: Tensor
    ) -> None:
        self._network = network
        self._matrices: list[Tensor] = []
        self._added: list[Tensor] = []
        for place in range(len(network.hidden) + 1):
            is_last = place == len(network.hidden)
            weight = weights["out.weight" if is_last else f"layer.{place}.weight"]
            own = weight.shape[1] - conditions_CQ.shape[1]
            added_CH = conditions_CQ @ weight[:, own:].t()
            self._matrices.append(weight[:, :own].t().contiguous())
            self._added.append(added_CH if is_last else added_CH + weights[f"layer.{place}.bias"])

    def apply(self, noise_BZ: Tensor, which_B: Tensor) -> Tensor:
        """**Shape** (B, O): the output for this noise and these conditions, numbered."""
        network = self._network
        buffer = noise_BZ.new_empty(len(noise_BZ), network.n_hidden + noise_BZ.shape[1])
        buffer[:, network.n_hidden :] = noise_BZ
        for place, mine in enumerate(network.outputs):
            sums = self._added[place].index_select(0, which_B)
            sums.addmm_(buffer[:, network.starts[place] :], self._matrices[place])
            torch.clamp_min(sums, 0.0, out=buffer[:, mine])
        return self._added[-1].index_select(0, which_B).addmm_(buffer, self._matrices[-1])


def set_positive(target: Tensor, values: Tensor) -> None:
    """``target = max(values, 0)``, in place."""
    if target.dtype == values.dtype:
        torch.clamp_min(values, 0.0, out=target)
    else:
        target.copy_(values.clamp_min_(0.0))


def positive_backward(d_units: Tensor, units: Tensor) -> Tensor:
    """The gradient at what `set_positive` read."""
    passed: Tensor = torch.ops.aten.threshold_backward(d_units, units.to(d_units.dtype), 0.0)
    return passed


def _affine(bias: Tensor | None, weight: Tensor, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """``weight @ inputs + bias``."""
    sums = product(weight, inputs, dtype)
    return sums if bias is None else sums.add_(bias.unsqueeze(2))


class Critic:
    """The discriminator, which judges P rows together (PacGAN, Lin et al. 2018, arXiv 1712.04086).

    It learns from one buffer, **shape** (K, F, P, 3, G): for each pac a real one, a fake one, and
    room for the gradient penalty.  Read as (K, F * P, 3 G), real and fake pacs and points between
    them are columns beside each other, and go through each layer together.

    Parameters
    ----------
    n_features, n_conditions
        J, and width Q of the conditions' features; F = J + Q.
    pac, hidden, dropout
        P, the hidden widths, and the share of dropped units.
    """

    def __init__(
        self, n_features: int, n_conditions: int, pac: int, hidden: Sequence[int], dropout: float
    ) -> None:
        self.n_features, self.n_conditions, self.pac = n_features, n_conditions, pac
        self.hidden, self.dropout = tuple(hidden), dropout
        self._known_directions: Tensor | None = None

    @property
    def n_in(self) -> int:
        """F."""
        return self.n_features + self.n_conditions

    @property
    def shapes(self) -> Shapes:
        """The weights of one member."""
        shapes: Shapes = {}
        n_in = self.n_in * self.pac
        for place, size in enumerate(self.hidden):
            shapes[f"layer.{place}.weight"] = (size, n_in)
            shapes[f"layer.{place}.bias"] = (size,)
            n_in = size
        return {**shapes, "out.weight": (n_in,), "out.bias": (1,)}

    def initialise(
        self, value: Mapping[str, Tensor], features: Tensor, stream: torch.Generator
    ) -> None:
        """Initial weights of one member, which uses these features."""
        used = torch.cat([features, torch.arange(self.n_features, self.n_in)])
        for place, size in enumerate(self.hidden):
            weight = value[f"layer.{place}.weight"]
            if place:
                n_in = self.hidden[place - 1]
                fill_uniform(weight, n_in, stream)
            else:
                n_in = len(used) * self.pac
                drawn = torch.empty(size, len(used), self.pac)
                fill_uniform(drawn, n_in, stream)
                split = weight.view(size, self.n_in, self.pac)
                split[:, used.to(weight.device)] = drawn.to(weight.device)
            fill_uniform(value[f"layer.{place}.bias"], n_in, stream)
        fill_uniform(value["out.weight"], self.hidden[-1], stream)
        fill_uniform(value["out.bias"], self.hidden[-1], stream)

    @property
    def n_masked(self) -> int:
        """Factors of dropout per pac."""
        return sum(self.hidden) if self.dropout else 0

    def input(self, flat: Flat, n_rows: int) -> Tensor:
        """**Shape** (K, F, P, 3, G): what `learn` and `guide` read; real and fake are to be filled.

        Row ``p * G + g`` of a batch belongs to pac g.  The conditions of a real pac are another
        one's than those of the fake pac beside it, as is usual in training CTGAN.
        """
        matrix = flat.matrix["layer.0.weight"]
        n_pacs = n_rows // self.pac
        return matrix.new_empty(flat.n_members, self.n_in, self.pac, 3, n_pacs)

    def learn(
        self, flat: Flat, x_KFP3G: Tensor, share_K1G: Tensor, masks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Write the gradients of the critic's loss: ``mean fake - mean real + gradient penalty``.

        The penalty is WGAN-GP's (Gulrajani et al. 2017, arXiv 1704.00028, equation 3) on whole
        pacs.  The network is piecewise linear, so that its slope at a point is a product of its
        weights and of the local factors of its units: what backpropagation of a 1 makes of that
        point.  The penalty's gradient is then a product of slopes and of what a forward pass of
        the pulled slope makes of each layer; so points between are treated as a third sort of
        column, whose units are replaced by those.  The first layer is linear, so that what it
        makes of a point between two others lies between what it makes of them.

        Parameters
        ----------
        x_KFP3G
            The filled `input`; its third part is overwritten.
        share_K1G
            Where between real and fake the slope is taken.
        masks
            Factors of dropout, **shape** (K, H, 3 G) for each layer; empty without.

        Returns
        -------
        difference_K, penalty_K
        """
        matrix, grad = flat.matrix, flat.grad
        dtype = x_KFP3G.dtype
        n_members, n_pacs = len(x_KFP3G), x_KFP3G.shape[4]
        x = x_KFP3G.view(n_members, -1, 3 * n_pacs)
        between = slice(2 * n_pacs, None)
        first = matrix["layer.0.weight"]
        bias = flat.value["layer.0.bias"]
        sums = _affine(bias, first, x[:, :, : 2 * n_pacs], dtype)
        real, fake = sums[:, :, :n_pacs], sums[:, :, n_pacs:]
        sums = torch.cat([sums, torch.lerp(fake, real, share_K1G)], dim=2)
        scores, layers, units = self._up(flat, sums, masks)
        difference_K = scores[:, n_pacs : 2 * n_pacs].mean(dim=1) - scores[:, :n_pacs].mean(dim=1)
        d_scores = self._directions(n_pacs, scores)
        d_layers = self._down(flat, d_scores, layers, masks)
        for place, d_sums in enumerate(d_layers):
            torch.sum(d_sums[:, :, : 2 * n_pacs], dim=2, out=grad[f"layer.{place}.bias"])
        # The score's own bias cancels: its gradient stays 0.
        slope = d_layers[0][:, :, between]
        ends = product(first.transpose(1, 2), slope, dtype)
        norm_K1G = ends.square().sum(dim=1, keepdim=True).sqrt_().clamp_min_(1e-12)
        penalty_K = PENALTY * (norm_K1G - 1.0).square().mean(dim=(1, 2))
        pull_K1G = (2.0 * PENALTY / n_pacs) * (1.0 - 1.0 / norm_K1G)
        x[:, :, between] = ends * pull_K1G
        pulled = product(first, x[:, :, between], dtype)
        for place in range(len(self.hidden)):
            if place:
                pulled = product(matrix[f"layer.{place}.weight"], pulled, dtype)
            mask = masks[place][:, :, between] if masks else None
            pulled = _local(pulled, layers[place][:, :, between], mask)
            units[place][:, :, between] = pulled

        set_product(grad["layer.0.weight"], d_layers[0], x.transpose(1, 2), dtype)
        for place in range(1, len(self.hidden)):
            before = units[place - 1].transpose(1, 2)
            set_product(grad[f"layer.{place}.weight"], d_layers[place], before, dtype)
        torch.sum(units[-1] * d_scores, dim=2, out=grad["out.weight"])
        return difference_K, penalty_K

    def guide(self, flat: Flat, x_KFP3G: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The generator's loss, ``-mean score`` of the fake pacs, **shape** (K,), and its gradient
        at their features, (K, J, B).

        No gradient of the critic's weights is formed.
        """
        dtype = x_KFP3G.dtype
        n_members, n_pacs = len(x_KFP3G), x_KFP3G.shape[4]
        x = x_KFP3G.view(n_members, -1, 3 * n_pacs)[:, :, n_pacs : 2 * n_pacs]
        first = flat.matrix["layer.0.weight"]
        sums = _affine(flat.value["layer.0.bias"], first, x, dtype)
        scores, layers, _ = self._up(flat, sums, masks)
        d_scores = scores.new_full((n_pacs,), -1.0 / n_pacs)
        d_sums = self._down(flat, d_scores, layers, masks)[0]
        features = first[:, :, : self.n_features * self.pac]
        d_pacs = product(features.transpose(1, 2), d_sums, dtype)
        return -scores.mean(dim=1), d_pacs.view(n_members, self.n_features, -1)

    def _directions(self, n_pacs: int, like: Tensor) -> Tensor:
        """What is backpropagated: the loss for real and fake pacs, 1 between; **shape** (3 G,)."""
        if self._known_directions is None or len(self._known_directions) != 3 * n_pacs:
            shares = torch.tensor([-1.0 / n_pacs, 1.0 / n_pacs, 1.0])
            self._known_directions = shares.repeat_interleave(n_pacs).to(like.device)
        return self._known_directions

    def _up(
        self, flat: Flat, sums: Tensor, masks: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Scores from the first layer's sums, with each layer's sums and units."""
        dtype = flat.matrix["layer.0.weight"].dtype
        layers = [sums]
        units: list[Tensor] = []
        for place in range(len(self.hidden)):
            if place:
                bias = flat.value[f"layer.{place}.bias"]
                weight = flat.matrix[f"layer.{place}.weight"]
                layers.append(_affine(bias, weight, units[-1], dtype))
            active = torch.nn.functional.leaky_relu(layers[-1], LEAK)
            units.append(active.mul_(masks[place]) if masks else active)
        weight = flat.value["out.weight"].unsqueeze(1)
        scores = torch.bmm(weight, units[-1]).squeeze(1)
        return scores.add_(flat.value["out.bias"]), layers, units

    def _down(
        self, flat: Flat, d_scores: Tensor, layers: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[Tensor]:
        """The gradient at each layer's sums."""
        dtype = flat.matrix["layer.0.weight"].dtype
        d_units = flat.value["out.weight"].unsqueeze(2) * d_scores
        d_layers: list[Tensor] = []
        for place in reversed(range(len(self.hidden))):
            d_layers.insert(0, _local(d_units, layers[place], masks[place] if masks else None))
            if place:
                weight = flat.matrix[f"layer.{place}.weight"]
                d_units = product(weight.transpose(1, 2), d_layers[0], dtype)
        return d_layers


def _local(values: Tensor, sums: Tensor, mask: Tensor | None) -> Tensor:
    """``values`` times what leaky ReLU and dropout multiply these sums by."""
    if mask is not None:
        values = values * mask
    local: Tensor = torch.ops.aten.leaky_relu_backward(values, sums, LEAK, False)
    return local


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

    def bind(self, flat: Flat, n_rows: int, *, to_input: bool = False) -> BoundPerceptron:
        """This network's passes over batches of ``n_rows``, with the weights of ``flat``.

        Parameters
        ----------
        to_input
            Whether the gradient at the input is asked for.
        """
        return BoundPerceptron(self.layers(flat, n_rows, to_input=to_input))

    def layers(self, flat: Flat, n_rows: int, *, to_input: bool, n_places: int = 2) -> list[Layer]:
        """What `bind` ties together; gradients at units have ``n_places`` places in turns."""
        units = [
            flat.values.new_zeros(flat.n_members, size, n_rows, dtype=flat.dtype)
            for size in self.sizes
        ]
        # Two places for gradients stay in the processor's cache.
        widest = flat.n_members * max(self.sizes) * n_rows
        places = [flat.values.new_zeros(widest, dtype=flat.dtype) for _ in range(n_places)]
        return [
            Layer(
                flat.matrix[f"{name}.weight"],
                flat.matrix[f"{name}.bias"] if self._has_bias(place) else None,
                flat.grad[f"{name}.weight"],
                flat.grad[f"{name}.bias"] if self._has_bias(place) else None,
                units[place],
                units[place + 1],
                places[place % n_places] if place or to_input else None,
            )
            for place, name in enumerate(self._names)
        ]

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


class Layer:
    """A linear layer of K networks, with the views of everything that its passes touch.

    Attributes
    ----------
    bias, d_bias
        **Shape** (K, O): of the products' precision, and its gradient, float32; None without.
    d_weight
        **Shape** (K, O, I): the gradient of the weights, float32.
    inputs, inputs_KBI
        What it reads, **shape** (K, I, B), and a view of it.
    sums
        What it writes, **shape** (K, O, B).
    """

    def __init__(
        self,
        weight_KOI: Tensor,
        bias_KO: Tensor | None,
        d_weight_KOI: Tensor,
        d_bias_KO: Tensor | None,
        inputs_KIB: Tensor,
        sums_KOB: Tensor,
        d_inputs: Tensor | None,
    ) -> None:
        self._weight, self._turned = weight_KOI, weight_KOI.transpose(1, 2)
        self.bias, self.d_bias = bias_KO, d_bias_KO
        self._bias_KO1 = None if bias_KO is None else bias_KO.unsqueeze(2)
        self.d_weight = d_weight_KOI
        self.inputs, self.inputs_KBI = inputs_KIB, inputs_KIB.transpose(1, 2)
        self.sums = sums_KOB
        if d_inputs is not None:
            d_inputs = d_inputs[: inputs_KIB.numel()].view(inputs_KIB.shape)
        self._d_inputs = d_inputs

    def multiply(self) -> Tensor:
        """Write and return the sums without bias."""
        return torch.bmm(self._weight, self.inputs, out=self.sums)

    def forward(self) -> Tensor:
        """Write and return the sums."""
        sums = self.multiply()
        return sums if self._bias_KO1 is None else sums.add_(self._bias_KO1)

    def multiply_back(self, d_sums_KOB: Tensor) -> Tensor | None:
        """The gradient at the inputs, when it is asked for."""
        if self._d_inputs is None:
            return None
        return torch.bmm(self._turned, d_sums_KOB, out=self._d_inputs)

    def backward(self, d_sums_KOB: Tensor) -> Tensor | None:
        """Write the gradients of the weights; returns the inputs', when it is asked for."""
        if self.d_bias is not None:
            torch.sum(d_sums_KOB, dim=2, dtype=torch.float32, out=self.d_bias)
        d_sums_KOB = d_sums_KOB.to(self._weight.dtype)
        set_product(self.d_weight, d_sums_KOB, self.inputs_KBI, self._weight.dtype)
        return self.multiply_back(d_sums_KOB)


class BoundPerceptron:
    """A `Perceptron` with the weights of a `Flat`, for batches of one size.

    All results and all views of them are made once and kept: to make them takes as long as the
    arithmetic of a small layer.  At lower precision everything between input and output is of that
    precision.

    Attributes
    ----------
    input
        **Shape** (K, n_in, B): what `forward` reads; to be filled.
    output
        **Shape** (K, n_out, B), float32: what it writes.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self.input = layers[0].inputs
        self._last = layers[-1].sums
        low = self._last.dtype != torch.float32
        self.output = self._last.float() if low else self._last

    def forward(self) -> None:
        """Compute the output of the input."""
        for layer in self._layers[:-1]:
            torch.relu_(layer.forward())
        last = self._layers[-1].forward()
        if last is not self.output:
            self.output.copy_(last)

    def backward(self, d_KOB: Tensor) -> Tensor | None:
        """Write the gradients of the weights; returns the input's, when it was asked for."""
        d_inputs: Tensor | None = d_KOB
        for place, layer in reversed(list(enumerate(self._layers))):
            assert d_inputs is not None
            d_inputs = layer.backward(d_inputs)
            if place:
                backward = torch.ops.aten.threshold_backward.grad_input
                backward(d_inputs, layer.inputs, 0.0, grad_input=d_inputs)
        return d_inputs
