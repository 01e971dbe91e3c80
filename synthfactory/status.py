"""What a folder of runs tells about itself, read from files alone.

So it works while a campaign runs elsewhere, after logging out, and after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthfactory import artifacts
from synthfactory.errors import OrderError
from synthfactory.journal import (
    CAMPAIGN_FILE,
    CAMPAIGNS,
    ORDER_FILE,
    STAGES,
    read_failure,
    read_progress,
)


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The state of one run.

    Parameters
    ----------
    run
        The run's name.
    state
        ``certified``, ``refused``, ``failed``, ``running`` or ``interrupted``.
    stage
        The last committed stage of five, or where a run is.
    reasons
        Why it was refused or failed.
    """

    run: str
    state: str
    stage: str
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def read_status(runs: Path) -> list[RunStatus]:
    """The state of every run under ``runs``, by name.

    Raises
    ------
    OrderError
        When ``runs`` is no folder.
    """
    if not runs.is_dir():
        raise OrderError(
            f"Expected a folder of runs, but there is no folder {runs}. "
            "Name it: synthfactory status FOLDER"
        )
    return list(_read_all(runs))


def _read_all(runs: Path) -> Iterator[RunStatus]:
    for order in sorted(runs.glob(f"*/{ORDER_FILE}")):
        yield read_run_status(order.parent)


def read_run_status(folder: Path) -> RunStatus:
    """The state of the run in ``folder``."""
    done = [stage for stage in STAGES if artifacts.is_done(folder / stage)]
    name, reached = folder.name, f"{len(done)}/{len(STAGES)}"
    if "decide" in done:
        verdict = artifacts.read_json(folder / "decide" / "verdict.json")
        if not verdict["certified"]:
            reasons = tuple(
                reason["sentence"] for reason in verdict["reasons"] if not reason["passed"]
            )
            return RunStatus(run=name, state="refused", stage=reached, reasons=reasons)
        if (folder / "release").is_dir():
            return RunStatus(run=name, state="certified", stage=reached)
    if (failure := read_failure(folder)) is not None:
        where = f"{failure['stage']} {reached}"
        return RunStatus(run=name, state="failed", stage=where, reasons=(failure["message"],))
    progress = read_progress(folder)
    if progress is None or progress.is_stale:
        why = ("Nobody works on it: the same `synthfactory run` command continues it.",)
        return RunStatus(run=name, state="interrupted", stage=reached, reasons=why)
    where = f"{progress.stage} {progress.fraction:.0%} {progress.detail}".rstrip()
    return RunStatus(run=name, state="running", stage=where)


def read_campaigns(runs: Path) -> list[dict[str, Any]]:
    """The submitted jobs of a folder of runs, latest first."""
    found = [artifacts.read_json(path) for path in runs.glob(f"{CAMPAIGNS}/*/{CAMPAIGN_FILE}")]
    return sorted(found, key=lambda campaign: -float(campaign["submitted_at"]))
