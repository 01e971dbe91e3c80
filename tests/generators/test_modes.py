"""Mode-specific normalisation."""

from __future__ import annotations

import numpy as np

from synthfactory.generators.modes import ITERATIONS, ColumnModes, _em, fit_modes
from synthfactory.tables import Column


def _fit(values: np.ndarray, *, nullable: bool = False, decimals: int | None = None) -> ColumnModes:
    column = Column(
        name="x", kind="numerical", dtype="double", nullable=nullable, decimals=decimals
    )
    return fit_modes(values[:, None], (column,))[0]


def _there_and_back(modes: ColumnModes, values: np.ndarray) -> np.ndarray:
    return modes.decode(*modes.encode(values, np.random.default_rng(0)))


def test_two_gaussians_are_found() -> None:
    chance = np.random.default_rng(0)
    modes = _fit(np.concatenate([chance.normal(0, 1, 3_000), chance.normal(100, 2, 1_000)]))
    upper = modes.means > 50
    assert abs(modes.weights[upper].sum() - 0.25) < 0.02
    assert np.all((modes.means[upper] > 90) & (modes.means[upper] < 110))


def test_values_return_from_modes_and_scalars() -> None:
    values = np.random.default_rng(0).gamma(2.0, 10.0, 2_000)
    error = np.abs(_there_and_back(_fit(values), values) - values)
    assert np.quantile(error, 0.995) < 1e-9


def test_spikes_are_exact_modes() -> None:
    chance = np.random.default_rng(0)
    values = np.where(chance.random(2_000) < 0.9, 0.0, chance.normal(5_000, 900, 2_000))
    modes = _fit(values)
    assert modes.spikes.tolist() == [0.0]
    assert modes.means.min() > 1_000
    back = _there_and_back(modes, values)
    assert np.all(back[values == 0.0] == 0.0)


def test_missing_values_are_a_mode() -> None:
    values = np.random.default_rng(0).normal(size=500)
    values[::5] = np.nan
    modes = _fit(values, nullable=True)
    scalars, codes = modes.encode(values, np.random.default_rng(0))
    assert np.all(codes[::5] == modes.n_modes - 1)
    assert np.all(scalars[::5] == 0.0)
    assert np.array_equal(np.isnan(modes.decode(scalars, codes)), np.isnan(values))


def test_a_constant_and_an_empty_column_have_one_mode() -> None:
    assert _fit(np.full(100, 7.0)).spikes.tolist() == [7.0]
    assert _fit(np.full(100, np.nan), nullable=True).n_modes == 1


def test_extreme_values_stay_finite() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=500), [1e200, -1e200]])
    modes = _fit(values)
    assert np.all(np.isfinite(modes.means))
    assert np.all(np.isfinite(_there_and_back(modes, values)))


def test_scalars_stay_within_the_bounds() -> None:
    values = np.random.default_rng(0).standard_cauchy(5_000)
    scalars, _ = _fit(values).encode(values, np.random.default_rng(0))
    assert np.abs(scalars).max() <= 0.99


def test_fitting_needs_no_chance() -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    assert _fit(values).to_dict() == _fit(values).to_dict()


def test_modes_survive_json() -> None:
    modes = _fit(np.random.default_rng(0).normal(size=500), nullable=True)
    assert ColumnModes.from_dict(modes.to_dict()).to_dict() == modes.to_dict()


def test_mixtures_side_by_side_are_what_the_formulas_say() -> None:
    chance = np.random.default_rng(0)
    points = np.stack(
        [
            np.sort(np.append(chance.normal(0, 0.1, 300), chance.normal(k, 0.05, 200)))
            for k in (0, 1)
        ]
    )
    floors = np.array([1e-6, 0.02])
    for n_modes in (1, 3, 8, 10):
        starts = np.stack([np.linspace(-0.2, 0.8, n_modes), np.linspace(0.0, 0.7, n_modes)])
        for place, found in enumerate(_em(points, starts, floors)):
            expected = _plain_em(points[place], starts[place], floors[place])
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def _plain_em(
    points: np.ndarray, means: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bishop 2006, equations 9.23 to 9.26, in one dimension."""
    weights = np.full(len(means), 1 / len(means))
    stds = np.full(len(means), max(float(np.std(points)) / len(means), floor))
    for _ in range(ITERATIONS):
        densities = weights / stds * np.exp(-0.5 * ((points[:, None] - means) / stds) ** 2)
        shares = densities / densities.sum(axis=1, keepdims=True)
        mass = shares.sum(axis=0) + 1e-10
        weights, means = mass / mass.sum(), shares.T @ points / mass
        variances = (shares * (points[:, None] - means) ** 2).sum(axis=0) / mass
        stds = np.maximum(np.sqrt(variances), floor)
    return weights, means, stds
