"""Phrases that the sentences of several families share."""

from __future__ import annotations

import math
from collections.abc import Callable

from synthfactory.release.words.numbers import Json, points, span


def no_more(value: float) -> bool:
    """Whether a difference of shares is nothing, as written."""
    return not points(abs(value)).strip("0.")


def more(finding: Json) -> str:
    """A difference of shares in words: ``0.58 fewer`` for -0.0058, ``no more`` for 0."""
    estimate = finding["estimate"]
    if estimate is None or not math.isfinite(estimate):
        return "– more"
    if no_more(estimate):
        return "no more"
    return f"{points(abs(estimate))} {'more' if estimate > 0 else 'fewer'}"


def more_span(finding: Json) -> str:
    """The interval of a difference of shares: ``0.11 fewer to 0.11 more``."""
    low, high = finding.get("lcb"), finding.get("ucb")
    if low is None or high is None:
        return span(finding, points)
    if low >= 0:
        return f"{points(low)} to {points(high)} more"
    if high <= 0:
        return f"{points(-high)} to {points(-low)} fewer"
    if no_more(low):
        return f"0 to {points(high)} more"
    return f"{points(-low)} fewer to {points(high)} more"


def kept(finding: Json) -> str:
    """A share that is kept; less than nothing, and more than all, are said as such."""
    estimate = finding["estimate"]
    told = f"{points(estimate)} of 100 parts"
    if estimate is not None and estimate < 0:
        return f"nothing ({told}; {span(finding, points)})"
    if estimate is not None and estimate > 1:
        return f"everything ({told}; {span(finding, points)})"
    return f"{told} ({span(finding, points)})"


def if_known(value: float | None, text: str, write: Callable[[float | None], str] = points) -> str:
    return text.format(write(value)) if value is not None else ""
