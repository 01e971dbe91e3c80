"""The pages: views of a `Survey` as Jinja2 templates show them, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from synthfactory import __version__
from synthfactory.dashboard import charts
from synthfactory.dashboard.boards import (
    AXES,
    AXIS_BY_KEY,
    Cell,
    combine,
    front_of,
    overall,
)
from synthfactory.dashboard.records import LEAKAGE, Detail, Record
from synthfactory.dashboard.survey import HEADLINES, STATE_LOOKS, Survey, title_of
from synthfactory.release import svg, words
from synthfactory.release.costs import cost_view, duration

Json = Mapping[str, Any]

NAVIGATION = (
    ("index", "Overview"),
    ("runs", "Runs"),
    ("leaderboard", "Leaderboard"),
    ("pareto", "Pareto front"),
    ("heatmap", "Heat map"),
    ("compare", "Compare"),
    ("trend", "Trend"),
    ("certificates", "Certificates"),
    ("datasets", "Datasets"),
    ("metrics", "Metrics"),
)
SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "runs": ("runs",),
    "leaderboard": ("runs", "boards"),
    "pareto": ("runs",),
    "heatmap": ("runs", "boards"),
    "compare": ("runs",),
    "trend": ("runs",),
}
MAX_LISTED = 25
# Rows of one page of a long list; the script shows all runs on each.
ROWS_PER_PAGE = 100
LISTS = ("runs", "certificates")
# Pages of which there may be several.
DIVIDED = (*LISTS, "pareto")
MAX_STATIC_DATASETS = 12
_LEAKAGE_METHOD = (
    "the attack with the largest (upper bound − baseline), among the privacy measurements in which"
    " less is better and that are shares; all values less that attack's baseline; none when any"
    " privacy measurement failed"
)


def overview_pages(survey: Survey, compared: Sequence[Json], *, live: bool) -> dict[str, str]:
    """Every page over all runs, by file name.

    Parameters
    ----------
    survey
        All runs.
    compared
        Documents of the runs that the comparison shows before a reader chooses.
    live
        Whether the pages ask their server for news.
    """
    views: dict[str, Callable[[], dict[str, Any]]] = {
        "index": lambda: overview_view(survey),
        "leaderboard": lambda: {"boards": [board_view(survey, m) for m in _headlines(survey)]},
        "heatmap": lambda: {"maps": [heat_view(survey, m) for m in _headlines(survey)]},
        "compare": lambda: {"comparison": compare_view(compared)},
        "trend": lambda: {"trends": trend_views(survey)},
        "datasets": lambda: {"datasets": dataset_views(survey)},
        "metrics": lambda: {"metrics": metric_views(survey)},
    }
    pages = {f"{name}.html": _render(name, survey, view(), live) for name, view in views.items()}
    lists = ((survey.records, run_row), (certified_records(survey), certificate_row))
    for name, (found, write) in zip(LISTS, lists, strict=True):
        for part in parts_of(name, found):
            rows = [write(survey, record) for record in part.items]
            pages[part.file] = _render(name, survey, {"rows": rows, "part": part}, live)
    for number in range(1, max(1, len(survey.dataset_labels)) + 1):
        view = pareto_view(survey, number)
        pages[part_file("pareto", number)] = _render("pareto", survey, view, live)
    return pages


@dataclass(frozen=True, kw_only=True)
class ListPart:
    """Some of a long list, on a page of its own.

    Parameters
    ----------
    name
        Of the list.
    number, of
        Which part, from 1, of how many.
    n_items
        In the whole list.
    items
        Of this part.
    """

    name: str
    number: int
    of: int
    n_items: int
    items: Sequence[Record]

    @property
    def file(self) -> str:
        """Its page."""
        return part_file(self.name, self.number)

    @property
    def first(self) -> int:
        """The place of its first item in the list, from 1; 0 of an empty list."""
        return min((self.number - 1) * ROWS_PER_PAGE + 1, self.n_items)

    @property
    def links(self) -> list[tuple[int, str]]:
        """The pages of the list."""
        return [(number, part_file(self.name, number)) for number in range(1, self.of + 1)]


def part_file(name: str, number: int) -> str:
    """The page of a part of a list.

    >>> part_file("runs", 1), part_file("runs", 2)
    ('runs.html', 'runs-2.html')
    """
    return f"{name}.html" if number == 1 else f"{name}-{number}.html"


def parts_of(name: str, items: Sequence[Record]) -> list[ListPart]:
    """A list in parts of `ROWS_PER_PAGE`; one empty part of an empty list."""
    of = max(1, -(-len(items) // ROWS_PER_PAGE))
    return [
        ListPart(
            name=name,
            number=number + 1,
            of=of,
            n_items=len(items),
            items=items[number * ROWS_PER_PAGE : (number + 1) * ROWS_PER_PAGE],
        )
        for number in range(of)
    ]


def run_page(detail: Detail, dataset: str) -> str:
    """The page of one run."""
    record = detail.record
    page = {
        "record": record,
        "dataset": dataset,
        "look": STATE_LOOKS[record.state],
        "ended": moment(record.ended_at),
        "measurements": [
            {
                "id": item["id"],
                "title": title_of(item["id"]),
                "value": words.measured(item["estimate"], item["unit"]),
                "interval": words.span(item, _writer(item["unit"])),
                "control": words.measured(item["control"], item["unit"]),
                "baseline": words.measured(item["baseline"], item["unit"]),
                "n": words.number(item["n"]),
                "unit": item["unit"],
                "passed": _passed(detail.rules, item["id"]),
            }
            for item in (detail.findings or {}).get("measurements", ())
        ],
        "curve": _curve(detail.training),
        "bars": _bars(detail.resources),
        "costs": None if detail.resources is None else cost_view(detail.resources),
        "events": [
            {"at": moment(event.get("at")), "event": event.get("event", ""),
             "stage": event.get("stage", ""), "step": event.get("step")}
            for event in detail.events[-40:]
        ],
        "config": sorted(detail.config.items()),
        "environment": sorted(detail.environment.items()),
        "command": detail.command,
    }  # fmt: skip
    return str(
        _environment()
        .get_template("run.html.j2")
        .render(**_common("run", root="../../", live=False), page=page)
    )


def overview_view(survey: Survey) -> dict[str, Any]:
    """What changed, what failed, what is running, and who leads."""
    newest = survey.changes[0].at if survey.changes else None
    changes = [change for change in survey.changes if change.at == newest]
    failed = [record for record in survey.records if record.state in ("failed", "interrupted")]
    running = [record for record in survey.records if record.state == "running"]
    refusals: Counter[str] = Counter()
    for record in survey.records:
        if record.state == "refused":
            refusals.update(reason.split(":", 1)[0] for reason in record.why)
    unmeasured = Counter(metric for record in survey.records for metric in record.unmeasured)
    return {
        "states": [(state, n, STATE_LOOKS[state]) for state, n in survey.states.items()],
        "changed_at": moment(newest),
        "changes": changes[:MAX_LISTED],
        "n_changes": len(changes),
        "failed": [run_row(survey, record) for record in failed[:MAX_LISTED]],
        "n_failed": len(failed),
        "running": [run_row(survey, record) for record in running[:MAX_LISTED]],
        "refusals": refusals.most_common(12),
        "unmeasured": [(title_of(metric), n) for metric, n in unmeasured.most_common(12)],
        "leaders": [board_view(survey, metric) for metric in _headlines(survey)],
        "unreadable": survey.unreadable,
    }


def run_row(survey: Survey, record: Record) -> dict[str, Any]:
    """A run in a list."""
    axes = {axis.key: words.measured(axis.bound(record), axis.unit) for axis in AXES if axis.metric}
    return {
        "run": record.run,
        "state": record.state,
        "look": STATE_LOOKS[record.state],
        "stage": record.stage,
        "why": record.why,
        "dataset": survey.datasets[record.run],
        "generator": survey.generators[record.run],
        "seed": record.seed,
        "ended": moment(record.ended_at),
        "wall": duration(record.resources["wall_s"]) if record.resources["wall_s"] else "–",
        **axes,
    }


def board_view(survey: Survey, metric: str) -> dict[str, Any]:
    """One metric's ranks: over all tables, then on each."""
    cells = survey.board(metric)
    unit = survey.unit(metric)
    datasets = sorted({dataset for dataset, _ in cells})
    return {
        "metric": metric,
        "title": title_of(metric),
        "unit": unit,
        "better": survey.better(metric),
        "n_datasets": len(datasets),
        "overall": overall(cells),
        "datasets": [
            {
                "dataset": dataset,
                "rows": [
                    {"generator": generator, **cell_view(cell, unit, survey.better(metric))}
                    for generator, cell in sorted(
                        ((g, cell) for (d, g), cell in cells.items() if d == dataset),
                        key=lambda item: (item[1].best, item[1].worst, item[0]),
                    )
                ],
                "missing": [
                    {"generator": generator, "failed": group.count("failed"),
                     "runs": len(group.runs)}
                    for (d, generator), group in survey.groups.items()
                    if d == dataset and (d, generator) not in cells
                ],
            }
            for dataset in survey.dataset_labels
        ],
    }  # fmt: skip


