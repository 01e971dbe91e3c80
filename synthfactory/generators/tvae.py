"""TVAE: a variational autoencoder for tables.

Written from Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
Conditional GAN", NeurIPS 2019, https://arxiv.org/abs/1907.00503, section 4.5.

Deviations, each for a reason:

- exact values and "missing" are modes of their own (`synthfactory.generators.modes`);
- a sampled category is drawn from the decoder's softmax, as the paper's equations say, not its
  largest: rare categories would vanish; and a scalar is drawn with the decoder's variance;
- columns of more than 512 levels are embedded (`synthfactory.generators.layout`);
- the fitted network's marginals are calibrated (`synthfactory.generators.calibration`);
- a batch has 200 rows, not 500: at equal epochs more steps, which small tables need.

Legend: K members, B batch rows, M numeric columns, S spans, W width of the logits, J width of the
features, Z latent width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from synthfactory.generators.base import expect_number, expect_widths
from synthfactory.generators.calibration import calibrate
from synthfactory.generators.drawing import Deck
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.flat import Adam, Flat
from synthfactory.generators.layout import Layout
from synthfactory.generators.networks import Perceptron, Shapes
from synthfactory.generators.neural import NeuralGenerator, NeuralTrainer
from synthfactory.generators.noise import Noise, block_of
from synthfactory.generators.peers import ALONE, Peers
from synthfactory.generators.precision import matrix_dtype
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.sampling import NeuralModel, Wanted
from synthfactory.generators.training import part_of
from synthfactory.seeds import torch_stream

SIGMA = 0.1
SIGMA_RANGE = (0.01, 1.0)
LOG_VARIANCE_RANGE = (-20.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class TVAE(NeuralGenerator):
    """Hyperparameters of TVAE.

    Parameters
    ----------
    epochs, max_minutes, batch_size, embedding_dim, calibrate, precision, patience, ranks
        As in `NeuralGenerator`; each epoch goes through the rows in a new order.
    encoder_dims, decoder_dims
        Hidden widths.
    lr
        Learning rate of Adam.
    weight_decay
        Weight decay of Adam.
    loss_factor
        Weight of the reconstruction against the Kullback-Leibler divergence.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    name: ClassVar[str] = "tvae"
    reference: ClassVar[str] = "https://arxiv.org/abs/1907.00503"

    epochs: int = 150
    encoder_dims: tuple[int, ...] = (128, 128)
    decoder_dims: tuple[int, ...] = (128, 128)
    lr: float = 1e-3
    weight_decay: float = 1e-5
    loss_factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "loss_factor"):
            expect_number("generator", name, getattr(self, name), minimum=0, above=True)
        expect_number("generator", "weight_decay", self.weight_decay, minimum=0)
        for name in ("encoder_dims", "decoder_dims"):
            object.__setattr__(self, name, expect_widths("generator", name, getattr(self, name)))


def _decoder(spec: TVAE, layout: Layout) -> Perceptron:
    return Perceptron(
        "decoder", spec.embedding_dim, spec.decoder_dims, layout.feature_width, out_bias=False
    )


def _decoder_shapes(spec: TVAE, layout: Layout) -> Shapes:
    heads = Heads(layout, torch.device("cpu"))
    return {**_decoder(spec, layout).shapes, **heads.shapes, "sigma": (layout.n_numeric,)}


