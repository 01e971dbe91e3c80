"""The leak table: six generators on Adult, each judged by every attack.

    python benchmarks/leak_table.py --folder FOLDER [--sdv-python PYTHON]

Three stages, each kept in FOLDER, so that a repeated command goes on where it was:

1. *make*: each generator learns Adult's training rows and draws as many synthetic rows.  SDV's
   CTGAN needs ``pip install 'synthfactory[sdv]'``; ``--sdv-python`` names the interpreter of another
   environment that has it.
2. *judge*: every suite judges every synthetic table.  What was judged is kept for as long as the
   evaluation's source files are the same, and judged again when they change.
3. *write*: ``benchmarks/results/leak_table.json`` and ``docs/leak-table.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from compare_sdv import describe_machine

import synthfactory as sf
from synthfactory.artifacts import read_json, write_atomic, write_json
from synthfactory.generators import Generator
from synthfactory.tables import Dataset, Parts

HOME = Path(__file__).resolve().parent
ROWS = "rows.parquet"
MADE = "made.json"
SEED = 0


def specs() -> dict[str, Generator]:
    """The generators by name, with their defaults."""
    return {
        "bootstrap": sf.Bootstrap(),
        "cart": sf.CART(),
        "ctgan": sf.CTGAN(),
        "tvae": sf.TVAE(),
        "sdv_ctgan": sf.SDVCTGAN(),
        "independent": sf.Independent(),
    }


def parts() -> Parts:
    """Adult, as `dataset=adult` declares it, divided as by default."""
    declared = yaml.safe_load((HOME.parent / "conf" / "dataset" / "adult.yaml").read_text())
    declared.pop("_target_")
    return sf.split(Dataset(**declared).load(), seed=SEED)


def make(name: str, folder: Path, *, threads: int, sdv_python: str | None) -> None:
    """Fit a generator and draw as many rows as it learnt, unless that is done."""
    if (folder / name / MADE).exists():
        return
    if name.startswith("sdv_") and importlib.util.find_spec("sdv") is None:
        _make_elsewhere(name, folder, threads=threads, sdv_python=sdv_python)
        return
    spec, train = specs()[name], parts().train
    began_s = time.monotonic()
    model = spec.fit(train, seed=SEED, device="cpu", threads=threads)
    fitted_s = time.monotonic()
    rows = model.sample(train.n_rows, seed=SEED + 1)
    write_atomic(folder / name / ROWS, rows.to_parquet_bytes())
    made: Mapping[str, Any] = {
        "generator": name,
        "hyperparameters": spec.hyperparameters(),
        "licence": spec.licence,
        "rows_learnt": train.n_rows,
        "rows_drawn": rows.n_rows,
        "fit_s": round(fitted_s - began_s, 1),
        "sample_s": round(time.monotonic() - fitted_s, 1),
        "threads": threads,
        "load_after": round(os.getloadavg()[0], 1),
        "machine": describe_machine(),
    }
    write_json(folder / name / MADE, made)
    print(name, made["fit_s"], made["sample_s"], flush=True)


def _make_elsewhere(name: str, folder: Path, *, threads: int, sdv_python: str | None) -> None:
    if sdv_python is None:
        raise SystemExit(
            f"{name} needs the package sdv: install 'synthfactory[sdv]' here, or name the Python of "
            "an environment that has it with --sdv-python."
        )
    words = [sdv_python, __file__, "--folder", str(folder), "--stage", "make", "--only", name,
             "--threads", str(threads)]  # fmt: skip
    # The other environment uses this copy of the package.
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(HOME.parent)})


def main() -> None:
    """Make, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where stages are kept")
    parser.add_argument("--sdv-python", help="a Python that has the package sdv")
    parser.add_argument("--stage", choices=["make", "judge", "write"], help="up to this one")
    parser.add_argument("--only", nargs="+", help="these generators alone")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    names = options.only or list(specs())
    for name in names:
        make(name, options.folder, threads=options.threads, sdv_python=options.sdv_python)


if __name__ == "__main__":
    main()
