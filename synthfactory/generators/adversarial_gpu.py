"""The parts of CTGAN's step on an NVIDIA GPU, between matrix products one launch each.

Beside `synthfactory.generators.adversarial` more is done at once, because a launch costs more than
arithmetic: the last layer's way forth and back is one kernel, the gradient at fake rows' logits and
the conditions' cross-entropy are one, and losses are added up at the end of a step.  The arithmetic
is that of `networks` and `features`.

Legend: see there; C columns of the critic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from synthfactory.generators.adversarial import ALWAYS, Gradient
from synthfactory.generators.drawing import Deck, Known
from synthfactory.generators.features import TEMPERATURE, Features
from synthfactory.generators.flat import Flat
from synthfactory.generators.fusing import Aside, Loops
from synthfactory.generators.layout import Layout
from synthfactory.generators.networks import LEAK, PENALTY, Critic


class GpuCritic(Critic):
    """`Critic` in a GPU's kernels, for batches of one size.

    In place of losses `learn` and `guide` give what `add_losses` makes them of.
    """

    _x: Tensor | None = None

    def __init__(
        self,
        n_features: int,
        n_conditions: int,
        pac: int,
        hidden: Sequence[int],
        dropout: float,
        loops: Loops,
    ) -> None:
        super().__init__(n_features, n_conditions, pac, hidden, dropout)
        self._loops = loops.adversarial

    def input(self, flat: Flat, n_rows: int) -> Tensor:
        """See `Critic.input`; what was written before is still there."""
        if self._x is None or self._x.shape[4] * self.pac != n_rows:
            self._bind(flat, super().input(flat, n_rows))
        assert self._x is not None
        return self._x

    def _bind(self, flat: Flat, x_KFP3G: Tensor) -> None:
        self._x = x_KFP3G
        n_members, n_pacs = flat.n_members, x_KFP3G.shape[4]
        x = self._flat_x = x_KFP3G.view(n_members, -1, 3 * n_pacs)
        self._ends, self._fake = x[:, :, : 2 * n_pacs], x[:, :, n_pacs : 2 * n_pacs]
        self._between, self._turned = x[:, :, 2 * n_pacs :], x.transpose(1, 2)
        self._first = flat.matrix["layer.0.weight"]
        self._back = self._first.transpose(1, 2)
        n_own = self.n_features * self.pac
        self._to_features = self._first[:, :, :n_own].transpose(1, 2)
        self._slopes = x.new_zeros(n_members, x.shape[1], n_pacs)
        self._d_features = x.new_zeros(n_members, n_own, n_pacs)
        self._d_rows = self._d_features.view(n_members, self.n_features, -1)
        make = flat.values.new_zeros
        _, n_chunks = self._loops.chunks_of(x.shape[1])
        self._partial = make(n_members, n_chunks, n_pacs)
        self._penalties = make(n_members, n_pacs)
        shares = torch.tensor([-1.0 / n_pacs, 1.0 / n_pacs, 1.0])
        both = shares.repeat_interleave(n_pacs).to(x.device)
        towards = torch.full((n_pacs,), -1.0 / n_pacs, device=x.device)
        self._for_learning = _Columns(self, flat, both, 2 * n_pacs, self._loops)
        self._for_guiding = _Columns(self, flat, towards, 0, self._loops)
        self._grads = [
            Gradient(flat.grad[f"layer.{place}.weight"], flat.dtype)
            for place in range(len(self.hidden))
        ]
        self._aside = Aside(x.device)
        self._out_grad, self._out_bias = flat.grad["out.weight"], flat.value["out.bias"]

    def learn(
        self, flat: Flat, x_KFP3G: Tensor, share_K1G: Tensor, masks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Critic.learn`; what each unit and each pac adds to the losses."""
        columns = self._for_learning
        torch.bmm(self._first, self._ends, out=columns.sums[0])
        columns.up(share_K1G[:, 0], masks)
        columns.down()
        torch.bmm(self._back, columns.slope, out=self._slopes)
        self._loops.pull(self._slopes, PENALTY, self._flat_x, self._penalties, self._partial)
        with self._aside:
            self._grads[0].set(columns.d_sums[0], self._turned)
        torch.bmm(self._first, self._between, out=columns.pulled[0])
        columns.pull(self._out_grad)
        for grad, d_sums, turned in zip(
            self._grads[1:], columns.d_sums[1:], columns.turned, strict=True
        ):
            grad.set(d_sums, turned)
        self._aside.join()
        return columns.scored, self._penalties

    def guide(self, flat: Flat, x_KFP3G: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See `Critic.guide`; what each unit adds to the loss, and a gradient of the products'
        precision."""
        columns = self._for_guiding
        torch.bmm(self._first, self._fake, out=columns.sums[0])
        columns.up(None, masks)
        columns.down()
        torch.bmm(self._to_features, columns.d_sums[0], out=self._d_features)
        return columns.scored, self._d_rows

    def add_losses(self, missed: Tensor | None, losses_4K: Tensor) -> None:
        """Add the last step's losses; ``missed`` is each row's cross-entropy, **shape** (K, B), or
        its mean, (K,), if any."""
        if missed is not None:
            missed = missed.view(len(missed), -1)
        self._loops.add_losses(
            self._for_learning.scored,
            self._penalties,
            self._for_guiding.scored,
            self._out_bias,
            missed,
            PENALTY,
            losses_4K,
        )


class _Columns:
    """What a critic's layers make of some columns, and the way back.

    Parameters
    ----------
    directions_C
        What each column's score adds to the loss; 1 for points between.
    n_judged
        How many of them, the first, count for the loss and the gradient of biases; those behind
        are points between, whose sums in the first layer are made of the others'.  0 for all, and
        no gradient.

    Attributes
    ----------
    sums, d_sums
        Of each layer; the first of ``sums`` is to be filled, without the points between.
    slope
        The points' part of the first of ``d_sums``.
    pulled
        Of each layer what it makes of the pulled slope; the first is to be filled.
    turned
        Of each layer but the last its units, **shape** (K, C, H).
    scored
        **Shape** (K, H): what each of the last units adds to the loss.
    """

    def __init__(
        self, critic: GpuCritic, flat: Flat, directions_C: Tensor, n_judged: int, loops: Any
    ) -> None:
        self._loops = loops
        n_columns = len(directions_C)
        n_given = n_judged or n_columns
        n_members, make = flat.n_members, flat.values.new_zeros
        self._n_judged, self._directions = n_judged, directions_C

        def places(n_columns: int, *, low: bool = True) -> list[Tensor]:
            dtype = flat.dtype if low else torch.float32
            return [make(n_members, size, n_columns, dtype=dtype) for size in critic.hidden]

        self.sums = [places(n_given)[0], *places(n_columns)[1:]]
        self.d_sums, self.pulled = places(n_columns), places(n_columns - n_given)
        self.slope = self.d_sums[0][:, :, n_given:]
        # Scores are made in float32, no matrix product reads the last units.
        units = [*places(n_columns)[:-1], places(n_columns, low=False)[-1]]
        self._units, self._d_units = units, places(n_columns)[:-1]
        self.turned = [part.transpose(1, 2) for part in units[:-1]]
        hidden = range(1, len(critic.hidden))
        self._weights = [flat.matrix[f"layer.{place}.weight"] for place in hidden]
        self._backs = [weight.transpose(1, 2) for weight in self._weights]
        self._pulled_inputs = [part[:, :, n_given:] for part in units[:-1]]
        self._local = places(n_columns, low=False)
        names = [f"layer.{place}.bias" for place in range(len(critic.hidden))]
        self._biases = [flat.value[name] for name in names]
        self._d_biases = [flat.grad[name] for name in names]
        self._out = flat.value["out.weight"]
        self.scored = make(n_members, critic.hidden[-1])

    def up(self, share_KG: Tensor | None, masks: Sequence[Tensor]) -> None:
        """Write the units of each layer, and the last layer's way back."""
        last = len(self.sums) - 1
        for place, sums in enumerate(self.sums):
            if place:
                torch.bmm(self._weights[place - 1], self._units[place - 1], out=sums)
            self._loops.activate(
                sums,
                self._biases[place],
                None if place else share_KG,
                masks[place] if masks else None,
                LEAK,
                self._local[place],
                self._units[place],
                (
                    self._out,
                    self._directions,
                    self.d_sums[place],
                    self._d_biases[place],
                    self.scored,
                )
                if place == last
                else None,
                self._n_judged,
            )

    def down(self) -> None:
        """Write the gradients at the other layers' sums, and at their biases."""
        for place in reversed(range(len(self._d_units))):
            torch.bmm(self._backs[place], self.d_sums[place + 1], out=self._d_units[place])
            self._loops.activate_backward(
                self._d_units[place],
                self._local[place],
                self._n_judged,
                self.d_sums[place],
                self._d_biases[place],
            )

    def pull(self, d_weight_KH: Tensor) -> None:
        """Put what each layer makes of the pulled slope in the place of the points' units, and
        write the gradient of what makes scores of the last ones."""
        last = len(self.pulled) - 1
        for place, pulled in enumerate(self.pulled):
            if place:
                inputs = self._pulled_inputs[place - 1]
                torch.bmm(self._weights[place - 1], inputs, out=pulled)
            local, units = self._local[place], self._units[place]
            if place < last:
                self._loops.replace_between(pulled, local, units)
            else:
                self._loops.score_gradient(pulled, local, units, self._directions, d_weight_KH)


class GpuFeatures(Features):
    """`Features` in a GPU's kernels, without wide spans."""

    def __init__(
        self, layout: Layout, device: torch.device, dtype: torch.dtype, loops: Loops
    ) -> None:
        super().__init__(layout, device)
        self._loops, self._dtype = loops.adversarial, dtype
        self._starts, self._sizes = (torch.from_numpy(part).to(device) for part in layout.bounds)
        self._widest = max(layout.sizes)
        counts = torch.tensor(layout.gaussians).view(layout.n_members, -1)
        own = torch.tensor(layout.own_modes).view(layout.n_members, -1)
        self._counts = torch.where(counts < own, counts, ALWAYS).to(device)
        firsts = torch.tensor(layout.level_sizes, dtype=torch.int64).cumsum(0)
        firsts = torch.cat([torch.zeros(layout.n_numeric + 1, dtype=torch.int64), firsts])
        self._firsts = firsts[: len(layout.sizes)].to(device)
        self._warmth = 1.0 / TEMPERATURE
        self._bound_rows = 0

    def of_known(self, deck: Deck, known: Known, inputs_KIB: Tensor, x_KFP3G: Tensor) -> None:
        """See `Features.of_known`."""
        self._loops.write_known(
            *known.rows(deck),
            known.pairs,
            known.before,
            self._starts,
            self._sizes,
            self._widest,
            self.n_conditions,
            inputs_KIB,
            x_KFP3G,
        )

    def of_fakes(self, logits_KWB: Tensor, uniform_KVB: Tensor, x_KFP3G: Tensor) -> None:
        """See `Features.of_fakes`."""
        n_members, width, n_rows = logits_KWB.shape
        if self._bound_rows != n_rows:
            make, n_numeric = logits_KWB.new_zeros, self.layout.n_numeric
            self._made = tuple(
                make(n_members, height, n_rows)
                for height in (width - n_numeric, n_numeric, n_numeric)
            )
            self._d_logits = make(n_members, width, n_rows, dtype=self._dtype)
            self._missed = make(n_members, n_rows)
            self._bound_rows = n_rows
        self._loops.draw_rows(
            logits_KWB,
            uniform_KVB,
            self._starts,
            self._sizes,
            self._widest,
            self._counts,
            self._warmth,
            *self._made,
            x_KFP3G,
        )

    def backward_following(
        self, d_KJB: Tensor, logits_KWB: Tensor, pairs_KB: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """`Features.backward` and `Features.follow`: the gradient at the logits, of the products'
        precision, and each row's cross-entropy, **shape** (K, B)."""
        self._loops.rows_backward(
            d_KJB,
            logits_KWB,
            self._starts,
            self._sizes,
            self._widest,
            self._counts,
            self._firsts,
            pairs_KB,
            self._warmth,
            *self._made,
            self._d_logits,
            self._missed,
        )
        return self._d_logits, None if pairs_KB is None else self._missed
