"""The search for nearest neighbours, beside SDMetrics, and at growing sizes.

    python benchmarks/neighbours.py --sdmetrics OTHER/bin/python   # an environment with sdmetrics
    python benchmarks/neighbours.py                                # without the comparison
    python benchmarks/engine.py neighbours --device cuda           # a GPU beside the processor

Rows of Adult look for their nearest row among 30,000 real ones: rows whose columns were drawn
independently (far from everybody, the hard case), and the real rows themselves (nobody is their
own neighbour).  SDMetrics' ``calculate_dcr`` does the same for 1,000 x 1,000 of these rows, in
turns with ours; its time is scaled by the number of pairs, because the whole would take more than
half an hour.  The two are compared number by number too, at SDMetrics' scale (the range).

``scale`` and ``wide`` are rates and the memory that the search adds: on rows of Adult's columns
drawn independently, on Adult's people drawn again and disturbed, and on a hundred columns of
chance.  Processor seconds are of all threads together: on a machine with other work they say more
than wall time.  Results go to ``benchmarks/results/neighbours.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import synthfactory as sf
from synthfactory.evaluation.evidence import shuffled, take
from synthfactory.evaluation.neighbours import Points, by_scale, centres, nearest, nearest_k, scales
from synthfactory.tables import Encoded, Encoder

RESULTS = Path(__file__).parent / "results" / "neighbours.json"
ADULT = Path(sf.__file__).parent / "tables" / "data" / "adult.parquet"
N_ROWS = 30_000
N_SMALL = 1_000

SDMETRICS = """
import json, sys, time
import numpy as np, pandas as pd
from sdmetrics.single_table.privacy.dcr_utils import calculate_dcr
folder = sys.argv[1]
rows, reference = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("rows", "reference"))
sdtypes = json.load(open(f"{folder}/sdtypes.json"))
metadata = {"columns": {name: {"sdtype": kind} for name, kind in sdtypes.items()}}
for _ in sys.stdin:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    found = calculate_dcr(rows, reference, metadata)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    print(json.dumps({"took_s": took_s, "cpu_s": cpu_s, "distances": found.tolist()}), flush=True)
"""


class Peak:
    """The most memory that this process held beyond what it held before, in MiB."""

    def __enter__(self) -> Peak:
        self._process, self._on = psutil.Process(), True
        self._before = self._most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while self._on:
            self._most = max(self._most, self._process.memory_info().rss)
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()
        self.mb = round((self._most - self._before) / 2**20, 1)


def timed(search: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Wall and processor seconds of the fastest and the median repetition."""
    walls, cpus = [], []
    with Peak() as peak:
        for _ in range(repeats):
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            search()
            walls.append(time.perf_counter() - wall_s)
            cpus.append(time.process_time() - cpu_s)
    return {
        "wall_s": round(statistics.median(walls), 4),
        "fastest_s": round(min(walls), 4),
        "cpu_s": round(statistics.median(cpus), 4),
        "added_mb": peak.mb,
        "repeats": repeats,
    }


