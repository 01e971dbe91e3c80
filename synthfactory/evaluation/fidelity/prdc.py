"""Precision, recall, density, coverage: do synthetic rows lie where real rows lie, and everywhere?

Around every row stands a ball that just reaches its k-th nearest neighbour of the same table:

- precision: the share of synthetic rows in the ball of any real row;
- recall: the share of real rows in the ball of any synthetic row;
- density: how many real balls hold a synthetic row, each divided by how many other real rows it
  holds; robust against a real outlier's large ball, and above 1 where rows crowd in the middle;
- coverage: the share of real balls that hold a synthetic row; low when modes are missing.

Naeem et al. 2020, arXiv 2002.09797, equations 3 to 6, with k = 5.  Distances are Gower's, so that
all types of columns count.  Balls are closed: with open ones, as in the authors' package, a
verbatim copy of a table of few possible rows, whose radii are 0, covers nothing.  A ball holds k
other real rows, or more where several are equally far; density, which the paper divides by k, is
then still 1 for a faithful table.

Where an entity is declared, persons are left out instead of rows when errors are estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.balls import Within, within
from synthfactory.evaluation.fidelity.samples import ALONE, Codes, Groups, groups, samples
from synthfactory.evaluation.intervals import (
    Interval,
    effective_size,
    mean_variance,
    normal,
    wilson,
)
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, by_scale, centres, nearest_k, scales
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

PRECISION, RECALL, DENSITY, COVERAGE = IDS = (
    "fidelity.precision",
    "fidelity.recall",
    "fidelity.density",
    "fidelity.coverage",
)
K = 5
# Weights of persons, whose sums are exact and tell many holders of one person from several persons.
MANY_WEIGHTS = 2**30


class Holders(NamedTuple):
    """Who holds each row.

    Parameters
    ----------
    counts
        **Shape** (n_rows,): how many.
    lone
        **Shape** (n_rows,): the number of the person who holds it alone; -1 where there are none,
        or several.
    """

    counts: Integers
    lone: Integers


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
    n_own
        **Shape** (n_real,): how many other real rows its own ball holds; k without ties.
    density
        **Shape** (n_synthetic,): real balls that hold each synthetic row, by what they hold.
    """

    synthetic: Holders
    real: Holders
    held: Holders
    n_own: Floats
    density: Floats


class Estimate(NamedTuple):
    """A value and its standard error; of a share, the rows that would scatter as much alone."""

    value: float
    error: float
    n: float = math.nan


class Prdc(NamedTuple):
    """The four values."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def as_points(evidence: Evidence) -> Callable[[Encoded], Points]:
    """Makes points of rows, by the middle and the spread of the real numbers."""
    spread, middle = scales(evidence.train), centres(evidence.train)
    return lambda rows: by_scale(rows, spread, middle)


class Balls(NamedTuple):
    """Rows with the radius of each one's ball."""

    points: Points
    radii: Floats32


def balls(points: Points, k: int, *, threads: int) -> Balls:
    """Balls that reach the k-th nearest of the other points."""
    distances, _ = nearest_k(points, points, k, threads=threads, exclude_self=True)
    return Balls(points, np.ascontiguousarray(distances[:, k - 1]))


def neighbourhoods(
    real: Balls, synthetic: Balls, whose: Groups = ALONE, *, threads: int
) -> Neighbourhoods:
    """Who is in whose ball; of ``whose``, real and synthetic count."""
    own = within(real.points, real.points, reach=real.radii, threads=threads)
    n_own = (own.counts - 1).astype(np.float64)
    ours = within(
        synthetic.points, real.points, others_reach=real.radii, weights=1 / n_own, threads=threads
    )

    def held(rows: Points, others: Points, persons: Codes | None, **reach: Floats32) -> Holders:
        weights = None if persons is None else _weights(persons)
        return holders(within(rows, others, weights=weights, threads=threads, **reach), persons)

    return Neighbourhoods(
        synthetic=holders(ours, None)
        if whose.real is None
        else held(synthetic.points, real.points, whose.real, others_reach=real.radii),
        real=held(real.points, synthetic.points, whose.synthetic, others_reach=synthetic.radii),
        held=held(real.points, synthetic.points, whose.synthetic, reach=real.radii),
        n_own=n_own,
        density=ours.sums,
    )


def _weights(persons: Codes) -> Floats:
    """**Shape** (n_rows,): a whole number for each row's person."""
    chance = np.random.default_rng(0)
    return chance.integers(1, MANY_WEIGHTS, int(persons.max()) + 1)[persons].astype(np.float64)


