"""The three WP216 attacks on Adult beside anonymeter, in alternating turns on the same rows.

    python benchmarks/wp216.py --anonymeter ENVIRONMENT/bin/python

Ours makes 2,000 attacks of each kind on members and as many on strangers; anonymeter makes 500 of
each (attack, baseline, control), so its times are those of a quarter of the work.  Both sides were
called once before, so that compiling is not counted; how long our first call took is recorded.
Processor seconds stand beside wall time, because they depend less on what else a machine does.
anonymeter lives in an environment of its own (``pip install anonymeter==1.1.0 pyarrow``), where
``wp216_anonymeter.py`` runs it.  The results go to ``benchmarks/results/wp216.json``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

import synthfactory as sf
from synthfactory.evaluation import Evaluation
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.privacy import attribute_inference, linkability, singling_out
from synthfactory.tables import Dataset

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "wp216.json"
ADULT = HERE.parent / "conf" / "dataset" / "adult.yaml"
N_ATTACKS = 2_000
N_THEIRS = 500


def gather(threads: int) -> Evidence:
    """Adult and rows of a generator that keeps no dependence."""
    declared = yaml.safe_load(ADULT.read_text())
    declared.pop("_target_")
    train, control, test = sf.split(Dataset(**declared).load(), seed=0)
    synthetic = sf.Independent().fit(train, seed=0, threads=threads).sample(train.n_rows, seed=1)
    return Evaluation(attacks=N_ATTACKS).gather(
        train=train, control=control, test=test, synthetic=synthetic, seed=2, threads=threads
    )


def write_tables(evidence: Evidence, folder: Path) -> None:
    """What both sides see: members, as many strangers, and the synthetic rows."""
    assert evidence.tables is not None
    n = len(evidence.members)
    picked = evidence.stream("members").permutation(len(evidence.train))[:n]
    tables = {
        "members": evidence.tables.train.data.take(sorted(picked)),
        "strangers": evidence.tables.control.data.slice(0, n),
        "synthetic": evidence.tables.synthetic.data,
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")


def attacks(evidence: Evidence) -> dict[str, Callable[[], object]]:
    """Each attack on members and strangers with what guessing gives."""
    rows = evidence.at_most(evidence.synthetic, "rows")
    halves = linkability.splits(evidence)[linkability.DECLARED]
    columns = range(len(evidence.names))
    return {
        "singling out": lambda: (
            singling_out.attacks(evidence, rows, "benchmark"),
            singling_out.naive_rates(evidence, rows),
        ),
        "linkability": lambda: (
            linkability.attack(evidence, rows, halves, "benchmark"),
            linkability.naive(len(rows), linkability.N_NEIGHBOURS),
        ),
        "inference, all columns": lambda: (
            attribute_inference.attack_every_column(evidence),
            [attribute_inference.most_frequent(evidence, place) for place in columns],
        ),
    }


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of wall and processor time."""
    began_s, cpu_s = time.monotonic(), time.process_time()
    work()
    return {
        "wall_s": round(time.monotonic() - began_s, 4),
        "cpu_s": round(time.process_time() - cpu_s, 4),
    }


def theirs(python: str, folder: Path, evidence: Evidence) -> dict[str, Any]:
    """anonymeter's seconds, in a process of its own."""
    halves = linkability.splits(evidence)[linkability.DECLARED]
    settings = {
        "n_attacks": N_THEIRS,
        "jobs": evidence.threads,
        "halves": [[evidence.names[place] for place in half] for half in halves],
        "numbers": [column.name for column in evidence.schema.numeric],
    }
    found = subprocess.run(
        [python, str(HERE / "wp216_anonymeter.py"), str(folder), json.dumps(settings)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": ""},
    )
    facts: dict[str, Any] = json.loads(found.stdout)
    return facts


def compare(turns: list[dict[str, Any]], name: str, clock: str) -> dict[str, float]:
    """Medians of both sides by one clock."""
    ours, other = (
        statistics.median(turn[who][name][clock] for turn in turns)
        for who in ("ours", "anonymeter")
    )
    return {"ours": ours, "anonymeter": other, "times as fast": round(other / ours, 1)}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anonymeter", required=True, help="python of its environment")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    evidence = gather(options.threads)
    ours = attacks(evidence)
    first = {name: timed(work) for name, work in ours.items()}
    turns = []
    with tempfile.TemporaryDirectory() as scratch:
        write_tables(evidence, Path(scratch))
        for _ in range(options.turns):
            load = round(os.getloadavg()[0], 1)
            mine = {name: timed(work) for name, work in ours.items()}
            other = theirs(options.anonymeter, Path(scratch), evidence)
            turns.append({"load before": load, "ours": mine, **other})
            print(json.dumps(turns[-1]), flush=True)
    medians = {
        name: {clock: compare(turns, name, clock) for clock in ("wall_s", "cpu_s")} for name in ours
    }
    recorded = {
        "what": f"ours: {N_ATTACKS} attacks on members and on strangers; anonymeter: {N_THEIRS}",
        "rows": {"members": len(evidence.members), "synthetic": len(evidence.synthetic)},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared",
        "threads": options.threads,
        "versions": {
            name: importlib.metadata.version(name) for name in ("synthfactory", "numpy", "numba")
        },
        "first call": first,
        "turns": turns,
        "median": medians,
    }
    print(json.dumps(medians, indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
