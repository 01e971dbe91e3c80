"""CTGAN: a conditional generative adversarial network for tables.

Written from Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling Tabular Data using
Conditional GAN", NeurIPS 2019, https://arxiv.org/abs/1907.00503.

Deviations, each for a reason:

- exact values and "missing" are modes of their own (`synthfactory.generators.modes`);
- the generator's step takes the fake rows that the critic has just seen, as is usual in training
  such networks: half of the generator's forward passes (the other order, measured with the
  defaults, is worse at pairs of columns);
- sampling uses batch normalisation in evaluation mode, with statistics recomputed for the averaged
  weights, so that a row does not depend on the rows drawn beside it;
- sampling draws conditions at the true frequencies, training at the paper's logarithmic ones;
- sampling uses an exponential moving average of the generator's weights;
- a fake row's scalar is multiplied by the probability that its mode has one;
- columns of more than 512 levels are embedded (`synthfactory.generators.layout`);
- the fitted network's marginals are calibrated (`synthfactory.generators.calibration`);
- a batch has 200 rows, not 500, the learning rates are 5e-4, not 2e-4, and the critic drops no
  units (the authors' code: half of them): at 50 epochs on the shoppers table, where the paper's
  values learn nothing about the target yet (AUC 0.4 to 0.6), these learn it (0.78).

Legend: K members, B batch rows, M numeric columns, W width of the logits, J width of the features,
C levels of all discrete columns, Z latent width, P rows of a pac, G = B / P.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from synthfactory.errors import OrderError
from synthfactory.generators.adversarial import FusedCritic, FusedFeatures, FusedResidual
from synthfactory.generators.adversarial_gpu import GpuCritic, GpuFeatures
from synthfactory.generators.base import (
    expect_number,
    expect_widths,
)
from synthfactory.generators.calibration import calibrate
from synthfactory.generators.drawing import Conditions, Deck, Known, Picks
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.flat import Adam, Average, Flat
from synthfactory.generators.fusing import GpuLoops, Loops, loops_of
from synthfactory.generators.layout import Layout
from synthfactory.generators.members import fill_members
from synthfactory.generators.networks import Critic, Looked, Residual, Shapes
from synthfactory.generators.neural import NeuralGenerator, NeuralTrainer
from synthfactory.generators.noise import Noise, Reader, block_of, normal
from synthfactory.generators.peers import ALONE, Peers
from synthfactory.generators.precision import matrix_dtype
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.sampling import MAX_NUMBERS, NeuralModel, Wanted
from synthfactory.generators.training import part_of
from synthfactory.seeds import torch_stream

RECALIBRATION_BATCHES = 50
RECALIBRATION_ROWS = 500
MAX_LOOKED_UP = 2**12
AT_ONCE = 1_024


@dataclass(frozen=True, kw_only=True)
class CTGAN(NeuralGenerator):
    """Hyperparameters of CTGAN; the defaults are the paper's where it names one.

    Parameters
    ----------
    epochs, max_minutes, batch_size, embedding_dim, calibrate, precision, patience, ranks
        As in `NeuralGenerator`; ``batch_size`` is a multiple of
        ``ranks * pac``.
    pac
        Rows that the discriminator judges together.
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

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    name: ClassVar[str] = "ctgan"
    reference: ClassVar[str] = "https://arxiv.org/abs/1907.00503"

    epochs: int = 100
    pac: int = 10
    generator_dims: tuple[int, ...] = (256, 256)
    discriminator_dims: tuple[int, ...] = (256, 256)
    generator_lr: float = 5e-4
    discriminator_lr: float = 5e-4
    generator_decay: float = 1e-6
    dropout: float = 0.0
    discriminator_steps: int = 1
    average_decay: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pac", "discriminator_steps"):
            expect_number("generator", name, getattr(self, name), minimum=1, integer=True)
        for name in ("generator_lr", "discriminator_lr"):
            expect_number("generator", name, getattr(self, name), minimum=0, above=True)
        for name in ("generator_decay", "dropout", "average_decay"):
            expect_number("generator", name, getattr(self, name), minimum=0)
        for name in ("dropout", "average_decay"):
            if getattr(self, name) >= 1:
                raise OrderError(
                    f"generator.{name}: expected a number below 1, got {getattr(self, name)!r}."
                )
        for name in ("generator_dims", "discriminator_dims"):
            object.__setattr__(self, name, expect_widths("generator", name, getattr(self, name)))
        unit = self.pac * self.ranks
        if self.batch_size % unit:
            each = f", for each of {self.ranks} ranks," if self.ranks > 1 else ","
            raise OrderError(
                f"generator.batch_size: expected a multiple of pac={self.pac}{each} got "
                f"{self.batch_size}; use {max(1, self.batch_size // unit) * unit}."
            )


