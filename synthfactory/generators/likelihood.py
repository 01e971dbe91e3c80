"""The probability that a fitted model gives to a row, in the unit in which rows are written.

Models of the same table must be comparable, although each has modes of its own, and a value may be
a point of one and lie on the slope of another.  So every number stands for the cell of values that
are written alike: from half a last digit below it to half a last digit above, open where the column
ends.  A cell has a probability under each model, whatever its modes; a row's is at most 1.

Legend: B rows, V modes of a column, G Gaussians among them, K samples of the latent point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthfactory.generators.modes import ColumnModes
from synthfactory.tables import Column

Floats = npt.NDArray[np.float64]

DAY_S = 86_400.0
CELLS = 10_000
LOWEST = -1e6


def resolution(column: Column) -> float:
    """How wide a cell is: the last digit, or a 10,000th of the range where there is none."""
    if column.dtype.startswith("date32") or column.dtype.startswith("date64"):
        return DAY_S
    if column.decimals is not None:
        return float(10.0**-column.decimals)
    low, high = column.minimum, column.maximum
    span = float(high) - float(low) if low is not None and high is not None else 0.0
    return span / CELLS if span > 0 else 1.0 / CELLS


def cells(values: Floats, column: Column) -> tuple[Floats, Floats]:
    """**Shape** (B,) each: where each value's cell begins and ends; NaN where missing."""
    half = resolution(column) / 2
    begin, end = values - half, values + half
    if column.minimum is not None:
        begin = np.where(values <= float(column.minimum), -np.inf, begin)
    if column.maximum is not None:
        end = np.where(values >= float(column.maximum), np.inf, end)
    return np.where(np.isnan(values), np.nan, begin), np.where(np.isnan(values), np.nan, end)


class CellLikelihood:
    """Probabilities of one column's values, for any weights of its modes and place of the scalar.

    Parameters
    ----------
    modes
        The column's modes.
    values
        **Shape** (B,), NaN where missing.
    column
        The column, for what is written alike.
    """

    def __init__(self, modes: ColumnModes, values: Floats, column: Column) -> None:
        begin, end = cells(values, column)
        centres, reaches = modes.places
        n_gaussians, n_spikes = len(modes.means), len(modes.spikes)
        self._n_gaussians = n_gaussians
        with np.errstate(invalid="ignore"):
            ends = [
                torch.from_numpy((bound[None] - centres[:n_gaussians, None])
                                 / reaches[:n_gaussians, None])
                for bound in (begin, end)
            ]  # fmt: skip
            spikes = modes.spikes[:, None]
            hit = (spikes >= begin) & (spikes < end)
        self._begin_GB, self._end_GB = ends
        point = np.zeros((n_spikes + modes.nullable, len(values)), dtype=bool)
        point[:n_spikes] = hit
        if modes.nullable:
            point[-1] = np.isnan(values)
        self._points = torch.where(torch.from_numpy(point), 0.0, LOWEST).double()

    def log(self, log_shares_V: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
        """**Shape** (\\*, B): the logarithm of the cells' probabilities.

        Parameters
        ----------
        log_shares_V
            **Shape** (V, \\*, B) or (V, 1): logarithms of the modes' shares.
        mean
            **Shape** (\\*, B) or a number: centre of the scalar, which is normal and clipped to
            -1 and 1.
        sigma
            Its deviation.
        """
        n_more = log_shares_V.dim() - 2
        begin, end = (_spread(part, n_more) for part in (self._begin_GB, self._end_GB))
        within = log_clipped_normal(begin, end, mean, sigma)
        points = _spread(self._points, n_more).expand(-1, *within.shape[1:])
        parts = torch.cat([within, points])
        return torch.logsumexp(log_shares_V.double() + parts, dim=0).clamp_min(LOWEST)


def _spread(part: Tensor, n_more: int) -> Tensor:
    """(V, B) to (V, 1, ..., B)."""
    return part.view(len(part), *([1] * n_more), part.shape[-1])


def log_clipped_normal(begin: Tensor, end: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """``log P(begin <= s < end)`` of a normal ``s`` that is clipped to -1 and 1; `LOWEST` for none.

    In logarithms, on the side where the normal's tail is small, so that no digit is lost far out.
    """
    low = torch.where(begin <= -1.0, -torch.inf, (begin - mean) / sigma)
    high = torch.where(end > 1.0, torch.inf, (end - mean) / sigma)
    # A cell that lies outside the clipped range has no probability; NaN is a missing value.
    outside = (end < -1.0) | (begin > 1.0) | begin.isnan()
    upper = low + high > 0
    a, b = torch.where(upper, -high, low), torch.where(upper, -low, high)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    found = log_b + torch.log1p(-torch.exp(log_a - log_b))
    none = outside | found.isnan()
    return torch.where(none, LOWEST, found).clamp_min(LOWEST)
