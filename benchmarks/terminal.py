"""How long the command line lets a user wait: `--help`, `--version`, completion, a misspelt word.

    python benchmarks/terminal.py

Each command runs as a process of its own, some times; the median and the worst are recorded in
``benchmarks/results/terminal.json``, with Python's own start beside them.  The budget of `--help`
is 300 ms.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "terminal.json"
REPEATS = 20
PYTHON = [sys.executable, "-c", "pass"]
WORDS = (["--help"], ["run", "--help"], ["--version"], ["satus"], ["completion", "bash"])


def milliseconds(command: list[str]) -> list[float]:
    """How long a command takes on the clock, each time."""
    taken = []
    for _ in range(REPEATS + 1):
        began_s = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False)
        taken.append(1e3 * (time.perf_counter() - began_s))
    # The first time, files come from the disk.
    return taken[1:]


def main() -> None:
    """Measure all and record it."""
    commands = {"python -c pass": PYTHON} | {
        f"synthfactory {' '.join(words)}": [sys.executable, "-m", "synthfactory", *words]
        for words in WORDS
    }
    entries = []
    for name, command in commands.items():
        taken = milliseconds(command)
        entry = {
            "command": name,
            "median_ms": round(statistics.median(taken)),
            "worst_ms": round(max(taken)),
            "repeats": REPEATS,
            "load": round(os.getloadavg()[0], 1),
        }
        entries.append(entry)
        print(json.dumps(entry), flush=True)
    RESULTS.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
