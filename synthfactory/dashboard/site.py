"""The site's folder: what is read again, what is written again, and what stays.

::

    <site>/
      index.html, runs.html, runs-2.html, ...        the pages over all runs; long lists in parts
      runs/<run>/index.html, report.html, run.json, run.js
      data/runs.js, boards.js                        for the pages' script
      data/runs.csv, measurements.csv, runs.json     for anybody's own work
      .dashboard-cache.json                          what was read, and what it was read from

A run whose files did not change is taken from the cache, so a new run among a thousand costs the
reading of one run and the writing of the pages over all runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthfactory import __version__, artifacts
from synthfactory.dashboard import exports, pages, records
from synthfactory.dashboard.records import Detail, Record
from synthfactory.dashboard.survey import Change, Survey
from synthfactory.errors import OrderError
from synthfactory.journal import ORDER_FILE

CACHE = ".dashboard-cache.json"
MAX_CHANGES = 60
N_COMPARED = 3


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did.

    Parameters
    ----------
    site
        The folder.
    runs, read, changed
        Runs in all, runs that were read again, runs whose state changed.
    unreadable
        Folders that look like runs and cannot be read.
    seconds
        On the clock.
    """

    site: Path
    runs: int
    read: int
    changed: int
    unreadable: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {**asdict(self), "site": str(self.site), "unreadable": list(self.unreadable)}


@dataclass
class _Cache:
    """What earlier builds know, by run's name; lies in the site and holds no digest of a table."""

    runs: dict[str, dict[str, Any]]
    about_datasets: dict[str, dict[str, Any]]
    about_metrics: dict[str, dict[str, Any]]
    changes: list[Change]

    @classmethod
    def read(cls, site: Path) -> _Cache:
        """The cache of a site; an empty one when there is none of this version."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads((site / CACHE).read_bytes())
            if found["format"] == _format():
                return cls(
                    runs=found["runs"],
                    about_datasets=found["about_datasets"],
                    about_metrics=found["about_metrics"],
                    changes=[Change(**change) for change in found["changes"]],
                )
        return cls(runs={}, about_datasets={}, about_metrics={}, changes=[])

    def write(self, site: Path) -> None:
        """Keep it for the next build."""
        document = {
            "format": _format(),
            "runs": self.runs,
            "about_datasets": self.about_datasets,
            "about_metrics": self.about_metrics,
            "changes": [asdict(change) for change in self.changes],
        }
        _write(site / CACHE, json.dumps(document, separators=(",", ":")))


def build(runs: Path, site: Path, *, live: bool = False) -> Built:
    """Write the site over the runs under ``runs``, or bring it up to date.

    Parameters
    ----------
    runs
        A folder of runs; only read.
    site
        A new or empty folder, or a site that was built before.
    live
        Whether the pages ask the server for news (`serve`).

    Raises
    ------
    OrderError
        When ``runs`` is no folder, or ``site`` holds something else.
    StorageError
        When the site cannot be written.
    """
    began_s = time.monotonic()
    if not runs.is_dir():
        raise OrderError(
            f"Expected a folder of runs, but there is no folder {runs}. "
            "Name it: synthfactory dashboard RUNS -o SITE"
        )
    _expect_own(site)
    with artifacts.storage_errors("write", site, setting="-o"):
        site.mkdir(parents=True, exist_ok=True)
        survey, cache, fresh = _look(runs, site)
        _write_runs(runs, site, survey, fresh)
        _write_pages(runs, site, survey, live=live)
        cache.write(site)
    latest = cache.changes[0].at if cache.changes else 0.0
    return Built(
        site=site,
        runs=len(survey.records),
        read=len(fresh),
        changed=sum(change.at == latest for change in cache.changes) if fresh else 0,
        unreadable=tuple(survey.unreadable),
        seconds=round(time.monotonic() - began_s, 3),
    )


def _expect_own(site: Path) -> None:
    """Never write into a folder of other things."""
    if site.is_dir() and any(site.iterdir()) and not (site / CACHE).is_file():
        raise OrderError(
            f"Expected a new folder, an empty one or a site built before, but {site} holds other "
            "files. Name another: synthfactory dashboard RUNS -o SITE"
        )


def _look(runs: Path, site: Path) -> tuple[Survey, _Cache, dict[str, Detail]]:
    """Read what is new; returns everything, the cache to keep, and the details that were read."""
    cache = _Cache.read(site)
    tables = _Tables(runs, {name: entry["label"] for name, entry in cache.runs.items()})
    entries: dict[str, dict[str, Any]] = {}
    found: list[Record] = []
    fresh: dict[str, Detail] = {}
    unreadable: list[str] = []
    for folder in sorted(path.parent for path in runs.glob(f"*/{ORDER_FILE}")):
        known = cache.runs.get(folder.name)
        stamp = records.signature(folder)
        if known is not None and known["final"] and known["signature"] == stamp:
            entries[folder.name] = known
            found.append(Record.from_dict(known["record"]))
            continue
        try:
            detail = records.read_detail(folder)
            label = tables.label(folder, detail.record.dataset)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # One damaged folder must not hide the others; it is named on the overview.
            unreadable.append(folder.name)
            continue
        record = detail.record
        found.append(record)
        if known is None or known["record"] != record.to_dict():
            fresh[folder.name] = detail
        _remember(cache, detail, label)
        entries[folder.name] = {
            "signature": stamp,
            "final": records.is_final(record),
            "label": label,
            "record": record.to_dict(),
        }
    changes = _changes(cache.runs, entries)
    _remove_gone(site, cache.runs, entries)
    cache.runs = entries
    cache.changes = (changes + cache.changes)[:MAX_CHANGES]
    survey = Survey(
        records=sorted(found, key=lambda record: (-(record.ended_at or 0.0), record.run)),
        datasets={name: entry["label"] for name, entry in entries.items()},
        about_datasets=cache.about_datasets,
        about_metrics=cache.about_metrics,
        changes=cache.changes,
        unreadable=unreadable,
    )
    return survey, cache, fresh


class _Tables:
    """Labels of tables: two tables of one name are told apart, without naming their digests."""

    def __init__(self, runs: Path, labels: Mapping[str, str]) -> None:
        self._runs = runs
        self._known = dict(labels)
        self._digests: dict[str, str] = {}

    def label(self, folder: Path, dataset: str) -> str:
        """The label of a run's table: that of an earlier run of the same table, or a new one."""
        digest = records.table_digest(folder)
        number = 1
        while True:
            label = dataset if number == 1 else f"{dataset} (table {number})"
            taken = self._digest(label)
            if taken is None or taken == digest:
                self._digests[label] = digest
                self._known[folder.name] = label
                return label
            number += 1

    def _digest(self, label: str) -> str | None:
        if label not in self._digests:
            for name in (name for name, given in self._known.items() if given == label):
                with suppress(OSError, ValueError, KeyError):
                    self._digests[label] = records.table_digest(self._runs / name)
                    break
        return self._digests.get(label)


