"""The ledger: what was planned for a table, written down before anything is trained.

Whoever tries again and again until a release passes has tested many times, and one pass in twenty
comes by chance.  So every campaign first commits what it will try: the candidates, their policy
and their split.  Entries form a chain, each with the digest of the one before (as in certificate
transparency logs, RFC 6962): none can be taken out or changed later without breaking what follows.
How many candidates were planned for the table so far is signed in each certificate, and the
error rate of its intervals is divided by that number (Bonferroni).

An entry is a file of its own, created exclusively, so that two campaigns can plan at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthfactory import artifacts
from synthfactory.errors import StorageError

FOLDER = ".ledger"
FIRST = "sha256:" + "0" * 64
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One candidate for a release, as it is committed before training.

    Parameters
    ----------
    run
        The run's name; it ends with a digest of table, schema, order and version.
    policy
        Digest of the policy that will decide.
    split
        Digest of how the table is divided: shares and seed.
    """

    run: str
    policy: str
    split: str

    def to_dict(self) -> dict[str, str]:
        """JSON-able values."""
        return {"run": self.run, "policy": self.policy, "split": self.split}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where a candidate stands in the ledger of its table.

    Parameters
    ----------
    attempts
        Candidates that were planned for the table when this one was, all of its campaign included.
    entry
        Digest of the entry that planned it.
    """

    attempts: int
    entry: str


def commit_plan(runs: Path, table: str, candidates: Sequence[Candidate]) -> dict[str, Plan]:
    """Write down what will be tried on a table; what was planned before is not planned again.

    Parameters
    ----------
    runs
        The folder of all runs.
    table
        Digest of the confidential table.
    candidates
        Of one campaign.

    Returns
    -------
    dict
        The plan of each candidate by its run's name.

    Raises
    ------
    StorageError
        When the ledger cannot be written, or is not whole.
    """
    while True:
        entries = read(runs, table)
        known = {candidate["run"] for entry in entries for candidate in entry["planned"]}
        fresh = {item.run: item for item in candidates if item.run not in known}
        if not fresh:
            return plans(entries)
        body = {
            "index": len(entries),
            "previous": entries[-1]["digest"] if entries else FIRST,
            "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "planned": [item.to_dict() for item in fresh.values()],
            "attempts": len(known) + len(fresh),
        }
        path = _folder(runs, table) / f"{len(entries):06d}.json"
        entry = {**body, "digest": artifacts.digest_json(body)}
        # Somebody else may have planned meanwhile: then this entry follows theirs.
        artifacts.write_once(path, entry)


def plans(entries: Sequence[dict[str, Any]]) -> dict[str, Plan]:
    """The plan of every candidate of these entries, by its run's name."""
    return {
        candidate["run"]: Plan(attempts=entry["attempts"], entry=entry["digest"])
        for entry in entries
        for candidate in entry["planned"]
    }


def read(runs: Path, table: str) -> list[dict[str, Any]]:
    """The entries of a table's ledger, oldest first.

    Raises
    ------
    StorageError
        When an entry is missing or was changed.
    """
    entries: list[dict[str, Any]] = []
    previous = FIRST
    for index, path in enumerate(sorted(_folder(runs, table).glob("[0-9]*.json"))):
        entry = artifacts.read_json(path)
        body = {name: value for name, value in entry.items() if name != "digest"}
        whole = artifacts.digest_json(body) == entry.get("digest")
        if not whole or entry["index"] != index or entry["previous"] != previous:
            raise StorageError(
                f"The ledger {path.parent} is not whole: {path.name} was changed, or an entry "
                "before it is missing. Candidates can no longer be counted; restore the folder, "
                "or use another paths.runs."
            )
        entries.append(entry)
        previous = entry["digest"]
    return entries


def _folder(runs: Path, table: str) -> Path:
    return runs / FOLDER / table.removeprefix("sha256:")[:_DIGITS]
