"""Who is hit hardest: the words of subgroups and of tenths by rarity."""

from __future__ import annotations

from synthfactory.release.words.numbers import Json, p_value, plain_text, points, span
from synthfactory.release.words.phrases import more, more_span

SIGNIFICANT = 0.05


def groups(finding: Json) -> list[str]:
    """What a measurement found in its worst subgroup and among the rarest rows."""
    details = finding.get("details") or {}
    said = []
    for found in (details.get("subgroups") or {}, details.get("by_rarity") or {}):
        for key in ("worst", "rarest"):
            group = found.get(key)
            if not group or (key == "rarest" and group == found.get("worst")):
                continue
            named = "Hit hardest: " if key == "worst" else ""
            said.append(named + _group_sentence(group, int(found["n_groups"])))
    return said


def _group_sentence(group: Json, n_groups: int) -> str:
    # The hardest hit of many groups is a chance find as often as not: Holm's p says which.
    told = "beyond chance" if group["p_holm"] < SIGNIFICANT else "within chance"
    looks = "1 look" if n_groups == 1 else f"{n_groups} looks"
    return (
        f"{group_name(group)}, {group_value(group)} ({told}, {p_value(group['p_holm'])} after"
        f" correction for {looks})."
    )


def group_name(group: Json) -> str:
    """A subgroup's name, as one reads it: ``the rarest tenth of the rows``, ``“sex = f”``."""
    if group.get("tenth") is not None:
        return _TENTHS.get(group["tenth"], f"Tenth {group['tenth']} of 10 by rarity")
    return "The rarest tenth" if group["group"] == _RAREST else f"“{plain_text(group['group'])}”"


_RAREST = "rarest tenth"
_TENTHS = {1: "The commonest tenth", 10: "The rarest tenth"}


def group_value(group: Json) -> str:
    """What an attack gains in a subgroup, with its interval, in numbers out of 100."""
    if group.get("tenth") is not None:
        return f"{points(group['share'])} of 100 rows ({span(group, points)}), where chance is 50"
    as_finding = {**group, "estimate": group["advantage"]}
    return f"{more(as_finding)} of 100 for training persons ({more_span(as_finding)})"
