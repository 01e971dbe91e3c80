"""Distance to closest record: do synthetic rows lie nearer to members than to strangers?

For each synthetic row, the nearest of n members is compared with the nearest of n strangers.  The
share of rows for which the members win, ties counted half, is 0.5 when the generator treats both
alike.  Three readings:

- `privacy.dcr_share`: the smaller distance wins; numbers divided by their real spread;
- `privacy.dcr_share_aligned`: numbers replaced by each table's own ranks, so that a constant shift
  or a stretch of every column cannot hide copies ("The DCR Delusion", arXiv 2505.01524);
- `privacy.nndr_share`: the smaller ratio of nearest to second nearest distance wins; a copy that
  was moved a little stands out by it where people are far from each other.

Rows of one person, where an entity is declared, are members or strangers together, so synthetic
rows near any of them win or lose together.

Such a test may fail a dataset; it never passes one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from synthfactory.evaluation.evidence import Evidence, take
from synthfactory.evaluation.intervals import Interval, detectable, wilson, z_value
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import (
    Points,
    by_rank,
    by_scale,
    centres,
    nearest_k,
    part,
    scales,
)
from synthfactory.evaluation.people import FEWEST_COMPARED
from synthfactory.evaluation.subgroups import N_TENTHS, holm, n_people, rarity
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

ID = "privacy.dcr_share"
ID_ALIGNED = "privacy.dcr_share_aligned"
ID_RATIO = "privacy.nndr_share"

EXACT_ROWS = 200_000
ROWS_AT_ONCE = 50_000

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Near(NamedTuple):
    """Where each of n rows lies.

    Parameters
    ----------
    members, strangers
        **Shape** (n, k): distances to the nearest members and strangers, ascending.
    real
        **Shape** (n,): the nearest real row; members first, then strangers.
    """

    members: Floats32
    strangers: Floats32
    real: Integers


def near(rows: Points, members: Points, strangers: Points, *, k: int, threads: int) -> Near:
    """Distances to the ``k`` nearest members and strangers, and the nearest of all."""
    to_members, member = nearest_k(rows, members, k, threads=threads)
    to_strangers, stranger = nearest_k(rows, strangers, k, threads=threads)
    closer = to_members[:, 0] <= to_strangers[:, 0]
    return Near(
        to_members,
        to_strangers,
        np.where(closer, member[:, 0], len(members) + stranger[:, 0]),
    )


def merge(parts: Sequence[Near]) -> Near:
    """The rows of all parts, in order."""
    return Near(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def ratios(distances: Floats32) -> Floats32:
    """**Shape** (n,): nearest by second nearest distance; 0 for a copy, also of several rows."""
    second = distances[:, 1]
    return np.divide(distances[:, 0], second, out=np.zeros_like(second), where=second > 0)


def wins(members: Floats32, strangers: Floats32) -> Floats:
    """**Shape** (n,): 1 where members are smaller, 0.5 where equal, 0 where strangers are."""
    return np.where(members < strangers, 1.0, np.where(members == strangers, 0.5, 0.0))


def share(
    won: Floats,
    real: Integers,
    confidence: float,
    n_each: int | None = None,
    whose: Integers | None = None,
) -> Interval:
    """Mean of the wins, with an interval for rows that share their nearest real person.

    Which of the real people are members is chance, and all rows near the same one win or lose
    together.  Ties tell nothing.  So the interval is Wilson's for the share of wins among decided
    rows, at an effective number of independent ones.

    Parameters
    ----------
    won
        **Shape** (n,), from `wins`.
    real
        **Shape** (n,): the nearest real row of each row.
    confidence
        Coverage.
    n_each
        How many member rows there are, and stranger rows; given when nearness to the nearest row
        alone decides.  Then real rows that no row is near to count too (`_exchangeable`), and the
        interval is narrower.
    whose
        **Shape** (n_real,): whose each real row is; None where every row is alone.
    """
    decided = won != 0.5
    n_decided = int(decided.sum())
    # With every row a tie, one undecided row is as much as could have been missed.
    mean, effective, weight = 0.5, 1.0, max(n_decided, 1) / len(won)
    if n_decided > 0:
        mean = float(won[decided].mean())
        if n_each is None:
            near = real[decided]
            effective = _clustered(won[decided], near if whose is None else whose[near])
        else:
            effective = _exchangeable(mean, real[decided], n_each, whose)
    found = wilson(mean * effective, effective, confidence)
    return Interval(*(0.5 + weight * (bound - 0.5) for bound in found))


def _clustered(won: Floats, near: Integers) -> float:
    """Effective number of rows: Kish's for clusters, or fewer where their variance says so.

    Kish 1965, *Survey Sampling*: ``(sum w)**2 / sum w**2`` of the clusters' sizes ``w``.
    """
    mean = float(won.mean())
    _, clusters = np.unique(near, return_inverse=True)
    sizes = np.bincount(clusters).astype(np.float64)
    sums = np.bincount(clusters, weights=won - mean)
    kish = len(won) ** 2 / float((sizes**2).sum())
    variance = float((sums**2).sum()) / len(won) ** 2
    return min(kish, mean * (1 - mean) / variance) if variance > 0 else kish


def _exchangeable(mean: float, real: Integers, n_each: int, whose: Integers | None = None) -> float:
    """Effective number of rows when members are a random half of the real people.

    With ``w`` the number of rows near each of the ``2 n`` real people, the share's variance over
    all choices of the members is ``sum (w - mean w)**2 / (2 n - 1) * n / 2 / (sum w)**2``; where
    members and strangers differ, each side has a variance of its own (delta method).  Where people
    have different numbers of rows, it is rather too large: both sides have equally many rows.
    """
    sizes = np.bincount(real, minlength=2 * n_each).astype(np.float64)
    total = float(len(real))

    def sum_variance(rows: slice) -> float:
        each = sizes[rows]
        if whose is not None:
            _, persons = np.unique(whose[rows], return_inverse=True)
            each = np.bincount(persons, weights=each).astype(np.float64)
        n = len(each)
        return float(((each - each.mean()) ** 2).sum()) * n / max(n - 1, 1)

    # Counts vary at least as Poisson's do: so many rows are no more than that many.
    by_chance = total**2 / max(sum_variance(slice(None)), total)
    members, strangers = sum_variance(slice(n_each)), sum_variance(slice(n_each, None))
    variance = ((1 - mean) ** 2 * members + mean**2 * strangers) / total**2
    return min(by_chance, mean * (1 - mean) / variance) if variance > 0 else by_chance


def nearer_share(
    found: Near, confidence: float, n_each: int, whose: Integers | None = None
) -> Interval:
    """P(nearer to a member) + P(equally near) / 2.

    Parameters
    ----------
    found
        From `near`.
    confidence
        Coverage.
    n_each
        Number of member rows, and of stranger rows.
    whose
        See `share`.
    """
    won = wins(found.members[:, 0], found.strangers[:, 0])
    return share(won, found.real, confidence, n_each, whose)


def error(interval: Interval, confidence: float) -> float:
    """The standard error that an interval's width stands for."""
    return (interval.ucb - interval.lcb) / (2 * z_value(confidence))


