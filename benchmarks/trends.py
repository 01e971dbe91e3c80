"""All-pairs trends on large tables, beside SDMetrics' QualityReport.

    python benchmarks/trends.py --sdmetrics ENVIRONMENT/bin/python

Two tables of 200,000 rows are drawn from the embedded Adult table with replacement, and every
number gets noise of a thousandth of its standard deviation; in the second one, a fifth of the
values of every column are dealt out anew.  Each tool measures them in a process of its own, in
turns, from tables in memory:

- ``trends``: this package, to the mean over all pairs of all rows;
- ``suite``: the same with intervals, association, correlation, fresh real rows and independent
  columns, as an evaluation makes them;
- ``report``: SDMetrics' QualityReport as it comes: it leaves out pairs below its thresholds, and
  uses 50,000 rows for pairs with levels;
- ``report_all``: the same without thresholds, on all rows;
- ``report_pairs``: only the part of ``report`` that is about pairs.

Then single pairs are compared: SDMetrics' ContingencySimilarity of two columns of levels, and its
CorrelationSimilarity of two numbers, must be the same numbers here.  The results go to
``benchmarks/results/trends.json``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "trends.json"
NOISE = 0.001
DEALT_ANEW = 0.2
PACKAGES = ("synthfactory", "sdmetrics", "numpy", "pandas", "scipy")


class Watch:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Both; processor seconds tell more where other work shares the machine."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        return {"wall_s": wall_s - self._wall_s, "cpu_s": cpu_s - self._cpu_s}


def write_tables(folder: Path, n_rows: int) -> None:
    """Both tables, one below the other, and the kinds of their columns."""
    import numpy as np
    import pandas as pd

    from synthfactory.tables import Dataset

    adult = Dataset(path="package:adult", target="income").load()
    numbers = [column.name for column in adult.schema.numeric]
    frame, chance = adult.to_pandas(), np.random.default_rng(0)

    def draw() -> pd.DataFrame:
        rows = frame.iloc[chance.integers(0, len(frame), n_rows)].reset_index(drop=True)
        for name in numbers:
            noise = NOISE * frame[name].std() * chance.standard_normal(n_rows)
            rows[name] = rows[name].astype(float) + noise
        return rows

    real, synthetic = draw(), draw()
    for name in synthetic:
        moved = np.flatnonzero(chance.random(n_rows) < DEALT_ANEW)
        synthetic.loc[moved, name] = synthetic[name].to_numpy()[chance.permutation(moved)]
    pd.concat([real, synthetic]).to_parquet(folder / "both.parquet", index=False)
    (folder / "numbers.json").write_text(json.dumps(numbers))


# This package


def ours(folder: Path, what: str) -> dict[str, Any]:
    """Seconds and the measured values."""
    import numpy as np

    import synthfactory as sf
    from synthfactory.evaluation.evaluate import conclude, work
    from synthfactory.evaluation.evidence import Binning, Evidence, pairs_of
    from synthfactory.evaluation.fidelity import correlation, joint, pairs
    from synthfactory.tables import Encoder

    numbers = json.loads((folder / "numbers.json").read_text())
    kinds = {name: {"kind": "numerical", "dtype": "double"} for name in numbers}
    both = sf.read_table(folder / "both.parquet", target="income", columns=kinds)
    n = len(both) // 2
    real, synthetic = both.take(np.arange(n)), both.take(np.arange(n, 2 * n))
    if what == "pairs":
        return our_pairs(real, synthetic)
    if what == "trends":
        watch = Watch()
        encoder = Encoder(real.schema)
        encoded = encoder.encode(real), encoder.encode(synthetic)
        binning = Binning.of(real.schema, encoded[0])
        binned = [joint.Binned.of(binning(rows), binning.sizes) for rows in encoded]
        groups = pairs_of(len(binning.sizes))
        scores = joint.similarities(joint.tables_of(binned[0], groups), binned[1], groups)
        return {
            **watch.read(),
            "n_pairs": len(scores),
            "value": float(scores.mean()),
        }
    control, test = (both.take(np.arange(k, 2 * n, 20)) for k in (0, 10))
    watch = Watch()
    evidence = Evidence.of(real, control, test, synthetic, seed=0, threads=1)
    suites = (pairs.SUITE, correlation.SUITE)
    found = conclude(evidence, suites, work(evidence, suites))
    return {
        **watch.read(),
        "value": found["fidelity.pair_trends"].estimate,
        "error": (found["fidelity.pair_trends"].ucb - found["fidelity.pair_trends"].lcb) / 3.92,
    }


def our_pairs(real: Any, synthetic: Any) -> dict[str, Any]:
    """The score of every pair of levels and of every pair of numbers."""
    from synthfactory.evaluation.fidelity import correlation, joint
    from synthfactory.tables import Encoder

    encoder = Encoder(real.schema)
    rows = [encoder.encode(table) for table in (real, synthetic)]
    sizes = [len(column.categories) + 1 for column in real.schema.discrete]
    levels = [joint.Binned.of(part.codes, sizes) for part in rows]
    groups = list(itertools.combinations(range(len(sizes)), 2))
    names = [column.name for column in real.schema.discrete]
    scores = joint.similarities(joint.tables_of(levels[0], groups), levels[1], groups)
    found = {
        f"{names[a]} / {names[b]}": score for (a, b), score in zip(groups, scores, strict=True)
    }
    frame = correlation.centres_and_scales(rows[0].numbers)
    moments = [correlation.Moments(part.numbers, *frame) for part in rows]
    matrix = correlation.similarity(*moments)
    names = [column.name for column in real.schema.numeric]
    for a, b in itertools.combinations(range(len(names)), 2):
        found[f"{names[a]} / {names[b]}"] = matrix[a, b]
    return {name: float(score) for name, score in found.items()}


# SDMetrics, in its own environment


def theirs(folder: Path, what: str) -> dict[str, Any]:
    """Seconds and the measured values."""
    import warnings

    import pandas as pd

    warnings.simplefilter("ignore")
    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.reports.single_table._properties import ColumnPairTrends

    numbers = json.loads((folder / "numbers.json").read_text())
    both = pd.read_parquet(folder / "both.parquet").reset_index(drop=True)
    n = len(both) // 2
    real, synthetic = both.iloc[:n].copy(), both.iloc[n:].reset_index(drop=True)
    sdtypes = {True: {"sdtype": "numerical"}, False: {"sdtype": "categorical"}}
    metadata = {"columns": {name: sdtypes[name in numbers] for name in real}}
    if what == "pairs":
        return their_pairs(real, synthetic, numbers)
    report: Any = QualityReport()
    if what == "report_all":
        report.real_correlation_threshold = report.real_association_threshold = 0
        report.num_rows_subsample = None
    watch = Watch()
    if what == "report_pairs":
        trends = ColumnPairTrends()
        trends.real_correlation_threshold = report.real_correlation_threshold
        trends.real_association_threshold = report.real_association_threshold
        value = trends.get_score(real, synthetic, metadata)
        details = trends.details
    else:
        report.generate(real, synthetic, metadata, verbose=False)
        value = report.get_properties().set_index("Property").loc["Column Pair Trends", "Score"]
        details = report.get_details("Column Pair Trends")
    seconds = watch.read()
    return {
        **seconds,
        "n_pairs": int(details["Score"].notna().sum()),
        "value": float(value),
    }


def their_pairs(real: Any, synthetic: Any, numbers: list[str]) -> dict[str, Any]:
    """The score of every pair of levels and of every pair of numbers, on all rows."""
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity

    levels = [name for name in real if name not in numbers]
    found = {}
    for metric, names in ((ContingencySimilarity, levels), (CorrelationSimilarity, numbers)):
        for a, b in itertools.combinations(names, 2):
            found[f"{a} / {b}"] = float(metric.compute(real[[a, b]], synthetic[[a, b]]))
    return found


# Both, in turns


SIDES = {
    "trends": "ours",
    "suite": "ours",
    "report": "theirs",
    "report_pairs": "theirs",
    "report_all": "theirs",
}


def ask(python: str, side: str, what: str, folder: Path) -> dict[str, Any]:
    """One measurement in a fresh process."""
    words = [
        python,
        str(Path(__file__).resolve()),
        "--measure",
        side,
        what,
        "--folder",
        str(folder),
    ]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(python: str, n_rows: int, turns: int) -> dict[str, Any]:
    """All measurements, in turns, and how far single pairs differ."""
    pythons = {"ours": sys.executable, "theirs": python}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tables(folder, n_rows)
        for turn in range(turns):
            for name, side in SIDES.items():
                answer = ask(pythons[side], side, name, folder)
                answers[name].append(answer)
                print(turn, name, answer, flush=True)
        mine, yours = (ask(pythons[side], side, "pairs", folder) for side in ("ours", "theirs"))
    assert mine.keys() == yours.keys()
    clocks = ("wall_s", "cpu_s")
    seconds = {
        clock: {name: [round(answer[clock], 3) for answer in each]
                for name, each in answers.items()}
        for clock in clocks
    }  # fmt: skip
    medians = {
        clock: {name: statistics.median(each) for name, each in seconds[clock].items()}
        for clock in clocks
    }
    return {
        "n_rows": n_rows,
        "turns": turns,
        "median": medians,
        "seconds": seconds,
        "values": {
            name: {key: value for key, value in each[-1].items() if key not in clocks}
            for name, each in answers.items()
        },
        "times_as_fast_as_report": {
            clock: {
                name: round(medians[clock]["report"] / medians[clock][name], 1)
                for name in ("trends", "suite")
            }
            for clock in clocks
        },
        "single_pairs": {
            "n": len(mine),
            "largest_difference": max(abs(mine[name] - yours[name]) for name in mine),
        },
        "machine": {
            "shared with other work": f"load {os.getloadavg()[0]:.1f} at the end",
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "versions": {**_versions(sys.executable), **_versions(python)},
        },
    }


def _versions(python: str) -> dict[str, str]:
    words = [python, str(Path(__file__).resolve()), "--versions"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    name = "ours" if python == sys.executable else "theirs"
    return {f"{name}: {key}": value for key, value in json.loads(done.stdout).items()}


def versions() -> dict[str, str]:
    """Of the packages that this interpreter has."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sdmetrics", metavar="PYTHON", help="an interpreter that has sdmetrics")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--versions", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.versions:
        print(json.dumps(versions()))
    elif options.measure:
        side, what = options.measure
        print(json.dumps({"ours": ours, "theirs": theirs}[side](options.folder, what)))
    elif options.sdmetrics is None:
        parser.error("--sdmetrics is needed: an interpreter of an environment with sdmetrics.")
    else:
        found = compare(options.sdmetrics, options.rows, options.turns)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
