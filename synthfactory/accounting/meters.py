"""Counters of energy and of busy GPUs, read once a second while a stage works.

A counter is read again and again because it wraps around: that of a processor package after a
minute to half an hour.  A counter that cannot be read, was reset, or may have wrapped around twice
makes its meter *unmeasured*, with the reason.

References
----------
RAPL: https://docs.kernel.org/power/powercap/powercap.html; NVML: nvmlDeviceGetUtilizationRates and
nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was loaded, Volta and later).
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from synthfactory.accounting.allocation import Allocation, visible_gpus

PERIOD_S = 1.0
# No package of a processor draws more: within a range of joules, it wraps around once at most.
MOST_PACKAGE_W = 1_000.0
RAPL, NVML, PM_COUNTERS = "rapl", "nvml", "pm_counters"


class Unmeasured(Exception):
    """Why something is not measured, in words that may be published."""


class Counter:
    """Joules since it was made, from a counter of the system that only grows.

    Parameters
    ----------
    read
        Gives the counter, in joules.
    range_j
        Where it starts again from 0; None for never.
    clock
        Seconds.

    Raises
    ------
    Unmeasured
        On reading, when the growth is not known.
    """

    def __init__(
        self,
        read: Callable[[], float],
        *,
        range_j: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.joules = 0.0
        self._read, self._range_j, self._clock = read, range_j, clock
        self._last_j, self._last_s = read(), clock()

    def tick(self) -> None:
        """Read it and add what it grew by."""
        now_j, now_s = self._read(), self._clock()
        grown_j, passed_s = now_j - self._last_j, now_s - self._last_s
        self._last_j, self._last_s = now_j, now_s
        if self._range_j is None:
            if grown_j < 0:
                raise Unmeasured("the counter was reset meanwhile")
        else:
            if passed_s > self._range_j / MOST_PACKAGE_W:
                raise Unmeasured(
                    "the counter was not read for so long that it may have wrapped around twice"
                )
            grown_j %= self._range_j
        self.joules += grown_j


class Meter:
    """Several counters of one method.

    Parameters
    ----------
    method
        ``rapl``, ``nvml`` or ``pm_counters``.
    coverage
        What the joules are of, in words.
    shared
        Whether other processes' joules are in it.  Such readings are never added up over runs.
    part
        The share of the joules that is this process's, where GPUs were given to several.
    """

    def __init__(
        self,
        method: str,
        coverage: str,
        counters: Sequence[Counter],
        *,
        shared: bool,
        part: float = 1.0,
    ) -> None:
        self._method, self._coverage, self._shared, self._part = method, coverage, shared, part
        self._counters = counters
        self._why = ""

    def tick(self) -> None:
        """Read all counters; once one is lost, so is the sum."""
        if self._why:
            return
        try:
            for counter in self._counters:
                counter.tick()
        except (OSError, ValueError, Unmeasured) as error:
            self._why = reason_of(error)

    def reading(self, covered_s: float) -> dict[str, Any]:
        """The joules so far, or why there are none."""
        if self._why:
            return unmeasured(self._method, self._why)
        joules = sum(counter.joules for counter in self._counters) * self._part
        return {
            "method": self._method,
            "joules": round(joules, 3),
            "covered_s": round(covered_s, 3),
            "coverage": self._coverage,
            "shared": self._shared,
        }


class GPUs:
    """The GPUs of this process, through NVIDIA's management library.

    Raises
    ------
    Unmeasured
        When the library, its driver or the GPUs are not to be had.
    """

    def __init__(self, environment: Mapping[str, str], part: float) -> None:
        self._nvml = _load_nvml()
        self._part = part
        try:
            self._handles = _handles(self._nvml, environment)
        except Unmeasured:
            self.close()
            raise
        except self._nvml.NVMLError as error:
            self.close()
            raise Unmeasured(f"NVML says: {error}") from None
        self._busy_s, self._last_s = 0.0, time.monotonic()
        self._lost = False

    def meter(self) -> Meter:
        """The energy of these GPUs."""
        coverage = "the GPUs of this process"
        if self._part < 1:
            coverage += f", of which {self._part:.3g} is counted: other processes share them"
        counters = [Counter(functools.partial(self._joules, handle)) for handle in self._handles]
        return Meter(NVML, coverage, counters, shared=False, part=self._part)

    def tick(self) -> None:
        """Add what the GPUs worked since the last reading, by their utilisation now."""
        now_s = time.monotonic()
        try:
            shares = [
                self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                for handle in self._handles
            ]
        except self._nvml.NVMLError:
            self._lost = True
            return
        self._busy_s += sum(shares) * (now_s - self._last_s)
        self._last_s = now_s

    @property
    def busy_s(self) -> float | None:
        """GPU-seconds at work, this process's part of them; None when a reading failed."""
        return None if self._lost else round(self._busy_s * self._part, 3)

    def close(self) -> None:
        """Let go of the library."""
        self._nvml.nvmlShutdown()

    def _joules(self, handle: Any) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1_000
        except self._nvml.NVMLError as error:
            raise Unmeasured(f"NVML says: {error}") from None


