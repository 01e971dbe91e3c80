"""Drawing rows from a fitted network: batch by batch, each with a stream of chance of its own.

A batch's rows depend on its address alone (seed, shard, number of the batch) and are computed by
one thread, so that neither the number of threads nor of machines changes a byte.  Conditions are
met by drawing again, up to a limit.
"""

from __future__ import annotations

import abc
import concurrent.futures
import copy
import functools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.base import (
    MAX_DRAWS_PER_ROW,
    Model,
    check_conditions,
    check_count,
    check_shortfall,
    fall_short,
    read_range,
)
from synthfactory.generators.layout import Layout
from synthfactory.generators.networks import Shapes
from synthfactory.generators.noise import bits
from synthfactory.generators.precision import fuses, using_precision
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.store import load_weights, save_weights
from synthfactory.generators.training import using_threads
from synthfactory.seeds import derive, torch_stream
from synthfactory.tables import Encoded, Encoder, Schema, Table

MAX_BATCH = 4_096
MIN_BATCH = 512
MAX_NUMBERS = 2**25
MAX_ROUND = 64
AT_ONCE = 256
MAX_WEIGHTS = 2**16


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Conditions in the terms of the networks.

    Parameters
    ----------
    codes
        Code by place of a discrete column.
    ranges
        Least and greatest value by place of a numeric column, both included.
    """

    codes: Mapping[int, int] = field(default_factory=dict)
    ranges: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Schema, conditions: Mapping[str, Any] | None) -> Wanted:
        """Read a user's conditions.

        Raises
        ------
        OrderError
            For an unknown column or level, or a range that is none.
        """
        numeric = {column.name: place for place, column in enumerate(schema.numeric)}
        discrete = {column.name: place for place, column in enumerate(schema.discrete)}
        given = dict(conditions or {})
        ranges = {
            numeric[name]: read_range(schema.column(name), given.pop(name))
            for name in list(given)
            if name in numeric
        }
        codes = check_conditions(schema, given)
        return cls(codes={discrete[name]: code for name, code in codes.items()}, ranges=ranges)

    def __bool__(self) -> bool:
        return bool(self.codes or self.ranges)

    def rarest(self, counts: Sequence[Sequence[int]]) -> tuple[int, int] | None:
        """The discrete column and code that is met least often; None without one."""
        return min(self.codes.items(), key=lambda item: counts[item[0]][item[1]], default=None)

    def hits(self, rows: Rows, representation: Representation) -> Rows:
        """The rows that meet all conditions."""
        met = torch.ones(len(rows), dtype=torch.bool, device=rows.codes_BS.device)
        for place, code in self.codes.items():
            met &= rows.codes_BS[:, representation.n_numeric + place] == code
        if self.ranges and bool(met.any()):
            encoder = Encoder(representation.schema)
            numbers = representation.numbers(rows)
            for place, (low, high) in self.ranges.items():
                values = encoder.tidy(numbers[:, place], encoder.numeric[place])
                within = (values >= low) & (values <= high)
                met &= torch.from_numpy(within).to(met.device)
        picked = torch.nonzero(met).squeeze(1)
        return Rows(
            scalars_BM=rows.scalars_BM.t().index_select(1, picked).t(),
            codes_BS=rows.codes_BS.t().index_select(1, picked).t(),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Rows, and what they cost.

    Parameters
    ----------
    table
        The rows.
    n_drawn
        How many were drawn.
    n_met
        How many of those met the conditions; of these the first are the rows.
    """

    table: Table
    n_drawn: int
    n_met: int

    @property
    def hit_rate(self) -> float:
        """Share of the draws that met the conditions; NaN without any draw."""
        return self.n_met / self.n_drawn if self.n_drawn else math.nan


