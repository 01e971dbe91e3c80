"""What decides the bytes of a request: shards, parts, model and versions."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthfactory import generators
from synthfactory.errors import OrderError
from synthfactory.run import Shard
from synthfactory.tables import ROW_GROUP, bits_per_row

DATA, RECORDS = "data", "records"
MODEL = "model/model.json"

# A part has a power of two of shards: as many as leave GOAL_PARTS of them for workers to share, at
# least MIN_SHARDS, and at most what fits into MAX_PART_BYTES.
MIN_SHARDS = 8
GOAL_PARTS = 128
MAX_PART_BYTES = 2**29
# JSON's whole numbers end here (RFC 8785).
MAX_ROWS = 2**53 - 1


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
            divide(request.n_rows, request.rows_per_shard),
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
        return divide(self.request.n_rows, self._rows_per_part)

    @property
    def _rows_per_part(self) -> int:
        return self.request.rows_per_shard * (self.request.shards_per_part or 1)

    def part(self, index: int) -> Part:
        """The part of this number; names sort as numbers do."""
        rows_per_shard, per_part = self.request.rows_per_shard, self.request.shards_per_part or 1
        first = index * per_part
        count = divide(self.request.n_rows, rows_per_shard)
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
    wanted = 1 << (divide(n_shards, GOAL_PARTS) - 1).bit_length() if n_shards else 1
    return min(most, max(MIN_SHARDS, wanted))


def software(model: generators.Model | None = None) -> dict[str, str]:
    """Versions of what draws and writes rows; with others the bytes may differ.

    Parameters
    ----------
    model
        Draws them; None for one of this package.
    """
    names = ("synthfactory", "torch", "numpy", "pyarrow")
    offer = None if model is None else generators.offer_of_model(model)
    further = {} if offer is None else {offer.package: offer.version}
    return {name: importlib.metadata.version(name) for name in names} | further


def divide(count: int, size: int) -> int:
    """How many pieces of ``size`` hold ``count``."""
    return -(-count // size)