class TVAETrainer(NeuralTrainer):
    """Networks, optimiser and a step, for K members."""

    loss_names = ("reconstruction", "divergence")

    def __init__(
        self,
        spec: TVAE,
        layout: Layout,
        representations: Sequence[Representation],
        deck: Deck,
        seeds: Sequence[int],
        device: torch.device,
        peers: Peers = ALONE,
    ) -> None:
        self._spec, self._layout, self._deck = spec, layout, deck
        self._representations, self._seeds, self._peers = representations, seeds, peers
        self._features = Features(layout, device)
        self._heads = Heads(layout, device)
        self._encoder = Perceptron(
            "encoder",
            layout.feature_width,
            spec.encoder_dims,
            2 * spec.embedding_dim,
            out_bias=True,
        )
        self._decoder = _decoder(spec, layout)
        n_members = layout.n_members
        self.flat = Flat(
            {**self._encoder.shapes, **_decoder_shapes(spec, layout)},
            n_members,
            device,
            matrix_dtype(spec.precision),
        )
        self._initialise()
        self._adam = Adam(self.flat, lr=spec.lr, betas=(0.9, 0.999), weight_decay=spec.weight_decay)
        self._gaussians_KM1 = torch.tensor(layout.gaussians, device=device).unsqueeze(2)
        self._starts_S1 = torch.tensor(layout.starts, device=device).unsqueeze(1)
        self.losses = torch.zeros(len(self.loss_names), n_members, device=device)
        self._n_rows = min(spec.batch_size, *deck.lengths)
        n_normal = spec.embedding_dim * self._n_rows
        self._streams = peers.streams(seeds)
        self.block = block_of(n_normal, device)
        self._noise = Noise(
            self._streams, "tvae", n_normal=n_normal, n_uniform=0, device=device, block=self.block
        )
        self._picked = torch.zeros(
            self.block, n_members, self._n_rows, dtype=torch.int64, device=device
        )
        self._orders: dict[tuple[int, int], Tensor] = {}

    def _initialise(self) -> None:
        for member, seed in enumerate(self._seeds):
            stream = torch_stream(seed, "initial weights")
            features = self._layout.feature_placement(member)
            value = dict(self.flat.member(member))
            self._encoder.initialise(value, stream, inputs=features)
            self._decoder.initialise(value, stream, outputs=features)
            n_in = self._decoder.sizes[-2]
            self._heads.initialise(value, self._layout.placement(member), n_in, stream)
            value["sigma"].fill_(SIGMA)
        self.flat.refresh()

    def prepare(self, step: int) -> None:
        """Draw the chance of the next block, and look up its rows."""
        self._noise.fill()
        for member in range(self._layout.n_members):
            slot = 0
            while slot < self.block:
                rows = self._rest_of_epoch(member, step + slot)[: self.block - slot]
                self._picked[slot : slot + len(rows), member] = rows
                slot += len(rows)

    def _rest_of_epoch(self, member: int, step: int) -> Tensor:
        """**Shape** (steps, B): row numbers of this step's batch and of those after it.

        Every epoch has an order of its own.
        """
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

    def step(self, slot: int) -> None:
        """One step on the next rows of the epoch."""
        spec, flat = self._spec, self.flat
        n_rows, n_latent = self._n_rows, spec.embedding_dim
        codes_KSB, scalars_KMB = self._deck.take(self._picked[slot])
        shape = (len(codes_KSB), self._layout.feature_width, n_rows)
        x_KJB = flat.matrix["sigma"].new_zeros(shape)
        self._features.of_rows(codes_KSB, scalars_KMB, x_KJB)
        latent = self._encoder.forward(flat, x_KJB)
        mean_KZB, raw_KZB = latent[:, :n_latent], latent[:, n_latent:]
        log_variance = torch.nn.functional.hardtanh(raw_KZB, *LOG_VARIANCE_RANGE)
        deviation = torch.exp(0.5 * log_variance)
        noise_KZB = self._noise.reader(slot).normal(n_latent, n_rows)
        z_KZB = torch.addcmul(mean_KZB, noise_KZB, deviation)
        logits_KWB = self._heads.forward(flat, self._decoder.forward(flat, z_KZB))
        reconstruction_K, d_KWB = self._reconstruct(logits_KWB, codes_KSB, scalars_KMB)
        # 0.5 * sum(mean^2 + variance - 1 - log variance), mean over the batch.
        variance = deviation.square()
        divergence_K = (
            0.5
            * (mean_KZB.square().sum(dim=(1, 2)) + (variance - log_variance).sum(dim=(1, 2)))
            / n_rows
            - 0.5 * n_latent
        )
        d_KOB = self._heads.backward(flat, d_KWB)
        d_z = self._decoder.backward(flat, d_KOB, to_input=True)
        d_latent = torch.empty_like(latent)
        torch.add(d_z, mean_KZB, alpha=1.0 / n_rows, out=d_latent[:, :n_latent])
        d_log = (d_z * noise_KZB).mul_(deviation).mul_(0.5)
        d_log.add_(variance - 1.0, alpha=0.5 / n_rows)
        backward = torch.ops.aten.hardtanh_backward
        d_latent[:, n_latent:] = backward(d_log, raw_KZB, *LOG_VARIANCE_RANGE)
        self._encoder.backward(flat, d_latent)
        self._peers.average(self.flat.grads)
        self._adam.step()
        flat.value["sigma"].clamp_(*SIGMA_RANGE)
        self.losses += torch.stack([reconstruction_K, divergence_K])

    def _reconstruct(
        self, logits_KWB: Tensor, codes_KSB: Tensor, scalars_KMB: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of the rows, mean over the batch (section 4.5), **shape** (K,).

        And the gradient of the loss at the logits; the deviations' is written.
        """
        layout, n_rows = self._layout, logits_KWB.shape[2]
        n_numeric = layout.n_numeric
        scale = self._spec.loss_factor / n_rows
        d_KWB = torch.empty_like(logits_KWB)
        for group in layout.groups:
            part = logits_KWB[:, group.rows].unflatten(1, (group.count, group.size))
            d_KWB[:, group.rows] = torch.log_softmax(part, dim=2).flatten(1, 2)
        rows_KSB = codes_KSB + self._starts_S1
        loss_K = -d_KWB.gather(1, rows_KSB).sum(dim=(1, 2)) / n_rows
        spans = d_KWB[:, n_numeric:].exp_().mul_(scale)
        fewer = torch.full(rows_KSB.shape, -scale, device=spans.device)
        spans.scatter_add_(1, rows_KSB - n_numeric, fewer)
        # A scalar exists where its mode is a Gaussian: points and "missing" have none.
        present = codes_KSB[:, :n_numeric] < self._gaussians_KM1
        sigma_KM1 = self.flat.value["sigma"].unsqueeze(2)
        mean = torch.tanh(logits_KWB[:, :n_numeric])
        error = (scalars_KMB - mean) / sigma_KM1 * present
        square = error.square()
        counts = present.sum(dim=2, keepdim=True)
        loss_K += (0.5 * square.sum(dim=2, keepdim=True) + sigma_KM1.log() * counts).sum(
            dim=(1, 2)
        ) / n_rows
        d_sigma = (counts - square.sum(dim=2, keepdim=True)) / sigma_KM1 * scale
        self.flat.grad["sigma"].copy_(d_sigma.squeeze(2))
        torch.mul(error / sigma_KM1 * (-scale), 1.0 - mean.square(), out=d_KWB[:, :n_numeric])
        return loss_K, d_KWB

    @property
    def tensors(self) -> dict[str, Tensor]:
        """See `Trainer.tensors`."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "weights": {"all": self.flat.values},
            "adam": self._adam.state,
            "noise": self._noise.state,
            "report": {"losses": self.losses},
        }
        return {f"{part}/{name}": value for part, of in parts.items() for name, value in of.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Trainer.restore`."""
        self.flat.values.copy_(tensors["weights/all"])
        self.flat.refresh()
        self._adam.restore(part_of(tensors, "adam/"))
        self._noise.restore(part_of(tensors, "noise/"))
        self.losses.copy_(tensors["report/losses"])

    @property
    def learnt(self) -> dict[str, Tensor]:
        """See `Trainer.learnt`."""
        return {"weights/all": self.flat.values}

    def slow_down(self, factor: float) -> None:
        """See `Trainer.slow_down`."""
        self._adam.slow_down(factor)

    @torch.no_grad()
    def finish(self, member: int, rows: Rows | None = None) -> TVAEModel:
        """The model, its marginals calibrated."""
        layout = self._layout.member(member)
        device = self.flat.values.device
        features = self._layout.feature_placement(member).to(device)
        logits = self._layout.placement(member).to(device)
        last = f"decoder.{len(self._spec.decoder_dims)}.weight"
        own = {last: features, "head.bias": logits}
        weights = {
            name: value[own[name]] if name in own else value.clone()
            for name, value in self.flat.member(member)
            if name in _decoder_shapes(self._spec, layout)
        }
        representation = self._representations[member]
        model = TVAEModel(self._spec, representation, weights)
        if not self._spec.calibrate:
            return model
        stream = torch_stream(self._seeds[member], "calibration", device=device)
        rows = self._deck.of_member(member) if rows is None else rows
        weights, representation = calibrate(model, representation, rows, stream)
        return TVAEModel(self._spec, representation, weights)


TVAE.trainer = TVAETrainer


class TVAEModel(NeuralModel):
    """A fitted TVAE: the decoder's weights and the modes."""

    kind: ClassVar[str] = "tvae"
    spec_class: ClassVar[type] = TVAE

    spec: TVAE

    def _prepare(self) -> None:
        self._decoder = _decoder(self.spec, self.layout)
        self._heads = Heads(self.layout, self.weights["head.bias"].device)

    @property
    def shapes(self) -> Shapes:
        """See `NeuralModel.shapes`."""
        return _decoder_shapes(self.spec, self.layout)

    def inputs(self, n_rows: int, stream: torch.Generator, wanted: Wanted) -> Any:
        """**Shape** (Z, B): points of the latent space; conditions are met by drawing again."""
        device = self.weights["head.bias"].device
        return torch.randn(self.spec.embedding_dim, n_rows, generator=stream, device=device)

    def logits(self, inputs: Any) -> Tensor:
        """**Shape** (W, B)."""
        return self._heads.apply(self.weights, self._decoder.apply(self.weights, inputs))

    def scalars(self, logits_WB: Tensor, stream: torch.Generator) -> Tensor:
        """**Shape** (M, B): drawn with the decoder's deviations."""
        means_MB = torch.tanh(logits_WB[: self.layout.n_numeric])
        noise_MB = torch.randn(means_MB.shape, generator=stream, device=means_MB.device)
        return torch.addcmul(means_MB, noise_MB, self.weights["sigma"].unsqueeze(1)).clamp_(
            -1.0, 1.0
        )

    def to_ctgan(self) -> Any:
        """This model as a ``ctgan.TVAE``; see `synthfactory.generators.exchange.to_ctgan`."""
        from synthfactory.generators.exchange import to_ctgan

        return to_ctgan(self)
