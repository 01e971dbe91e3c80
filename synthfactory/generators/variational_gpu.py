"""The parts of TVAE's step on an NVIDIA GPU, between matrix products one launch each.

Beside `synthfactory.generators.variational` more is done at once, because a launch costs more than
arithmetic: the biases of both networks' last layers are added, and their gradients summed up, where
what they make is used, and one launch at the end adds up the losses.  The arithmetic is that of
`variational`, `networks` and `features`.

Legend: K members, B batch rows, M numeric columns, S spans, W width of the logits, Z latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synthfactory.generators.adversarial import Gradient
from synthfactory.generators.drawing import Batch
from synthfactory.generators.features import Features
from synthfactory.generators.flat import Flat
from synthfactory.generators.fusing import Aside, GpuLoops
from synthfactory.generators.layout import Layout
from synthfactory.generators.networks import BoundPerceptron, Perceptron
from synthfactory.generators.variational import LOG_VARIANCE_RANGE


class GpuRows(Features):
    """`Features` of real rows in a GPU's kernels, without wide spans."""

    def __init__(self, layout: Layout, device: torch.device, loops: GpuLoops) -> None:
        super().__init__(layout, device)
        self._loops = loops.variational
        self._bounds = tuple(torch.from_numpy(part).to(device) for part in layout.bounds)

    def of_batch(self, batch: Batch, out_KJB: Tensor) -> None:
        """See `Features.of_batch`."""
        widest = max(self.layout.sizes)
        self._loops.write_rows(batch.codes_KSB, batch.scalars_KMB, *self._bounds, widest, out_KJB)


class GpuPerceptron(BoundPerceptron):
    """`BoundPerceptron` in a GPU's kernels, but for the last layer's bias.

    ``output`` is of the products' precision and without that bias, and `backward` does not write
    its gradient; `GpuLatent` and `GpuLikelihood` do.

    Parameters
    ----------
    aside
        Where gradients of weights are made: nobody waits for one until all are there.  The network
        whose input's gradient is not asked for is the last of a step, and waits.
    """

    def __init__(
        self,
        network: Perceptron,
        flat: Flat,
        n_rows: int,
        loops: GpuLoops,
        aside: Aside,
        *,
        to_input: bool = False,
    ) -> None:
        # What is read aside has a place of its own.
        n_places = len(network.sizes) - 1
        super().__init__(network.layers(flat, n_rows, to_input=to_input, n_places=n_places))
        self.output = self._last
        self._loops, self._aside = loops.variational, aside
        self._grads = [Gradient(layer.d_weight, flat.dtype) for layer in self._layers]

    def forward(self) -> None:
        """See `BoundPerceptron.forward`."""
        for layer in self._layers[:-1]:
            self._loops.rectify(layer.multiply(), layer.bias)
        self._layers[-1].multiply()

    def backward(self, d_KOB: Tensor) -> Tensor | None:
        """See `BoundPerceptron.backward`; ``d_KOB`` is of the products' precision."""
        d_inputs: Tensor | None = d_KOB
        for place, layer in reversed(list(enumerate(self._layers))):
            assert d_inputs is not None
            with self._aside:
                self._grads[place].set(d_inputs, layer.inputs_KBI)
            d_inputs = layer.multiply_back(d_inputs)
            if place:
                d_bias = self._layers[place - 1].d_bias
                self._loops.rectify_backward(d_inputs, layer.inputs, d_bias)
        if d_inputs is None:
            self._aside.join()
        return d_inputs


class GpuLatent:
    """`Latent` in a GPU's kernels.

    Parameters
    ----------
    encoded_K2ZB
        Where the encoder writes means and logarithms of variances, without their bias.
    bias_K2Z, d_bias_K2Z
        That bias, and where its gradient is written.
    points_KZB
        Where the decoder reads.
    """

    def __init__(
        self,
        encoded_K2ZB: Tensor,
        bias_K2Z: Tensor,
        d_bias_K2Z: Tensor,
        points_KZB: Tensor,
        loops: GpuLoops,
    ) -> None:
        self._loops = loops.variational
        self._encoded, self._bias, self._d_bias = encoded_K2ZB, bias_K2Z, d_bias_K2Z
        self._points = points_KZB
        self._d_encoded = torch.empty_like(encoded_K2ZB)
        self._divergences = bias_K2Z.new_zeros(points_KZB.shape[:2])

    def draw(self, noise_KZB: Tensor) -> Tensor:
        """Write the points; returns what each of their numbers adds to the divergence, mean over
        the batch, **shape** (K, Z)."""
        self._given = self._encoded, self._bias, noise_KZB, *LOG_VARIANCE_RANGE
        self._loops.draw(*self._given, self._points, self._divergences)
        return self._divergences

    def backward(self, d_points_KZB: Tensor) -> Tensor:
        """See `Latent.backward`; the gradient is of the products' precision, the bias's is
        written."""
        self._loops.draw_backward(*self._given, d_points_KZB, self._d_encoded, self._d_bias)
        return self._d_encoded


class GpuLikelihood:
    """`Likelihood` and `Heads` in a GPU's kernels, without wide spans.

    Parameters
    ----------
    layout
        The arrangement of the logits.
    logits_KWB
        Where the decoder writes, without bias.
    flat
        Has bias and deviations, and takes their gradients.
    factor
        Weight of this loss.
    aside
        See `GpuPerceptron`; the losses are added up there, too.
    """

    def __init__(
        self,
        layout: Layout,
        logits_KWB: Tensor,
        flat: Flat,
        factor: float,
        loops: GpuLoops,
        aside: Aside,
    ) -> None:
        self._loops, self._aside = loops.variational, aside
        n_members, width, n_rows = logits_KWB.shape
        self._logits, self._n_rows = logits_KWB, n_rows
        self._bias, self._sigma = flat.value["head.bias"], flat.value["sigma"]
        self._grads = flat.grad["head.bias"], flat.grad["sigma"]
        self._scale = factor / n_rows
        device, n_spans = logits_KWB.device, len(layout.sizes)
        self._starts = torch.from_numpy(layout.bounds[0]).to(device)
        own = [(*modes, *layout.level_sizes) for modes in layout.own_modes]
        self._own_sizes = torch.tensor(own, dtype=torch.int64).to(device)
        self._widest = max(layout.sizes)
        # What a member does not have is never written.
        self._d_logits = torch.zeros_like(logits_KWB)
        n_blocks = self._loops.blocks_of(self._widest, n_rows)
        n_sums = width + layout.n_numeric + n_spans
        self._sums = flat.values.new_zeros(n_members, n_blocks, n_sums)

    def learn(self, batch: Batch, divergences_KZ: Tensor, losses_2K: Tensor) -> Tensor:
        """The gradient at the logits, of the products' precision; that of bias and deviations is
        written, and this loss and the divergence are added to ``losses_2K``."""
        self._loops.learn(
            self._logits,
            self._bias,
            batch.codes_KSB,
            batch.scalars_KMB,
            batch.present_KMB,
            self._sigma,
            self._starts,
            self._own_sizes,
            self._widest,
            self._scale,
            self._d_logits,
            self._sums,
        )
        with self._aside:
            self._loops.close(
                self._sums,
                self._sigma,
                divergences_KZ,
                self._scale,
                self._n_rows,
                *self._grads,
                losses_2K,
            )
        return self._d_logits