def cell_view(cell: Cell, unit: str, better: str) -> dict[str, Any]:
    """A result with its interval and rank, in words."""
    return {
        "rank": f"{cell.best}" if cell.best == cell.worst else f"{cell.best}–{cell.worst}",
        "value": words.measured(cell.estimate, unit),
        "bound": ("≥ " if better == "higher" else "≤ ") + words.measured(cell.bound(better), unit),
        "interval": _span(cell.lcb, cell.ucb, unit),
        "n_runs": cell.n_runs,
    }


def pareto_view(survey: Survey, number: int) -> dict[str, Any]:
    """Fidelity against leakage on one table; other axes are the script's.

    Parameters
    ----------
    number
        Of the table, from 1.
    """
    x, y = AXIS_BY_KEY["leakage"], AXIS_BY_KEY["fidelity"]
    labels = survey.dataset_labels
    tables = [(at, part_file("pareto", at), label) for at, label in enumerate(labels, start=1)]
    page = {"x": x, "y": y, "number": number, "tables": tables, "view": None}
    if not labels:
        return page
    runs = survey.of_dataset(labels[number - 1])
    front = front_of(runs, x, y)
    placed = [run for run in runs if x.bound(run) is not None and y.bound(run) is not None]
    by_name = {run.run: run for run in runs}
    view = {
        "dataset": labels[number - 1],
        "chart": charts.pareto_chart(runs, front, x, y, labels=survey.generators),
        "generators": sorted({survey.generators[run.run] for run in placed}),
        "n": len(placed),
        "missing": len(runs) - len(placed),
        "front": [
            {
                "run": name,
                "generator": survey.generators[name],
                "x": words.measured(x.bound(by_name[name]), x.unit),
                "y": words.measured(y.bound(by_name[name]), y.unit),
            }
            for name in sorted(front, key=lambda name: x.bound(by_name[name]) or 0.0)
        ],
    }
    return {**page, "view": view}