def _remember(cache: _Cache, detail: Detail, label: str) -> None:
    """Keep what a report says about its table, and how each number was measured."""
    if detail.dataset is not None:
        cache.about_datasets[label] = dict(detail.dataset)
    version = detail.record.version
    for item in (detail.findings or {}).get("measurements", ()):
        about = cache.about_metrics.setdefault(item["id"], {"methods": {}})
        about["unit"], about["better"] = item["unit"], item["better"]
        methods = about["methods"].setdefault(version, [])
        if item["method"] not in methods:
            methods.append(item["method"])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Runs whose state is another one than at the last build."""
    now = round(time.time(), 3)

    def state(entries: Mapping[str, Any], name: str) -> str:
        return str(entries[name]["record"]["state"]) if name in entries else ""

    return [
        Change(at=now, run=name, before=state(before, name), after=state(after, name))
        for name in sorted({*before, *after})
        if state(before, name) != state(after, name)
    ]


def _remove_gone(site: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name in set(before) - set(after):
        shutil.rmtree(site / "runs" / name, ignore_errors=True)


def _write_runs(runs: Path, site: Path, survey: Survey, fresh: Mapping[str, Detail]) -> None:
    """The pages of the runs that were read."""
    for name, detail in fresh.items():
        folder = site / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        if detail.record.report is not None:
            _link(runs / name / detail.record.report, folder / "report.html")
        dataset = survey.datasets[name]
        document = exports.run_document(detail, dataset)
        _write(folder / "run.json", json.dumps(document, indent=1, sort_keys=True))
        _write(folder / "run.js", exports.run_script(detail, dataset))
        _write(folder / "index.html", pages.run_page(detail, dataset))


def _write_pages(runs: Path, site: Path, survey: Survey, *, live: bool) -> None:
    """The pages over all runs and their data; files that would not change are left alone."""
    data = site / "data"
    data.mkdir(exist_ok=True)
    _write(data / "runs.js", exports.runs_script(survey))
    _write(data / "boards.js", exports.boards_script(survey))
    _write(data / "runs.csv", exports.runs_csv(survey))
    _write(data / "measurements.csv", exports.measurements_csv(survey))
    _write(data / "runs.json", exports.runs_json(survey))
    compared = []
    for record in [item for item in survey.records if item.metrics][:N_COMPARED]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            detail = records.read_detail(runs / record.run)
            compared.append(exports.run_document(detail, survey.datasets[record.run]))
    written = pages.overview_pages(survey, compared, live=live)
    for name, text in written.items():
        _write(site / name, text)
    for name in pages.DIVIDED:
        for path in site.glob(f"{name}-*.html"):
            if path.name not in written:
                path.unlink()
    if live:
        stamp = hashlib.sha256("".join(written.values()).encode("utf-8", "replace")).hexdigest()
        _write(data / "stamp.json", json.dumps({"stamp": stamp[:16]}))


def _link(source: Path, target: Path) -> None:
    """The report beside the page: the same file where the disk allows it, else a copy."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _write(path: Path, text: str) -> None:
    """Replace a file whole, and only when its content is another one."""
    content = text.encode("utf-8", "replace")
    with suppress(FileNotFoundError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _format() -> str:
    """Another version, or other templates, build everything anew."""
    return f"synthfactory-dashboard/1 {__version__} {pages.assets_digest()}"