def _generator(
    spec: CTGAN, layout: Layout, n_conditions: int, loops: Loops | None = None
) -> Residual:
    widths = spec.embedding_dim + n_conditions, spec.generator_dims, layout.feature_width
    return Residual(*widths) if loops is None else FusedResidual(*widths, loops)


def _critic(spec: CTGAN, layout: Layout, n_conditions: int, loops: Loops | None) -> Critic:
    widths = layout.feature_width, n_conditions, spec.pac, spec.discriminator_dims
    if isinstance(loops, GpuLoops):
        return GpuCritic(*widths, spec.dropout, loops)
    return (Critic if loops is None else FusedCritic)(*widths, spec.dropout)


def _features(spec: CTGAN, layout: Layout, device: torch.device, loops: Loops | None) -> Features:
    if loops is None or layout.wide:
        return Features(layout, device)
    if isinstance(loops, GpuLoops):
        return GpuFeatures(layout, device, matrix_dtype(spec.precision), loops)
    return FusedFeatures(layout, device)


class CTGANTrainer(NeuralTrainer):
    """Networks, optimisers and the two halves of a step, for K members."""

    loss_names = ("critic loss", "gradient penalty", "generator loss", "condition loss")

    def __init__(
        self,
        spec: CTGAN,
        layout: Layout,
        representations: Sequence[Representation],
        deck: Deck,
        seeds: Sequence[int],
        device: torch.device,
        peers: Peers = ALONE,
    ) -> None:
        self._spec, self._layout, self._deck = spec, layout, deck
        self._representations, self._seeds, self._peers = representations, seeds, peers
        loops = loops_of(device, spec.batch_size, 3 * (layout.feature_width + layout.n_levels))
        self._features = _features(spec, layout, device, loops)
        self._heads = Heads(layout, device)
        self._generator = _generator(spec, layout, self._features.n_conditions, loops)
        self._critic = _critic(spec, layout, self._features.n_conditions, loops)
        self._conditions = Conditions(representations, deck, device) if layout.n_levels else None
        n_members, dtype = layout.n_members, matrix_dtype(spec.precision)
        self.generator = Flat(
            {**self._generator.shapes, **self._heads.shapes}, n_members, device, dtype
        )
        self.critic = Flat(self._critic.shapes, n_members, device, dtype)
        self._initialise()
        self._average = self.generator.values.clone()
        self._done = torch.zeros((), device=device)
        moving = Average(self._average, self._done, spec.average_decay)
        self._generator_adam = Adam(
            self.generator,
            lr=spec.generator_lr,
            betas=(0.5, 0.9),
            weight_decay=spec.generator_decay,
            average=moving if spec.average_decay > 0 else None,
            loops=loops,
        )
        self._critic_adam = Adam(
            self.critic, lr=spec.discriminator_lr, betas=(0.5, 0.9), loops=loops
        )
        self.losses = torch.zeros(len(self.loss_names), n_members, device=device)
        self._noise = self._make_noise(device)
        self.block = self._noise.block
        self._picks = Picks(
            self._conditions,
            deck,
            n_rows=spec.batch_size,
            pac=spec.pac,
            turns=spec.discriminator_steps,
            n_drawn=self._n_drawn,
            block=self.block,
        )

    def _initialise(self) -> None:
        def fill(
            member: int, generator: Mapping[str, Tensor], critic: Mapping[str, Tensor]
        ) -> None:
            stream = torch_stream(self._seeds[member], "initial weights")
            features = self._layout.feature_placement(member)
            logits = self._layout.placement(member)
            self._generator.initialise(generator, features, stream)
            self._heads.initialise(generator, logits, self._generator.fan_in, stream)
            self._critic.initialise(critic, features, stream)

        fill_members((self.generator, self.critic), fill)

    @property
    def _n_drawn(self) -> int:
        """Uniform numbers of one draw: of conditions and rows, fake rows, and points between."""
        n_rows, n_codes = self._spec.batch_size, self._layout.width - self._layout.n_numeric
        return 3 * n_rows + n_codes * n_rows + n_rows // self._spec.pac

    def _make_noise(self, device: torch.device) -> Noise:
        spec, layout = self._spec, self._layout
        n_rows, n_pacs = spec.batch_size, spec.batch_size // spec.pac
        n_steps, n_drawn = spec.discriminator_steps, self._n_drawn
        n_normal, n_uniform = n_steps * spec.embedding_dim * n_rows, n_steps * n_drawn
        n_masked = (3 * n_steps + 1) * self._critic.n_masked * n_pacs
        places = None
        if layout.is_padded:
            members = range(layout.n_members)
            places = [self._places(member, n_uniform, n_drawn) for member in members]
        return Noise(
            self._peers.streams(self._seeds),
            "ctgan",
            n_normal=n_normal,
            n_uniform=n_uniform,
            n_masked=n_masked,
            drop=spec.dropout,
            device=device,
            block=block_of(n_normal + n_uniform + n_masked, device),
            places=places,
        )

    def _places(self, member: int, n_uniform: int, n_drawn: int) -> Tensor:
        """Which of the uniform numbers a member uses: none for modes that it does not have."""
        n_rows = self._spec.batch_size
        own = self._layout.placement(member)[self._layout.n_numeric :] - self._layout.n_numeric
        n_pacs = n_rows // self._spec.pac
        order = []
        for start in range(0, n_uniform, n_drawn):
            codes = start + 3 * n_rows + own.unsqueeze(1) * n_rows + torch.arange(n_rows)
            order.append(torch.arange(start, start + 3 * n_rows))
            order.append(codes.view(-1))
            order.append(torch.arange(start + n_drawn - n_pacs, start + n_drawn))
        return torch.cat(order)

    def prepare(self, step: int) -> None:
        """Draw the chance of the next block, and look up its rows."""
        self._generator_adam.tidy(step)
        self._critic_adam.tidy(step)
        self._noise.fill()
        self._picks.prepare(self._noise.uniform)

    def step(self, slot: int) -> None:
        """Critic steps, then a generator step on the last fake rows."""
        chance = self._noise.reader(slot)
        for turn in range(self._spec.discriminator_steps):
            known = self._picks.of_step(slot, turn)
            logits_KWB, x_KFP3G = self._draw(chance, known)
            critic = self._critic_step(chance, x_KFP3G)
        adversary, missed = self._generator_step(chance, known.pairs, logits_KWB, x_KFP3G)
        if isinstance(self._critic, GpuCritic):
            self._critic.add_losses(missed, self.losses)
        else:
            condition_K = torch.zeros_like(self.losses[0]) if missed is None else missed
            self.losses += torch.stack([*critic, adversary, condition_K])

    def _draw(self, chance: Reader, known: Known) -> tuple[Tensor, Tensor]:
        """The logits that the generator makes, and the critic's input."""
        spec, layout = self._spec, self._layout
        n_rows = spec.batch_size
        # `Picks` has read these.
        chance.uniform(3, n_rows)
        x_KFP3G = self._critic.input(self.critic, n_rows)
        inputs_KIB = self._generator.input(self.generator, n_rows)
        inputs_KIB[:, : spec.embedding_dim] = chance.normal(spec.embedding_dim, n_rows)
        self._features.of_known(self._deck, known, inputs_KIB, x_KFP3G)
        out_KOB = self._generator.forward(self.generator)
        logits_KWB = self._heads.forward(self.generator, out_KOB)
        gumbel_KVB = chance.uniform(layout.width - layout.n_numeric, n_rows)
        self._features.of_fakes(logits_KWB, gumbel_KVB, x_KFP3G)
        return logits_KWB, x_KFP3G

    def _critic_step(self, chance: Reader, x_KFP3G: Tensor) -> tuple[Tensor, Tensor]:
        n_pacs = x_KFP3G.shape[4]
        share_K1G = chance.uniform(1, n_pacs)
        masks = self._masks(chance, 3 * n_pacs)
        losses = self._critic.learn(self.critic, x_KFP3G, share_K1G, masks)
        self._peers.average(self.critic.grads)
        self._critic_adam.step()
        return losses

    def _generator_step(
        self, chance: Reader, pairs_KB: Tensor | None, logits_KWB: Tensor, x_KFP3G: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Losses, and the conditions' cross-entropy: its mean, or that of each row."""
        masks = self._masks(chance, x_KFP3G.shape[4])
        adversary, d_KJB = self._critic.guide(self.critic, x_KFP3G, masks)
        missed: Tensor | None = None
        if isinstance(self._features, GpuFeatures):
            d_KWB, missed = self._features.backward_following(d_KJB, logits_KWB, pairs_KB)
        else:
            d_KWB = self._features.backward(d_KJB)
            if pairs_KB is not None:
                missed = self._features.follow(logits_KWB, pairs_KB, d_KWB)
        d_KOB = self._heads.backward(self.generator, d_KWB)
        self._generator.backward(self.generator, d_KOB)
        self._peers.average(self.generator.grads)
        self._generator_adam.step()
        return adversary, missed

    def _masks(self, chance: Reader, n_pacs: int) -> list[Tensor]:
        if not self._spec.dropout:
            return []
        return [chance.mask(size, n_pacs) for size in self._spec.discriminator_dims]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """See `Trainer.tensors`."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "weights": {"generator": self.generator.values, "critic": self.critic.values},
            "average": {"values": self._average, "done": self._done},
            "generator adam": self._generator_adam.state,
            "critic adam": self._critic_adam.state,
            "noise": self._noise.state,
            "report": {"losses": self.losses},
        }
        return {f"{part}/{name}": value for part, of in parts.items() for name, value in of.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Trainer.restore`."""
        self.generator.values.copy_(tensors["weights/generator"])
        self.critic.values.copy_(tensors["weights/critic"])
        self.generator.refresh()
        self.critic.refresh()
        self._average.copy_(tensors["average/values"])
        self._done.copy_(tensors["average/done"])
        self._generator_adam.restore(part_of(tensors, "generator adam/"))
        self._critic_adam.restore(part_of(tensors, "critic adam/"))
        self._noise.restore(part_of(tensors, "noise/"))
        self.losses.copy_(tensors["report/losses"])

    @property
    def learnt(self) -> dict[str, Tensor]:
        """See `Trainer.learnt`."""
        return {
            "weights/generator": self.generator.values,
            "average/values": self._average,
        }

    def slow_down(self, factor: float) -> None:
        """See `Trainer.slow_down`."""
        self._generator_adam.slow_down(factor)
        self._critic_adam.slow_down(factor)

    @torch.no_grad()
    def finish(self, member: int, rows: Rows | None = None) -> CTGANModel:
        """The model: averaged weights, batch statistics of their own, marginals calibrated."""
        layout = self._layout.member(member)
        flat = self._own_weights(member, layout)
        representation = self._representations[member]
        weights = self._fold_norms(flat, layout, representation, self._seeds[member])
        model = CTGANModel(self._spec, representation, weights)
        if not self._spec.calibrate:
            return model
        stream = torch_stream(self._seeds[member], "calibration", device=flat.values.device)
        rows = self._deck.of_member(member) if rows is None else rows
        return calibrate(model, rows, stream)

    def _own_weights(self, member: int, layout: Layout) -> Flat:
        """One member's (averaged) generator, without the rows that only others use."""
        source = self._average if self._spec.average_decay > 0 else self.generator.values
        device = source.device
        network = _generator(self._spec, layout, self._features.n_conditions)
        flat = Flat({**network.shapes, **Heads(layout, device).shapes}, 1, device)
        own = {}
        if self._layout.is_padded:
            own = {
                "out.weight": self._layout.feature_placement(member).to(device),
                "head.bias": self._layout.placement(member).to(device),
            }
        for name, value in self.generator.member(member, source):
            flat.value[name][0].copy_(value[own[name]] if name in own else value)
        return flat

    def _fold_norms(
        self, flat: Flat, layout: Layout, representation: Representation, seed: int
    ) -> dict[str, Tensor]:
        """Weights without batch normalisation: its statistics for these weights folded in.

        The statistics are means over batches with conditions drawn as in training, by logarithmic
        frequencies: at others the hidden units would be shifted from where they were trained.

        A processor takes one batch after the other; a GPU as many as fit, as if each were a member
        of an ensemble, because there launching the operations is what takes the time.
        """
        device = flat.values.device
        stream = torch_stream(seed, "batch statistics", device=device)
        network = _generator(self._spec, layout, self._features.n_conditions)
        n_noise = self._spec.embedding_dim
        inputs = Inputs(representation, self._features, n_noise, device, as_trained=True)
        zero = torch.zeros((), device=device)
        totals = [(zero, zero)] * len(self._spec.generator_dims)
        n_rows = max(self._spec.batch_size, RECALIBRATION_ROWS)
        fit = 1 if device.type == "cpu" else max(1, MAX_NUMBERS // (network.fan_in * n_rows))
        for done in range(0, RECALIBRATION_BATCHES, fit):
            count = min(fit, RECALIBRATION_BATCHES - done)
            several = flat.repeated(count)
            # The statistics are those of hidden layers; the output is not computed.
            several.matrix["out.weight"] = several.matrix["out.weight"][:, :0]
            drawn_IB = inputs.draw(count * n_rows, stream)
            network.input(several, n_rows).copy_(
                drawn_IB.unflatten(1, (count, n_rows)).transpose(0, 1)
            )
            network.forward(several)
            seen = [
                (mean_KH.sum(dim=0, keepdim=True), variance_KH.sum(dim=0, keepdim=True))
                for mean_KH, variance_KH in network.statistics()
            ]
            pairs = zip(totals, seen, strict=True)
            totals = [(mean + m, var + v) for (mean, var), (m, v) in pairs]
        return network.fold(
            flat, [(m / RECALIBRATION_BATCHES, v / RECALIBRATION_BATCHES) for m, v in totals]
        )


CTGAN.trainer = CTGANTrainer


class Inputs:
    """What the generator reads: noise, and conditions at the true frequencies, to sample.

    Parameters
    ----------
    as_trained
        Draw conditions by logarithmic frequencies instead.
    """

    def __init__(
        self,
        representation: Representation,
        features: Features,
        n_noise: int,
        device: torch.device,
        *,
        as_trained: bool = False,
    ) -> None:
        self._features, self._n_noise, self._device = features, n_noise, device
        sizes = representation.level_sizes
        self._firsts = [sum(sizes[:place]) for place in range(len(sizes))]
        counts = [
            torch.tensor(levels, dtype=torch.float64) for levels in representation.level_counts
        ]
        counts = [levels.log1p() for levels in counts] if as_trained else counts
        shares = [levels / levels.sum().clamp_min(1) / len(counts) for levels in counts]
        self._cumulated_C = torch.cat(shares).cumsum(0).to(device) if shares else None

    def draw(
        self, n_rows: int, stream: torch.Generator, fixed: tuple[int, int] | None = None
    ) -> Tensor:
        """**Shape** (I, B); ``fixed`` is a discrete column and its code."""
        x_IB = torch.empty(self._n_noise + self._features.n_conditions, n_rows, device=self._device)
        x_IB[: self._n_noise].normal_(generator=stream)
        if self._cumulated_C is None:
            return x_IB
        pairs_B = self.draw_levels(n_rows, stream, fixed)
        levels_QB = x_IB[self._n_noise :].zero_()
        self._features.of_conditions(pairs_B.unsqueeze(0), levels_QB.unsqueeze(0))
        return x_IB

    def draw_levels(
        self, n_rows: int, stream: torch.Generator, fixed: tuple[int, int] | None = None
    ) -> Tensor:
        """**Shape** (B,): the condition of each row, as a level of all levels; 0 without any."""
        if fixed is not None or self._cumulated_C is None:
            pair = 0 if fixed is None else self._firsts[fixed[0]] + fixed[1]
            return torch.full((n_rows,), pair, device=self._device)
        uniform_B = torch.rand(n_rows, generator=stream, device=self._device, dtype=torch.float64)
        pairs_B = torch.searchsorted(self._cumulated_C, uniform_B, right=True)
        return pairs_B.clamp_max_(len(self._cumulated_C) - 1)


class CTGANModel(NeuralModel):
    """A fitted CTGAN: the generator's weights, the modes, and the levels' frequencies."""

    kind: ClassVar[str] = "ctgan"
    spec_class: ClassVar[type] = CTGAN

    spec: CTGAN

    def _prepare(self) -> None:
        device = self.weights["out.weight"].device
        self._features = Features(self.layout, device)
        self._inputs = Inputs(self.representation, self._features, self.spec.embedding_dim, device)
        self._network = _generator(self.spec, self.layout, self._features.n_conditions)
        self._heads = Heads(self.layout, device)

    def inputs(self, n_rows: int, stream: torch.Generator, wanted: Wanted) -> Tensor:
        """One condition is native: the rarest goes into the conditional vector."""
        return self._inputs.draw(n_rows, stream, wanted.rarest(self.representation.level_counts))

    def logits(self, inputs: Tensor) -> Tensor:
        """**Shape** (W, B)."""
        return self._heads.apply(self.weights, self._network.apply(self.weights, inputs))

    @functools.cached_property
    def _looked(self) -> Looked:
        return Looked(self._network, self.weights, self._features.condition_table)

    def draw_logits(self, n_rows: int, stream: torch.Generator, wanted: Wanted) -> Tensor:
        """See `NeuralModel.draw_logits`; as many rows at once as fit the cache."""
        if self.layout.n_levels > MAX_LOOKED_UP:
            return super().draw_logits(n_rows, stream, wanted)
        noise_BZ = normal((n_rows, self.spec.embedding_dim), stream)
        rarest = wanted.rarest(self.representation.level_counts)
        pairs_B = self._inputs.draw_levels(n_rows, stream, rarest)
        logits_WB = noise_BZ.new_empty(self.layout.width, n_rows)
        at_once = n_rows if noise_BZ.is_cuda else AT_ONCE
        for first in range(0, n_rows, at_once):
            mine = slice(first, first + at_once)
            out_OB = self._looked.apply(noise_BZ[mine], pairs_B[mine]).t()
            logits_WB[:, mine] = self._heads.apply(self.weights, out_OB)
        return logits_WB

    def scalars(self, logits_WB: Tensor, stream: torch.Generator) -> Tensor:
        """**Shape** (M, B)."""
        return torch.tanh(logits_WB[: self.layout.n_numeric])

    @property
    def shapes(self) -> Shapes:
        """See `NeuralModel.shapes`."""
        features = Features(self.layout, torch.device("cpu"))
        network = _generator(self.spec, self.layout, features.n_conditions)
        shapes = {**network.shapes, **Heads(self.layout, torch.device("cpu")).shapes}
        return network.folded(shapes)

    def to_ctgan(self) -> Any:
        """This model as a ``ctgan.CTGAN``; see `synthfactory.generators.exchange.to_ctgan`."""
        from synthfactory.generators.exchange import to_ctgan

        return to_ctgan(self)
