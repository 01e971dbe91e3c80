"""Files that are either whole or absent: canonical JSON, digests, atomic commits.

A stage writes into a private folder beside its final place, every file is flushed to the disk,
a manifest ``DONE.json`` is added last, and the whole folder is renamed into place, which succeeds
for one committer only.  Whoever is killed before that leaves nothing that a reader would take for
a result; whoever comes second with the same stage finds it done.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rfc8785

from synthfactory.errors import StorageError

DONE = "DONE.json"


def canonical_json(value: Any) -> bytes:
    """``value`` as JSON in the canonical form of RFC 8785 (JCS).

    Raises
    ------
    ValueError
        For NaN, infinities and integers beyond 2**53 - 1, which JCS cannot express.

    >>> canonical_json({"b": 1.0, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    return rfc8785.dumps(value)


def digest_bytes(data: bytes) -> str:
    """SHA-256 of ``data``, written ``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, written ``sha256:<hex>``."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks, written ``sha256:<hex>``."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(doing: str, path: Path, *, setting: str = "paths.runs") -> Iterator[None]:
    """Turn operating-system errors into a `StorageError` that says what to do.

    Parameters
    ----------
    doing, path
        What was being done to which path.
    setting
        What chooses the path.
    """
    remedies = {
        errno.ENOSPC: f"the disk is full: free some space, or set {setting} to another disk",
        errno.EDQUOT: f"the quota is used up: free some space, or set {setting} elsewhere",
        errno.EROFS: f"the file system is read-only: set {setting} to a writable folder",
        errno.EACCES: f"permission denied: set {setting} to a folder that you may write to",
        errno.EPERM: f"permission denied: set {setting} to a folder that you may write to",
        errno.EEXIST: f"a file stands where a folder is needed: set {setting} to a folder",
        errno.ENOTDIR: f"part of the path is a file: set {setting} to a folder",
    }
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in remedies:
            raise
        raise StorageError(f"Cannot {doing} {path}: {remedies[error.errno]}.") from error


def write_atomic(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part.

    Parameters
    ----------
    path
        Where to; the folder is created when it is missing.
    data
        The whole content.
    mode
        Permission bits, applied before the content is written.

    Raises
    ------
    StorageError
        When the disk is full, read-only or forbidden; ``path`` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with storage_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _fsync_folder(path.parent)


def place_once(temporary: Path, path: Path) -> bool:
    """Give a written file its name, unless the name is taken; whether it got it.

    The content is on the disk before the name is, and a file that has the name is never replaced.

    Parameters
    ----------
    temporary
        A whole file in the folder of ``path``; it stays under this name, too.
    path
        The name.
    """
    _fsync_file(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        # A file system without hard links, where only the moment between these two is open.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) or path.exists():
            raise
        temporary.rename(path)
    _fsync_folder(path.parent)
    return True


def check_writable(folder: Path) -> None:
    """Make sure that files can be written below ``folder``; it is created when it is missing.

    Raises
    ------
    StorageError
        With what to do about it.
    """
    probe = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        write_atomic(probe, b"can this be written?")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON with sorted keys (no NaN)."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def write_once(path: Path, value: Any) -> bool:
    """Write ``value`` as JSON under a name that nobody has taken; whether it was free."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with storage_errors("write", path):
        write_json(temporary, value)
        try:
            return place_once(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_bytes())


def is_done(folder: Path) -> bool:
    """Whether ``folder`` is a committed stage."""
    return (folder / DONE).is_file()


def read_done(folder: Path) -> dict[str, Any]:
    """The manifest of a committed stage: its ``files`` {path: digest} and what was noted."""
    manifest: dict[str, Any] = read_json(folder / DONE)
    return manifest


def commit(
    folder: Path,
    write: Callable[[Path], None],
    *,
    note: Callable[[], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Produce a stage's folder once, atomically; return its manifest.

    Parameters
    ----------
    folder
        The stage's final place.  When it is committed already, nothing is run.
    write
        Receives an empty private folder on the same file system and fills it.
    note
        Called after ``write`` for further entries of the manifest, such as its seconds.

    Returns
    -------
    dict
        The manifest of the first committer.  Whoever wrote the same and came second finds
        ``"second"`` in it: ``equal``, ``different``, or ``swept`` when it had not finished.

    Raises
    ------
    StorageError
        When the disk is full or read-only; nothing is left half-written.
    """
    if is_done(folder):
        return read_done(folder)
    files: dict[str, str] = {}

    def write_and_list(work: Path) -> None:
        write(work)
        paths = {str(path.relative_to(work)): path for path in _files(work)}
        files.update({name: digest_file(path) for name, path in sorted(paths.items())})
        manifest = {"stage": folder.name, "files": files, **(note() if note else {})}
        write_json(work / DONE, manifest)

    try:
        first = publish(folder, write_and_list)
    except Exception:
        if not is_done(folder):
            raise
        # Somebody else was first, and swept away what was being written here.
        return {**read_done(folder), "second": "swept"}
    manifest = read_done(folder)
    if not first and files:
        theirs = manifest["files"]
        # Whoever swept while this one wrote took some of its files; those that are left tell.
        part = "swept" if files.items() <= theirs.items() else "different"
        manifest["second"] = "equal" if files == theirs else part
    return manifest


def publish(folder: Path, write: Callable[[Path], None]) -> bool:
    """Fill a folder once, atomically, without adding a file of our own.

    When ``folder`` exists already, nothing is run: it is whole, because it came by a rename.

    Parameters
    ----------
    folder
        The final place.
    write
        Receives an empty private folder on the same file system and fills it.

    Returns
    -------
    bool
        Whether it is this call's folder that stands there now.

    Raises
    ------
    StorageError
        When the disk is full or read-only; nothing is left half-written.
    """
    if folder.is_dir():
        return False
    work = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    with storage_errors("write", folder):
        try:
            work.mkdir(parents=True)
            write(work)
            for path in _files(work):
                _fsync_file(path)
            _fsync_folder(work)
            return _rename_once(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def sweep(folder: Path, *, spared: Sequence[str]) -> None:
    """Remove what killed writers left half-written in a folder.

    Only where all is committed: a writer who is still alive loses its work, which nobody needs.

    Parameters
    ----------
    folder
        Where they wrote.
    spared
        Names whose writers may still be at work.
    """
    for left in folder.glob(".*.tmp"):
        if left.name.startswith(tuple(f".{other}." for other in spared)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _rename_once(work: Path, folder: Path) -> bool:
    """Rename ``work`` to ``folder``; False when somebody else was first."""
    first = True
    try:
        work.rename(folder)
    except OSError as error:
        # A rename never replaces a folder that holds files: the first committer wins.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        first = False
    _fsync_folder(folder.parent)
    return first


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
