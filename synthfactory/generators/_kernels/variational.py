"""TVAE's loops.

Shapes: K members, B batch rows, M numeric columns, S spans, W width of the logits, J of the
features, Z latent width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.compiling import compiled
from synthfactory.generators._kernels.arithmetic import (
    HALF,
    ONE,
    TWO,
    ZERO,
    exponential,
    logarithm,
    share_of,
    sum_of,
)


@compiled
def write_rows(places_KSB: Any, scalars_KMB: Any, out_KJB: Any) -> None:
    """One-hot features of codes, given their places in ``out_KJB`` counted through, and scalars."""
    out_KJB[:] = ZERO
    flat = out_KJB.reshape(-1)
    for place in places_KSB:
        flat[place] = ONE
    out_KJB[:, : scalars_KMB.shape[1]] = scalars_KMB


@compiled
def draw(
    encoded_K2ZB: Any, noise_KZB: Any, points_KZB: Any, moved_KZB: Any, low: Any, high: Any,
    totals_K: Any,
) -> None:  # fmt: skip
    """Points of normal distributions; their deviations replace the logarithms of variances.

    ``totals_K`` is the sum of mean^2 + variance - log variance, ``moved_KZB`` how far each point
    is from its mean.
    """
    n_members, n_latent, n_rows = points_KZB.shape
    for k in range(n_members):
        sums_B = np.zeros(n_rows, np.float32)
        for z in range(n_latent):
            mean_B, spread_B = encoded_K2ZB[k, z], encoded_K2ZB[k, n_latent + z]
            noise_B, points_B, moved_B = noise_KZB[k, z], points_KZB[k, z], moved_KZB[k, z]
            for b in range(n_rows):
                log = spread_B[b]
                log = low if log < low else log
                log = high if log > high else log
                deviation = exponential(HALF * log)
                moved = noise_B[b] * deviation
                spread_B[b] = deviation
                moved_B[b] = moved
                points_B[b] = mean_B[b] + moved
                sums_B[b] += (mean_B[b] * mean_B[b] + deviation * deviation) - log
        totals_K[k] = sum_of(sums_B)


@compiled
def draw_backward(
    encoded_K2ZB: Any, moved_KZB: Any, d_points_KZB: Any, low: Any, high: Any, share: Any,
    d_encoded_K2ZB: Any,
) -> None:  # fmt: skip
    """The gradient at what `draw` was given; ``share`` is 1 / B."""
    n_members, n_latent, n_rows = d_points_KZB.shape
    least, most = exponential(HALF * low), exponential(HALF * high)
    half = HALF * share
    for k in range(n_members):
        for z in range(n_latent):
            mean_B, deviation_B = encoded_K2ZB[k, z], encoded_K2ZB[k, n_latent + z]
            moved_B, d_points_B = moved_KZB[k, z], d_points_KZB[k, z]
            d_mean_B, d_log_B = d_encoded_K2ZB[k, z], d_encoded_K2ZB[k, n_latent + z]
            for b in range(n_rows):
                deviation = deviation_B[b]
                d_log = half * (deviation * deviation - ONE) + HALF * d_points_B[b] * moved_B[b]
                d_mean_B[b] = d_points_B[b] + share * mean_B[b]
                clamped = (deviation <= least) | (deviation >= most)
                d_log_B[b] = ZERO if clamped else d_log


@compiled
def learn_codes(
    logits_KWB: Any, places_KSB: Any, starts_S: Any, sizes_S: Any, scale: Any, d_logits_KWB: Any,
    losses_K: Any,
) -> None:  # fmt: skip
    """Negative log-likelihood of codes, sum over the batch, and its gradient times ``scale``.

    ``places_KSB`` are where the codes stand among the logits, counted through.
    """
    n_members, _, n_rows = logits_KWB.shape
    logits, d_logits = logits_KWB.reshape(-1), d_logits_KWB.reshape(-1)
    n_spans = len(starts_S)
    highest_B, sums_B = np.empty(n_rows, np.float32), np.empty(n_rows, np.float32)
    for k in range(n_members):
        losses_B = np.zeros(n_rows, np.float32)
        for span in range(n_spans):
            first, last = starts_S[span], starts_S[span] + sizes_S[span]
            highest_B[:] = logits_KWB[k, first]
            for w in range(first + 1, last):
                row_B = logits_KWB[k, w]
                for b in range(n_rows):
                    highest_B[b] = row_B[b] if row_B[b] > highest_B[b] else highest_B[b]
            sums_B[:] = ZERO
            for w in range(first, last):
                row_B, share_B = logits_KWB[k, w], d_logits_KWB[k, w]
                for b in range(n_rows):
                    share = share_of(row_B[b] - highest_B[b])
                    share_B[b] = share
                    sums_B[b] += share
            start = (k * n_spans + span) * n_rows
            places_B = places_KSB[start : start + n_rows]
            for b in range(n_rows):
                losses_B[b] -= logits[places_B[b]] - highest_B[b]
            for b in range(n_rows):
                losses_B[b] += logarithm(sums_B[b])
                sums_B[b] = scale / sums_B[b]
            for w in range(first, last):
                share_B = d_logits_KWB[k, w]
                for b in range(n_rows):
                    share_B[b] *= sums_B[b]
            for b in range(n_rows):
                d_logits[places_B[b]] -= scale
        losses_K[k] = sum_of(losses_B)


@compiled
def learn_scalars(
    logits_KWB: Any, scalars_KMB: Any, present_KMB: Any, counts_KM: Any, sigma_KM: Any, scale: Any,
    d_logits_KWB: Any, d_sigma_KM: Any, losses_K: Any,
) -> None:  # fmt: skip
    """Add the scalars' part to ``losses_K``, and write its gradients, times ``scale``.

    Where there is a scalar its loss is 0.5 (error / sigma)^2 + log sigma.
    """
    n_members, n_numeric, n_rows = scalars_KMB.shape
    squares_B = np.empty(n_rows, np.float32)
    for k in range(n_members):
        for m in range(n_numeric):
            inverse = ONE / sigma_KM[k, m]
            row_B, d_row_B = logits_KWB[k, m], d_logits_KWB[k, m]
            scalars_B, present_B = scalars_KMB[k, m], present_KMB[k, m]
            for b in range(n_rows):
                power = exponential(TWO * row_B[b])
                mean = (power - ONE) / (power + ONE)
                error = (scalars_B[b] - mean) * present_B[b] * inverse
                squares_B[b] = error * error
                d_row_B[b] = -scale * inverse * error * (ONE - mean * mean)
            squares, count = sum_of(squares_B), counts_KM[k, m]
            d_sigma_KM[k, m] = (count - squares) * inverse * scale
            losses_K[k] += 0.5 * squares + count * logarithm(sigma_KM[k, m])
