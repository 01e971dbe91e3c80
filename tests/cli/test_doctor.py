"""Whether a machine is fit: each check against a machine that is made unfit for real."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
import torch

from synthfactory.certification import new_key
from synthfactory.cli import disks, doctor, main
from synthfactory.cli.doctor import Diagnosis, examine, exit_code
from synthfactory.generators import fusing


def by_check(findings: list[Diagnosis]) -> dict[str, Diagnosis]:
    return {found.check: found for found in findings}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Diagnosis]:
    return by_check(examine(tmp_path_factory.mktemp("doctor") / "runs"))


def test_every_part_is_looked_at(here: dict[str, Diagnosis]) -> None:
    assert {
        "python", "packages", "torch", "gpus", "processors", "memory", "runs folder", "clock",
        "temporary folder", "numba cache", "batch system", "issuer key", "extra slurm", "extra mpi",
        "extra monitor", "extra sdv",
    } <= set(here)  # fmt: skip


def test_what_is_not_well_has_a_remedy(here: dict[str, Diagnosis]) -> None:
    for found in here.values():
        if found.level in ("warning", "problem"):
            assert found.remedy, found


def test_versions_are_told(here: dict[str, Diagnosis]) -> None:
    assert sys.version.split()[0] in here["python"].found
    assert f"numpy {metadata.version('numpy')}" in here["packages"].found
    assert f"torch {metadata.version('torch')}" in here["torch"].found


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    examine(tmp_path / "runs" / "deep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    found = by_check(examine(tmp_path / "runs"))["runs folder"]
    assert found.level == "problem"


def test_a_file_in_the_way_is_a_problem_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--runs", str(tmp_path / "file" / "runs"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    (problem,) = [check for check in told["checks"] if check["level"] == "problem"]
    assert problem["check"] == "runs folder"
    assert "is a file, expected a folder" in problem["found"]
    assert "paths.runs" in problem["remedy"]


def test_a_healthy_machine_exits_with_0_and_prints_every_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Diagnosis] = []

    def noting(runs: Path, key: Path | None = None) -> list[Diagnosis]:
        # Another look may find a disk that is slower now.
        seen.extend(examine(runs, key))
        return seen

    monkeypatch.setattr(doctor, "examine", noting)
    assert main(["doctor", "--runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert seen
    for found in seen:
        assert found.check in told
        assert found.remedy in told


@pytest.mark.parametrize(
    ("mode", "level", "remedy"), [(0o600, "ok", ""), (0o644, "problem", "chmod 600")]
)
def test_a_key_that_others_can_read_is_a_problem(
    tmp_path: Path, mode: int, level: str, remedy: str
) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "issuer.pem"
    new_key(path)
    path.chmod(mode)
    found = by_check(examine(tmp_path, path))["issuer key"]
    assert (found.level, found.remedy[:9]) == (level, remedy)


def test_a_key_that_others_can_replace_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    new_key(path)
    tmp_path.chmod(0o777)
    found = by_check(examine(tmp_path, path))["issuer key"]
    assert (found.level, found.remedy) == ("warning", f"chmod go-w {tmp_path}")


def test_a_key_that_is_not_there_is_a_problem_only_when_it_was_named(tmp_path: Path) -> None:
    assert by_check(examine(tmp_path, tmp_path / "none.pem"))["issuer key"].level == "problem"
    assert by_check(examine(tmp_path))["issuer key"].level == "note"


def test_bound_threads_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = by_check(examine(tmp_path))
    assert found["thread binding"].remedy.endswith("unset OMP_PROC_BIND")
    assert "OMP_NUM_THREADS=7" in found["processors"].found
    monkeypatch.setenv("OMP_PROC_BIND", "false")
    assert "thread binding" not in by_check(examine(tmp_path))


def test_a_batch_system_is_asked_for_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sbatch"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_check(examine(tmp_path))["batch system"].level == "note"
    program.write_text("#!/bin/sh\necho slurm 23.11.4\n")
    program.chmod(0o755)
    found = by_check(examine(tmp_path))["batch system"]
    assert (found.level, "slurm 23.11.4" in found.found) == ("ok", True)
    program.write_text("#!/bin/sh\necho no configuration >&2\nexit 1\n")
    found = by_check(examine(tmp_path))["batch system"]
    assert (found.level, "no configuration" in found.found) == ("warning", True)


def test_a_numba_cache_that_cannot_be_made_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert by_check(examine(tmp_path))["numba cache"].level == "warning"


@pytest.mark.parametrize(
    ("kind", "word"),
    [("nfs4", "scratch file system"), ("tmpfs", "gone with the machine"), ("lustre", "")],
)
def test_what_a_file_system_means_for_runs(kind: str, word: str) -> None:
    disk = disks.Disk(mount="/home", kind=kind, free_gb=500.0, commit_ms=2.0)
    (found,) = doctor._runs_folder(Path("runs"), disk)
    assert word in found.remedy
    assert bool(found.remedy) == bool(word)


@pytest.mark.parametrize(
    ("free_gb", "commit_ms", "level"),
    [(0.2, 1.0, "problem"), (5.0, 1.0, "warning"), (50.0, 90.0, "warning"), (50.0, 1.0, "ok")],
)
def test_room_and_speed_of_a_disk(free_gb: float, commit_ms: float, level: str) -> None:
    disk = disks.Disk(mount="/", kind="ext4", free_gb=free_gb, commit_ms=commit_ms)
    (found,) = doctor._runs_folder(Path("runs"), disk)
    assert found.level == level


def test_a_clock_that_differs_is_a_warning(tmp_path: Path) -> None:
    disk = disks.Disk(mount="/", kind="ext4", skew_s=-40.0)
    (found,) = doctor._clock(tmp_path, disk)
    assert (found.level, found.found) == ("warning", "40.0 s before the file system's")


def test_the_disk_is_found_and_measured(tmp_path: Path) -> None:
    began = time.monotonic()
    disk = disks.look_at(tmp_path / "not" / "there" / "yet")
    assert not disk.error
    assert tmp_path.is_relative_to(disk.mount)
    assert 0 < disk.commit_ms < 1e3 * (time.monotonic() - began)
    assert abs(disk.skew_s) < 1.0
    assert disk.free_gb == pytest.approx(
        os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize / 1e9, rel=0.1
    )


def test_only_problems_decide_the_exit_code() -> None:
    levels: tuple[doctor.Level, ...] = ("ok", "note", "warning", "problem")
    codes = [exit_code([Diagnosis(check="a", level=level, found="")]) for level in levels]
    assert codes == [0, 0, 0, 1]


def test_a_package_in_a_version_that_does_not_fit_is_told() -> None:
    from packaging.requirements import Requirement

    assert doctor._fault(Requirement("numpy>=1")) == ""
    assert "expected <1" in doctor._fault(Requirement("numpy<1"))
    assert doctor._fault(Requirement("no-such-package")) == "no-such-package is missing"


def test_kernels_that_cannot_be_compiled_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "_may_build", lambda: True)
    # This build of torch has no GPU to try one on.
    made = doctor._gpu_kernels(torch.device("cuda", 5))
    assert made.level == "warning"
    assert "single operations" in made.found
    assert "C compiler" in made.remedy


def test_kernels_that_run_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "_may_build", lambda: True)
    monkeypatch.setattr(fusing, "_builds", lambda device: True)
    made = doctor._gpu_kernels(torch.device("cuda", 0))
    assert (made.level, made.found.split()[0]) == ("ok", "triton")
