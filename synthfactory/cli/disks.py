"""What kind of disk a folder lies on, how long a commit takes there, and whose clock is right."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

# File systems over one server's network: every small file is a journey.
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "9p", "fuse.sshfs", "fuse.s3fs"}
)
# Built for many writers; metadata is slower than a local disk's, and that is expected.
PARALLEL = frozenset(
    {
        "beegfs", "beegfs_nodev", "ceph", "cvmfs", "daos", "fuse.ceph", "fuse.glusterfs", "gpfs",
        "lustre", "orangefs", "panfs", "pvfs2", "wekafs",
    }
)  # fmt: skip
MEMORY = frozenset({"tmpfs", "ramfs"})
PROBES = 5


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What was found about the disk below a folder.

    Parameters
    ----------
    mount, kind
        Where it is mounted and its file system, such as ``lustre``.
    error
        Why nothing can be written there; empty where it can.
    free_gb
        Room for a user, in GB.
    free_files
        Files that can still be made; None where the file system has no such limit.
    commit_ms
        Median milliseconds to write a small file, flush it to the disk and rename it.
    skew_s
        This machine's clock minus the file system's, beyond what a write takes.
    """

    mount: str
    kind: str
    error: str = ""
    free_gb: float = 0.0
    free_files: int | None = None
    commit_ms: float = 0.0
    skew_s: float = 0.0

    @property
    def is_slow_network(self) -> bool:
        """Whether each file goes over a network to one server."""
        return self.kind in NETWORK

    @property
    def is_parallel(self) -> bool:
        """Whether it is a cluster's parallel file system."""
        return self.kind in PARALLEL

    @property
    def is_memory(self) -> bool:
        """Whether it is memory and no disk."""
        return self.kind in MEMORY


def look_at(folder: Path) -> Disk:
    """The disk of a folder, or of its nearest parent that exists; what is written is removed."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    mount, kind = mount_of(there.resolve(), _mountinfo())
    if not there.is_dir():
        return Disk(mount=mount, kind=kind, error=f"{there} is a file, expected a folder")
    try:
        room = os.statvfs(there)
        commits_ms, skew_s = _probe(there)
    except OSError as error:
        return Disk(
            mount=mount, kind=kind, error=f"cannot write below {there}: {error.strerror or error}"
        )
    return Disk(
        mount=mount,
        kind=kind,
        free_gb=room.f_bavail * room.f_frsize / 1e9,
        free_files=room.f_favail if room.f_files else None,
        commit_ms=statistics.median(commits_ms),
        skew_s=skew_s,
    )


def _probe(folder: Path) -> tuple[list[float], float]:
    """Milliseconds of some commits, and the clocks' difference in seconds."""
    work = folder / f".{uuid.uuid4().hex}.tmp"
    work.mkdir()
    try:
        times_ms = []
        for number in range(PROBES):
            began_s, began_at = time.monotonic(), time.time()
            with (work / "new").open("wb") as file:
                file.write(b"can this be written?")
                file.flush()
                os.fsync(file.fileno())
            written = (work / "new").rename(work / f"{number}")
            times_ms.append(1e3 * (time.monotonic() - began_s))
            theirs, ended_at = written.stat().st_mtime, time.time()
        return times_ms, skew(began_at, theirs, ended_at)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def skew(began_at: float, theirs: float, ended_at: float) -> float:
    """How far this clock is after the other one, when a write began and ended by this clock.

    >>> skew(100.0, 100.5, 101.0), skew(100.0, 90.0, 101.0), skew(100.0, 107.0, 101.0)
    (0.0, 10.0, -6.0)
    """
    if theirs < began_at:
        return began_at - theirs
    return min(0.0, ended_at - theirs)


def mount_of(path: Path, mountinfo: str) -> tuple[str, str]:
    """Mount point and file system of a path, from the text of ``/proc/self/mountinfo``.

    >>> text = '''25 1 8:1 / / rw - ext4 /dev/sda1 rw
    ... 30 25 0:40 / /scratch\\\\040a rw shared:2 - lustre mds@tcp:/s rw'''
    >>> mount_of(Path("/scratch a/me/runs"), text), mount_of(Path("/scratch"), text)
    (('/scratch a', 'lustre'), ('/', 'ext4'))
    """
    best, kind = "/", "an unknown file system"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words, names = before.split(), after.split()
        if len(words) < 5 or not names:
            continue
        point = words[4].encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, names[0]
    return best, kind


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def memory_limit() -> tuple[int, str]:
    """Bytes of memory that this process may take, and what limits them."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < total:
            return int(text), "the limit of this job or container"
    return total, "of this machine"
