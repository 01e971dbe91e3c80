"""Missing patterns: are the same values missing together as in the real table?

A row's pattern says which of its columns are missing.  ``1 - total variation distance`` of the
patterns.  Columns that lose values at the right rate, but each on its own, do not agree.

Measured where values are missing at all, in the train or in the synthetic rows; otherwise there is
nothing to measure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.ceiling import Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded, Schema

Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]
ID = "fidelity.missing_patterns"
N_WORST = 20


def is_missing(rows: Encoded, schema: Schema) -> Bools:
    """**Shape** (n_rows, n_columns): which values are missing."""
    levels = np.array([len(column.categories) for column in schema.discrete])
    return np.column_stack([np.isnan(rows.numbers), rows.codes >= levels[None, :]])


def pattern_numbers(*tables: Bools) -> list[Codes]:
    """Equal patterns, over all tables, get equal numbers.

    >>> a, b = pattern_numbers(np.array([[True, False]]), np.array([[False, False], [True, False]]))
    >>> bool(a[0] == b[1]), bool(a[0] == b[0])
    (True, False)
    """
    packed = np.packbits(np.vstack(tables), axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, numbers = np.unique(keys, return_inverse=True)
    return np.split(numbers, np.cumsum([len(table) for table in tables])[:-1])


def similarity(real: Bools, other: Bools) -> float:
    """1 - total variation distance of the patterns."""
    return float(1 - 0.5 * np.abs(_gaps(*pattern_numbers(real, other))).sum())


def _gaps(real: Codes, other: Codes) -> npt.NDArray[np.float64]:
    n_patterns = int(max(real.max(), other.max())) + 1
    p, q = (np.bincount(side, minlength=n_patterns) / len(side) for side in (real, other))
    gaps: npt.NDArray[np.float64] = p - q
    return gaps


def measure(evidence: Evidence) -> list[Measurement]:
    """The measurement; none where no value is missing."""
    real, other = (
        is_missing(rows, evidence.schema) for rows in (evidence.train, evidence.synthetic)
    )
    if not real.any() and not other.any():
        return []
    numbers = pattern_numbers(real, other)
    gaps = _gaps(*numbers)
    slope = 0.5 * np.sign(gaps)
    error = Scatter(evidence)(-slope[numbers[0]], slope[numbers[1]])
    found = interval(float(1 - 0.5 * np.abs(gaps).sum()), error, evidence.confidence, most=1.0)
    beside = Stand.of(evidence).each(
        lambda rows: similarity(real, is_missing(rows, evidence.schema))
    )
    apart = np.abs(real.mean(axis=0) - other.mean(axis=0))
    order = [place for place in np.argsort(-apart, kind="stable")[:N_WORST]
             if real[:, place].any() or other[:, place].any()]  # fmt: skip
    measurement = Measurement(
        id=ID,
        family="fidelity",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=len(other),
        baseline=beside.baseline,
        control=beside.control,
        unit="similarity",
        better="higher",
        confidence=evidence.confidence,
        method="1 - total variation of the rows' patterns of missing values",
        details={
            "n_patterns": {
                "real": len(np.unique(numbers[0])),
                "synthetic": len(np.unique(numbers[1])),
            },
            "columns": [
                {
                    "name": evidence.names[place],
                    "missing_real": float(real[:, place].mean()),
                    "missing_synthetic": float(other[:, place].mean()),
                }
                for place in order
            ],
            **beside.details,
        },
    )
    return [measurement]


SUITE = Suite.of(ID, measure, ids=(ID,), weight=0.2)
