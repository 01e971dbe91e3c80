"""Calibration: the last, cheap correction of a fitted network's marginals.

A network that was stopped after any number of steps gives a level a little too often and another
too rarely.  Two corrections bring the marginals back and leave the dependence between columns as it
is; both are deviations from the paper, and both are folded into parameters that exist anyway:

- a shift of each logit's bias, so that the *mean* probability of each level and mode over generated
  rows equals its share of the training rows (iterative proportional fitting of one-way margins:
  Deming and Stephan 1940, https://doi.org/10.1214/aoms/1177731829);
- an affine map per Gaussian mode, so that mean and spread of its scalar equal those of the rows.

On a GPU the spans are calibrated side by side, short ones filled up: there the time goes into
launching operations, of which thirty rounds for one span after the other are thousands.

Legend: N rows, M numeric columns, S spans, L codes of a span, W logits of all spans.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthfactory.generators.layout import Layout
from synthfactory.generators.modes import SPREAD, ColumnModes, Floats
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.sampling import NeuralModel, Wanted

AnyModel = TypeVar("AnyModel", bound=NeuralModel)
Codes = npt.NDArray[np.int16]

ITERATIONS = 30
MAX_SHIFT = 5.0
CALIBRATION_ROWS = 16_384
MIN_CALIBRATION_ROWS = 1_024
MAX_NUMBERS = 2**25
MIN_ROWS = 50
STRETCH = (0.5, 2.0)


def calibrate(model: AnyModel, rows: Rows, stream: torch.Generator) -> AnyModel:
    """The model, with the marginals of its training rows.

    Parameters
    ----------
    model
        What was learnt.
    rows
        What it was learnt from.
    stream
        Chance of the generated rows.
    """
    layout, bias_W = model.layout, model.weights["head.bias"]
    n_rows = max(MIN_CALIBRATION_ROWS, min(CALIBRATION_ROWS, MAX_NUMBERS // layout.width))
    inputs = model.inputs(n_rows, stream, Wanted())
    # Without the bias, so that one pass of the network serves both biases.
    plain = model.replace({**model.weights, "head.bias": torch.zeros_like(bias_W)})
    logits_WN = plain.logits(inputs)
    shares_W = span_shares(layout, rows)
    shifted_W = bias_W.clone()
    for bundle in _bundles(layout, logits_WN):
        shifted_W.index_add_(0, *_shifts(layout, bundle, logits_WN, bias_W, shares_W))
    generated = model.rows(logits_WN.add_(shifted_W.unsqueeze(1)), stream)
    modes = stretch_modes(model.representation, rows, generated)
    return model.replace({**model.weights, "head.bias": shifted_W}, modes)


def _bundles(layout: Layout, logits_WN: Tensor) -> list[list[int]]:
    """Spans whose shifts are found together: on a GPU as many as fit, the largest first."""
    if logits_WN.device.type == "cpu":
        return [[span] for span in range(len(layout.sizes))]
    bundles: list[list[int]] = []
    for span in sorted(range(len(layout.sizes)), key=lambda span: -layout.sizes[span]):
        fits = bundles and (
            layout.sizes[bundles[-1][0]] * (len(bundles[-1]) + 1) * logits_WN.shape[1]
            <= MAX_NUMBERS
        )
        if fits:
            bundles[-1].append(span)
        else:
            bundles.append([span])
    return bundles


def _shifts(
    layout: Layout, spans: Sequence[int], logits_WN: Tensor, bias_W: Tensor, shares_W: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows of the logits, and what to add to their biases; spare places add 0 to their span."""
    longest = max(layout.sizes[span] for span in spans)
    starts = np.array([[layout.starts[span]] for span in spans])
    sizes = np.array([[layout.sizes[span]] for span in spans])
    codes = np.arange(longest)
    rows = torch.from_numpy(starts + np.where(codes < sizes, codes, 0)).to(bias_W.device)
    picked, shape = rows.view(-1), rows.shape
    logits_SLN = logits_WN.index_select(0, picked).add_(bias_W[picked].unsqueeze(1))
    logits_SLN = logits_SLN.view(*shape, -1)
    shares_SL = shares_W[picked].view(shape)
    if len(spans) > 1:
        spare = torch.from_numpy(codes >= sizes).to(bias_W.device)
        logits_SLN.masked_fill_(spare.unsqueeze(2), -torch.inf)
        shares_SL.masked_fill_(spare, 0.0)
    return picked, logit_shift(logits_SLN, shares_SL).view(-1)