class NeuralModel(Model):
    """A fitted network: weights, and the representation of the rows that it draws."""

    spec_class: ClassVar[type]

    def __init__(
        self, spec: Any, representation: Representation, weights: Mapping[str, Tensor]
    ) -> None:
        self.spec = spec
        self.schema = representation.schema
        self.representation = representation
        self.layout = Layout.of([representation])
        self.weights = dict(weights)
        self._prepare()

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Make what `inputs` and `logits` need."""

    @abc.abstractmethod
    def inputs(self, n_rows: int, stream: torch.Generator, wanted: Wanted) -> Any:
        """What the network reads to draw rows."""

    @abc.abstractmethod
    def logits(self, inputs: Any) -> Tensor:
        """**Shape** (W, B)."""

    @abc.abstractmethod
    def scalars(self, logits_WB: Tensor, stream: torch.Generator) -> Tensor:
        """**Shape** (M, B): positions within modes."""

    @property
    @abc.abstractmethod
    def shapes(self) -> Shapes:
        """The weights that the description asks for."""

    def draw(self, inputs: Any, stream: torch.Generator) -> Rows:
        """Rows of these inputs; modes and levels are drawn by their softmax."""
        return self.rows(self.logits(inputs), stream)

    def draw_logits(self, n_rows: int, stream: torch.Generator, wanted: Wanted) -> Tensor:
        """**Shape** (W, B): the logits of new rows."""
        return self.logits(self.inputs(n_rows, stream, wanted))

    def rows(self, logits_WB: Tensor, stream: torch.Generator) -> Rows:
        """Rows of these logits; modes and levels are drawn by their softmax."""
        scalars_MB = self.scalars(logits_WB, stream)
        codes_SB = draw_codes(self.layout, logits_WB, stream)
        return Rows(scalars_BM=scalars_MB.t(), codes_BS=codes_SB.t())

    def sample(
        self,
        n_rows: int,
        *,
        seed: int,
        shard: int = 0,
        first_row: int = 0,
        conditions: Mapping[str, Any] | None = None,
        threads: int | None = None,
        shortfall: str = "error",
    ) -> Table:
        """Draw rows; see `Model.sample`."""
        return self.sample_counted(
            n_rows,
            seed=seed,
            shard=shard,
            first_row=first_row,
            conditions=conditions,
            threads=threads,
            shortfall=shortfall,
        ).table

    def sample_counted(
        self,
        n_rows: int,
        *,
        seed: int,
        shard: int = 0,
        first_row: int = 0,
        conditions: Mapping[str, Any] | None = None,
        threads: int | None = None,
        shortfall: str = "error",
    ) -> Drawn:
        """Draw rows as `Model.sample` does, and say how many draws they took."""
        check_count(n_rows)
        check_shortfall(shortfall)
        wanted = Wanted.of(self.schema, conditions)
        address = derive(seed, "sample", shard)
        # A fit at lower precision is sampled at full precision all the same.
        device = self.weights["head.bias"].device
        with (
            using_threads(1),
            using_precision("auto", device),
            self._pool(threads) as pool,
        ):
            parts, n_drawn = self._collect(n_rows, wanted, address, pool, shortfall)
            met = Encoded.concat(parts)
            table = Encoder(self.schema).decode(
                met[:n_rows],
                seed=derive(seed, "identifiers"),
                first_row=first_row,
                mapping=pool.map,
            )
        return Drawn(table=table, n_drawn=n_drawn, n_met=len(met))

    def _pool(self, threads: int | None) -> concurrent.futures.ThreadPoolExecutor:
        """So many threads, each of which computes alone."""
        n_threads = threads or len(os.sched_getaffinity(0))
        return concurrent.futures.ThreadPoolExecutor(
            n_threads if self.weights["head.bias"].device.type == "cpu" else 1,
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def _collect(
        self,
        n_rows: int,
        wanted: Wanted,
        address: int,
        pool: concurrent.futures.Executor,
        shortfall: str,
    ) -> tuple[list[Encoded], int]:
        """What met the conditions, in order, and how many rows were drawn for it."""
        size = max(MIN_BATCH, min(MAX_BATCH, MAX_NUMBERS // max(1, self.layout.width)))
        device = self.weights["head.bias"].device
        limit = math.ceil(MAX_DRAWS_PER_ROW * max(n_rows, 10) / size)

        @torch.no_grad()
        def batch(number: int) -> Encoded:
            stream = torch_stream(address, "batch", number, device=device)
            left = n_rows - number * size
            count = size if wanted else min(size, left)
            rows = self.rows(self.draw_logits(count, stream, wanted), stream)
            rows = wanted.hits(rows, self.representation) if wanted else rows
            return self.representation.encoded(rows)

        kept = [self.representation.encoded(no_rows(self.layout))]
        found = done = 0
        while found < n_rows and done < (limit if wanted else math.inf):
            numbers = range(done, min(limit, done + _round(n_rows, found, done, size, wanted)))
            for rows in pool.map(batch, numbers):
                kept.append(rows)
                found += len(rows)
            done = numbers.stop
        if found < n_rows:
            fall_short(found, n_rows, done * size, shortfall)
        return kept, done * size if wanted else found

    def replace(
        self, weights: Mapping[str, Tensor], representation: Representation | None = None
    ) -> Self:
        """This model with other weights of the same shapes, on the same device.

        What was made for the layout is shared with this one, not made again.

        Parameters
        ----------
        representation
            Another one with as many modes of each column; None for the same.
        """
        other = copy.copy(self)
        for name in list(vars(other)):
            if isinstance(getattr(type(other), name, None), functools.cached_property):
                delattr(other, name)
        other.weights = dict(weights)
        other.representation = representation or self.representation
        return other

    def to(self, device: torch.device) -> Self:
        """The same model with its weights on another device."""
        there = {name: value.to(device) for name, value in self.weights.items()}
        return type(self)(self.spec, self.representation, there)

    def save(self, path: str | Path) -> None:
        """Write weights and parameters; see `Model.save`."""
        self._save(Path(path), {}, {})

    def _save(self, path: Path, more: Mapping[str, Any], further: Mapping[str, Tensor]) -> None:
        """Write the model, with more in its document and further weights."""
        document = {
            "kind": self.kind,
            "spec": self.spec.hyperparameters(),
            "representation": self.representation.to_dict(),
            **more,
        }
        save_weights(path, document, {**self.weights, **further})

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> Self:
        """The inverse of `save`."""
        return cls._load(path, document, {})[0]

    @classmethod
    def _load(
        cls, path: Path, document: Mapping[str, Any], further: Shapes
    ) -> tuple[Self, dict[str, Tensor]]:
        """The model, and its further weights of these shapes."""
        spec = cls.spec_class(**document["spec"])
        representation = Representation.from_dict(document["representation"])
        empty = cls.__new__(cls)
        empty.spec, empty.layout = spec, Layout.of([representation])
        weights = load_weights(path, document, {**empty.shapes, **further})
        apart = {name: weights.pop(name) for name in further}
        return cls(spec, representation, weights), apart


def _round(n_rows: int, found: int, done: int, size: int, wanted: Wanted) -> int:
    """Batches to draw next; it depends on what was found, never on the number of threads."""
    if not wanted:
        return -(-n_rows // size)
    if not done:
        return 1
    rate = max(found, 0.5) / done
    return max(1, min(MAX_ROUND, math.ceil(1.1 * (n_rows - found) / rate)))


def no_rows(layout: Layout) -> Rows:
    """No rows."""
    return Rows(
        scalars_BM=torch.empty(layout.n_numeric, 0).t(),
        codes_BS=torch.empty(len(layout.sizes), 0, dtype=torch.int32).t(),
    )


def draw_codes(layout: Layout, logits_WB: Tensor, stream: torch.Generator) -> Tensor:
    """**Shape** (S, B): for each span a code, drawn by the softmax of its logits.

    By inversion: one uniform number per span finds its place among the cumulated weights.  The
    numbers are above 0, so that a code without weight is never drawn.
    """
    n_spans, n_rows = len(layout.sizes), logits_WB.shape[1]
    if fuses(logits_WB):
        return _draw_codes_compiled(layout, logits_WB, bits((n_spans, n_rows), stream))
    places_SB = 1.0 - torch.rand(n_spans, n_rows, generator=stream, device=logits_WB.device)
    order_S = torch.tensor(layout.order, dtype=torch.int64).to(logits_WB.device)
    # Spans of one size are neighbours here, as among the logits.
    places_SB = places_SB.index_select(0, order_S)
    found_SB = logits_WB.new_empty(n_spans, n_rows)
    first = 0
    for group in layout.groups:
        mine = slice(first, first + group.count)
        part = logits_WB[group.rows].unflatten(0, (group.count, group.size))
        weights = (part - part.amax(dim=1, keepdim=True)).exp_()
        cumulated = weights.cumsum(dim=1)
        wanted = places_SB[mine].unsqueeze(1) * cumulated[:, -1:]
        below = torch.lt(cumulated, wanted, out=torch.empty_like(cumulated))
        torch.sum(below, dim=1, out=found_SB[mine])
        first = mine.stop
    codes_SB = torch.empty(n_spans, n_rows, dtype=torch.int64, device=logits_WB.device)
    return codes_SB.index_copy_(0, order_S, found_SB.to(torch.int64))


def _draw_codes_compiled(layout: Layout, logits_WB: Tensor, bits_SB: Tensor) -> Tensor:
    """**Shape** (S, B), in one loop over all spans."""
    from synthfactory.generators._kernels import drawing as kernels

    largest = max(layout.sizes, default=0)
    at_once = max(1, min(AT_ONCE, MAX_WEIGHTS // max(1, largest)))
    weights_VC = np.empty((largest, at_once), dtype=np.float32)
    codes_SB = torch.empty(bits_SB.shape, dtype=torch.int32)
    logits = logits_WB.contiguous().numpy()
    kernels.draw_codes(logits, *layout.bounds, bits_SB.numpy(), weights_VC, codes_SB.numpy())
    return codes_SB