def heat_view(survey: Survey, metric: str) -> dict[str, Any]:
    """One metric over tables and generators."""
    cells = survey.board(metric)
    failed = {key: group.count("failed") for key, group in survey.groups.items()}
    unit = survey.unit(metric)
    return {
        "metric": metric,
        "title": title_of(metric),
        "chart": charts.heat_grid(
            cells,
            failed,
            survey.dataset_labels,
            survey.generator_labels,
            title=f"{title_of(metric)} by table and generator",
            unit=unit,
            better=survey.better(metric),
        ),
        "generators": survey.generator_labels,
        "rows": [
            (
                dataset,
                [
                    cell_view(cells[dataset, generator], unit, survey.better(metric))
                    if (dataset, generator) in cells
                    else {"value": f"{failed[dataset, generator]} failed"
                          if failed.get((dataset, generator)) else "not run or not measured",
                          "interval": ""}
                    for generator in survey.generator_labels
                ],
            )
            for dataset in survey.dataset_labels
        ],
    }  # fmt: skip


def compare_view(documents: Sequence[Json]) -> dict[str, Any]:
    """Runs side by side: results, then every difference of configuration and environment."""
    metrics = sorted({metric for item in documents for metric in item["metrics"]})
    return {
        "runs": documents,
        "metrics": [
            (
                title_of(metric),
                [_measured_cell(item["metrics"].get(metric)) for item in documents],
                _disjoint([item["metrics"].get(metric) for item in documents]),
            )
            for metric in metrics
        ],
        "config": _differences([item["config"] for item in documents]),
        "environment": _differences([item["environment"] for item in documents]),
    }


