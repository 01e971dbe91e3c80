"""Maximum mean discrepancy: do whole rows have the same distribution?

The squared distance between the mean embeddings of real and synthetic rows in the space of a
Gaussian kernel; 0 when the distributions are the same, positive for any difference.

Gretton et al. 2012, "A kernel two-sample test", JMLR 13, eq. 3 (the unbiased estimate), with the
median heuristic of its section 8 on the real rows.

Rows of one person are alike whatever the distribution.  So, where an entity is declared, only pairs
of rows of different persons count, as the unbiased estimate leaves out a row with itself; and the
error is that of the persons' sums.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.blocks import in_blocks
from synthfactory.evaluation.fidelity.embedding import Embedded, Embedding
from synthfactory.evaluation.fidelity.samples import groups, samples
from synthfactory.evaluation.intervals import mean_variance, normal
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

ID = "fidelity.mmd2"
N_PAIRS = 200_000


def bandwidth(points: Embedded, chance: np.random.Generator) -> float:
    """The median distance between two different rows, from at most 200,000 pairs.

    Where most rows are alike the median is 0 and the root mean square takes its place; where all
    are, 1.
    """
    n = len(points)
    first = chance.integers(n, size=min(N_PAIRS, n * n))
    second = (first + chance.integers(1, n, size=len(first))) % n
    squares = ((points.numbers[first] - points.numbers[second]) ** 2).sum(axis=1, dtype=np.float64)
    squares += (points.codes[first] != points.codes[second]).sum(axis=1)
    return math.sqrt(float(np.median(squares))) or math.sqrt(float(squares.mean())) or 1.0


def kernel_sums(rows: Embedded, others: Embedded, width: float, *, threads: int) -> Floats:
    """``sum_j exp(-|x_i - y_j|^2 / (2 width^2))`` for every row.

    Parameters
    ----------
    rows, others
        Points of one embedding.
    width
        The kernel's bandwidth.
    threads
        Processor threads; they change no bit of the result.

    Returns
    -------
    array
        **Shape** (n_rows,).
    """
    from synthfactory.evaluation.fidelity._kernels import squared_distances

    numbers, codes = others.numbers.T.copy(), others.codes.T.copy()
    scale = np.float32(-0.5 / width**2)
    sums = np.empty(len(rows))

    def work(block: slice) -> None:
        values = np.empty((block.stop - block.start, len(others)), np.float32)
        squared_distances(rows.numbers[block], rows.codes[block], numbers, codes, values)
        values *= scale
        np.exp(values, out=values)
        sums[block] = values.sum(axis=1)

    in_blocks(work, len(rows), threads)
    return sums


class Own(NamedTuple):
    """Kernel sums of rows over the others of their own side.

    Parameters
    ----------
    sums
        **Shape** (n,): over rows of other persons.
    counts
        **Shape** (n,): how many those are.
    groups
        **Shape** (n,): whose each row is; None where every row is alone.
    """

    sums: Floats
    counts: Floats
    groups: Codes | None

    @classmethod
    def of(cls, rows: Embedded, width: float, groups: Codes | None, *, threads: int) -> Own:
        """Of these rows."""
        sums = kernel_sums(rows, rows, width, threads=threads)
        if groups is None:
            return cls(sums - 1, np.full(len(rows), len(rows) - 1.0), None)
        sizes = np.bincount(groups)[groups]
        return cls(sums - own_sums(rows, groups, width), len(rows) - sizes.astype(float), groups)

    @property
    def mean(self) -> float:
        """The mean over pairs."""
        return float((self.sums / self.counts.mean()).mean())

    @property
    def influence(self) -> Floats:
        """**Shape** (n,): how each row moves half of `mean`, but for a constant."""
        means: Floats = self.sums / self.counts.mean()
        return (
            means if self.groups is None else means - self.mean * self.counts / self.counts.mean()
        )


def own_sums(rows: Embedded, groups: Codes, width: float) -> Floats:
    """**Shape** (n,): kernel sums of each row over the rows of its own group, itself included."""
    order = np.argsort(groups, kind="stable")
    numbers, codes, whose = rows.numbers[order], rows.codes[order], groups[order]
    sums = np.ones(len(order))
    for step in range(1, int(np.bincount(groups).max())):
        first = np.flatnonzero(whose[step:] == whose[:-step])
        second = first + step
        squares = ((numbers[first] - numbers[second]) ** 2).sum(axis=1, dtype=np.float64)
        squares += (codes[first] != codes[second]).sum(axis=1)
        values = np.exp(-0.5 * squares / width**2)
        # Each row stands at most once in `first`, and once in `second`.
        sums[first] += values
        sums[second] += values
    found = np.empty(len(order))
    found[order] = sums
    return found


def mmd2(x: Own, y: Own, xy: Floats, yx: Floats) -> tuple[float, float]:
    """The unbiased estimate and its standard error.

    The error is the delete-one jackknife's, which for this statistic is the variance of the
    linearised U-statistic (each row's influence is twice its mean similarity to its own side minus
    that to the other), persons taking the place of rows.  Between equal distributions, where the
    linear part vanishes, its variance is twice the true one: the interval errs on the wide side.

    Parameters
    ----------
    x, y
        Of m and n rows: each side's kernel sums over itself.
    xy, yx
        **Shape** (m,) and (n,): kernel sums of each row over the other side.
    """
    m, n = len(xy), len(yx)
    other_x, other_y = xy / n, yx / m
    estimate = float(x.mean + y.mean - 2 * other_x.mean())
    variance = mean_variance(x.influence - other_x, x.groups)
    variance += mean_variance(y.influence - other_y, y.groups)
    return estimate, 2 * math.sqrt(variance)


def measure(evidence: Evidence) -> Measurement:
    """Synthetic against real rows; the control: held-out against real rows."""
    drawn, whose = samples(evidence), groups(evidence)
    embed = Embedding.of(evidence)
    real = embed(drawn.real)
    width = bandwidth(real, evidence.stream("mmd: pairs"))

    def sums(rows: Embedded, others: Embedded) -> Floats:
        return kernel_sums(rows, others, width, threads=evidence.threads)

    def own(rows: Embedded, mine: Codes | None) -> Own:
        return Own.of(rows, width, mine, threads=evidence.threads)

    ours = own(real, whose.real)

    def compared(rows: Embedded, mine: Codes | None) -> tuple[float, float]:
        return mmd2(ours, own(rows, mine), sums(real, rows), sums(rows, real))

    value, error = compared(embed(drawn.synthetic), whose.synthetic)
    control, control_error = compared(embed(drawn.holdout), whose.holdout)
    baseline, _ = compared(embed(drawn.independent), None)
    found = normal(value, error, evidence.confidence)
    return Measurement(
        id=ID,
        family="fidelity",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=drawn.n_rows,
        baseline=baseline,
        control=control,
        unit="squared kernel distance",
        better="lower",
        confidence=evidence.confidence,
        method="unbiased MMD^2 (Gretton et al. 2012, eq. 3), Gaussian kernel, median bandwidth of "
        "real rows; ranks and one-hot levels; error by the delete-one jackknife",
        details={"bandwidth": width, "error": error, "control_error": control_error},
    )


SUITE = Suite.of("fidelity.mmd", measure, ids=(ID,), weight=3)
