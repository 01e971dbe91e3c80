"""Two generators that an evaluation must put in their place.

`Independent` draws every column on its own: the floor of fidelity and utility.  `Bootstrap` repeats
training rows: it looks perfect and leaks everything, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from synthfactory.artifacts import digest_bytes, write_atomic
from synthfactory.errors import OrderError
from synthfactory.generators.base import (
    LATENT_SAMPLES,
    Callback,
    Floats,
    Generator,
    Model,
    check_conditions,
    check_count,
    check_learnable,
)
from synthfactory.generators.likelihood import CellLikelihood
from synthfactory.generators.modes import ColumnModes, fit_modes
from synthfactory.generators.store import check_digest, save_document
from synthfactory.seeds import derive, numpy_stream
from synthfactory.tables import Encoded, Encoder, Schema, Table, read_table, row_numbers

ROWS_FILE = "training-rows.parquet"
SIGMA = 0.25


@dataclass(frozen=True, kw_only=True)
class Independent(Generator):
    """The product of the columns' marginals; no dependence between columns is kept."""

    name: ClassVar[str] = "independent"

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
        checkpoint: Path | None = None,
    ) -> IndependentModel:
        """Learn the marginals; see `Generator.fit`."""
        check_learnable(table)
        encoder = Encoder(table.schema)
        encoded = encoder.encode(table)
        modes = fit_modes(encoded.numbers, encoder.numeric)
        mode_counts = tuple(
            np.bincount(
                column.encode(encoded.numbers[:, place], numpy_stream(seed, "modes", place))[1],
                minlength=column.n_modes,
            )
            for place, column in enumerate(modes)
        )
        level_counts = tuple(
            np.bincount(encoded.codes[:, place], minlength=size)
            for place, size in enumerate(encoder.cardinalities)
        )
        return IndependentModel(self, table.schema, modes, mode_counts, level_counts)


class IndependentModel(Model):
    """Mixtures of the numeric columns and frequencies of the discrete ones."""

    kind: ClassVar[str] = "independent"

    def __init__(
        self,
        spec: Independent,
        schema: Schema,
        modes: tuple[ColumnModes, ...],
        mode_counts: tuple[np.ndarray[Any, Any], ...],
        level_counts: tuple[np.ndarray[Any, Any], ...],
    ) -> None:
        self.spec: Independent = spec
        self.schema = schema
        self._modes = modes
        self._mode_counts = mode_counts
        self._level_counts = level_counts

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
        """Draw rows; see `Model.sample`.  A condition fixes its column."""
        check_count(n_rows)
        wanted = check_conditions(self.schema, conditions)
        chance = numpy_stream(seed, "sample", shard)
        numbers = np.empty((n_rows, len(self._modes)))
        for place, column in enumerate(self._modes):
            modes = _draw(self._mode_counts[place], n_rows, chance)
            scalars = np.clip(SIGMA * chance.standard_normal(n_rows), -1.0, 1.0)
            numbers[:, place] = column.decode(scalars, modes)
        codes = np.empty((n_rows, len(self._level_counts)), dtype=np.int32)
        for place, (level, counts) in enumerate(
            zip(self.schema.discrete, self._level_counts, strict=True)
        ):
            codes[:, place] = _draw(counts, n_rows, chance)
            if level.name in wanted:
                codes[:, place] = wanted[level.name]
        return Encoder(self.schema).decode(
            Encoded(numbers=numbers, codes=codes),
            seed=derive(seed, "identifiers"),
            first_row=first_row,
        )

    def log_likelihood(
        self, table: Table, *, seed: int = 0, samples: int = LATENT_SAMPLES
    ) -> Floats:
        """Exact; see `Model.log_likelihood`."""
        encoder = Encoder(self.schema)
        encoded = encoder.encode(table)
        total = np.zeros(len(encoded))
        for place, column in enumerate(encoder.numeric):
            cell = CellLikelihood(self._modes[place], encoded.numbers[:, place], column)
            logs = torch.from_numpy(_log_shares(self._mode_counts[place])).unsqueeze(1)
            total += cell.log(logs, torch.zeros(()), torch.tensor(SIGMA)).numpy()
        for place, counts in enumerate(self._level_counts):
            total += _log_shares(counts)[encoded.codes[:, place]]
        return total

    def save(self, path: str | Path) -> None:
        """Write the parameters; see `Model.save`."""
        save_document(
            Path(path),
            {
                "kind": self.kind,
                "spec": self.spec.hyperparameters(),
                "schema": self.schema.to_dict(),
                "modes": [column.to_dict() for column in self._modes],
                "mode_counts": [counts.tolist() for counts in self._mode_counts],
                "level_counts": [counts.tolist() for counts in self._level_counts],
            },
        )

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> IndependentModel:
        """The inverse of `save`."""
        return cls(
            Independent(**document["spec"]),
            Schema.from_dict(document["schema"]),
            tuple(ColumnModes.from_dict(column) for column in document["modes"]),
            tuple(np.asarray(counts) for counts in document["mode_counts"]),
            tuple(np.asarray(counts) for counts in document["level_counts"]),
        )


