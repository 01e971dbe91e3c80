"""TVAE: a variational autoencoder for tables.

Written from Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
Conditional GAN", NeurIPS 2019, https://arxiv.org/abs/1907.00503, section 4.5.

Deviations, each for a reason:

- exact values and "missing" are modes of their own (`synthfactory.generators.modes`);
- a sampled category is drawn from the decoder's softmax, as the paper's equations say, not its
  largest: rare categories would vanish; and a scalar is drawn with the decoder's variance;
- the fitted network's marginals are calibrated (`synthfactory.generators.calibration`);
- a batch has 200 rows, not 500: at equal epochs more steps, which small tables need.

Legend: B batch rows, M numeric columns, S spans, W encoded width, Z latent width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthfactory.generators.base import (
    Callback,
    Generator,
    Model,
    check_conditions,
    check_count,
    check_learnable,
    expect_flag,
    expect_number,
    expect_widths,
)
from synthfactory.generators.calibration import calibrate_output, span_shares, stretch_modes
from synthfactory.generators.networks import Perceptron, draw_categories
from synthfactory.generators.rejection import sample_until
from synthfactory.generators.representation import Representation, Rows, offsets
from synthfactory.generators.store import load_weights, save_network
from synthfactory.generators.training import find_device, train, using_threads
from synthfactory.seeds import derive, torch_stream
from synthfactory.tables import Table

SAMPLE_BATCH = 8_192
CALIBRATION_ROWS = 16_384
SIGMA_RANGE = (0.01, 1.0)
LOG_VARIANCE_RANGE = (-20.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class TVAE(Generator):
    """Hyperparameters of TVAE.

    Parameters
    ----------
    epochs
        Passes over the rows, in a new order each.
    max_minutes
        Stop the fit after this wall time; the result then depends on the machine's speed.
    batch_size
        Rows of a step.
    embedding_dim
        Width Z of the latent space.
    encoder_dims, decoder_dims
        Hidden widths.
    lr
        Learning rate of Adam.
    weight_decay
        Weight decay of Adam.
    loss_factor
        Weight of the reconstruction against the Kullback-Leibler divergence.
    calibrate
        Correct the fitted network's marginals (`synthfactory.generators.calibration`).

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    name: ClassVar[str] = "tvae"
    reference: ClassVar[str] = "https://arxiv.org/abs/1907.00503"

    epochs: int = 150
    max_minutes: float | None = None
    batch_size: int = 200
    embedding_dim: int = 128
    encoder_dims: tuple[int, ...] = (128, 128)
    decoder_dims: tuple[int, ...] = (128, 128)
    lr: float = 1e-3
    weight_decay: float = 1e-5
    loss_factor: float = 2.0
    calibrate: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "embedding_dim"):
            expect_number("generator", name, getattr(self, name), minimum=1, integer=True)
        for name in ("lr", "loss_factor"):
            expect_number("generator", name, getattr(self, name), minimum=0, above=True)
        expect_number("generator", "weight_decay", self.weight_decay, minimum=0)
        if self.max_minutes is not None:
            expect_number("generator", "max_minutes", self.max_minutes, minimum=0, above=True)
        for name in ("encoder_dims", "decoder_dims"):
            object.__setattr__(self, name, expect_widths("generator", name, getattr(self, name)))
        expect_flag("generator", "calibrate", self.calibrate)

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
    ) -> TVAEModel:
        """Learn ``table``; see `Generator.fit`."""
        check_learnable(table)
        place = find_device(device)
        representation = Representation.fit(table)
        rows = representation.encode(table, seed=seed).to(place)
        with using_threads(threads):
            trainer = _Trainer(self, representation, rows, seed=seed, device=place)
            steps = self.epochs * max(1, len(rows) // self.batch_size)
            train(trainer.step, steps=steps, max_minutes=self.max_minutes, callback=callback)
            return trainer.finish()


class Decoder(nn.Module):
    """Latent vector in, logits and means of an encoded row out, and a deviation per scalar."""

    def __init__(self, spec: TVAE, representation: Representation, stream: torch.Generator) -> None:
        super().__init__()
        self.body = Perceptron(spec.embedding_dim, spec.decoder_dims, representation.width, stream)
        self.sigma_M = nn.Parameter(torch.full((representation.n_numeric,), 0.1))

    def forward(self, z_BZ: Tensor) -> Tensor:
        """**Shape** (B, Z) to (B, W)."""
        x_BW: Tensor = self.body(z_BZ)
        return x_BW


class _Trainer:
    """Networks, optimiser and a step."""

    def __init__(
        self,
        spec: TVAE,
        representation: Representation,
        rows: Rows,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._spec = spec
        self._representation = representation
        self._rows = rows
        self._stream = torch_stream(seed, "tvae", device=device)
        self._sizes = representation.span_sizes
        self._offsets_S = torch.tensor(
            offsets(self._sizes, representation.n_numeric), device=device
        )
        self._gaussians_M = torch.tensor(
            [len(column.means) for column in representation.modes], device=device
        )
        initial = torch_stream(seed, "initial weights")
        self._encoder = Perceptron(
            representation.width, spec.encoder_dims, 2 * spec.embedding_dim, initial
        ).to(device)
        self.decoder = Decoder(spec, representation, initial).to(device)
        self._adam = torch.optim.Adam(
            [*self._encoder.parameters(), *self.decoder.parameters()],
            lr=spec.lr,
            weight_decay=spec.weight_decay,
            fused=True,
        )
        self._order = torch.empty(0, dtype=torch.int64, device=device)

    def step(self) -> dict[str, Tensor]:
        """One step on the next rows of the epoch; returns the losses."""
        picked_B = self._next_rows()
        x_BW = self._rows.dense(picked_B, self._offsets_S, self._representation.width)
        mean_BZ, log_variance_BZ = self._encoder(x_BW).chunk(2, dim=1)
        log_variance_BZ = log_variance_BZ.clamp(*LOG_VARIANCE_RANGE)
        noise_BZ = torch.randn(mean_BZ.shape, generator=self._stream, device=mean_BZ.device)
        decoded_BW = self.decoder(mean_BZ + noise_BZ * torch.exp(0.5 * log_variance_BZ))
        reconstruction = self._reconstruction(decoded_BW, picked_B)
        divergence = 0.5 * (
            (mean_BZ**2 + log_variance_BZ.exp() - 1.0 - log_variance_BZ).sum(dim=1).mean()
        )
        loss = self._spec.loss_factor * reconstruction + divergence
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        self._adam.step()
        with torch.no_grad():
            self.decoder.sigma_M.clamp_(*SIGMA_RANGE)
        return {"reconstruction": reconstruction.detach(), "divergence": divergence.detach()}

    @torch.no_grad()
    def finish(self) -> TVAEModel:
        """The model, its marginals calibrated."""
        model = TVAEModel(self._spec, self._representation, self.decoder)
        if not self._spec.calibrate:
            return model
        z_NZ = model.noise(CALIBRATION_ROWS, self._stream)
        calibrate_output(
            self.decoder.body.out,
            self.decoder.body.hidden(z_NZ),
            span_shares(self._representation, self._rows),
        )
        generated = model.draw(z_NZ, self._stream)
        stretched = stretch_modes(self._representation, self._rows, generated)
        return TVAEModel(self._spec, stretched, self.decoder)

    def _next_rows(self) -> Tensor:
        """Row numbers of the next batch; a new permutation when the rows are used up."""
        n_batch = min(self._spec.batch_size, len(self._rows))
        if len(self._order) < n_batch:
            self._order = torch.randperm(
                len(self._rows), generator=self._stream, device=self._order.device
            )
        picked_B, self._order = self._order[:n_batch], self._order[n_batch:]
        return picked_B

    def _reconstruction(self, decoded_BW: Tensor, picked_B: Tensor) -> Tensor:
        """Negative log-likelihood of the rows, mean over the batch (section 4.5)."""
        n_numeric = self._representation.n_numeric
        codes_BS = self._rows.codes_BS[picked_B]
        scalars_BM = self._rows.scalars_BM[picked_B]
        sigma_M = self.decoder.sigma_M
        error_BM = (scalars_BM - torch.tanh(decoded_BW[:, :n_numeric])) / sigma_M
        # A scalar exists where its mode is a Gaussian: spikes and "missing" have none.
        has_scalar_BM = codes_BS[:, :n_numeric] < self._gaussians_M
        loss = ((0.5 * error_BM**2 + sigma_M.log()) * has_scalar_BM).sum() / len(picked_B)
        for place, part in enumerate(decoded_BW[:, n_numeric:].split(self._sizes, dim=1)):
            loss = loss + F.cross_entropy(part, codes_BS[:, place])
        return loss


class TVAEModel(Model):
    """A fitted TVAE: the decoder's weights and the modes."""

    kind: ClassVar[str] = "tvae"

    def __init__(self, spec: TVAE, representation: Representation, decoder: Decoder) -> None:
        self.spec: TVAE = spec
        self.schema = representation.schema
        self._representation = representation
        self._decoder = decoder.eval()

    def sample(
        self,
        n_rows: int,
        *,
        seed: int,
        shard: int = 0,
        first_row: int = 0,
        conditions: Mapping[str, Any] | None = None,
    ) -> Table:
        """Draw rows; see `Model.sample`.  Conditions are met by drawing again."""
        check_count(n_rows)
        codes = check_conditions(self.schema, conditions)
        places = {column.name: place for place, column in enumerate(self.schema.discrete)}
        wanted = {places[name]: code for name, code in codes.items()}
        device = self._decoder.sigma_M.device
        stream = torch_stream(seed, "sample", shard, device=device)

        def draw(n: int) -> Rows:
            return self.draw(self.noise(n, stream), stream)

        # One thread, because the number of threads changes last bits, and then a rare draw.
        with using_threads(1):
            rows = sample_until(draw, n_rows, wanted, self._representation.n_numeric, SAMPLE_BATCH)
        return self._representation.decode(
            rows, seed=derive(seed, "identifiers"), first_row=first_row
        )

    def noise(self, n_rows: int, stream: torch.Generator) -> Tensor:
        """**Shape** (B, Z): points of the latent space."""
        device = self._decoder.sigma_M.device
        return torch.randn(n_rows, self.spec.embedding_dim, generator=stream, device=device)

    @torch.no_grad()
    def draw(self, z_BZ: Tensor, stream: torch.Generator) -> Rows:
        """Rows of these latent points; scalars, modes and levels are drawn, not their likeliest."""
        n_numeric = self._representation.n_numeric
        decoded_BW = self._decoder(z_BZ)
        means_BM = torch.tanh(decoded_BW[:, :n_numeric])
        noise_BM = torch.randn(means_BM.shape, generator=stream, device=z_BZ.device)
        scalars_BM = (means_BM + noise_BM * self._decoder.sigma_M).clamp(-1.0, 1.0)
        codes_BS = draw_categories(
            decoded_BW[:, n_numeric:], self._representation.span_sizes, stream
        )
        return Rows(scalars_BM=scalars_BM, codes_BS=codes_BS)

    def save(self, path: str | Path) -> None:
        """Write weights and parameters; see `Model.save`."""
        document = {
            "kind": self.kind,
            "spec": self.spec.hyperparameters(),
            "representation": self._representation.to_dict(),
        }
        save_network(Path(path), document, self._decoder)

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> TVAEModel:
        """The inverse of `save`."""
        spec = TVAE(**document["spec"])
        representation = Representation.from_dict(document["representation"])
        decoder = Decoder(spec, representation, torch_stream(0, "overwritten"))
        load_weights(path, document, decoder)
        return cls(spec, representation, decoder)
