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

Legend: K members, B batch rows, M numeric columns, W width of the logits, Z latent width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.base import (
    LATENT_SAMPLES,
    Floats,
    expect_number,
    expect_widths,
)
from synthfactory.generators.calibration import calibrate
from synthfactory.generators.drawing import Batch, Batches, Deck
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.flat import Adam, Flat
from synthfactory.generators.fusing import Aside, GpuLoops, loops_of
from synthfactory.generators.layout import Layout
from synthfactory.generators.likelihood import CellLikelihood
from synthfactory.generators.members import fill_members
from synthfactory.generators.networks import BoundPerceptron, Perceptron, Shapes
from synthfactory.generators.neural import NeuralGenerator, NeuralTrainer
from synthfactory.generators.noise import Noise, block_of, normal
from synthfactory.generators.peers import ALONE, Peers
from synthfactory.generators.precision import fuses, matrix_dtype, using_precision
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.sampling import NeuralModel, Wanted
from synthfactory.generators.training import part_of, using_threads
from synthfactory.generators.variational import (
    LOG_VARIANCE_RANGE,
    FusedLatent,
    FusedLikelihood,
    Latent,
    Likelihood,
)
from synthfactory.generators.variational_gpu import (
    GpuLatent,
    GpuLikelihood,
    GpuPerceptron,
    GpuRows,
)
from synthfactory.seeds import torch_stream
from synthfactory.tables import Encoder, Table

SIGMA = 0.1
SIGMA_RANGE = (0.01, 1.0)
MAX_NUMBERS = 2**22


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


def _encoder(spec: TVAE, layout: Layout) -> Perceptron:
    return Perceptron(
        "encoder", layout.feature_width, spec.encoder_dims, 2 * spec.embedding_dim, out_bias=True
    )


def _decoder_shapes(spec: TVAE, layout: Layout) -> Shapes:
    heads = Heads(layout, torch.device("cpu"))
    return {**_decoder(spec, layout).shapes, **heads.shapes, "sigma": (layout.n_numeric,)}


