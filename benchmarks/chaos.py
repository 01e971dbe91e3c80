"""A campaign whose nodes and workers are killed all the time: what is lost, doubled, or different?

    python benchmarks/chaos.py                 # 200 orders, 25 kills; about half an hour, 2 cores

Needs SLURM's programs (see ``slurm/devcluster``).  The same orders are made three times, each time
by one ``synthfactory run`` into a folder of its own: on two local workers, on jobs of a three-node
development cluster, and there again while nodes die (whole, or as zombies whose jobs run on unseen)
and come back, worker processes are killed or asked to end, and jobs are cancelled.  Which and when
is drawn from ``--seed``.  The results go to ``benchmarks/results/chaos.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from synthfactory import artifacts
from synthfactory.accounting.summary import attempts_of
from synthfactory.journal import STAGES, read_events

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "slurm"))
from devclusters import DevCluster, temporary_cluster

RESULTS = Path(__file__).parent / "results" / "chaos.json"
KINDS = ("node", "zombie", "worker", "cancel", "terminate")
PAUSE_S = (5.0, 9.0)
DOWN_S = 20.0
N_ROWS = 600
N_JOBS = 3
ELASTIC = (
    "cluster=slurm",
    "site=devcluster",
    "cluster.max_gpu_jobs=0",
    f"cluster.max_cpu_jobs={N_JOBS}",
    # Two jobs fit on a node, so a node may die and its jobs find place elsewhere.
    "cluster.cpu_job_cpus=2",
    "cluster.cpu_job_memory_gb=3",
    "cluster.workers_per_cpu_job=1",
)
LOCAL = ("cluster=local", "cluster.n_workers=2")
GENERATORS = {
    "quick_tvae": "_target_: synthfactory.generators.TVAE\nepochs: 20\n",
    "quick_ctgan": "_target_: synthfactory.generators.CTGAN\nepochs: 20\n",
}
POLICY = """\
id: benchmark
version: "1"
title: A policy that short fits may satisfy
use_class: restricted
rules:
  - {id: no-copies, metric: privacy.exact_match, bound: ucb, op: "<=", value: 0.5, why: "a test"}
