"""What the report says about a measurement, and which measurements are read together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synthfactory.release.words.numbers import Json


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the report says about one kind of measurement.

    Parameters
    ----------
    title
        A short name.
    question
        What a reader wants to know, as a question.
    sentence
        From a measurement (as a dictionary) to one sentence with its numbers.
    limits
        What a good value does not prove.
    remedy
        What to try when its rule is missed.
    control, baseline
        What the measurement's control and baseline stand for.
    """

    title: str
    question: str
    sentence: Callable[[Json], str]
    limits: str
    remedy: str = ""
    control: str = "Fresh real rows"
    baseline: str = "chance"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Measurements of one family that are read together.

    Parameters
    ----------
    key
        A short name, for links.
    title, lead
        Its heading, and one sentence about what is done.
    metrics
        Ids, in the order in which they are read.
    """

    key: str
    title: str
    lead: str
    metrics: tuple[str, ...]
