"""The report as one self-contained page: no script, no remote resource, aggregates only.

The page is a function of ``report.json`` and, where costs are shown, of ``resources.json``.  Its
content security policy forbids everything but its own style sheet, which is allowed by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from synthfactory import artifacts
from synthfactory.certification.policy import INSTRUMENT
from synthfactory.release import overview, svg, words
from synthfactory.release.costs import cost_view

Json = Mapping[str, Any]

MAX_HEAT_COLUMNS = 24
MAX_OPEN_COLUMNS = 20
MAX_SHEET_RULES = 13
MAX_SHEET_FAILURES = 3
# Entries of "Not tested" and "Words" together, and the least of the latter.
SHEET_ENTRIES = 11
MAX_SHEET_GAPS = 6
MIN_SHEET_WORDS = 2
MAX_LARGE_CHARTS = 40
MAX_LEVELS = 12
MAX_PAIRS = 6
# The evaluation's name for the levels that are too rare to be shown one by one.
OTHERS = "(all others)"


def write_report(folder: Path, report: Json) -> None:
    """Write ``report.json`` and ``report.html`` into ``folder``, each whole or not at all.

    Parameters
    ----------
    folder
        The release folder.
    report
        What `build_report` made.

    Raises
    ------
    StorageError
        When the disk is full, read-only or forbidden.
    """
    artifacts.write_json(folder / "report.json", report)
    write_page(folder, report)


def write_page(folder: Path, report: Json, resources: Json | None = None) -> None:
    """Write ``report.html`` alone, with what the run cost where that is known.

    Parameters
    ----------
    folder
        Where to.
    report, resources
        As for `render_html`.

    Raises
    ------
    StorageError
        When the disk is full, read-only or forbidden.
    """
    page = render_html(report, resources).encode("utf-8", "replace")
    artifacts.write_atomic(folder / "report.html", page)


def render_html(report: Json, resources: Json | None = None) -> str:
    """The page of a report: the same text for the same report and costs.

    Parameters
    ----------
    report
        What `build_report` made, or ``report.json`` read back.
    resources
        What ``resources.json`` holds; without it the page says where costs are told.
    """
    style = _style_sheet()
    found = overview.sections(report)
    columns = column_rows(report)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            style=Markup(style),
            content_policy=(
                f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
                " base-uri 'none'; form-action 'none'"
            ),
            outcome=_OUTCOMES[report["outcome"]] | {"detail": outcome_sentence(report)},
            cards=[card(family, report) for family in words.FAMILIES],
            sections=found,
            measured={family: overview.rows_of(section) for family, section in found.items()},
            sheet=sheet_rows(found, report),
            protocol=protocol_rows(report),
            rare=rare_view(report),
            compared=compared_sentences(report),
            hardest=overview.hardest_hit(report),
            rules=rule_rows(report),
            missed=[
                overview.rule_sentence(rule, report)
                for rule in report["verdict"].get("reasons", ())
                if not rule["passed"]
            ],
            failures=report["findings"].get("failures", {}),
            titles={
                metric: words.words_of(metric).title
                for metric in report["findings"].get("failures", {})
            },
            controls=control_rows(report),
            columns=columns[:MAX_OPEN_COLUMNS],
            more_columns=columns[MAX_OPEN_COLUMNS:],
            pairs=pair_view(report),
            learners=learner_view(report),
            importance=importance_view(report),
            curve=curve_view(report),
            costs=None if resources is None else cost_view(resources),
            order_text=json.dumps(report["order"], indent=2, sort_keys=True, ensure_ascii=False),
            families=words.FAMILIES,
            identifier="urn:synthfactory:dataset:" + report["manifest"]["merkleRoot"],
        )
    )


_OUTCOMES: dict[str, dict[str, str]] = {
    "certified": {"key": "good", "word": "Certified", "icon": "check"},
    "refused": {"key": "bad", "word": "Refused", "icon": "cross"},
    "incomplete": {"key": "unknown", "word": "Incomplete", "icon": "gap"},
}


def outcome_sentence(report: Json) -> str:
    """The decision in one sentence."""
    reasons = report["verdict"].get("reasons", ())
    rules = [rule for rule in reasons if rule["metric"] != INSTRUMENT]
    missed = [rule for rule in rules if not rule["passed"]]
    name = words.short(report["policy"]["title"], 70)
    if report["outcome"] == "certified":
        holds = {
            0: "No rule of the policy “{}” is missed",
            1: "The one rule of the policy “{}” holds",
        }
        told = holds.get(len(rules), f"All {len(rules)} rules of the policy “{{}}” hold").format(
            name
        )
        return f"{told}, and the tests found the leaks that were planted to check them."
    if report["outcome"] == "incomplete":
        return (
            "Not everything that the policy asks for could be measured. What was not measured"
            " counts as refused, never as low risk: no certificate is issued."
        )
    if not missed:
        return "The tests did not pass their own check on this table. No certificate is issued."
    return (
        f"{_count(len(missed), 'rule')} of {len(rules)} in the policy “{name}”"
        f" {'does' if len(missed) == 1 else 'do'} not hold. No certificate is issued."
    )


def rule_rows(report: Json) -> list[dict[str, Any]]:
    """Every rule's outcome, with the policy's reason for its threshold."""
    reasons = {rule["id"]: rule["why"] for rule in report["policy"]["rules"]}
    return [
        {
            **outcome,
            "sentence": overview.rule_sentence(outcome, report),
            "why": reasons.get(outcome["rule"], "").strip().rstrip("."),
        }
        for outcome in report["verdict"].get("reasons", ())
    ]


def card(family: str, report: Json) -> dict[str, Any]:
    """The verdict strip's card of one family: its headline measurement and its rules."""
    title, question = words.FAMILIES[family]
    rules = [
        rule
        for rule in report["verdict"].get("reasons", ())
        if overview.family_of(rule["metric"]) == family
    ]
    missed = [rule for rule in rules if not rule["passed"]]
    # The instrument's own check is a condition of every policy, not one of its rules.
    counted = [rule for rule in rules if rule["metric"] != INSTRUMENT]
    n_missed = sum(not rule["passed"] for rule in counted)
    by_id = overview.findings_by_id(report)
    candidates = [*(rule["metric"] for rule in missed), *words.HEADLINES[family]]
    candidates += [metric for metric in by_id if overview.family_of(metric) == family]
    headline = next((metric for metric in candidates if metric in by_id), None)
    if any(rule.get("value") is None for rule in missed) or (headline is None and not missed):
        key, status = "unknown", "Not fully measured" if headline else "Not measured"
    elif n_missed:
        key, status = "bad", f"{n_missed} of {_count(len(counted), 'rule')} not met"
    elif missed:
        key, status = "bad", "The tests’ own check failed"
    elif counted:
        key, status = "good", f"{len(counted)} of {_count(len(counted), 'rule')} met"
    else:
        key, status = "unknown", "No rule in the policy"
    return {
        "family": family,
        "title": title,
        "question": question,
        "key": key,
        "status": status,
        "row": overview.measurement_row(by_id[headline], report) if headline else None,
    }


