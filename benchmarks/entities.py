"""Do intervals hold where people have several rows each?

    python benchmarks/entities.py [--repetitions 100] [--rows-of-one 6]

People are drawn anew in each repetition, 40 in every part, each with six rows that are nearly the
same (99 % of the variance lies between people).  Synthetic rows are of other such people, of the
same distribution or of one half as wide again.  It is counted how often the 95 % intervals hold the
mean of all estimates: with the entity declared, and with the same rows taken for independent.

Written to ``benchmarks/results/entities.json``; `benchmarks/calibration.py` shows it on its page.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from synthfactory.artifacts import read_json, write_json
from synthfactory.evaluation import Evidence, Findings, conclude, measure
from synthfactory.evaluation.fidelity import alpha_precision, mmd, pairs, prdc, triples, two_sample
from synthfactory.evaluation.intervals import wilson
from synthfactory.evaluation.utility import scores
from synthfactory.evaluation.utility.task import Task
from synthfactory.tables import Column, Schema, Table

RESULTS = Path(__file__).resolve().parent / "results" / "entities.json"
SUITES = (
    two_sample.SUITE, mmd.SUITE, prdc.SUITE, alpha_precision.SUITE, pairs.SUITE, triples.SUITE
)  # fmt: skip
N_PEOPLE = 40
BETWEEN = 0.99
LEVELS = tuple("ab")
SPREADS = {"the same distribution": 1.0, "half as wide again": 1.5}
SCORE = "utility, the AUC of fixed predictions"


def schema(entity: str | None) -> Schema:
    """Two numbers and a level, with or without the entity."""
    return Schema(
        columns=(
            Column(name="person", kind="identifier", dtype="string"),
            Column(name="x", kind="numerical", dtype="double"),
            Column(name="y", kind="numerical", dtype="double"),
            Column(name="c", kind="categorical", dtype="string", categories=LEVELS),
        ),
        entity=entity,
    )


def draw(chance: np.random.Generator, rows_of_one: int, spread: float) -> Table:
    """People with several rows each."""
    people = chance.normal(size=(N_PEOPLE, 3)) * np.sqrt(BETWEEN)
    rows = np.repeat(people, rows_of_one, axis=0)
    rows = spread * (rows + np.sqrt(1 - BETWEEN) * chance.normal(size=rows.shape))
    frame = pd.DataFrame(
        {
            "person": np.repeat([f"p{i}" for i in range(N_PEOPLE)], rows_of_one),
            "x": rows[:, 0],
            "y": rows[:, 1],
            "c": np.array(LEVELS)[(rows[:, 0] + rows[:, 2] > 0).astype(int)],
        }
    )
    data = pa.Table.from_pandas(frame, preserve_index=False)
    return Table(data=data, schema=schema("person"))


def judged(seed: int, rows_of_one: int, spread: float) -> tuple[Findings, Findings]:
    """With the entity declared, and without."""
    chance = np.random.default_rng(seed)
    real = [draw(chance, rows_of_one, 1.0) for _ in range(3)]
    synthetic = draw(chance, rows_of_one, spread)
    base = Evidence.of(*real, synthetic, seed=seed, threads=1, repeats=100)
    apart = dataclasses.replace(base, schema=schema(None))
    together, alone = (conclude(each, SUITES, measure(each, SUITES)) for each in (base, apart))
    return together, alone


def score_covers(seed: int, rows_of_one: int) -> tuple[bool, bool]:
    """Whether a score's intervals hold its true value, with whole persons drawn and without."""
    chance = np.random.default_rng(seed)
    base = judging(seed)
    positive = np.arange(N_PEOPLE) % 2 == 1
    guess = np.repeat(positive + chance.normal(size=N_PEOPLE), rows_of_one)
    truth = np.repeat(positive, rows_of_one).astype(np.float64)
    persons = np.repeat(np.arange(N_PEOPLE), rows_of_one)
    task = Task(place=3, classes=np.array([0, 1]))
    true = 0.760250  # Phi(1 / sqrt(2))
    found = []
    for whose in (persons, None):
        predicted = {SCORE: np.column_stack([-guess, guess])}
        interval = scores.judge(base, truth, predicted, task, whose)[SCORE].interval(0.95)
        found.append(bool(interval.lcb <= true <= interval.ucb))
    return found[0], found[1]


def judging(seed: int) -> Evidence:
    """Evidence that gives draws."""
    chance = np.random.default_rng(0)
    few = [draw(chance, 1, 1.0) for _ in range(4)]
    return Evidence.of(*few, seed=seed, repeats=200)


def row(name: str, synthetic: str, held: Mapping[str, Sequence[bool]]) -> dict[str, Any]:
    """Coverage of one measurement."""
    shares = {}
    for how, each in held.items():
        found = wilson(sum(each), len(each), 0.95)
        shares[how] = {"share": found.estimate, "lcb": found.lcb, "ucb": found.ucb}
    return {"id": name, "synthetic": synthetic, **shares}


def holds(found: Sequence[Findings], name: str) -> list[bool]:
    """Which intervals hold the mean of all estimates."""
    each = [one[name] for one in found]
    true = float(np.mean([item.estimate for item in each]))
    return [item.lcb <= true <= item.ucb for item in each]


def table(found: Mapping[str, Any]) -> str:
    """The results as a table."""

    def percent(share: Mapping[str, float]) -> str:
        return f"{share['share']:.1%} [{share['lcb']:.1%}, {share['ucb']:.1%}]"

    lines = [
        "| measurement | synthetic people | entity declared | taken for independent rows |",
        "|---|---|--:|--:|",
        *(
            f"| {one['id'] if one['id'] == SCORE else '`' + one['id'] + '`'} "
            f"| {one['synthetic']} | {percent(one['entity'])} | {percent(one['rows'])} |"
            for one in found["measurements"]
        ),
    ]
    return "\n".join(lines)


def section() -> list[str]:
    """What `benchmarks/calibration.py` shows of it; nothing where it was not run."""
    if not RESULTS.exists():
        return []
    found = read_json(RESULTS)
    return [
        "## Several rows of one person",
        f"Share of {found['repetitions']:,} repetitions whose 95 % interval holds the mean of all "
        f"estimates, for {N_PEOPLE} people of {found['rows_of_one']} rows each in every part, with "
        f"{BETWEEN:.0%} of the variance between people (`python benchmarks/entities.py`). The last "
        "column takes the same rows for independent ones.",
        table(found),
    ]


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--rows-of-one", type=int, default=6)
    options = parser.parse_args()
    seeds = range(options.repetitions)
    rows = []
    for synthetic, spread in SPREADS.items():
        both = [judged(seed, options.rows_of_one, spread) for seed in seeds]
        for name in both[0][0].by_id:
            held = {
                how: holds([pair[place] for pair in both], name)
                for place, how in enumerate(("entity", "rows"))
            }
            rows.append(row(name, synthetic, held))
    covers = [score_covers(seed, options.rows_of_one) for seed in seeds]
    held = {how: [pair[place] for pair in covers] for place, how in enumerate(("entity", "rows"))}
    rows.append(row(SCORE, "", held))
    found = {
        "repetitions": options.repetitions,
        "rows_of_one": options.rows_of_one,
        "people": N_PEOPLE,
        "between": BETWEEN,
        "measurements": rows,
    }
    write_json(RESULTS, found)
    print(table(found))


if __name__ == "__main__":
    main()