class TVAETrainer(NeuralTrainer):
    """Networks, optimiser and a step, for K members."""

    loss_names = ("reconstruction", "divergence")

    _features: Features
    _encode: BoundPerceptron
    _decode: BoundPerceptron
    _latent: Latent | GpuLatent
    _likelihood: Likelihood | GpuLikelihood

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
        self._n_rows = min(spec.batch_size, *deck.lengths)
        loops = loops_of(device, self._n_rows, layout.width)
        self._heads = Heads(layout, device)
        self._encoder = _encoder(spec, layout)
        self._decoder = _decoder(spec, layout)
        n_members = layout.n_members
        self.flat = Flat(
            {**self._encoder.shapes, **_decoder_shapes(spec, layout)},
            n_members,
            device,
            matrix_dtype(spec.precision),
        )
        self._initialise()
        self._adam = Adam(
            self.flat,
            lr=spec.lr,
            betas=(0.9, 0.999),
            weight_decay=spec.weight_decay,
            loops=loops,
        )
        self.losses = torch.zeros(len(self.loss_names), n_members, device=device)
        n_normal = spec.embedding_dim * self._n_rows
        streams = peers.streams(seeds)
        self.block = block_of(n_normal, device)
        self._noise = Noise(
            streams, "tvae", n_normal=n_normal, n_uniform=0, device=device, block=self.block
        )
        self._batches = Batches(deck, layout, self._n_rows, streams, self.block)
        if isinstance(loops, GpuLoops) and not layout.wide:
            self._bind_kernels(loops)
        else:
            self._bind()

    def _bind_kernels(self, loops: GpuLoops) -> None:
        """`_bind` of a GPU's kernels."""
        flat, layout, n_rows = self.flat, self._layout, self._n_rows
        aside = Aside(flat.values.device)
        self._features = GpuRows(layout, flat.values.device, loops)
        self._encode = GpuPerceptron(self._encoder, flat, n_rows, loops, aside)
        self._decode = GpuPerceptron(self._decoder, flat, n_rows, loops, aside, to_input=True)
        bias = f"encoder.{len(self._spec.encoder_dims)}.bias"
        self._latent = GpuLatent(
            self._encode.output, flat.value[bias], flat.grad[bias], self._decode.input, loops
        )
        self._likelihood = GpuLikelihood(
            layout, self._decode.output, flat, self._spec.loss_factor, loops, aside
        )

    def _bind(self) -> None:
        """Tie the parts of a step together: each reads where the one before it writes."""
        flat = self.flat
        self._features = Features(self._layout, flat.values.device)
        self._encode = self._encoder.bind(flat, self._n_rows)
        self._decode = self._decoder.bind(flat, self._n_rows, to_input=True)
        self._logits = self._heads.place(self._decode.output)
        fused = fuses(self._encode.input)
        latent, likelihood = (FusedLatent, FusedLikelihood) if fused else (Latent, Likelihood)
        self._latent = latent(self._encode.output, self._decode.input)
        self._likelihood = likelihood(
            self._layout,
            self._logits,
            flat.value["sigma"],
            flat.grad["sigma"],
            self._spec.loss_factor,
        )

    def _initialise(self) -> None:
        def fill(member: int, value: Mapping[str, Tensor]) -> None:
            stream = torch_stream(self._seeds[member], "initial weights")
            features = self._layout.feature_placement(member)
            self._encoder.initialise(value, stream, inputs=features)
            self._decoder.initialise(value, stream, outputs=features)
            n_in = self._decoder.sizes[-2]
            self._heads.initialise(value, self._layout.placement(member), n_in, stream)
            value["sigma"].fill_(SIGMA)

        fill_members([self.flat], fill)

    def prepare(self, step: int) -> None:
        """Draw the chance of the next block, and look up its rows."""
        self._adam.tidy(step)
        self._noise.fill()
        self._batches.prepare(step)

    def step(self, slot: int) -> None:
        """One step on the next rows of the epoch."""
        flat, batch = self.flat, self._batches[slot]
        noise_KZB = self._noise.reader(slot).normal(self._spec.embedding_dim, self._n_rows)
        self._features.of_batch(batch, self._encode.input)
        self._encode.forward()
        divergence = self._latent.draw(noise_KZB)
        self._decode.forward()
        if isinstance(self._likelihood, GpuLikelihood):
            d_KOB = self._likelihood.learn(batch, divergence, self.losses)
        else:
            d_KOB = self._learn(self._likelihood, batch, divergence)
        d_points_KZB = self._decode.backward(d_KOB)
        assert d_points_KZB is not None
        self._encode.backward(self._latent.backward(d_points_KZB))
        self._peers.average(flat.grads)
        self._adam.step()
        flat.value["sigma"].clamp_(*SIGMA_RANGE)

    def _learn(self, likelihood: Likelihood, batch: Batch, divergence_K: Tensor) -> Tensor:
        """The gradient at the decoder's output, **shape** (K, O, B); adds to the losses."""
        self._heads.forward(self.flat, self._decode.output, self._logits)
        reconstruction_K, d_KWB = likelihood.learn(batch)
        self.losses[0] += reconstruction_K
        self.losses[1] += divergence_K
        return self._heads.backward(self.flat, d_KWB)

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
        value = dict(self.flat.member(member))
        weights = {
            name: value[name][own[name]] if name in own else value[name].clone()
            for name in _decoder_shapes(self._spec, layout)
        }
        encoder = {name: value[name].clone() for name in self._encoder.shapes}
        encoder["encoder.0.weight"] = value["encoder.0.weight"][:, features]
        representation = self._representations[member]
        model = TVAEModel(self._spec, representation, weights, encoder)
        if not self._spec.calibrate:
            return model
        stream = torch_stream(self._seeds[member], "calibration", device=device)
        rows = self._deck.of_member(member) if rows is None else rows
        return calibrate(model, rows, stream)


TVAE.trainer = TVAETrainer


