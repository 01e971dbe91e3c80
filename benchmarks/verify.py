"""How fast `synthfactory verify` reads a large release, and how fast it refuses a bent one.

    python benchmarks/verify.py --gb 1 10      # beside sha256sum of the same files, alternating
    python benchmarks/verify.py --tamper 1     # every bend of the tamper suite, on 1 GB

A small table is made into a certified release, and its parts are repeated until there are so many
bytes; then everything is signed again.  Each time is that of a whole process, `synthfactory verify`
with its start, and `sha256sum data/*.parquet`; ``cold`` means that the files were dropped from the
page cache first.  Memory is the peak resident set of the process.  What was generated is deleted.
The results go to ``benchmarks/results/verify.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "certification"), str(ROOT / "tests")]

from bends import CASES, SIGNED, describe_parts, reissue  # noqa: E402
from conftest import LENIENT, make_people  # noqa: E402

from synthfactory.artifacts import read_json, write_json  # noqa: E402
from synthfactory.certification import Policy, new_key  # noqa: E402
from synthfactory.evaluation import Evaluation  # noqa: E402
from synthfactory.factory import produce  # noqa: E402
from synthfactory.generators import Independent  # noqa: E402
from synthfactory.order import Order  # noqa: E402
from synthfactory.tables import Dataset  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "verify.json"
PART_ROWS = 1_000_000
GB = 10**9
SPARE_GB = 5
VERIFY = [sys.executable, "-m", "synthfactory", "verify"]


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    code: int
    wall_s: float
    peak_mb: float
    said: str


# A process inherits the peak of the one that starts it, so a small one does.
LAUNCHER = """
import json, os, sys, time
began = time.monotonic()
process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
took = [os.waitstatus_to_exitcode(status), time.monotonic() - began, usage.ru_maxrss / 1024]
with open(sys.argv[1], "w") as file:
    json.dump(took, file)
"""


def execute(words: Sequence[str | Path]) -> Done:
    """Run a program to its end and look at what it took."""
    with tempfile.NamedTemporaryFile() as took:
        said = subprocess.run(
            [sys.executable, "-S", "-c", LAUNCHER, took.name, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=True,
        ).stdout
        return Done(*json.loads(Path(took.name).read_bytes()), said)


def make_release(folder: Path) -> Path:
    """A small release that was really made."""
    make_people(3_000).to_csv(folder / "people.csv", index=False)
    order = Order(
        dataset=Dataset(path=str(folder / "people.csv"), target="outcome"),
        generator=Independent(),
        evaluation=Evaluation(max_rows=1_000, repeats=20),
        policy=Policy.from_dict(LENIENT),
        threads=1,
        rows_per_shard=1_000,
    )
    outcome = produce(order, folder / "runs", key=new_key(folder / "key.pem"))
    assert outcome.state == "certified", outcome.reasons
    return outcome.folder / "release"


def enlarge(small: Path, release: Path, n_bytes: int) -> None:
    """The small release with parts added until its data have so many bytes, signed again."""
    shutil.copytree(small, release)
    rows = pq.read_table(release / "data" / "part-00000.parquet")
    template = release.parent / "part.parquet"
    places = [place % rows.num_rows for place in range(PART_ROWS)]
    pq.write_table(rows.take(places), template, compression="none", use_dictionary=False)
    size = template.stat().st_size
    first = read_json(release / "manifest.json")["parts"]
    further = [
        {"path": f"data/part-{number:05d}.parquet", "rows": PART_ROWS, "size": size, "sha256": ""}
        for number in range(len(first), len(first) + max(1, round(n_bytes / size)))
    ]
    for part in further:
        shutil.copy(template, release / part["path"])
    template.unlink()
    manifest = read_json(release / "manifest.json")
    write_json(release / "manifest.json", {**manifest, "parts": [*first, *further]})
    describe_parts(release)
    reissue(release, new_key(release.parent / f"{release.name}.pem"))


def forget(files: Sequence[Path]) -> None:
    """Drop files from the page cache."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def compare(release: Path, repeats: int) -> dict[str, Any]:
    """Both programs, one after the other, warm and cold."""
    files = sorted((release / "data").iterdir())
    summing = shutil.which("sha256sum")
    assert summing is not None
    programs: dict[str, list[str | Path]] = {
        "verify": [*VERIFY, release],
        "sha256sum": [summing, *files],
    }
    n_bytes = sum(path.stat().st_size for path in files)
    facts: dict[str, Any] = {"gb": n_bytes / GB, "parts": len(files)}
    for state in ("warm", "cold"):
        times: dict[str, list[float]] = {name: [] for name in programs}
        peaks = []
        for _ in range(repeats):
            for name, words in programs.items():
                if state == "cold":
                    forget(files)
                done = execute(words)
                assert done.code == 0, done.said
                times[name].append(done.wall_s)
                if name == "verify":
                    peaks.append(done.peak_mb)
        pairs = zip(times["verify"], times["sha256sum"], strict=True)
        facts[state] = {
            **{
                f"{name}_s": [round(value, 2) for value in values] for name, values in times.items()
            },
            "ratio": round(statistics.median(ours / theirs for ours, theirs in pairs), 3),
            "verify_gb_per_s": round(n_bytes / GB / statistics.median(times["verify"]), 3),
            "peak_mb": round(max(peaks), 1),
        }
    return facts