def protocol_rows(report: Json) -> list[tuple[str, str]]:
    """The evidence's counts, in words."""
    protocol = report["findings"].get("protocol") or {}
    counts = {
        "Members attacked": protocol.get("members"),
        "Persons never seen, attacked alike": protocol.get("strangers"),
        "Reference rows an attacker knows": protocol.get("reference"),
        "Persons per single attack, at most": protocol.get("attacks"),
        "Rows for costly measurements, at most": protocol.get("max_rows"),
        "Shadow models": protocol.get("shadows"),
        "Candidates that were tried for this release": protocol.get("attempts"),
    }
    rows = [(name, words.number(value)) for name, value in counts.items() if value is not None]
    if protocol.get("split_by"):
        rows.append(("Divided by", {"entity": "person (entity)"}.get(protocol["split_by"], "row")))
    if protocol.get("confidence") is not None:
        rows.append(("Coverage of the intervals", words.number(protocol["confidence"], "share")))
    return rows


def rare_view(report: Json) -> dict[str, Any] | None:
    """What was done about rare values; None for a report from before it was told."""
    if "rareValues" not in report:
        return None
    return {
        "sentence": words.rare_sentence(report),
        "brief": words.rare_brief(report),
        "rows": words.rare_rows(report),
        "declared": ", ".join(map(words.plain_text, report["rareValues"]["declared"])),
        "single": ", ".join(map(words.plain_text, report["rareValues"]["single"])),
    }


