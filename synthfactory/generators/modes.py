"""Mode-specific normalisation of numeric columns (Xu et al. 2019, arXiv 1907.00503, section 4.2).

Each numeric column becomes a mode and a scalar.  A mode is one of

- a Gaussian of a mixture: the scalar is ``(x - mean) / (4 std)``, clipped to +-0.99;
- an exact value that holds a large share of the rows, such as zero capital gain: scalar 0;
- "missing": scalar 0.

Exact values and "missing" are our deviations from the paper: a spike is no Gaussian, and a missing
value is a state, not a number.  The mixture is fitted by expectation-maximisation on at most
``GRID`` quantile points per column, which makes its cost independent of the number of rows; it
needs no chance, because it starts from quantiles and from the range and keeps the likelier result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.tables import Column
from synthfactory.tables.encode import Mapper

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
# Weights, means and standard deviations.
Mixture = tuple[Floats, Floats, Floats]

MAX_MODES = 10
MIN_WEIGHT = 0.005
MIN_SPIKE_SHARE = 0.05
MIN_SPIKE_ROWS = 20
MAX_SPIKES = 8
GRID = 1_000
ITERATIONS = 100
CLIP = 0.99
SPREAD = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnModes:
    """The modes of one numeric column, in this order: Gaussians, spikes, missing.

    Parameters
    ----------
    weights, means, stds
        **Shape** (n_gaussians,).
    spikes
        **Shape** (n_spikes,): exact values that are modes of their own.
    nullable
        Whether the last mode is "missing".
    """

    weights: Floats
    means: Floats
    stds: Floats
    spikes: Floats
    nullable: bool

    @property
    def n_modes(self) -> int:
        """Number of modes of all three sorts."""
        return len(self.means) + len(self.spikes) + self.nullable

    def encode(self, values: Floats, chance: np.random.Generator | None) -> tuple[Floats, Codes]:
        """Scalars and modes of ``values``; a Gaussian is drawn by its responsibility.

        Parameters
        ----------
        values
            **Shape** (n_rows,), NaN where missing.
        chance
            What draws; None for the most responsible Gaussian.

        Returns
        -------
        scalars, modes
            **Shape** (n_rows,) each.
        """
        (only,) = self.encode_each(values, [chance])
        return only

    def encode_each(
        self, values: Floats, chances: Sequence[np.random.Generator | None], mapping: Mapper = map
    ) -> Iterator[tuple[Floats, Codes]]:
        """`encode` for each of these; what does not depend on chance is computed once.

        Parameters
        ----------
        mapping
            Maps a function over the chances, as `map` does; a pool's makes several at once.
        """
        modes = np.full(len(values), len(self.means) + len(self.spikes), dtype=np.int64)
        plain = ~np.isnan(values)
        for place, spike in enumerate(self.spikes):
            hit = values == spike
            modes[hit] = len(self.means) + place
            plain &= ~hit
        rows = np.flatnonzero(plain)
        x = values[rows]
        logs = _log_densities(x, self.weights, self.means, self.stds) if len(x) else np.empty(0)

        def encoded(chance: np.random.Generator | None) -> tuple[Floats, Codes]:
            scalars, own = np.zeros(len(values)), modes.copy()
            if len(x):
                own[rows] = picked = _pick_gaussian(logs, chance)
                scaled = (x - self.means[picked]) / (SPREAD * self.stds[picked])
                scalars[rows] = np.clip(scaled, -CLIP, CLIP)
            return scalars, own

        yield from mapping(encoded, chances)

    def decode(self, scalars: Floats, modes: Codes) -> Floats:
        """Values of scalars and modes, NaN for "missing"; the inverse of `encode`."""
        centres, reaches = self.places
        values: Floats = centres[modes] + scalars * reaches[modes]
        return values

    @property
    def places(self) -> tuple[Floats, Floats]:
        """**Shape** (n_modes,) each: a value is ``centres[mode] + scalar * reaches[mode]``."""
        centres = np.concatenate([self.means, self.spikes, [np.nan] * self.nullable])
        reaches = np.concatenate([SPREAD * self.stds, np.zeros(len(centres) - len(self.stds))])
        return centres, reaches

    def to_dict(self) -> dict[str, Any]:
        """JSON-able parameters."""
        return {
            "weights": self.weights.tolist(),
            "means": self.means.tolist(),
            "stds": self.stds.tolist(),
            "spikes": self.spikes.tolist(),
            "nullable": self.nullable,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ColumnModes:
        """The inverse of `to_dict`."""
        arrays = {
            name: np.asarray(values[name], dtype=np.float64)
            for name in ("weights", "means", "stds", "spikes")
        }
        return cls(**arrays, nullable=bool(values["nullable"]))


def _pick_gaussian(logs: Floats, chance: np.random.Generator | None) -> Codes:
    """**Shape** (n_rows,): a Gaussian for each row of log-densities."""
    if chance is None:
        likeliest: Codes = np.argmax(logs, axis=1)
        return likeliest
    # The largest of log-density plus Gumbel noise is a draw by responsibility.
    picked: Codes = np.argmax(logs + chance.gumbel(size=logs.shape), axis=1)
    return picked


def fit_modes(numbers: Floats, columns: tuple[Column, ...]) -> tuple[ColumnModes, ...]:
    """The modes of every numeric column.

    Parameters
    ----------
    numbers
        **Shape** (n_rows, n_numeric), NaN where missing.
    columns
        The numeric columns, for their resolution and whether they may be missing.
    """
    present = [values[~np.isnan(values)] for values in numbers.T]
    spikes = [_spikes(values) for values in present]
    rest = [values[~np.isin(values, own)] for values, own in zip(present, spikes, strict=True)]
    mixtures = _fit_mixtures(rest, [_finest(column) for column in columns])
    parts = zip(mixtures, spikes, columns, strict=True)
    return tuple(_modes_of(mixture, own, column) for mixture, own, column in parts)


def _modes_of(mixture: Mixture, spikes: Floats, column: Column) -> ColumnModes:
    weights, means, stds = mixture
    if len(means) + len(spikes) == 0 and not column.nullable:
        weights, means, stds = np.ones(1), np.zeros(1), np.ones(1)
    return ColumnModes(
        weights=weights, means=means, stds=stds, spikes=spikes, nullable=column.nullable
    )


def _finest(column: Column) -> float:
    """The smallest useful standard deviation: a quarter of the column's last digit."""
    return 0.25 * 10.0**-column.decimals if column.decimals is not None else 0.0


