"""The verbs that concern batch jobs: submit, and what the jobs wrote."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synthfactory import artifacts, journal
from synthfactory.cli.compose import Settings
from synthfactory.clusters import Allocation, Cluster, Site, Slurm, allocation_body, render
from synthfactory.clusters.scripts import LEAD_S
from synthfactory.errors import ClusterError, OrderError
from synthfactory.journal import CAMPAIGN_FILE, CAMPAIGNS
from synthfactory.run import Run

SUBMIT_TIMEOUT_S = 120


def script_of(settings: Sequence[Settings], words: Sequence[str], log: str) -> str:
    """The batch script that makes these orders in one allocation.

    Parameters
    ----------
    settings
        The orders; the first one's cluster, site and folder count.
    words
        What the command line said, to be said again inside the job.
    log
        File of the job's output; ``%j`` is the job's number.

    Raises
    ------
    OrderError
        When the cluster is no allocation, or the site would not take the job.
    """
    first = settings[0]
    if not isinstance(first.cluster, Allocation):
        raise OrderError(
            "submit writes one job that holds everything: leave out "
            f"cluster={type(first.cluster).__name__.lower()}, or use `synthfactory run`."
        )
    request = first.cluster.request(first.site, log=log)
    said = " ".join(shlex.quote(word) for word in words)
    command = f"{shlex.quote(sys.executable)} -m synthfactory"
    body = allocation_body(command, first.site, request.signal_lead_s or LEAD_S)
    return render(first.site, request, f"set -- {said}\n{body}")


def submit(settings: Sequence[Settings], words: Sequence[str]) -> dict[str, Any]:
    """Submit one job for these orders; returns what is known of it, and comes back at once.

    Raises
    ------
    OrderError
        When a table has too few people for what its policy needs: no job is asked for.
    ClusterError
        When the batch system is not there, or refuses the job: with its own words.
    """
    runs = settings[0].runs.resolve()
    folder = runs / CAMPAIGNS
    log = str(folder / "job-%j.log")
    text = script_of(settings, words, log)
    artifacts.check_writable(runs)
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "There is no sbatch here: submit on a login node of the site, or use "
            "`synthfactory run` on this machine."
        )
    planned = [Run.open(item.order, item.runs) for item in settings]
    for run in planned:
        run.check_people()
    script = folder / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}.sbatch"
    artifacts.write_atomic(script, text.encode())
    done = subprocess.run(
        ["sbatch", "--parsable", str(script)],
        capture_output=True,
        text=True,
        timeout=SUBMIT_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"The batch system refused the job: {done.stderr.strip()}")
    job = done.stdout.strip().partition(";")[0]
    campaign = {
        "job": job,
        "submitted_at": round(time.time(), 3),
        "words": list(words),
        "site": settings[0].site.name,
        "script": str(script),
        "log": log.replace("%j", job),
        "runs": sorted({run.folder.name for run in planned}),
    }
    artifacts.write_json(folder / job / CAMPAIGN_FILE, campaign)
    return campaign


def describe_jobs(cluster: Cluster, site: Site) -> list[str]:
    """What jobs a campaign would ask for, and what each costs at most; empty without jobs."""
    if isinstance(cluster, Allocation):
        requests = {"one job": cluster.request(site)}
    elif isinstance(cluster, Slurm):
        bounds = {
            "gpu": (cluster.min_gpu_jobs, cluster.max_gpu_jobs),
            "cpu": (cluster.min_cpu_jobs, cluster.max_cpu_jobs),
        }
        requests = {
            f"{bounds[kind][0]} to {bounds[kind][1]} {kind.upper()} jobs": request
            for kind, request in cluster.requests(site).items()
        }
    else:
        return []
    lines = []
    for what, request in requests.items():
        charge = site.charge(request)
        cost = f", at most {charge:g} {site.billing.unit} each" if charge is not None else ""
        lines.append(
            f"{what} on {site.title}: {request.nodes} node(s), {request.gpus_per_node} GPU(s) and "
            f"{request.cores_per_node} cores per node, {request.walltime_min} minutes{cost}"
        )
    return lines


def log_lines(folder: Path, count: int) -> Iterator[str]:
    """What happened to a run, and the last lines of its jobs; or the jobs of a folder of runs.

    Raises
    ------
    OrderError
        When the folder is neither.
    """
    events = journal.read_events(folder)
    if events:
        for event in events:
            yield _in_words(event)
        # Each log once, where it was last written to.
        logs = [Path(event["log"]) for event in reversed(events) if event.get("log")]
        paths = list(reversed(dict.fromkeys(logs)))
    elif (folder / CAMPAIGNS).is_dir():
        paths = sorted(
            (folder / CAMPAIGNS).rglob("*.log"), key=lambda path: path.stat().st_mtime_ns
        )
    else:
        raise OrderError(
            f"Expected a run's folder or a folder of runs, but {folder} is none: "
            "`synthfactory status FOLDER` lists runs."
        )
    if not paths:
        yield "No job wrote a log: it ran in a terminal."
    for path in paths[-1:]:
        yield f"--- {path}"
        if path.exists():
            yield from path.read_text(errors="replace").splitlines()[-count:]
    for path in paths[:-1]:
        yield f"--- earlier: {path}"


def _in_words(event: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    where = f"job {event['job']} on {event['host']}" if event.get("job") else event["host"]
    words = [at, event["event"], event["stage"] or "campaign", f"({where})"]
    if event.get("step"):
        words.append(f"from step {event['step']}")
    if event.get("piece"):
        words.append(event["piece"])
    if event.get("why"):
        words.append(f": {event['why']}")
    return " ".join(words)
