"""What all catalogues are told about a release, gathered once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Json = Mapping[str, Any]

TERMS = "https://w3id.org/synthfactory/terms#"


IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\\\^`]+")


def is_iri(text: str) -> bool:
    """Whether a column's declared term can stand in linked data.

    >>> is_iri("http://purl.obolibrary.org/obo/NCIT_C25150"), is_iri("see the handbook")
    (True, False)
    """
    return IRI.fullmatch(text) is not None


def in_words(column: Json) -> str:
    """A column's description and unit, as far as its owner gave them."""
    unit = f" [{column['unit']}]" if column["unit"] else ""
    return f"{column['description']}{unit}".strip()


@dataclass(frozen=True, kw_only=True)
class Quality:
    """One figure of a data-quality dimension, from 0 to 1 unless its unit says otherwise.

    Parameters
    ----------
    name, dimension
        The metric, and which of the dimensions it belongs to.
    value
        The figure.
    definition
        What it is, in one line.
    """

    name: str
    dimension: str
    value: float
    definition: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A release as catalogues see it."""

    identifier: str
    root: str
    title: str
    description: str
    licence: str
    citation: str
    source: str
    publisher: str
    issued: datetime
    use_class: str
    policy_uri: str
    policy_title: str
    generator: str
    generator_reference: str
    version: str
    columns: Sequence[Json]
    parts: Sequence[Json]
    not_assessed: Sequence[str]
    health: bool
    sensitive: Sequence[str]
    quality: Sequence[Quality]
    started_on: str
    finished_on: str

    @property
    def n_rows(self) -> int:
        """Synthetic rows."""
        return sum(int(part["rows"]) for part in self.parts)


def gather(
    folder: Path,
    *,
    manifest: Json,
    report: Json,
    publisher: str,
    period: tuple[str, str],
    now: datetime,
) -> Facts:
    """The facts of a release folder; see `write_metadata`."""
    dataset, policy = report["dataset"], report["policy"]
    root = manifest["merkleRoot"]
    return Facts(
        identifier=f"urn:synthfactory:dataset:{root}",
        root=root,
        title=f"{dataset['title']}, synthetic",
        description=_description(dataset, report),
        licence=dataset["licence"],
        citation=dataset["citation"],
        source=dataset["source"],
        publisher=publisher,
        issued=now.replace(microsecond=0),
        use_class=policy["use_class"],
        policy_uri=f"urn:synthfactory:policy:{policy['id']}:{policy['version']}",
        policy_title=policy["title"],
        generator=report["generator"]["name"],
        generator_reference=report["generator"]["paper"],
        version=report["version"],
        columns=manifest["schema"]["columns"],
        parts=manifest["parts"],
        not_assessed=[item["what"] for item in report["notAssessed"]],
        health=bool(dataset.get("health", False)),
        sensitive=dataset["roles"]["sensitive"],
        quality=quality_of(folder, manifest, report),
        started_on=period[0],
        finished_on=period[1],
    )


def _description(dataset: Json, report: Json) -> str:
    told = f"{dataset['description'].strip()} " if dataset["description"].strip() else ""
    return (
        f"{told}Synthetic rows, drawn from a {report['generator']['name']} model of the original"
        " table; no row describes a person. The certificate beside them says which attacks were"
        " tried, what they found, and what was not assessed."
        f"{_about_rare(report)}"
    )


def _about_rare(report: Json) -> str:
    """A sentence about rare values; nothing for a report from before it was told."""
    rare = report.get("rareValues")
    if rare is None:
        return ""
    if rare["kept"]:
        return " Rare values of the original table were kept."
    return (
        f" Values that fewer than {rare['minPeople']} people have were made common before anything"
        " was learnt."
    )


def quality_of(folder: Path, manifest: Json, report: Json) -> list[Quality]:
    """Completeness, consistency, provenance, semantic clarity and governance, and every finding."""
    columns = manifest["schema"]["columns"]
    dataset = report["dataset"]
    findings = report["findings"]["measurements"]
    clear = [
        bool(column["description"] or is_iri(column["iri"]))
        and (column["kind"] != "numerical" or bool(column["unit"] or is_iri(column["iri"])))
        for column in columns
    ]
    governed = [bool(dataset[name]) for name in ("licence", "citation", "source", "description")]
    rules = next((item for item in findings if item["id"] == "fidelity.rules_kept"), None)
    figures = [
        Quality(
            name="completeness",
            dimension="completeness",
            value=_completeness(folder, manifest),
            definition="share of cells that hold a value",
        ),
        Quality(
            name="provenanceStatements",
            dimension="provenance",
            value=1.0,
            definition="whether a signed statement says how the data were made",
        ),
        Quality(
            name="describedColumns",
            dimension="semanticClarity",
            value=sum(clear) / len(clear),
            definition="share of columns with a description or an ontology term, and with a unit "
            "where they are numbers",
        ),
        Quality(
            name="governanceFields",
            dimension="governance",
            value=sum(governed) / len(governed),
            definition="share of licence, citation, source and description that are given",
        ),
    ]
    if rules is not None:
        figures.append(
            Quality(
                name="rulesKept",
                dimension="consistency",
                value=rules["estimate"],
                definition="share of rows that keep every rule of the original table",
            )
        )
    figures += [
        Quality(
            name=item["id"], dimension=item["family"], value=item["estimate"],
            definition=item["method"],
        )
        for item in findings
    ]  # fmt: skip
    return figures


def _completeness(folder: Path, manifest: Json) -> float:
    """Share of cells that hold a value, from the parts' statistics; cells without count as full."""
    n_cells = n_missing = 0
    for part in manifest["parts"]:
        metadata = pq.read_metadata(folder / part["path"])
        n_cells += metadata.num_rows * metadata.num_columns
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                statistics = metadata.row_group(group).column(column).statistics
                if statistics is not None and statistics.has_null_count:
                    n_missing += statistics.null_count
    return 1 - n_missing / max(n_cells, 1)