def compared_sentences(report: Json) -> list[str]:
    """Who was compared with whom, how surely, and after how many attempts."""
    protocol = report["findings"].get("protocol") or {}
    if protocol.get("members") is None or protocol.get("strangers") is None:
        return []
    apart = (
        "Nobody is on both sides: the table was divided by person."
        if protocol.get("split_by") == "entity"
        else "The table was divided by row; each row counts as a person."
    )
    said = [
        f"Attacked were {words.number(protocol['members'])} rows of training persons and"
        f" {words.number(protocol['strangers'])} rows of persons never seen. {apart}"
    ]
    attempts, confidence = protocol.get("attempts", 1), protocol.get("confidence", 0.95)
    if attempts > 1:
        said.append(
            f"{attempts} candidates were tried for this release, so each interval covers"
            f" {words.number(confidence, 'share')} instead of"
            f" {words.number(1 - (1 - confidence) * attempts, 'share')}: trying more often gains"
            " nothing."
        )
    else:
        said.append(
            "One candidate was tried for this release; each interval covers"
            f" {words.number(confidence, 'share')}."
        )
    return said


def sheet_rows(found: Mapping[str, Any], report: Json) -> dict[str, Any]:
    """What the officer's page holds of the rules and failures: it must stay one page."""
    rows = [row for section in found.values() for row in overview.rows_of(section)]
    ruled = [row for row in rows if row["passed"] is not None]
    ruled.sort(key=lambda row: row["passed"])
    failures = sorted(report["findings"].get("failures", {}).items())
    shown = max(0, MAX_SHEET_RULES - min(len(failures), MAX_SHEET_FAILURES))
    gaps = report["notAssessed"]
    return {
        "rows": [
            {**row, "family": words.FAMILIES[overview.family_of(row["id"])][0]}
            for row in ruled[:shown]
        ],
        "failures": [
            (words.words_of(metric).title, words.short(why, 60))
            for metric, why in failures[:MAX_SHEET_FAILURES]
        ],
        "more_rules": max(0, len(ruled) - shown),
        "more_failures": max(0, len(failures) - MAX_SHEET_FAILURES),
        "further": len(rows) - len(ruled),
        "gaps": gaps[:MAX_SHEET_GAPS],
        "more_gaps": [gap["what"] for gap in gaps[MAX_SHEET_GAPS:]],
        "words": report["glossary"][: max(MIN_SHEET_WORDS, SHEET_ENTRIES - len(gaps))],
    }


def control_rows(report: Json) -> list[dict[str, Any]]:
    """The instrument controls: what was planted, and whether the tests answered rightly."""
    return [
        {
            "id": control["id"],
            "what": words.CONTROLS.get(control["id"], control["id"].replace("_", " ")),
            "expected": "must be found" if control["expected"] else "must pass",
            "answer": "found" if control["flagged"] else "passed",
            "by": ", ".join(words.words_of(metric).title for metric in control["by"]),
            "right": control["expected"] == control["flagged"],
        }
        for control in report["findings"].get("instrument", ())
    ]


