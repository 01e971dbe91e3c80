"""Adapters to the Synthetic Data Vault's generators, for comparison.

``sdv`` is under the Business Source Licence 1.1, whose grant excludes offering a synthetic-data
service to third parties.  It is an extra, and a certificate names its licence.  Its models exist as
pickles only, which may hold training rows; we keep them in the run folder, say so in
``model.json``, and load only a file whose digest is the one that was written.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from synthfactory.artifacts import digest_bytes, write_atomic
from synthfactory.errors import OrderError
from synthfactory.generators.base import (
    Callback,
    Generator,
    Model,
    check_conditions,
    check_count,
    check_learnable,
    expect_number,
)
from synthfactory.generators.store import check_digest, save_document
from synthfactory.generators.training import find_device, using_threads
from synthfactory.seeds import derive
from synthfactory.tables import Encoded, Encoder, Schema, Table

TABLE = "table"
SDTYPES = {
    "numerical": "numerical",
    "categorical": "categorical",
    "ordinal": "categorical",
    "boolean": "categorical",
    "datetime": "datetime",
}


@dataclass(frozen=True, kw_only=True)
class _Vault(Generator):
    """What the three adapters share."""

    licence: ClassVar[str] = "BUSL-1.1"
    synthesizer: ClassVar[str]

    def arguments(self, cuda: bool) -> dict[str, Any]:
        """What the synthesizer is made with."""
        return {}

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
        checkpoint: Path | None = None,
    ) -> VaultModel:
        """Learn ``table``; see `Generator.fit`."""
        check_learnable(table)
        single_table, metadata_class = _import_sdv()
        frame = _to_frame(table)
        metadata = metadata_class.load_from_dict(_metadata(table.schema, list(frame.columns)))
        _seed_everything(derive(seed, self.name))
        cuda = find_device(device).type == "cuda"
        with using_threads(threads):
            synthesizer = getattr(single_table, self.synthesizer)(metadata, **self.arguments(cuda))
            synthesizer.fit({TABLE: frame})
        return VaultModel(self, table.schema, synthesizer)


@dataclass(frozen=True, kw_only=True)
class SDVCTGAN(_Vault):
    """SDV's CTGANSynthesizer with its defaults.

    Parameters
    ----------
    epochs
        Passes over the rows.
    batch_size, pac
        As in `CTGAN`.
    """

    name: ClassVar[str] = "sdv_ctgan"
    synthesizer: ClassVar[str] = "CTGANSynthesizer"

    epochs: int = 150
    batch_size: int = 500
    pac: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "pac"):
            expect_number("generator", name, getattr(self, name), minimum=1, integer=True)

    def arguments(self, cuda: bool) -> dict[str, Any]:
        """What the synthesizer is made with."""
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "pac": self.pac,
            "enable_gpu": cuda,
        }


@dataclass(frozen=True, kw_only=True)
class SDVTVAE(_Vault):
    """SDV's TVAESynthesizer with its defaults.

    Parameters
    ----------
    epochs
        Passes over the rows.
    batch_size
        Rows of a step.
    """

    name: ClassVar[str] = "sdv_tvae"
    synthesizer: ClassVar[str] = "TVAESynthesizer"

    epochs: int = 150
    batch_size: int = 500

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            expect_number("generator", name, getattr(self, name), minimum=1, integer=True)

    def arguments(self, cuda: bool) -> dict[str, Any]:
        """What the synthesizer is made with."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "enable_gpu": cuda}


@dataclass(frozen=True, kw_only=True)
class SDVGaussianCopula(_Vault):
    """SDV's GaussianCopulaSynthesizer with its defaults."""

    name: ClassVar[str] = "sdv_gaussian_copula"
    synthesizer: ClassVar[str] = "GaussianCopulaSynthesizer"


