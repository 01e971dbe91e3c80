"""RO-Crate 1.1 under the profile Process Run Crate 0.5: https://w3id.org/ro/wfrun/process/0.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthfactory.artifacts import digest_file
from synthfactory.release.metadata.croissant import PARQUET
from synthfactory.release.metadata.facts import Facts

CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"},
]
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
ACTION, SOFTWARE = "#production", "https://w3id.org/synthfactory"
# Written after the crate, so their digests cannot be in it.
LATER = ("certificate.json", "status.json", "ro-crate-metadata.json")
FORMATS = {
    ".parquet": PARQUET,
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
}
WHAT = {
    "manifest.json": "Every part of the data with its digest, under one Merkle root",
    "report.json": "What was measured, and what the policy decided",
    "report.html": "The same for people",
    "resources.json": "What making it cost",
    "attestations.intoto.jsonl": "Signed statements of generator, evaluator and controller",
    "croissant.json": "Description for machine-learning tools",
    "dcat.jsonld": "Description for data catalogues",
}


def crate(facts: Facts, folder: Path) -> dict[str, Any]:
    """The release as a research object: who made which file, with what.

    Parameters
    ----------
    facts
        The release.
    folder
        Holds every file that is described; the certificate and its status come later.
    """
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    files = [_file(folder, name) for name in names if name not in LATER]
    parts = [{"@id": part["path"]} for part in facts.parts]
    return {
        "@context": CONTEXT,
        "@graph": [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "identifier": facts.identifier,
                "name": facts.title,
                "description": facts.description,
                "datePublished": facts.issued.isoformat(),
                "license": {"@id": "#licence"},
                "conformsTo": {"@id": PROFILE},
                "hasPart": [{"@id": item["@id"]} for item in files],
                "mentions": {"@id": ACTION},
                "author": {"@id": facts.publisher},
                "publisher": {"@id": facts.publisher},
            },
            {
                "@id": PROFILE,
                "@type": "CreativeWork",
                "name": "Process Run Crate",
                "version": "0.5",
            },
            {
                "@id": "#licence",
                "@type": "CreativeWork",
                "name": facts.licence or "unspecified",
                "description": "Licence of the original table's description; the use class is "
                f"'{facts.use_class}'.",
            },
            {
                "@id": facts.publisher,
                "@type": "Organization",
                "name": facts.publisher,
                "url": facts.publisher,
            },
            {
                "@id": SOFTWARE,
                "@type": "SoftwareApplication",
                "name": "synthfactory",
                "softwareVersion": facts.version,
                "url": SOFTWARE,
            },
            {
                "@id": ACTION,
                "@type": "CreateAction",
                "name": f"Production of synthetic rows by {facts.generator}",
                "description": "A generator learnt a confidential table, which is no part of this "
                "crate, and its model was sampled and measured.",
                "instrument": {"@id": SOFTWARE},
                "agent": {"@id": facts.publisher},
                "result": parts,
                "startTime": _moment(facts.started_on),
                "endTime": _moment(facts.finished_on),
                "actionStatus": "http://schema.org/CompletedActionStatus",
            },
            *files,
        ],
    }


def _moment(text: str) -> str:
    """A time with its offset in digits, the one form that the profile takes."""
    return text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "description": WHAT.get(name, "Synthetic rows" if name.startswith("data/") else name),
        "encodingFormat": FORMATS.get(path.suffix, "application/octet-stream"),
        "contentSize": str(path.stat().st_size),
        "sha256": digest_file(path).removeprefix("sha256:"),
    }
