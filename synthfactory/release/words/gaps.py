"""What was not assessed, and what was done about rare values."""

from __future__ import annotations

from dataclasses import dataclass

from synthfactory.release.words.numbers import Json, plain_text
from synthfactory.tables.rare import IN_WORDS


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that may not have been assessed.

    Parameters
    ----------
    what, meaning
        Its name, and what it means that it was not assessed.
    closed_by
        Measurements of which any closes the gap; none can close it when empty.
    """

    what: str
    meaning: str
    closed_by: tuple[str, ...] = ()


# No measurement: a generator's claim of differential privacy, which the audit's details repeat.
CLAIMED = "a claimed epsilon"
GAPS: tuple[Gap, ...] = (
    Gap(
        what="Singling out",
        meaning="No attack tried to isolate one person (WP216, criterion 1).",
        closed_by=("privacy.singling_out",),
    ),
    Gap(
        what="Linking records",
        meaning="No attack tried to tell which two records belong together (WP216, criterion 2).",
        closed_by=("privacy.linkability",),
    ),
    Gap(
        what="Guessing hidden attributes",
        meaning="No attack tried to guess what is hidden about a person (WP216, criterion 3).",
        closed_by=("privacy.attribute_inference",),
    ),
    Gap(
        what="Attackers who are hardly ever wrong",
        meaning="How many people are recognised almost for certain takes at least 1,000 persons "
        "never seen to tell.",
        closed_by=("privacy.tpr_at_1pct_fpr", "privacy.tpr_at_1permille_fpr"),
    ),
    Gap(
        what="Shadow-model membership inference",
        meaning="No attacker trained models of their own to recognise the traces of one person "
        "(evaluation=deep does).",
        closed_by=("privacy.membership_black_box",),
    ),
    Gap(
        what="Access to the model",
        meaning="Only the released rows were attacked; the trained model is not part of the "
        "release.",
        closed_by=("privacy.membership_white_box",),
    ),
    Gap(
        what="A population register",
        meaning="Nobody compared the rows with a register of the population (k-map).",
        closed_by=("privacy.k_map",),
    ),
    Gap(
        what="Differential privacy",
        meaning="None is claimed: the generator gives no mathematical bound on what one person "
        "changes.",
        closed_by=(CLAIMED,),
    ),
    Gap(
        what="Other releases of the same people",
        meaning="What this release reveals together with other tables was not examined.",
    ),
)
RARE_KEPT = {
    "what": "Rare values",
    "meaning": (
        "Rare values were kept: a level that one person has, or the largest number of all, may"
        " stand in the rows and in the model (dataset.min_people)."
    ),
}


def rare_sentence(report: Json) -> str:
    """What was done about values that few people have, in one sentence.

    >>> rare_sentence({"rareValues": {"minPeople": 10, "kept": False, "changes": []}})
    'No value of fewer than 10 people was found, so none was changed.'
    """
    rare = report["rareValues"]
    if rare["kept"]:
        return (
            "Rare values were kept: the order says that a level or an extreme of a single person"
            " may be learnt and released."
        )
    few = f"fewer than {rare['minPeople']} people"
    columns = {change["column"] for change in rare["changes"]}
    if not columns:
        return f"No value of {few} was found, so none was changed."
    were = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
    return f"Before anything was learnt, values of {few} were made common, in {were}."


def rare_brief(report: Json) -> str:
    """The same for a page that must stay one page.

    >>> rare_brief({"rareValues": {"minPeople": 10, "kept": False}})
    'Values of fewer than 10 people were made common first.'
    """
    rare = report["rareValues"]
    if rare["kept"]:
        return "Rare values were kept."
    return f"Values of fewer than {rare['minPeople']} people were made common first."


def rare_rows(report: Json) -> list[tuple[str, str, str]]:
    """By column what was done about rare values, and to about how many cells."""
    rare = report["rareValues"]
    rows = []
    for change in rare["changes"]:
        cells = change["cells"]
        told = f"of fewer than {rare['minPeople']} people" if cells is None else f"about {cells:,}"
        column = plain_text(change["column"])
        rows.append((column, IN_WORDS[change["change"]], told))
    return rows


def not_assessed(findings: Json, *, rare_kept: bool = False) -> list[dict[str, str]]:
    """What these findings leave open: a name and what it means, each.

    Parameters
    ----------
    findings
        As a dictionary.
    rare_kept
        Whether values that single people have were left in the table.
    """
    measurements = findings.get("measurements", ())
    measured_ids = {finding["id"] for finding in measurements}
    if any((each.get("details") or {}).get("claimed") is not None for each in measurements):
        measured_ids.add(CLAIMED)
    return [
        *([RARE_KEPT] if rare_kept else []),
        *(
            {"what": gap.what, "meaning": gap.meaning}
            for gap in GAPS
            if measured_ids.isdisjoint(gap.closed_by)
        ),
    ]
