"""Who is hit hardest: leakage by subgroup and by rarity, corrected for the number of looks.

A mean over all people can hide that a few are exposed.  So the same scores are compared within
subgroups: people who share a common level of a column, and tenths of the people by how rare their
rows are.  Where one person has several rows, groups are of rows and people are counted.  Many
looks find something by chance; Holm's step-down procedure (1979,
https://www.jstor.org/stable/4615733) keeps the chance of any false alarm at one look's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from synthfactory.evaluation.evidence import ALONE, Evidence, Sides
from synthfactory.evaluation.intervals import mean_variance, normal
from synthfactory.evaluation.people import FEWEST_COMPARED
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Persons = npt.NDArray[np.int64]

MAX_LEVELS = 12
N_TENTHS = 10
RAREST = "rarest tenth"


class Group(NamedTuple):
    """Which members and which strangers belong to it."""

    members: Mask
    strangers: Mask


def rarity(evidence: Evidence, rows: Encoded) -> Floats:
    """**Shape** (n_rows,): ``-log`` of the product of each bin's share among the train rows."""
    binning = evidence.binning
    total = np.zeros(len(rows))
    train, mine = binning(evidence.train), binning(rows)
    for place, size in enumerate(binning.sizes):
        counts = np.bincount(train[:, place], minlength=size) + 0.5
        total -= np.log(counts / counts.sum())[mine[:, place]]
    return total


def n_people(group: Mask, persons: Persons | None) -> int:
    """How many people have the rows of a group; ``persons`` is None where every row is alone.

    >>> n_people(np.array([True, True, False]), np.array([7, 7, 8]))
    1
    """
    return int(group.sum()) if persons is None else len(np.unique(persons[group]))


def subgroups(
    evidence: Evidence, members: Encoded, strangers: Encoded, whose: Sides = ALONE
) -> dict[str, Group]:
    """Subgroups with at least 50 people on both sides, by name.

    Levels of the discrete columns that have few of them, and the rarest tenth of all rows.
    Groups of fewer people are left out: nothing could be said about them, and a rare level's name
    must not reach a report.

    Parameters
    ----------
    evidence
        What rarity is measured in.
    members, strangers
        The rows that are compared.
    whose
        Whose each of these rows is.
    """

    def large(group: Group) -> bool:
        return min(map(n_people, group, whose)) >= FEWEST_COMPARED

    found: dict[str, Group] = {}
    for place, column in enumerate(evidence.schema.discrete):
        if len(column.categories) > MAX_LEVELS:
            continue
        for code, level in enumerate(column.categories):
            group = Group(members.codes[:, place] == code, strangers.codes[:, place] == code)
            if large(group):
                found[f"{column.name} = {level}"] = group
    rare, other = rarity(evidence, members), rarity(evidence, strangers)
    limit = np.quantile(np.concatenate([rare, other]), 1 - 1 / N_TENTHS)
    group = Group(rare >= limit, other >= limit)
    if large(group):
        found[RAREST] = group
    return found


def compare(
    groups: Mapping[str, Group],
    members: Floats,
    strangers: Floats,
    confidence: float,
    whose: Sides = ALONE,
) -> dict[str, Any]:
    """Mean score of members minus strangers within every group; the worst one, and the rarest.

    Parameters
    ----------
    groups
        From `subgroups`.
    members, strangers
        **Shape** (n,): a success (0 or 1) or a score of every row.
    confidence
        Of each group's own interval.
    whose
        Whose each row is: rows of one person succeed together.

    Returns
    -------
    dict
        ``worst``: the group with the smallest p, with its advantage, interval, one-sided ``p`` and
        Holm's ``p_holm`` over all groups, and the people behind it; ``rarest``: the rarest tenth
        alike; ``n_groups``.
    """
    results = [
        _difference(name, group, (members, strangers), whose, confidence)
        for name, group in groups.items()
    ]
    if not results:
        return {"worst": None, "rarest": None, "n_groups": 0}
    for result, adjusted in zip(results, holm([r["p"] for r in results]), strict=True):
        result["p_holm"] = adjusted
    return {
        "worst": min(results, key=lambda result: float(result["p"])),
        "rarest": next((result for result in results if result["group"] == RAREST), None),
        "n_groups": len(results),
    }


def _difference(
    name: str, group: Group, scores: tuple[Floats, Floats], whose: Sides, confidence: float
) -> dict[str, Any]:
    people = [n_people(*side) for side in zip(group, whose, strict=True)]
    means, variances = [], []
    for inside, values, persons, n in zip(group, scores, whose, people, strict=True):
        mine = values[inside].astype(np.float64)
        variance = mean_variance(mine, None if persons is None else persons[inside])
        means.append(float(mine.mean()))
        # Half a person's success on each side keeps the error of all-or-nothing groups above zero.
        variances.append(max(variance, 0.25 / n**2 * float(np.ptp(np.r_[mine, 0.0, 1.0]))))
    value, error = means[0] - means[1], math.sqrt(sum(variances))
    found = normal(value, error, confidence)
    return {
        "group": name,
        "advantage": value,
        "lcb": found.lcb,
        "ucb": found.ucb,
        "p": float(stats.norm.sf(value / error)),
        "n_members": people[0],
        "n_strangers": people[1],
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's adjusted p values, in the given order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return [float(p) for p in adjusted]