def _spikes(present: Floats) -> Floats:
    """Values that hold a large share of the rows, the most frequent first."""
    if len(present) == 0:
        return np.empty(0)
    values, counts = np.unique(present, return_counts=True)
    if len(values) == 1:
        return values
    often = (counts >= MIN_SPIKE_SHARE * len(present)) & (counts >= MIN_SPIKE_ROWS)
    order = np.argsort(-counts[often], kind="stable")[:MAX_SPIKES]
    picked: Floats = values[often][order]
    return picked


def _fit_mixtures(values: Sequence[Floats], finest: Sequence[float]) -> list[Mixture]:
    """For each column weights, means and standard deviations of at most ten Gaussians, light ones
    dropped.

    Columns of as many points and modes are fitted side by side: fewer, longer operations, which
    members of an ensemble can do in threads.
    """
    empty = np.empty(0)
    mixtures: list[Mixture] = [(empty, empty, empty) for _ in values]
    alike: dict[tuple[int, int], list[tuple[int, _Points]]] = {}
    for place, (x, smallest) in enumerate(zip(values, finest, strict=True)):
        if len(x):
            found = _points_of(x, smallest)
            alike.setdefault((len(found.scaled), found.n_modes), []).append((place, found))
    for group in alike.values():
        for (place, _), mixture in zip(group, _fit_alike([own for _, own in group]), strict=True):
            mixtures[place] = mixture
    return mixtures


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    """What a mixture is fitted to, on a scale of its own: squares of extreme values stay finite."""

    scaled: Floats
    centre: float
    scale: float
    floor: float
    n_modes: int


def _points_of(x: Floats, finest: float) -> _Points:
    points = np.quantile(x, (np.arange(GRID) + 0.5) / GRID) if len(x) > GRID else np.sort(x)
    centre, scale = _centre_and_scale(points)
    scaled = (points - centre) / scale
    return _Points(
        scaled=scaled,
        centre=centre,
        scale=scale,
        floor=max(finest / scale, 1e-6),
        n_modes=min(MAX_MODES, len(np.unique(scaled))),
    )


def _fit_alike(columns: Sequence[_Points]) -> Iterator[Mixture]:
    """The mixtures of columns with equally many points and modes."""
    starts, n_modes = (_by_quantiles, _by_range), columns[0].n_modes
    candidates = _em(
        np.stack([own.scaled for own in columns for _ in starts]),
        np.stack([start(own.scaled, n_modes) for own in columns for start in starts]),
        np.array([own.floor for own in columns for _ in starts]),
    )
    for place, own in enumerate(columns):
        both = candidates[len(starts) * place :][: len(starts)]
        likelihoods = [_log_likelihood(own.scaled, *found) for found in both]
        weights, means, stds = both[int(np.argmax(likelihoods))]
        kept = weights > MIN_WEIGHT
        weights = weights[kept] / weights[kept].sum()
        yield weights, own.centre + own.scale * means[kept], own.scale * stds[kept]