Reading = Callable[[Evidence, Encoded], tuple[Points, Points, Points]]


def scaled(evidence: Evidence, rows: Encoded) -> tuple[Points, Points, Points]:
    """Rows, members and strangers, numbers divided by their real spread."""
    spread, centre = scales(evidence.train), centres(evidence.train)
    return (
        by_scale(rows, spread, centre),
        by_scale(evidence.members, spread, centre),
        by_scale(evidence.strangers, spread, centre),
    )


def aligned(evidence: Evidence, rows: Encoded) -> tuple[Points, Points, Points]:
    """Ranks: of real rows among all real rows, of the judged rows among themselves."""
    n_members = len(evidence.members)
    real = by_rank(real_rows(evidence))
    return by_rank(rows), part(real, 0, n_members), part(real, n_members, len(real))


READINGS: Mapping[str, Reading] = {"scaled": scaled, "aligned": aligned}
NEAREST = {"scaled": 2, "aligned": 1}


def real_rows(evidence: Evidence) -> Encoded:
    """Members, then strangers."""
    members, strangers = evidence.members, evidence.strangers
    return Encoded(
        numbers=np.vstack([members.numbers, strangers.numbers]),
        codes=np.vstack([members.codes, strangers.codes]),
    )


def whose_real(evidence: Evidence) -> Integers | None:
    """**Shape** (n_members + n_strangers,): whose each of `real_rows` is; None for rows alone."""
    members, strangers = evidence.whose
    if members is None or strangers is None:
        return None
    return np.concatenate([members, int(members.max()) + 1 + strangers])


def scaled_share(evidence: Evidence, rows: Encoded, confidence: float) -> Interval:
    """The share on numbers divided by their real spread."""
    return _share(scaled, evidence, rows, confidence)


def aligned_share(evidence: Evidence, rows: Encoded, confidence: float) -> Interval:
    """The share on ranks."""
    return _share(aligned, evidence, rows, confidence)


def _share(how: Reading, evidence: Evidence, rows: Encoded, confidence: float) -> Interval:
    found = near(*how(evidence, rows), k=1, threads=evidence.threads)
    return nearer_share(found, confidence, len(evidence.members), whose_real(evidence))


def judged(evidence: Evidence, table: str) -> Encoded:
    """All synthetic or test rows; a sample of them where there are more than 200,000."""
    rows: Encoded = getattr(evidence, table)
    most = max(evidence.max_rows, EXACT_ROWS)
    if len(rows) <= most:
        return rows
    picked = evidence.stream(f"distances: {table} rows").permutation(len(rows))[:most]
    return take(rows, np.sort(picked))