def _log_shares(counts: np.ndarray[Any, Any], total: int | None = None) -> Floats:
    """Logarithms of the shares of the total, -inf where there are none."""
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(counts / (counts.sum() if total is None else total))
    return logs


def _draw(
    counts: np.ndarray[Any, Any], n_rows: int, chance: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.int64]]:
    shares = counts / counts.sum()
    return chance.choice(len(counts), size=n_rows, p=shares)


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Generator):
    """Training rows, drawn again with replacement: leaks on purpose, to test the audit.

    Its model holds the training rows and says so (``contains_training_rows``); never share it.
    """

    name: ClassVar[str] = "bootstrap"

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
        checkpoint: Path | None = None,
    ) -> BootstrapModel:
        """Keep the rows; see `Generator.fit`."""
        check_learnable(table)
        return BootstrapModel(self, table)


class BootstrapModel(Model):
    """The training rows themselves."""

    kind: ClassVar[str] = "bootstrap"

    def __init__(self, spec: Bootstrap, rows: Table) -> None:
        self.spec: Bootstrap = spec
        self.schema = rows.schema
        self._rows = rows

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
        """Draw training rows with replacement; see `Model.sample`."""
        check_count(n_rows)
        wanted = check_conditions(self.schema, conditions)
        encoder = Encoder(self.schema)
        encoded = encoder.encode(self._rows)
        fits = np.ones(len(encoded), dtype=bool)
        for place, column in enumerate(encoder.discrete):
            if column.name in wanted:
                fits &= encoded.codes[:, place] == wanted[column.name]
        candidates = np.flatnonzero(fits)
        if len(candidates) == 0 and n_rows > 0:
            raise OrderError("No training row meets the conditions.")
        picked = numpy_stream(seed, "sample", shard).choice(candidates, size=n_rows)
        return encoder.decode(
            Encoded(numbers=encoded.numbers[picked], codes=encoded.codes[picked]),
            seed=derive(seed, "identifiers"),
            first_row=first_row,
        )

    def log_likelihood(
        self, table: Table, *, seed: int = 0, samples: int = LATENT_SAMPLES
    ) -> Floats:
        """Exact: each row's share of the training rows; see `Model.log_likelihood`."""
        encoder = Encoder(self.schema)
        mine, asked = row_numbers(encoder.encode(self._rows), encoder.encode(table))
        counts = np.bincount(mine, minlength=int(asked.max(initial=-1)) + 1)
        return _log_shares(counts[asked], len(self._rows))

    def save(self, path: str | Path) -> None:
        """Write the rows beside a document that says what they are; see `Model.save`."""
        folder = Path(path)
        content = self._rows.to_parquet_bytes()
        write_atomic(folder / ROWS_FILE, content)
        save_document(
            folder,
            {
                "kind": self.kind,
                "spec": self.spec.hyperparameters(),
                "schema": self.schema.to_dict(),
                "contains_training_rows": True,
                "rows": digest_bytes(content),
            },
        )

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> BootstrapModel:
        """The inverse of `save`."""
        check_digest(path / ROWS_FILE, document["rows"])
        schema = Schema.from_dict(document["schema"])
        return cls(Bootstrap(**document["spec"]), read_table(path / ROWS_FILE, schema=schema))
