"""What thousands of orders cost beyond their own work: one Dask scheduler, one client, two workers.

    python benchmarks/scheduler.py --label after                   # 500, 1000 and 5000 orders
    python benchmarks/scheduler.py --label before --sizes 500 1000 # beside what is recorded

Two measurements, each in a process of its own:

- ``tasks``: run folders whose stages are committed already are submitted and watched as a campaign
  does it.  Each of the five chained tasks of an order returns at once, so what remains is
  submitting, scheduling, watching and concluding.
- ``orders``: a whole campaign of orders whose stages do next to nothing (`nothing.py`), from
  reading the orders to the last verdict.

Then ``attempts``: how long a certificate counts the runs of its table, by their number.  Scheduler
and client share a process, as they do on a login node; its memory is the resident set.  The results
go to ``benchmarks/results/scheduler.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import multiprocessing
import os
import platform
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nothing
import psutil

from synthfactory import campaign, factory
from synthfactory.certification import new_key
from synthfactory.clusters import Local
from synthfactory.journal import STAGES
from synthfactory.run import Outcome, Run

RESULTS = Path(__file__).parent / "results" / "scheduler.json"
N_WORKERS = 2


class Meter:
    """Wall time, processor time and memory of this process since the last look."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.facts: dict[str, float] = {"rss_mb before": self._rss_mb()}
        self._wall_s, self._cpu_s = time.monotonic(), time.process_time()

    def look(self, name: str) -> None:
        """Note what was used under a name."""
        now_s, cpu_s = time.monotonic(), time.process_time()
        self.facts[f"{name}_s"] = round(now_s - self._wall_s, 2)
        self.facts[f"{name}_cpu_s"] = round(cpu_s - self._cpu_s, 2)
        self.facts[f"rss_mb after {name}"] = self._rss_mb()
        self._wall_s, self._cpu_s = now_s, cpu_s

    def _rss_mb(self) -> float:
        return round(self._process.memory_info().rss / 2**20, 1)


class Watched(campaign._Work):
    """A campaign's work that knows how long it took to conclude runs."""

    conclude_s = 0.0

    def _conclude(self, run: Run) -> Outcome:
        began_s = time.monotonic()
        try:
            return super()._conclude(run)
        finally:
            self.conclude_s += time.monotonic() - began_s


def tasks(folder: Path, count: int) -> dict[str, Any]:
    """Submit and watch runs that are done but for being concluded."""
    orders = nothing.orders(nothing.write_table(folder / "table.csv"), count)
    key = new_key(folder / "issuer.pem")
    template = Run.open(orders[0], folder / "template")
    for stage in STAGES:
        factory.perform(stage, template)
    meter = Meter()
    runs = [Run.open(order, folder / "runs") for order in orders]
    meter.look("open")
    for run in runs:
        run.folder.mkdir(parents=True)
        for stage in STAGES:
            (run.folder / stage).symlink_to(template.folder / stage)
    looks = 0

    def watch(view: campaign.View) -> None:
        nonlocal looks
        looks += 1

    with Local(n_workers=N_WORKERS).connect(count, 1) as workers:
        workers.client.run(_import)
        meter.look("prepare")
        last = campaign._submit(workers, runs, None)
        meter.look("submit")
        work = Watched(workers, last, key, {}, tuple(runs))
        ended = sum(outcome.state == "refused" for outcome in work.outcomes(runs, watch))
        meter.look("watch")
    assert ended == count, f"expected {count} refused runs, got {ended}"
    facts = meter.facts
    spent_s = facts["submit_s"] + facts["watch_s"]
    return facts | {
        "conclude_s": round(work.conclude_s, 2),
        "looks": looks,
        "ms per order": round(1000 * spent_s / count, 2),
        "tasks per s": round(len(STAGES) * count / spent_s, 1),
    }


def orders(folder: Path, count: int) -> dict[str, Any]:
    """A whole campaign of orders that do next to nothing."""
    wanted = nothing.orders(nothing.write_table(folder / "table.csv"), count)
    key = new_key(folder / "issuer.pem")
    meter = Meter()
    seen: list[tuple[float, int]] = []
    outcomes = campaign.run_campaign(
        wanted,
        folder / "runs",
        connect=Local(n_workers=N_WORKERS).connect,
        key=lambda: key,
        watch=lambda view: seen.append((time.monotonic(), len(view.outcomes))),
    )
    meter.look("campaign")
    assert [outcome.state for outcome in outcomes] == ["refused"] * count
    work_s = sum(
        stage["wall_s"]
        for outcome in outcomes
        for stage in json.loads((outcome.folder / "resources.json").read_text())["stages"]
    )
    spent_s = meter.facts["campaign_s"]
    return meter.facts | {
        "looks": len(seen),
        "ms per order": round(1000 * spent_s / count, 2),
        "stages' own wall_s": round(work_s, 1),
        "workers busy": round(work_s / (N_WORKERS * spent_s), 3),
    }


def attempts(folder: Path, count: int) -> dict[str, Any]:
    """Count the runs of a table as often as certificates would do it, at most 50 times."""
    wanted = nothing.orders(nothing.write_table(folder / "table.csv"), count)
    template = Run.open(wanted[0], folder / "template")
    factory.perform("split", template)
    runs = [Run.open(order, folder / "runs") for order in wanted]
    for run in runs:
        run.record()
        (run.folder / "evaluate").symlink_to(template.folder / "split")
    times_s = []
    for run in runs[:50]:
        began_s = time.monotonic()
        assert run.attempts == count
        times_s.append(time.monotonic() - began_s)
    return {
        "first_ms": round(1000 * times_s[0], 2),
        "later_ms": round(1000 * statistics.median(times_s[1:]), 2),
    }


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "tasks": tasks,
    "orders": orders,
    "attempts": attempts,
}


def _import() -> None:
    """Let a worker import what its tasks need, so that it is not counted."""
    import nothing

    assert nothing.NoEvaluation


@contextlib.contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Print where the main thread's time goes."""
    if not wanted:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(35)


def measure(part: str, count: int, where: str | None, profile: bool) -> dict[str, Any]:
    """One part at one size."""
    with tempfile.TemporaryDirectory(dir=where) as scratch, profiled(profile):
        return PARTS[part](Path(scratch), count)


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1_000, 5_000])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--label", default="now", help="what is measured, such as before, after")
    parser.add_argument("--folder", help="where the run folders lie while it lasts")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    # Workers import the orders' module by its name.
    path = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.parts:
        for count in options.sizes:
            # In a process of its own, so that memory is its own.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                job = pool.submit(measure, part, count, options.folder, options.profile)
                found = job.result() | {
                    "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared",
                    "run folders on": options.folder or tempfile.gettempdir(),
                    "load before": round(os.getloadavg()[0], 1),
                }
            print(part, count, json.dumps(found), flush=True)
            recorded.setdefault(options.label, {}).setdefault(part, {})[str(count)] = found
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
