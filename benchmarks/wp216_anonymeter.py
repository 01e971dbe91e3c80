"""anonymeter's three attacks on the tables that `wp216.py` wrote; prints its seconds as JSON.

    ENVIRONMENT/bin/python benchmarks/wp216_anonymeter.py FOLDER SETTINGS

It runs in an environment of its own and imports nothing of synthfactory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator


def singling_out(tables: dict[str, pd.DataFrame], n_attacks: int) -> None:
    """Univariate and multivariate."""
    for mode in ("univariate", "multivariate"):
        SinglingOutEvaluator(**tables, n_attacks=n_attacks, n_cols=3, seed=0).evaluate(mode=mode)


def linkability(tables: dict[str, pd.DataFrame], n_attacks: int, halves: Any, jobs: int) -> None:
    """One split."""
    LinkabilityEvaluator(**tables, aux_cols=tuple(halves), n_attacks=n_attacks).evaluate(
        n_jobs=jobs
    )


def inference(
    tables: dict[str, pd.DataFrame], n_attacks: int, numbers: list[str], jobs: int
) -> None:
    """Every column from all others."""
    columns = list(tables["ori"].columns)
    for secret in columns:
        known = [column for column in columns if column != secret]
        InferenceEvaluator(
            **tables, aux_cols=known, secret=secret, regression=secret in numbers,
            n_attacks=n_attacks,
        ).evaluate(n_jobs=jobs)  # fmt: skip


def timed(work: Callable[[], None]) -> dict[str, float]:
    """Seconds of wall and processor time."""
    began_s, cpu_s = time.monotonic(), time.process_time()
    work()
    return {
        "wall_s": round(time.monotonic() - began_s, 3),
        "cpu_s": round(time.process_time() - cpu_s, 3),
    }


def main() -> None:
    """Warm up, time, print."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    files = {"ori": "members", "control": "strangers", "syn": "synthetic"}
    tables = {role: pd.read_parquet(folder / f"{name}.parquet") for role, name in files.items()}
    for frame in tables.values():
        # Its code wants plain objects where newer pandas reads strings.
        for name in frame.columns:
            if not pd.api.types.is_numeric_dtype(frame[name]):
                frame[name] = frame[name].astype(object)
    jobs, numbers = settings["jobs"], settings["numbers"]
    works: dict[str, Callable[[int], None]] = {
        "singling out": lambda n: singling_out(tables, n),
        "linkability": lambda n: linkability(tables, n, settings["halves"], jobs),
        "inference, all columns": lambda n: inference(tables, n, numbers, jobs),
    }
    with contextlib.redirect_stdout(sys.stderr):
        for work in works.values():
            work(10)
        seconds = {
            name: timed(lambda work=work: work(settings["n_attacks"]))
            for name, work in works.items()
        }
    versions = {name: version(name) for name in ("anonymeter", "pandas", "numpy", "scikit-learn")}
    print(json.dumps({"anonymeter": seconds, "versions": versions}))


if __name__ == "__main__":
    main()