def pieces(evidence: Evidence) -> list[str]:
    """``<reading> <table> <number>``: so many rows at once."""
    return [
        f"{reading} {table} {number}"
        for reading in READINGS
        for table in ("synthetic", "test")
        for number in range(-(-len(judged(evidence, table)) // ROWS_AT_ONCE))
    ]


def work(evidence: Evidence, piece: str) -> Near:
    """Where the rows of one piece lie."""
    reading, table, number = piece.split()
    rows, members, strangers = READINGS[reading](evidence, judged(evidence, table))
    first = int(number) * ROWS_AT_ONCE
    block = part(rows, first, first + ROWS_AT_ONCE)
    return near(block, members, strangers, k=NEAREST[reading], threads=evidence.threads)


def conclude(evidence: Evidence, results: Mapping[str, Near]) -> Found:
    """All three readings; the control judges the test rows instead."""

    def whole(reading: str, table: str) -> Near:
        return merge([results[piece] for piece in pieces(evidence)
                      if piece.startswith(f"{reading} {table} ")])  # fmt: skip

    tenths = rarity_tenths(evidence)
    found = []
    for name, reading, of, how in (
        (ID, "scaled", _nearest, "d: distance to the nearest, numbers by their 5 to 95 % spread"),
        (ID_ALIGNED, "aligned", _nearest, "d: distance to the nearest, each table's own ranks"),
        (ID_RATIO, "scaled", ratios, "d: distance to the nearest by that to the second nearest"),
    ):
        rows, test = whole(reading, "synthetic"), whole(reading, "test")
        found.append(_measurement(evidence, name, rows, test, of, how, tenths))
    return Found(measurements=found)


def measure(evidence: Evidence) -> Sequence[Measurement]:
    """All three readings in one pass."""
    return conclude(
        evidence, {piece: work(evidence, piece) for piece in pieces(evidence)}
    ).measurements


def _nearest(distances: Floats32) -> Floats32:
    return distances[:, 0]


def _measurement(
    evidence: Evidence,
    name: str,
    rows: Near,
    test: Near,
    of: Callable[[Floats32], Floats32],
    how: str,
    tenths: Integers,
) -> Measurement:
    confidence = evidence.confidence
    n_each = len(evidence.members) if of is _nearest else None
    won = wins(of(rows.members), of(rows.strangers))
    whose = whose_real(evidence)
    value = share(won, rows.real, confidence, n_each, whose)
    return Measurement(
        id=name,
        family="privacy",
        estimate=value.estimate,
        lcb=value.lcb,
        ucb=value.ucb,
        n=len(won),
        baseline=0.5,
        control=float(wins(of(test.members), of(test.strangers)).mean()),
        unit="share of synthetic rows",
        better="lower",
        confidence=confidence,
        method=f"P(d_member < d_stranger) + P(equal) / 2, Gower distance, {how}; Wilson interval "
        "at the effective number of rows, clustered by nearest real person",
        mde=detectable(error(value, confidence), confidence),
        details={
            "n_members": len(evidence.members),
            "n_strangers": len(evidence.strangers),
            "tied": float((won == 0.5).mean()),
            "to_members": _quantiles(of(rows.members)),
            "to_strangers": _quantiles(of(rows.strangers)),
            "by_rarity": by_rarity(won, rows.real, tenths, confidence, whose),
        },
    )


def _quantiles(values: Floats32) -> dict[str, float]:
    return {"5 %": float(np.quantile(values, 0.05)), "50 %": float(np.median(values))}


def rarity_tenths(evidence: Evidence) -> Integers:
    """**Shape** (n_members + n_strangers,): tenth of each real row, 0 common to 9 rare."""
    rare = rarity(evidence, real_rows(evidence))
    limits = np.quantile(rare, np.arange(1, N_TENTHS) / N_TENTHS)
    return np.searchsorted(limits, rare, side="right")


def by_rarity(
    won: Floats,
    real: Integers,
    tenths: Integers,
    confidence: float,
    whose: Integers | None = None,
) -> dict[str, Any]:
    """The share among rows whose nearest real row is that rare; see `subgroups.compare`.

    Returns
    -------
    dict
        ``worst``: the tenth (1 common to 10 rare) with the smallest p, its share, interval, ``n``
        rows, one-sided ``p`` against one half and Holm's ``p_holm``; ``rarest``: the tenth tenth
        alike; ``n_groups``.
        Tenths with fewer than 50 rows or 50 people are left out.
    """
    mine = tenths[real]
    results: list[dict[str, Any]] = []
    for tenth in range(N_TENTHS):
        rows = mine == tenth
        if min(int(rows.sum()), n_people(tenths == tenth, whose)) < FEWEST_COMPARED:
            continue
        found = share(won[rows], real[rows], confidence, whose=whose)
        p = float(stats.norm.sf((found.estimate - 0.5) / error(found, confidence)))
        results.append({"tenth": tenth + 1, "share": found.estimate, "lcb": found.lcb,
                        "ucb": found.ucb, "p": p, "n": int(rows.sum())})  # fmt: skip
    for result, adjusted in zip(results, holm([r["p"] for r in results]), strict=True):
        result["p_holm"] = adjusted
    return {
        "worst": min(results, key=lambda result: float(result["p"]), default=None),
        "rarest": next((r for r in results if r["tenth"] == N_TENTHS), None),
        "n_groups": len(results),
    }


SUITE = Suite(
    name="privacy.dcr",
    ids=(ID, ID_ALIGNED, ID_RATIO),
    pieces=pieces,
    work=work,
    conclude=conclude,
    weight=2,
)