"""


def write_inputs(folder: Path, n_orders: int) -> list[str]:
    """A small table, short generators and a policy; returns the words of the sweep."""
    chance = np.random.default_rng(0)
    age = chance.integers(18, 90, N_ROWS)
    pressure = 100 + 0.5 * age + chance.normal(0, 8, N_ROWS)
    pd.DataFrame(
        {
            "age": age,
            "region": chance.choice(["north", "south", "east"], N_ROWS, p=[0.5, 0.3, 0.2]),
            "pressure": pressure.round(1),
            "outcome": np.where(pressure + chance.normal(0, 8, N_ROWS) > 130, "ill", "well"),
        }
    ).to_csv(folder / "people.csv", index=False)
    for name, text in GENERATORS.items():
        path = folder / "conf" / "generator" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "conf" / "policy").mkdir(exist_ok=True)
    (folder / "conf" / "policy" / "benchmark.yaml").write_text(POLICY)
    generators = ("independent", *GENERATORS)
    return [
        "--config-dir", str(folder / "conf"), "--multirun", "--json", "-q",
        f"dataset.path={folder}/people.csv", "dataset.target=outcome", "policy=benchmark",
        "evaluation.max_rows=300", "evaluation.repeats=20", "threads=1",
        f"generator={','.join(generators)}", f"seed=range(0,{-(-n_orders // len(generators))})",
    ]  # fmt: skip


@dataclass
class Campaign:
    """One ``synthfactory run``, from its start to its end."""

    name: str
    runs: Path
    words: list[str]
    environment: dict[str, str]
    wall_s: float = 0.0
    exit_code: int = -1
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    def run(self, log: Path) -> None:
        """Run to the end."""
        began_s = time.monotonic()
        with log.open("w") as errors:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "synthfactory",
                    "run",
                    f"paths.runs={self.runs}",
                    *self.words,
                ],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
            )
        self.wall_s = time.monotonic() - began_s
        self.exit_code = done.returncode
        self.outcomes = json.loads(done.stdout or "[]")
        print(f"{self.name}: {self.wall_s:.0f} s, {dict(self.states)}", file=sys.stderr, flush=True)

    @property
    def states(self) -> Counter[str]:
        """How many orders ended in which way."""
        return Counter(str(outcome["state"]) for outcome in self.outcomes)

    @property
    def folders(self) -> list[Path]:
        """The run folders."""
        return sorted(path.parent for path in self.runs.glob("*/order.json"))

    def bytes(self) -> dict[str, str]:
        """Digest of every file of every committed stage, as it lies there now."""
        return {
            str(path.relative_to(self.runs)): artifacts.digest_file(path)
            for run in self.folders
            for stage in STAGES
            for path in sorted((run / stage).rglob("*"))
            if path.is_file() and path.name != artifacts.DONE
        }

    def facts(self) -> dict[str, Any]:
        """What the journals and the folders tell."""
        attempts = [item for run in self.folders for item in attempts_of(read_events(run))]
        events = [event for run in self.folders for event in read_events(run)]
        commits = Counter(
            (run.name, event["stage"])
            for run in self.folders
            for event in read_events(run)
            if event["event"] == "committed" and not event.get("second")
        )
        done = [run / stage for run in self.folders for stage in STAGES]
        lost_s = sum(item.wall_s for item in attempts if not item.committed)
        committed_s = sum(artifacts.read_done(folder)["wall_s"] for folder in done)
        return {
            "wall_s": round(self.wall_s, 1),
            "exit_code": self.exit_code,
            "orders": len(self.outcomes),
            "states": dict(self.states),
            "run_folders": len(self.folders),
            "stages_committed": sum(artifacts.is_done(folder) for folder in done),
            "stages_committed_twice": sum(count > 1 for count in commits.values()),
            "second_commits": dict(
                Counter(event["second"] for event in events if event.get("second"))
            ),
            "events": dict(Counter(event["event"] for event in events)),
            "attempts": len(attempts),
            "attempts_not_committed": sum(not item.committed for item in attempts),
            "committed_stage_s": round(committed_s, 1),
            "lost_attempt_s": round(lost_s, 1),
            "left_over": sorted(
                str(path.relative_to(self.runs))
                for run in self.folders
                for pattern in ("*.tmp", "*.checkpoint.safetensors", "failure.json")
                for path in run.rglob(pattern)
            ),
        }


class Chaos:
    """Kills what belongs to one development cluster, a little at a time."""

    def __init__(self, cluster: DevCluster, seed: int, n_kills: int) -> None:
        self._cluster, self._chance = cluster, random.Random(seed)
        plan = [kind for _ in range(-(-n_kills // len(KINDS))) for kind in KINDS][:n_kills]
        self._chance.shuffle(plan)
        self._plan = plan
        self._down: dict[str, float] = {}
        self.kills: list[dict[str, Any]] = []

    def run(self, ended: threading.Event) -> None:
        """Kill until the plan or the campaign is at its end, then bring every node back."""
        began_s = time.monotonic()
        next_s = began_s + 25.0
        while not ended.wait(0.5):
            now_s = time.monotonic()
            self._revive(now_s)
            if self._plan and now_s >= next_s and (what := self._kill(self._plan[-1], now_s)):
                self.kills.append(
                    {"at_s": round(now_s - began_s, 1), "kind": self._plan.pop()} | what
                )
                print(self.kills[-1], file=sys.stderr, flush=True)
                next_s = now_s + self._chance.uniform(*PAUSE_S)
        self._revive(float("inf"))

    def _revive(self, now_s: float) -> None:
        for node, since_s in list(self._down.items()):
            if now_s - since_s > DOWN_S:
                del self._down[node]
                self._cluster.revive_node(node)

    def _kill(self, kind: str, now_s: float) -> dict[str, Any] | None:
        """Kill somebody who works; None when there is nobody."""
        workers = self._workers()
        if kind in ("node", "zombie"):
            nodes = sorted({node for _, node, _ in workers} - set(self._down))
            if not nodes or len(self._down) > 1:
                return None
            node = self._chance.choice(nodes)
            hit = sum(its == node for _, its, _ in workers)
            self._cluster.kill_node(node, zombie=kind == "zombie")
            self._down[node] = now_s
            return {"node": node, "workers": hit}
        if not workers:
            return None
        job, node, process = self._chance.choice(workers)
        with contextlib.suppress(psutil.NoSuchProcess):
            if kind == "cancel":
                self._cluster.run("scancel", job)
            elif kind == "worker":
                process.kill()
            else:
                # The nanny, which is what a batch system's early end reaches.
                process.parent().send_signal(signal.SIGTERM)
            return {"job": job, "node": node, "workers": 1}
        return None

    def _workers(self) -> list[tuple[str, str, psutil.Process]]:
        """(job, node, process) of each worker process of this cluster's jobs."""
        conf = self._cluster.env["SLURM_CONF"]
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                given = process.environ()
                words = " ".join(process.cmdline())
                is_ours = given.get("SLURM_CONF") == conf and "SLURM_JOB_ID" in given
                if is_ours and "spawn_main" in words and process.parent() is not None:
                    found.append((given["SLURM_JOB_ID"], given["SLURMD_NODENAME"], process))
        return sorted(found, key=lambda item: (item[0], item[2].pid))


