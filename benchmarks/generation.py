"""Rows at scale, timed: one worker and several, then killed half way and continued.

    python benchmarks/generation.py                                    # 100 million rows of Adult
    python benchmarks/generation.py --rows 5_000_000 --workers 1 2
    python benchmarks/generation.py --workers 1 4 --setting cluster.max_cpu_jobs \\
        --folder /shared cluster=slurm cluster.max_gpu_jobs=0 site=devcluster

Fits a model of the embedded Adult table (or takes the run that ``--run`` names), draws rows with
`synthfactory sample` as a user would type it, and compares the Merkle roots.  Then the same command
is killed (SIGKILL of its whole process group) when half of the parts are recorded, and repeated.
Wall time, processor seconds, the peak memory of a worker, files and bytes are recorded in
``benchmarks/results/generation.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import synthfactory as sf
from synthfactory import artifacts
from synthfactory.cli import compose
from synthfactory.generation import software

RESULTS = Path(__file__).parent / "results" / "generation.json"
EPOCHS = 20


def fitted(generator: str, folder: Path) -> Path:
    """A folder with a fitted model of Adult; few epochs, which change no time of drawing."""
    table = compose.one([], None).order.dataset.load()
    spec: Any = {"tvae": sf.TVAE, "ctgan": sf.CTGAN}[generator]
    model = spec(epochs=EPOCHS).fit(table, seed=0, threads=1)
    artifacts.commit(folder / "fit", lambda work: model.save(work / "model"))
    return folder


def command(run: Path, output: Path, rows: int, words: list[str]) -> list[str]:
    """What a user would type."""
    asked = ["sample", str(run), "--rows", str(rows), "-o", str(output), "--json"]
    return [sys.executable, "-m", "synthfactory", *asked, *words]


def drawn(run: Path, output: Path, rows: int, words: list[str]) -> dict[str, Any]:
    """Draw to the end; what the command told, and what lies in the folder."""
    load = os.getloadavg()[0]
    done = subprocess.run(
        command(run, output, rows, words), stdout=subprocess.PIPE, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    files = [path for path in output.rglob("*") if path.is_file()]
    told.pop("folder")
    return {
        "words": " ".join(words),
        **told,
        "rows_per_core_s": round(told["rows_written"] / told["core_s"]) if told["core_s"] else None,
        "files": len(files),
        "bytes_per_row": round(told["bytes"] / rows, 2),
        "load_before": round(load, 1),
    }


def killed_and_continued(run: Path, output: Path, rows: int, words: list[str]) -> dict[str, Any]:
    """Kill the command when half of the parts are recorded, and repeat it."""
    began_s = time.monotonic()
    process = subprocess.Popen(
        command(run, output, rows, words), stdout=subprocess.DEVNULL, start_new_session=True
    )
    n_parts = 0
    while process.poll() is None:
        recorded = len(list((output / "records").glob("*.json")))
        if not n_parts and (output / "request.json").exists():
            request = artifacts.read_json(output / "request.json")
            n_parts = -(-rows // (request["rows_per_shard"] * request["shards_per_part"]))
        if n_parts and recorded >= max(1, n_parts // 2):
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed_s = time.monotonic() - began_s
    recorded_names = {path.stem for path in (output / "records").glob("*.json")}
    finished = [path for path in output.glob("data/part-*") if path.stem in recorded_names]
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished}
    rest = drawn(run, output, rows, words)
    after = {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in output.glob("data/part-*")
    }
    return {
        "killed_after_s": round(killed_s, 1),
        "finished_parts_untouched": before.items() <= after.items(),
        "rest": rest,
    }


def record(entry: dict[str, Any]) -> None:
    """Add or replace one entry of the results."""
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    entries = [old for old in entries if old["name"] != entry["name"]] + [entry]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(entries, indent=1) + "\n")
    print(json.dumps(entry, indent=1), flush=True)


def main() -> None:
    """Time what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--generator", choices=("tvae", "ctgan"), default="tvae")
    parser.add_argument("--run", type=Path, help="a run folder; default: fit a model now")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--setting", default="cluster.n_workers", help="what counts the workers")
    parser.add_argument("--folder", type=Path, help="where rows go for a while; all workers see it")
    parser.add_argument("settings", nargs="*", default=[], help="cluster=... site=...")
    options, rest = parser.parse_known_args()
    settings = [*options.settings, *rest]
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="generation-") as scratch:
        folder = Path(scratch)
        run = options.run or fitted(options.generator, folder / "run")
        timings = []
        for n_workers in options.workers:
            words = [*settings, f"{options.setting}={n_workers}"]
            timings.append(drawn(run, folder / "rows", options.rows, words))
            shutil.rmtree(folder / "rows")
        disturbed = killed_and_continued(run, folder / "rows", options.rows, words)
    roots = {timing["merkle_root"] for timing in [*timings, disturbed["rest"]]}
    name = options.run.name if options.run else f"Adult, {options.generator}"
    record(
        {
            "name": f"{name}, {options.rows:,} rows, {' '.join(settings) or 'cluster=local'}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "software": {"python": platform.python_version(), **software()},
            "timings": timings,
            "killed_half_way": disturbed,
            "one_root": len(roots) == 1,
        }
    )


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
