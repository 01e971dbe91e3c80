"""What past runs tell: their states, findings and costs, and how long the like takes.

Read from files alone, whoever made them.  Nothing here reads a row of any table.
"""

from __future__ import annotations

import functools
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from synthfactory import accounting, artifacts, markup
from synthfactory.errors import did_you_mean
from synthfactory.journal import ORDER_FILE, STAGES, read_events
from synthfactory.status import RunStatus, read_run_status, read_status

if TYPE_CHECKING:
    import pandas as pd

# Of so many runs of the same dataset and generator, the latest, times are looked at.
MAX_LOOKED_AT = 50
COSTS = (
    "wall_s", "peak_rss_mb", "cpu_allocated_h", "cpu_used_h", "gpu_allocated_h", "gpu_used_h",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as its folder tells of it.

    Parameters
    ----------
    folder
        Where it lies.
    status
        Its state when it was read.
    """

    folder: Path
    status: RunStatus

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def state(self) -> str:
        """``certified``, ``refused``, ``failed``, ``running`` or ``interrupted``."""
        return self.status.state

    @functools.cached_property
    def order(self) -> Mapping[str, Any]:
        """What was ordered, as JSON values."""
        order: Mapping[str, Any] = self._document["order"]
        return order

    @functools.cached_property
    def findings(self) -> Mapping[str, Any]:
        """What was measured, as JSON values; without measurements before the evaluation."""
        path = self.folder / "evaluate" / "findings.json"
        empty: dict[str, Any] = {"measurements": [], "failures": {}}
        found: Mapping[str, Any] = artifacts.read_json(path) if path.exists() else empty
        return found

    @functools.cached_property
    def costs(self) -> Mapping[str, Any]:
        """What it cost so far, as in ``resources.json``."""
        done = {stage: cost for stage in STAGES if (cost := _cost(self.folder / stage))}
        return accounting.summarise(done, read_events(self.folder))

    def row(self) -> dict[str, Any]:
        """The run as one row: state, what was ordered, costs, then every finding with bounds."""
        dataset, seed = self.order["dataset"]["name"], self.order["seed"]
        row: dict[str, Any] = {
            "run": self.name,
            "state": self.state,
            "dataset": dataset,
            "generator": generator_name(self.name, dataset, seed),
            "seed": seed,
            "stage": self.status.stage,
            "synthfactory": self._document.get("synthfactory"),
        }
        row |= {name: self.costs["total"][name] for name in COSTS}
        for item in self.findings["measurements"]:
            row[item["id"]] = item["estimate"]
            row[f"{item['id']}.lcb"], row[f"{item['id']}.ucb"] = item["lcb"], item["ucb"]
        return row

    @functools.cached_property
    def _document(self) -> Mapping[str, Any]:
        document: Mapping[str, Any] = artifacts.read_json(self.folder / ORDER_FILE)
        return document

    def __repr__(self) -> str:
        lines = [f"RunRecord({self.name}: {self.state}, {self.status.stage} stages)"]
        return "\n".join([*lines, *(f"  {reason}" for reason in self.status.reasons)])

    def _repr_html_(self) -> str:
        rows = [
            (item["id"], *(markup.short_number(item[name]) for name in ("estimate", "lcb", "ucb")))
            for item in self.findings["measurements"]
        ]
        shown = markup.html_table(("finding", "estimate", "lcb", "ucb"), rows) if rows else ""
        reasons = "".join(markup.paragraph(reason) for reason in self.status.reasons)
        wall_s = self.costs["total"]["wall_s"]
        return (
            markup.title(f"{self.name}: {self.state}")
            + reasons
            + shown
            + markup.paragraph(f"{in_words(wall_s)} of work in {self.status.stage} stages")
        )


class Runs(Sequence[RunRecord]):
    """The runs of a folder, by name; what `runs` gives."""

    def __init__(self, records: Iterable[RunRecord]) -> None:
        self._records = tuple(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, which: int | str) -> RunRecord: ...
    @overload
    def __getitem__(self, which: slice) -> Runs: ...
    def __getitem__(self, which: int | str | slice) -> RunRecord | Runs:
        """A run by its place or name, or some of the runs."""
        if isinstance(which, slice):
            return Runs(self._records[which])
        if isinstance(which, int):
            return self._records[which]
        names = [record.name for record in self._records]
        if which not in names:
            raise KeyError(f"There is no run '{which}'{did_you_mean(which, names)}")
        return self._records[names.index(which)]

    def to_frame(self) -> pd.DataFrame:
        """A row per run: state, order, costs, and each finding's estimate, lcb and ucb.

        A finding that a run does not have is missing in its row; nothing is filled in.
        """
        import pandas as pd

        return pd.DataFrame([record.row() for record in self._records])

    def __repr__(self) -> str:
        lines = [f"Runs({len(self)})"]
        return "\n".join([*lines, *(f"  {item.name}: {item.state}" for item in self._records)])

    def _repr_html_(self) -> str:
        rows = [
            (item.name, item.state, item.status.stage, " ".join(item.status.reasons))
            for item in self._records
        ]
        return markup.html_table(("run", "state", "stage", "why"), rows, note=f"{len(rows)} runs")


def runs(folder: str | Path = "runs") -> Runs:
    """Every run of a folder, as its files tell.

    Parameters
    ----------
    folder
        The folder of runs (``paths.runs``), or the folder of one run.

    Raises
    ------
    OrderError
        When there is no such folder.
    """
    path = Path(folder)
    if (path / ORDER_FILE).is_file():
        return Runs([RunRecord(folder=path, status=read_run_status(path))])
    return Runs(RunRecord(folder=path / status.run, status=status) for status in read_status(path))


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """How long past runs took, stage by stage.

    Parameters
    ----------
    seconds
        Median seconds on a clock of each stage.
    n_runs
        How many past runs stand behind them, at most.
    alike
        Whether those runs differ in their seed and policy alone; otherwise they are of the same
        dataset and generator, with other settings.
    """

    seconds: Mapping[str, float]
    n_runs: int
    alike: bool

    def left_s(self, missing: Iterable[str], stage: str = "", fraction: float = 0.0) -> float:
        """Seconds for the missing stages, of which one may be under way."""
        return sum(
            self.seconds[name] * (1.0 - fraction if name == stage else 1.0)
            for name in missing
            if name in self.seconds
        )

    @property
    def source(self) -> str:
        """Where the figures come from, in words."""
        count = "1 past run" if self.n_runs == 1 else f"{self.n_runs} past runs"
        how = (
            "of other seeds or policies"
            if self.alike
            else "of this dataset and generator with other settings"
        )
        return f"{count} {how}"


def expect(run_folder: Path, order: Mapping[str, Any], table: str) -> Expectation | None:
    """How long a run will take, from past runs beside it; None where none tells.

    Parameters
    ----------
    run_folder
        The run's folder, whether it exists or not.
    order
        What is ordered, as JSON values.
    table
        The table's digest.

    Notes
    -----
    What past runs took elsewhere, on other nodes or with more neighbours, is counted too: the
    files do not say how fast a machine was.  A stage that went on after an interruption is not
    counted: its seconds are those of its last attempt alone.
    """
    like: list[dict[str, float]] = []
    near: list[dict[str, float]] = []
    for other in _beside(run_folder, order):
        document = artifacts.read_json(other / ORDER_FILE)
        continued = {
            event["stage"]
            for event in read_events(other)
            if event["event"] == "started" and event.get("step")
        }
        costs = {
            stage: cost["wall_s"]
            for stage in STAGES
            if stage not in continued and (cost := _cost(other / stage))
        }
        same = document.get("table") == table and _core(document["order"]) == _core(order)
        (like if same else near).append(costs)
    for found, alike in ((like, True), (near, False)):
        seconds = {
            stage: statistics.median(taken)
            for stage in STAGES
            if (taken := [costs[stage] for costs in found if stage in costs])
        }
        if set(seconds) == set(STAGES):
            n_runs = sum(bool(costs) for costs in found)
            return Expectation(seconds=seconds, n_runs=n_runs, alike=alike)
    return None


def _beside(run_folder: Path, order: Mapping[str, Any]) -> Iterator[Path]:
    """The latest runs of the same dataset and generator, without the run itself."""
    stem = run_folder.name.rpartition(f"-s{order['seed']}-")[0]
    found = [
        path.parent
        for path in run_folder.parent.glob(f"{_literal(stem)}-s*/{ORDER_FILE}")
        if path.parent.name != run_folder.name
        and re.fullmatch(r"s\d+-[0-9a-f]{12}", path.parent.name[len(stem) + 1 :])
    ]
    found.sort(key=lambda path: -(path / ORDER_FILE).stat().st_mtime)
    return iter(found[:MAX_LOOKED_AT])


def _literal(stem: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", stem)


def _core(order: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how long a run takes: everything but the seed and the policy."""
    return {name: value for name, value in order.items() if name not in ("seed", "policy")}


def _cost(stage: Path) -> dict[str, Any] | None:
    return artifacts.read_done(stage) if artifacts.is_done(stage) else None


def generator_name(run: str, dataset: str, seed: int) -> str:
    """The generator's short name, from the name of a run's folder.

    >>> generator_name("my_table-sdv_tvae-s3-0123456789ab", "my table", 3)
    'sdv_tvae'
    """
    prefix = re.sub(r"[^A-Za-z0-9_.]+", "_", dataset) or "table"
    return run.removeprefix(f"{prefix}-").rpartition(f"-s{seed}-")[0]


def in_words(seconds: float) -> str:
    """A time for reading.

    >>> in_words(0.4), in_words(48), in_words(200), in_words(9_000), in_words(200_000)
    ('0.4 s', '48 s', '3 min', '2.5 h', '2.3 days')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3_600:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 86_400:.1f} days"
