"""Alpha-precision and beta-recall: typical rows typical, rare rows rare, and all of them covered?

- The alpha-support of the real rows is the ball around their mean that holds the most typical
  share alpha of them.  A faithful table has the share alpha of its rows in it, for every alpha:
  ``1 - 2 * integral |P(alpha) - alpha|``.
- A real row is beta-covered when the nearest synthetic row is no farther than its own k-th nearest
  real row, and among the most typical share beta of the synthetic rows.  A diverse table covers
  the share beta, for every beta: ``1 - 2 * integral |R(beta) - beta|``.

Alaa et al. 2022, arXiv 2102.08921 (the integrated metrics).  Two variants are about: with a
one-class network's embedding ("OC") and without ("naive").  This is the **naive** one, which is
what published numbers are in practice: no network is trained whose chance would decide.  The mean
and the supports are those of `embedding`; neighbours are Gower's with k = 5, as in `prdc`, so that
the share that is covered at beta = 1 is its coverage.

To count a real row as covered by *any* row of the support in its ball, not by the nearest, would
cover more than the share beta of a faithful table, and rank a table that is too narrow above it.

The integrals are exact, over all values of alpha; rows at equal distance enter a support together,
in proportion, so that a table of few possible rows can reach 1.

Where an entity is declared, persons are drawn and left out instead of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.embedding import Embedded, Embedding
from synthfactory.evaluation.fidelity.prdc import (
    Balls,
    Estimate,
    K,
    as_points,
    balls,
    lost_variance,
)
from synthfactory.evaluation.fidelity.samples import ALONE, Codes, Groups, groups, samples
from synthfactory.evaluation.intervals import normal, row_weights
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, nearest_k
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ALPHA, BETA = IDS = ("fidelity.alpha_precision", "fidelity.beta_recall")
# How far one looks for a nearest row of another person.
FAR = 16
SHOWN = np.linspace(0, 1, 11)


class Steps(NamedTuple):
    """A curve of straight pieces from (0, 0) to (1, total); each of **shape** (n_steps + 1,)."""

    x: Floats
    y: Floats


class Nearest(NamedTuple):
    """The synthetic row that is nearest to each real row; each of **shape** (n_real,).

    Parameters
    ----------
    places
        Which one it is.
    first, second
        How far it, and the next nearest of another person, is from the synthetic mean; infinite
        where it is not in the real row's ball.
    """

    places: Integers
    first: Floats
    second: Floats

    @classmethod
    def of(
        cls,
        real: Balls,
        synthetic: Points,
        typical: Floats,
        groups: Codes | None = None,
        *,
        threads: int,
    ) -> Nearest:
        """From the synthetic rows' distances to their mean, and whose they are.

        Rows of another person are looked for among the 16 nearest.
        """
        k = 2 if groups is None else min(FAR, len(typical))
        distances, places = nearest_k(real.points, synthetic, k, threads=threads)
        reached = np.where(distances <= real.radii[:, None], typical[places], np.inf)
        second = reached[:, 1]
        if groups is not None:
            other = groups[places] != groups[places[:, :1]]
            found = other.argmax(axis=1)
            second = np.where(other.any(axis=1), reached[np.arange(len(found)), found], np.inf)
        return cls(places[:, 0], reached[:, 0], second)


class Curve:
    """Which share of the judged rows is within the distance that holds each share of the reference.

    Parameters
    ----------
    reference
        **Shape** (n_reference,): finite distances.
    judged
        **Shape** (n_judged,): distances; infinite for what is never reached.
    """

    def __init__(self, reference: Floats, judged: Floats) -> None:
        _, where = np.unique(np.concatenate([reference, judged]), return_inverse=True)
        self.n_places = int(where.max()) + 1
        self.reference, self.judged = where[: len(reference)], where[len(reference) :]
        self._never = np.isposinf(judged)

    def __call__(self, reference: Floats | None = None, judged: Floats | None = None) -> Steps:
        """The curve when rows count with these weights."""
        held = np.ones(len(self.judged)) if judged is None else judged
        x = np.bincount(self.reference, reference, self.n_places)
        y = np.bincount(self.judged, np.where(self._never, 0.0, held), self.n_places)
        return Steps(
            np.concatenate([[0.0], np.cumsum(x) / x.sum()]),
            np.concatenate([[0.0], np.cumsum(y) / held.sum()]),
        )


def score(curve: Steps) -> float:
    """``1 - 2 * integral |y - x| dx``: 1 on the diagonal, 0 where all or nothing is reached."""
    gap = curve.y - curve.x
    first, last, width = gap[:-1], gap[1:], np.diff(curve.x)
    size = np.abs(first) + np.abs(last)
    crossing = first * last < 0
    # A piece that crosses the diagonal is two triangles.
    mean = np.where(crossing, (first**2 + last**2) / np.where(crossing, 2 * size, 1.0), size / 2)
    return 1 - 2 * float((mean * width).sum())


def alpha_precision(
    embedding: Embedding,
    real: Embedded,
    synthetic: Embedded,
    repeats: int,
    chance: np.random.Generator,
    whose: Groups = ALONE,
) -> tuple[Estimate, Steps]:
    """From the distances to the real mean.

    The error is bootstrapped over both samples, the mean with them: it moves as much as they do.
    """

    def curve(weights: Floats | None, others: Floats | None) -> Steps:
        centre = embedding.centre(real, weights)
        return Curve(centre.distances(real), centre.distances(synthetic))(weights, others)

    found = curve(None, None)
    sides = (len(real), whose.real), (len(synthetic), whose.synthetic)
    error = _bootstrapped(curve, sides, repeats, chance)
    return Estimate(score(found), error), found


def beta_recall(
    synthetic: Floats,
    nearest: Nearest,
    repeats: int,
    chance: np.random.Generator,
    whose: Groups = ALONE,
) -> tuple[Estimate, Steps]:
    """From the synthetic rows' distances to their mean, and who is nearest to the real rows.

    The error is bootstrapped over both samples; what it cannot see, that a synthetic row left out
    leaves its place to the next, is added as the jackknife counts it.

    Parameters
    ----------
    synthetic
        **Shape** (n_synthetic,).
    nearest
        Of every real row.
    whose
        Whose the rows are.
    """
    curve = Curve(synthetic, nearest.first)
    found = curve()
    lost = _lost(found, synthetic, nearest)
    if whose.synthetic is not None:
        lost = np.bincount(whose.synthetic, lost).astype(np.float64)
    sides = (len(synthetic), whose.synthetic), (len(nearest.first), whose.real)
    error = math.hypot(
        _bootstrapped(curve, sides, repeats, chance),
        math.sqrt(lost_variance(lost)),
    )
    return Estimate(score(found), error), found


def _bootstrapped(
    curve: Callable[[Floats, Floats], Steps],
    sides: tuple[tuple[int, Codes | None], tuple[int, Codes | None]],
    repeats: int,
    chance: np.random.Generator,
) -> float:
    (n, mine), (n_others, theirs) = sides
    scores = [
        score(curve(row_weights(n, chance, mine), row_weights(n_others, chance, theirs)))
        for _ in range(repeats)
    ]
    return float(np.std(scores, ddof=1))


def _lost(curve: Steps, synthetic: Floats, nearest: Nearest) -> Floats:
    """**Shape** (n_synthetic,): what the score loses without each synthetic row as the nearest.

    Its real rows are then covered from their second on: the curve changes between the two.
    """
    above = np.sign(0.5 * (curve.y[1:] + curve.y[:-1] - curve.x[1:] - curve.x[:-1]))
    signed = np.concatenate([[0.0], np.cumsum(above * np.diff(curve.x))])
    ordered = np.sort(synthetic)

    def until(distances: Floats) -> Floats:
        share = np.searchsorted(ordered, distances, side="right") / len(ordered)
        found: Floats = np.interp(share, curve.x, signed)
        return found

    change = 2 * (until(nearest.first) - until(nearest.second)) / len(nearest.first)
    return np.bincount(nearest.places, change, minlength=len(synthetic)).astype(np.float64)


def measure(evidence: Evidence) -> list[Measurement]:
    """Both; the control compares held-out rows, the baseline rows of independent columns."""
    drawn, whose = samples(evidence), groups(evidence)
    embed, place = Embedding.of(evidence), as_points(evidence)
    real = embed(drawn.real)
    around = balls(place(drawn.real), K, threads=evidence.threads)

    def compared(
        rows: Encoded, name: str, repeats: int, whose: Groups = ALONE
    ) -> list[tuple[Estimate, Steps]]:
        other = embed(rows)
        own = embed.centre(other).distances(other)
        nearest = Nearest.of(around, place(rows), own, whose.synthetic, threads=evidence.threads)
        chance = evidence.stream(f"alpha precision: {name}")
        return [
            alpha_precision(embed, real, other, repeats, chance, whose),
            beta_recall(own, nearest, repeats, chance, whose),
        ]

    values = compared(drawn.synthetic, "synthetic", evidence.repeats, whose)
    controls = compared(drawn.holdout, "holdout", 2)
    baselines = compared(drawn.independent, "independent", 2)
    hows = (
        "1 - 2 integral |P(alpha) - alpha|, naive variant (no one-class embedding): balls around "
        "the mean of ranks and one-hot levels (Alaa et al. 2022); bootstrap over rows",
        f"1 - 2 integral |R(beta) - beta|, naive variant (no one-class embedding), k = {K} Gower "
        "neighbours (Alaa et al. 2022); bootstrap over rows, with the jackknife of who is nearest",
    )
    return [
        _measurement(evidence, drawn.n_rows, name, value, control[0], baseline[0], how)
        for name, value, control, baseline, how in zip(
            IDS, values, controls, baselines, hows, strict=True
        )
    ]


def _measurement(
    evidence: Evidence,
    n: int,
    name: str,
    value: tuple[Estimate, Steps],
    control: Estimate,
    baseline: Estimate,
    how: str,
) -> Measurement:
    found = normal(value[0].value, value[0].error, evidence.confidence)
    return Measurement(
        id=name,
        family="fidelity",
        estimate=found.estimate,
        lcb=min(max(found.lcb, 0.0), found.estimate),
        ucb=max(min(found.ucb, 1.0), found.estimate),
        n=n,
        baseline=baseline.value,
        control=control.value,
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method=how,
        details={
            "variant": "naive",
            "shares": SHOWN.tolist(),
            "reached": np.interp(SHOWN, *value[1]).tolist(),
        },
    )


SUITE = Suite.of("fidelity.alpha_precision", measure, ids=IDS, weight=3)
