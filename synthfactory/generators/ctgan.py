"""CTGAN: a conditional generative adversarial network for tables.

Written from Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
Conditional GAN", NeurIPS 2019, https://arxiv.org/abs/1907.00503.

Deviations, each for a reason:

- exact values and "missing" are modes of their own (`synthfactory.generators.modes`);
- the discriminator's step does not run backward through the generator;
- sampling uses batch normalisation in evaluation mode, with statistics recomputed for the averaged
  weights, so that a row does not depend on the rows drawn beside it;
- sampling draws conditions at the true frequencies, training at the paper's logarithmic ones;
- sampling uses an exponential moving average of the generator's weights;
- a fake row's scalar is multiplied by the probability that its mode has one: real rows hold an
  exact 0 at points and missing values, by which the discriminator would know them;
- the fitted network's marginals are calibrated (`synthfactory.generators.calibration`);
- a batch has 200 rows, not 500, the learning rates are 5e-4, not 2e-4, and the discriminator drops
  no units (the authors' code: half of them): at 50 epochs on the shoppers table, where the paper's
  values learn nothing about the target yet (AUC 0.4 to 0.6), these learn it (0.78).

Legend: B batch rows, M numeric columns, S spans, D discrete columns, W encoded width,
C condition width, Z latent width, P rows of a pac, G = B / P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthfactory.errors import OrderError
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
from synthfactory.generators.networks import (
    Average,
    Discriminator,
    GeneratorNetwork,
    draw_categories,
    gumbel,
)
from synthfactory.generators.rejection import sample_until
from synthfactory.generators.representation import Representation, Rows, offsets
from synthfactory.generators.store import load_weights, save_network
from synthfactory.generators.training import find_device, train, using_threads
from synthfactory.seeds import derive, torch_stream
from synthfactory.tables import Table

TEMPERATURE = 0.2
PENALTY = 10.0
SAMPLE_BATCH = 8_192
RECALIBRATION_BATCHES = 50
CALIBRATION_ROWS = 16_384


@dataclass(frozen=True, kw_only=True)
class CTGAN(Generator):
    """Hyperparameters of CTGAN; the defaults are the paper's where it names one.

    Parameters
    ----------
    epochs
        Passes over the rows; an epoch has ``max(1, n_rows // batch_size)`` steps.
    max_minutes
        Stop the fit after this wall time; the result then depends on the machine's speed.
    batch_size
        Rows of a step, a multiple of ``pac``.
    pac
        Rows that the discriminator judges together.
    embedding_dim
        Width Z of the noise.
    generator_dims, discriminator_dims
        Hidden widths.
    generator_lr, discriminator_lr
        Learning rates of Adam.
    generator_decay
        Weight decay of the generator.
    dropout
        Share of dropped units in the discriminator.
    discriminator_steps
        Discriminator steps for each generator step.
    average_decay
        Decay of the moving average of weights that is sampled from; 0 for the last weights.
    calibrate
        Correct the fitted network's marginals (`synthfactory.generators.calibration`).

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    name: ClassVar[str] = "ctgan"
    reference: ClassVar[str] = "https://arxiv.org/abs/1907.00503"

    epochs: int = 100
    max_minutes: float | None = None
    batch_size: int = 200
    pac: int = 10
    embedding_dim: int = 128
    generator_dims: tuple[int, ...] = (256, 256)
    discriminator_dims: tuple[int, ...] = (256, 256)
    generator_lr: float = 5e-4
    discriminator_lr: float = 5e-4
    generator_decay: float = 1e-6
    dropout: float = 0.0
    discriminator_steps: int = 1
    average_decay: float = 0.999
    calibrate: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "pac", "embedding_dim", "discriminator_steps"):
            expect_number("generator", name, getattr(self, name), minimum=1, integer=True)
        # Batch normalisation needs two rows to compare.
        expect_number("generator", "batch_size", self.batch_size, minimum=2, integer=True)
        for name in ("generator_lr", "discriminator_lr"):
            expect_number("generator", name, getattr(self, name), minimum=0, above=True)
        for name in ("generator_decay", "dropout", "average_decay"):
            expect_number("generator", name, getattr(self, name), minimum=0)
        if self.max_minutes is not None:
            expect_number("generator", "max_minutes", self.max_minutes, minimum=0, above=True)
        for name in ("dropout", "average_decay"):
            if getattr(self, name) >= 1:
                raise OrderError(
                    f"generator.{name}: expected a number below 1, got {getattr(self, name)!r}."
                )
        for name in ("generator_dims", "discriminator_dims"):
            object.__setattr__(self, name, expect_widths("generator", name, getattr(self, name)))
        expect_flag("generator", "calibrate", self.calibrate)
        if self.batch_size % self.pac:
            raise OrderError(
                f"generator.batch_size: expected a multiple of pac={self.pac}, got "
                f"{self.batch_size}; use {max(1, self.batch_size // self.pac) * self.pac}."
            )

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
    ) -> CTGANModel:
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


