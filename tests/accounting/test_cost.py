"""The cost of a stage: processes below it count, other stages' memory does not, shares add up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from synthfactory.accounting import combined, measured, share
from synthfactory.artifacts import canonical_json

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
GRANDCHILD = (
    f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN.format(seconds=1)!r}])"
)


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("code", [BURN.format(seconds=1), GRANDCHILD])
def test_processor_time_of_processes_below_is_counted(code: str, tmp_path: Path) -> None:
    with measured(environment={}, system=tmp_path) as cost:
        run(code)
        found = cost()
    assert 1.0 <= found["cpu_s"] < 2.0


def test_child_that_still_runs_is_counted_from_the_stage_on(tmp_path: Path) -> None:
    burn = BURN.format(seconds=60)
    with subprocess.Popen([sys.executable, "-u", "-c", f"print('on'){chr(10)}{burn}"],
                          stdout=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        run(BURN.format(seconds=1))  # The child works beside it, before the stage begins.
        with measured(environment={}, system=tmp_path) as cost:
            run(BURN.format(seconds=0.5))
            running = cost()
            child.kill()
            child.wait()
            ended = cost()
    assert 0.5 < running["cpu_s"] <= running["wall_s"] * 2 + 0.2
    # What it worked before it ended is in both: all that was added came in between.
    between_s = ended["wall_s"] - running["wall_s"]
    assert 0 <= ended["cpu_s"] - running["cpu_s"] <= 2 * between_s + 0.2


def test_peak_of_memory_is_the_stages_own(tmp_path: Path) -> None:
    with measured(environment={}, system=tmp_path) as cost:
        block = bytearray(b"x") * (300 << 20)
        del block
        large = cost()["peak_rss_mb"]
    with measured(environment={}, system=tmp_path) as cost:
        small = cost()["peak_rss_mb"]
    assert large - small > 250


def test_peak_of_memory_covers_a_child(tmp_path: Path) -> None:
    with measured(environment={}, system=tmp_path) as cost:
        before = cost()["peak_rss_mb"]
        run(f"block = bytearray(b'x') * ({before + 200} << 20)")
        assert cost()["peak_rss_mb"] > before + 190


def test_cost_is_canonical_json(tmp_path: Path) -> None:
    with measured(environment={}, system=tmp_path) as cost:
        canonical_json(cost())


def cost_of(**changes: Any) -> dict[str, Any]:
    cost = {
        "wall_s": 10.0, "cpu_s": 20.0, "peak_rss_mb": 500, "cpus": 4.0, "gpus": 1.0,
        "cpu_allocated_s": 40.0, "gpu_allocated_s": 10.0, "gpu_busy_s": 7.0, "members": 1,
        "began_at": 1_000.0, "host": "a", "job": None,
        "energy": [
            {"method": "nvml", "joules": 3_000.0, "covered_s": 10.0, "coverage": "own",
             "shared": False},
            {"method": "rapl", "joules": 900.0, "covered_s": 10.0, "coverage": "package",
             "shared": True},
            {"method": "unmeasured", "of": "pm_counters", "why": "no"},
        ],
    }  # fmt: skip
    return {**cost, **changes}


@pytest.mark.parametrize("members", [1, 3, 7, 16])
def test_shares_of_an_ensemble_add_up(members: int) -> None:
    whole = cost_of()
    parts = [share(whole, members) for _ in range(members)]
    for name in ("cpu_s", "cpu_allocated_s", "gpu_allocated_s", "gpu_busy_s"):
        assert sum(part[name] for part in parts) == pytest.approx(whole[name], rel=1e-6)
    for at in (0, 1):
        joules = sum(part["energy"][at]["joules"] for part in parts)
        assert joules == pytest.approx(whole["energy"][at]["joules"], rel=1e-6)
    assert {part["wall_s"] for part in parts} == {10.0}
    assert {part["peak_rss_mb"] for part in parts} == {500}
    assert {part["members"] for part in parts} == {members}


def test_parts_side_by_side_add_their_own_joules_and_share_the_package() -> None:
    later = cost_of(began_at=1_005.0)
    elsewhere = cost_of(host="b")
    afterwards = cost_of(began_at=1_020.0)
    whole = combined([cost_of(), later, elsewhere, afterwards])
    assert whole["wall_s"] == 30.0
    assert whole["cpu_s"] == 80.0
    assert whole["gpu_busy_s"] == 28.0
    joules = {
        method: sum(reading["joules"] for reading in whole["energy"] if reading["method"] == method)
        for method in ("nvml", "rapl")
    }
    # On host a, two parts overlap: the package's joules count once there.
    assert joules == {"nvml": 12_000.0, "rapl": 2_700.0}


def test_parts_of_which_one_is_unmeasured_are_unmeasured() -> None:
    assert combined([cost_of(), cost_of(gpu_busy_s=None)])["gpu_busy_s"] is None
