"""Calibration: the last, cheap correction of a fitted network's marginals.

A network that was stopped after any number of steps gives a level a little too often and another
too rarely.  Two corrections bring the marginals back and leave the dependence between columns as it
is; both are deviations from the paper, and both are folded into parameters that exist anyway:

- a shift of each logit's bias, so that the *mean* probability of each level and mode over generated
  rows equals its share of the training rows (iterative proportional fitting of one-way margins:
  Deming and Stephan 1940, https://doi.org/10.1214/aoms/1177731829);
- an affine map per Gaussian mode, so that mean and spread of its scalar equal those of the rows.

Legend: N rows, M numeric columns, S spans, K codes of a span, W logits of all spans.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.modes import SPREAD, ColumnModes
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.sampling import NeuralModel, Wanted

ITERATIONS = 30
MAX_SHIFT = 5.0
CALIBRATION_ROWS = 16_384
MIN_CALIBRATION_ROWS = 1_024
MAX_NUMBERS = 2**25
MIN_ROWS = 50
STRETCH = (0.5, 2.0)


def calibrate(
    model: NeuralModel, representation: Representation, rows: Rows, stream: torch.Generator
) -> tuple[dict[str, Tensor], Representation]:
    """Weights and representation of a model whose marginals are those of its training rows.

    Parameters
    ----------
    model
        What was learnt.
    representation, rows
        What it was learnt from.
    stream
        Chance of the generated rows.
    """
    layout = model.layout
    n_rows = max(MIN_CALIBRATION_ROWS, min(CALIBRATION_ROWS, MAX_NUMBERS // layout.width))
    inputs = model.inputs(n_rows, stream, Wanted())
    logits_WN = model.logits(inputs)
    weights = dict(model.weights)
    bias = weights["head.bias"].clone()
    for place, share_K in enumerate(span_shares(representation, rows)):
        mine = slice(layout.starts[place], layout.starts[place] + layout.sizes[place])
        bias[mine] += logit_shift(logits_WN[mine], share_K)
    weights["head.bias"] = bias
    shifted = type(model)(model.spec, representation, weights)
    generated = shifted.draw(inputs, stream)
    return weights, stretch_modes(representation, rows, generated)


@torch.no_grad()
def logit_shift(logits_KN: Tensor, share_K: Tensor) -> Tensor:
    """What to add to a span's logits so that its mean softmax is its share.

    Parameters
    ----------
    logits_KN
        Logits of the span's K codes for N generated rows.
    share_K
        The wanted share of each code.

    Returns
    -------
    Tensor
        **Shape** (K,), each at most `MAX_SHIFT` in size: a level that the network never gives is
        not forced.
    """
    smallest = 1.0 / (10.0 * logits_KN.shape[1])
    wanted_K = share_K.clamp(min=smallest).log()
    shift_K = torch.zeros_like(wanted_K)
    for _ in range(ITERATIONS):
        given_K = torch.softmax(logits_KN + shift_K.unsqueeze(1), dim=0).mean(dim=1)
        given_K = given_K.clamp(min=smallest).log()
        shift_K = (shift_K + wanted_K - given_K).clamp(-MAX_SHIFT, MAX_SHIFT)
    return shift_K


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
