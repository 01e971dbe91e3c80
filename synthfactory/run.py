"""A run: an order, and the content-addressed folder that holds what it made.

::

    <runs>/<dataset>-<generator>-s<seed>-<key>/
      order.json      what was ordered, and where the table lay
      split/          counts of the parts, quality of the table
      fit/            the model (safetensors + JSON) and its loss curve
      sample/         data/part-*.parquet and their manifest
      evaluate/       the findings
      decide/         the verdict, report.json and report.html
      resources.json  what the run cost, once it is decided
      attestations.<role>.intoto.jsonl  what generator and evaluator signed
      private-inputs.json  opens the provenance's commitments; stays with the controller
      release/        what may leave the house: only when certified
      progress.json, failure.json, events.jsonl
      fit.checkpoint.safetensors, fit.losses.jsonl (while a fit is unfinished)
      evaluate.unfinished/ (while an evaluation is: sealed results, checkpoints of shadow models)

Beside the runs, ``.ledger/`` says what was planned for each table before anything was trained.
The five middle folders are stages: each is absent or whole, with a ``DONE.json`` that lists the
digests of its files.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory import __version__, accounting, artifacts, ledger, seeds
from synthfactory.certification import Verdict
from synthfactory.errors import Interrupted, TableError
from synthfactory.evaluation import Findings
from synthfactory.journal import CURVE_FILE, ORDER_FILE, STAGES, read_events
from synthfactory.order import Order, as_plain
from synthfactory.tables import (
    Dataset,
    Parts,
    RareValues,
    Schema,
    Table,
    entity_numbers,
    read_table,
)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A fixed range of synthetic rows with a stream of chance of its own: one Parquet part."""

    index: int
    first_row: int
    n_rows: int

    @property
    def path(self) -> str:
        """Where the part lies in a release."""
        return f"data/part-{self.index:05d}.parquet"


