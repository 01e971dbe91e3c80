"""Would somebody who compares learners on the synthetic rows choose as on the real ones?

Kendall's rank correlation tau-b (Kendall 1945, https://doi.org/10.1093/biomet/33.3.239) between the
learners' scores on the real test rows after training on synthetic and after training on real rows.
Learners that are equally good have no order to agree on, so the noise ceiling can be well below 1;
the control, learners that were trained on fresh real rows, tells.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.learners import LEARNERS
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.utility.results import FRESH, REAL, SYNTHETIC, Results
from synthfactory.evaluation.utility.scores import Scored
from synthfactory.evaluation.utility.tstr import trained_on

Floats = npt.NDArray[np.float64]
ID = "utility.rank_agreement"


def tau_b(a: Floats, b: Floats) -> Floats:
    """Kendall's tau-b along the last axis; 0 where one side has no order at all.

    Parameters
    ----------
    a, b
        **Shape** (..., n).

    >>> float(tau_b(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))).__round__(3)
    0.333
    """
    first, second = np.triu_indices(a.shape[-1], k=1)
    x = np.sign(a[..., first] - a[..., second])
    y = np.sign(b[..., first] - b[..., second])
    untied = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.where(untied > 0, (x * y).sum(axis=-1) / np.where(untied > 0, untied, 1.0), 0.0)


def agreement(found: Results, source: str) -> Scored:
    """Between learners trained on some rows and on the real ones, and on each draw."""
    ours, real = ([found.scored[learner, rows] for learner in LEARNERS] for rows in (source, REAL))
    return Scored(
        estimate=float(
            tau_b(
                np.array([score.estimate for score in ours]),
                np.array([score.estimate for score in real]),
            )
        ),
        repeats=tau_b(
            np.stack([score.repeats for score in ours], axis=-1),
            np.stack([score.repeats for score in real], axis=-1),
        ),
    )


def measure(found: Results) -> Measurement:
    """Agreement of the learners' order."""
    evidence = found.evidence
    interval = agreement(found, SYNTHETIC).interval(evidence.confidence)
    return Measurement(
        id=ID,
        family="utility",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(found.test),
        baseline=0.0,
        control=agreement(found, FRESH).estimate,
        unit="Kendall's tau-b",
        better="higher",
        confidence=evidence.confidence,
        method=f"Kendall's tau-b between the scores of {len(LEARNERS)} learners trained on "
        "synthetic and on real rows, paired bootstrap of the real test rows; the control is "
        "trained on fresh real rows",
        details={"n_learners": len(LEARNERS), **trained_on(found)},
    )