def column_rows(report: Json) -> list[dict[str, Any]]:
    """Every column, the least faithful first, with its small and its large histogram."""
    columns = report["findings"].get("charts", {}).get("columns", ())
    worst_first = sorted(
        columns, key=lambda column: (_or(column.get("score"), 2.0), column["name"])
    )
    return [
        _column_row(column, large=index < MAX_LARGE_CHARTS)
        for index, column in enumerate(worst_first)
    ]


def _column_row(column: Json, *, large: bool) -> dict[str, Any]:
    name = words.plain_text(column["name"])
    real, synthetic = column["real"], column["synthetic"]
    missing = column.get("missing") or {}
    return {
        "name": name,
        "kind": column["kind"],
        "score": column.get("score"),
        "score_text": words.measured(column.get("score"), "share"),
        "interval": words.span(column, lambda value: words.measured(value, "share"))
        if column.get("lcb") is not None
        else "",
        "reference": words.measured(column.get("reference"), "share"),
        "missing_real": words.measured(missing.get("real"), "share"),
        "missing_synthetic": words.measured(missing.get("synthetic"), "share"),
        "spark": svg.sparkline(real, synthetic, title=f"Distribution of {name}"),
        "chart": _column_chart(column, name) if large else None,
    }


def _column_chart(column: Json, name: str) -> Markup:
    title = f"{name}: shares of rows, real and synthetic"
    if column.get("levels") is None:
        labels = edge_labels(column["edges"], column["kind"])
        return svg.histogram(column["real"], column["synthetic"], labels, title=title)
    levels, real, synthetic = _most_frequent(
        column["levels"], column["real"], column["synthetic"], MAX_LEVELS
    )
    return svg.level_bars(levels, real, synthetic, title=title)


def _most_frequent(
    levels: Sequence[str], real: Sequence[float], synthetic: Sequence[float], count: int
) -> tuple[list[str], list[float], list[float]]:
    """At most ``count`` levels; the least frequent ones are drawn together with what was rare.

    >>> _most_frequent(["a", "b", "c"], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2], 2)
    (['a', '(all others)'], [0.5, 0.5], [0.4, 0.6])
    """
    if len(levels) <= count:
        return list(levels), list(real), list(synthetic)
    ranked = sorted(
        range(len(levels)),
        key=lambda at: (levels[at] == OTHERS, -max(real[at], synthetic[at]), at),
    )
    kept, rest = sorted(ranked[: count - 1]), ranked[count - 1 :]
    return (
        [*(levels[at] for at in kept), OTHERS],
        [*(real[at] for at in kept), round(sum(real[at] for at in rest), 12)],
        [*(synthetic[at] for at in kept), round(sum(synthetic[at] for at in rest), 12)],
    )


def edge_labels(edges: Sequence[float], kind: str) -> list[str]:
    """Bin edges for reading: dates for points in time, numbers otherwise.

    >>> edge_labels([0.0, 86400.0], "datetime")
    ['1970-01-01', '1970-01-02']
    >>> edge_labels([1.0, 2500.0], "numerical")
    ['1', '2,500']
    """
    if kind == "datetime":
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return [(epoch + timedelta(seconds=edge)).strftime("%Y-%m-%d") for edge in edges]
    return [words.number(edge) for edge in edges]


