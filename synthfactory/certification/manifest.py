"""The manifest: every part of the data with its digest, under one Merkle root."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from synthfactory.artifacts import canonical_json, digest_file, digest_json
from synthfactory.tables import Schema

VERSION = "1"
DATA = "data"


def build_manifest(folder: Path, schema: Schema) -> dict[str, Any]:
    """Describe the Parquet parts under ``folder/data``.

    Parameters
    ----------
    folder
        A folder with ``data/part-*.parquet``.
    schema
        Of the table; only names, kinds, types and roles are published, no level and no range.
    """
    paths = sorted((folder / DATA).glob("*.parquet"))
    parts = [
        {
            "path": f"{DATA}/{path.name}",
            "rows": int(pq.read_metadata(path).num_rows),
            "size": path.stat().st_size,
            "sha256": digest_file(path).removeprefix("sha256:"),
        }
        for path in paths
    ]
    return list_parts(parts, schema)


def list_parts(parts: Sequence[Mapping[str, Any]], schema: Schema) -> dict[str, Any]:
    """The manifest of parts that are known already, without a look at the files.

    Parameters
    ----------
    parts
        For each its ``path``, ``rows``, ``size`` in bytes and ``sha256`` (64 hexadecimal digits),
        in the order of the rows.
    schema
        As for `build_manifest`.
    """
    published = publish_schema(schema)
    return {
        "version": VERSION,
        "schema": published,
        "schemaDigest": digest_json(published),
        "parts": list(parts),
        "merkleRoot": merkle_root(parts),
    }


def publish_schema(schema: Schema) -> dict[str, Any]:
    """What a release tells about its columns."""
    return {
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "dtype": column.dtype,
                "nullable": column.nullable,
                "description": column.description,
                "unit": column.unit,
                "iri": column.iri,
            }
            for column in schema.columns
        ],
        "target": schema.target,
    }


def merkle_root(parts: Sequence[Mapping[str, Any]]) -> str:
    """RFC 6962 root over the parts in the order of their paths, ``sha256:<hex>``.

    A leaf is ``SHA-256(0x00 || JCS({path, rows, sha256, size}))``, a node
    ``SHA-256(0x01 || left || right)``, and a tree of n leaves splits at the largest power of two
    below n (RFC 6962, section 2.1).
    """
    ordered = sorted(parts, key=lambda part: str(part["path"]))
    leaves = [
        hashlib.sha256(
            b"\x00"
            + canonical_json({name: part[name] for name in ("path", "rows", "sha256", "size")})
        ).digest()
        for part in ordered
    ]
    return "sha256:" + _root(leaves).hex()


def _root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + _root(leaves[:middle]) + _root(leaves[middle:])).digest()