def link_parts(release: Path, copy: Path) -> None:
    """A copy that shares the added parts, which no bend touches, and owns everything else."""

    def place(source: str, target: str) -> None:
        large = Path(source).stat().st_size > 1 << 24
        (os.link if large else shutil.copy)(source, target)

    shutil.copytree(release, copy, copy_function=place)


def tamper(release: Path, folder: Path) -> dict[str, Any]:
    """Every bend, each on a fresh copy: refused with a line that names the check, and how fast."""
    key = new_key(folder / "again.pem")
    bends: dict[str, tuple[Callable[[Path], None], str]] = {
        bend.__name__: (bend, check) for bend, check in CASES.items()
    }
    for name, (bend_signed, check) in SIGNED.items():
        bends[f"signed: {name}"] = (lambda copy, bend=bend_signed: bend(copy, key), check)
    facts = {}
    for name, (bend, check) in bends.items():
        work = folder / "work"
        work.mkdir()
        link_parts(release, work / "release")
        bend(work / "release")
        done = execute([*VERIFY, work / "release"])
        assert done.code == 1, (name, done)
        assert f"FAILED {check}: " in done.said, (name, done)
        assert "Traceback" not in done.said, (name, done)
        facts[name] = (done.wall_s, done.peak_mb)
        print(f"{done.wall_s:6.2f} s {done.peak_mb:6.0f} MB  {name}", flush=True)
        shutil.rmtree(work)
    # The copies share the large parts: had a bend touched one, later cases would be refused sooner.
    whole = execute([*VERIFY, release])
    assert whole.code == 0, whole
    slowest = max(facts, key=lambda name: facts[name][0])
    return {
        "cases": len(facts),
        "untouched_s": round(whole.wall_s, 2),
        "slowest": slowest,
        "slowest_s": round(facts[slowest][0], 2),
        "median_s": round(statistics.median(wall_s for wall_s, _ in facts.values()), 2),
        "peak_mb": round(max(peak_mb for _, peak_mb in facts.values()), 1),
    }


def main() -> None:
    """Measure what is asked for and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, nargs="*", default=[], help="sizes to compare at")
    parser.add_argument("--tamper", type=float, help="the size on which to try every bend")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to generate; by default the system's")
    arguments = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.exists() else {}
    results["machine"] = {"cpus": os.cpu_count(), "system": platform.platform()}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as text:
        folder = Path(text)
        small = make_release(folder)
        for size in [*arguments.gb, *([arguments.tamper] if arguments.tamper else [])]:
            free = shutil.disk_usage(folder).free / GB
            if free < size + SPARE_GB:
                sys.exit(f"{size} GB do not fit: {free:.0f} GB are free in {folder}")
        for size in arguments.gb:
            release = folder / f"release-{size:g}"
            enlarge(small, release, int(size * GB))
            results[f"{size:g} GB"] = compare(release, arguments.repeats)
            print(json.dumps(results[f"{size:g} GB"], indent=1), flush=True)
            shutil.rmtree(release)
        if arguments.tamper:
            release = folder / "release-bent"
            enlarge(small, release, int(arguments.tamper * GB))
            results["tamper"] = {"gb": arguments.tamper, **tamper(release, folder)}
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
