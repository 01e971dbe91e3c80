"""Distance to closest record: do synthetic rows lie nearer to members than to strangers?

For each synthetic row, the distance to the nearest of n members is compared with the distance to
the nearest of n strangers.  The share of rows that lie nearer to a member, ties counted half, is
0.5 when the generator treats both alike.  Two readings:

- `privacy.dcr_share`: numbers divided by their real spread;
- `privacy.dcr_share_aligned`: numbers replaced by each table's own ranks, so that a constant shift
  or a stretch of every column cannot hide copies ("The DCR Delusion", arXiv 2505.01524).

Such a test may fail a dataset; it never passes one alone.
"""

from __future__ import annotations

import numpy as np

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import Interval, clustered_mean
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, by_rank, by_scale, nearest, part, scales
from synthfactory.evaluation.suite import Suite
from synthfactory.tables import Encoded

ID = "privacy.dcr_share"
ID_ALIGNED = "privacy.dcr_share_aligned"


def nearer_share(
    synthetic: Points, members: Points, strangers: Points, *, threads: int, confidence: float
) -> Interval:
    """P(nearer to a member) + P(equally near) / 2, errors clustered by the nearest real row.

    Parameters
    ----------
    synthetic
        **Shape** (n_rows,) points.
    members, strangers
        Equally many points.
    """
    to_member, member = nearest(synthetic, members, threads=threads)
    to_stranger, stranger = nearest(synthetic, strangers, threads=threads)
    wins = np.where(to_member < to_stranger, 1.0, np.where(to_member == to_stranger, 0.5, 0.0))
    nearest_row = np.where(to_member <= to_stranger, member, len(members) + stranger)
    found = clustered_mean(wins, nearest_row, confidence)
    return Interval(found.estimate, max(found.lcb, 0.0), min(max(found.ucb, found.estimate), 1.0))


def scaled_share(evidence: Evidence, rows: Encoded, confidence: float) -> Interval:
    """The share on numbers divided by their real spread."""
    spread = scales(evidence.train)
    synthetic, members, strangers = (
        by_scale(part, spread) for part in (rows, evidence.members, evidence.strangers)
    )
    return nearer_share(
        synthetic, members, strangers, threads=evidence.threads, confidence=confidence
    )


def aligned_share(evidence: Evidence, rows: Encoded, confidence: float) -> Interval:
    """The share on ranks: real rows among all real rows, synthetic rows among themselves."""
    members, strangers = evidence.members, evidence.strangers
    real = Encoded(
        numbers=np.vstack([members.numbers, strangers.numbers]),
        codes=np.vstack([members.codes, strangers.codes]),
    )
    ranked = by_rank(real)
    return nearer_share(
        by_rank(rows),
        part(ranked, 0, len(members)),
        part(ranked, len(members), len(real)),
        threads=evidence.threads,
        confidence=confidence,
    )


def measure(evidence: Evidence) -> list[Measurement]:
    """Both readings; the control judges the test rows instead."""
    rows = evidence.at_most(evidence.synthetic, "dcr: rows")
    test = evidence.at_most(evidence.test, "dcr: test rows")
    found = []
    for name, share, how in (
        (ID, scaled_share, "numbers by their 5 to 95 % spread"),
        (ID_ALIGNED, aligned_share, "numbers by each table's own ranks"),
    ):
        value = share(evidence, rows, evidence.confidence)
        found.append(
            Measurement(
                id=name,
                family="privacy",
                estimate=value.estimate,
                lcb=value.lcb,
                ucb=value.ucb,
                n=len(rows),
                baseline=0.5,
                control=share(evidence, test, evidence.confidence).estimate,
                unit="share of synthetic rows",
                better="lower",
                confidence=evidence.confidence,
                method=f"P(d_member < d_stranger) + P(equal) / 2, Gower distance, {how}; errors "
                "clustered by nearest real row",
                details={
                    "n_members": len(evidence.members),
                    "n_strangers": len(evidence.strangers),
                },
            )
        )
    return found


SUITE = Suite.of("privacy.dcr", measure, ids=(ID, ID_ALIGNED), weight=10)