def _centre_and_scale(points: Floats) -> tuple[float, float]:
    """The median, and the width of the range (1 when it is none)."""
    width = float(points[-1] - points[0])
    return float(points[len(points) // 2]), width if width > 0.0 else 1.0


def _by_quantiles(points: Floats, n_modes: int) -> Floats:
    starts: Floats = np.quantile(points, (np.arange(n_modes) + 0.5) / n_modes)
    return starts


def _by_range(points: Floats, n_modes: int) -> Floats:
    low, high = float(points[0]), float(points[-1])
    starts: Floats = low + (high - low) * (np.arange(n_modes) + 0.5) / n_modes
    return starts


def _em(points_AP: Floats, means_AV: Floats, floors_A: Floats) -> list[Mixture]:
    """Expectation-maximisation of A mixtures of V modes, from these means, side by side.

    Each has P points of its own, and a least standard deviation.  Points are the last dimension: a
    row of them is what a processor's vectors are good at, the ten modes of a point are not.
    """
    n_starts, n_modes = means_AV.shape
    weights_AV = np.full(means_AV.shape, 1.0 / n_modes)
    widths = [float(np.std(points)) / n_modes for points in points_AP]
    stds_AV = np.repeat(np.maximum(widths, floors_A)[:, None], n_modes, axis=1)
    points_A1P, floors_A1 = points_AP[:, None], floors_A[:, None]
    away_AVP = points_A1P - means_AV[:, :, None]
    shares_AVP = np.empty_like(away_AVP)
    for _ in range(ITERATIONS):
        _write_shares(away_AVP, weights_AV, stds_AV, shares_AVP)
        shares_PAV = _points_first(shares_AVP)
        mass_AV = shares_PAV.sum(axis=0) + 1e-10
        weights_AV = mass_AV / mass_AV.sum(axis=1, keepdims=True)
        sums = [shares_PAV[:, start].T @ points_AP[start] for start in range(n_starts)]
        means_AV = np.stack(sums) / mass_AV
        np.subtract(points_A1P, means_AV[:, :, None], out=away_AVP)
        np.multiply(shares_AVP, np.square(away_AVP), out=shares_AVP)
        spread_AV = _points_first(shares_AVP).sum(axis=0) / mass_AV
        stds_AV = np.maximum(np.sqrt(spread_AV), floors_A1)
    return list(zip(weights_AV, means_AV, stds_AV, strict=True))


def _write_shares(away_AVP: Floats, weights_AV: Floats, stds_AV: Floats, out: Floats) -> None:
    """Responsibilities of the modes for points that are so far away from their means."""
    np.divide(away_AVP, stds_AV[:, :, None], out=out)
    np.square(out, out=out)
    out *= 0.5
    np.subtract((np.log(weights_AV) - np.log(stds_AV))[:, :, None], out, out=out)
    out -= out.max(axis=1, keepdims=True)
    np.exp(out, out=out)
    out /= _sum_of_modes(out)[:, None]


def _points_first(values_AVP: Floats) -> Floats:
    """**Shape** (P, A, V), in one piece: points are then added up one after the other."""
    n_starts, n_modes, n_points = values_AVP.shape
    flat = np.ascontiguousarray(values_AVP.reshape(n_starts * n_modes, n_points).T)
    return flat.reshape(n_points, n_starts, n_modes)


def _sum_of_modes(values_AVP: Floats) -> Floats:
    """**Shape** (A, P), added in the order in which numpy adds so few neighbours in memory.

    The order decides the last bits, and those of fitted modes are to stay what they are.
    """
    parts = list(values_AVP.swapaxes(0, 1))
    if len(parts) >= 8:
        pairs = [parts[place] + parts[place + 1] for place in range(0, 8, 2)]
        parts[:8] = [(pairs[0] + pairs[1]) + (pairs[2] + pairs[3])]
    total: Floats = sum(parts[1:], start=parts[0])
    return total


def _log_densities(x: Floats, weights: Floats, means: Floats, stds: Floats) -> Floats:
    """**Shape** (n_rows, n_modes): log of weight times density, up to a constant."""
    scaled = (x[:, None] - means) / stds
    logs: Floats = np.log(weights) - np.log(stds) - 0.5 * scaled**2
    return logs


def _log_likelihood(points: Floats, weights: Floats, means: Floats, stds: Floats) -> float:
    logs = _log_densities(points, weights, means, stds)
    return float(np.logaddexp.reduce(logs, axis=1).mean())