class _Conditions:
    """Training-by-sampling (section 4.3): a column, a level of it, and the rows that have it."""

    def __init__(self, representation: Representation, rows: Rows, device: torch.device) -> None:
        sizes = representation.level_sizes
        self.width = representation.condition_width
        self.n_columns = len(sizes)
        self.offsets_D = torch.tensor(offsets(sizes), device=device)
        widest = max(sizes, default=0)
        weights_DL = torch.zeros(self.n_columns, widest, device=device)
        starts = np.zeros((self.n_columns, widest), dtype=np.int64)
        counts = np.zeros((self.n_columns, widest), dtype=np.int64)
        order = []
        codes = rows.codes_BS[:, representation.n_numeric :].cpu().numpy()
        for place, levels in enumerate(representation.level_counts):
            counted = np.asarray(levels)
            weights_DL[place, : len(levels)] = torch.from_numpy(np.log1p(counted)).float()
            counts[place, : len(levels)] = counted
            starts[place, : len(levels)] = place * len(codes) + np.cumsum(counted) - counted
            order.append(np.argsort(codes[:, place], kind="stable"))
        self._weights_DL = weights_DL
        self._starts_DL = torch.from_numpy(starts).to(device)
        self._counts_DL = torch.from_numpy(counts).to(device)
        # Row numbers sorted by level, column after column: the rows of a level are contiguous.
        self._order = torch.from_numpy(np.concatenate(order)).to(device) if order else None

    def draw(self, n_rows: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Columns and levels, **shape** (B,) each: a column uniformly, a level by log frequency."""
        device = self._weights_DL.device
        columns_B = torch.randint(self.n_columns, (n_rows,), generator=stream, device=device)
        levels_B = torch.multinomial(self._weights_DL[columns_B], 1, generator=stream).squeeze(1)
        return columns_B, levels_B

    def dense(self, columns_B: Tensor, levels_B: Tensor) -> Tensor:
        """**Shape** (B, C): the conditional vector."""
        c_BC = torch.zeros(len(columns_B), self.width, device=columns_B.device)
        return c_BC.scatter_(1, (self.offsets_D[columns_B] + levels_B).unsqueeze(1), 1.0)

    def rows_with(self, columns_B: Tensor, levels_B: Tensor, stream: torch.Generator) -> Tensor:
        """**Shape** (B,): a row number per condition, uniformly among its rows."""
        assert self._order is not None
        counts_B = self._counts_DL[columns_B, levels_B]
        u_B = torch.rand(
            len(columns_B), generator=stream, device=columns_B.device, dtype=torch.float64
        )
        within_B = torch.minimum((u_B * counts_B).long(), counts_B - 1)
        return self._order[self._starts_DL[columns_B, levels_B] + within_B]


class _Trainer:
    """Networks, optimisers and the two halves of a step."""

    def __init__(
        self,
        spec: CTGAN,
        representation: Representation,
        rows: Rows,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._spec = spec
        self._representation = representation
        self._rows = rows
        self._device = device
        self._stream = torch_stream(seed, "ctgan", device=device)
        self._sizes = representation.span_sizes
        self._level_sizes = representation.level_sizes
        self._n_gaussians = [len(column.means) for column in representation.modes]
        self._has_points = self._n_gaussians != self._sizes[: representation.n_numeric]
        self._offsets_S = torch.tensor(
            offsets(self._sizes, representation.n_numeric), device=device
        )
        self._conditions = _Conditions(representation, rows, device)
        initial = torch_stream(seed, "initial weights")
        width, condition_width = representation.width, representation.condition_width
        self._generator = GeneratorNetwork(
            spec.embedding_dim + condition_width, spec.generator_dims, width, initial
        ).to(device)
        self._discriminator = Discriminator(
            width + condition_width, spec.pac, spec.discriminator_dims, spec.dropout, initial
        ).to(device)
        self._average = Average(self._generator, spec.average_decay)
        self._generator_adam = torch.optim.Adam(
            self._generator.parameters(),
            lr=spec.generator_lr,
            betas=(0.5, 0.9),
            weight_decay=spec.generator_decay,
            fused=True,
        )
        self._discriminator_adam = torch.optim.Adam(
            self._discriminator.parameters(),
            lr=spec.discriminator_lr,
            betas=(0.5, 0.9),
            fused=True,
        )

    def step(self) -> dict[str, Tensor]:
        """Discriminator steps, then a generator step; returns their losses."""
        for _ in range(self._spec.discriminator_steps):
            critic, penalty = self._discriminator_step()
        adversary, condition = self._generator_step()
        if self._spec.average_decay > 0:
            self._average.update(self._generator)
        return {
            "critic loss": critic,
            "gradient penalty": penalty,
            "generator loss": adversary,
            "condition loss": condition,
        }

    def _discriminator_step(self) -> tuple[Tensor, Tensor]:
        n_rows = self._spec.batch_size
        c_BC, picked_B = (
            None,
            torch.randint(len(self._rows), (n_rows,), generator=self._stream, device=self._device),
        )
        real_c_BC = c_BC
        if self._conditions.n_columns:
            columns_B, levels_B = self._conditions.draw(n_rows, self._stream)
            c_BC = self._conditions.dense(columns_B, levels_B)
            # Real rows come in another order than fake ones, so that no pac pairs them.
            mixed_B = torch.randperm(n_rows, generator=self._stream, device=self._device)
            picked_B = self._conditions.rows_with(
                columns_B[mixed_B], levels_B[mixed_B], self._stream
            )
            real_c_BC = c_BC[mixed_B]
        real_BW = self._rows.dense(picked_B, self._offsets_S, self._representation.width)
        with torch.no_grad():
            fake_BW, _ = self._fake(n_rows, c_BC)
        real_G, fake_G = self._pacs(real_BW, real_c_BC), self._pacs(fake_BW, c_BC)
        share_G1 = torch.rand(len(real_G), 1, generator=self._stream, device=self._device)
        score_real, score_fake, slope_GX = self._discriminator.judge(
            real_G, fake_G, share_G1, self._stream
        )
        difference = score_fake.mean() - score_real.mean()
        penalty = gradient_penalty(slope_GX)
        self._discriminator_adam.zero_grad(set_to_none=True)
        (difference + penalty).backward()
        self._discriminator_adam.step()
        return difference.detach(), penalty.detach()

    def _generator_step(self) -> tuple[Tensor, Tensor]:
        n_rows = self._spec.batch_size
        c_BC, columns_B, levels_B = None, None, None
        if self._conditions.n_columns:
            columns_B, levels_B = self._conditions.draw(n_rows, self._stream)
            c_BC = self._conditions.dense(columns_B, levels_B)
        fake_BW, logits_BW = self._fake(n_rows, c_BC)
        adversary = -self._discriminator(self._pacs(fake_BW, c_BC), self._stream).mean()
        condition = torch.zeros((), device=self._device)
        if columns_B is not None and levels_B is not None:
            condition = self._condition_loss(logits_BW, columns_B, levels_B)
        self._generator_adam.zero_grad(set_to_none=True)
        (adversary + condition).backward()
        self._generator_adam.step()
        return adversary.detach(), condition.detach()

    def _condition_loss(self, logits_BW: Tensor, columns_B: Tensor, levels_B: Tensor) -> Tensor:
        """Cross-entropy between the conditioned column's logits and its level, mean over rows."""
        start = self._representation.width - self._representation.condition_width
        losses_B = torch.zeros(len(columns_B), device=self._device)
        for place, part in enumerate(logits_BW[:, start:].split(self._level_sizes, dim=1)):
            mine = torch.nonzero(columns_B == place).squeeze(1)
            losses_B[mine] = F.cross_entropy(part[mine], levels_B[mine], reduction="none")
        return losses_B.mean()

    def _fake(self, n_rows: int, c_BC: Tensor | None) -> tuple[Tensor, Tensor]:
        """Activated rows and their logits, **shape** (B, W) each."""
        z_BZ = torch.randn(
            n_rows, self._spec.embedding_dim, generator=self._stream, device=self._device
        )
        logits_BW = self._generator(z_BZ if c_BC is None else torch.cat([z_BZ, c_BC], dim=1))
        n_numeric = self._representation.n_numeric
        noisy = (
            logits_BW[:, n_numeric:] + gumbel(logits_BW[:, n_numeric:], self._stream)
        ) / TEMPERATURE
        parts = [F.softmax(part, dim=1) for part in noisy.split(self._sizes, dim=1)]
        scalars_BM = torch.tanh(logits_BW[:, :n_numeric])
        if self._has_points:
            # Points and "missing" have the scalar 0 in real rows; so do they in fake ones.
            scalars_BM = scalars_BM * torch.stack(
                [
                    part[:, :n].sum(dim=1)
                    for part, n in zip(parts[:n_numeric], self._n_gaussians, strict=True)
                ],
                dim=1,
            )
        return torch.cat([scalars_BM, *parts], dim=1), logits_BW

    def _pacs(self, x_BW: Tensor, c_BC: Tensor | None) -> Tensor:
        """**Shape** (G, P * (W + C))."""
        x = x_BW if c_BC is None else torch.cat([x_BW, c_BC], dim=1)
        return x.reshape(len(x) // self._spec.pac, -1)

    @torch.no_grad()
    def finish(self) -> CTGANModel:
        """The model: averaged weights, batch statistics of their own, marginals calibrated."""
        network = self._average.network if self._spec.average_decay > 0 else self._generator
        assert isinstance(network, GeneratorNetwork)
        sampler = _Sampler(self._representation, self._spec.embedding_dim, self._device)
        self._recalibrate_norms(network, sampler)
        model = CTGANModel(self._spec, self._representation, network)
        if not self._spec.calibrate:
            return model
        inputs_NZC = sampler.inputs(CALIBRATION_ROWS, self._stream)
        shares = span_shares(self._representation, self._rows)
        calibrate_output(
            network.out,
            network.hidden(inputs_NZC),
            shares,
        )
        generated = model.draw(inputs_NZC, self._stream)
        stretched = stretch_modes(self._representation, self._rows, generated)
        return CTGANModel(self._spec, stretched, network)

    def _recalibrate_norms(self, network: GeneratorNetwork, sampler: _Sampler) -> None:
        """Running statistics of batch normalisation for these weights and true frequencies."""
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.reset_running_stats()
                module.momentum = None
        network.train()
        for _ in range(RECALIBRATION_BATCHES):
            network(sampler.inputs(max(self._spec.batch_size, 500), self._stream))
        network.eval()


def gradient_penalty(slope_GX: Tensor) -> Tensor:
    """WGAN-GP, Gulrajani et al. 2017, arXiv 1704.00028, equation 3, on whole pacs."""
    penalty: Tensor = PENALTY * ((slope_GX.norm(dim=1) - 1.0) ** 2).mean()
    return penalty


class _Sampler:
    """Noise and conditions at the true frequencies."""

    def __init__(
        self, representation: Representation, embedding_dim: int, device: torch.device
    ) -> None:
        self._embedding_dim = embedding_dim
        self._device = device
        self._width = representation.condition_width
        sizes = representation.level_sizes
        self._n_columns = len(sizes)
        self._offsets_D = torch.tensor(offsets(sizes), device=device)
        counts_DL = torch.zeros(
            len(sizes), max(sizes, default=0), dtype=torch.float64, device=device
        )
        for place, counts in enumerate(representation.level_counts):
            counts_DL[place, : len(counts)] = torch.tensor(counts, dtype=torch.float64)
        self._cumulated_DL = (counts_DL / counts_DL.sum(1, keepdim=True).clamp(min=1)).cumsum(1)

    def inputs(
        self, n_rows: int, stream: torch.Generator, fixed: tuple[int, int] | None = None
    ) -> Tensor:
        """**Shape** (B, Z + C): the inputs; ``fixed`` is a discrete column and its code."""
        z_BZ = torch.randn(n_rows, self._embedding_dim, generator=stream, device=self._device)
        if not self._n_columns:
            return z_BZ
        columns_B = torch.randint(self._n_columns, (n_rows,), generator=stream, device=self._device)
        u_B = torch.rand(n_rows, 1, generator=stream, device=self._device, dtype=torch.float64)
        levels_B = torch.searchsorted(self._cumulated_DL[columns_B], u_B, right=True).squeeze(1)
        levels_B = levels_B.clamp(max=self._cumulated_DL.shape[1] - 1)
        if fixed is not None:
            columns_B, levels_B = (
                torch.full_like(columns_B, fixed[0]),
                torch.full_like(levels_B, fixed[1]),
            )
        c_BC = torch.zeros(n_rows, self._width, device=self._device)
        c_BC.scatter_(1, (self._offsets_D[columns_B] + levels_B).unsqueeze(1), 1.0)
        return torch.cat([z_BZ, c_BC], dim=1)


class CTGANModel(Model):
    """A fitted CTGAN: the generator's weights, the modes, and the levels' frequencies."""

    kind: ClassVar[str] = "ctgan"

    def __init__(
        self, spec: CTGAN, representation: Representation, network: GeneratorNetwork
    ) -> None:
        self.spec: CTGAN = spec
        self.schema = representation.schema
        self._representation = representation
        self._network = network.eval()

    def sample(
        self,
        n_rows: int,
        *,
        seed: int,
        shard: int = 0,
        first_row: int = 0,
        conditions: Mapping[str, Any] | None = None,
    ) -> Table:
        """Draw rows; see `Model.sample`.

        One condition is native: it goes into the conditional vector, and the few rows that do not
        follow it are drawn again.  Further conditions are met by drawing again only.
        """
        check_count(n_rows)
        codes = check_conditions(self.schema, conditions)
        device = next(self._network.parameters()).device
        stream = torch_stream(seed, "sample", shard, device=device)
        places = {column.name: place for place, column in enumerate(self.schema.discrete)}
        wanted = {places[name]: code for name, code in codes.items()}
        fixed = self._rarest(wanted)
        sampler = _Sampler(self._representation, self.spec.embedding_dim, device)

        def draw(n: int) -> Rows:
            return self.draw(sampler.inputs(n, stream, fixed), stream)

        # One thread, because the number of threads changes last bits, and then a rare draw.
        with using_threads(1):
            rows = sample_until(draw, n_rows, wanted, self._representation.n_numeric, SAMPLE_BATCH)
        return self._representation.decode(
            rows, seed=derive(seed, "identifiers"), first_row=first_row
        )

    def _rarest(self, wanted: Mapping[int, int]) -> tuple[int, int] | None:
        """The condition to put into the conditional vector: the one that is met least often."""
        counts = self._representation.level_counts
        return min(wanted.items(), key=lambda item: counts[item[0]][item[1]], default=None)

    @torch.no_grad()
    def draw(self, inputs_BZC: Tensor, stream: torch.Generator) -> Rows:
        """Rows of these noises and conditions; modes and levels are drawn by their softmax."""
        n_numeric = self._representation.n_numeric
        logits_BW = self._network(inputs_BZC)
        codes_BS = draw_categories(
            logits_BW[:, n_numeric:], self._representation.span_sizes, stream
        )
        return Rows(scalars_BM=torch.tanh(logits_BW[:, :n_numeric]), codes_BS=codes_BS)

    def save(self, path: str | Path) -> None:
        """Write weights and parameters; see `Model.save`."""
        document = {
            "kind": self.kind,
            "spec": self.spec.hyperparameters(),
            "representation": self._representation.to_dict(),
        }
        save_network(Path(path), document, self._network)

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> CTGANModel:
        """The inverse of `save`."""
        spec = CTGAN(**document["spec"])
        representation = Representation.from_dict(document["representation"])
        network = GeneratorNetwork(
            spec.embedding_dim + representation.condition_width,
            spec.generator_dims,
            representation.width,
            torch_stream(0, "overwritten"),
        )
        load_weights(path, document, network)
        return cls(spec, representation, network)
