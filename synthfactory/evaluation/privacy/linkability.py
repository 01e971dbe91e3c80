"""Linkability: do the synthetic rows tell that two records belong to the same person?

The second criterion of WP216 (opinion 05/2014).  Two tables hold some columns each about the same
people, and their owner knows no common key.  The attacker looks for the nearest synthetic row of a
record on the columns of the one table and on those of the other; where it is the same row, he links
the two records (Giomi et al. 2023, arXiv 2211.10459).  What
works for strangers too was learnt about the population; the risk is what members have beyond that.

Two splits of the columns: the declared quasi-identifiers in two halves, and all columns in seeded
halves.  The worse one by its upper bound decides, with bounds at Bonferroni's level.

Many synthetic rows can be equally near, on discrete columns most of all.  The attacker puts them in
one random order, the same on both sides, and takes the first: two records with ``a`` and ``b``
equally near rows, ``c`` of them common, are linked with probability ``c / (a + b - c)``.  Taking a
row at random on each side would link them with ``c / (a b)`` only.  The order is addressed by the
seed, so the same evidence gives the same links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import ALONE, Evidence, Sides, take
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, by_scale, centres, nearest_k, scales
from synthfactory.evaluation.privacy import risk
from synthfactory.evaluation.subgroups import compare, subgroups
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
Halves = tuple[Sequence[int], Sequence[int]]

ID = "privacy.linkability"
N_NEIGHBOURS = 1
DECLARED = "quasi-identifiers"
EVERY = "all columns"


class Links(NamedTuple):
    """**Shape** (n_attacks,) each: whose two records were linked."""

    members: Mask
    strangers: Mask


def splits(evidence: Evidence) -> Mapping[str, Halves]:
    """Places of the columns of both tables, numeric ones first, by the name of the split.

    Raises
    ------
    EvaluationError
        When there is one column only.
    """
    names = evidence.names
    if len(names) < 2:
        raise EvaluationError("A table of one column cannot be split into two: nothing to link.")
    chance = evidence.stream("linkability: halves")
    n_numeric = len(evidence.schema.numeric)
    # Dealt in turn, so that both halves get numbers and levels.
    dealt = np.concatenate(
        [chance.permutation(n_numeric), n_numeric + chance.permutation(len(names) - n_numeric)]
    )
    found = {EVERY: (sorted(dealt[::2].tolist()), sorted(dealt[1::2].tolist()))}
    declared = [names.index(name) for name in evidence.schema.quasi_identifiers if name in names]
    if len(declared) >= 2:
        found = {DECLARED: (declared[::2], declared[1::2])} | found
    return found


def columns_of(points: Points, places: Sequence[int]) -> Points:
    """The same rows with these columns alone, numeric ones first."""
    n_numeric = points.numbers.shape[1]
    numbers = [place for place in places if place < n_numeric]
    codes = [place - n_numeric for place in places if place >= n_numeric]
    return Points(
        numbers=np.ascontiguousarray(points.numbers[:, numbers]),
        codes=np.ascontiguousarray(points.codes[:, codes]),
    )


def linked(near_first: Places, near_second: Places) -> Mask:
    """Whether the nearest rows on one side and on the other have one in common.

    Parameters
    ----------
    near_first, near_second
        **Shape** (n_attacks, k): numbers of synthetic rows.
    """
    found: Mask = (near_first[:, :, None] == near_second[:, None, :]).any(axis=(1, 2))
    return found


def naive(n_rows: int, k: int) -> float:
    """The chance that two random sets of ``k`` of ``n_rows`` rows have a row in common.

    >>> round(naive(100, 1), 4), round(naive(100, 10), 4), naive(5, 3)
    (0.01, 0.6695, 1.0)
    """
    if 2 * k > n_rows:
        return 1.0
    ways = 2 * gammaln(n_rows - k + 1) - gammaln(n_rows - 2 * k + 1) - gammaln(n_rows + 1)
    return float(-np.expm1(ways))


def links(
    synthetic: Points, people: Points, halves: Halves, *, k: int = N_NEIGHBOURS, threads: int
) -> Mask:
    """**Shape** (n_people,): whose two records are linked through synthetic rows.

    Parameters
    ----------
    synthetic
        In random order: of equally near rows the first counts.
    people
        The records.
    halves
        The columns of the one table and of the other.
    k
        Nearest rows of each record.
    threads
        Processor threads.
    """
    k = min(k, len(synthetic))
    near = [
        nearest_k(columns_of(people, half), columns_of(synthetic, half), k, threads=threads)[1]
        for half in halves
    ]
    return linked(near[0], near[1])


def attack(evidence: Evidence, rows: Encoded, halves: Halves, purpose: str) -> Links:
    """The attack through ``rows`` on members and strangers."""
    spread, centre = scales(evidence.train), centres(evidence.train)
    order = evidence.stream(f"{purpose}: order").permutation(len(rows))
    synthetic = by_scale(take(rows, order), spread, centre)
    found = [
        links(synthetic, by_scale(people, spread, centre), halves, threads=evidence.threads)
        for people in targets(evidence)
    ]
    return Links(*found)


def targets(evidence: Evidence) -> tuple[Encoded, Encoded]:
    """As many members as strangers, at most as many as attacks are made."""
    members, strangers = evidence.picked("linkability")
    return take(evidence.members, members), take(evidence.strangers, strangers)


def judge(found: Links, confidence: float, whose: Sides = ALONE) -> risk.Risk:
    """The risk of an attack; attacks on rows of one person count as fewer independent ones."""
    attacked = (risk.counted(*side) for side in zip(found, whose, strict=True))
    (hits, n), (control_hits, n_control) = attacked
    return risk.estimate(hits, n, control_hits, n_control, confidence)


def measure(evidence: Evidence) -> Measurement:
    """The worse split by its upper bound; the control links through test rows."""
    rows = evidence.at_most(evidence.synthetic, "linkability: rows")
    test = evidence.at_most(evidence.test, "linkability: test rows")
    halves = splits(evidence)
    confidence = 1 - (1 - evidence.confidence) / len(halves)
    found = {name: attack(evidence, rows, both, "linkability") for name, both in halves.items()}
    whose = evidence.whose.take(*evidence.picked("linkability"))
    risks = {name: judge(each, confidence, whose) for name, each in found.items()}
    worst = max(risks, key=lambda name: risks[name].ucb)
    tried = attack(evidence, test, halves[worst], "linkability: control")
    control = judge(tried, confidence, whose)
    groups = subgroups(evidence, *targets(evidence), whose)
    members, strangers = (people.astype(np.float64) for people in found[worst])
    return Measurement(
        id=ID,
        family="privacy",
        estimate=risks[worst].estimate,
        lcb=risks[worst].lcb,
        ucb=risks[worst].ucb,
        n=len(found[worst].members),
        baseline=0.0,
        control=control.estimate,
        unit="share of attacks",
        better="lower",
        confidence=evidence.confidence,
        method="(r_members - r_strangers) / (1 - r_strangers) of pairs of records whose nearest "
        f"synthetic row is the same, Gower distance, worst of {len(halves)} splits with Bonferroni",
        mde=risks[worst].mde,
        details={
            "worst": worst,
            "splits": [_split(evidence, name, halves[name], risks[name], len(rows))
                       for name in halves],
            "neighbours": N_NEIGHBOURS,
            "rows": len(rows),
            "subgroups": compare(groups, members, strangers, evidence.confidence, whose),
        },
    )  # fmt: skip


def _split(
    evidence: Evidence, name: str, halves: Halves, found: risk.Risk, n_rows: int
) -> dict[str, Any]:
    return {
        "split": name,
        "columns": [[evidence.names[place] for place in half] for half in halves],
        "members": found.attack.value,
        "strangers": found.control.value,
        "naive": naive(n_rows, N_NEIGHBOURS),
        "risk": found.estimate,
        "lcb": found.lcb,
        "ucb": found.ucb,
    }


SUITE = Suite.of(ID, measure, ids=(ID,), weight=3)
