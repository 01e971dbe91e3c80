"""Frames as evidence, for tests that show the same rows to other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from synthfactory.evaluation.evidence import Evidence
from synthfactory.tables import Column, Schema, Table
from synthfactory.tables.encode import arrow_type


def as_tables(
    frames: Sequence[pd.DataFrame], *, ordinal: Sequence[str] = (), **roles: Any
) -> list[Table]:
    """Tables of one schema: numbers and times as they are, all else levels.

    Parameters
    ----------
    frames
        Of the same columns.
    ordinal
        Columns whose levels have an order, that of their values.
    roles
        The schema's, such as ``sensitive``.
    """
    whole = pd.concat(frames, ignore_index=True)
    columns = tuple(_column(name, whole[name], name in ordinal) for name in whole.columns)
    schema = Schema(columns=columns, **roles)
    return [
        Table(
            data=pa.table(
                {
                    column.name: pa.array(frame[column.name], from_pandas=True).cast(
                        arrow_type(column)
                    )
                    for column in columns
                }
            ),
            schema=schema,
        )
        for frame in frames
    ]


def _column(name: str, values: pd.Series[Any], is_ordinal: bool) -> Column:
    nullable = bool(values.isna().any())
    if pd.api.types.is_datetime64_any_dtype(values):
        return Column(name=name, kind="datetime", dtype="timestamp[us]", nullable=nullable)
    if pd.api.types.is_numeric_dtype(values) and not is_ordinal:
        return Column(name=name, kind="numerical", dtype="double", nullable=nullable)
    levels = tuple(sorted(values.dropna().unique().tolist()))
    dtype = "string" if isinstance(levels[0], str) else "int64"
    kind = "ordinal" if is_ordinal else "categorical"
    return Column(name=name, kind=kind, dtype=dtype, nullable=nullable, categories=levels)


def evidence_of(
    *,
    train: pd.DataFrame,
    control: pd.DataFrame,
    test: pd.DataFrame,
    synthetic: pd.DataFrame,
    ordinal: Sequence[str] = (),
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    **roles: Any,
) -> Evidence:
    """The evidence on these frames."""
    tables = as_tables([train, control, test, synthetic], ordinal=ordinal, **roles)
    return Evidence.of(*tables, seed=seed, threads=1, repeats=40, **(settings or {}))
