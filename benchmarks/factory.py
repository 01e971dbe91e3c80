"""The whole way, timed: the default order, the planted leaks, and any tables after `inspect`.

    python benchmarks/factory.py     # the default order, then bootstrap and independent
    python benchmarks/factory.py --tables FOLDER_OF_CSV generator=tvae generator.epochs=60

Each order runs as a user would type it, in a fresh folder; wall time and the peak memory of all
its processes (their resident sets, summed, sampled five times a second) are recorded with the
verdict in ``benchmarks/results/factory.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results" / "factory.json"
SYNTHFACTORY = [sys.executable, "-m", "synthfactory"]


def timed(name: str, words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command to its end; its exit code, wall time, peak memory and outcome."""
    began_s = time.monotonic()
    process = subprocess.Popen(
        [*SYNTHFACTORY, "run", "--json", "-q", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = 0
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, _resident(tree))
        time.sleep(0.2)
    assert process.stdout is not None
    outcomes = json.loads(process.stdout.read() or "[]")
    return {
        "name": name,
        "command": "synthfactory run " + " ".join(words),
        "exit_code": process.returncode,
        "wall_s": round(time.monotonic() - began_s, 1),
        "peak_mb": round(peak / 2**20),
        "state": outcomes[0]["state"] if outcomes else "none",
        "reasons": outcomes[0]["reasons"] if outcomes else [],
    }


def _resident(tree: psutil.Process) -> int:
    total = 0
    for process in (tree, *tree.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def inspected(table: Path, folder: Path) -> list[str]:
    """What `inspect` writes, without hand-editing, as the words that use it."""
    yaml = folder / "conf" / "dataset" / f"{table.stem}.yaml"
    subprocess.run([*SYNTHFACTORY, "inspect", str(table), "-o", str(yaml)], check=True)
    return ["--config-dir", str(folder / "conf"), f"dataset={table.stem}"]


def record(entry: dict[str, Any]) -> None:
    """Add or replace one entry of the results."""
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    entries = [old for old in entries if old["name"] != entry["name"]] + [entry]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(entries, indent=1) + "\n")
    print(json.dumps(entry), flush=True)


def main() -> None:
    """Time what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, help="a folder of CSV files")
    parser.add_argument("settings", nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.tables is not None:
            for table in sorted(options.tables.resolve().glob("*.csv")):
                entry = timed(
                    f"table {table.stem}", [*inspected(table, folder), *options.settings], folder
                )
                entry["command"] = (
                    f"synthfactory inspect {table.name} -o conf/dataset/{table.stem}.yaml; "
                    f"synthfactory run --config-dir conf dataset={table.stem} "
                    + " ".join(options.settings)
                )
                record(entry)
            return
        record(timed("default", options.settings, folder))
        record(timed("default, repeated", options.settings, folder))
        for generator in ("bootstrap", "independent"):
            record(timed(generator, [f"generator={generator}", *options.settings], folder))


if __name__ == "__main__":
    main()
