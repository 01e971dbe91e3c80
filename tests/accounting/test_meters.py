"""Counters of energy: in a folder that looks like the kernel's, and behind a real binding of NVML.

The kernel's counters and a GPU cannot be had on every machine.  The folder has their files; the
library has NVML's functions, is compiled here, and is loaded by NVIDIA's own Python binding.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthfactory.accounting import measured, meters
from synthfactory.accounting.meters import Counter, Unmeasured, find_pm_counters, find_rapl

RANGE_UJ = 262_143_328_850  # Of an Intel server


def write_zone(system: Path, name: str, title: str, energy_j: float) -> Path:
    zone = system / "sys/class/powercap" / name
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "name").write_text(f"{title}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (zone / "energy_uj").write_text(f"{round(energy_j * 1e6)}\n")
    return zone


def energy_of(system: Path, work: Any = lambda: None) -> list[dict[str, Any]]:
    with measured(environment={}, system=system) as cost:
        work()
        readings: list[dict[str, Any]] = cost()["energy"]
    return readings


def test_packages_and_memory_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    zones = [
        write_zone(tmp_path, "intel-rapl:0", "package-0", 10),
        write_zone(tmp_path, "intel-rapl:1", "package-1", 20),
        write_zone(tmp_path, "intel-rapl:0:0", "core", 5),
        write_zone(tmp_path, "intel-rapl:0:1", "dram", 3),
        write_zone(tmp_path, "intel-rapl:2", "psys", 100),
        write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10),
    ]

    def work() -> None:
        for zone in zones:
            counter = zone / "energy_uj"
            counter.write_text(str(int(counter.read_text()) + 7_000_000))

    (reading,) = energy_of(tmp_path, work)
    assert reading["method"] == "rapl"
    assert reading["joules"] == 21.0
    assert reading["shared"] is True
    assert "other processes included" in reading["coverage"]
    assert "memory" in reading["coverage"]


def test_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ / 1e6 - 40)

    def work() -> None:
        (zone / "energy_uj").write_text("2000000")

    (reading,) = energy_of(tmp_path, work)
    assert reading["joules"] == pytest.approx(42)


@pytest.mark.slow
def test_counter_that_wraps_around_twice_is_caught_by_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds within a stage: seen only because the counter is read meanwhile.

    The thread may come seven steps late.
    """
    monkeypatch.setattr(meters, "PERIOD_S", 0.1)
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    counter, step_uj = zone / "energy_uj", RANGE_UJ // 8

    def write(value: int) -> None:
        beside = zone / "energy_uj.new"
        beside.write_text(str(value % RANGE_UJ))
        beside.replace(counter)

    def work() -> None:
        for step in range(1, 21):
            write(step * step_uj)
            time.sleep(0.25)

    (reading,) = energy_of(tmp_path, work)
    assert reading["joules"] == pytest.approx(20 * step_uj / 1e6)
    assert reading["covered_s"] >= 5


def test_counter_that_was_not_read_for_long_is_not_believed() -> None:
    clock = iter([0.0, 300.0])
    counter = Counter(lambda: 5.0, range_j=262_143.0, clock=lambda: next(clock))
    with pytest.raises(Unmeasured, match="wrapped around twice"):
        counter.tick()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_counter_that_only_root_may_read_is_unmeasured(open_folder: Path) -> None:
    zone = write_zone(open_folder, "intel-rapl:0", "package-0", 10)
    (zone / "energy_uj").chmod(0o400)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    else:
        (zone / "energy_uj").chmod(0)
    try:
        (reading,) = energy_of(open_folder)
    finally:
        if was_root:
            os.seteuid(0)
    assert reading == {
        "method": "unmeasured",
        "of": "rapl",
        "why": "this user may not read the energy counters of the processor",
    }


def test_machine_without_counters_is_unmeasured_with_the_reason(tmp_path: Path) -> None:
    (reading,) = energy_of(tmp_path)
    assert reading["method"] == "unmeasured"
    assert reading["why"] == "the kernel shows no energy counters of the processor"
    with pytest.raises(Unmeasured):
        find_rapl(tmp_path)


@pytest.mark.parametrize("text", ["", "many\n"])
def test_counter_that_holds_no_number_is_unmeasured(tmp_path: Path, text: str) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0", 10)
    (reading,) = energy_of(tmp_path, lambda: (zone / "energy_uj").write_text(text))
    assert reading["why"] == "a counter held no number"


def test_counter_of_a_cray_node_is_read_and_called_unverified(tmp_path: Path) -> None:
    counters = tmp_path / "sys/cray/pm_counters"
    counters.mkdir(parents=True)
    (counters / "energy").write_text("209428163 J 1615294434214158 us\n")
    meter = find_pm_counters(tmp_path)
    (counters / "energy").write_text("209428463 J 1615294435214158 us\n")
    meter.tick()
    reading = meter.reading(1.0)
    assert reading["joules"] == 300.0
    assert reading["shared"] is True
    assert "not verified" in reading["coverage"]
    (counters / "energy").write_text("12 J 1615294436214158 us\n")
    meter.tick()
    assert meter.reading(2.0)["why"] == "the counter was reset meanwhile"
    (counters / "energy").write_text("209428463 W 1615294435214158 us\n")
    with pytest.raises(Unmeasured, match="in W, expected J"):
        find_pm_counters(tmp_path)


