"""The parts of CTGAN's step in compiled loops: `networks` and `features` between products.

Every result, and every view of it, has a place of its own that is kept from step to step, and one
loop does the work of all operations between two matrix products.  At lower precision the loops
read what products write, and write what products read, so that nothing is converted in between.

Legend: see `synthfactory.generators.networks` and `features`; C columns of the critic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.drawing import Deck, Known
from synthfactory.generators.features import TEMPERATURE, Features
from synthfactory.generators.flat import Flat
from synthfactory.generators.fusing import Aside, Loops, ProcessorLoops
from synthfactory.generators.layout import Layout
from synthfactory.generators.networks import EPSILON, LEAK, PENALTY, Critic, Residual

# What `FusedCritic` and `FusedFeatures` run.
LOOPS = ProcessorLoops()
# In place of the count of modes that have a scalar, where all have one.
ALWAYS = -1

# Whether a product of bfloat16 can be written as float32; on a GPU, from torch 2.8 on.
SUMS_DIRECTLY = hasattr(torch.ops.aten.bmm, "dtype_out")


class Gradient:
    """A gradient of weights that is a product; at lower precision it has a place of its own."""

    def __init__(self, target: Tensor, dtype: torch.dtype) -> None:
        self._target = target
        self._low = None if dtype == target.dtype else torch.empty_like(target, dtype=dtype)

    def set(self, a: Tensor, b: Tensor) -> None:
        """``a @ b``."""
        if self._low is not None and a.is_cuda and SUMS_DIRECTLY:
            torch.ops.aten.bmm.dtype_out(a, b, torch.float32, out=self._target)
            return
        torch.bmm(a, b, out=self._target if self._low is None else self._low)
        if self._low is not None:
            self._target.copy_(self._low)


def _rows(whole: Tensor, start: int, stop: int | None = None) -> Tensor:
    """Some rows of each member; of one member with strides that say that it is in one piece."""
    return whole[0, start:stop].unsqueeze(0) if len(whole) == 1 else whole[:, start:stop]


class FusedResidual(Residual):
    """`Residual` in compiled loops, for batches of one size.

    Parameters
    ----------
    loops
        The device's.
    """

    _bound_rows = 0

    def __init__(self, n_in: int, hidden: Sequence[int], n_out: int, loops: Loops) -> None:
        super().__init__(n_in, hidden, n_out)
        self._loops = loops

    def input(self, flat: Flat, n_rows: int) -> Tensor:
        """See `Residual.input`."""
        if self._bound_rows != n_rows:
            self._bind(flat, n_rows)
            self._bound_rows = n_rows
        return self._buffer[:, self.n_hidden :]

    def _bind(self, flat: Flat, n_rows: int) -> None:
        n_members, dtype, make = flat.n_members, flat.dtype, flat.values.new_zeros
        buffer = self._buffer = make(n_members, self.fan_in, n_rows, dtype=dtype)
        d_hidden = self._d_hidden = make(n_members, self.n_hidden, n_rows, dtype=dtype)
        self._low_out = make(n_members, self.n_out, n_rows, dtype=dtype)
        self._out = self._low_out.float()
        self._weight = flat.matrix["out.weight"]
        self._to_hidden = self._weight[:, :, : self.n_hidden].transpose(1, 2)
        self._turned = buffer.transpose(1, 2)
        self._grad = Gradient(flat.grad["out.weight"], dtype)
        array_of = self._loops.array_of
        self._units, self._d_units = array_of(buffer), array_of(d_hidden)
        self._aside = Aside(buffer.device)
        self._blocks = [
            _Block(flat, place, start, buffer, d_hidden, self._loops)
            for place, start in enumerate(self.starts[:-1])
        ]

    def forward(self, flat: Flat) -> Tensor:
        """See `Residual.forward`; the place of the result is used again."""
        for block in self._blocks:
            block.forward(self._units)
        torch.bmm(self._weight, self._buffer, out=self._low_out)
        return self._out if self._out is self._low_out else self._out.copy_(self._low_out)

    def backward(self, flat: Flat, d_out_KOB: Tensor) -> None:
        """See `Residual.backward`."""
        low = d_out_KOB.dtype != self._low_out.dtype
        d_out = self._low_out.copy_(d_out_KOB) if low else d_out_KOB
        # Nobody waits for a weight's gradient until all are there.
        with self._aside:
            self._grad.set(d_out, self._turned)
        torch.bmm(self._to_hidden, d_out, out=self._d_hidden)
        for block in reversed(self._blocks):
            block.backward(self._d_units, self._aside)
        self._aside.join()


class _Block:
    """A block of `FusedResidual`, with the views of everything that its passes touch."""

    def __init__(
        self,
        flat: Flat,
        place: int,
        start: int,
        buffer: Tensor,
        d_hidden: Tensor,
        loops: Loops,
    ) -> None:
        name = f"layer.{place}"
        self._weight = flat.matrix[f"{name}.weight"]
        n_members, size, _ = self._weight.shape
        n_rows, n_before = buffer.shape[2], d_hidden.shape[1] - start
        self._inputs = _rows(buffer, start)
        self._turned = self._inputs.transpose(1, 2)
        self._grad = Gradient(flat.grad[f"{name}.weight"], flat.dtype)
        self._sums = buffer.new_zeros(n_members, size, n_rows)
        self._d_before = _rows(d_hidden, start) if n_before else None
        self._to_before = self._weight[:, :, :n_before].transpose(1, 2)
        self._start = start - size
        make, array_of = flat.values.new_zeros, loops.array_of
        self._norm = array_of(make(n_members, size, n_rows)), array_of(make(n_members, size))
        self._affine = tuple(array_of(flat.value[f"{name}.{part}"]) for part in ("gain", "bias"))
        self._d_affine = tuple(array_of(flat.grad[f"{name}.{part}"]) for part in ("gain", "bias"))
        self._array = array_of(self._sums)
        self._loops = loops.adversarial

    def forward(self, units: Any) -> None:
        """Write the units from what lies behind them."""
        torch.bmm(self._weight, self._inputs, out=self._sums)
        self._loops.normalise(
            self._array, *self._affine, np.float32(EPSILON), self._start, *self._norm, units
        )

    def backward(self, d_units: Any, aside: Aside) -> None:
        """Write the gradients of the weights, and add to those of the units behind."""
        self._loops.normalise_backward(
            d_units, *self._affine, self._start, *self._norm, *self._d_affine, self._array
        )
        with aside:
            self._grad.set(self._sums, self._turned)
        if self._d_before is not None:
            self._d_before.baddbmm_(self._to_before, self._sums)


class BoundCritic(Critic):
    """`Critic` for batches of one size, with all places, and all views of them, made once."""

    _x: Tensor | None = None

    def input(self, flat: Flat, n_rows: int) -> Tensor:
        """See `Critic.input`; what was written before is still there."""
        if self._x is None or self._x.shape[4] * self.pac != n_rows:
            self._bind(flat, super().input(flat, n_rows))
        assert self._x is not None
        return self._x

    def _bind(self, flat: Flat, x_KFP3G: Tensor) -> None:
        self._x = x_KFP3G
        n_members, n_pacs = flat.n_members, x_KFP3G.shape[4]
        x = self._x_KX3G = x_KFP3G.view(n_members, -1, 3 * n_pacs)
        self._ends, self._fake = x[:, :, : 2 * n_pacs], x[:, :, n_pacs : 2 * n_pacs]
        self._between, self._turned = x[:, :, 2 * n_pacs :], x.transpose(1, 2)
        self._first = flat.matrix["layer.0.weight"]
        self._back = self._first.transpose(1, 2)
        n_own = self.n_features * self.pac
        self._to_features = self._first[:, :, :n_own].transpose(1, 2)
        self._slopes = x.new_zeros(n_members, x.shape[1], n_pacs)
        self._d_features = x.new_zeros(n_members, n_own, n_pacs)
        self._d_rows = self._d_features.view(n_members, self.n_features, -1)
        self._grads = [
            Gradient(flat.grad[f"layer.{place}.weight"], flat.dtype)
            for place in range(len(self.hidden))
        ]


class Columns:
    """Places for what a critic's layers make of some columns, and for the way back.

    Parameters
    ----------
    n_columns, n_judged
        C, and how many of them, the first, count for the gradient of the biases: the others are
        points between, whose sums in the first layer are made of the others'.  0 for all columns,
        and no gradient.

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
    """

    def __init__(self, critic: Critic, flat: Flat, n_columns: int, n_judged: int) -> None:
        n_members, make = flat.n_members, flat.values.new_zeros
        n_given = n_judged or n_columns
        self._n_judged = n_judged

        def places(n_columns: int, *, low: bool = True) -> list[Tensor]:
            dtype = flat.dtype if low else torch.float32
            return [make(n_members, size, n_columns, dtype=dtype) for size in critic.hidden]

        self.sums = [places(n_given)[0], *places(n_columns)[1:]]
        self.d_sums, self.pulled = places(n_columns), places(n_columns - n_given)
        self.slope = self.d_sums[0][:, :, n_given:]
        # Scores are made in float32, no matrix product reads the last units.
        self._units = [*places(n_columns)[:-1], places(n_columns, low=False)[-1]]
        self._d_units = places(n_columns)[:-1]
        self._local = places(n_columns, low=False)
        self.turned = [part.transpose(1, 2) for part in self._units[:-1]]
        hidden = range(1, len(critic.hidden))
        self._weights = [flat.matrix[f"layer.{place}.weight"] for place in hidden]
        self._backs = [weight.transpose(1, 2) for weight in self._weights]
        self._pulled_inputs = [part[:, :, n_given:] for part in self._units[:-1]]
        names = [f"layer.{place}.bias" for place in range(len(critic.hidden))]
        self._biases = [flat.value[name] for name in names]
        self._d_biases = [flat.grad[name] for name in names]

    def _raise(self, place: int) -> None:
        """Make a layer's sums of the units before it, but for the first layer."""
        if place:
            torch.bmm(self._weights[place - 1], self._units[place - 1], out=self.sums[place])

    def _lower(self, place: int) -> None:
        """Make the gradient at a layer's units of that at the sums behind it."""
        torch.bmm(self._backs[place], self.d_sums[place + 1], out=self._d_units[place])

    def _raise_pulled(self, place: int) -> None:
        """As `_raise`, of what lies in the place of the points' units."""
        if place:
            inputs = self._pulled_inputs[place - 1]
            torch.bmm(self._weights[place - 1], inputs, out=self.pulled[place])


