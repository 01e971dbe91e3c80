"""The instrument's own test: planted leaks must be found, clean data must pass, in every run.

Four leaks and two clean tables take the place of the synthetic rows, and the cheap attacks judge
them.  An alarm is a bound at 99.9 % confidence beyond a margin: with two clean tables and four
attacks, an instrument that works is called invalid by chance in at most one run of 250.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synthfactory.evaluation.evidence import Evidence, shuffled, take
from synthfactory.evaluation.measurement import ControlOutcome
from synthfactory.evaluation.neighbours import scales
from synthfactory.evaluation.privacy import dcr, domias, exact_match
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded, row_numbers

N_ROWS = 5_000
N_COLLAPSED = 20
MEMORISED = 0.01
NOISE = 0.01
SHIFT = 1.0
CONFIDENCE = 0.999
EXACT_MARGIN = 0.001
SHARE_MARGIN = 0.01


def planted_leaks(evidence: Evidence) -> Mapping[str, Encoded]:
    """Tables that leak on purpose."""
    chance = evidence.stream("controls: leaks")
    train = evidence.train
    n_rows = min(N_ROWS, 2 * len(train))
    picked = take(train, chance.permutation(len(train))[:n_rows])
    spread = scales(train)
    noisy = picked.numbers + NOISE * spread * chance.standard_normal(picked.numbers.shape)
    n_memorised = max(int(MEMORISED * N_ROWS), 1)
    memorised = take(
        train, chance.choice(len(train), n_memorised, replace=n_memorised > len(train))
    )
    others = shuffled(train, N_ROWS - n_memorised, chance)
    few = chance.permutation(len(train))[:N_COLLAPSED]
    return {
        "noisy_copy": Encoded(numbers=noisy, codes=picked.codes),
        "shifted_copy": Encoded(numbers=picked.numbers + SHIFT * spread, codes=picked.codes),
        "memorised_1pct": Encoded(
            numbers=np.vstack([memorised.numbers, others.numbers]),
            codes=np.vstack([memorised.codes, others.codes]),
        ),
        "collapse": take(train, chance.choice(few, n_rows)),
    }


def clean_tables(evidence: Evidence) -> Mapping[str, Encoded]:
    """Tables that leak nothing about members."""
    chance = evidence.stream("controls: clean")
    # The other half of the test rows is what an attacker knows of the population.
    fresh = domias.halves(evidence)[0]
    return {
        "fresh_real": take(fresh, np.arange(min(len(fresh), N_ROWS))),
        "independent_marginals": shuffled(evidence.train, N_ROWS, chance),
    }


def alarms(evidence: Evidence, rows: Encoded) -> tuple[str, ...]:
    """Which attacks raise the alarm about these rows."""
    members, strangers, judged = row_numbers(evidence.train, evidence.control, rows)
    copies = exact_match.excess(members, strangers, judged, CONFIDENCE)
    scaled = dcr.scaled_share(evidence, rows, CONFIDENCE)
    aligned = dcr.aligned_share(evidence, rows, CONFIDENCE)
    crowded = domias.worst_area(evidence, rows, domias.halves(evidence)[1], CONFIDENCE)
    raised = {
        exact_match.ID: copies.lcb > EXACT_MARGIN,
        dcr.ID: scaled.lcb > 0.5 + SHARE_MARGIN,
        dcr.ID_ALIGNED: aligned.lcb > 0.5 + SHARE_MARGIN,
        domias.ID_KNN: crowded.lcb > 0.5 + SHARE_MARGIN,
    }
    return tuple(name for name, rings in raised.items() if rings)


def work(evidence: Evidence, piece: str) -> tuple[str, ...]:
    """The alarms that one table raises, named ``<kind>: <name>``."""
    kind, name = piece.split(": ")
    tables = planted_leaks(evidence) if kind == "positive" else clean_tables(evidence)
    return alarms(evidence, tables[name])


def conclude(evidence: Evidence, raised: Mapping[str, tuple[str, ...]]) -> Found:
    """The outcomes, leaks first, from the alarms that each table raised."""
    outcomes = []
    for piece in PIECES:
        kind, name = piece.split(": ")
        outcomes.append(
            ControlOutcome(
                id=name,
                kind=kind,  # type: ignore[arg-type]
                flagged=bool(raised[piece]),
                by=raised[piece],
            )
        )
    return Found(instrument=outcomes)


PIECES = (
    "positive: noisy_copy",
    "positive: shifted_copy",
    "positive: memorised_1pct",
    "positive: collapse",
    "negative: fresh_real",
    "negative: independent_marginals",
)

SUITE = Suite(
    name="instrument",
    ids=("instrument",),
    pieces=lambda evidence: PIECES,
    work=work,
    conclude=conclude,
    weight=25,
)
