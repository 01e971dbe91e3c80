"""The words of the report: one plain sentence per measurement, and what it does not prove.

The reader is a data protection officer who decides, not a statistician who already knows.  So
each measurement says what was done to whom, in numbers out of 100 where that is possible, with
its interval and what chance or never-seen people give.  The report claims no legal status of
the data: it says which attacks were tried, what they found, and what was not tried.

Each family of measurements has a module: its sentences, its entries in `METRICS`, and its `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Collection

from synthfactory.release.words import fidelity, privacy, utility
from synthfactory.release.words.gaps import CLAIMED as CLAIMED
from synthfactory.release.words.gaps import GAPS as GAPS
from synthfactory.release.words.gaps import RARE_KEPT as RARE_KEPT
from synthfactory.release.words.gaps import Gap as Gap
from synthfactory.release.words.gaps import not_assessed as not_assessed
from synthfactory.release.words.gaps import rare_brief as rare_brief
from synthfactory.release.words.gaps import rare_rows as rare_rows
from synthfactory.release.words.gaps import rare_sentence as rare_sentence
from synthfactory.release.words.glossary import CONTROLS as CONTROLS
from synthfactory.release.words.glossary import GLOSSARY as GLOSSARY
from synthfactory.release.words.kinds import Group as Group
from synthfactory.release.words.kinds import Words as Words
from synthfactory.release.words.numbers import PERCENT as PERCENT
from synthfactory.release.words.numbers import Json as Json
from synthfactory.release.words.numbers import is_share as is_share
from synthfactory.release.words.numbers import measured as measured
from synthfactory.release.words.numbers import number as number
from synthfactory.release.words.numbers import p_value as p_value
from synthfactory.release.words.numbers import plain_text as plain_text
from synthfactory.release.words.numbers import points as points
from synthfactory.release.words.numbers import short as short
from synthfactory.release.words.numbers import span as span
from synthfactory.release.words.subgroups import SIGNIFICANT as SIGNIFICANT
from synthfactory.release.words.subgroups import group_name as group_name
from synthfactory.release.words.subgroups import group_value as group_value
from synthfactory.release.words.subgroups import groups as groups

FAMILIES: dict[str, tuple[str, str]] = {
    "fidelity": ("Fidelity", "Does it look like the original?"),
    "privacy": ("Privacy", "Did it leak its training persons?"),
    "utility": ("Utility", "Does it serve as the original would?"),
}

METRICS: dict[str, Words] = {**fidelity.METRICS, **privacy.METRICS, **utility.METRICS}

HEADLINES: dict[str, tuple[str, ...]] = {
    "fidelity": fidelity.HEADLINES,
    "privacy": privacy.HEADLINES,
    "utility": utility.HEADLINES,
}

GROUPS: dict[str, tuple[Group, ...]] = {
    "privacy": privacy.GROUPS,
    "fidelity": fidelity.GROUPS,
    "utility": utility.GROUPS,
}
OTHER = Group(
    key="other", title="Further measurements", lead="Not yet part of a group.", metrics=()
)


def words_of(metric: str) -> Words:
    """The words of a measurement; a plain wording for one that has none of its own."""
    return METRICS.get(metric) or Words(
        title=metric.split(".")[-1].replace("_", " ").capitalize(),
        question="What was measured?",
        sentence=_plain_sentence,
        limits="One number describes one aspect only.",
    )


def _plain_sentence(finding: Json) -> str:
    unit = str(finding.get("unit", ""))
    said = f"Measured {measured(finding['estimate'], unit)}"
    said += f" ({span(finding, lambda value: measured(value, unit))})"
    for name in ("control", "baseline"):
        if finding.get(name) is not None:
            said += f"; {name} {measured(finding[name], unit)}"
    return said + "."


def grouped(family: str, found: Collection[str]) -> list[tuple[Group, list[str]]]:
    """The groups of a family with those of their measurements that were made; none is lost.

    Parameters
    ----------
    family
        ``fidelity``, ``privacy`` or ``utility``.
    found
        Ids of this family's measurements.
    """
    groups = GROUPS.get(family, ())
    known = {metric for group in groups for metric in group.metrics}
    rest = [metric for metric in found if metric not in known]
    made = [(group, [metric for metric in group.metrics if metric in found]) for group in groups]
    return [(group, metrics) for group, metrics in [*made, (OTHER, rest)] if metrics]
