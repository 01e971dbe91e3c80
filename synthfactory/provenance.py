"""How a run was made, for its provenance: order, software, and commitments to private inputs.

Plain digests of real data can be guessed: who knows all rows but one may try every value of the
last one.  So private inputs are committed as SHA-256(salt || digest); the salt stays with the
controller, in ``private-inputs.json`` of the run folder, and opens the commitments to an auditor.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import platform
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthfactory import __version__, artifacts
from synthfactory.generators import Generator, offer_of
from synthfactory.journal import STAGES
from synthfactory.release import public_order
from synthfactory.run import Run

PRIVATE_INPUTS = "private-inputs.json"
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a run was made.

    Parameters
    ----------
    order
        The resolved order, without where the table lies and what its columns hold.
    dependencies
        Resource descriptors (in-toto) of the software and of the committed inputs.
    invocation
        The batch jobs that made it, or ``local``.
    started_on, finished_on
        When the first stage began and the last one ended, as ``2026-11-23T10:00:00Z``.
    """

    order: Mapping[str, Any]
    dependencies: Sequence[Mapping[str, Any]]
    invocation: str
    started_on: str
    finished_on: str


def gather(run: Run) -> Provenance:
    """How a decided run was made."""
    costs = [artifacts.read_done(run.folder / stage) for stage in STAGES]
    started_on, finished_on = period(run)
    jobs = sorted({str(cost["job"]) for cost in costs if cost.get("job")})
    return Provenance(
        order=public_order(run.order.to_dict()),
        dependencies=[*_with_generator(software(), run.order.generator), *commitments(run)],
        invocation=f"slurm:{','.join(jobs)}" if jobs else LOCAL,
        started_on=started_on,
        finished_on=finished_on,
    )


def period(run: Run) -> tuple[str, str]:
    """When a decided run's first stage began and its last one ended."""
    costs = [artifacts.read_done(run.folder / stage) for stage in STAGES]
    ends = [cost["began_at"] + cost["wall_s"] for cost in costs]
    return _time(min(cost["began_at"] for cost in costs)), _time(max(ends))


def commitments(run: Run) -> list[dict[str, Any]]:
    """The private inputs of a run, as salted commitments."""
    path = run.folder / PRIVATE_INPUTS
    if not path.exists():
        document = {
            "salt": secrets.token_hex(32),
            "inputs": {
                "table": run.table_digest,
                "split": run.candidate.split,
                "order": artifacts.digest_json(run.order.to_dict()),
            },
        }
        artifacts.write_json(path, document)
        path.chmod(0o600)
    private = artifacts.read_json(path)
    return [
        {
            "name": f"private:{name}",
            "digest": {"sha256": commit(private["salt"], digest)},
            "annotations": {"commitment": "SHA-256(salt || digest)"},
        }
        for name, digest in sorted(private["inputs"].items())
    ]


def commit(salt: str, digest: str) -> str:
    """The commitment to a digest, as hexadecimal digits.

    Parameters
    ----------
    salt
        Hexadecimal digits of 32 random bytes.
    digest
        ``sha256:<hex>``.
    """
    return hashlib.sha256(bytes.fromhex(salt) + digest.encode()).hexdigest()


@functools.cache
def software() -> tuple[dict[str, Any], ...]:
    """This package with the digest of its source, the interpreter, and every installed package."""
    own: dict[str, str] = {"sha256": _source_digest(Path(__file__).parent)}
    if (revision := _git_commit()) is not None:
        own["gitCommit"] = revision
    installed = sorted(
        {
            (found.metadata["Name"], found.version)
            for found in importlib.metadata.distributions()
            if found.metadata["Name"]
        }
    )
    return (
        {"uri": f"pkg:pypi/synthfactory@{__version__}", "digest": own},
        {"uri": f"pkg:generic/python@{platform.python_version()}"},
        *({"uri": _uri(name, version)} for name, version in installed if name != "synthfactory"),
    )


def _with_generator(
    descriptors: Sequence[Mapping[str, Any]], generator: Generator
) -> list[Mapping[str, Any]]:
    """The software, with the digest of the package that offers the generator, where one does."""
    offer = offer_of(type(generator))
    if offer is None:
        return list(descriptors)
    uri = _uri(offer.package, offer.version)
    found = {
        "uri": uri,
        "digest": {"sha256": _source_digest(_source(type(generator)))},
        "annotations": {"generator": offer.name, "class": offer.target},
    }
    return [*(item for item in descriptors if item["uri"] != uri), found]


def _source(found: type) -> Path:
    """The folder of a class's top-level package, or its module's file."""
    top = sys.modules[found.__module__.partition(".")[0]]
    path = Path(inspect.getfile(top)) if top.__file__ else Path(next(iter(top.__path__)))
    return path.parent if path.name == "__init__.py" else path


def _uri(name: str, version: str) -> str:
    return f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"


def _source_digest(root: Path) -> str:
    """SHA-256 over the names and contents of a package's source files, or of one file."""
    if root.is_file():
        return hashlib.sha256(root.read_bytes()).hexdigest()
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _git_commit() -> str | None:
    """The commit of a checkout whose source is unchanged; None elsewhere."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["status", "--porcelain", "--", "synthfactory"], ["rev-parse", "HEAD"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return None if said[0] else said[1]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