class VaultModel(Model):
    """A fitted synthesizer of SDV."""

    kind: ClassVar[str] = "sdv"

    def __init__(self, spec: _Vault, schema: Schema, synthesizer: Any) -> None:
        self.spec: _Vault = spec
        self.schema = schema
        self._synthesizer = synthesizer

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
        check_count(n_rows)
        if check_conditions(self.schema, conditions):
            raise OrderError("The SDV adapters draw without conditions; use generator=ctgan.")
        address = derive(seed, "sample", shard)
        _seed_everything(address)
        # SDV would use a fixed seed of its own for every first sample.
        self._synthesizer._set_random_state(address % 2**32)
        frame = self._synthesizer.sample(n_rows)[TABLE] if n_rows else _empty(self.schema)
        return _from_frame(
            frame, self.schema, seed=derive(seed, "identifiers"), first_row=first_row
        )

    def save(self, path: str | Path) -> None:
        """Write SDV's pickle beside a document that says what it is; see `Model.save`."""
        import cloudpickle

        buffer = io.BytesIO()
        cloudpickle.dump(self._synthesizer, buffer)
        write_atomic(Path(path) / "sdv.pkl", buffer.getvalue())
        save_document(
            Path(path),
            {
                "kind": self.kind,
                "spec": self.spec.hyperparameters(),
                "name": self.spec.name,
                "schema": self.schema.to_dict(),
                "pickle": digest_bytes(buffer.getvalue()),
                "contains_training_rows": True,
            },
        )

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> VaultModel:
        """The inverse of `save`."""
        import cloudpickle

        _import_sdv()
        content = check_digest(path / "sdv.pkl", document["pickle"])
        specs = {spec.name: spec for spec in (SDVCTGAN, SDVTVAE, SDVGaussianCopula)}
        spec = specs[document["name"]](**document["spec"])
        return cls(spec, Schema.from_dict(document["schema"]), cloudpickle.loads(content))


def _import_sdv() -> tuple[Any, Any]:
    try:
        from sdv import single_table
        from sdv.metadata import Metadata
    except ImportError as error:
        raise OrderError(
            "This generator needs the package sdv: pip install 'synthfactory[sdv]'. Read its "
            "Business Source Licence first: it excludes offering a synthetic-data service to "
            "others. generator=ctgan and generator=tvae are ours and open."
        ) from error
    return single_table, Metadata


def _metadata(schema: Schema, names: list[str]) -> dict[str, Any]:
    columns: dict[str, dict[str, str]] = {}
    for name in names:
        column = schema.column(name)
        columns[name] = {"sdtype": SDTYPES[column.kind]}
        if column.kind == "datetime":
            columns[name]["datetime_format"] = "%Y-%m-%d %H:%M:%S"
    return {"METADATA_SPEC_VERSION": "V1", "tables": {TABLE: {"columns": columns}}}


def _to_frame(table: Table) -> pd.DataFrame:
    """Plain pandas columns: numbers as floats, levels as texts, dates as timestamps."""
    frame = {}
    for column in table.schema.columns:
        values = table.data.column(column.name)
        if column.kind == "identifier":
            continue
        if column.kind == "numerical":
            frame[column.name] = values.cast(pa.float64(), safe=False).to_pandas()
        elif column.kind == "datetime":
            frame[column.name] = pd.Series(values.cast(pa.timestamp("us")).to_pandas())
        else:
            frame[column.name] = values.cast(pa.string()).to_pandas().astype(object)
    return pd.DataFrame(frame)


def _from_frame(frame: pd.DataFrame, schema: Schema, *, seed: int, first_row: int) -> Table:
    """SDV's rows in the schema's types, clipped and rounded as our own models' are."""
    encoder = Encoder(schema)
    numbers = np.full((len(frame), len(encoder.numeric)), np.nan)
    for place, column in enumerate(encoder.numeric):
        values = frame[column.name]
        if column.kind == "datetime":
            stamps = pd.to_datetime(values)
            seconds = (stamps - pd.Timestamp(0)).dt.total_seconds()
            numbers[:, place] = seconds.to_numpy(dtype=np.float64)
        else:
            numbers[:, place] = values.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = np.empty((len(frame), len(encoder.discrete)), dtype=np.int32)
    for place, column in enumerate(encoder.discrete):
        texts = pa.array(column.categories, pa.type_for_alias(column.dtype)).cast(pa.string())
        lookup = {text: code for code, text in enumerate(texts.to_pylist())}
        codes[:, place] = [
            lookup.get(value, len(column.categories)) if isinstance(value, str) else len(lookup)
            for value in frame[column.name]
        ]
    return encoder.decode(Encoded(numbers=numbers, codes=codes), seed=seed, first_row=first_row)


def _empty(schema: Schema) -> pd.DataFrame:
    return pd.DataFrame({column.name: [] for column in schema.columns})


def _seed_everything(seed: int) -> None:
    """SDV draws from the global generators; there is no other way to seed it."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
