"""A suite: what is measured together, in pieces that any worker may make.

A piece depends on the evidence and on its own name alone, never on other pieces or on who makes it:
its chance is addressed (`Evidence.stream`).  So pieces that were made by many workers give, put
together, the same findings as one pass over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.measurement import ControlOutcome, Measurement

WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a suite found.

    Parameters
    ----------
    measurements
        In the order in which they are reported.
    failures
        What could not be measured, and why, by id.
    instrument
        Outcomes of planted leaks and clean controls.
    charts
        Aggregates for the report.
    """

    measurements: Sequence[Measurement] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    instrument: Sequence[ControlOutcome] = ()
    charts: Mapping[str, Any] = field(default_factory=dict)


def _one_piece(evidence: Evidence) -> Sequence[str]:
    return (WHOLE,)


def _no_model(evidence: Evidence, piece: str) -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Some measurements that are made together.

    Parameters
    ----------
    name
        What it is called, such as ``privacy.dcr``.
    ids
        The measurements that it makes; where one cannot be made, an `EvaluationError` says why.
    pieces
        The names of its pieces, cheapest to say: from the evidence.
    work
        Makes one piece; the result holds values alone (`pieces.pack`).  Row-level results are fine:
        they stay in the memory of workers, and in the sealed files of an unfinished evaluation.
    conclude
        From the evidence and every piece's result, by name, to what was found.
    weight
        About how many seconds it takes on Adult, for progress.
    shadows
        How many shadow models a piece trains, for progress.
    """

    name: str
    ids: tuple[str, ...]
    pieces: Callable[[Evidence], Sequence[str]] = _one_piece
    work: Callable[[Evidence, str], Any]
    conclude: Callable[[Evidence, Mapping[str, Any]], Found]
    weight: float = 1.0
    shadows: Callable[[Evidence, str], int] = _no_model

    @classmethod
    def of(
        cls,
        name: str,
        measure: Callable[[Evidence], Found | Measurement | Sequence[Measurement]],
        *,
        ids: Sequence[str],
        weight: float = 1.0,
    ) -> Suite:
        """A suite of a single piece, from a function that measures."""

        def conclude(evidence: Evidence, results: Mapping[str, Any]) -> Found:
            found = results[WHOLE]
            if isinstance(found, Found):
                return found
            return Found(measurements=(found,) if isinstance(found, Measurement) else found)

        return cls(
            name=name,
            ids=tuple(ids),
            work=lambda evidence, piece: measure(evidence),
            conclude=conclude,
            weight=weight,
        )