def holders(found: Within, persons: Codes | None) -> Holders:
    """Who holds each row alone.

    Parameters
    ----------
    found
        With `_weights` of the persons.
    persons
        **Shape** (n_others,): whose each of the others is; None where every row is alone.
    """
    if persons is None:
        return Holders(found.counts, np.where(found.counts == 1, found.places, -1))
    some = found.counts > 0
    # All holders are one person's when their weights are that of the last, so often as they are.
    same = some & (found.sums == found.counts * _weights(persons)[found.places])
    return Holders(found.counts, np.where(same, persons[found.places], -1))


def prdc(found: Neighbourhoods, whose: Groups = ALONE) -> Prdc:
    """The four values, with the errors of the delete-one jackknife over both samples.

    A row that is left out takes itself out of the mean, and those with it whom nobody else holds;
    with groups, persons are left out with all their rows.  Radii stay as they are; that they vary
    too makes the errors a little wide rather than narrow (a simulation in the tests).
    """
    held, real, mine = found.held, found.real, found.synthetic
    n_real, n_synthetic = len(real.counts), len(mine.counts)
    per_ball = held.counts / found.n_own * (n_real / n_synthetic)
    density = mean_variance(found.density, whose.synthetic) + mean_variance(per_ball, whose.real)
    n_persons = n_real if whose.real is None else int(whose.real.max()) + 1
    n_made = n_synthetic if whose.synthetic is None else int(whose.synthetic.max()) + 1
    return Prdc(
        _share_held(mine, n_persons, whose.synthetic),
        _share_held(real, n_made, whose.real),
        Estimate(float(found.density.mean()), math.sqrt(density)),
        _share_held(held, n_made, whose.real),
    )


def _share_held(found: Holders, n_holders: int, groups: Codes | None) -> Estimate:
    """The share of rows with a holder; losing the only one loses the row."""
    is_held = found.counts > 0
    alone = np.bincount(found.lone[found.lone >= 0], minlength=n_holders) / len(is_held)
    own = mean_variance(is_held.astype(np.float64), groups)
    n = effective_size(is_held.astype(np.float64), groups)
    return Estimate(float(is_held.mean()), float(np.sqrt(own + lost_variance(alone))), n)


def lost_variance(lost: Floats) -> float:
    """The jackknife's variance when leaving out the j-th row loses ``lost[j]``.

    Efron and Stein 1981, https://doi.org/10.1214/aos/1176345462: too large rather than too small.
    """
    return float(((lost - lost.mean()) ** 2).sum() * (len(lost) - 1) / len(lost))


def share_interval(found: Estimate, confidence: float) -> Interval:
    """Of a share: never narrower than Wilson's, which does not collapse at 0 and 1."""
    wide = normal(found.value, found.error, confidence)
    plain = wilson(found.value * found.n, found.n, confidence)
    low, high = max(min(wide.lcb, plain.lcb), 0.0), min(max(wide.ucb, plain.ucb), 1.0)
    return Interval(found.value, min(low, found.value), max(high, found.value))


def compare(evidence: Evidence, rows: Encoded, real: Encoded, whose: Groups = ALONE) -> Prdc:
    """The four values of these rows."""
    place = as_points(evidence)
    ours, theirs = (balls(place(found), K, threads=evidence.threads) for found in (real, rows))
    return prdc(neighbourhoods(ours, theirs, whose, threads=evidence.threads), whose)


def measure(evidence: Evidence) -> list[Measurement]:
    """All four; the control compares held-out rows, the baseline rows of independent columns."""
    drawn = samples(evidence)
    value = compare(evidence, drawn.synthetic, drawn.real, groups(evidence))
    control, baseline = (
        compare(evidence, rows, drawn.real) for rows in (drawn.holdout, drawn.independent)
    )

    def measurement(name: str, of: Callable[[Prdc], Estimate], unit: str, how: str) -> Measurement:
        found = of(value)
        bounds = (
            _positive(normal(found.value, found.error, evidence.confidence))
            if name == DENSITY
            else share_interval(found, evidence.confidence)
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
        measurement(
            DENSITY, lambda p: p.density, "ratio", "real balls per synthetic row, by what they hold"
        ),
        measurement(COVERAGE, lambda p: p.coverage, own, "real balls with a synthetic row"),
    ]


def _positive(found: Interval) -> Interval:
    return Interval(found.estimate, max(found.lcb, 0.0), found.ucb)


SUITE = Suite.of("fidelity.prdc", measure, ids=IDS, weight=4)