def trend_views(survey: Survey) -> list[dict[str, Any]]:
    """Each headline over the versions of the package, on each table."""
    views = []
    for metric in _headlines(survey):
        unit = survey.unit(metric)
        for dataset in survey.dataset_labels[:MAX_STATIC_DATASETS]:
            series = _by_version(survey, metric, dataset)
            if series:
                title = f"{title_of(metric)} on {words.plain_text(dataset)}"
                views.append(
                    {
                        "title": title,
                        "chart": charts.trend_chart(
                            series, survey.versions, title=title_of(metric), unit=unit
                        ),
                        "rows": [
                            (generator, version, words.measured(value[0], unit),
                             _span(value[1], value[2], unit))
                            for generator, points in sorted(series.items())
                            for version, value in points.items()
                        ],
                    }
                )  # fmt: skip
    return views


def certified_records(survey: Survey) -> list[Record]:
    """The runs that have a certificate, the newest first."""

    def newest(record: Record) -> tuple[str, str]:
        assert record.certificate is not None
        return record.certificate["from"], record.run

    found = [record for record in survey.records if record.certificate is not None]
    return sorted(found, key=newest, reverse=True)


def certificate_row(survey: Survey, record: Record) -> dict[str, Any]:
    """A certificate in their list."""
    assert record.certificate is not None
    looks = {"valid": ("good", "check"), "revoked": ("bad", "cross"), "suspended": ("bad", "cross")}
    return {
        **record.certificate,
        "run": record.run,
        "dataset": survey.datasets[record.run],
        "generator": survey.generators[record.run],
        "look": looks.get(record.certificate["state"], ("unknown", "gap")),
    }


def dataset_views(survey: Survey) -> list[dict[str, Any]]:
    """Every table: what the reports say about it, and how its runs ended."""
    views = []
    for label in survey.dataset_labels:
        runs = survey.of_dataset(label)
        counted = Counter(run.state for run in runs)
        views.append(
            {
                "label": label,
                "about": survey.about_datasets.get(label),
                "n_runs": len(runs),
                "states": [(s, counted[s], STATE_LOOKS[s]) for s in STATE_LOOKS if counted[s]],
                "generators": sorted({survey.generators[run.run] for run in runs}),
            }
        )
    return views


def metric_views(survey: Survey) -> list[dict[str, Any]]:
    """Every metric: formula, direction, unit, versions, and its values on real rows."""
    return [_metric_view(survey, metric) for metric in survey.metrics]


def _metric_view(survey: Survey, metric: str) -> dict[str, Any]:
    said = words.words_of(metric)
    unit = survey.unit(metric)
    methods = survey.about_metrics.get(metric, {}).get("methods", {})
    references = []
    for dataset in survey.dataset_labels:
        found = [r.metrics[metric] for r in survey.of_dataset(dataset) if metric in r.metrics]
        if found:
            references.append(
                (dataset, _range([item[5] for item in found], unit),
                 _range([item[4] for item in found], unit))
            )  # fmt: skip
    is_bound = metric == LEAKAGE
    return {
        "id": metric,
        "title": title_of(metric),
        "question": "How much may the worst attack gain?" if is_bound else said.question,
        "limits": "It is the worst of the attacks that were tried; others may gain more."
        if is_bound
        else said.limits,
        "methods": [(version, "; ".join(found)) for version, found in methods.items()]
        or [("", _LEAKAGE_METHOD)],
        "unit": unit,
        "better": survey.better(metric),
        "control": "Control" if is_bound else said.control,
        "baseline": "chance" if is_bound else said.baseline,
        "references": references,
        "family": metric.split(".", 1)[0],
    }


def moment(seconds: float | None) -> str:
    """A point in time for reading, in UTC.

    >>> moment(0.0), moment(None)
    ('1970-01-01 00:00', '–')
    """
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M")


def _headlines(survey: Survey) -> list[str]:
    return [metric for metric in HEADLINES if metric in survey.metrics]


