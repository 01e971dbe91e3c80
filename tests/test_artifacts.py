"""What is written is whole or absent."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from synthfactory import artifacts
from synthfactory.errors import StorageError


def test_canonical_json_is_rfc_8785() -> None:
    value = {"\u20ac": "Euro Sign", "\r": "Carriage Return", "1": 333333333.33333329, "a": 1e30}
    expected = '{"\\r":"Carriage Return","1":333333333.3333333,"a":1e+30,"€":"Euro Sign"}'
    assert artifacts.canonical_json(value).decode() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53])
def test_canonical_json_refuses_what_jcs_cannot_express(value: float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        artifacts.canonical_json({"value": value})


def test_written_file_has_the_permissions_that_were_asked_for(tmp_path: Path) -> None:
    artifacts.write_atomic(tmp_path / "key.pem", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_failed_write_keeps_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    artifacts.write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full: free some space"):
        artifacts.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_committed_stage_is_not_run_again(tmp_path: Path) -> None:
    calls = []

    def write(work: Path) -> None:
        calls.append(work)
        (work / "a.txt").write_text("a")

    first = artifacts.commit(tmp_path / "stage", write)
    second = artifacts.commit(tmp_path / "stage", write)
    assert len(calls) == 1
    assert first == second
    assert first["files"] == {"a.txt": artifacts.digest_bytes(b"a")}


def test_stage_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def write(work: Path) -> None:
        (work / "half.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        artifacts.commit(tmp_path / "stage", write)
    assert list(tmp_path.iterdir()) == []


def _commit(folder: Path, content: str, gate: multiprocessing.synchronize.Barrier) -> None:
    def write(work: Path) -> None:
        (work / "who.txt").write_text(content)
        gate.wait()

    artifacts.commit(folder, write)


def test_first_of_two_committers_wins_and_neither_fails(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    folder = tmp_path / "stage"
    both = [context.Process(target=_commit, args=(folder, who, gate)) for who in ("a", "b")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    done = artifacts.read_done(folder)
    assert done["files"]["who.txt"] == artifacts.digest_file(folder / "who.txt")
    assert list(tmp_path.iterdir()) == [folder]


def test_path_through_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        artifacts.write_json(tmp_path / "file" / "x.json", {})