class Meters:
    """All that can be measured here, read once a second by a thread within a ``with`` block.

    Parameters
    ----------
    allocation
        What this process holds; without a GPU, none is looked for.
    environment
        Names the GPUs.
    system
        Where the system's ``sys`` lies.
    """

    def __init__(
        self,
        allocation: Allocation,
        *,
        environment: Mapping[str, str] = os.environ,
        system: Path = Path("/"),
    ) -> None:
        self._gpus: GPUs | None = None
        self._holds_gpus = allocation.gpus > 0
        self._meters: list[Meter] = []
        self._missing: list[dict[str, Any]] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        if self._holds_gpus:
            self._try(NVML, lambda: self._find_gpus(environment, allocation.gpu_share))
        self._try(RAPL, lambda: find_rapl(system))
        if (system / "sys/cray/pm_counters").is_dir():
            self._try(PM_COUNTERS, lambda: find_pm_counters(system))

    def __enter__(self) -> Self:
        if self._meters or self._gpus:
            self._thread = threading.Thread(target=self._watch, name="meters", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._gpus is not None:
            self._gpus.close()

    def read(self, wall_s: float) -> tuple[float | None, list[dict[str, Any]]]:
        """GPU-seconds at work (None for unmeasured) and the readings of energy."""
        self._tick()
        busy_s: float | None = None if self._holds_gpus else 0.0
        if self._gpus is not None:
            busy_s = self._gpus.busy_s
        return busy_s, [*(meter.reading(wall_s) for meter in self._meters), *self._missing]

    def _try(self, method: str, find: Callable[[], Meter]) -> None:
        try:
            self._meters.append(find())
        except (OSError, ValueError, Unmeasured) as error:
            self._missing.append(unmeasured(method, reason_of(error)))

    def _find_gpus(self, environment: Mapping[str, str], part: float) -> Meter:
        self._gpus = GPUs(environment, part)
        return self._gpus.meter()

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._tick()

    def _tick(self) -> None:
        with self._lock:
            if self._gpus is not None:
                self._gpus.tick()
            for meter in self._meters:
                meter.tick()


def find_rapl(system: Path) -> Meter:
    """The energy counters of the processor packages, and of their memory where it has one.

    Raises
    ------
    Unmeasured
        When the kernel shows none, or not to this user.
    """
    zones = {
        zone: (zone / "name").read_text().strip()
        for zone in sorted((system / "sys/class/powercap").glob("intel-rapl:*"))
    }
    # A package's core and uncore are parts of it, and psys contains it.
    packages = [zone for zone, name in zones.items() if name.startswith("package")]
    memory = [zone for zone, name in zones.items() if name == "dram"]
    if not packages:
        raise Unmeasured("the kernel shows no energy counters of the processor")
    try:
        counters = [_rapl_counter(zone) for zone in (*packages, *memory)]
    except PermissionError:
        raise Unmeasured("this user may not read the energy counters of the processor") from None
    what = "whole processor packages" + (" and their memory" if memory else "")
    return Meter(RAPL, f"{what}, other processes included", counters, shared=True)


def _rapl_counter(zone: Path) -> Counter:
    range_j = int((zone / "max_energy_range_uj").read_text()) / 1e6
    return Counter(lambda: int((zone / "energy_uj").read_text()) / 1e6, range_j=range_j)


def find_pm_counters(system: Path) -> Meter:
    """The energy counter of a Cray node; its form is as documented, and not verified.

    Raises
    ------
    Unmeasured
        When it cannot be read.
    """
    path = system / "sys/cray/pm_counters/energy"

    def joules() -> float:
        value, unit = path.read_text().split()[:2]
        if unit != "J":
            raise Unmeasured(f"the counter is in {unit[:10]}, expected J")
        return float(value)

    coverage = "the whole node, other processes included; read as documented, not verified"
    return Meter(PM_COUNTERS, coverage, [Counter(joules)], shared=True)


def unmeasured(method: str, why: str) -> dict[str, Any]:
    """The entry of a method that gave nothing."""
    return {"method": "unmeasured", "of": method, "why": why}


def reason_of(error: Exception) -> str:
    """Why a reading failed, without the path of a file."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) if isinstance(error, Unmeasured) else "a counter held no number"


def _load_nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        raise Unmeasured("the package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unmeasured(f"NVML says: {error}") from None
    return pynvml


def _handles(nvml: Any, environment: Mapping[str, str]) -> list[Any]:
    """NVML's handles of the GPUs that the variables name."""
    everything = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
    named = visible_gpus(environment)
    if named is None:
        return everything
    if any(name.startswith("MIG-") for name in named):
        raise Unmeasured("a part of a GPU (MIG) has no counters of its own")
    if not all(name.isdigit() for name in named):
        uuids = {_text(nvml.nvmlDeviceGetUUID(handle)): handle for handle in everything}
        # CUDA allows a name to be shortened.
        found = [
            handle for name in named for uuid, handle in uuids.items() if uuid.startswith(name)
        ]
    else:
        kinds = {_text(nvml.nvmlDeviceGetName(handle)) for handle in everything}
        by_bus = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        if len(kinds) > 1 and len(named) < len(everything) and not by_bus:
            raise Unmeasured(
                "the machine's GPUs are of several kinds, which CUDA numbers by their speed; "
                "set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            )
        found = [everything[int(name)] for name in named if int(name) < len(everything)]
    if len(found) != len(named):
        raise Unmeasured("NVML does not show every GPU that this process was given")
    return found


def _text(value: str | bytes) -> str:
    """Older versions of the library's binding give bytes."""
    return value.decode() if isinstance(value, bytes) else value
