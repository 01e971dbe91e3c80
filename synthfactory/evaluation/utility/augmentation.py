"""Do synthetic rows help somebody who has the real ones already?

Gradient boosting trained on real and synthetic rows together, minus gradient boosting trained on
the real rows alone, on the same real test rows.  The control adds fresh real rows instead: what
more real people would have given.
"""

from __future__ import annotations

from synthfactory.evaluation.learners import BOOSTING
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.utility.results import REAL, WITH_FRESH, WITH_SYNTHETIC, Results
from synthfactory.evaluation.utility.scores import Scored
from synthfactory.evaluation.utility.tstr import trained_on

ID = "utility.augmentation"


def gain(found: Results, source: str) -> Scored:
    """What training on further rows adds to the score."""
    more, alone = found.scored[BOOSTING, source], found.scored[BOOSTING, REAL]
    return Scored(estimate=more.estimate - alone.estimate, repeats=more.repeats - alone.repeats)


def measure(found: Results) -> Measurement:
    """The gain; above 0 where synthetic rows help."""
    evidence = found.evidence
    interval = gain(found, WITH_SYNTHETIC).interval(evidence.confidence)
    return Measurement(
        id=ID,
        family="utility",
        estimate=interval.estimate,
        lcb=interval.lcb,
        ucb=interval.ucb,
        n=len(found.test),
        baseline=0.0,
        control=gain(found, WITH_FRESH).estimate,
        unit=f"difference of {found.task.score_name}",
        better="higher",
        confidence=evidence.confidence,
        method="gradient boosting trained on real and synthetic rows minus real rows alone, paired "
        "bootstrap of the real test rows; the control adds fresh real rows instead",
        details=trained_on(found),
    )
