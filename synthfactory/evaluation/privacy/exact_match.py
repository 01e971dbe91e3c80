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
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import Interval, detectable, newcombe, z_value
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.subgroups import compare, subgroups
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import row_numbers

ID = "privacy.exact_match"

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def excess(
    members: Integers,
    strangers: Integers,
    synthetic: Integers,
    confidence: float,
    whose: Integers | None = None,
) -> Interval:
    """Share of synthetic rows that copy members, beyond chance.

    Parameters
    ----------
    members, strangers, synthetic
        From `synthfactory.tables.row_numbers`.
    confidence
        Coverage; rows that equal the same real row move together, so they are one cluster, and one
        unseen cluster is added, so that seeing none does not mean that there is none.
    whose
        **Shape** (n_members,): whose row each member is; copies of rows that one person alone has
        are one cluster, and the unseen one is of as many rows as people have on average.
    """
    n_numbers = int(max(members.max(), strangers.max(), synthetic.max())) + 1
    m, s, c = (np.bincount(part, minlength=n_numbers) for part in (members, strangers, synthetic))
    n_m, n_s, n = len(members), len(strangers), len(synthetic)
    hit = (c > 0) & (m + s > 0)
    weights = (n_m + n_s) / n_s * (m[hit] / (m[hit] + s[hit]) - n_m / (n_m + n_s))
    sums: Floats = c[hit] * weights
    value = float(sums.sum()) / n
    unseen = 1.0
    if whose is not None:
        clusters = _clusters(members, whose, n_numbers)[hit]
        sums = np.bincount(clusters, weights=sums).astype(np.float64)
        unseen = n_m / len(np.unique(whose))
    z = z_value(confidence)
    error = math.sqrt(float((sums**2).sum()) + unseen**2) / n
    return Interval(value, value - z * error, min(max(1.0, value), value + z * error))


def _clusters(members: Integers, whose: Integers, n_numbers: int) -> Integers:
    """**Shape** (n_numbers,): for a row that one person alone has this person, else its own."""
    most = np.full(n_numbers, -1)
    least = np.full(n_numbers, np.iinfo(np.int64).max)
    np.maximum.at(most, members, whose)
    np.minimum.at(least, members, whose)
    return np.where(most == least, n_numbers + most, np.arange(n_numbers))


def occurs(people: Integers, rows: Integers) -> Floats:
    """**Shape** (n_people,): 1 for everybody whose row is among ``rows``, else 0."""
    return np.isin(people, rows).astype(np.float64)


def measure(evidence: Evidence) -> Measurement:
    """The excess of copies; the control judges the test rows instead."""
    members, strangers, synthetic, test = row_numbers(
        evidence.train, evidence.control, evidence.synthetic, evidence.test
    )
    confidence = evidence.confidence
    found = excess(members, strangers, synthetic, confidence, evidence.entities("train"))
    error = (found.estimate - found.lcb) / z_value(confidence)
    return Measurement(
        id=ID,
        family="privacy",
        estimate=found.estimate,
        lcb=found.lcb,
        ucb=found.ucb,
        n=len(synthetic),
        baseline=0.0,
        control=excess(members, strangers, test, confidence).estimate,
        unit="share of synthetic rows",
        better="lower",
        confidence=confidence,
        method="share of rows equal to a member beyond the share expected from strangers; "
        "errors clustered by real row",
        mde=detectable(error, confidence),
        details={
            "equal_to_a_member": float(occurs(synthetic, members).mean()),
            "equal_to_a_member_unlike_all_others": float(occurs(synthetic, once(members)).mean()),
            "equal_to_a_stranger": float(occurs(synthetic, strangers).mean()),
            "equal_to_a_stranger_unlike_all_others": float(
                occurs(synthetic, once(strangers)).mean()
            ),
            "n_members": len(members),
            "n_strangers": len(strangers),
            **_equal_sizes(evidence),
        },
    )


def once(numbers: Integers) -> Integers:
    """The numbers of rows that occur once only."""
    return np.flatnonzero(np.bincount(numbers) == 1)


def _equal_sizes(evidence: Evidence) -> dict[str, Any]:
    """As many members as strangers: the plain difference of shares, and who is copied most."""
    members, strangers, synthetic = row_numbers(
        evidence.members, evidence.strangers, evidence.synthetic
    )
    n = len(synthetic)
    n_equal = [float(occurs(synthetic, people).sum()) for people in (members, strangers)]
    difference = newcombe(n_equal[0], n, n_equal[1], n, evidence.confidence)
    return {
        "difference_at_equal_sizes": {"n_people": len(members), **difference._asdict()},
        "subgroups": compare(
            subgroups(evidence, evidence.members, evidence.strangers, evidence.whose),
            occurs(members, synthetic),
            occurs(strangers, synthetic),
            evidence.confidence,
            evidence.whose,
        ),
    }


SUITE = Suite.of("privacy.exact_match", measure, ids=(ID,), weight=1)
