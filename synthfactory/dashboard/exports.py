"""The data files beside the pages: for the site's script, and for anybody's own work.

``runs.js`` and ``boards.js`` are classic scripts, because a page opened from a disk may not fetch.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from synthfactory.dashboard.boards import AXES, overall
from synthfactory.dashboard.charts import MARKERS, mark_of
from synthfactory.dashboard.records import Detail, Record
from synthfactory.dashboard.survey import STATE_LOOKS, Survey, title_of

RUN_FIELDS = (
    "run", "state", "stage", "dataset", "generator", "seed", "version", "ended_at",
    "wall_s", "cpu_h", "gpu_h", "kwh", "energy_method", "peak_mb",
)  # fmt: skip
MEASURED_FIELDS = (
    "run", "metric", "estimate", "lcb", "ucb", "n", "baseline", "control", "confidence",
)  # fmt: skip
_DIGITS = 4


def runs_script(survey: Survey) -> str:
    """What every page's script knows: a column per field."""
    records = survey.records
    datasets = _places(survey.dataset_labels)
    generators = _places(survey.generator_labels)
    states = _places(sorted({record.state for record in records}))
    versions = _places(survey.versions)
    data: dict[str, Any] = {
        "datasets": list(datasets),
        "generators": [
            {"label": label, "colour": mark_of(label).colour, "marker": mark_of(label).marker}
            for label in generators
        ],
        "states": list(states),
        "looks": [STATE_LOOKS[state][0] for state in states],
        "versions": list(versions),
        "markers": MARKERS,
        "axes": [
            {
                "key": axis.key,
                "title": axis.title,
                "unit": axis.unit,
                "better": axis.better,
                "bounded": axis.metric is not None,
            }
            for axis in AXES
        ],
        "run": [record.run for record in records],
        "d": [datasets[survey.datasets[record.run]] for record in records],
        "g": [generators[survey.generators[record.run]] for record in records],
        "s": [states[record.state] for record in records],
        "v": [versions[record.version] for record in records],
    }
    numbers = {
        "seed": _numbers([record.seed for record in records]),
        "at": _numbers([record.ended_at for record in records]),
    }
    for axis in AXES:
        found = [axis.interval(record) for record in records]
        columns = [
            _numbers([None if item is None else item[at] for item in found])
            for at in range(3 if axis.metric else 1)
        ]
        numbers[axis.key] = f"[{','.join(columns)}]"
    further = "".join(f',"{name}":{column}' for name, column in numbers.items())
    return f"window.SF_RUNS={_js(data)[:-1]}{further}}};\n"


def boards_script(survey: Survey) -> str:
    """Every metric's cells with their ranks, and what failed."""
    datasets, generators = _places(survey.dataset_labels), _places(survey.generator_labels)
    metrics = {}
    for metric in survey.metrics:
        cells = survey.board(metric)
        metrics[metric] = {
            "title": title_of(metric),
            "unit": survey.unit(metric),
            "better": survey.better(metric),
            "cells": [
                [datasets[dataset], generators[generator], _short(cell.estimate), _short(cell.lcb),
                 _short(cell.ucb), cell.n_runs, cell.best, cell.worst]
                for (dataset, generator), cell in cells.items()
            ],
            "overall": [
                [generators[row.generator], row.rank, _short(row.best), _short(row.worst),
                 row.coverage]
                for row in overall(cells)
            ],
        }  # fmt: skip
    groups = [
        [datasets[dataset], generators[generator], len(group.runs), group.count("failed")]
        for (dataset, generator), group in survey.groups.items()
    ]
    return _script("SF_BOARDS", {"metrics": metrics, "groups": groups})


def run_script(detail: Detail, dataset: str) -> str:
    """What the comparison needs of one run; loaded when the run is chosen."""
    return "sfRun(" + _js(run_document(detail, dataset)) + ");\n"


def run_document(detail: Detail, dataset: str) -> dict[str, Any]:
    """One run for the comparison, and for download."""
    record = detail.record
    return {
        "run": record.run,
        "state": record.state,
        "why": list(record.why),
        "dataset": dataset,
        "generator": record.generator,
        "seed": record.seed,
        "metrics": {
            item["id"]: [
                *(item[name] for name in ("estimate", "lcb", "ucb")),
                item["unit"],
                title_of(item["id"]),
            ]
            for item in (detail.findings or {}).get("measurements", ())
        },
        "resources": dict(record.resources),
        "config": dict(detail.config),
        "environment": dict(detail.environment),
        "training": dict(detail.training),
    }


def runs_csv(survey: Survey) -> str:
    """A row per run."""
    rows = (run_row(survey, record) for record in survey.records)
    return _csv(RUN_FIELDS, ([_cell(row[name]) for name in RUN_FIELDS] for row in rows))


def measurements_csv(survey: Survey) -> str:
    """A row per run and measurement, with every digit of the findings."""
    return _csv(
        MEASURED_FIELDS,
        (
            (run, metric, *found)
            for run, record in ((_cell(record.run), record) for record in survey.records)
            for metric, found in record.metrics.items()
        ),
    )


def runs_json(survey: Survey) -> str:
    """The same as both CSV files, nested; ``columns`` names the numbers of a measurement."""
    runs = [
        {
            **run_row(survey, record),
            "why": list(record.why),
            "unmeasured": list(record.unmeasured),
            "measurements": record.metrics,
        }
        for record in survey.records
    ]
    document = {"columns": MEASURED_FIELDS[2:], "runs": runs}
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def run_row(survey: Survey, record: Record) -> dict[str, Any]:
    """The plain fields of a run."""
    return {
        "run": record.run,
        "state": record.state,
        "stage": record.stage,
        "dataset": survey.datasets[record.run],
        "generator": survey.generators[record.run],
        "seed": record.seed,
        "version": record.version,
        "ended_at": record.ended_at,
        **record.resources,
        "energy_method": record.energy_method,
    }


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula.

    >>> _cell("=1+1"), _cell(-0.5), _cell(None)
    ("'=1+1", -0.5, '')
    """
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
    return "" if value is None else value


def _short(value: float) -> float:
    """Four significant digits: enough for drawing, and a third of the bytes."""
    return float(f"{value:.{_DIGITS}g}")


def _numbers(values: Iterable[float | None]) -> str:
    """Numbers as JavaScript, every digit of them, in few bytes.

    >>> _numbers([0.25, -0.5, 3.0, 1e-07, None])
    '[.25,-.5,3,1e-07,null]'
    """
    return "[" + ",".join("null" if value is None else _literal(value) for value in values) + "]"


def _literal(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    text = repr(value).removesuffix(".0")
    sign = "-" if text.startswith("-") else ""
    whole = text.removeprefix("-")
    return sign + (whole[1:] if whole.startswith("0.") else whole)


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _script(name: str, data: Any) -> str:
    return f"window.{name}={_js(data)};\n"


def _js(data: Any) -> str:
    """JSON that is also JavaScript and cannot end a script: ASCII only, no ``<``."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
