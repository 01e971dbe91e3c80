"""Parts as files: each written shard by shard, named when it is whole, and recorded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import platform
import resource
import shutil
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthfactory import artifacts, certification, generators, interruption, seeds
from synthfactory.errors import Interrupted, OrderError, ShortfallWarning, StageError
from synthfactory.generation.plan import DATA, MODEL, RECORDS, Part, Plan, software
from synthfactory.tables import Schema, Writer, check_room

REQUEST_FILE = "request.json"
MANIFEST_FILE = "manifest.json"

Record = Mapping[str, Any]


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
    if known is not None and is_there(path, known):
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
    model = load_model(plan.request.run, plan.model[MODEL])
    _check_software(plan, model)
    request = plan.request
    schema = model.sample(0, seed=0).data.schema.remove_metadata()
    rows = 0
    with path.open("xb") as file:
        sink = _Hashed(file)
        with Writer(sink, schema, model.schema) as writer:
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
                writer.write(table.data, table.coded, row_group=request.rows_per_shard)
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
def load_model(run: Path, digest: str) -> generators.Model:
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


def claim(plan: Plan, output: Path, model: generators.Model) -> None:
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


def read_records(output: Path) -> dict[int, Record]:
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


def is_there(path: Path, record: Record) -> bool:
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


def finish(output: Path, records: Sequence[Record], schema: Schema) -> str:
    """Write the manifest, once, and remove what is not needed any more; return the Merkle root."""
    parts = [
        {name: record[name] for name in ("path", "rows", "size", "sha256")} for record in records
    ]
    manifest = certification.list_parts(parts, schema)
    path = output / MANIFEST_FILE
    with _storage(output):
        if not path.exists():
            artifacts.write_json(path, manifest)
        remove_unfinished(output, "")
        shutil.rmtree(output / RECORDS, ignore_errors=True)
    root: str = manifest["merkleRoot"]
    return root


def remove_unfinished(output: Path, session: str, *, older_than_s: float = 0.0) -> None:
    """Remove unfinished files of a session, or of all; a living writer keeps its own young."""
    for path in (output / DATA).glob(f".part-*.parquet.{session}*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    with artifacts.storage_errors("write", path, setting="-o"):
        yield


def _in_line(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
