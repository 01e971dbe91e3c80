"""The measurements in the order in which they are read, each as one line that opens.

Every group of measurements shares one scale per unit, so that a glance finds the ones that stand
out.  Those that the policy reads come first, those that miss their rule before all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from synthfactory.certification.policy import INSTRUMENT
from synthfactory.release import svg, words
from synthfactory.release.details import notes_of, tables_of

Json = Mapping[str, Any]

# A baseline farther off than this many widths of everything else is left out of the common scale.
REACH = 1.5


def family_of(metric: str) -> str:
    """The family of a rule's metric; the instrument is the privacy tests' own check."""
    return "privacy" if metric == INSTRUMENT else metric.split(".", 1)[0]


def findings_by_id(report: Json) -> dict[str, Json]:
    """The measurements of a report by id."""
    return {finding["id"]: finding for finding in report["findings"]["measurements"]}


def sections(report: Json) -> dict[str, list[dict[str, Any]]]:
    """Every family's groups, each with its blocks of lines on one scale.

    Returns
    -------
    dict
        By family a list of groups with ``key``, ``title``, ``lead`` and ``blocks``; a block holds
        ``scale`` (markup, or None where there is nothing to draw), the words above its columns
        (``better``, ``control``) and ``rows``.
    """
    return {family: _groups(family, report) for family in words.FAMILIES}


def rows_of(section: Iterable[Json]) -> list[dict[str, Any]]:
    """All lines of a family, in reading order."""
    return [row for group in section for block in group["blocks"] for row in block["rows"]]


def measurement_row(finding: Json, report: Json) -> dict[str, Any]:
    """One measurement, ready to be shown: its words, its plot, its rules, its parts."""
    said = words.words_of(finding["id"])
    rules = [
        rule for rule in report["verdict"].get("reasons", ()) if rule["metric"] == finding["id"]
    ]
    rule = next((rule for rule in rules if not rule["passed"]), rules[0] if rules else None)
    unit = finding.get("unit", "")
    exact = finding.get("lcb") == finding.get("ucb")
    return {
        "id": finding["id"],
        "title": said.title,
        "question": said.question,
        "sentence": said.sentence(finding),
        "groups": words.groups(finding),
        "tables": tables_of(finding),
        "notes": notes_of(finding),
        "mde": words.measured(finding["mde"], unit) if finding.get("mde") else None,
        "limits": said.limits,
        "remedy": said.remedy,
        "value": words.measured(finding["estimate"], unit),
        "interval": words.span(finding, lambda value: words.measured(value, unit)),
        "exact": exact,
        "confidence": words.number(finding.get("confidence", 0.95), "share"),
        "control": words.measured(finding.get("control"), unit),
        "control_name": said.control,
        "baseline": words.measured(finding.get("baseline"), unit),
        "baseline_name": said.baseline,
        "n": words.number(finding.get("n")),
        "unit": unit,
        "unit_name": "" if words.is_share(unit) else unit,
        "better": finding.get("better", "higher"),
        "method": finding.get("method", ""),
        "missed": [rule_sentence(rule, report) for rule in rules if not rule["passed"]],
        "passed": all(rule["passed"] for rule in rules) if rules else None,
        "threshold": threshold_words(rule, unit),
        "bound": rule.get("threshold") if rule else None,
        "plot": svg.interval_plot(
            interval_of(finding),
            title=said.title,
            control=finding.get("control"),
            baseline=finding.get("baseline"),
            threshold=rule.get("threshold") if rule else None,
            better=finding.get("better", "higher"),
            unit=unit,
        ),
    }


def rule_sentence(rule: Json, report: Json) -> str:
    """A rule's outcome in the measurement's own words and unit, where there is a measurement."""
    finding = findings_by_id(report).get(rule["metric"])
    if finding is None or rule.get("value") is None:
        return words.plain_text(rule["sentence"])
    title, unit = words.words_of(rule["metric"]).title, finding.get("unit", "")
    least = next(
        (
            asked.get("min_n", 0)
            for asked in report["policy"]["rules"]
            if asked["id"] == rule["rule"]
        ),
        0,
    )
    if finding["n"] < least:
        rows = "1 row" if finding["n"] == 1 else f"{words.number(finding['n'])} rows"
        return f"{title}: measured on {rows}; the policy asks for at least {words.number(least)}."
    value, threshold = rule["value"], rule["threshold"]
    if rule["passed"] != (value <= threshold if rule["op"] == "<=" else value >= threshold):
        return words.plain_text(rule["sentence"])
    bound = {"lcb": "the lower end of the interval", "ucb": "the upper end of the interval"}
    return (
        f"{title}: {bound.get(rule['bound'], 'the value')} is {words.measured(value, unit)}; the"
        f" policy asks for {threshold_words(rule, unit)}."
    )


def threshold_words(rule: Json | None, unit: str) -> str:
    """What a rule asks for: ``at most 3 %``."""
    if rule is None or rule.get("threshold") is None:
        return "–"
    comparison = {"<=": "at most", ">=": "at least"}.get(rule.get("op", ""), "")
    return f"{comparison} {words.number(rule['threshold'], unit)}".strip()


def interval_of(finding: Json) -> svg.Interval:
    """The estimate with its bounds, for drawing."""
    estimate = finding.get("estimate")
    return svg.Interval(
        estimate=math.nan if estimate is None else estimate,
        lcb=finding.get("lcb"),
        ucb=finding.get("ucb"),
    )


def hardest_hit(report: Json) -> list[dict[str, str]]:
    """Per attack: its worst subgroup, the rarest tenth, and the smallest effect that would show."""
    rows = []
    for finding in report["findings"]["measurements"]:
        if family_of(finding["id"]) != "privacy":
            continue
        details = finding.get("details") or {}
        found = details.get("subgroups") or details.get("by_rarity") or {}
        if not (found.get("worst") or found.get("rarest") or finding.get("mde")):
            continue
        rows.append(
            {
                "id": finding["id"],
                "title": words.words_of(finding["id"]).title,
                "worst": _group_cell(found.get("worst"), named=True),
                "rarest": _group_cell(found.get("rarest"), named=False),
                "looks": words.number(found.get("n_groups")) if found else "–",
                "mde": words.measured(finding["mde"], finding.get("unit", ""))
                if finding.get("mde")
                else "–",
            }
        )
    return rows


def _group_cell(group: Json | None, *, named: bool) -> str:
    if not group:
        return "–"
    share = "share" if group.get("tenth") is not None else "advantage"
    sign = "+" if share == "advantage" and (group[share] or 0) > 0 else ""
    said = (
        f"{sign}{words.points(group[share])} ({words.span(group, words.points)}),"
        f" {words.p_value(group['p_holm'])}"
    )
    return f"{words.group_name(group)}: {said}" if named else said


def _groups(family: str, report: Json) -> list[dict[str, Any]]:
    by_id = findings_by_id(report)
    mine = [metric for metric in by_id if family_of(metric) == family]
    return [
        {
            "key": group.key,
            "title": group.title,
            "lead": group.lead,
            "blocks": _blocks([by_id[metric] for metric in metrics], report),
        }
        for group, metrics in words.grouped(family, mine)
    ]


def _blocks(findings: list[Json], report: Json) -> list[dict[str, Any]]:
    """Lines of one unit together, on one scale; blocks and lines with rules come first."""
    by_scale: dict[tuple[str, str], list[tuple[Json, dict[str, Any]]]] = {}
    for finding in findings:
        row = measurement_row(finding, report)
        by_scale.setdefault(_scale_name(finding), []).append((finding, row))
    blocks = []
    for pairs in by_scale.values():
        pairs.sort(key=lambda pair: _rank(pair[1]))
        blocks.append(_block(pairs))
    return sorted(blocks, key=lambda block: min(_rank(row) for row in block["rows"]))


def _block(pairs: list[tuple[Json, dict[str, Any]]]) -> dict[str, Any]:
    rows = [row for _, row in pairs]
    if all(row["exact"] for row in rows):
        # A count, or a value without an interval, has no place on a scale of intervals.
        rows = [{**row, "strip": None} for row in rows]
        return {"scale": None, **_heads(rows), "rows": rows}
    domain = _domain(pairs)
    for finding, row in pairs:
        row["strip"] = svg.strip(
            interval_of(finding),
            domain,
            control=finding.get("control"),
            baseline=finding.get("baseline"),
            threshold=row["bound"],
            better=row["better"],
        )
    return {
        "scale": svg.strip_scale(domain, pairs[0][0].get("unit", "")),
        **_heads(rows),
        "rows": rows,
    }


def _heads(rows: list[dict[str, Any]]) -> dict[str, str]:
    """What stands above a block's columns: which way is better, and what the reference is."""
    controls = {row["control_name"] for row in rows}
    return {
        "better": {"higher": "more is better", "lower": "less is better"}[rows[0]["better"]],
        "control": controls.pop() if len(controls) == 1 else "Real reference",
    }


def _domain(pairs: list[tuple[Json, dict[str, Any]]]) -> tuple[float, float]:
    """Room for all intervals, controls and thresholds, and for baselines that are near enough."""
    values: list[float] = []
    baselines: list[float] = []
    for finding, row in pairs:
        values += interval_of(finding).values
        marks = (finding.get("control"), row["bound"])
        values += [mark for mark in marks if mark is not None and math.isfinite(mark)]
        if finding.get("baseline") is not None:
            baselines.append(finding["baseline"])
    low, high = min(values, default=0.0), max(values, default=1.0)
    reach = REACH * (high - low)
    values += [mark for mark in baselines if low - reach <= mark <= high + reach]
    return svg.padded(values, share=0.06, least=1e-4)


def _scale_name(finding: Json) -> tuple[str, str]:
    """Lines share a scale when they have the same unit and the same better end."""
    unit = str(finding.get("unit", ""))
    return ("share" if words.is_share(unit) else unit), finding.get("better", "higher")


def _rank(row: Json) -> int:
    """Missed rules first, then kept ones, then what no rule reads."""
    return 2 if row["passed"] is None else int(row["passed"])
