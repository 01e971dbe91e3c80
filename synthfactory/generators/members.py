"""What the members of an ensemble need before their first step, each thing made once.

A representation is fitted to rows and needs no chance: members with the same rows, as in a sweep of
seeds, share one.  Only the modes of their values are drawn by their own seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from synthfactory.errors import OrderError
from synthfactory.generators.flat import Flat
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.training import mapping_in_threads
from synthfactory.tables import Encoded, Encoder, Table
from synthfactory.tables.encode import Mapper


def take_each(table: Table, rows: Sequence[Sequence[int] | npt.NDArray[np.integer]]) -> list[Table]:
    """For each member its rows of ``table``; equal row numbers give the same object."""
    taken: dict[bytes, Table] = {}
    numbers = [_numbers(own) for own in rows]
    digests = [hashlib.sha256(own.tobytes()).digest() for own in numbers]
    for own, digest in zip(numbers, digests, strict=True):
        if digest not in taken:
            taken[digest] = table.take(own)
    return [taken[digest] for digest in digests]


def _numbers(rows: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    if isinstance(rows, range):
        return np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
    numbers = np.asarray(rows)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise OrderError(
            f"members: expected whole row numbers, got {numbers.dtype} values; of a mask take "
            "numpy.flatnonzero."
        )
    return np.ascontiguousarray(numbers, dtype=np.int64)


def first_equals(tables: Sequence[Table], digests: Sequence[str] | None = None) -> list[int]:
    """For each table the place of the first that is the same object, or has the same digest.

    Parameters
    ----------
    digests
        The tables' digests, where they are known.
    """
    keys: Sequence[int | str] = digests or [id(table) for table in tables]
    firsts: dict[int | str, int] = {}
    return [firsts.setdefault(key, place) for place, key in enumerate(keys)]


def represent(
    tables: Sequence[Table],
    seeds: Sequence[int],
    *,
    threads: int,
    digests: Sequence[str] | None = None,
) -> tuple[list[Representation], list[Rows]]:
    """For each member its representation, and its rows encoded with its seed.

    The numbers are those of `Representation.fit` and `Representation.encode` for each member on
    its own, whatever the number of threads.

    Parameters
    ----------
    threads
        How many tables, or members of one table, are worked on at once.
    digests
        As in `first_equals`.
    """
    firsts = first_equals(tables, digests)
    sharing: dict[int, list[int]] = {}
    for member, first in enumerate(firsts):
        sharing.setdefault(first, []).append(member)

    def fit(first: int) -> tuple[Representation, Encoded]:
        schema = tables[first].schema
        encoded = Encoder(schema).encode(tables[first])
        return Representation.of(schema, encoded), encoded

    def encode(first: int, mapping: Mapper = map) -> list[Rows]:
        representation, encoded = fitted[first]
        own = [seeds[member] for member in sharing[first]]
        return representation.encode_each(encoded, own, mapping)

    with mapping_in_threads(threads) as mapping:
        fitted: dict[int, tuple[Representation, Encoded]] = dict(
            zip(sharing, mapping(fit, sharing), strict=True)
        )
        if len(sharing) < threads:
            parts = [encode(first, mapping) for first in sharing]
        else:
            parts = list(mapping(encode, sharing))
    rows = {
        member: own
        for members, part in zip(sharing.values(), parts, strict=True)
        for member, own in zip(members, part, strict=True)
    }
    return [fitted[first][0] for first in firsts], [rows[place] for place in range(len(tables))]


def fill_members(flats: Sequence[Flat], fill: Callable[..., None]) -> None:
    """Write the weights of every member, as many at once as torch has threads.

    They are written in the processor's memory and taken to a device in one piece.

    Parameters
    ----------
    flats
        What is written.
    fill
        Called with a member's number and, for each of ``flats``, its tensors by name; it draws
        from a stream of the member's own.
    """
    cpu = torch.device("cpu")
    n_members = flats[0].n_members
    written = [
        flat if flat.values.device == cpu else Flat(flat.shapes, n_members, cpu) for flat in flats
    ]

    def own(member: int) -> None:
        fill(member, *(dict(flat.member(member)) for flat in written))

    with mapping_in_threads(min(n_members, torch.get_num_threads())) as mapping:
        list(mapping(own, range(n_members)))
    for flat, source in zip(flats, written, strict=True):
        if source is not flat:
            flat.values.copy_(source.values)
        flat.refresh()
