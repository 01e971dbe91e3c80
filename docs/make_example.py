"""Writes `docs/example.ipynb`: runs every cell in a kernel of its own and keeps what came out.

    pip install nbclient nbformat ipykernel
    python docs/make_example.py

The cells stand in `CELLS`; a test runs them as plain Python, without a notebook.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).parent / "example.ipynb"
ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 900

# Text cells begin with a heading or a letter; code cells are marked by their first line.
CODE = "# code\n"
CELLS = (
    """# A synthetic table, step by step

The table of this notebook is made up on the spot, so that nobody's data are in it. Yours comes from
`sf.read_table("patients.csv")`.""",
    CODE
    + """import numpy as np
import pandas as pd

import synthfactory as sf

chance = np.random.default_rng(0)
n = 4_000
age = chance.integers(18, 90, n)
smoker = chance.random(n) < 0.3
pressure = (100 + 0.5 * age + 15 * smoker + chance.normal(0, 8, n)).round(1)
ill = chance.random(n) < 1 / (1 + np.exp(-(pressure - 140) / 6))
people = pd.DataFrame(
    {
        "patient": [f"P{number:05d}" for number in range(n)],
        "age": age,
        "region": chance.choice(["north", "south", "east"], n, p=[0.5, 0.3, 0.2]),
        "smoker": smoker,
        "pressure": pressure,
        "outcome": np.where(ill, "ill", "well"),
    }
)
people.to_csv("people.csv", index=False)""",
    """## Read it

Each column's kind is inferred. A table shows its columns and counts, never a value: notebooks are
shared with their outputs.""",
    CODE
    + """table = sf.read_table("people.csv")
table""",
    """## Split by person, learn, draw

`control` are people whom the generator never sees: an attack must tell them from those it has seen.
`test` is for utility.""",
    CODE
    + """train, control, test = sf.split(table, seed=0)
model = sf.TVAE(epochs=40).fit(train, seed=0)
model""",
    CODE
    + """synthetic = model.sample(2_000, seed=1)
synthetic.head().to_pandas()""",
    """The patient numbers are new: identifiers are never learnt. Rows can be asked for by
condition.""",
    CODE
    + """model.sample(3, seed=2, conditions={"outcome": "ill", "age": (30, 40)}).to_pandas()""",
    """## Measure

Each number comes with its interval, with what chance gives (baseline), and with the same
measurement on real people whom nobody trained on (control).""",
    CODE
    + """findings = sf.evaluate(
    train=train,
    control=control,
    test=test,
    synthetic=synthetic,
    seed=3,
    evaluation=sf.Evaluation(max_rows=2_000, repeats=50, attacks=500),
)
findings""",
    CODE + """findings.to_frame().set_index("id").loc[["privacy.dcr_share", "utility.retained"]]""",
    """## Decide

The policy reads the bounds, never the estimates. It may well refuse a table as small as this one:
few people mean wide intervals. `synthfactory policy explain` says why each threshold has its
value.""",
    CODE
    + """verdict = sf.decide(findings, policy="default")
print("certified" if verdict.certified else "refused")
for reason in verdict.reasons:
    if not reason.passed:
        print(reason.sentence)""",
    """## The same as a run, and past runs

A run does all of this, is resumable, and ends with a signed release when the policy allows it.
Here, the floor of all generators: independent columns, which the policy refuses.""",
    CODE
    + """import subprocess
import sys

order = "run -q dataset.path=people.csv dataset.target=outcome evaluation=quick threads=1"
command = [sys.executable, "-m", "synthfactory", *order.split(), "cluster.n_workers=1"]
subprocess.run([*command, "generator=independent"], capture_output=True).returncode""",
    CODE
    + """runs = sf.runs("runs")
runs""",
    CODE
    + """names = ["state", "dataset", "generator", "seed", "wall_s", "privacy.dcr_share.ucb"]
runs.to_frame()[names]""",
)


def sources() -> list[str]:
    """The code cells, in order."""
    return [cell.removeprefix(CODE) for cell in CELLS if cell.startswith(CODE)]


def make() -> None:
    """Execute the notebook in an empty folder and write it with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    version = nbformat.v4
    cells = [
        version.new_code_cell(cell.removeprefix(CODE), id=f"cell-{number}")
        if cell.startswith(CODE)
        else version.new_markdown_cell(cell, id=f"cell-{number}")
        for number, cell in enumerate(CELLS)
    ]
    notebook = version.new_notebook(cells=cells)
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = f"{folder}/.config"
        NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3").execute(cwd=folder)
        for cell in notebook.cells:
            cell.get("metadata", {}).pop("execution", None)
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        text = re.sub(re.escape(folder) + "/?", "", version.writes(notebook))
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make()
