"""What both directions know of the ``ctgan`` package: where it is, and where its logits stand."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synthfactory.errors import OrderError
from synthfactory.generators.layout import Layout
from synthfactory.tables import Column, Schema

STATISTICS_ROWS = 8_192


def import_ctgan(module: str) -> Any:
    try:
        return importlib.import_module(f"ctgan.{module}")
    except ImportError as error:
        raise OrderError(
            "Exchanging models needs the package ctgan: pip install 'synthfactory[sdv]'. Read its "
            "Business Source Licence first: it excludes offering a synthetic-data service to "
            "others."
        ) from error


def spans(schema: Schema) -> list[tuple[Column, int]]:
    """Each learnt column in the table's order, with the number of its span in ours."""
    order = {column.name: place for place, column in enumerate((*schema.numeric, *schema.discrete))}
    return [(column, order[column.name]) for column in schema.columns if column.name in order]


def their_rows(layout: Layout, schema: Schema, codes: Mapping[int, Sequence[int]]) -> Tensor:
    """**Shape** (W,): for each of our logits where theirs stands.

    Parameters
    ----------
    codes
        By span: for each of our codes theirs; without an entry they are the same.
    """
    rows = torch.empty(layout.width, dtype=torch.int64)
    start = 0
    for column, span in spans(schema):
        if column.is_numeric:
            rows[span] = start
            start += 1
        size = layout.sizes[span]
        own = torch.tensor(codes.get(span, range(size)), dtype=torch.int64)
        rows[layout.starts[span] : layout.starts[span] + size] = start + own
        start += size
    return rows
