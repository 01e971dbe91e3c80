"""Hundreds of run folders for tests of size: copies of real ones with changed names and figures."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT = ("DONE.json", "report.html", "split.json", "resources.json", "events.jsonl", "status.json",
        "certificate.json", "failure.json")  # fmt: skip
BOUNDED = ("estimate", "lcb", "ucb")


def copy_runs(
    sources: Sequence[Path], target: Path, count: int, *, n_tables: int = 8, first: int = 0
) -> list[Path]:
    """Write ``count`` folders, each a copy of a real one with its own name, seed and figures.

    Files that do not change are links to the originals.  The figures are moved by up to a
    hundredth, the same amount for an estimate and its bounds.
    """
    return [
        copy_run(sources[at % len(sources)], target, at, n_tables=n_tables)
        for at in range(first, first + count)
    ]


def copy_run(source: Path, target: Path, at: int, *, n_tables: int) -> Path:
    """One copy; see `copy_runs`."""
    table = f"table{at % n_tables}"
    generator = source.name.split("-")[1]
    folder = target / f"{table}-{generator}-s{at}-{at:012x}"
    chance = random.Random(at)
    for path in sorted(source.rglob("*")):
        copy = folder / path.relative_to(source)
        if path.name in KEPT:
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)
        elif path.suffix == ".json" and path.name in ("order.json", "findings.json", "report.json",
                                                      "verdict.json"):  # fmt: skip
            document = json.loads(path.read_text())
            _change(path.name, document, table, at, chance.uniform(-0.01, 0.01))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(json.dumps(document))
    return folder


def _change(name: str, document: dict[str, Any], table: str, at: int, shift: float) -> None:
    if name == "order.json":
        document["order"]["dataset"]["name"] = table
        document["order"]["seed"] = at
        document["table"] = f"sha256:{table}"
    if name == "report.json":
        document["dataset"]["name"] = document["dataset"]["title"] = table
    if name == "findings.json":
        for item in document["measurements"]:
            for bound in BOUNDED:
                item[bound] = float(f"{item[bound] + shift:.6g}")
