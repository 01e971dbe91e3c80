"""Membership tested by sixteen shadow models of Adult: how long it takes, and what it finds.

    python benchmarks/membership.py                    # 16 shadow TVAEs of default epochs
    python benchmarks/membership.py --epochs 30 --threads 1

A TVAE learns the train part of the embedded Adult table; sixteen shadows learn random halves of
train and control; both attacks judge up to 1,000 targets.  The quick membership attacks (DOMIAS and
the one-run epsilon audit) are timed beside them.  Wall and processor seconds, the load of the
machine, and what was found go to ``benchmarks/results/membership.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

import synthfactory as sf
from synthfactory import shadowing
from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.privacy import domias, shadows
from synthfactory.tables import Dataset

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "membership.json"
ADULT = HERE.parent / "conf" / "dataset" / "adult.yaml"


def adult() -> sf.Table:
    """The embedded table."""
    described = yaml.safe_load(ADULT.read_text())
    described.pop("_target_")
    return Dataset(**described).load()


def timed(make: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """A result, and the wall and processor seconds that it took."""
    began_s, cpu_s = time.monotonic(), time.process_time()
    made = make()
    return made, {
        "wall_s": round(time.monotonic() - began_s, 1),
        "cpu_s": round(time.process_time() - cpu_s, 1),
    }


def told(found: Measurement) -> dict[str, Any]:
    """What a measurement says, in short."""
    kept = ("worst", "looks", "forms", "tpr_at_0.1", "shadows_told_apart", "right", "guesses")
    values = found.to_dict()
    return {
        **{name: values[name] for name in ("estimate", "lcb", "ucb", "n", "control", "mde")},
        **{name: values["details"][name] for name in kept if name in values["details"]},
    }


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=sf.TVAE().epochs)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shadows", type=int, default=16)
    chosen = parser.parse_args()
    train, control, test = sf.split(adult(), seed=0)
    spec, threads = sf.TVAE(epochs=chosen.epochs), chosen.threads
    load = os.getloadavg()[0]
    model, fit = timed(lambda: spec.fit(train, seed=0, device="cpu", threads=threads))
    synthetic = model.sample(len(train), seed=1, threads=threads)
    evidence = sf.Evaluation(shadows=chosen.shadows).gather(
        train=train, control=control, test=test, synthetic=synthetic, seed=2, threads=threads,
        trainer=shadowing.ShadowTrainer(spec, train.schema, device="cpu", threads=threads),
        model=shadowing.Shadow(model, threads=threads),
    )  # fmt: skip
    results, costs = {}, {"fit of the judged model": fit}
    for suite in (domias.SUITE, shadows.SUITE):
        findings, cost = timed(
            lambda suite=suite: conclude(evidence, [suite], measure(evidence, [suite]))
        )
        costs[suite.name] = cost
        results |= {found.id: told(found) for found in findings.measurements}
        print(suite.name, cost, flush=True)
    record = {
        "machine": {
            "cpus": os.cpu_count(), "load_before": load, "load_after": os.getloadavg()[0],
            "python": platform.python_version(), "torch": torch.__version__,
            "synthfactory": sf.__version__,
        },
        "settings": {
            "table": "adult", "rows": [len(train), len(control), len(test)],
            "generator": "tvae", "epochs": chosen.epochs, "shadows": chosen.shadows,
            "targets": evidence.targets, "threads": threads,
        },
        "seconds": costs,
        "found": results,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record["seconds"], indent=2))


if __name__ == "__main__":
    main()
