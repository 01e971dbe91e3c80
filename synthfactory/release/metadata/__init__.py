"""Metadata for data spaces: Croissant, RO-Crate, DCAT-AP; each a published standard.

Everything is taken from the manifest and the report, which hold aggregates only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from synthfactory.artifacts import read_json, write_json
from synthfactory.release.metadata.crate import crate
from synthfactory.release.metadata.croissant import croissant
from synthfactory.release.metadata.dcat import dcat
from synthfactory.release.metadata.facts import Facts, gather

__all__ = ["Facts", "crate", "croissant", "dcat", "gather", "write_metadata"]

CROISSANT, CRATE, DCAT = "croissant.json", "ro-crate-metadata.json", "dcat.jsonld"


def write_metadata(
    folder: Path, *, publisher: str, period: tuple[str, str], now: datetime | None = None
) -> None:
    """Describe a release that holds its data, manifest, report and attestations.

    Parameters
    ----------
    folder
        The release folder.
    publisher
        Identifier of whoever publishes, a DID.
    period
        When the run began and ended, as ``2026-11-23T10:00:00Z``.
    now
        The date of publication.
    """
    facts = gather(
        folder,
        manifest=read_json(folder / "manifest.json"),
        report=read_json(folder / "report.json"),
        publisher=publisher,
        period=period,
        now=now or datetime.now(UTC),
    )
    write_json(folder / CROISSANT, croissant(facts))
    write_json(folder / DCAT, dcat(facts))
    # The crate names every other file, so it comes last.
    write_json(folder / CRATE, crate(facts, folder))