def compare(real: Encoded, encoder: Encoder, python: str, threads: int) -> dict[str, Any]:
    """SDMetrics and ours in turns; how far the distances differ."""
    chance = np.random.default_rng(0)
    rows = shuffled(real, N_SMALL, chance)
    reference = take(real, chance.permutation(len(real))[:N_SMALL])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, table in (("rows", rows), ("reference", reference)):
            encoder.decode(table, seed=0).write_parquet(folder / f"{name}.parquet")
        numeric = {column.name for column in encoder.numeric}
        kinds = {
            column.name: "numerical" if column.name in numeric else "categorical"
            for column in encoder.schema.columns
        }
        (folder / "sdtypes.json").write_text(json.dumps(kinds))
        spread = np.ptp(reference.numbers, axis=0)
        ours, theirs = by_scale(rows, spread), by_scale(reference, spread)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        other = subprocess.Popen(
            [python, "-W", "ignore", "-c", SDMETRICS, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert other.stdin is not None
        assert other.stdout is not None
        theirs_s, theirs_cpu_s, ours_s = [], [], []
        for _ in range(5):
            other.stdin.write("go\n")
            other.stdin.flush()
            answer = json.loads(other.stdout.readline())
            theirs_s.append(answer["took_s"])
            theirs_cpu_s.append(answer["cpu_s"])
            began_s = time.perf_counter()
            distances, _ = nearest(ours, theirs, threads=threads)
            ours_s.append(time.perf_counter() - began_s)
        other.stdin.close()
        other.wait()
    mine = distances / len(kinds)
    return {
        "rows": f"{N_SMALL} x {N_SMALL}",
        "sdmetrics": subprocess.run(
            [python, "-c", "import sdmetrics; print(sdmetrics.__version__)"],
            capture_output=True, text=True, check=True, env=environment,
        ).stdout.strip(),
        "sdmetrics_s": round(statistics.median(theirs_s), 3),
        "sdmetrics_cpu_s": round(statistics.median(theirs_cpu_s), 3),
        "ours_s": round(statistics.median(ours_s), 5),
        "largest_difference": float(np.abs(mine - np.array(answer["distances"])).max()),
        "largest_distance": float(mine.max()),
    }  # fmt: skip


def adult(real: Encoded, threads: int) -> dict[str, Any]:
    """30,000 x 30,000 rows of Adult."""
    chance = np.random.default_rng(1)
    spread, centre = scales(real), centres(real)
    people = by_scale(take(real, chance.permutation(len(real))[:N_ROWS]), spread, centre)
    lone = by_scale(shuffled(real, N_ROWS, chance), spread, centre)
    return {
        "independent rows": timed(lambda: nearest(lone, people, threads=threads), 7),
        "real rows, itself excluded": timed(
            lambda: nearest_k(people, people, 1, threads=threads, exclude_self=True), 7
        ),
        "real rows, five nearest": timed(
            lambda: nearest_k(people, people, 5, threads=threads, exclude_self=True), 7
        ),
    }


def scale(real: Encoded, sizes: list[int], threads: int) -> dict[str, Any]:
    """Rates at larger sizes, of the 15 columns of Adult: hard rows, and rows like people."""
    chance = np.random.default_rng(2)
    spread, centre = scales(real), centres(real)
    kinds = {"independent rows": shuffled, "disturbed people": disturbed}
    found: dict[str, Any] = {kind: {} for kind in kinds}
    for kind, make in kinds.items():
        for n in sizes:
            rows, others = (by_scale(make(real, n, chance), spread, centre) for _ in range(2))
            took = timed(lambda rows=rows, others=others: nearest(rows, others, threads=threads), 1)
            found[kind][str(n)] = took | {"rows_per_s": round(n / took["wall_s"])}
    return found


def disturbed(real: Encoded, n_rows: int, chance: np.random.Generator) -> Encoded:
    """People drawn again, with a little noise, and one level in twenty from somebody else."""
    rows = take(real, chance.integers(0, len(real), n_rows))
    numbers = rows.numbers + 0.05 * scales(real) * chance.normal(size=rows.numbers.shape)
    other = real.codes[chance.integers(0, len(real), n_rows)]
    codes = np.where(chance.random(rows.codes.shape) < 0.05, other, rows.codes)
    return Encoded(numbers=numbers, codes=codes)


def wide(threads: int, n: int = 20_000) -> dict[str, Any]:
    """A hundred columns: 50 normal numbers, 50 columns of eight levels."""
    chance = np.random.default_rng(3)
    rows, others = (
        Points(
            numbers=chance.normal(0, 0.5, (n, 50)).astype(np.float32),
            codes=chance.integers(0, 8, (n, 50)).astype(np.int32),
        )
        for _ in range(2)
    )
    took = timed(lambda: nearest(rows, others, threads=threads), 1)
    return {"rows": f"{n} x {n} x 100 columns", **took,
            "values_per_s": round(n * n * 100 / took["wall_s"])}  # fmt: skip


def beside_processor(
    device: str, threads: int, sizes: tuple[int, ...] = (30_000, 100_000)
) -> Iterator[dict[str, Any]]:
    """The search on a device, then the compiled one, of the hard rows and of rows like people.

    The device's figures come first, so that they are there should the rest take too long.  The
    distances are equal to the last bit, or that is a finding.
    """
    table = sf.read_table(ADULT)
    encoder = Encoder(table.schema)
    real = encoder.encode(table)
    spread, centre = scales(real), centres(real)
    chance = np.random.default_rng(2)
    kinds = {"independent rows": shuffled, "disturbed people": disturbed}
    pairs = {
        (kind, n): [by_scale(make(real, n, chance), spread, centre) for _ in range(2)]
        for n in sizes
        for kind, make in kinds.items()
    }
    few = [by_scale(real[:N_SMALL], spread, centre)] * 2
    nearest(*few, threads=threads, device=device)
    on_device = {}
    for (kind, n), (rows, others) in pairs.items():
        times = []
        for _ in range(3):
            began_s = time.perf_counter()
            on_device[kind, n] = nearest(rows, others, threads=threads, device=device)
            times.append(time.perf_counter() - began_s)
        yield {
            "rows": n,
            "search": kind,
            "seconds": round(statistics.median(times), 4),
            "rows_per_s": round(n / statistics.median(times)),
            "versions_of_search": {name: version(name) for name in ("numba", "numpy", "torch")},
        }
    nearest(*few, threads=threads)
    for (kind, n), (rows, others) in pairs.items():
        began_s = time.perf_counter()
        compiled = nearest(rows, others, threads=threads)
        spent = time.perf_counter() - began_s
        same = [np.array_equal(a, b) for a, b in zip(compiled, on_device[kind, n], strict=True)]
        yield {
            "rows": n,
            "search": f"{kind}, compiled",
            "processor_s": round(spent, 4),
            "same": {"distances": same[0], "numbers": same[1]},
        }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sdmetrics", help="the Python of an environment with sdmetrics")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000])
    options = parser.parse_args()
    table = sf.read_table(ADULT)
    encoder = Encoder(table.schema)
    real = encoder.encode(table)
    nearest(by_scale(real, scales(real)), by_scale(real, scales(real)), threads=options.threads)
    found: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared",
        "threads": options.threads,
        "load before": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in ("numba", "numpy", "synthfactory")},
        "adult": adult(real, options.threads),
    }
    if options.sdmetrics:
        small = compare(real, encoder, options.sdmetrics, options.threads)
        found["beside SDMetrics"] = small
        scaled_s = small["sdmetrics_s"] * (N_ROWS / N_SMALL) ** 2
        small["scaled_to_30000_s"] = round(scaled_s, 1)
        hard = found["adult"]["independent rows"]
        small["times_faster"] = round(scaled_s / hard["wall_s"])
        small["times_less_cpu"] = round(
            small["sdmetrics_cpu_s"] * (N_ROWS / N_SMALL) ** 2 / hard["cpu_s"]
        )
    found["scale"] = scale(real, options.sizes, options.threads)
    found["wide"] = wide(options.threads)
    found["load after"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
