"""The verb `doctor`: is this machine fit for runs, and what to do where it is not.

Nothing is changed: what a check writes, it removes.  Each check looks at one thing and comes back
with what it found; a check that cannot look says so instead of failing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synthfactory import __version__, plugins
from synthfactory.cli.disks import Disk, look_at, memory_limit
from synthfactory.errors import PluginError
from synthfactory.paths import user_config_dir

if TYPE_CHECKING:
    from packaging.requirements import Requirement

Level = Literal["ok", "note", "warning", "problem"]

SLOW_IMPORT_S = 20.0
SLOW_COMMIT_MS = 50.0
SKEW_S = 2.0
FEW_GB = 10.0
NO_GB = 1.0
PYTHONS = ((3, 11), (3, 13))
SHOWN = ("dask", "distributed", "hydra-core", "numba", "numpy", "pyarrow", "scikit-learn")
EXTRAS = {
    "slurm": "jobs that come and go (cluster=slurm) and allocations",
    "mpi": "ranks of MPI (cluster=mpi)",
    "monitor": "Dask's own pages",
    "sdv": "the generators sdv_ctgan, sdv_tvae, sdv_gaussian_copula",
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What one check found.

    Parameters
    ----------
    check
        What was looked at.
    level
        ``ok``; ``note``: something that is not there and not always needed; ``warning``: runs
        work, but slower or at a risk; ``problem``: runs fail.
    found
        What is there.
    remedy
        What to do about it; empty where nothing is to be done.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """As JSON-able values."""
        return asdict(self)


def examine(runs: Path, key: Path | None = None) -> list[Diagnosis]:
    """Look at everything that a run needs.

    Parameters
    ----------
    runs
        The folder of runs; it need not exist.
    key
        The issuer's private key; None for the development key.
    """
    disk = look_at(runs)
    checks: tuple[Callable[[], Iterator[Diagnosis]], ...] = (
        _python,
        _packages,
        _torch,
        _processors,
        _memory,
        lambda: _runs_folder(runs, disk),
        lambda: _clock(runs, disk),
        _temporary_folder,
        _numba_cache,
        _batch_system,
        lambda: _issuer_key(key),
        _extras,
        _generators,
    )
    return [found for check in checks for found in check()]


def exit_code(findings: list[Diagnosis]) -> int:
    """1 when something would make runs fail, else 0: notes and warnings do not stop anybody."""
    return int(any(found.level == "problem" for found in findings))


def _python() -> Iterator[Diagnosis]:
    least, most = (".".join(map(str, version)) for version in PYTHONS)
    fits = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    yield Diagnosis(
        check="python",
        level="ok" if fits else "problem",
        found=f"Python {sys.version.split()[0]}, synthfactory {__version__}, {sys.executable}",
        remedy="" if fits else f"Make an environment with Python {least} to {most}.",
    )


def _packages() -> Iterator[Diagnosis]:
    try:
        wanted = _requirements("")
    except metadata.PackageNotFoundError:
        yield Diagnosis(
            check="packages",
            level="warning",
            found="synthfactory itself is not installed here: its packages cannot be checked",
            remedy="pip install . (in the checkout), or install the wheel.",
        )
        return
    faults = [fault for item in wanted if (fault := _fault(item))]
    versions = ", ".join(f"{name} {_version(name)}" for name in SHOWN)
    yield Diagnosis(
        check="packages",
        level="problem" if faults else "ok",
        found="; ".join(faults) or versions,
        remedy="pip install --constraint constraints.txt synthfactory" if faults else "",
    )


def _requirements(extra: str) -> list[Requirement]:
    """What the package asks for; with an extra, only what that adds.

    Raises
    ------
    PackageNotFoundError
        When the package is imported without being installed.
    """
    from packaging.requirements import Requirement

    parsed = [Requirement(text) for text in metadata.requires("synthfactory") or ()]
    base = [item for item in parsed if item.marker is None or item.marker.evaluate({"extra": ""})]
    if not extra:
        return base
    return [
        item
        for item in parsed
        if item not in base and item.marker is not None and item.marker.evaluate({"extra": extra})
    ]


def _fault(wanted: Requirement) -> str:
    """What is wrong with a required package; empty where it is there in a version that fits."""
    found = _version(wanted.name)
    if not found:
        return f"{wanted.name} is missing"
    fits = wanted.specifier.contains(found, prereleases=True)
    return "" if fits else f"{wanted.name} is {found}, expected {wanted.specifier}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _torch() -> Iterator[Diagnosis]:
    began_s = time.monotonic()
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Diagnosis(
            check="torch",
            level="problem",
            found=f"torch cannot be imported: {error}",
            remedy="Install the build for this machine: docs/on-your-cluster.md, section 1.",
        )
        return
    seconds = time.monotonic() - began_s
    runtime = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    runtime = f"ROCm {torch.version.hip}" if torch.version.hip else runtime
    slow = seconds > SLOW_IMPORT_S
    yield Diagnosis(
        check="torch",
        level="warning" if slow else "ok",
        found=f"torch {torch.__version__} ({runtime}), imported in {seconds:.1f} s",
        remedy="Every worker waits so long: put the environment on a faster file system, or into "
        "a container (docs/on-your-cluster.md)."
        if slow
        else "",
    )
    yield _gpus(torch)
    if torch.version.cuda and torch.cuda.is_available():
        yield _gpu_kernels(torch.device("cuda", 0))


def _gpu_kernels(device: Any) -> Diagnosis:
    """Whether fits on this GPU run in Triton's kernels, which are compiled where they run."""
    from synthfactory.generators import fusing

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = fusing.describe_loops(device)
    if found.startswith("triton"):
        return Diagnosis(check="gpu kernels", level="ok", found=found)
    why = "; ".join(str(warning.message) for warning in told) or "triton is not installed"
    return Diagnosis(
        check="gpu kernels",
        level="warning",
        found=why,
        remedy="Load the cluster's compiler module, or use an image with a C compiler and Python's "
        "headers: docs/engine.md, section On a GPU.",
    )


