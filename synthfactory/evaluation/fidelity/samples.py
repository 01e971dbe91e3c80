"""Equal samples of real, synthetic, held-out and independent rows, the same for all measurements.

How many neighbours lie near, and what a judge can learn, depends on how many rows there are.  So
real rows, synthetic rows, real rows that nobody trained on (the noise ceiling) and rows of
independent columns (the floor) are equally many.  Where an entity is declared, the groups say which
of the sampled rows belong to one person.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence, shuffled, take
from synthfactory.tables import Encoded

Codes = npt.NDArray[np.int64]

LEAST = 10


class Groups(NamedTuple):
    """**Shape** (n_rows,) each: numbers from 0 on, equal for rows of one person.

    None where every row is alone.
    """

    real: Codes | None = None
    synthetic: Codes | None = None
    holdout: Codes | None = None


ALONE = Groups()


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


def groups(evidence: Evidence) -> Groups:
    """Whose the rows of `samples` are.

    Raises
    ------
    EvaluationError
        When an entity is declared and a part holds rows of fewer than 10.
    """
    n_rows = _size(evidence)

    def some(part: str) -> Codes | None:
        entities = evidence.entities(part)
        if entities is None:
            return None
        whose = np.unique(entities[_places(evidence, part, n_rows)], return_inverse=True)[1]
        if whose.max(initial=-1) + 1 < LEAST:
            raise EvaluationError(
                f"The {part} table has rows of {whose.max(initial=-1) + 1} different "
                f"'{evidence.schema.entity}'; how much they differ takes at least {LEAST}. Give "
                "rows of more, or declare no entity."
            )
        return whose

    return Groups(some("train"), some("synthetic"), some("test"))


def _size(evidence: Evidence) -> int:
    smallest = min(len(evidence.train), len(evidence.synthetic), len(evidence.test))
    return min(smallest, max(evidence.max_rows // 2, LEAST))


def _places(evidence: Evidence, part: str, n_rows: int) -> npt.NDArray[np.integer]:
    order = evidence.stream(f"samples: {part}").permutation(len(getattr(evidence, part)))
    return np.sort(order[:n_rows])


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
    n_rows = _size(evidence)
    real, synthetic, holdout = (
        take(rows, _places(evidence, name, n_rows)) for name, rows in parts.items()
    )
    chance = evidence.stream("samples: independent")
    return Samples(real, synthetic, holdout, shuffled(evidence.train, n_rows, chance))
