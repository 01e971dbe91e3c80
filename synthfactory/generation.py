"""Rows at scale: any number of rows of a fitted model, as Parquet parts, on any cluster.

The rows are divided into logical shards, each with a stream of chance of its own, and the shards
into parts; both depend on the request alone.  A part is one file and one task: it is written shard
by shard, so memory does not grow with it, and gets its name when it is whole.  So the number of
workers, the kind of cluster and the order of completion cannot change a byte, and whoever is killed
loses the parts that were being written, no more.

::

    <output>/
      request.json           what was asked for; another request is refused
      data/part-*.parquet    the rows; a row group for each shard
      records/part-*.json    rows, size and digest of each finished part, until all are finished
      manifest.json          all of them under one Merkle root; it comes last
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import io
import platform
import resource
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from synthfactory import artifacts, certification, generators, interruption, seeds
from synthfactory.errors import (
    Interrupted,
    OrderError,
    ShortfallWarning,
    StageError,
    SynthfactoryError,
)
from synthfactory.run import Shard
from synthfactory.tables import ROW_GROUP, Schema, bits_per_row, check_room, parquet_settings
from synthfactory.workers import Connect, Workers, leave

if TYPE_CHECKING:
    from distributed import Future

REQUEST_FILE = "request.json"
MANIFEST_FILE = "manifest.json"
DATA, RECORDS = "data", "records"
MODEL = "model/model.json"

# A part has a power of two of shards: as many as leave GOAL_PARTS of them for workers to share, at
# least MIN_SHARDS, and at most what fits into MAX_PART_BYTES.
MIN_SHARDS = 8
GOAL_PARTS = 128
MAX_PART_BYTES = 2**29
# JSON's whole numbers end here (RFC 8785).
MAX_ROWS = 2**53 - 1

# Tasks that the scheduler knows at a time.
MIN_WINDOW = 512
POLL_S = 0.5
# A shard takes seconds, and minutes under a condition that is hardly ever met.
STALE_AFTER_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """Rows to draw from a run's model.

    Parameters
    ----------
    run
        The run's folder.
    n_rows
        How many rows.
    seed
        Another seed draws other rows.
    conditions
        What every row must meet, as `Model.sample` takes it; values as texts.
    shortfall
        When too few rows meet the conditions: ``error``, or ``warn`` and keep those that do.
    rows_per_shard
        Rows of a shard, which is a row group of a file.
    shards_per_part
        Shards of a file; None for what suits the number of rows and the width of the table.

    Raises
    ------
    OrderError
        For a number outside its range.
    """

    run: Path
    n_rows: int
    seed: int = 0
    conditions: Mapping[str, str] = field(default_factory=dict)
    shortfall: str = "error"
    rows_per_shard: int = ROW_GROUP
    shards_per_part: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.n_rows <= MAX_ROWS:
            raise OrderError(f"rows: expected 0 to {MAX_ROWS:,}, got {self.n_rows!r}.")
        for name in ("rows_per_shard", "shards_per_part"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OrderError(f"{name}: expected at least 1, got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some shards in a row, which become one file."""

    path: str
    shards: tuple[Shard, ...]

    @property
    def n_rows(self) -> int:
        """Rows that it should have."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def record(self) -> str:
        """Where its record lies."""
        return f"{RECORDS}/{Path(self.path).stem}.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request with everything that decides its bytes; it travels to the workers.

    Parameters
    ----------
    request
        What was asked for, with ``shards_per_part`` decided.
    model
        Digest of each file of the fitted model.
    software
        Versions of what draws and writes.
    """

    request: Request
    model: Mapping[str, str]
    software: Mapping[str, str]

    @classmethod
    def of(cls, request: Request, model: generators.Model, files: Mapping[str, str]) -> Plan:
        """The plan of a request for rows of this model, whose files have these digests."""
        shards_per_part = request.shards_per_part or choose_shards_per_part(
            _divide(request.n_rows, request.rows_per_shard),
            bits_per_row(model.schema) / 8 * request.rows_per_shard,
        )
        values = {**vars(request), "run": request.run.resolve()}
        return cls(
            request=Request(**{**values, "shards_per_part": shards_per_part}),
            model=files,
            software=software(model),
        )

    @property
    def n_parts(self) -> int:
        """How many files."""
        return _divide(self.request.n_rows, self._rows_per_part)

    @property
    def _rows_per_part(self) -> int:
        return self.request.rows_per_shard * (self.request.shards_per_part or 1)

    def part(self, index: int) -> Part:
        """The part of this number; names sort as numbers do."""
        rows_per_shard, per_part = self.request.rows_per_shard, self.request.shards_per_part or 1
        first = index * per_part
        count = _divide(self.request.n_rows, rows_per_shard)
        width = max(5, len(str(self.n_parts - 1)))
        return Part(
            path=f"{DATA}/part-{index:0{width}d}.parquet",
            shards=tuple(
                Shard(
                    index=shard,
                    first_row=shard * rows_per_shard,
                    n_rows=min(rows_per_shard, self.request.n_rows - shard * rows_per_shard),
                )
                for shard in range(first, min(first + per_part, count))
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """What two requests for the same bytes have in common, JSON-able."""
        request = self.request
        return {
            "model": dict(self.model),
            "rows": request.n_rows,
            "seed": request.seed,
            "where": dict(request.conditions),
            "shortfall": request.shortfall,
            "rows_per_shard": request.rows_per_shard,
            "shards_per_part": request.shards_per_part,
            "software": dict(self.software),
        }


def choose_shards_per_part(n_shards: int, bytes_per_shard: float) -> int:
    """Shards of a file: few files, large ones where there are many rows, work for many workers.

    >>> choose_shards_per_part(n_shards=8, bytes_per_shard=1.5e6)
    8
    >>> choose_shards_per_part(n_shards=100_000, bytes_per_shard=1.5e6)
    256
    """
    fits = max(1, int(MAX_PART_BYTES // max(1.0, bytes_per_shard)))
    most = 1 << (fits.bit_length() - 1)
    wanted = 1 << (_divide(n_shards, GOAL_PARTS) - 1).bit_length() if n_shards else 1
    return min(most, max(MIN_SHARDS, wanted))


def software(model: generators.Model) -> dict[str, str]:
    """Versions of what draws and writes a model's rows; with others the bytes may differ."""
    names = ("synthfactory", "torch", "numpy", "pyarrow")
    offer = generators.offer_of_model(model)
    further = {} if offer is None else {offer.package: offer.version}
    return {name: importlib.metadata.version(name) for name in names} | further


@dataclass(frozen=True, kw_only=True)
class Advance:
    """How far a request is.

    Parameters
    ----------
    n_parts, n_rows
        Parts and rows of the whole request.
    parts_done, rows_done
        Finished so far, by whomever.
    rows_made
        Finished since this process began.
    seconds
        Since this process began.
    """

    n_parts: int
    n_rows: int
    parts_done: int
    rows_done: int
    rows_made: int
    seconds: float

    @property
    def rows_per_s(self) -> float:
        """Rows made in a second; 0 before the first part."""
        return self.rows_made / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at this pace; None before the first part."""
        rate = self.rows_per_s
        return (self.n_rows - self.rows_done) / rate if rate else None


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What came of a request.

    Parameters
    ----------
    folder
        Where the rows lie.
    n_rows, n_parts, n_bytes
        Of all parts.
    written, kept
        Parts that were made, and parts that were there.
    rows_written
        Rows of the parts that were made.
    seconds
        Wall time, starting the cluster included.
    core_s
        Processor seconds of the parts that were made.
    peak_rss_mb
        The greatest peak memory of a process that made one; 0 when none was made.
    merkle_root
        Of the manifest.
    """

    folder: Path
    n_rows: int
    n_parts: int
    n_bytes: int
    written: int
    kept: int
    rows_written: int
    seconds: float
    core_s: float
    peak_rss_mb: int
    merkle_root: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "folder": str(self.folder),
            "rows": self.n_rows,
            "parts": self.n_parts,
            "bytes": self.n_bytes,
            "written": self.written,
            "kept": self.kept,
            "rows_written": self.rows_written,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self.rows_written / self.seconds) if self.seconds else 0,
            "core_s": round(self.core_s, 3),
            "peak_rss_mb": self.peak_rss_mb,
            "merkle_root": self.merkle_root,
        }


Record = Mapping[str, Any]
Watch = Callable[[Advance], None]


def generate(
    request: Request,
    output: Path,
    *,
    connect: Connect | None = None,
    threads: int | None = None,
    watch: Watch = lambda advance: None,
) -> Generated:
    """Write a request's rows under ``output``; the same call goes on where another one ended.

    Parameters
    ----------
    request
        What to draw.
    output
        A folder that all workers see; it may hold parts of the same request already.
    connect
        Gives the workers; called with (number of parts left, 1) only when something is left of
        more than one part.  None to work in this process.
    threads
        Processor threads of this process where it does the work; None for all.  A worker uses
        one.  They change no byte.
    watch
        Called about twice a second, and after each part where this process does the work.

    Raises
    ------
    OrderError
        When there is no fitted model, ``output`` holds another request's rows, a condition cannot
        be met, or there are more rows than identifiers can number.
    StageError
        When a part that is there differs from what was made now, or a worker failed.
    StorageError
        When the disk is full or forbidden; finished parts are whole, and the same call goes on.
    Interrupted
        When this process was asked to stop.
    """
    began_s = time.monotonic()
    if not artifacts.is_done(request.run / "fit"):
        raise OrderError(
            f"Expected a run folder with a fitted model, but {request.run} has none. "
            "`synthfactory status` lists runs."
        )
    files = artifacts.read_done(request.run / "fit")["files"]
    model = _load_model(request.run.resolve(), files[MODEL])
    plan = Plan.of(request, model, files)
    output = output.resolve()
    _claim(plan, output, model)
    records = _read_records(output)
    finished = {
        index for index, record in records.items() if _is_there(output / record["path"], record)
    }
    todo = [index for index in range(plan.n_parts) if index not in finished]
    progress = _Progress(plan, [records[index] for index in finished], watch, began_s)
    made = _make(plan, output, todo, connect, threads, progress)
    records.update(made)
    ordered = [records[index] for index in range(plan.n_parts)]
    root = _finish(output, ordered, model.schema)
    _tell_shortfall(plan, ordered)
    costs = [record["cost"] for record in made.values() if "cost" in record]
    return Generated(
        folder=output,
        n_rows=sum(record["rows"] for record in ordered),
        n_parts=len(ordered),
        n_bytes=sum(record["size"] for record in ordered),
        written=len(made),
        kept=len(finished),
        rows_written=sum(record["rows"] for record in made.values()),
        seconds=time.monotonic() - began_s,
        core_s=sum(cost["cpu_s"] for cost in costs),
        peak_rss_mb=max((cost["peak_rss_mb"] for cost in costs), default=0),
        merkle_root=root,
    )


def make_part(
    plan: Plan, output: Path, index: int, *, threads: int | None = 1, session: str = ""
) -> Record:
    """Write one part and its record, unless they are there; return the record.

    Parameters
    ----------
    plan
        Of the request.
    output
        The request's folder.
    index
        Number of the part.
    threads
        Processor threads; None for all.
    session
        Begins the name of the file while it is unfinished, so that who started this can remove it.

    Raises
    ------
    StageError
        When the file is there with other bytes.
    Interrupted
        Between two shards, when this process was asked to stop; nothing is left behind.
    """
    part = plan.part(index)
    path = output / part.path
    known = _find_record(output, part)
    if known is not None and _is_there(path, known):
        return known
    unfinished = path.with_name(f".{path.name}.{session}-{uuid.uuid4().hex}.tmp")
    wall_s, cpu_s = time.monotonic(), time.process_time()
    with _storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            rows, size, digest = _write_shards(plan, part, unfinished, threads)
            record = {"path": part.path, "rows": rows, "size": size, "sha256": digest}
            _commit(unfinished, path, record, known)
        finally:
            unfinished.unlink(missing_ok=True)
        record["cost"] = {
            "wall_s": round(time.monotonic() - wall_s, 3),
            "cpu_s": round(time.process_time() - cpu_s, 3),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "host": platform.node(),
        }
        if known is None and _find_record(output, part) is None:
            artifacts.write_json(output / part.record, record)
    return record


def _write_shards(plan: Plan, part: Part, path: Path, threads: int | None) -> tuple[int, int, str]:
    """Write a part's shards, a row group each; return its rows, its bytes and its SHA-256."""
    model = _load_model(plan.request.run, plan.model[MODEL])
    _check_software(plan, model)
    request = plan.request
    schema = model.sample(0, seed=0).data.schema.remove_metadata()
    rows = 0
    with path.open("xb") as file:
        sink = _Hashed(file)
        with pq.ParquetWriter(sink, schema, **parquet_settings(model.schema)) as writer:
            for shard in part.shards:
                if interruption.asked():
                    raise Interrupted(f"Asked to stop before {part.path} was whole.")
                with warnings.catch_warnings():
                    # Told once for the whole request.
                    warnings.simplefilter("ignore", ShortfallWarning)
                    table = model.sample(
                        shard.n_rows,
                        seed=seeds.derive(request.seed, "more rows"),
                        shard=shard.index,
                        first_row=shard.first_row,
                        conditions=dict(request.conditions) or None,
                        threads=threads,
                        shortfall=request.shortfall,
                    )
                generators.check_drawn(
                    model, table, shard.n_rows, fewer=request.shortfall == "warn"
                )
                writer.write_table(
                    table.data.replace_schema_metadata(None).combine_chunks(),
                    row_group_size=request.rows_per_shard,
                )
                rows += table.n_rows
    return rows, sink.size, sink.total.hexdigest()


class _Hashed(io.RawIOBase):
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: io.BufferedWriter) -> None:
        super().__init__()
        self._file = file
        self.total = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._file.write(view)
        self.total.update(view)
        self.size += view.nbytes
        return view.nbytes


@functools.lru_cache(maxsize=1)
def _load_model(run: Path, digest: str) -> generators.Model:
    """A run's model, once per process; ``digest`` is what its description must have."""
    folder = run / "fit" / "model"
    if artifacts.digest_file(run / "fit" / MODEL) != digest:
        raise StageError(f"The model in {folder} is not the one of the request: it was changed.")
    return generators.load_model(folder)


def _check_software(plan: Plan, model: generators.Model) -> None:
    if software(model) != plan.software:
        raise StageError(
            f"This worker runs {_in_line(software(model))}, but the request began with "
            f"{_in_line(plan.software)}, and its bytes could differ: give all workers one "
            "environment."
        )


def _commit(unfinished: Path, path: Path, record: Record, known: Record | None) -> None:
    """Give a part its name, unless it is there already; two of one name must be equal."""
    if known is not None:
        there = known["sha256"]
    elif _place(unfinished, path):
        return
    else:
        there = artifacts.digest_file(path).removeprefix("sha256:")
    if there != record["sha256"]:
        raise StageError(
            f"{path} was made before with SHA-256 {there[:16]}..., and now with "
            f"{record['sha256'][:16]}...: equal requests must give equal bytes. Was it changed, or "
            "made on another type of processor? Nothing was replaced: remove the file and "
            f"{path.parents[1] / RECORDS / path.stem}.json, or begin in a new folder."
        )
    _place(unfinished, path)


def _place(unfinished: Path, path: Path) -> bool:
    """Whether the part got its name now; somebody who was faster may have removed it meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return artifacts.place_once(unfinished, path)
    if not path.exists():
        raise StageError(
            f"The unfinished file {unfinished.name} was removed while it was written: repeat the "
            "command."
        )
    return False


def _claim(plan: Plan, output: Path, model: generators.Model) -> None:
    """Note the request beside its rows, once; refuse another one."""
    note = output / REQUEST_FILE
    asked = plan.to_dict()
    if note.exists():
        there = artifacts.read_json(note)
        if there != asked:
            differing = sorted(
                name for name in {*there, *asked} if there.get(name) != asked.get(name)
            )
            raise OrderError(
                f"{output} holds the rows of another request (see {REQUEST_FILE}; "
                f"{', '.join(differing)} differ): choose another folder with -o."
            )
        return
    check_room(model.schema, plan.request.n_rows)
    model.sample(0, seed=0, conditions=plan.request.conditions, shortfall=plan.request.shortfall)
    with _storage(output):
        artifacts.write_json(note, asked)


def _read_records(output: Path) -> dict[int, Record]:
    """The records of finished parts by number: of the manifest, and of those beside it."""
    manifest = output / MANIFEST_FILE
    records = [artifacts.read_json(path) for path in (output / RECORDS).glob("part-*.json")]
    if manifest.exists():
        records += artifacts.read_json(manifest)["parts"]
    return {int(Path(record["path"]).stem.removeprefix("part-")): record for record in records}


def _find_record(output: Path, part: Part) -> Record | None:
    """The record of one part; None when it is unfinished."""
    with contextlib.suppress(FileNotFoundError):
        record: Record = artifacts.read_json(output / part.record)
        return record
    with contextlib.suppress(FileNotFoundError):
        for listed in artifacts.read_json(output / MANIFEST_FILE)["parts"]:
            if listed["path"] == part.path:
                found: Record = listed
                return found
    return None


def _is_there(path: Path, record: Record) -> bool:
    """Whether a recorded part is there, by its size; nothing is read again.

    Raises
    ------
    StageError
        When it was changed.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size != record["size"]:
        raise StageError(
            f"{path} was changed: expected {record['size']:,} bytes, found {size:,}. Remove it; "
            "the same command makes it again."
        )
    return True


def _finish(output: Path, records: Sequence[Record], schema: Schema) -> str:
    """Write the manifest, once, and remove what is not needed any more; return the Merkle root."""
    parts = [
        {name: record[name] for name in ("path", "rows", "size", "sha256")} for record in records
    ]
    manifest = certification.list_parts(parts, schema)
    path = output / MANIFEST_FILE
    with _storage(output):
        if not path.exists():
            artifacts.write_json(path, manifest)
        _remove_unfinished(output, "")
        shutil.rmtree(output / RECORDS, ignore_errors=True)
    root: str = manifest["merkleRoot"]
    return root


def _tell_shortfall(plan: Plan, records: Sequence[Record]) -> None:
    found = sum(record["rows"] for record in records)
    if found < plan.request.n_rows:
        warnings.warn(
            f"Only {found} of {plan.request.n_rows} rows met the conditions; the model gives such "
            "rows too rarely.",
            ShortfallWarning,
            stacklevel=3,
        )


class _Progress:
    """Counts what is finished, and tells a watcher."""

    def __init__(
        self, plan: Plan, finished: Sequence[Record], watch: Watch, began_s: float
    ) -> None:
        self._plan, self._watch, self._began_s = plan, watch, began_s
        self._parts = len(finished)
        self._kept = self._rows = sum(record["rows"] for record in finished)

    def add(self, record: Record) -> None:
        """Count a part."""
        self._parts += 1
        self._rows += record["rows"]

    def tell(self) -> None:
        """Call the watcher."""
        self._watch(
            Advance(
                n_parts=self._plan.n_parts,
                n_rows=self._plan.request.n_rows,
                parts_done=self._parts,
                rows_done=self._rows,
                rows_made=self._rows - self._kept,
                seconds=time.monotonic() - self._began_s,
            )
        )


def _make(
    plan: Plan,
    output: Path,
    todo: Sequence[int],
    connect: Connect | None,
    threads: int | None,
    progress: _Progress,
) -> dict[int, Record]:
    """Make these parts, in this process or on a cluster; return their records."""
    if not todo:
        return {}
    session = uuid.uuid4().hex[:12]
    _remove_unfinished(output, "", older_than_s=STALE_AFTER_S)
    made: dict[int, Record] = {}
    progress.tell()
    try:
        if connect is None or plan.n_parts == 1:
            for index in todo:
                made[index] = make_part(plan, output, index, threads=threads, session=session)
                progress.add(made[index])
                progress.tell()
        else:
            with connect(len(todo), 1) as workers:
                for index, record in _distribute(plan, output, todo, workers, session, progress):
                    made[index] = record
    finally:
        # The workers of this session are gone, whatever happened.
        _remove_unfinished(output, session)
    return made


def _distribute(
    plan: Plan,
    output: Path,
    todo: Sequence[int],
    workers: Workers,
    session: str,
    progress: _Progress,
) -> Iterator[tuple[int, Record]]:
    """A task for each part, a window of them at a time; yield records as they come."""
    client = workers.client
    waiting = iter(todo)
    pending: dict[Future[Record], int] = {}
    while True:
        window = max(MIN_WINDOW, 2 * sum(client.nthreads().values()))
        while len(pending) < window and (index := next(waiting, None)) is not None:
            future = client.submit(
                _make_or_leave,
                plan,
                output,
                index,
                session,
                workers.elastic,
                key=f"rows-{session}:{index}",
                pure=False,
                resources=dict(workers.on_cpu) or None,
            )
            pending[future] = index
        if not pending:
            return
        for future in _ended(list(pending)):
            index = pending.pop(future)
            record = _result(future)
            progress.add(record)
            yield index, record
        progress.tell()
        workers.check()
        if interruption.asked():
            interruption.spread()
            raise Interrupted(
                f"Asked to stop; the parts in {output} are whole, and the same command goes on."
            )


def _make_or_leave(plan: Plan, output: Path, index: int, session: str, elastic: bool) -> Record:
    """A worker's task; a worker that was asked to stop lets another one do it."""
    try:
        return make_part(plan, output, index, session=session)
    except Interrupted:
        if elastic:
            leave()
        raise


def _ended(pending: Sequence[Future[Record]]) -> list[Future[Record]]:
    """The tasks that ended, after a short wait for the first of them."""
    from distributed import TimeoutError as DaskTimeout
    from distributed import wait

    with contextlib.suppress(DaskTimeout, TimeoutError, CancelledError):
        wait(pending, timeout=POLL_S, return_when="FIRST_COMPLETED")
    return [future for future in pending if future.done()]


def _result(future: Future[Record]) -> Record:
    try:
        error = future.exception()
    except CancelledError as lost:
        raise Interrupted(
            "Dask's scheduler was lost; whole parts stay, and the same command goes on."
        ) from lost
    if error is None:
        record: Record = future.result()
        return record
    if isinstance(error, SynthfactoryError):
        raise error
    if type(error).__name__ == "KilledWorker":
        raise StageError(
            "The worker processes died again and again, most likely for lack of memory: use fewer "
            "workers (cluster.n_workers=1) or more memory, then repeat the command."
        ) from error
    raise StageError(f"A part could not be made: {type(error).__name__}: {error}") from error


def _remove_unfinished(output: Path, session: str, *, older_than_s: float = 0.0) -> None:
    """Remove unfinished files of a session, or of all; a living writer keeps its own young."""
    for path in (output / DATA).glob(f".part-*.parquet.{session}*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    with artifacts.storage_errors("write", path, setting="-o"):
        yield


def _divide(count: int, size: int) -> int:
    """How many pieces of ``size`` hold ``count``."""
    return -(-count // size)


def _in_line(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
