"""The parts of CTGAN's step on an NVIDIA GPU, between matrix products one launch each.

Beside `synthfactory.generators.adversarial` more is done at once, because a launch costs more than
arithmetic: the last layer's way forth and back is one kernel, the gradient at fake rows' logits and
the conditions' cross-entropy are one, and losses are added up at the end of a step.  The arithmetic
is that of `networks` and `features`.

Legend: see there; C columns of the critic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synthfactory.generators.adversarial import ALWAYS, BoundCritic, Columns
from synthfactory.generators.drawing import Deck, Known
from synthfactory.generators.features import TEMPERATURE, Features
from synthfactory.generators.flat import Flat
from synthfactory.generators.fusing import Aside, Loops
from synthfactory.generators.layout import Layout
from synthfactory.generators.networks import LEAK, PENALTY


class GpuCritic(BoundCritic):
    """`Critic` in a GPU's kernels, for batches of one size.

    In place of losses `learn` and `guide` give what `add_losses` makes them of.
    """

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

    def _bind(self, flat: Flat, x_KFP3G: Tensor) -> None:
        super()._bind(flat, x_KFP3G)
        device, n_pacs = x_KFP3G.device, x_KFP3G.shape[4]
        make = flat.values.new_zeros
        _, n_chunks = self._loops.chunks_of(self._x_KX3G.shape[1])
        self._partial = make(flat.n_members, n_chunks, n_pacs)
        self._penalties = make(flat.n_members, n_pacs)
        shares = torch.tensor([-1.0 / n_pacs, 1.0 / n_pacs, 1.0])
        both = shares.repeat_interleave(n_pacs).to(device)
        towards = torch.full((n_pacs,), -1.0 / n_pacs, device=device)
        self._for_learning = _DirectedColumns(self, flat, both, 2 * n_pacs)
        self._for_guiding = _DirectedColumns(self, flat, towards, 0)
        self._aside = Aside(device)
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
        self._loops.pull(self._slopes, PENALTY, self._x_KX3G, self._penalties, self._partial)
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


class _DirectedColumns(Columns):
    """`Columns`, what each adds to the loss, and the way through a GPU's kernels.

    Parameters
    ----------
    directions_C
        What each column's score adds to the loss; 1 for points between.
    n_judged
        See `Columns`; so many count for the loss, too.

    Attributes
    ----------
    scored
        **Shape** (K, H): what each of the last units adds to the loss.
    """

    def __init__(self, critic: GpuCritic, flat: Flat, directions_C: Tensor, n_judged: int) -> None:
        super().__init__(critic, flat, len(directions_C), n_judged)
        self._loops, self._directions = critic._loops, directions_C
        self.scored = flat.values.new_zeros(flat.n_members, critic.hidden[-1])
        self._backwards = (
            flat.value["out.weight"],
            directions_C,
            self.d_sums[-1],
            self._d_biases[-1],
            self.scored,
        )

    def up(self, share_KG: Tensor | None, masks: Sequence[Tensor]) -> None:
        """Write the units of each layer, and the last layer's way back."""
        last = len(self.sums) - 1
        for place, sums in enumerate(self.sums):
            self._raise(place)
            self._loops.activate(
                sums,
                self._biases[place],
                None if place else share_KG,
                masks[place] if masks else None,
                LEAK,
                self._local[place],
                self._units[place],
                self._backwards if place == last else None,
                self._n_judged,
            )

    def down(self) -> None:
        """Write the gradients at the other layers' sums, and at their biases."""
        for place in reversed(range(len(self._d_units))):
            self._lower(place)
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
            self._raise_pulled(place)
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
