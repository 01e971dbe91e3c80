"""What a report weighs and how long it takes: 15, 100 and 500 columns.

    python benchmarks/report.py

A table of so many columns and 3,000 rows of people is made, copied with noise in the place of
synthetic rows, and really evaluated; timed is what comes after: the document, the page, and both
files on disk.  The evaluation's own time is recorded beside it.  Bytes, seconds and peak memory go
to ``benchmarks/results/report.json``.
"""

from __future__ import annotations

import json
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthfactory.certification import decide, load_policy
from synthfactory.evaluation import Evaluation
from synthfactory.generators import Independent
from synthfactory.order import Order
from synthfactory.release import build_report, write_report
from synthfactory.tables import Dataset, split_report

RESULTS = Path(__file__).parent / "results" / "report.json"
N_ROWS = 3_000
BUDGETS = {100: 1_000_000, 500: 5_000_000}
BUDGET_S = 10.0


def wide_table(n_columns: int, path: Path) -> None:
    """Columns of every kind that depend on a few hidden numbers; a third of them are levels."""
    chance = np.random.default_rng(n_columns)
    hidden = chance.standard_normal((N_ROWS, 4))
    columns: dict[str, Any] = {"outcome": np.where(hidden[:, 0] > 0.3, "ill", "well")}
    for number in range(n_columns - 1):
        value = hidden @ chance.standard_normal(4) + chance.standard_normal(N_ROWS)
        if number % 3 == 0:
            levels = [f"level {index}" for index in range(8)]
            ranks = pd.Series(value).rank(pct=True).to_numpy()
            columns[f"measured quantity {number}"] = np.array(levels)[
                np.minimum((ranks * 8).astype(int), 7)
            ]
        elif number % 9 == 1:
            days = pd.to_timedelta((100 * value).round(), unit="D")
            columns[f"measured quantity {number}"] = pd.Timestamp("2024-01-01") + days
        else:
            columns[f"measured quantity {number}"] = value.round(3)
    pd.DataFrame(columns).to_csv(path, index=False)


def measured(n_columns: int, folder: Path) -> dict[str, Any]:
    """One table's report, timed and weighed."""
    path = folder / f"columns-{n_columns}.csv"
    wide_table(n_columns, path)
    order = Order(
        dataset=Dataset(path=str(path), target="outcome"),
        generator=Independent(),
        evaluation=Evaluation(max_rows=1_000, repeats=20, attacks=300),
        policy=load_policy("default"),
        threads=1,
    )
    table, rare = order.dataset.load_with_changes()
    parts = order.split.apply(table, seed=0)
    synthetic = order.generator.fit(parts.train, seed=0).sample(len(parts.train), seed=1)
    began_s = time.perf_counter()
    findings = order.evaluation.run(**parts._asdict(), synthetic=synthetic, seed=2, threads=1)
    evaluated_s = time.perf_counter() - began_s
    verdict = decide(findings, order.policy)
    began_s = time.perf_counter()
    report = build_report(
        order,
        schema=table.schema,
        rare=rare,
        split=split_report(parts),
        findings=findings,
        verdict=verdict,
        manifest={"merkleRoot": "sha256:" + "0" * 64, "parts": [{"rows": len(synthetic)}]},
    )
    write_report(folder, report)
    report_s = time.perf_counter() - began_s
    return {
        "columns": n_columns,
        "measurements": len(findings.measurements),
        "html_bytes": (folder / "report.html").stat().st_size,
        "json_bytes": (folder / "report.json").stat().st_size,
        "report_s": round(report_s, 2),
        "evaluation_s": round(evaluated_s, 1),
        "peak_mb_so_far": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "within_budget": (folder / "report.html").stat().st_size < BUDGETS.get(n_columns, 1_000_000)
        and report_s < BUDGET_S,
    }


def main() -> None:
    """Measure, print and record."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for n_columns in (15, *BUDGETS):
            found.append(measured(n_columns, Path(folder)))
            print(json.dumps(found[-1]), flush=True)
    machine = {"machine": platform.machine(), "python": platform.python_version(), "threads": 1}
    RESULTS.write_text(json.dumps({**machine, "reports": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
