"""Equal samples of real, synthetic, held-out and independent rows, the same for all measurements.

How many neighbours lie near, and what a judge can learn, depends on how many rows there are.  So
real rows, synthetic rows, real rows that nobody trained on (the noise ceiling) and rows of
independent columns (the floor) are equally many.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, shuffled, take
from synthfactory.tables import Encoded

LEAST = 10


class Samples(NamedTuple):
    """Equally many rows of four kinds."""

    real: Encoded
    synthetic: Encoded
    holdout: Encoded
    independent: Encoded

    @property
    def n_rows(self) -> int:
        """Rows of each kind."""
        return len(self.real)


def samples(evidence: Evidence) -> Samples:
    """Samples of train, synthetic and test rows, and of the train rows with columns shuffled.

    Returns
    -------
    Samples
        Of as many rows as the smallest part has, at most half of `max_rows`.

    Raises
    ------
    EvaluationError
        When a part has fewer than 10 rows, or there is no column to compare.
    """
    parts = {
        "train": evidence.train,
        "synthetic": evidence.synthetic,
        "test": evidence.test,
    }
    if not evidence.names:
        raise EvaluationError(
            "The table has no column to compare: all are identifiers. Declare what is to be learnt."
        )
    for name, rows in parts.items():
        if len(rows) < LEAST:
            raise EvaluationError(
                f"The {name} table has {len(rows)} rows; comparing whole rows needs at least "
                f"{LEAST}. Give more rows."
            )
    n_rows = min(*(len(rows) for rows in parts.values()), max(evidence.max_rows // 2, LEAST))

    def some(rows: Encoded, name: str) -> Encoded:
        order = evidence.stream(f"samples: {name}").permutation(len(rows))
        return take(rows, np.sort(order[:n_rows]))

    real, synthetic, holdout = (some(rows, name) for name, rows in parts.items())
    chance = evidence.stream("samples: independent")
    return Samples(real, synthetic, holdout, shuffled(evidence.train, n_rows, chance))
