"""Maximum mean discrepancy: do whole rows have the same distribution?

The squared distance between the mean embeddings of real and synthetic rows in the space of a
Gaussian kernel; 0 when the distributions are the same, positive for any difference.

Gretton et al. 2012, "A kernel two-sample test", JMLR 13, eq. 3 (the unbiased estimate), with the
median heuristic of its section 8 on the real rows.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.blocks import in_blocks
from synthfactory.evaluation.fidelity.embedding import Embedded, Embedding
from synthfactory.evaluation.fidelity.samples import samples
from synthfactory.evaluation.intervals import normal
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite

Floats = npt.NDArray[np.float64]

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


def mmd2(xx: Floats, yy: Floats, xy: Floats, yx: Floats) -> tuple[float, float]:
    """The unbiased estimate and its standard error.

    The error is the delete-one jackknife's, which for this statistic is the variance of the
    linearised U-statistic (each row's influence is twice its mean similarity to its own side minus
    that to the other).  Between equal distributions, where the linear part vanishes, its variance
    is twice the true one: the interval errs on the wide side.

    Parameters
    ----------
    xx, yy
        **Shape** (m,) and (n,): kernel sums of each row over its own side, itself included.
    xy, yx
        **Shape** (m,) and (n,): over the other side.
    """
    m, n = len(xx), len(yy)
    own_x, own_y = (xx - 1) / (m - 1), (yy - 1) / (n - 1)
    other_x, other_y = xy / n, yx / m
    estimate = float(own_x.mean() + own_y.mean() - 2 * other_x.mean())
    variance = np.var(own_x - other_x, ddof=1) / m + np.var(own_y - other_y, ddof=1) / n
    return estimate, 2 * math.sqrt(float(variance))


def measure(evidence: Evidence) -> Measurement:
    """Synthetic against real rows; the control: held-out against real rows."""
    drawn = samples(evidence)
    embed = Embedding.of(evidence)
    real = embed(drawn.real)
    width = bandwidth(real, evidence.stream("mmd: pairs"))

    def sums(rows: Embedded, others: Embedded) -> Floats:
        return kernel_sums(rows, others, width, threads=evidence.threads)

    own = sums(real, real)

    def compared(rows: Embedded) -> tuple[float, float]:
        return mmd2(own, sums(rows, rows), sums(real, rows), sums(rows, real))

    value, error = compared(embed(drawn.synthetic))
    control, control_error = compared(embed(drawn.holdout))
    baseline, _ = compared(embed(drawn.independent))
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
