"""Precision, recall, density, coverage: do synthetic rows lie where real rows lie, and everywhere?

Around every row stands a ball that just reaches its k-th nearest neighbour of the same table:

- precision: the share of synthetic rows in the ball of any real row;
- recall: the share of real rows in the ball of any synthetic row;
- density: how many real balls hold a synthetic row, divided by k; robust against a real outlier's
  large ball, and above 1 where rows crowd in the middle;
- coverage: the share of real balls that hold a synthetic row; low when modes are missing.

Naeem et al. 2020, arXiv 2002.09797, equations 3 to 6, with k = 5.  Distances are Gower's, so that
all types of columns count.  Balls are closed: with open ones, as in the authors' package, a
verbatim copy of a table of few possible rows, whose radii are 0, covers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.balls import Within, within
from synthfactory.evaluation.fidelity.samples import samples
from synthfactory.evaluation.intervals import Interval, normal, wilson
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, by_scale, nearest_k, scales
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

PRECISION, RECALL, DENSITY, COVERAGE = IDS = (
    "fidelity.precision",
    "fidelity.recall",
    "fidelity.density",
    "fidelity.coverage",
)
K = 5


class Neighbourhoods(NamedTuple):
    """Who is in whose ball.

    Parameters
    ----------
    synthetic
        Of every synthetic row: the real balls that hold it.
    real
        Of every real row: the synthetic balls that hold it.
    held
        Of every real row: the synthetic rows that its own ball holds.
    """

    synthetic: Within
    real: Within
    held: Within


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


class Prdc(NamedTuple):
    """The four values."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def radii(points: Points, k: int, *, threads: int) -> Floats32:
    """**Shape** (n_points,): distance to the k-th nearest of the other points."""
    distances, _ = nearest_k(points, points, k, threads=threads, exclude_self=True)
    return np.ascontiguousarray(distances[:, k - 1])


def neighbourhoods(
    real: Points, synthetic: Points, real_radii: Floats32, synthetic_radii: Floats32, threads: int
) -> Neighbourhoods:
    """Who is in whose ball; radii from `radii`."""
    return Neighbourhoods(
        within(synthetic, real, others_reach=real_radii, threads=threads),
        within(real, synthetic, others_reach=synthetic_radii, threads=threads),
        within(real, synthetic, reach=real_radii, threads=threads),
    )


def prdc(found: Neighbourhoods, k: int) -> Prdc:
    """The four values, with the errors of the delete-one jackknife over both samples.

    A row that is left out takes itself out of the mean, and those with it whom nobody else holds.
    Radii stay as they are; that they vary too makes the errors a little wide rather than narrow
    (a simulation in the tests).
    """
    held, real, mine = found.held, found.real, found.synthetic
    n_real, n_synthetic = len(real.counts), len(mine.counts)
    shares = held.counts * (n_real / n_synthetic)
    density = np.sqrt(np.var(mine.counts, ddof=1) / n_synthetic + np.var(shares, ddof=1) / n_real)
    return Prdc(
        _share_held(mine, n_real),
        _share_held(real, n_synthetic),
        Estimate(float(mine.counts.mean()) / k, float(density) / k),
        _share_held(held, n_synthetic),
    )


def _share_held(found: Within, n_holders: int) -> Estimate:
    """The share of rows with a holder; losing the only one loses the row."""
    is_held = found.counts > 0
    alone = np.bincount(found.places[found.counts == 1], minlength=n_holders) / len(is_held)
    own = np.var(is_held, ddof=1) / len(is_held)
    return Estimate(float(is_held.mean()), float(np.sqrt(own + lost_variance(alone))))


def lost_variance(lost: Floats) -> float:
    """The jackknife's variance when leaving out the j-th row loses ``lost[j]``.

    Efron and Stein 1981, https://doi.org/10.1214/aos/1176345462: too large rather than too small.
    """
    return float(((lost - lost.mean()) ** 2).sum() * (len(lost) - 1) / len(lost))


def share_interval(found: Estimate, n: int, confidence: float) -> Interval:
    """Of a share: never narrower than Wilson's, which does not collapse at 0 and 1."""
    wide, plain = normal(*found, confidence), wilson(found.value * n, n, confidence)
    low, high = max(min(wide.lcb, plain.lcb), 0.0), min(max(wide.ucb, plain.ucb), 1.0)
    return Interval(found.value, min(low, found.value), max(high, found.value))


def measure(evidence: Evidence) -> list[Measurement]:
    """All four; the control compares held-out rows, the baseline rows of independent columns."""
    drawn = samples(evidence)
    spread = scales(evidence.train)
    real = by_scale(drawn.real, spread)
    real_radii = radii(real, K, threads=evidence.threads)

    def compared(rows: Encoded) -> Prdc:
        points = by_scale(rows, spread)
        reach = radii(points, K, threads=evidence.threads)
        return prdc(neighbourhoods(real, points, real_radii, reach, evidence.threads), K)

    value, control, baseline = map(
        compared, (drawn.synthetic, drawn.holdout, drawn.independent)
    )

    def measurement(name: str, of: Callable[[Prdc], Estimate], unit: str, how: str) -> Measurement:
        found = of(value)
        bounds = (
            _positive(normal(*found, evidence.confidence))
            if name == DENSITY
            else share_interval(found, drawn.n_rows, evidence.confidence)
        )
        return Measurement(
            id=name,
            family="fidelity",
            estimate=bounds.estimate,
            lcb=bounds.lcb,
            ucb=bounds.ucb,
            n=drawn.n_rows,
            baseline=of(baseline).value,
            control=of(control).value,
            unit=unit,
            better="higher",
            confidence=evidence.confidence,
            method=f"{how} (Naeem et al. 2020), k = {K}, Gower distance, closed balls; errors by "
            "the delete-one jackknife over both samples",
            details={"k": K},
        )

    synthetic, own = "share of synthetic rows", "share of real rows"
    return [
        measurement(PRECISION, lambda p: p.precision, synthetic, "synthetic rows in a real ball"),
        measurement(RECALL, lambda p: p.recall, own, "real rows in a synthetic ball"),
        measurement(DENSITY, lambda p: p.density, "ratio", "real balls per synthetic row / k"),
        measurement(COVERAGE, lambda p: p.coverage, own, "real balls with a synthetic row"),
    ]


def _positive(found: Interval) -> Interval:
    return Interval(found.estimate, max(found.lcb, 0.0), found.ucb)


SUITE = Suite.of("fidelity.prdc", measure, ids=IDS, weight=4)
