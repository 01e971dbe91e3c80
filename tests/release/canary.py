"""Looking for planted values in every byte that a run leaves behind, however they are wrapped."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
FORMATS = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d", "%d %b %Y")


def renderings_of_number(value: float) -> set[bytes]:
    """A number as programs write it, in text and in memory, also rounded to 4 digits or more."""
    texts = {repr(value), f"{value:,}", f"{value:_}", f"{value:,}".replace(",", " ")}
    for digits in range(4, 13):
        rounded = float(f"{value:.{digits - 1}e}")
        texts |= {f"{rounded:.{digits - 1}e}", f"{rounded:.{digits}g}", repr(rounded)}
        if rounded == int(rounded):
            texts |= {str(int(rounded)), f"{int(rounded):,}", f"{int(rounded):_}"}
    for down in (math.floor(value), math.ceil(value)):
        texts |= {str(down), f"{down:,}"}
    packed = {struct.pack(form, value) for form in ("<d", ">d")}
    packed |= {struct.pack(form, int(value)) for form in ("<q", ">q")}
    # Four bytes of a float occur by chance in weights; with both neighbours they would not help.
    return {text.encode() for text in texts} | packed


def renderings_of_day(day: date) -> set[bytes]:
    """A day as programs write it, and its moment as seconds, milli-, micro- or nanoseconds."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    seconds = int(moment.timestamp())
    found = {day.strftime(form).encode() for form in FORMATS}
    for factor in (1, 1_000, 1_000_000, 1_000_000_000):
        found |= {str(seconds * factor).encode(), struct.pack("<q", seconds * factor)}
    return found | {struct.pack("<d", float(seconds)), f"{seconds:,}".encode()}


def layers(content: bytes, depth: int = 4) -> Iterator[bytes]:
    """The bytes themselves, and what is packed or encoded in them."""
    yield content
    if depth == 0:
        return
    if content[:2] == b"\x1f\x8b":
        yield from layers(gzip.decompress(content), depth - 1)
    inner: list[bytes] = []
    for line in content.splitlines():
        # Escapes in JSON are undone: a page or a report may write u00e9 for an e with an accent.
        if line[:1] in b"{[" and line[-1:] in b"}]":
            inner += _texts(line)
    if content[:1] in b"{[":
        inner += _texts(content)
    for match in BASE64.finditer(content):
        inner += _decoded(match[0])
    for piece in inner:
        yield from layers(piece, depth - 1)


def _texts(content: bytes) -> list[bytes]:
    try:
        found = json.loads(content)
    except ValueError:
        return []
    return [json.dumps(found, ensure_ascii=False).encode()] if b"\\u" in content else []


def _decoded(text: bytes) -> list[bytes]:
    plain = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    # A multibase text has one character before it.
    return [
        base64.b64decode(part + b"=" * (-len(part) % 4))
        for part in (plain, plain[1:])
        if len(part) % 4 != 1
    ]


def rows_of(path: Path) -> bytes:
    """A Parquet file's values, statistics and remarks as text."""
    table = pq.read_table(path)
    metadata = pq.read_metadata(path)
    texts = [str(metadata.to_dict()), str(metadata.metadata)]
    for name in table.column_names:
        texts += [name, *(str(value) for value in table.column(name).unique().to_pylist())]
    return "\n".join(texts).encode()


def search(folder: Path, planted: dict[str, set[bytes]]) -> set[tuple[str, str]]:
    """Which planted value lies in which file below a folder, also in its name."""
    found: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        pieces: list[bytes] = [name.encode()]
        if path.is_file():
            pieces += layers(path.read_bytes())
            if path.suffix == ".parquet":
                pieces.append(rows_of(path))
        for what, renderings in planted.items():
            lowered = {text.lower() for text in renderings}
            if any(text in piece.lower() for piece in pieces for text in lowered):
                found.add((what, name))
    return found


def plain(value: Any) -> set[bytes]:
    """A text as it stands."""
    return {str(value).encode()}