def shards(n_rows: int, rows_per_shard: int) -> Iterator[Shard]:
    """Divide ``n_rows`` into logical shards; who samples them does not matter.

    >>> [shard.n_rows for shard in shards(25, 10)]
    [10, 10, 5]
    """
    for index, first_row in enumerate(range(0, n_rows, rows_per_shard)):
        yield Shard(
            index=index, first_row=first_row, n_rows=min(rows_per_shard, n_rows - first_row)
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    run
        The run's name.
    folder
        Where it lies.
    state
        ``certified``, ``refused``, ``failed``, or ``interrupted``: asked to stop, to be continued.
    reasons
        Why it was refused, failed or interrupted, a sentence each.
    failure_code
        2 when a failure is the input's (a table, a full disk), else 1.
    """

    run: str
    folder: Path
    state: str
    reasons: tuple[str, ...] = ()
    failure_code: int = 1

    @property
    def exit_code(self) -> int:
        """0 certified, 3 refused, 75 interrupted, 1 or 2 failed."""
        codes = {"certified": 0, "refused": 3, "interrupted": Interrupted.exit_code}
        return codes.get(self.state, self.failure_code)


@dataclass(frozen=True, kw_only=True)
class Run:
    """An order and the content-addressed folder that holds what it made.

    Parameters
    ----------
    order
        The order.
    folder
        ``<runs>/<dataset>-<generator>-s<seed>-<key>``.
    table_digest
        Content digest of the confidential table, its rare values made common (it stays in the run
        folder).
    rare
        What was done about rare values; None where the table was not looked at.
    """

    order: Order
    folder: Path
    table_digest: str
    rare: RareValues | None = None

    @classmethod
    def open(cls, order: Order, runs: Path) -> Run:
        """The run of ``order`` under ``runs``; nothing is written.

        Raises
        ------
        TableError
            When the table cannot be read.
        """
        seen = _look_at(order.dataset)
        key = artifacts.digest_json(
            {
                "order": order.to_dict(),
                "table": seen.table_digest,
                "schema": seen.schema_digest,
                "population": order.evaluation.population_digest,
                "version": __version__,
            }
        ).removeprefix("sha256:")
        words = (order.dataset.name, order.generator.name, f"s{order.seed}", key[:12])
        name = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", word) or "table" for word in words)
        return cls(order=order, folder=runs / name, table_digest=seen.table_digest, rare=seen.rare)

    def __repr__(self) -> str:
        done = [stage for stage in STAGES if self.is_done(stage)]
        return f"Run({self.folder.name}: {len(done)}/{len(STAGES)} stages)"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the table's owner should know of its rare values before anything is learnt."""
        lines = () if self.rare is None else self.rare.lines
        return tuple(f"{self.order.dataset.name}: {line}" for line in lines)

    def check_people(self) -> None:
        """Refuse an order whose table has too few people for its policy; nothing is written.

        People are counted as `split` will find them, from how many rows each has.

        Raises
        ------
        OrderError
            With a split that would do, or how many people it takes.
        TableError
            When the table cannot be read.
        """
        policy = self.order.policy
        if policy.needs.people and not self.is_done("split"):
            sizes = _look_at(self.order.dataset).rows_of_each
            people = self.order.split.people(sizes, seed=self.order.seed)
            policy.needs.check_people(policy.id, **people)

    def record(self) -> None:
        """Write ``order.json``, once."""
        path = self.folder / ORDER_FILE
        if path.exists():
            return
        document = {
            "order": self.order.to_dict(),
            "path": _lasting(self.order.dataset.path),
            "table": self.table_digest,
            "synthfactory": __version__,
            "python": platform.python_version(),
        }
        artifacts.write_json(path, document)

    def load_table(self) -> Table:
        """The confidential table, if it still is the one that the run began with."""
        return self.load_table_with_changes()[0]

    def load_table_with_changes(self) -> tuple[Table, RareValues]:
        """As `load_table`, and what was done about rare values."""
        table, rare = self.order.dataset.load_with_changes()
        if table.digest != self.table_digest:
            raise TableError(
                f"The table {self.order.dataset.path} changed since this run began: expected the "
                f"content {self.table_digest[:19]}..., got {table.digest[:19]}.... "
                "Repeat the command: the changed table gets a run of its own."
            )
        return table, rare

    def load_parts(self) -> Parts:
        """The confidential table's train, control and test parts, made anew from the seed."""
        return self.order.split.apply(self.load_table(), seed=self.order.seed)

    def load_synthetic(self, schema: Schema) -> Table:
        """The sampled rows, read by the schema of the confidential table."""
        manifest = self.read("sample/manifest.json")
        return Table.concat(
            [
                read_table(self.folder / "sample" / part["path"], schema=schema)
                for part in manifest["parts"]
            ]
        )

    def load_findings(self) -> Findings:
        """What the evaluation measured."""
        return Findings.from_dict(self.read("evaluate/findings.json"))

    def load_verdict(self) -> Verdict:
        """What the policy decided."""
        return Verdict.from_dict(self.read("decide/verdict.json"))

    def read(self, path: str) -> Any:
        """A JSON file of the run."""
        return artifacts.read_json(self.folder / path)

    @property
    def checkpoint(self) -> Path:
        """Where an unfinished fit is kept."""
        return self.folder / "fit.checkpoint.safetensors"

    @property
    def ensemble_checkpoint(self) -> Path:
        """Where an unfinished fit of several runs is kept, in the first one's folder."""
        return self.folder / "fit.ensemble.checkpoint.safetensors"

    def attestation(self, role: str) -> Path:
        """Where a role's signed statements lie until the release takes them."""
        return self.folder / f"attestations.{role}.intoto.jsonl"

    def forget_unfinished_fit(self) -> None:
        """Remove what an unfinished fit left: the fit is committed."""
        self.checkpoint.unlink(missing_ok=True)
        self.ensemble_checkpoint.unlink(missing_ok=True)
        (self.folder / CURVE_FILE).unlink(missing_ok=True)

    @property
    def unfinished_evaluation(self) -> Path:
        """The folder of what an unfinished evaluation has made."""
        return self.folder / "evaluate.unfinished"

    def forget_unfinished_evaluation(self) -> None:
        """Remove what an unfinished evaluation left: its findings are committed."""
        shutil.rmtree(self.unfinished_evaluation, ignore_errors=True)

    @property
    def unfinished(self) -> tuple[Path, ...]:
        """The files from which an unfinished stage goes on, those that are there."""
        own = (self.checkpoint, self.ensemble_checkpoint)
        kept = self.unfinished_evaluation.glob("[!.]*")
        return tuple(path for path in (*own, *kept) if path.is_file())

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The logical shards to sample; by default as many rows as the train part."""
        n_rows = self.order.rows or self.read("split/split.json")["rows"]["train"]
        return tuple(shards(n_rows, self.order.rows_per_shard))

    def is_done(self, stage: str) -> bool:
        """Whether a stage is committed."""
        return artifacts.is_done(self.folder / stage)

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended; None while something is still to be done."""
        if not self.is_done("decide"):
            return None
        verdict = self.load_verdict()
        if verdict.certified and not (self.folder / "release").is_dir():
            return None
        return Outcome(
            run=self.folder.name,
            folder=self.folder,
            state="certified" if verdict.certified else "refused",
            reasons=tuple(reason.sentence for reason in verdict.reasons if not reason.passed),
        )

    @property
    def resources(self) -> dict[str, Any]:
        """What the committed stages cost, used and allocated, and how often they were tried."""
        costs = {
            stage: artifacts.read_done(self.folder / stage)
            for stage in STAGES
            if self.is_done(stage)
        }
        return accounting.summarise(costs, read_events(self.folder))

    def record_resources(self) -> None:
        """Write ``resources.json``, once.

        It lies beside the stages and not in one: a cost differs each time, a stage's bytes do not.
        """
        path = self.folder / accounting.RESOURCES_FILE
        if not path.exists():
            artifacts.write_json(path, self.resources)

    @property
    def candidate(self) -> ledger.Candidate:
        """What the ledger commits about this run before it is trained."""
        split = {"split": as_plain(self.order.split), "seed": self.order.seed}
        return ledger.Candidate(
            run=self.folder.name,
            policy=self.order.policy.digest,
            split=artifacts.digest_json(split),
        )

    @property
    def plan(self) -> ledger.Plan:
        """Where this run stands in the ledger of its table; it is entered where it is not yet."""
        planned = ledger.commit_plan(self.folder.parent, self.table_digest, [self.candidate])
        return planned[self.folder.name]

    @property
    def evaluation_seed(self) -> int:
        """Root of the measurements' chance: it follows from what was committed before training."""
        commitment = artifacts.digest_json(self.candidate.to_dict()).removeprefix("sha256:")
        return seeds.derive(int(commitment[:15], 16), "evaluation")


def plan_together(runs: Sequence[Run]) -> None:
    """Enter all runs of a campaign into the ledgers of their tables, before anything is trained."""
    tables: dict[tuple[Path, str], list[ledger.Candidate]] = {}
    for run in runs:
        tables.setdefault((run.folder.parent, run.table_digest), []).append(run.candidate)
    for (folder, table), candidates in tables.items():
        ledger.commit_plan(folder, table, candidates)


def _lasting(path: str) -> str:
    """The path of a table, so that it is found from any folder."""
    return str(Path(path).absolute()) if Path(path).is_file() else path


class _Seen(NamedTuple):
    """What a process remembers of a table: digests and counts, no row.

    Parameters
    ----------
    table_digest, schema_digest
        Of its content, rare values made common, and of its columns.
    rare
        What was done about rare values.
    rows_of_each
        **Shape** (n_people,): how many rows each person has.
    """

    table_digest: str
    schema_digest: str
    rare: RareValues
    rows_of_each: npt.NDArray[np.integer]


_KNOWN: dict[tuple[str, str, int, int], _Seen] = {}


def _look_at(dataset: Dataset) -> _Seen:
    """A table's digests and counts; it is read once per process while the file is unchanged."""
    path = Path(dataset.path)
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)
    key = (artifacts.digest_json(as_plain(dataset)), dataset.path, *stamp)
    if key not in _KNOWN:
        table, rare = dataset.load_with_changes()
        alone = table.schema.entity is None
        sizes = np.ones(table.n_rows, np.int8) if alone else np.bincount(entity_numbers(table))
        _KNOWN[key] = _Seen(table.digest, table.schema.digest, rare, sizes)
    return _KNOWN[key]