def pair_view(report: Json) -> dict[str, Any] | None:
    """Heat maps of pair association (real, synthetic, difference) and the pairs that differ most.

    Beyond 24 columns, those that differ most are drawn.
    """
    pairs = report["findings"].get("charts", {}).get("pairs")
    if not pairs or len(pairs["columns"]) < 2:
        return None
    names = [words.plain_text(name) for name in pairs["columns"]]
    real, synthetic = pairs["real"], pairs["synthetic"]
    difference = [
        [
            None if a is None or b is None else b - a
            for a, b in zip(row_real, row_synthetic, strict=True)
        ]
        for row_real, row_synthetic in zip(real, synthetic, strict=True)
    ]
    drawn = _most_different(difference, MAX_HEAT_COLUMNS)
    labels = [names[at] for at in drawn]
    largest = sorted(
        (
            (abs(value), row, column, value)
            for row, values in enumerate(difference)
            for column, value in enumerate(values)
            if column < row and value is not None
        ),
        key=lambda item: (-item[0], item[1], item[2]),
    )[:MAX_PAIRS]
    return {
        "measure": pairs.get("measure", "strength of association from 0 to 1"),
        "drawn": len(drawn),
        "total": len(names),
        "maps": [
            (
                "Real",
                svg.heat_map(_part(real, drawn), labels, title="Association in the real rows"),
            ),
            (
                "Synthetic",
                svg.heat_map(
                    _part(synthetic, drawn), labels, title="Association in the synthetic rows"
                ),
            ),
            (
                "Difference",
                svg.heat_map(
                    _part(difference, drawn),
                    labels,
                    title="Synthetic minus real association",
                    diverging=True,
                    full_scale=0.5,
                ),
            ),
        ],
        "largest": [
            {
                "pair": (names[column], names[row]),
                "real": words.measured(real[row][column]),
                "synthetic": words.measured(synthetic[row][column]),
                "difference": ("+" if value > 0 else "") + words.measured(value),
            }
            for _, row, column, value in largest
        ],
    }


def _most_different(difference: Sequence[Sequence[float | None]], count: int) -> list[int]:
    """The columns whose associations differ most, in their own order."""
    total = [sum(abs(value) for value in row if value is not None) for row in difference]
    ranked = sorted(range(len(total)), key=lambda at: (-total[at], at))
    return sorted(ranked[:count])


def _part(
    matrix: Sequence[Sequence[float | None]], drawn: Sequence[int]
) -> list[list[float | None]]:
    return [[matrix[row][column] for column in drawn] for row in drawn]


def learner_view(report: Json) -> dict[str, Any] | None:
    """The dumbbells of train-on-synthetic against train-on-real, per learner."""
    learners = report["findings"].get("charts", {}).get("learners")
    if not learners:
        return None
    rows = [
        (
            learner["name"],
            overview.interval_of(learner["trtr"]),
            overview.interval_of(learner["tstr"]),
        )
        for learner in learners
    ]
    chance = next((row["chance"] for row in learners if row.get("chance") is not None), None)
    return {
        "chart": svg.dumbbells(
            rows, title="Trained on real against trained on synthetic rows", chance=chance
        ),
        "rows": [
            {"name": name, "real": _written(real), "synthetic": _written(synthetic)}
            for name, real, synthetic in rows
        ],
        "chance": words.number(chance),
    }


def importance_view(report: Json) -> Markup | None:
    """Which columns a model relies on, after training on real and on synthetic rows."""
    finding = overview.findings_by_id(report).get("utility.feature_importance") or {}
    columns = (finding.get("details") or {}).get("columns", ())
    if not columns:
        return None
    return svg.level_bars(
        [words.plain_text(column["name"]) for column in columns],
        [column["real"] for column in columns],
        [column["synthetic"] for column in columns],
        title="Share of all importance, real and synthetic",
    )


def curve_view(report: Json) -> Markup | None:
    """The loss curve, when the generator trains step by step."""
    training = report.get("training") or {}
    if len(training.get("steps", ())) < 2:
        return None
    return svg.line_chart(
        sorted(training["losses"].items()), training["steps"], title="Training losses by step"
    )


def _written(interval: svg.Interval) -> str:
    if interval.lcb is None or interval.ucb is None:
        return words.measured(interval.estimate)
    return (
        f"{words.measured(interval.estimate)}"
        f" ({words.measured(interval.lcb)} to {words.measured(interval.ucb)})"
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


@cache
def _style_sheet() -> str:
    sheet = importlib.resources.files("synthfactory.release") / "templates" / "report.css"
    return sheet.read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("synthfactory.release"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = words.plain_text
    environment.filters["brief"] = words.short
    environment.filters["number"] = words.number
    return environment