def _by_version(
    survey: Survey, metric: str, dataset: str
) -> dict[str, dict[str, tuple[float, float, float]]]:
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in survey.of_dataset(dataset):
        if metric in record.metrics:
            estimate, lcb, ucb = record.metrics[metric][:3]
            assert estimate is not None
            assert lcb is not None
            assert ucb is not None
            label = survey.generators[record.run]
            found[label][record.version].append((estimate, lcb, ucb))
    return {
        generator: {
            version: combine(points[version]) for version in survey.versions if version in points
        }
        for generator, points in found.items()
    }


def _range(values: Sequence[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = words.measured(min(known), unit), words.measured(max(known), unit)
    return low if low == high else f"{low} to {high}"


def _span(low: float, high: float, unit: str) -> str:
    return f"{words.measured(low, unit)} to {words.measured(high, unit)}"


def _writer(unit: str) -> Callable[[float | None], str]:
    return lambda value: words.measured(value, unit)


def _measured_cell(found: Sequence[Any] | None) -> str:
    if found is None:
        return "–"
    estimate, lcb, ucb, unit = found[:4]
    write = _writer(unit)
    return f"{write(estimate)} ({write(lcb)} to {write(ucb)})"


def _disjoint(found: Sequence[Sequence[Any] | None]) -> bool:
    """Whether two of the intervals have nothing in common."""
    known = [item for item in found if item is not None]
    return len(known) > 1 and max(item[1] for item in known) > min(item[2] for item in known)


def _differences(documents: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Names whose values are not the same in all documents."""
    names = sorted({name for item in documents for name in item})
    rows = [(name, [item.get(name, "–") for item in documents]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _passed(rules: Sequence[Json], metric: str) -> bool | None:
    found = [rule["passed"] for rule in rules if rule["metric"] == metric]
    return all(found) if found else None


def _curve(training: Json) -> Markup | None:
    if len(training["steps"]) < 2:
        return None
    return svg.line_chart(
        sorted(training["losses"].items()), training["steps"], title="Training losses by step"
    )


def _bars(resources: Json | None) -> list[Markup]:
    """Held against used, of processors and, where any were held, of GPUs."""
    if resources is None:
        return []
    found = []
    for what, name in (("cpu", "CPU-hours"), ("gpu", "GPU-hours")):
        rows = [
            (stage["stage"], stage[f"{what}_allocated_h"], stage[f"{what}_used_h"])
            for stage in resources["stages"]
        ]
        if what == "cpu" or any(held for _, held, _ in rows):
            found.append(charts.resource_bars(rows, title=f"{name} used of held", unit="h"))
    return found


def _render(name: str, survey: Survey, view: Mapping[str, Any], live: bool) -> str:
    return str(
        _environment()
        .get_template(f"{name}.html.j2")
        .render(
            **_common(name, root="", live=live),
            survey=survey,
            page=view,
        )
    )


def _common(name: str, *, root: str, live: bool) -> dict[str, Any]:
    style, script = _asset("site.css"), _asset("site.js")
    own = f"'self' 'sha256-{_sha256(script)}'" if name in SCRIPTS or live else "'none'"
    policy = f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; img-src data:;"
    policy += f" script-src {own}; base-uri 'none'; form-action 'none'"
    if live:
        policy += "; connect-src 'self'"
    return {
        "name": name,
        "root": root,
        "live": live,
        "version": __version__,
        "navigation": NAVIGATION,
        "content_policy": policy,
        "style": Markup(style),
        "script": Markup(script) if name in SCRIPTS or live else None,
        "data": SCRIPTS.get(name, ()),
    }


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    """A file of the templates; the style sheet begins with that of the report."""
    text = (importlib.resources.files("synthfactory.dashboard") / "templates" / name).read_text(
        encoding="utf-8"
    )
    if name == "site.css":
        report = importlib.resources.files("synthfactory.release") / "templates" / "report.css"
        return report.read_text(encoding="utf-8").split("@media print")[0] + text
    return text


@cache
def assets_digest() -> str:
    """Changes with the templates, the style sheets and the script."""
    folder = importlib.resources.files("synthfactory.dashboard") / "templates"
    names = sorted(item.name for item in folder.iterdir())
    return _sha256("\0".join(_asset(name) for name in names))[:16]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("synthfactory.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = words.plain_text
    environment.filters["number"] = words.number
    environment.globals["mark"] = charts.mark_svg
    environment.globals["markers"] = charts.markers
    return environment
