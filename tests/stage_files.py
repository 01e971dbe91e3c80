"""What runs have in common, whoever made them, wherever and however often."""

from __future__ import annotations

from pathlib import Path

from synthfactory import artifacts
from synthfactory.journal import STAGES


def bytes_of(runs: Path) -> dict[str, str]:
    """Digest of every file that must not depend on when, where and how often it was made."""
    return {
        f"{run.name}/{stage}/{name}": digest
        for run in runs.glob("*-*")
        for stage in STAGES
        if artifacts.is_done(run / stage)
        for name, digest in artifacts.read_done(run / stage)["files"].items()
    }
