"""Making what a request asks for: in this process, or by the workers of a cluster."""

from __future__ import annotations

import contextlib
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthfactory import artifacts, interruption
from synthfactory.errors import (
    Interrupted,
    OrderError,
    ShortfallWarning,
    StageError,
    SynthfactoryError,
)
from synthfactory.generation.parts import (
    Record,
    claim,
    finish,
    is_there,
    load_model,
    make_part,
    read_records,
    remove_unfinished,
)
from synthfactory.generation.plan import MODEL, Plan, Request
from synthfactory.generation.watching import Count, Watch
from synthfactory.workers import Connect, Workers, in_words, leave

if TYPE_CHECKING:
    from distributed import Future

# Tasks that the scheduler knows at a time.
MIN_WINDOW = 512
POLL_S = 0.5
# A shard takes seconds, and minutes under a condition that is hardly ever met.
STALE_AFTER_S = 900.0


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
    model = load_model(request.run.resolve(), files[MODEL])
    plan = Plan.of(request, model, files)
    output = output.resolve()
    claim(plan, output, model)
    records = read_records(output)
    finished = {
        index for index, record in records.items() if is_there(output / record["path"], record)
    }
    todo = [index for index in range(plan.n_parts) if index not in finished]
    progress = Count(plan, [records[index] for index in finished], watch, began_s)
    made = _make(plan, output, todo, connect, threads, progress)
    records.update(made)
    ordered = [records[index] for index in range(plan.n_parts)]
    root = finish(output, ordered, model.schema)
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


def _make(
    plan: Plan,
    output: Path,
    todo: Sequence[int],
    connect: Connect | None,
    threads: int | None,
    progress: Count,
) -> dict[int, Record]:
    """Make these parts, in this process or on a cluster; return their records."""
    if not todo:
        return {}
    session = uuid.uuid4().hex[:12]
    remove_unfinished(output, "", older_than_s=STALE_AFTER_S)
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
        remove_unfinished(output, session)
    return made


def _tell_shortfall(plan: Plan, records: Sequence[Record]) -> None:
    found = sum(record["rows"] for record in records)
    if found < plan.request.n_rows:
        warnings.warn(
            f"Only {found} of {plan.request.n_rows} rows met the conditions; the model gives such "
            "rows too rarely.",
            ShortfallWarning,
            stacklevel=3,
        )


def _distribute(
    plan: Plan,
    output: Path,
    todo: Sequence[int],
    workers: Workers,
    session: str,
    progress: Count,
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
    raise StageError(f"A part could not be made. {in_words(error)}") from error
