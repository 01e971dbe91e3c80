"""Results of an unfinished evaluation, kept on the disk until its findings are committed.

A result may tell of single persons, and results otherwise stay in memory.  So a file is sealed with
a key that follows from the rows themselves: whoever can read the confidential table can open it,
nobody else, and what was changed or comes from elsewhere does not open.  Nothing in a file is code:
it holds JSON and plain arrays, and names classes of this package that only hold values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from synthfactory.artifacts import digest_json, write_atomic
from synthfactory.evaluation.evidence import Evidence

Array = npt.NDArray[Any]

SUFFIX = ".piece"
PACKAGE = "synthfactory"
NONCE_BYTES = 12
DOCUMENT = "document"


class Tell(Protocol):
    """Hears of a piece that was kept, or of a file that could not be used."""

    def __call__(self, event: str, **more: Any) -> None:
        """``measured`` or ``discarded``, with the piece's name."""
        ...


def _tell_nobody(event: str, **more: Any) -> None:
    return None


class Shelf:
    """Where an unfinished evaluation keeps what is measured.

    Parameters
    ----------
    folder
        Its folder; made when the first result is kept, for its owner alone.
    key
        Digest of everything that determines the results.
    secret
        32 bytes that seal the files; see `secret_of`.
    tell
        Hears of every piece that is measured, and of files that could not be used.
    """

    def __init__(self, folder: Path, *, key: str, secret: bytes, tell: Tell = _tell_nobody) -> None:
        self._folder, self._key, self._cipher = folder, key, AESGCM(secret)
        self.tell = tell

    def kept(self, pieces: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these pieces, by (suite, piece), have a file; none of them is opened."""
        names = {path.name for path in self._folder.glob(f"*{SUFFIX}")}
        return {piece for piece in pieces if self._path(piece).name in names}

    def keep(self, piece: tuple[str, str], result: Any) -> Any:
        """Write a piece's result; give it back as it will be read.

        Arrays that were read lie in memory in one way, those that were computed in another.  An
        evaluation that was never interrupted so goes on with exactly what an interrupted one reads.

        Raises
        ------
        StorageError
            When the disk is full or read-only.
        TypeError
            When the result is more than values; see `pack`.
        """
        content = pack(result)
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, content, self._name(piece).encode())
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._path(piece), sealed, mode=0o600)
        return unpack(content)

    def read(self, piece: tuple[str, str]) -> tuple[Any] | None:
        """A piece's result in a tuple of one; None where there is none that can be trusted.

        A file that does not open, because it was damaged, changed or comes from another table, is
        told and removed.
        """
        path = self._path(piece)
        try:
            sealed = path.read_bytes()
            nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            return (unpack(self._cipher.decrypt(nonce, rest, self._name(piece).encode())),)
        except FileNotFoundError:
            return None
        except (InvalidTag, OSError, ValueError) as error:
            why = f"It cannot be used ({type(error).__name__}) and is made again."
            self.tell("discarded", piece=" ".join(piece), why=why)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None

    def _name(self, piece: tuple[str, str]) -> str:
        return digest_json({"key": self._key, "suite": piece[0], "piece": piece[1]})

    def _path(self, piece: tuple[str, str]) -> Path:
        return self._folder / f"{self._name(piece).removeprefix('sha256:')[:32]}{SUFFIX}"


def pieces_kept(folder: Path) -> int:
    """How many results a folder keeps; none of them is opened."""
    return sum(1 for _ in folder.glob(f"[!.]*{SUFFIX}"))


def secret_of(evidence: Evidence) -> bytes:
    """32 bytes that whoever has the real rows can tell, and nobody else."""
    digest = hashlib.sha256(b"synthfactory: results of an unfinished evaluation\0")
    for part in (evidence.train, evidence.control, evidence.test):
        for values in (part.numbers, part.codes):
            digest.update(f"{values.dtype.str} {values.shape}\0".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.digest()


def pack(value: Any) -> bytes:
    """A result as bytes, exactly: JSON beside arrays, in numpy's format without pickle.

    Parameters
    ----------
    value
        Numbers, texts, None, arrays, and lists, tuples, dictionaries, named tuples and dataclasses
        of this package of such values.

    Raises
    ------
    TypeError
        For anything else.
    """
    arrays: dict[str, Array] = {}
    text = json.dumps(_to_plain(value, arrays))
    content: dict[str, Any] = {DOCUMENT: np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    return buffer.getvalue()


def unpack(content: bytes) -> Any:
    """The inverse of `pack`.

    Raises
    ------
    ValueError
        When the bytes are no result.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _from_plain(json.loads(arrays.pop(DOCUMENT).tobytes()), arrays)
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"Expected a packed result: {error!r}.") from error


def _to_plain(value: Any, arrays: dict[str, Array]) -> Any:
    """As JSON; arrays are put aside and named."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": value.hex()}
    if isinstance(value, np.generic) or type(value) is np.ndarray:
        if value.dtype.hasobject:
            raise TypeError("Expected an array of values, got one of Python objects.")
        name = f"array_{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"scalar" if isinstance(value, np.generic) else "array": name}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_to_plain(item, arrays) for item in value]}
    if type(value) is dict:
        items = [[_to_plain(name, arrays), _to_plain(item, arrays)] for name, item in value.items()]
        return {"dict": items}
    if (names := _fields(type(value))) is not None:
        fields = {name: _to_plain(getattr(value, name), arrays) for name in names}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "fields": fields}
    raise TypeError(f"Expected values, got a {type(value).__module__}.{type(value).__qualname__}.")


def _from_plain(value: Any, arrays: Mapping[str, Array]) -> Any:
    if not isinstance(value, dict):
        return value
    (kind, inner), *more = value.items()
    if kind == "float":
        return float.fromhex(inner)
    if kind == "array":
        return arrays[inner]
    if kind == "scalar":
        return arrays[inner][()]
    if kind == "list":
        return [_from_plain(item, arrays) for item in inner]
    if kind == "tuple":
        return tuple(_from_plain(item, arrays) for item in inner)
    if kind == "dict":
        return {_from_plain(name, arrays): _from_plain(item, arrays) for name, item in inner}
    if kind == "class":
        ((_, fields),) = more
        found = {name: _from_plain(item, arrays) for name, item in fields.items()}
        return _class_of(inner)(**found)
    raise ValueError(f"Expected a packed value, got '{kind}'.")


def _class_of(name: str) -> type:
    """A class of this package that only holds values; nothing is imported to find it."""
    module, _, qualified = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    if not isinstance(found, type) or found.__module__ != module or _fields(found) is None:
        raise ValueError(f"Expected a class that holds values, got {name}.")
    return found


def _fields(of: type) -> tuple[str, ...] | None:
    """The fields of a dataclass or named tuple of this package; None for any other class."""
    if of.__module__.partition(".")[0] != PACKAGE:
        return None
    if dataclasses.is_dataclass(of):
        return tuple(field.name for field in dataclasses.fields(of) if field.init)
    if issubclass(of, tuple) and hasattr(of, "_fields"):
        return tuple(of._fields)
    return None
