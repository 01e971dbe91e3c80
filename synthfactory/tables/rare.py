"""Values that too few people have, made common before anything else sees the table.

A level that three people have, or the largest of all numbers, says something about single people
wherever it is written: in a model's list of levels, in a range, in a synthetic row.  So at the door
levels of fewer than k people are put together, and numbers are clipped to the values that k people
reach on either side.  Generators, attacks and measurements then all see the same table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthfactory.tables.encode import Encoder, arrow_type
from synthfactory.tables.schema import Column, Schema
from synthfactory.tables.split import entity_numbers
from synthfactory.tables.table import Table

OTHER = "(other)"

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def merge_rare(
    table: Table, min_people: int, declared: Mapping[str, Mapping[str, Any]] | None = None
) -> Table:
    """The table without values that fewer than ``min_people`` people have.

    Parameters
    ----------
    table
        The whole table, before it is divided.
    min_people
        How many people make a value common; entities where one is declared, else rows.
    declared
        Properties of columns that their owner declared: a column whose ``categories`` are declared
        keeps its levels, one with a declared ``minimum`` or ``maximum`` keeps that end.

    Returns
    -------
    Table
        Levels of too few people are ``(other)`` where they are texts and enough people together,
        else missing.  Numbers and points in time lie between the values that so many people
        reach; the schema's ranges and levels are those of the new table.
    """
    said = declared or {}
    people = entity_numbers(table)
    encoded = Encoder(table.schema).encode(table)
    columns = {column.name: column for column in table.schema.columns}
    data = table.data
    for place, column in enumerate(table.schema.discrete):
        if "categories" in said.get(column.name, {}) or column.kind == "boolean":
            continue
        codes = encoded.codes[:, place].astype(np.int64)
        changed = _merge_levels(column, codes, people, min_people)
        if changed is not None:
            columns[column.name], values = changed
            data = data.set_column(data.column_names.index(column.name), column.name, values)
    for place, column in enumerate(table.schema.numeric):
        changed = _clip(
            column,
            data.column(column.name),
            encoded.numbers[:, place],
            people,
            min_people,
            said.get(column.name, {}),
        )
        if changed is not None:
            columns[column.name], values = changed
            data = data.set_column(data.column_names.index(column.name), column.name, values)
    ordered = tuple(columns[name] for name in table.schema.names)
    schema: Schema = dataclasses.replace(table.schema, columns=ordered)
    return Table(data=data.combine_chunks(), schema=schema)


def _merge_levels(
    column: Column, codes: Codes, people: Codes, least: int
) -> tuple[Column, pa.Array] | None:
    n_levels = len(column.categories)
    counts = _people_per_level(codes, people, n_levels)
    rare = counts < least
    if not rare.any():
        return None
    is_rare = np.append(rare, False)[codes]
    together = len(np.unique(people[is_rare]))
    kept = [level for level, few in zip(column.categories, rare, strict=True) if not few]
    levels = pa.array(column.categories, type=arrow_type(column))
    values = levels.take(pa.array(np.where(codes < n_levels, codes, 0), mask=codes >= n_levels))
    # An ordinal level stands between others, which a level for all the rest would not.
    joined = column.kind == "categorical" and column.dtype == "string" and together >= least
    replacement = pa.scalar(OTHER if joined else None, type=levels.type)
    merged = pc.if_else(pa.array(is_rare), replacement, values)
    if joined and OTHER not in kept:
        kept.append(OTHER)
    return (
        dataclasses.replace(
            column, categories=tuple(kept), nullable=bool(column.nullable or merged.null_count)
        ),
        merged,
    )


def _people_per_level(codes: Codes, people: Codes, n_levels: int) -> Codes:
    pairs = np.unique(np.column_stack([codes, people]), axis=0)
    return np.bincount(pairs[:, 0], minlength=n_levels + 1)[:n_levels]


def _clip(
    column: Column,
    values: pa.ChunkedArray,
    numbers: Floats,
    people: Codes,
    least: int,
    declared: Mapping[str, Any],
) -> tuple[Column, pa.Array] | None:
    present = ~np.isnan(numbers)
    if column.minimum is None or column.maximum is None or not present.any():
        return None
    low = -np.inf if "minimum" in declared else _reached(-numbers[present], people[present], least)
    high = np.inf if "maximum" in declared else _reached(numbers[present], people[present], least)
    low = -low if np.isfinite(low) else -np.inf
    if low <= column.minimum and high >= column.maximum:
        return None
    places = np.arange(len(numbers))
    # A value that a person really has stands for the bound: no rounding makes a new one.
    first = int(places[present][np.argmin(np.abs(numbers[present] - low))]) if low > -np.inf else 0
    last = int(places[present][np.argmin(np.abs(numbers[present] - high))]) if high < np.inf else 0
    taken = places.copy()
    taken[present & (numbers < low)] = first
    taken[present & (numbers > high)] = last
    return (
        dataclasses.replace(
            column, minimum=max(low, column.minimum), maximum=min(high, column.maximum)
        ),
        values.take(pa.array(taken)).combine_chunks(),
    )


def _reached(numbers: Floats, people: Codes, least: int) -> float:
    """The largest value that at least ``least`` people reach."""
    _, groups = np.unique(people, return_inverse=True)
    highest = np.full(groups.max() + 1, -np.inf)
    np.maximum.at(highest, groups, numbers)
    place = min(least, len(highest)) - 1
    return float(np.sort(highest)[::-1][place])