class FusedCritic(BoundCritic):
    """`Critic` in a processor's compiled loops, for batches of one size."""

    def _bind(self, flat: Flat, x_KFP3G: Tensor) -> None:
        super()._bind(flat, x_KFP3G)
        n_members, n_pacs = flat.n_members, x_KFP3G.shape[4]
        self._for_learning = _ArrayColumns(self, flat, 3 * n_pacs, 2 * n_pacs)
        self._for_guiding = _ArrayColumns(self, flat, n_pacs, 0)
        shares = np.array([-1.0 / n_pacs, 1.0 / n_pacs, 1.0], np.float32)
        self._directions_C = np.repeat(shares, n_pacs)
        self._towards_G = np.full(n_pacs, -1.0 / n_pacs, np.float32)
        self._nothing = np.zeros((n_members, 0), np.float32)
        self._out_grad = flat.grad["out.weight"].numpy()
        self._arrays = LOOPS.array_of(self._slopes), LOOPS.array_of(self._x_KX3G)
        self._losses = [flat.values.new_zeros(n_members) for _ in range(3)]
        self._loss_arrays = [losses.numpy() for losses in self._losses]

    def learn(
        self, flat: Flat, x_KFP3G: Tensor, share_K1G: Tensor, masks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Critic.learn`."""
        columns, directions_C = self._for_learning, self._directions_C
        differences, penalties, _ = self._loss_arrays
        torch.bmm(self._first, self._ends, out=columns.sums[0])
        columns.up(share_K1G[:, 0].numpy(), masks)
        columns.judge(directions_C, 2 * x_KFP3G.shape[4], differences)
        columns.down(directions_C)
        torch.bmm(self._back, columns.slope, out=self._slopes)
        slopes, x = self._arrays
        LOOPS.adversarial.pull(slopes, np.float32(PENALTY), x, penalties)
        torch.bmm(self._first, self._between, out=columns.pulled[0])
        columns.pull()
        inputs = [self._turned, *columns.turned]
        for grad, d_sums, turned in zip(self._grads, columns.d_sums, inputs, strict=True):
            grad.set(d_sums, turned)
        LOOPS.adversarial.score_gradient(columns.last, directions_C, self._out_grad)
        return self._losses[0], self._losses[1]

    def guide(self, flat: Flat, x_KFP3G: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See `Critic.guide`; the gradient is of the products' precision."""
        columns = self._for_guiding
        torch.bmm(self._first, self._fake, out=columns.sums[0])
        columns.up(self._nothing, masks)
        columns.judge(self._towards_G, x_KFP3G.shape[4], self._loss_arrays[2])
        columns.down(self._towards_G)
        torch.bmm(self._to_features, columns.d_sums[0], out=self._d_features)
        return self._losses[2], self._d_rows


class _ArrayColumns(Columns):
    """`Columns` of the loops, which read NumPy's arrays, and the way through them.

    Attributes
    ----------
    last
        The last layer's units.
    """

    def __init__(self, critic: Critic, flat: Flat, n_columns: int, n_judged: int) -> None:
        super().__init__(critic, flat, n_columns, n_judged)
        self._local_arrays = _arrays(self._local)
        self._unit_arrays = _arrays(self._units)
        self.last = self._unit_arrays[-1]
        self._sum_arrays, self._d_sum_arrays = _arrays(self.sums), _arrays(self.d_sums)
        self._d_unit_arrays = _arrays(self._d_units)
        self._pulled_arrays = _arrays(self.pulled)
        self._bias_arrays, self._d_bias_arrays = _arrays(self._biases), _arrays(self._d_biases)
        self._out = flat.value["out.weight"].numpy(), flat.value["out.bias"].numpy()
        self._no_share = np.zeros((flat.n_members, 0), np.float32)
        self._no_mask = np.zeros((flat.n_members, 0, 0), np.float32)

    def up(self, share_KG: Any, masks: Sequence[Tensor]) -> None:
        """Write the units of each layer."""
        for place, sums in enumerate(self._sum_arrays):
            self._raise(place)
            LOOPS.adversarial.activate(
                sums,
                self._bias_arrays[place],
                self._no_share if place else share_KG,
                masks[place].numpy() if masks else self._no_mask,
                np.float32(LEAK),
                self._local_arrays[place],
                self._unit_arrays[place],
            )

    def judge(self, d_scores_C: Any, n_judged: int, losses: Any) -> None:
        """Sum over the first columns of their scores, times what each adds to the loss."""
        LOOPS.adversarial.score(self.last, *self._out, d_scores_C, n_judged, losses)

    def down(self, d_scores_C: Any) -> None:
        """Write the gradients at the sums and at the biases."""
        after = self._n_judged, self._d_sum_arrays[-1], self._d_bias_arrays[-1]
        LOOPS.adversarial.score_backward(self._out[0], d_scores_C, self._local_arrays[-1], *after)
        for place in reversed(range(len(self._d_units))):
            self._lower(place)
            after = self._n_judged, self._d_sum_arrays[place], self._d_bias_arrays[place]
            LOOPS.adversarial.activate_backward(
                self._d_unit_arrays[place], self._local_arrays[place], *after
            )

    def pull(self) -> None:
        """Put what each layer makes of the pulled slope in the place of the points' units."""
        for place, pulled in enumerate(self._pulled_arrays):
            self._raise_pulled(place)
            LOOPS.adversarial.replace_between(
                pulled, self._local_arrays[place], self._unit_arrays[place]
            )


def _arrays(tensors: Sequence[Tensor]) -> list[Any]:
    return [LOOPS.array_of(tensor) for tensor in tensors]


class FusedFeatures(Features):
    """`Features` in a processor's compiled loops, without wide spans."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        super().__init__(layout, device)
        self._starts, self._sizes = layout.bounds
        counts = np.array(layout.gaussians, np.int64).reshape(layout.n_members, -1)
        own = np.array(layout.own_modes, np.int64).reshape(layout.n_members, -1)
        self._counts = np.where(counts < own, counts, ALWAYS)
        self._warmth = np.float32(1.0 / TEMPERATURE)
        # Where each level's column begins, how many there are, and its first level.
        self._columns_C = [part.numpy() for part in self._columns[:3]]
        self._made: tuple[Any, Any, Any] | None = None
        self._losses_K = torch.zeros(layout.n_members)

    def of_known(
        self,
        deck: Deck,
        known: Known,
        inputs_KIB: Tensor,
        x_KFP3G: Tensor,
    ) -> None:
        """See `Features.of_known`."""
        nothing = known.picked[:, :0]
        now, before = (
            (nothing if part is None else part).numpy() for part in (known.pairs, known.before)
        )
        n_noise = inputs_KIB.shape[1] - self.n_conditions
        LOOPS.adversarial.write_known(
            deck.codes_NS.numpy(),
            deck.scalars_NM.numpy(),
            known.picked.numpy(),
            self._starts,
            now,
            before,
            self.layout.feature_width,
            n_noise,
            LOOPS.array_of(inputs_KIB),
            LOOPS.array_of(x_KFP3G),
        )

    def of_fakes(self, logits_KWB: Tensor, uniform_KVB: Tensor, x_KFP3G: Tensor) -> None:
        """See `Features.of_fakes`."""
        self._logits, n_numeric = logits_KWB.numpy(), self.layout.n_numeric
        n_members, width, n_rows = logits_KWB.shape
        if self._made is None or self._made[0].shape[2] != n_rows:
            heights = (width - n_numeric, n_numeric, n_numeric)
            codes, scalars, present = (
                np.zeros((n_members, n, n_rows), np.float32) for n in heights
            )
            self._made = codes, scalars, present
            self._d_logits = torch.zeros_like(logits_KWB)
        codes, scalars, present = self._made
        LOOPS.adversarial.draw_rows(
            self._logits,
            uniform_KVB.numpy(),
            self._starts,
            self._sizes,
            self._counts,
            self._warmth,
            codes,
            scalars,
            present,
            LOOPS.array_of(x_KFP3G),
        )

    def backward(self, d_KJB: Tensor) -> Tensor:
        """See `Features.backward`."""
        assert self._made is not None
        spans = self._starts, self._sizes, self._counts, self._warmth
        LOOPS.adversarial.rows_backward(
            LOOPS.array_of(d_KJB), *spans, *self._made, self._d_logits.numpy()
        )
        return self._d_logits

    def follow(self, logits_KWB: Tensor, pairs_KB: Tensor, d_KWB: Tensor) -> Tensor:
        """See `Features.follow`."""
        starts_C, sizes_C, firsts_C = self._columns_C
        LOOPS.adversarial.follow(
            logits_KWB.numpy(),
            pairs_KB.numpy(),
            starts_C,
            sizes_C,
            firsts_C,
            d_KWB.numpy(),
            self._losses_K.numpy(),
        )
        return self._losses_K