def _gpus(torch: Any) -> Diagnosis:
    seen = [
        f"{torch.cuda.get_device_name(index)}, "
        f"{torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GiB"
        for index in range(torch.cuda.device_count())
    ]
    there, driver = _nvidia()
    if seen:
        return Diagnosis(check="gpus", level="ok", found=f"{len(seen)}: {'; '.join(seen)}{driver}")
    if there:
        return Diagnosis(
            check="gpus",
            level="warning",
            found=f"{there} NVIDIA GPU(s){driver}, of which this build of torch sees none",
            remedy="Install a build for this driver, and look at CUDA_VISIBLE_DEVICES: "
            "docs/on-your-cluster.md, section 1.",
        )
    return Diagnosis(
        check="gpus",
        level="note",
        found="none: fits run on the processor",
        remedy="On a login node that is usual; ask on a GPU node: srun --gres=gpu:1 synthfactory "
        "doctor",
    )


def _nvidia() -> tuple[int, str]:
    """How many NVIDIA GPUs the driver knows, and its version in words."""
    try:
        import pynvml
    except ImportError:
        return 0, ""
    try:
        pynvml.nvmlInit()
        try:
            return pynvml.nvmlDeviceGetCount(), f"; driver {pynvml.nvmlSystemGetDriverVersion()}"
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0, ""


