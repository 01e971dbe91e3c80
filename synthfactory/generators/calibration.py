"""Calibration: the last, cheap correction of a fitted network's marginals.

A network that was stopped after any number of steps gives a level a little too often and another
too rarely.  Two corrections bring the marginals back and leave the dependence between columns as it
is; both are deviations from the paper, and both are folded into parameters that exist anyway:

- a shift of each logit's bias, so that the *mean* probability of each level and mode over generated
  rows equals its share of the training rows (iterative proportional fitting of one-way margins:
  Deming and Stephan 1940, https://doi.org/10.1214/aoms/1177731829);
- an affine map per Gaussian mode, so that mean and spread of its scalar equal those of the rows.

Legend: N rows, M numeric columns, S spans, V logits of all spans.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from synthfactory.generators.modes import SPREAD, ColumnModes
from synthfactory.generators.representation import Representation, Rows

ITERATIONS = 30
MAX_SHIFT = 5.0
MIN_ROWS = 50
STRETCH = (0.5, 2.0)


@torch.no_grad()
def logit_shift(logits_NV: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """What to add to the logits so that each span's mean softmax is its share.

    Parameters
    ----------
    logits_NV
        Logits of generated rows, the spans one after another.
    shares
        For each span the wanted share of each of its levels.

    Returns
    -------
    Tensor
        **Shape** (V,), each at most `MAX_SHIFT` in size: a level that the network never gives is
        not forced.
    """
    parts = logits_NV.split([len(share) for share in shares], dim=1)
    return torch.cat([_span_shift(part, share) for part, share in zip(parts, shares, strict=True)])


def _span_shift(logits_NK: Tensor, share_K: Tensor) -> Tensor:
    smallest = 1.0 / (10.0 * len(logits_NK))
    wanted_K = share_K.clamp(min=smallest).log()
    shift_K = torch.zeros_like(wanted_K)
    for _ in range(ITERATIONS):
        given_K = torch.softmax(logits_NK + shift_K, dim=1).mean(dim=0).clamp(min=smallest).log()
        shift_K = (shift_K + wanted_K - given_K).clamp(-MAX_SHIFT, MAX_SHIFT)
    return shift_K


@torch.no_grad()
def calibrate_output(out: nn.Linear, hidden_NH: Tensor, shares: Sequence[Tensor]) -> None:
    """Shift the logits of a network's last layer, in place.

    Parameters
    ----------
    out
        The last layer: scalars first, then the logits of all spans.
    hidden_NH
        What the layer receives for generated rows.
    shares
        For each span the wanted share of each of its levels.
    """
    first = out.out_features - sum(len(share) for share in shares)
    out.bias[first:] += logit_shift(out(hidden_NH)[:, first:], shares)


def span_shares(representation: Representation, rows: Rows) -> list[Tensor]:
    """For each span, how often each of its codes occurs in ``rows``."""
    shares = []
    for place, size in enumerate(representation.span_sizes):
        counts = torch.bincount(rows.codes_BS[:, place], minlength=size)
        shares.append(counts.float() / max(1, len(rows)))
    return shares


def stretch_modes(representation: Representation, real: Rows, generated: Rows) -> Representation:
    """The representation whose modes decode generated scalars to the real ones' mean and spread."""
    pairs = zip(representation.modes, _by_column(real), _by_column(generated), strict=False)
    modes = tuple(_stretch_column(column, ours, theirs) for column, ours, theirs in pairs)
    return dataclasses.replace(representation, modes=modes)


def _by_column(rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    scalars, codes = rows.scalars_BM.cpu().double().numpy(), rows.codes_BS.cpu().numpy()
    return [(scalars[:, place], codes[:, place]) for place in range(scalars.shape[1])]


def _stretch_column(
    column: ColumnModes,
    real: tuple[np.ndarray, np.ndarray],
    generated: tuple[np.ndarray, np.ndarray],
) -> ColumnModes:
    means, stds = column.means.copy(), column.stds.copy()
    for mode in range(len(means)):
        wanted, given = (scalars[codes == mode] for scalars, codes in (real, generated))
        if min(len(wanted), len(given)) < MIN_ROWS or given.std() == 0.0:
            continue
        factor = float(np.clip(wanted.std() / given.std(), *STRETCH))
        # centre + scalar * reach, where the scalar is wanted.mean + (given - given.mean) * factor.
        means[mode] += SPREAD * stds[mode] * (wanted.mean() - factor * given.mean())
        stds[mode] *= factor
    return dataclasses.replace(column, means=means, stds=stds)
