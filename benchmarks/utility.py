"""The utility suite on real tables: what it costs, and what it says.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/utility.py boosting   # decision 0004
    OMP_WAIT_POLICY=PASSIVE python benchmarks/utility.py learners   # on Adult

``boosting`` takes XGBoost, as the evaluation sets it, beside scikit-learn's boosting; ``learners``
takes every piece's seconds, and the findings, for several kinds of synthetic rows.  Where other
processes want the same cores, threads of OpenMP that spin make both libraries many times slower.
Wall and processor seconds, the machine's load before and the versions are recorded in
``benchmarks/results/utility.json``; wall times on a shared machine are upper bounds.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

import synthfactory as sf
from synthfactory.evaluation import Evaluation
from synthfactory.evaluation.evaluate import conclude
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.learners import BOOSTING, few_threads, predicted, train
from synthfactory.evaluation.utility.suite import SUITE
from synthfactory.evaluation.utility.task import Rows, task_of
from synthfactory.tables import Dataset

RESULTS = Path(__file__).parent / "results" / "utility.json"
DATASETS = Path(__file__).parents[1] / "conf" / "dataset"
GENERATORS = {
    "bootstrap": sf.Bootstrap(),
    "TVAE, 15 epochs": sf.TVAE(epochs=15),
    "independent": sf.Independent(),
}
REPEATS = 3


def table(name: str) -> sf.Table:
    """An embedded table with its declared roles."""
    values = yaml.safe_load((DATASETS / f"{name}.yaml").read_text())
    del values["_target_"]
    return Dataset(**values).load()


def evidence_of(name: str, generator: Any, threads: int) -> Evidence:
    """Synthetic rows of a generator, as many as train rows, beside the real parts."""
    learnt, control, test = sf.split(table(name), seed=0)
    synthetic = generator.fit(learnt, seed=0, threads=threads).sample(learnt.n_rows, seed=1)
    return Evaluation().gather(
        train=learnt, control=control, test=test, synthetic=synthetic, seed=2, threads=threads
    )


def timed(make: Callable[[], Any]) -> tuple[Any, float, float]:
    """What was made, the wall and the processor seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    made = make()
    return made, time.perf_counter() - wall_s, time.process_time() - cpu_s


def boosting(threads: int) -> dict[str, Any]:
    """Both libraries in turns on the train rows of two tables; the quickest of three turns."""
    found = {}
    for name in ("adult", "bank"):
        evidence = evidence_of(name, sf.Independent(), threads)
        task = task_of(evidence)
        rows, test = (Rows.of(evidence, part, task) for part in (evidence.train, evidence.test))

        turns: dict[str, list[tuple[Any, float, float]]] = {"XGBoost": [], "scikit-learn": []}
        with few_threads(threads):
            for _ in range(REPEATS):
                turns["XGBoost"].append(timed(functools.partial(with_xgboost, rows)))
                turns["scikit-learn"].append(timed(functools.partial(with_scikit_learn, rows)))
        found[name] = {
            "n_rows": len(rows),
            **{
                library: {
                    "fit_s": round(min(wall_s for _, wall_s, _ in made), 3),
                    "fit_cpu_s": round(min(cpu_s for *_, cpu_s in made), 3),
                    "auc": _auc(made[0][0], test),
                }
                for library, made in turns.items()
            },
        }
    return found


def with_xgboost(rows: Rows) -> Any:
    """The learner that the evaluation uses."""
    return train(BOOSTING, rows.x, rows.y, classes=True, categorical=rows.categorical, seed=0)


def with_scikit_learn(rows: Rows) -> Any:
    """The learner that it used before."""
    model = HistGradientBoostingClassifier(
        max_iter=100,
        early_stopping=False,
        categorical_features=list(rows.categorical),
        random_state=0,
    )
    return model.fit(rows.x, rows.y)


def _auc(model: Any, test: Rows) -> float:
    shares = predicted(model, test.x, classes=True)
    return round(float(roc_auc_score(test.y == np.max(test.y), shares[:, 1])), 4)


def learners(threads: int) -> dict[str, Any]:
    """Every piece's seconds, and the findings, for each generator on Adult."""
    found = {}
    for name, generator in GENERATORS.items():
        evidence = evidence_of("adult", generator, threads)
        results: dict[tuple[str, str], Any] = {}
        seconds: dict[str, dict[str, float]] = {}
        for piece in SUITE.pieces(evidence):
            made, wall_s, cpu_s = timed(functools.partial(SUITE.work, evidence, piece))
            results[SUITE.name, piece] = made
            seconds[piece] = {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2)}
        findings, wall_s, cpu_s = timed(functools.partial(conclude, evidence, [SUITE], results))
        seconds["conclude"] = {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2)}
        found[name] = {
            "total_wall_s": round(sum(each["wall_s"] for each in seconds.values()), 1),
            "total_cpu_s": round(sum(each["cpu_s"] for each in seconds.values()), 1),
            "seconds": seconds,
            "measurements": {
                item.id: {
                    key: value
                    for key, value in item.to_dict().items()
                    if key in ("estimate", "lcb", "ucb", "baseline", "control", "n", "unit")
                }
                for item in findings.measurements
            },
            "failures": dict(findings.failures),
            "learners": findings.to_dict()["charts"]["learners"],
        }
        print(name, found[name]["total_wall_s"], found[name]["measurements"], flush=True)
    return found


def record(name: str, values: dict[str, Any]) -> None:
    """Add or replace one entry of the results."""
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    entries[name] = values
    RESULTS.write_text(json.dumps(entries, indent=1) + "\n")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["boosting", "learners"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    found = {"boosting": boosting, "learners": learners}[options.what](options.threads)
    record(
        options.what,
        {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared",
            "threads": options.threads,
            "load before": load,
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("xgboost-cpu", "scikit-learn", "fairlearn", "numpy")
            },
            "results": found,
        },
    )


if __name__ == "__main__":
    main()
