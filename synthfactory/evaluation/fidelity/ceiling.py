"""What stands beside a fidelity measurement: fresh real rows, and independent columns.

Even real rows that nobody trained on do not agree with the train rows perfectly, and fewer rows
agree less.  So *equally* many synthetic rows, fresh real rows and rows of independent columns are
compared with the train rows.  Fresh real rows are control and test rows together, so that they are
as many as the table allows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, shuffled, take
from synthfactory.tables import Encoded

MIN_REACH = 0.01


def fresh_rows(evidence: Evidence) -> Encoded:
    """Control and test rows: real people that nobody trained on."""
    return Encoded(
        numbers=np.vstack([evidence.control.numbers, evidence.test.numbers]),
        codes=np.vstack([evidence.control.codes, evidence.test.codes]),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Stand:
    """Equally many rows of three kinds.

    Parameters
    ----------
    synthetic
        A sample of the synthetic rows; all of them where there are as many fresh real rows.
    fresh
        Real rows that nobody trained on.
    independent
        Rows without dependence: each column drawn on its own from the train rows.
    """

    synthetic: Encoded
    fresh: Encoded
    independent: Encoded

    @classmethod
    def of(cls, evidence: Evidence) -> Stand:
        """As many rows of each kind as there are both synthetic and fresh real ones.

        Raises
        ------
        EvaluationError
            When the table has no column that could be learnt.
        """
        if not evidence.names:
            raise EvaluationError("The table holds identifiers only: there is nothing to compare.")
        fresh = fresh_rows(evidence)
        n = min(len(fresh), len(evidence.synthetic))
        chance = evidence.stream("fidelity: equally many rows")
        return cls(
            synthetic=_some(evidence.synthetic, n, chance),
            fresh=_some(fresh, n, chance),
            independent=shuffled(evidence.train, n, chance),
        )

    def __len__(self) -> int:
        return len(self.fresh)

    def each(self, statistic: Callable[[Encoded], Any], *, baseline: float | None = None) -> Beside:
        """The statistic of each kind; ``baseline`` where independent columns are none."""
        return Beside(
            n=len(self),
            synthetic=statistic(self.synthetic),
            control=statistic(self.fresh),
            baseline=statistic(self.independent) if baseline is None else baseline,
        )


def _some(rows: Encoded, n: int, chance: np.random.Generator) -> Encoded:
    return rows if n == len(rows) else take(rows, np.sort(chance.permutation(len(rows))[:n]))


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One statistic of equally many synthetic, fresh real and independent rows.

    Parameters
    ----------
    n
        How many.
    synthetic, control, baseline
        Its values, or arrays of them.
    """

    n: int
    synthetic: Any
    control: Any
    baseline: Any

    def map(self, change: Callable[[Any], float]) -> Beside:
        """The same of something that is calculated from each value."""
        values = (self.synthetic, self.control, self.baseline)
        synthetic, control, baseline = (float(change(value)) for value in values)
        return Beside(n=self.n, synthetic=synthetic, control=control, baseline=baseline)

    @functools.cached_property
    def normalised(self) -> float | None:
        """How far the synthetic rows come from the baseline (0) to fresh real rows (1).

        None where baseline and control are too near to each other to measure a way between them.
        """
        reach = self.control - self.baseline
        if abs(reach) < MIN_REACH:
            return None
        return float((self.synthetic - self.baseline) / reach)

    @property
    def details(self) -> Mapping[str, Any]:
        """For the measurement's details."""
        return {
            "normalised": self.normalised,
            "equally_many_rows": {
                "n": self.n,
                "synthetic": self.synthetic,
                "fresh_real": self.control,
                "baseline": self.baseline,
            },
        }