class TVAEModel(NeuralModel):
    """A fitted TVAE: the decoder's weights and the modes, and the encoder's, where it is known.

    The encoder draws no rows: it says at which latent points to look for a row's likelihood.
    """

    kind: ClassVar[str] = "tvae"
    spec_class: ClassVar[type] = TVAE

    spec: TVAE

    def __init__(
        self,
        spec: TVAE,
        representation: Representation,
        weights: Mapping[str, Tensor],
        encoder: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(spec, representation, weights)
        self.encoder = None if encoder is None else dict(encoder)

    def _prepare(self) -> None:
        self._decoder = _decoder(self.spec, self.layout)
        self._heads = Heads(self.layout, self.weights["head.bias"].device)

    def to(self, device: torch.device) -> TVAEModel:
        """See `NeuralModel.to`."""
        moved = super().to(device)
        if self.encoder is not None:
            moved.encoder = {name: value.to(device) for name, value in self.encoder.items()}
        return moved

    @property
    def shapes(self) -> Shapes:
        """See `NeuralModel.shapes`."""
        return _decoder_shapes(self.spec, self.layout)

    def inputs(self, n_rows: int, stream: torch.Generator, wanted: Wanted) -> Any:
        """**Shape** (Z, B): points of the latent space; conditions are met by drawing again."""
        return normal((self.spec.embedding_dim, n_rows), stream)

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

    @torch.no_grad()
    def log_likelihood(
        self, table: Table, *, seed: int, samples: int = LATENT_SAMPLES
    ) -> Floats | None:
        """The importance-weighted lower bound; see `Model.log_likelihood`.

        Burda, Grosse, Salakhutdinov 2016, arXiv 1509.00519, equation 8: ``log 1/K sum_k p(x, z_k)
        / q(z_k | x)`` with z_k from the encoder; on average it grows with K to the likelihood
        itself.  All rows are judged at the same normal numbers, so that a row's value does not
        depend on its neighbours.
        """
        if self.encoder is None:
            return None
        device = self.weights["head.bias"].device
        noise_ZK = normal((self.spec.embedding_dim, samples), torch_stream(seed, "likelihood"))
        step = max(1, MAX_NUMBERS // (samples * self.layout.width))
        with using_threads(1), using_precision("auto", device):
            parts = [
                self._bound(table.take(range(start, min(start + step, len(table)))), noise_ZK)
                for start in range(0, len(table), step)
            ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _bound(self, table: Table, noise_ZK: Tensor) -> Floats:
        device = self.weights["head.bias"].device
        n_rows, n_samples = len(table), noise_ZK.shape[1]
        mean_ZB, log_variance_ZB = self._encode(table)
        deviation_ZB = (0.5 * log_variance_ZB).exp()
        noise_ZKB = noise_ZK.to(device).unsqueeze(2)
        points_ZKB = mean_ZB.unsqueeze(1) + noise_ZKB * deviation_ZB.unsqueeze(1)
        # The normalising constants of prior and encoder cancel.
        prior_KB = -0.5 * points_ZKB.double().square().sum(dim=0)
        proposal_KB = -0.5 * (
            noise_ZKB.double().square().sum(dim=0) + log_variance_ZB.double().sum(dim=0)
        )
        logits_WKB = self.logits(points_ZKB.flatten(1)).unflatten(1, (n_samples, n_rows)).cpu()
        likelihood_KB = self._log_probability(table, logits_WKB)
        log_ratio_KB = likelihood_KB + (prior_KB - proposal_KB).cpu()
        bound: Floats = (torch.logsumexp(log_ratio_KB, dim=0) - math.log(n_samples)).numpy()
        return bound

    def _encode(self, table: Table) -> tuple[Tensor, Tensor]:
        """**Shape** (Z, B) each: mean and logarithm of the variance of the latent point."""
        assert self.encoder is not None
        device = self.weights["head.bias"].device
        rows = self.representation.encode(table, seed=None)
        features = torch.zeros(1, self.layout.feature_width, len(table), device=device)
        codes, scalars = (
            part.t().unsqueeze(0).to(device) for part in (rows.codes_BS, rows.scalars_BM)
        )
        Features(self.layout, device).of_rows(codes, scalars, features)
        encoded = _encoder(self.spec, self.layout).apply(self.encoder, features[0])
        mean_ZB, log_variance_ZB = encoded.chunk(2)
        return mean_ZB, log_variance_ZB.clamp(*LOG_VARIANCE_RANGE)

    def _log_probability(self, table: Table, logits_WKB: Tensor) -> Tensor:
        """**Shape** (K, B): of what would be written, given the latent points."""
        layout, sigma = self.layout, self.weights["sigma"].cpu().double()
        encoder = Encoder(self.schema)
        encoded = encoder.encode(table)
        total = torch.zeros(logits_WKB.shape[1:], dtype=torch.float64)
        for span, (start, size) in enumerate(zip(layout.starts, layout.sizes, strict=True)):
            logs = torch.log_softmax(logits_WKB[start : start + size].double(), dim=0)
            if span < layout.n_numeric:
                cell = CellLikelihood(
                    self.representation.modes[span],
                    encoded.numbers[:, span],
                    encoder.numeric[span],
                )
                mean_KB = torch.tanh(logits_WKB[span].double())
                total += cell.log(logs, mean_KB, sigma[span])
            else:
                codes = torch.from_numpy(encoded.codes[:, span - layout.n_numeric]).long()
                total += logs.gather(0, codes.expand(1, *logs.shape[1:])).squeeze(0)
        return total

    def save(self, path: str | Path) -> None:
        """See `Model.save`."""
        self._save(Path(path), {"encoder": self.encoder is not None}, self.encoder or {})

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> TVAEModel:
        """The inverse of `save`."""
        spec = TVAE(**document["spec"])
        layout = Layout.of([Representation.from_dict(document["representation"])])
        shapes = _encoder(spec, layout).shapes if document.get("encoder") else {}
        model, encoder = cls._load(path, document, shapes)
        model.encoder = encoder or None
        return model

    def to_ctgan(self) -> Any:
        """This model as a ``ctgan.TVAE``; see `synthfactory.generators.exchange.to_ctgan`."""
        from synthfactory.generators.exchange import to_ctgan

        return to_ctgan(self)
