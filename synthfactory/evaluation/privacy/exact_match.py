"""Exact match: are more synthetic rows copies of members than chance explains?

Every synthetic row that equals a real row (identifiers aside) is looked up among members and
strangers.  If the generator has not memorised, the row's twins are members as often as anybody:
with ``n_m`` members and ``n_s`` strangers, a share ``n_m / (n_m + n_s)`` of them.  A synthetic
row whose twins are ``m`` members and ``s`` strangers counts

    (n_m + n_s) / n_s * (m / (m + s) - n_m / (n_m + n_s)),

which is 1 for a copied member nobody else looks like, and 0 on average without memorising, whatever
the sizes of the parts and however common a row is.  So all members are searched, not a sample of
them, and no correction for unequal sizes is needed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import Interval, z_value
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

ID = "privacy.exact_match"


def row_numbers(*tables: Encoded) -> list[npt.NDArray[np.int64]]:
    """Equal rows, over all tables, get equal numbers."""
    joined = [
        np.column_stack([np.nan_to_num(rows.numbers, nan=-np.inf) + 0.0, rows.codes.astype(float)])
        for rows in tables
    ]
    every = np.ascontiguousarray(np.vstack(joined))
    as_bytes = every.view(np.dtype((np.void, every.dtype.itemsize * every.shape[1]))).ravel()
    _, numbers = np.unique(as_bytes, return_inverse=True)
    ends = np.cumsum([len(rows) for rows in tables])
    return np.split(numbers, ends[:-1])


def excess(
    members: npt.NDArray[np.int64],
    strangers: npt.NDArray[np.int64],
    synthetic: npt.NDArray[np.int64],
    confidence: float,
) -> Interval:
    """Share of synthetic rows that copy members, beyond chance.

    Parameters
    ----------
    members, strangers, synthetic
        Row numbers of `row_numbers`.
    confidence
        Coverage; rows that equal the same real row move together, so they are one cluster, and one
        unseen cluster is added, so that seeing none does not mean that there is none.
    """
    n_numbers = int(max(members.max(), strangers.max(), synthetic.max())) + 1
    m, s, c = (np.bincount(part, minlength=n_numbers) for part in (members, strangers, synthetic))
    n_m, n_s, n = len(members), len(strangers), len(synthetic)
    hit = (c > 0) & (m + s > 0)
    weights = (n_m + n_s) / n_s * (m[hit] / (m[hit] + s[hit]) - n_m / (n_m + n_s))
    sums = c[hit] * weights
    value = float(sums.sum()) / n
    z = z_value(confidence)
    error = math.sqrt(float((sums**2).sum()) + 1.0) / n
    return Interval(value, value - z * error, min(max(1.0, value), value + z * error))


def measure(evidence: Evidence) -> Measurement:
    """The excess of copies; the control judges the test rows instead."""
    members, strangers, synthetic, test = row_numbers(
        evidence.train, evidence.control, evidence.synthetic, evidence.test
    )
    found = excess(members, strangers, synthetic, evidence.confidence)
    equal_any = np.isin(synthetic, members)
    alone = np.flatnonzero(np.bincount(members) == 1)
    return Measurement(
        id=ID,
        family="privacy",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=len(synthetic),
        baseline=0.0,
        control=excess(members, strangers, test, evidence.confidence).estimate,
        unit="share of synthetic rows",
        better="lower",
        confidence=evidence.confidence,
        method="share of rows equal to a member beyond the share expected from strangers; "
        "errors clustered by real row",
        details={
            "equal_to_a_member": float(equal_any.mean()),
            "equal_to_a_member_unlike_all_others": float(np.isin(synthetic, alone).mean()),
            "equal_to_a_stranger": float(np.isin(synthetic, strangers).mean()),
            "n_members": len(members),
            "n_strangers": len(strangers),
        },
    )


SUITE = Suite.of("privacy.exact_match", measure, ids=(ID,), weight=1)