def test_gpu_without_the_binding_is_unmeasured_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with measured(environment={"CUDA_VISIBLE_DEVICES": "0"}, system=tmp_path) as cost:
        found = cost()
    assert found["gpus"] == 1
    assert found["gpu_busy_s"] is None
    assert found["energy"][0] == {
        "method": "unmeasured",
        "of": "nvml",
        "why": "the package nvidia-ml-py is not installed",
    }


def test_without_a_gpu_none_is_looked_for(tmp_path: Path) -> None:
    with measured(environment={"CUDA_VISIBLE_DEVICES": "-1"}, system=tmp_path) as cost:
        found = cost()
    assert (found["gpus"], found["gpu_allocated_s"], found["gpu_busy_s"]) == (0, 0, 0)
    assert all(reading["of"] != "nvml" for reading in found["energy"])


def test_threads_end_with_the_stage(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 10)
    before = set(threading.enumerate())
    with measured(environment={}, system=tmp_path):
        (watching,) = set(threading.enumerate()) - before
    assert not watching.is_alive()


# Behind NVIDIA's binding: two GPUs of 300 W and 100 W, at work to 50 % and 10 %.
LIBRARY = """
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
typedef struct { unsigned int gpu, memory; } utilization;
static double now(void) {
  struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9;
}
int nvmlInitWithFlags(unsigned int flags) { return getenv("NO_DRIVER") ? 9 : 0; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 3 ? "Not Supported" : "Other"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int at, void **handle) {
  *handle = (void *)(size_t)(at + 1); return 0;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned int length) {
  snprintf(name, length, "%s", getenv("TWO_KINDS") && (size_t)handle == 2 ? "small" : "large");
  return 0;
}
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned int length) {
  snprintf(uuid, length, "GPU-000%d-aaaa", (int)(size_t)handle); return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
  if (getenv("OLD_GPU")) return 3;
  *millijoules = (unsigned long long)(now() * ((size_t)handle == 1 ? 300 : 100) * 1000); return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, utilization *rates) {
  rates->gpu = (size_t)handle == 1 ? 50 : 10; rates->memory = 1; return 0;
}
"""
SCRIPT = """
import json, pathlib, sys, time
import pynvml  # Importing it takes a moment that is none of the stage's.
from synthfactory.accounting import measured
with measured(system=pathlib.Path(sys.argv[1])) as cost:
    time.sleep(2.0)
    print(json.dumps(cost()))
"""


# A busy machine stops the clock's reader between two looks; wrong shares differ by a fifth.
NEAR = 0.1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("pynvml") is None or shutil.which("gcc") is None:
        pytest.skip("needs nvidia-ml-py and gcc")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(LIBRARY)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", "libnvidia-ml.so.1", "nvml.c"], cwd=folder, check=True
    )
    return folder


def cost_on_gpus(library: Path, **variables: str) -> dict[str, Any]:
    hidden = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(library)],
        env={**kept, "LD_LIBRARY_PATH": str(library), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cost: dict[str, Any] = json.loads(done.stdout)
    return cost


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "watts", "busy"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 400, 0.6),
        ({"CUDA_VISIBLE_DEVICES": "1"}, 100, 0.1),
        ({"CUDA_VISIBLE_DEVICES": "GPU-0001"}, 300, 0.5),
        ({"CUDA_VISIBLE_DEVICES": "0", "SYNTHFACTORY_GPU_SHARE": "1/4"}, 75, 0.125),
        (
            {"CUDA_VISIBLE_DEVICES": "1", "TWO_KINDS": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            100,
            0.1,
        ),
    ],
)
def test_energy_and_work_of_the_own_gpus(
    library: Path, variables: dict[str, str], watts: float, busy: float
) -> None:
    cost = cost_on_gpus(library, **variables)
    reading = cost["energy"][0]
    assert reading["method"] == "nvml"
    assert reading["joules"] == pytest.approx(watts * cost["wall_s"], rel=NEAR)
    assert cost["gpu_busy_s"] == pytest.approx(busy * cost["wall_s"], rel=NEAR)
    assert reading["coverage"].startswith("the GPUs of this process")
    assert ("share" in reading["coverage"]) == ("SYNTHFACTORY_GPU_SHARE" in variables)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0", "NO_DRIVER": "1"}, "Driver Not Loaded"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-7"}, "a part of a GPU (MIG)"),
        ({"CUDA_VISIBLE_DEVICES": "5"}, "does not show every GPU"),
        ({"CUDA_VISIBLE_DEVICES": "0", "TWO_KINDS": "1"}, "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
    ],
)
def test_gpus_that_cannot_be_told_are_unmeasured(
    library: Path, variables: dict[str, str], why: str
) -> None:
    cost = cost_on_gpus(library, **variables)
    assert cost["gpu_busy_s"] is None
    assert cost["energy"][0]["method"] == "unmeasured"
    assert why in cost["energy"][0]["why"]


@pytest.mark.slow
def test_old_gpu_has_its_work_measured_without_its_energy(library: Path) -> None:
    cost = cost_on_gpus(library, CUDA_VISIBLE_DEVICES="0", OLD_GPU="1")
    assert cost["gpu_busy_s"] == pytest.approx(0.5 * cost["wall_s"], rel=NEAR)
    assert "Not Supported" in cost["energy"][0]["why"]