def _processors() -> Iterator[Diagnosis]:
    mine = len(os.sched_getaffinity(0))
    told = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    yield Diagnosis(
        check="processors",
        level="ok",
        found=f"{mine} of {os.cpu_count()} for this process"
        + (f"; {', '.join(told)} (in a fit the order's `threads` counts)" if told else ""),
    )
    bound = [name for name in BINDING if os.environ.get(name, "").lower() not in ("", "false")]
    if bound:
        yield Diagnosis(
            check="thread binding",
            level="warning",
            found=", ".join(f"{name}={os.environ[name]}" for name in bound),
            remedy=f"Every worker process binds its threads to the same cores: unset "
            f"{' '.join(bound)}",
        )
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        yield Diagnosis(
            check="numba",
            level="warning",
            found="NUMBA_DISABLE_JIT is set: the evaluation runs uncompiled, many times slower",
            remedy="unset NUMBA_DISABLE_JIT",
        )


def _memory() -> Iterator[Diagnosis]:
    total, source = memory_limit()
    gib = total / 2**30
    few = gib < 4
    yield Diagnosis(
        check="memory",
        level="warning" if few else "ok",
        found=f"{gib:.1f} GiB ({source})",
        remedy="Take a smaller evaluation (evaluation=quick) and one worker "
        "(cluster.n_workers=1), or a machine with more."
        if few
        else "",
    )


def _runs_folder(runs: Path, disk: Disk) -> Iterator[Diagnosis]:
    where = f"{runs} on {disk.kind} ({disk.mount})"
    if disk.error:
        yield Diagnosis(
            check="runs folder",
            level="problem",
            found=f"{where}: {disk.error}",
            remedy="Set paths.runs to a folder that you may write.",
        )
        return
    free = f"{disk.free_gb:,.1f} GB free"
    if disk.free_gb < NO_GB or disk.free_files == 0:
        level: Level = "problem"
        remedy = "Make room, or set paths.runs to another file system."
    elif disk.is_memory:
        level, remedy = "warning", "It is gone with the machine: set paths.runs to a real disk."
    elif disk.is_slow_network or disk.commit_ms > SLOW_COMMIT_MS:
        level = "warning"
        remedy = "Set paths.runs to the project's or scratch file system: stages write many small "
        remedy += "files and wait for each."
    elif disk.free_gb < FEW_GB:
        level, remedy = "warning", "Make room: synthetic rows and models of many runs add up."
    else:
        level, remedy = "ok", ""
    kind = ", a parallel file system" if disk.is_parallel else ""
    kind = ", a network file system" if disk.is_slow_network else kind
    yield Diagnosis(
        check="runs folder",
        level=level,
        found=f"{where}{kind}; {free}; a small file is safe after {disk.commit_ms:.1f} ms",
        remedy=remedy,
    )


def _clock(runs: Path, disk: Disk) -> Iterator[Diagnosis]:
    if disk.error:
        return
    off = abs(disk.skew_s) > SKEW_S
    yield Diagnosis(
        check="clock",
        level="warning" if off else "ok",
        found=f"{abs(disk.skew_s):.1f} s {'before' if disk.skew_s < 0 else 'after'} "
        f"the file system's"
        if off
        else "agrees with the file system's",
        remedy="Certificates would begin in the future, and running work looks dead: have the "
        "clock set (NTP), here and on the file server."
        if off
        else "",
    )


def _temporary_folder() -> Iterator[Diagnosis]:
    folder = Path(tempfile.gettempdir())
    disk = look_at(folder)
    found = f"{folder} on {disk.kind}, {disk.free_gb:,.1f} GB free"
    level: Level = "ok"
    remedy = ""
    if disk.error or disk.free_gb < NO_GB:
        level, remedy = "problem", "export TMPDIR=FOLDER, on a disk of this node with room."
        found += f": {disk.error}" if disk.error else ""
    elif disk.is_slow_network:
        level, remedy = "warning", "export TMPDIR=FOLDER, on a disk of this node."
    elif disk.is_memory:
        level = "note"
        found += "; what lies there takes memory"
    yield Diagnosis(check="temporary folder", level=level, found=found, remedy=remedy)


