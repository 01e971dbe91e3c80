"""The benchmark site, measured: bytes, building, rebuilding, and a page until it can be used.

    python benchmarks/dashboard.py RUNS      # a folder of runs that were really made

Hundreds of runs are copies of those in RUNS, with changed names and figures.  A page can be used
when its script has answered the address: the table is filtered, the chart is drawn.  Recorded in
``benchmarks/results/dashboard.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "dashboard"))
from copied_runs import copy_runs

from synthfactory.dashboard import build

RESULTS = Path(__file__).parent / "results" / "dashboard.json"
CHROMIUM = "/usr/bin/chromium"
REPEATS = 5
# A page, an address, and what shows that the script has answered it.
USES = {
    "index": ("", "document.querySelectorAll('main table').length > 0"),
    "runs": (
        "#state=refused&sort=-fidelity",
        "document.getElementById('count').textContent.includes(' of ')",
    ),
    "leaderboard": (
        "#metric=utility.tstr",
        "document.querySelector('#view h2').textContent.startsWith('Train on')",
    ),
    "pareto": (
        "#x=wall_s&y=utility",
        "document.querySelector('#view').textContent.includes('Time on the clock')",
    ),
    "heatmap": (
        "#metric=utility.tstr",
        "document.querySelector('#view h2').textContent.startsWith('Train on')",
    ),
    "trend": ("#y=utility", "document.querySelector('#view h2').textContent.includes('Utility')"),
}


def measure(sources: list[Path], count: int, folder: Path) -> dict[str, Any]:
    """Build a site over ``count`` runs, then again after one more.

    Seconds on the clock depend on what else the machine does; those of the processor hardly do.
    """
    runs, site = folder / "runs", folder / "site"
    copy_runs(sources, runs, count)
    first = build(runs, site)
    rebuilt, rebuilt_cpu = [], []
    for extra in range(REPEATS):
        copy_runs(sources, runs, 1, first=count + extra)
        began_s = time.process_time()
        again = build(runs, site)
        rebuilt_cpu.append(round(time.process_time() - began_s, 3))
        assert again.read == 1
        rebuilt.append(again.seconds)
    return {
        "runs": count,
        "bytes": {
            path.name: path.stat().st_size
            for path in sorted([*site.glob("*.html"), *(site / "data").iterdir()])
        },
        "first_build_s": first.seconds,
        "rebuild_after_one_new_s": rebuilt,
        "rebuild_after_one_new_cpu_s": rebuilt_cpu,
        "pages": {page: use(site, page) for page in USES},
    }


def use(site: Path, page: str) -> dict[str, Any]:
    """Seconds until a page can be used in Chromium, and the bytes that it loads."""
    from playwright.sync_api import sync_playwright

    state, ready = USES[page]
    loaded: set[str] = set()
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(REPEATS):
            context = browser.new_context()
            tab = context.new_page()
            tab.on("request", lambda request: loaded.add(request.url.split("#")[0]))
            began_s = time.monotonic()
            tab.goto((site / f"{page}.html").as_uri() + state)
            tab.wait_for_function(ready)
            seconds.append(round(time.monotonic() - began_s, 3))
            context.close()
        browser.close()
    paths = [Path(url.removeprefix("file://")) for url in loaded if url.startswith("file://")]
    return {
        "median_s": statistics.median(seconds),
        "slowest_s": max(seconds),
        "loaded_bytes": sum(path.stat().st_size for path in paths),
    }


def main() -> None:
    """Measure 600 and 1,000 runs and record them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("runs", type=Path)
    sources = [path.parent for path in sorted(arguments.parse_args().runs.glob("*/order.json"))]
    results = []
    for count in (600, 1_000):
        with tempfile.TemporaryDirectory(dir=sources[0].parent.parent) as folder:
            results.append(measure(sources, count, Path(folder)))
            print(json.dumps({**results[-1], "bytes": None}, indent=1))
    machine = {
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
    }
    RESULTS.write_text(json.dumps({"machine": machine, "sites": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
