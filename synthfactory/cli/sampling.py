"""The verb `sample`: more rows from a committed model, a part per logical shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from synthfactory import generators, seeds
from synthfactory.artifacts import is_done, read_done, read_json, storage_errors, write_json
from synthfactory.errors import OrderError
from synthfactory.run import shards

ROWS_PER_SHARD = 131_072
REQUEST_FILE = "request.json"


def sample_parts(
    run: Path,
    output: Path,
    *,
    n_rows: int,
    seed: int,
    conditions: Mapping[str, str],
    shortfall: str = "error",
) -> tuple[int, int]:
    """Write ``n_rows`` rows as Parquet parts under ``output``; return (written, kept).

    A part that exists is whole, because parts are written atomically: repeating the command
    continues.  The request is noted beside the parts, so that two requests never mix.

    Raises
    ------
    OrderError
        When ``run`` holds no fitted model, or ``output`` holds the rows of another request.
    """
    if not is_done(run / "fit"):
        raise OrderError(
            f"Expected a run folder with a fitted model, but {run} has none. "
            "`synthfactory status` lists runs."
        )
    request = {
        "model": read_done(run / "fit")["files"],
        "rows": n_rows,
        "seed": seed,
        "where": dict(conditions),
        "shortfall": shortfall,
    }
    note = output / REQUEST_FILE
    if note.exists() and read_json(note) != request:
        raise OrderError(
            f"{output} holds the rows of another request (see {REQUEST_FILE}): "
            "choose another folder with -o."
        )
    model = generators.load_model(run / "fit" / "model")
    model.sample(0, seed=0, conditions=conditions)
    write_json(note, request)
    written = kept = 0
    for shard in shards(n_rows, ROWS_PER_SHARD):
        path = output / shard.path
        if path.exists():
            kept += 1
            continue
        with storage_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            model.sample(
                shard.n_rows,
                seed=seeds.derive(seed, "more rows"),
                shard=shard.index,
                first_row=shard.first_row,
                conditions=conditions or None,
                shortfall=shortfall,
            ).write_parquet(path)
        written += 1
    return written, kept