def _numba_cache() -> Iterator[Diagnosis]:
    """Numba's cache, in the order in which Numba itself looks for a place."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    package = Path(__file__).resolve().parents[1] / "evaluation" / "__pycache__"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    for folder in [Path(chosen)] if chosen else [package, cache]:
        if not look_at(folder).error:
            yield Diagnosis(check="numba cache", level="ok", found=str(folder))
            return
    yield Diagnosis(
        check="numba cache",
        level="warning",
        found=f"no place that can be written: {chosen or f'{package}, {cache}'}",
        remedy="Every process compiles anew: export NUMBA_CACHE_DIR=FOLDER, which all nodes can "
        "write.",
    )


def _batch_system() -> Iterator[Diagnosis]:
    program = shutil.which("sbatch")
    if program is None:
        yield Diagnosis(
            check="batch system",
            level="note",
            found="no sbatch on PATH: `run` works here, `submit` does not",
            remedy="To submit, log in to a login node, or load the site's Slurm module.",
        )
        return
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
        why = done.stderr.strip().split("\n")[-1] if done.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
    if why:
        yield Diagnosis(
            check="batch system",
            level="warning",
            found=f"{program} does not answer: {why}",
            remedy="Ask the site, or load its Slurm module again.",
        )
        return
    job = os.environ.get("SLURM_JOB_ID")
    yield Diagnosis(
        check="batch system",
        level="ok",
        found=f"{done.stdout.strip()}, {program}" + (f"; inside job {job}" if job else ""),
    )


def _issuer_key(key: Path | None) -> Iterator[Diagnosis]:
    from synthfactory.certification.keys import DEVELOPMENT_KEY

    path = key or user_config_dir() / DEVELOPMENT_KEY
    if not path.exists():
        disk = look_at(path.parent)
        level: Level = "problem" if key or disk.error else "note"
        found = f"{path} is not there" + ("" if key else " yet; the first certified run makes it")
        remedy = f"synthfactory keys new {path}" if key else ""
        if disk.error:
            found, remedy = f"{path.parent}: {disk.error}", "export XDG_CONFIG_HOME=FOLDER"
        yield Diagnosis(check="issuer key", level=level, found=found, remedy=remedy)
        return
    mode, above = path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o1777
    what = "the issuer's key" if key else "development key: nobody vouches for what it signs"
    if mode & 0o077:
        level, remedy = "problem", f"chmod 600 {path}"
        what = f"others can read it (mode {mode:04o})"
    elif above & 0o022 and not above & 0o1000:
        level, remedy = "warning", f"chmod go-w {path.parent}"
        what = f"others can replace it (its folder has mode {above:04o})"
    else:
        level, remedy = "ok", ""
    yield Diagnosis(check="issuer key", level=level, found=f"{path}: {what}", remedy=remedy)


def _extras() -> Iterator[Diagnosis]:
    for extra, gives in EXTRAS.items():
        try:
            missing = [fault for item in _requirements(extra) if (fault := _fault(item))]
        except metadata.PackageNotFoundError:
            return
        needed = extra == "slurm" and shutil.which("sbatch") is not None
        lacks: Level = "warning" if needed else "note"
        yield Diagnosis(
            check=f"extra {extra}",
            level=lacks if missing else "ok",
            found=f"{'; '.join(missing) or 'installed'}: {gives}",
            remedy=f"pip install 'synthfactory[{extra}]'" if missing else "",
        )


def _generators() -> Iterator[Diagnosis]:
    """Generators of other packages: whether each can be imported, and has its name alone."""
    from synthfactory.generators import load_generator

    offered = {offer.name: offer for offer in plugins.offers(plugins.GENERATORS)}
    for name, offer in offered.items():
        fault = ""
        try:
            if load_generator(name) is None:
                fault = f"{offer.in_words} has the name of a shipped one, which stays in its place"
        except PluginError as error:
            fault = str(error)
        yield Diagnosis(
            check=f"generator {name}",
            level="warning" if fault else "ok",
            found=fault or f"of {offer.package} {offer.version}",
            remedy="Repair or uninstall the package; other generators are not affected."
            if fault
            else "",
        )
