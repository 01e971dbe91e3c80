"""CTGAN's loops.

Arrays are of float32, or of the bits of bfloat16 (`number_of`, `stored`): what a matrix product
reads or writes may be either.

Shapes: K members, B batch rows, M numeric columns, S spans, W width of the logits, V codes of all
spans, I width of the generator's input, U units of the generator's buffer, H a hidden width,
J width of the features, F = J and the conditions', P rows of a pac, G = B / P pacs, C columns that
go through the critic together, N rows of all members.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.compiling import compiled
from synthfactory.generators._kernels.arithmetic import (
    FLOAT,
    ONE,
    TWO,
    ZERO,
    exponential,
    folded_sum,
    logarithm,
    number_of,
    share_of,
    stored,
)

_LEAST = FLOAT(1e-20)
_LOWEST = FLOAT(-3e38)
_LEAST_NORM = FLOAT(1e-12)
_REAL, _FAKE, _BETWEEN = 0, 1, 2


@compiled
def write_known(
    codes_NS: Any, scalars_NM: Any, picked_KB: Any, starts_S: Any, pairs_KB: Any, before_KB: Any,
    n_features: Any, n_noise: Any, inputs_KIB: Any, x_KFPSG: Any,
) -> None:  # fmt: skip
    """Real rows, and the one-hot conditions in the generator's input and beside both sorts of rows.

    ``pairs_KB`` are the conditions of fake rows, ``before_KB`` those of real ones; they are of
    shape (K, 0) when there is no discrete column.
    """
    n_members, n_all, n_in_pac, _, n_pacs = x_KFPSG.shape
    n_numeric, n_spans = scalars_NM.shape[1], len(starts_S)
    one, nothing = stored(ONE, x_KFPSG), stored(ZERO, x_KFPSG)
    for k in range(n_members):
        inputs_KIB[k, n_noise:] = nothing
        for f in range(n_numeric, n_all):
            last = _FAKE if f < n_features else _BETWEEN
            for p in range(n_in_pac):
                x_KFPSG[k, f, p, :last] = nothing
        for p in range(n_in_pac):
            for g in range(n_pacs):
                b = p * n_pacs + g
                row = picked_KB[k, b]
                for m in range(n_numeric):
                    x_KFPSG[k, m, p, _REAL, g] = stored(scalars_NM[row, m], x_KFPSG)
                for span in range(n_spans):
                    x_KFPSG[k, starts_S[span] + codes_NS[row, span], p, _REAL, g] = one
        for b in range(pairs_KB.shape[1]):
            p, g = b // n_pacs, b % n_pacs
            inputs_KIB[k, n_noise + pairs_KB[k, b], b] = one
            x_KFPSG[k, n_features + before_KB[k, b], p, _REAL, g] = one
            x_KFPSG[k, n_features + pairs_KB[k, b], p, _FAKE, g] = one


@compiled
def draw_rows(
    logits_KWB: Any, uniform_KVB: Any, starts_S: Any, sizes_S: Any, counts_KM: Any, warmth: Any,
    shares_KVB: Any, scalars_KMB: Any, present_KMB: Any, x_KFPSG: Any,
) -> None:  # fmt: skip
    """Fake rows: the Gumbel-softmax of every span, and scalars times the chance that there is one.

    ``counts_KM`` are the modes that have a scalar, the first ones; -1 where all have one.
    ``warmth`` is 1 / temperature.
    """
    n_members, _, n_rows = logits_KWB.shape
    n_numeric = scalars_KMB.shape[1]
    highest_B, sums_B = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    for k in range(n_members):
        for span in range(len(starts_S)):
            first, last = starts_S[span], starts_S[span] + sizes_S[span]
            highest_B[:] = _LOWEST
            for w in range(first, last):
                row_B, uniform_B = logits_KWB[k, w], uniform_KVB[k, w - n_numeric]
                noisy_B = shares_KVB[k, w - n_numeric]
                for b in range(n_rows):
                    uniform = uniform_B[b]
                    uniform = _LEAST if uniform < _LEAST else uniform
                    noisy_B[b] = -logarithm(uniform)
                for b in range(n_rows):
                    noisy = (row_B[b] - logarithm(noisy_B[b])) * warmth
                    noisy_B[b] = noisy
                    highest_B[b] = noisy if noisy > highest_B[b] else highest_B[b]
            sums_B[:] = ZERO
            for w in range(first, last):
                share_B = shares_KVB[k, w - n_numeric]
                for b in range(n_rows):
                    share = share_of(share_B[b] - highest_B[b])
                    share_B[b] = share
                    sums_B[b] += share
            for b in range(n_rows):
                sums_B[b] = ONE / sums_B[b]
            for w in range(first, last):
                share_B = shares_KVB[k, w - n_numeric]
                for b in range(n_rows):
                    share_B[b] *= sums_B[b]
                _spread(share_B, x_KFPSG[k, w])
        for m in range(n_numeric):
            row_B, scalar_B, present_B = logits_KWB[k, m], scalars_KMB[k, m], present_KMB[k, m]
            present_B[:] = ONE if counts_KM[k, m] < 0 else ZERO
            first = starts_S[m] - n_numeric
            for v in range(first, first + counts_KM[k, m]):
                share_B = shares_KVB[k, v]
                for b in range(n_rows):
                    present_B[b] += share_B[b]
            for b in range(n_rows):
                power = exponential(TWO * row_B[b])
                scalar_B[b] = (power - ONE) / (power + ONE)
                sums_B[b] = scalar_B[b] * present_B[b]
            _spread(sums_B, x_KFPSG[k, m])


@compiled
def _spread(row_B: Any, x_PSG: Any) -> None:
    """Write a feature of fake rows to where the critic reads it."""
    n_in_pac, _, n_pacs = x_PSG.shape
    for p in range(n_in_pac):
        part_G, x_G = row_B[p * n_pacs : (p + 1) * n_pacs], x_PSG[p, _FAKE]
        for g in range(n_pacs):
            x_G[g] = stored(part_G[g], x_PSG)


@compiled
def rows_backward(
    d_rows_KJB: Any, starts_S: Any, sizes_S: Any, counts_KM: Any, warmth: Any, shares_KVB: Any,
    scalars_KMB: Any, present_KMB: Any, d_logits_KWB: Any,
) -> None:  # fmt: skip
    """The gradient at the logits that `draw_rows` read."""
    n_members, _, n_rows = d_logits_KWB.shape
    n_numeric = scalars_KMB.shape[1]
    dots_B, d_present_B = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    for k in range(n_members):
        for span in range(len(starts_S)):
            first, last = starts_S[span], starts_S[span] + sizes_S[span]
            with_scalar = first
            if span < n_numeric:
                with_scalar += max(0, counts_KM[k, span])
                d_row_B, d_scalar_B = d_rows_KJB[k, span], d_logits_KWB[k, span]
                scalar_B, present_B = scalars_KMB[k, span], present_KMB[k, span]
                for b in range(n_rows):
                    d_row = number_of(d_row_B[b])
                    d_present_B[b] = d_row * scalar_B[b]
                    d_scalar_B[b] = d_row * present_B[b] * (ONE - scalar_B[b] * scalar_B[b])
            dots_B[:] = ZERO
            for w in range(first, last):
                d_row_B, d_logit_B = d_rows_KJB[k, w], d_logits_KWB[k, w]
                share_B = shares_KVB[k, w - n_numeric]
                if w < with_scalar:
                    for b in range(n_rows):
                        d_logit_B[b] = number_of(d_row_B[b]) + d_present_B[b]
                        dots_B[b] += share_B[b] * d_logit_B[b]
                else:
                    for b in range(n_rows):
                        d_logit_B[b] = number_of(d_row_B[b])
                        dots_B[b] += share_B[b] * d_logit_B[b]
            for w in range(first, last):
                d_logit_B, share_B = d_logits_KWB[k, w], shares_KVB[k, w - n_numeric]
                for b in range(n_rows):
                    d_logit_B[b] = share_B[b] * (d_logit_B[b] - dots_B[b]) * warmth


@compiled
def follow(
    logits_KWB: Any, pairs_KB: Any, starts_C: Any, sizes_C: Any, firsts_C: Any, d_logits_KWB: Any,
    losses_K: Any,
) -> None:  # fmt: skip
    """The conditioned columns' cross-entropy, mean over rows; its gradient is added.

    For each level of all discrete columns: where its column's logits begin, how many there are, and
    which level is the column's first.
    """
    n_members, n_rows = pairs_KB.shape
    scale = ONE / FLOAT(n_rows)
    powers = np.empty(sizes_C.max(), np.float32)
    for k in range(n_members):
        total = 0.0
        for b in range(n_rows):
            pair = pairs_KB[k, b]
            start, size = starts_C[pair], sizes_C[pair]
            highest = _LOWEST
            for level in range(size):
                logit = logits_KWB[k, start + level, b]
                powers[level] = logit
                highest = logit if logit > highest else highest
            whole = ZERO
            for level in range(size):
                powers[level] = share_of(powers[level] - highest)
                whole += powers[level]
            share = scale / whole
            for level in range(size):
                d_logits_KWB[k, start + level, b] += powers[level] * share
            place = start + pair - firsts_C[pair]
            d_logits_KWB[k, place, b] -= scale
            total += logarithm(whole) + highest - logits_KWB[k, place, b]
        losses_K[k] = total / n_rows


@compiled
def normalise(
    sums_KHB: Any, gain_KH: Any, bias_KH: Any, epsilon: Any, start: Any, normed_KHB: Any,
    scales_KH: Any, units_KUB: Any,
) -> None:  # fmt: skip
    """Batch normalisation and ReLU, into the units from ``start`` on."""
    n_members, n_hidden, n_rows = sums_KHB.shape
    share = ONE / FLOAT(n_rows)
    spare_B = np.empty(n_rows, np.float32)
    for k in range(n_members):
        for h in range(n_hidden):
            sum_B, normed_B, unit_B = sums_KHB[k, h], normed_KHB[k, h], units_KUB[k, start + h]
            for b in range(n_rows):
                normed_B[b] = number_of(sum_B[b])
                spare_B[b] = normed_B[b]
            mean = folded_sum(spare_B) * share
            for b in range(n_rows):
                normed_B[b] -= mean
                spare_B[b] = normed_B[b] * normed_B[b]
            scale = ONE / np.sqrt(folded_sum(spare_B) * share + epsilon)
            scales_KH[k, h] = scale
            gain, bias = gain_KH[k, h], bias_KH[k, h]
            for b in range(n_rows):
                normed_B[b] *= scale
                unit = normed_B[b] * gain + bias
                unit_B[b] = stored(ZERO if unit < ZERO else unit, units_KUB)


@compiled
def normalise_backward(
    d_units_KUB: Any, gain_KH: Any, bias_KH: Any, start: Any, normed_KHB: Any, scales_KH: Any,
    d_gain_KH: Any, d_bias_KH: Any, d_sums_KHB: Any,
) -> None:  # fmt: skip
    """The gradients at what `normalise` read."""
    n_members, n_hidden, n_rows = normed_KHB.shape
    share = ONE / FLOAT(n_rows)
    d_normed_B = np.empty(n_rows, np.float32)
    spare_B, products_B = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    for k in range(n_members):
        for h in range(n_hidden):
            d_unit_B, d_sum_B = d_units_KUB[k, start + h], d_sums_KHB[k, h]
            normed_B = normed_KHB[k, h]
            gain, bias = gain_KH[k, h], bias_KH[k, h]
            for b in range(n_rows):
                d_unit = number_of(d_unit_B[b])
                d_unit = ZERO if normed_B[b] * gain + bias <= ZERO else d_unit
                d_normed_B[b] = d_unit
                spare_B[b] = d_unit
                products_B[b] = d_unit * normed_B[b]
            d_gain, d_bias = folded_sum(products_B), folded_sum(spare_B)
            d_gain_KH[k, h], d_bias_KH[k, h] = d_gain, d_bias
            # (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3).
            scale, by_normed, by_one = gain * scales_KH[k, h], d_gain * share, d_bias * share
            for b in range(n_rows):
                d_sum = (d_normed_B[b] - (normed_B[b] * by_normed + by_one)) * scale
                d_sum_B[b] = stored(d_sum, d_sums_KHB)


@compiled
def activate(
    sums_KHC: Any, bias_KH: Any, share_KG: Any, masks_KHC: Any, leak: Any, local_KHC: Any,
    units_KHC: Any,
) -> None:  # fmt: skip
    """Bias, leaky ReLU and dropout; ``local_KHC`` is what the last two multiply a sum by.

    Where shares are given, sums of points between real and fake pacs are made of theirs, and
    follow them.  Masks are of shape (K, 0, 0) without dropout.
    """
    n_members, n_hidden, n_given = sums_KHC.shape
    n_pacs, dropout = share_KG.shape[1], masks_KHC.shape[1] > 0
    n_all = n_given + n_pacs
    row_C = np.empty(n_all, np.float32)
    for k in range(n_members):
        for h in range(n_hidden):
            sum_C, bias = sums_KHC[k, h], bias_KH[k, h]
            local_C, unit_C = local_KHC[k, h], units_KHC[k, h]
            for c in range(n_given):
                row_C[c] = number_of(sum_C[c]) + bias
            real_G, fake_G, between_G = row_C[:n_pacs], row_C[n_pacs:n_given], row_C[n_given:]
            for g in range(n_pacs):
                between_G[g] = fake_G[g] + share_KG[k, g] * (real_G[g] - fake_G[g])
            if dropout:
                mask_C = masks_KHC[k, h]
                for c in range(n_all):
                    local_C[c] = mask_C[c] if row_C[c] > ZERO else leak * mask_C[c]
            else:
                for c in range(n_all):
                    local_C[c] = ONE if row_C[c] > ZERO else leak
            for c in range(n_all):
                unit_C[c] = stored(row_C[c] * local_C[c], units_KHC)


@compiled
def score(
    units_KHC: Any, weight_KH: Any, bias_K1: Any, d_scores_C: Any, n_judged: Any, losses_K: Any
) -> None:
    """Sum over the first columns of their scores, times what a score adds to the loss."""
    n_members, n_hidden, n_columns = units_KHC.shape
    scores_C = np.empty(n_columns, np.float32)
    for k in range(n_members):
        scores_C[:] = bias_K1[k, 0]
        for h in range(n_hidden):
            unit_C, weight = units_KHC[k, h], weight_KH[k, h]
            for c in range(n_columns):
                scores_C[c] += weight * unit_C[c]
        total = 0.0
        for c in range(n_judged):
            total += d_scores_C[c] * scores_C[c]
        losses_K[k] = total


@compiled
def score_backward(
    weight_KH: Any, d_scores_C: Any, local_KHC: Any, n_judged: Any, d_sums_KHC: Any, d_bias_KH: Any
) -> None:
    """`activate_backward` of the last layer, whose units the score is made of."""
    n_members, n_hidden, n_columns = local_KHC.shape
    row_C = np.empty(n_columns, np.float32)
    for k in range(n_members):
        for h in range(n_hidden):
            weight, local_C, d_sum_C = weight_KH[k, h], local_KHC[k, h], d_sums_KHC[k, h]
            for c in range(n_columns):
                row_C[c] = weight * d_scores_C[c] * local_C[c]
                d_sum_C[c] = stored(row_C[c], d_sums_KHC)
            if n_judged:
                d_bias_KH[k, h] = folded_sum(row_C[:n_judged])


@compiled
def activate_backward(
    d_units_KHC: Any, local_KHC: Any, n_judged: Any, d_sums_KHC: Any, d_bias_KH: Any
) -> None:
    """The gradient at the sums, and at the bias, where columns are judged."""
    n_members, n_hidden, n_columns = local_KHC.shape
    row_C = np.empty(n_columns, np.float32)
    for k in range(n_members):
        for h in range(n_hidden):
            d_unit_C, local_C, d_sum_C = d_units_KHC[k, h], local_KHC[k, h], d_sums_KHC[k, h]
            for c in range(n_columns):
                row_C[c] = number_of(d_unit_C[c]) * local_C[c]
                d_sum_C[c] = stored(row_C[c], d_sums_KHC)
            if n_judged:
                d_bias_KH[k, h] = folded_sum(row_C[:n_judged])


@compiled
def pull(slopes_KXG: Any, penalty: Any, x_KX3G: Any, penalties_K: Any) -> None:
    """The penalty of slopes, and its gradient at them in the last third of each row of ``x``."""
    n_members, n_inputs, n_pacs = slopes_KXG.shape
    for k in range(n_members):
        squares_G, part_G = np.zeros(n_pacs, np.float32), np.zeros(n_pacs, np.float32)
        for i in range(n_inputs):
            slope_G = slopes_KXG[k, i]
            for g in range(n_pacs):
                part_G[g] += number_of(slope_G[g]) * number_of(slope_G[g])
            # Sums of sums lose fewer of the last bits.
            if i % 64 == 63 or i == n_inputs - 1:
                for g in range(n_pacs):
                    squares_G[g] += part_G[g]
                part_G[:] = ZERO
        total: Any = 0.0
        for g in range(n_pacs):
            norm = np.sqrt(squares_G[g])
            norm = _LEAST_NORM if norm < _LEAST_NORM else norm
            total += (norm - ONE) * (norm - ONE)
            squares_G[g] = (ONE - ONE / norm) * (TWO * penalty / FLOAT(n_pacs))
        penalties_K[k] = penalty * total / n_pacs
        for i in range(n_inputs):
            slope_G, x_G = slopes_KXG[k, i], x_KX3G[k, i, 2 * n_pacs :]
            for g in range(n_pacs):
                x_G[g] = stored(number_of(slope_G[g]) * squares_G[g], x_KX3G)


@compiled
def replace_between(pulled_KHG: Any, local_KHC: Any, units_KHC: Any) -> None:
    """Units of points between become what a layer makes of the pulled slope."""
    n_members, n_hidden, n_pacs = pulled_KHG.shape
    for k in range(n_members):
        for h in range(n_hidden):
            pulled_G = pulled_KHG[k, h]
            local_G, unit_G = local_KHC[k, h, 2 * n_pacs :], units_KHC[k, h, 2 * n_pacs :]
            for g in range(n_pacs):
                unit_G[g] = stored(number_of(pulled_G[g]) * local_G[g], units_KHC)


@compiled
def score_gradient(units_KHC: Any, d_scores_C: Any, d_weight_KH: Any) -> None:
    """The gradient of what makes scores of the last units."""
    n_members, n_hidden, n_columns = units_KHC.shape
    row_C = np.empty(n_columns, np.float32)
    for k in range(n_members):
        for h in range(n_hidden):
            unit_C = units_KHC[k, h]
            for c in range(n_columns):
                row_C[c] = unit_C[c] * d_scores_C[c]
            d_weight_KH[k, h] = folded_sum(row_C)
