"""A table as the networks see it: scalars and codes, and the spans that codes fill.

Legend: B batch rows, M numeric columns, S spans (one per column).

Rows are kept as codes; a dense one-hot exists for one batch at a time only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthfactory.generators.modes import ColumnModes, Floats, fit_modes
from synthfactory.generators.precision import fuses
from synthfactory.seeds import numpy_stream
from synthfactory.tables import Encoded, Encoder, Schema, Table
from synthfactory.tables.encode import Mapper


@dataclass(frozen=True, kw_only=True, eq=False)
class Representation:
    """How a table of one schema becomes the networks' rows, and back.

    Parameters
    ----------
    schema
        The table's schema.
    modes
        One per numeric column.
    level_counts
        For each discrete column, how often each code occurs in the learnt rows.
    """

    schema: Schema
    modes: tuple[ColumnModes, ...]
    level_counts: tuple[tuple[int, ...], ...]

    @classmethod
    def fit(cls, table: Table) -> Representation:
        """The representation of a table's rows."""
        return cls.of(table.schema, Encoder(table.schema).encode(table))

    @classmethod
    def of(cls, schema: Schema, encoded: Encoded) -> Representation:
        """The representation of rows that are numbers already; it needs no chance."""
        encoder = Encoder(schema)
        counts = tuple(
            tuple(np.bincount(encoded.codes[:, place], minlength=size).tolist())
            for place, size in enumerate(encoder.cardinalities)
        )
        return cls(
            schema=schema, modes=fit_modes(encoded.numbers, encoder.numeric), level_counts=counts
        )

    @property
    def n_numeric(self) -> int:
        """M."""
        return len(self.modes)

    @property
    def span_sizes(self) -> list[int]:
        """**Shape** (S,): modes of numeric columns, then levels of discrete ones."""
        return [column.n_modes for column in self.modes] + self.level_sizes

    @property
    def level_sizes(self) -> list[int]:
        """Levels of each discrete column, the missing state included."""
        return [len(counts) for counts in self.level_counts]

    def encode(self, table: Table, *, seed: int | None) -> Rows:
        """The rows of a table; the mode of a value is drawn once, by responsibility.

        Without a seed it is the most responsible one.
        """
        (rows,) = self.encode_each(Encoder(self.schema).encode(table), [seed])
        return rows

    def encode_each(
        self, encoded: Encoded, seeds: Sequence[int | None], mapping: Mapper = map
    ) -> list[Rows]:
        """`encode` for each seed; what does not depend on the seed is computed once.

        Parameters
        ----------
        encoded
            The table as numbers.
        mapping
            Maps a function over the seeds' chance, as `map` does; a pool's makes several at once.
        """
        n_rows, n_spans = len(encoded), len(self.span_sizes)
        scalars = [np.zeros((n_rows, self.n_numeric), dtype=np.float32) for _ in seeds]
        codes = [np.zeros((n_rows, n_spans), dtype=np.int64) for _ in seeds]
        for place, column in enumerate(self.modes):
            chances = [
                None if seed is None else numpy_stream(seed, "modes", place) for seed in seeds
            ]
            found = column.encode_each(encoded.numbers[:, place], chances, mapping)
            for member, (own_scalars, own_codes) in enumerate(found):
                scalars[member][:, place], codes[member][:, place] = own_scalars, own_codes
        for own in codes:
            own[:, self.n_numeric :] = encoded.codes
        return [
            Rows(scalars_BM=torch.from_numpy(own_scalars), codes_BS=torch.from_numpy(own_codes))
            for own_scalars, own_codes in zip(scalars, codes, strict=True)
        ]

    def numbers(self, rows: Rows) -> Floats:
        """**Shape** (B, M): the numeric columns, NaN where missing; neither clipped nor rounded.

        Computed where the rows are, in double precision.
        """
        device = rows.codes_BS.device
        numbers_MB = torch.empty(self.n_numeric, len(rows), dtype=torch.float64, device=device)
        if fuses(rows.scalars_BM):
            from synthfactory.generators._kernels import drawing as kernels

            by_column = (part.t().contiguous() for part in (rows.codes_BS, rows.scalars_BM))
            codes, scalars = (part.numpy() for part in by_column)
            kernels.place_numbers(codes, scalars, *self._places, numbers_MB.numpy())
        else:
            for place, column in enumerate(self.modes):
                centres, reaches = (torch.from_numpy(part).to(device) for part in column.places)
                modes = rows.codes_BS[:, place]
                numbers_MB[place] = centres[modes] + rows.scalars_BM[:, place] * reaches[modes]
        return numbers_MB.cpu().numpy().T

    @functools.cached_property
    def _places(self) -> tuple[Floats, Floats]:
        """**Shape** (M, most modes) each: the `places` of all columns, filled with NaN."""
        shape = (self.n_numeric, max((column.n_modes for column in self.modes), default=0))
        centres, reaches = np.full(shape, np.nan), np.full(shape, np.nan)
        for place, column in enumerate(self.modes):
            centres[place, : column.n_modes], reaches[place, : column.n_modes] = column.places
        return centres, reaches

    def encoded(self, rows: Rows) -> Encoded:
        """The rows as tables know them: numbers, and codes of discrete columns."""
        codes_DB = rows.codes_BS[:, self.n_numeric :].t().cpu().numpy()
        return Encoded(numbers=self.numbers(rows), codes=codes_DB.astype(np.int32, copy=False).T)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able parameters."""
        return {
            "schema": self.schema.to_dict(),
            "modes": [column.to_dict() for column in self.modes],
            "level_counts": [list(counts) for counts in self.level_counts],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Representation:
        """The inverse of `to_dict`."""
        return cls(
            schema=Schema.from_dict(values["schema"]),
            modes=tuple(ColumnModes.from_dict(column) for column in values["modes"]),
            level_counts=tuple(tuple(counts) for counts in values["level_counts"]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows as the networks see them.

    Parameters
    ----------
    scalars_BM
        Position within the mode, -1 to 1.
    codes_BS
        Mode of each numeric column, then level of each discrete one.
    """

    scalars_BM: Tensor
    codes_BS: Tensor

    def __len__(self) -> int:
        return len(self.codes_BS)
