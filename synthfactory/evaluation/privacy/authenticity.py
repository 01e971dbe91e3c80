"""Authenticity: which synthetic rows are more than blurred copies of a training row?

Alaa et al. 2022 (arXiv 2102.08921, section 3.3 and equation 9): a synthetic row is authentic when
its distance to its nearest training row is larger than that training row's own distance to its
nearest fellow.  A row that is as near as that, or nearer, could be the training row with noise.

Among rows that nobody trained on, by no means all are authentic: where two people happen to be
near each other, one of them is the other's "copy".  So the share is read beside its control, the
same share of real rows that nobody trained on.  In a table with few possible rows most people have
a twin, and most rows of any kind are not authentic.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from synthfactory.evaluation.evidence import Evidence, shuffled
from synthfactory.evaluation.intervals import detectable
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.neighbours import Points, by_scale, centres, nearest, nearest_k, scales
from synthfactory.evaluation.privacy.dcr import ROWS_AT_ONCE, error, judged, share
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

ID = "privacy.authenticity"

Authentic = tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]


def authentic(rows: Points, train: Points, *, threads: int) -> Authentic:
    """Which rows are authentic, and the training row nearest to each.

    Parameters
    ----------
    rows
        **Shape** (n_rows,) points.
    train
        At least two points.

    Returns
    -------
    authentic, nearest
        **Shape** (n_rows,) each: authentic or not, and the training row's number.

    Raises
    ------
    EvaluationError
        When there are fewer than two training rows.
    """
    distance, number = nearest(rows, train, threads=threads)
    used, place = np.unique(number, return_inverse=True)
    originals = Points(numbers=train.numbers[used], codes=train.codes[used])
    # A training row is nearest to itself, or as near to an equal one: its fellow comes second.
    fellows, _ = nearest_k(originals, train, 2, threads=threads)
    return distance > fellows[place, 1], number


def pieces(evidence: Evidence) -> list[str]:
    """``<table> <number>``: so many rows at once."""
    return [
        f"{table} {number}"
        for table in ("synthetic", "test", "independent")
        for number in range(-(-len(_rows(evidence, table)) // ROWS_AT_ONCE))
    ]


def _rows(evidence: Evidence, table: str) -> Encoded:
    if table == "independent":
        n_rows = min(len(evidence.test), evidence.max_rows)
        return shuffled(evidence.train, n_rows, evidence.stream("authenticity: independent"))
    return judged(evidence, table)


def work(evidence: Evidence, piece: str) -> Authentic:
    """The rows of one piece."""
    table, number = piece.split()
    first = int(number) * ROWS_AT_ONCE
    rows = _rows(evidence, table)
    block = Encoded(
        numbers=rows.numbers[first : first + ROWS_AT_ONCE],
        codes=rows.codes[first : first + ROWS_AT_ONCE],
    )
    spread, centre = scales(evidence.train), centres(evidence.train)
    return authentic(
        by_scale(block, spread, centre),
        by_scale(evidence.train, spread, centre),
        threads=evidence.threads,
    )


def conclude(evidence: Evidence, results: Mapping[str, Authentic]) -> Found:
    """The share of authentic rows; the control judges the test rows instead."""

    def whole(table: str) -> list[npt.NDArray[np.float64]]:
        mine = [found for piece, found in results.items() if piece.startswith(f"{table} ")]
        return [np.concatenate(arrays) for arrays in zip(*mine, strict=True)]

    is_authentic, number = whole("synthetic")
    confidence = evidence.confidence
    value = share(
        is_authentic.astype(np.float64),
        number.astype(np.int64),
        confidence,
        whose=evidence.entities("train"),
    )
    return Found(
        measurements=[
            Measurement(
                id=ID,
                family="privacy",
                estimate=value.estimate,
                lcb=value.lcb,
                ucb=value.ucb,
                n=len(is_authentic),
                baseline=float(whole("independent")[0].mean()),
                control=float(whole("test")[0].mean()),
                unit="share of synthetic rows",
                better="higher",
                confidence=confidence,
                method="share of rows farther from their nearest train row than that is from its "
                "nearest fellow (Alaa et al. 2022), Gower distance; Wilson interval at the "
                "effective number of rows, clustered by nearest training person",
                mde=detectable(error(value, confidence), confidence),
                details={
                    "n_train": len(evidence.train),
                    "train_rows_that_are_nearest": len(np.unique(number)) / len(evidence.train),
                },
            )
        ]
    )


def measure(evidence: Evidence) -> Measurement:
    """The share in one pass."""
    found = conclude(evidence, {piece: work(evidence, piece) for piece in pieces(evidence)})
    return found.measurements[0]


SUITE = Suite(
    name="privacy.authenticity",
    ids=(ID,),
    pieces=pieces,
    work=work,
    conclude=conclude,
    weight=2,
)