@torch.no_grad()
def logit_shift(logits_LN: Tensor, share_L: Tensor) -> Tensor:
    """What to add to a span's logits so that its mean softmax is its share.

    Parameters
    ----------
    logits_LN
        Logits of the span's L codes for N generated rows; several spans are dimensions before
        these two.  A code that a span has not is minus infinity and has no share.
    share_L
        The wanted share of each code.

    Returns
    -------
    Tensor
        **Shape** (L,), each at most `MAX_SHIFT` in size: a level that the network never gives is
        not forced.
    """
    smallest = 1.0 / (10.0 * logits_LN.shape[-1])
    wanted_L = share_L.clamp(min=smallest).log()
    shift_L = torch.zeros_like(wanted_L)
    for _ in range(ITERATIONS):
        given_L = torch.softmax(logits_LN + shift_L.unsqueeze(-1), dim=-2).mean(dim=-1)
        given_L = given_L.clamp(min=smallest).log()
        shift_L = (shift_L + wanted_L - given_L).clamp(-MAX_SHIFT, MAX_SHIFT)
    return shift_L


def span_shares(layout: Layout, rows: Rows) -> Tensor:
    """**Shape** (W,): how often each code of each span occurs in ``rows``, where its logit is."""
    device = rows.codes_BS.device
    counts = torch.zeros(layout.width, dtype=torch.int64, device=device)
    starts_S = torch.tensor(layout.starts, device=device)
    one = torch.ones((), dtype=torch.int64, device=device)
    for codes in rows.codes_BS.split(max(1, MAX_NUMBERS // max(1, len(layout.sizes)))):
        places = (codes + starts_S).view(-1)
        counts.scatter_add_(0, places, one.expand(len(places)))
    return counts.float() / max(1, len(rows))


def stretch_modes(representation: Representation, real: Rows, generated: Rows) -> Representation:
    """The representation whose modes decode generated scalars to the real ones' mean and spread."""
    pairs = zip(representation.modes, _by_column(real), _by_column(generated), strict=True)
    modes = tuple(_stretch_column(column, ours, theirs) for column, ours, theirs in pairs)
    return dataclasses.replace(representation, modes=modes)


def _by_column(rows: Rows) -> list[tuple[Floats, Codes]]:
    """Scalars and modes of each numeric column."""
    scalars_BM = rows.scalars_BM.cpu().double().numpy()
    n_numeric = scalars_BM.shape[1]
    modes_BM = rows.codes_BS[:, :n_numeric].to(torch.int16).cpu().numpy()
    return [(scalars_BM[:, place], modes_BM[:, place]) for place in range(n_numeric)]


def _by_mode(scalars: Floats, modes: Codes, n_modes: int) -> list[Floats]:
    """The scalars of each mode, in the rows' order."""
    order = np.argsort(modes, kind="stable")
    ends = np.cumsum(np.bincount(modes, minlength=n_modes))
    return np.split(scalars[order], ends[:-1])


def _stretch_column(
    column: ColumnModes, real: tuple[Floats, Codes], generated: tuple[Floats, Codes]
) -> ColumnModes:
    means, stds = column.means.copy(), column.stds.copy()
    ours, theirs = (_by_mode(*part, column.n_modes) for part in (real, generated))
    for mode in range(len(means)):
        wanted, given = ours[mode], theirs[mode]
        if min(len(wanted), len(given)) < MIN_ROWS or given.std() == 0.0:
            continue
        factor = float(np.clip(wanted.std() / given.std(), *STRETCH))
        # centre + scalar * reach, where the scalar is wanted.mean + (given - given.mean) * factor.
        means[mode] += SPREAD * stds[mode] * (wanted.mean() - factor * given.mean())
        stds[mode] *= factor
    return dataclasses.replace(column, means=means, stds=stds)
