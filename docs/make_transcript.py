"""Writes `docs/transcript.md`: a real campaign as a terminal shows it, nothing typed.

    python docs/make_transcript.py

Three orders on a made-up table of 8,000 people, under a policy of one's own: TVAE,
independent columns, and a generator whose package is not installed here.  They end as they end; the
script refuses to write a page on which no order was certified, none refused or none failed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

PAGE = Path(__file__).parent / "transcript.md"
ROOT = Path(__file__).resolve().parents[1]
PROMPT = "$ "
POLICY = """id: pilot
version: "1.0"
title: A pilot inside the house
use_class: restricted
rules:
  - {id: no-copies, metric: privacy.exact_match, bound: ucb, op: "<=", value: 0.02,
     why: a copied row is a person}
  - {id: not-nearer-to-members, metric: privacy.dcr_share, bound: ucb, op: "<=", value: 0.56,
     why: 8000 people allow no narrower interval}
  - {id: dependence-is-kept, metric: fidelity.association, bound: lcb, op: ">=", value: 0.5,
     why: columns drawn one by one answer no question about relations}
"""
ORDERS = (
    "--multirun --config-dir my dataset.path=people.csv dataset.target=outcome policy=pilot "
    "evaluation=quick generator=tvae,independent,sdv_tvae"
)
HEAD = """# A campaign, as a terminal shows it

Written by `python docs/make_transcript.py`, which ran these commands and wrote down what they
said; nothing here was typed or improved. Standard output and errors stand together. Where there is
no terminal, as here, progress is a line now and then; on a terminal it is a live table. `[exit N]`
is the [exit code](command-line.md#exit-codes) of the command above it. The times are of a shared
machine with two cores.
"""


def make_people(n_rows: int) -> pd.DataFrame:
    """A table of people who do not exist."""
    chance = np.random.default_rng(0)
    age = chance.integers(18, 90, n_rows)
    smoker = chance.random(n_rows) < 0.3
    pressure = (100 + 0.5 * age + 15 * smoker + chance.normal(0, 8, n_rows)).round(1)
    ill = chance.random(n_rows) < 1 / (1 + np.exp(-(pressure - 140) / 6))
    return pd.DataFrame(
        {
            "patient": [f"P{number:05d}" for number in range(n_rows)],
            "age": age,
            "region": chance.choice(["north", "south", "east"], n_rows, p=[0.5, 0.3, 0.2]),
            "smoker": smoker,
            "pressure": pressure,
            "outcome": np.where(ill, "ill", "well"),
        }
    )


class Session:
    """Commands in one folder, and what they said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = ""

    def type(self, line: str) -> str:
        """Run a line of the shell; returns what it said."""
        words = shlex.split(line, comments=True)
        command = [sys.executable, "-m", *words] if words[0] == "synthfactory" else words
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.folder / ".config"), "CI": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
        )
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said = self.clean(done.stdout)
        self.text += f"{PROMPT}{line}\n{said}[exit {done.returncode}]\n\n"
        print(f"{PROMPT}{line}\n{said}[exit {done.returncode}]\n", flush=True)
        return said

    def clean(self, said: str) -> str:
        """Without the folder in which this happened, and without this machine's name."""
        said = said.replace(f"{self.folder}/", "").replace(str(self.folder), ".")
        said = said.replace(os.uname().nodename, "laptop")
        return re.sub(r"[ \t]+$", "", said, flags=re.MULTILINE)


def record(folder: Path) -> str:
    """Run the campaign and look at what came out; returns the page.

    Raises
    ------
    SystemExit
        When the campaign did not end in all three ways.
    """
    (folder / "my" / "policy").mkdir(parents=True)
    (folder / "my" / "policy" / "pilot.yaml").write_text(POLICY)
    make_people(8_000).to_csv(folder / "people.csv", index=False)
    session = Session(folder)
    session.type("cat my/policy/pilot.yaml")
    session.type(f"synthfactory plan {ORDERS}")
    session.type(f"synthfactory run {ORDERS}")
    states = json.loads(
        subprocess.run(
            [sys.executable, "-m", "synthfactory", "status", "--json"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    runs = {state["state"]: state["run"] for state in states}
    if set(runs) != {"certified", "refused", "failed"}:
        raise SystemExit(f"Expected one certified, one refused, one failed order, got {states}.")
    session.type("synthfactory status")
    session.type(f"synthfactory logs runs/{runs['failed']}")
    session.type(f"synthfactory verify runs/{runs['certified']}/release")
    session.type(f"synthfactory plan {ORDERS}")
    session.type(f"synthfactory plan {ORDERS} seed=1")
    session.type("synthfactory satus")
    session.type("synthfactory plan generator.epoch=5")
    return f"{HEAD}\n```text\n{session.text.rstrip()}\n```\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        PAGE.write_text(record(Path(made).resolve()), encoding="utf-8")