@contextlib.contextmanager
def counted(cluster: DevCluster) -> Iterator[Callable[[], float]]:
    """Give the seconds so far of all jobs that ran on the cluster, a worker each."""
    ended, total = threading.Event(), [0.0]

    def count() -> None:
        seen_s = time.monotonic()
        while not ended.wait(1.0):
            running = list(cluster.squeue().values()).count("RUNNING")
            now_s = time.monotonic()
            total[0] += running * (now_s - seen_s)
            seen_s = now_s

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield lambda: total[0]
    finally:
        ended.set()
        thread.join()


def disturbed(
    campaign: Campaign, cluster: DevCluster, log: Path, seed: int, n_kills: int
) -> list[dict[str, Any]]:
    """Run a campaign in the midst of kills; returns them."""
    chaos, ended = Chaos(cluster, seed, n_kills), threading.Event()
    thread = threading.Thread(target=chaos.run, args=(ended,))
    thread.start()
    try:
        campaign.run(log)
    finally:
        ended.set()
        thread.join()
    return chaos.kills


def measure(
    folder: Path, n_orders: int, seed: int, n_kills: int, calm: dict[str, Any] | None
) -> dict[str, Any]:
    """Make the orders three times and compare; ``calm`` is what is known of the first two times."""
    words = write_inputs(folder, n_orders)
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    made = {}
    facts: dict[str, dict[str, Any]] = {}
    local = Campaign("local", folder / "local", [*words, *LOCAL], environment)
    if calm is None:
        local.run(folder / "local.log")
    made["local"], facts["local"] = local.bytes(), (calm or {}).get("local") or local.facts()
    kills: list[dict[str, Any]] = []
    with temporary_cluster() as cluster:
        own = {name: cluster.env[name] for name in ("SLURM_CONF", "DEVCLUSTER_DIR")}
        for name in ("elastic", "disturbed"):
            campaign = Campaign(name, folder / name, [*words, *ELASTIC], environment | own)
            if name == "elastic" and calm is not None:
                made[name], facts[name] = campaign.bytes(), calm[name]
                continue
            with counted(cluster) as job_s:
                if name == "disturbed":
                    log = folder / f"{name}.log"
                    kills = disturbed(campaign, cluster, log, seed, n_kills)
                else:
                    campaign.run(folder / f"{name}.log")
                made[name] = campaign.bytes()
                facts[name] = campaign.facts() | {"job_s": round(job_s(), 1)}
            cluster.reset()
    return summary(facts, made, kills, seed)


def summary(
    facts: dict[str, dict[str, Any]],
    made: dict[str, dict[str, str]],
    kills: list[dict[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """The claims, as numbers."""
    calm, storm = facts["elastic"], facts["disturbed"]
    tried_s = storm["committed_stage_s"] + storm["lost_attempt_s"]
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared with other work",
        "seed": seed,
        "kills": len(kills),
        "kills_by_kind": dict(Counter(kill["kind"] for kill in kills)),
        "workers_hit": sum(kill["workers"] for kill in kills),
        "lost_orders": storm["orders"]
        - sum(storm["states"].get(s, 0) for s in ("certified", "refused")),
        "files": len(made["local"]),
        "files_equal_local_elastic": made["elastic"] == made["local"],
        "files_equal_local_disturbed": made["disturbed"] == made["local"],
        "efficiency": {
            "undisturbed wall / disturbed wall": round(calm["wall_s"] / storm["wall_s"], 3),
            "committed stage seconds / seconds of all attempts": round(
                storm["committed_stage_s"] / tried_s, 3
            ),
            "committed stage seconds / job seconds": {
                name: round(facts[name]["committed_stage_s"] / facts[name]["job_s"], 3)
                for name in ("elastic", "disturbed")
            },
        },
        "campaigns": facts,
        "kill_log": kills,
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything here, for looking into")
    parser.add_argument(
        "--again",
        action="store_true",
        help="only the disturbed campaign, in the --folder of a call before, beside its --output",
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        calm = json.loads(options.output.read_text())["campaigns"] if options.again else None
        result = measure(folder.resolve(), options.orders, options.seed, options.kills, calm)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k not in ("kill_log",)}, indent=1))
    failed = (
        result["lost_orders"]
        or not result["files_equal_local_disturbed"]
        or result["campaigns"]["disturbed"]["left_over"]
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
