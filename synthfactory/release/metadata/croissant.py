"""Croissant 1.1 with Responsible AI fields, for machine-learning tools.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from __future__ import annotations

import re
from typing import Any

from synthfactory.release.metadata.facts import Facts, Json, in_words, is_iri

CONFORMS_TO = [
    "http://mlcommons.org/croissant/1.1",
    "http://mlcommons.org/croissant/RAI/1.0",
]
PARTS, ROWS = "parts", "rows"
PARQUET = "application/x-parquet"

_CR_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset",
    "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _CR_TERMS},
}


def croissant(facts: Facts) -> dict[str, Any]:
    """The dataset's description for machine-learning tools.

    One file object per part and a file set over all of them, from which the fields are read.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "@id": facts.identifier,
        "conformsTo": CONFORMS_TO,
        "name": facts.title,
        "description": facts.description,
        "license": facts.licence or "unspecified",
        "url": facts.identifier,
        "version": "1.0.0",
        "datePublished": facts.issued.strftime("%Y-%m-%d"),
        "publisher": {"@type": "sc:Organization", "name": facts.publisher},
        "creator": {"@type": "sc:Organization", "name": facts.publisher},
        "citeAs": facts.citation or f"{facts.title} ({facts.issued.year}). {facts.identifier}",
        "isLiveDataset": False,
        **_responsible(facts),
        "distribution": [
            *(
                {
                    "@type": "cr:FileObject",
                    "@id": part["path"],
                    "name": part["path"],
                    "contentUrl": part["path"],
                    "contentSize": f"{part['size']} B",
                    "encodingFormat": PARQUET,
                    "sha256": part["sha256"],
                }
                for part in facts.parts
            ),
            {
                "@type": "cr:FileSet",
                "@id": PARTS,
                "name": PARTS,
                "description": "Every part of the data.",
                "encodingFormat": PARQUET,
                "includes": "data/*.parquet",
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": ROWS,
                "name": ROWS,
                "description": "One synthetic row each.",
                "field": [_field(column) for column in facts.columns],
            }
        ],
    }


def _field(column: Json) -> dict[str, Any]:
    told = in_words(column)
    return {
        "@type": "cr:Field",
        "@id": f"{ROWS}/{plain_id(column['name'])}",
        "name": column["name"],
        **({"description": told} if told else {}),
        **({"equivalentProperty": column["iri"]} if is_iri(column["iri"]) else {}),
        "dataType": data_type(column),
        "source": {"fileSet": {"@id": PARTS}, "extract": {"column": column["name"]}},
    }


def plain_id(name: str) -> str:
    """A column's name as part of an identifier, where readers take no spaces and no quotes.

    Names that differ stay different: what is written in hexadecimal includes the tilde itself.

    >>> plain_id("age"), plain_id("blood pressure")
    ('age', 'blood~20~pressure')
    """
    return re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"~{ord(found[0]):x}~", name)


def data_type(column: Json) -> str:
    """The schema.org type of a column's values.

    >>> data_type({"kind": "numerical", "dtype": "int64"})
    'sc:Integer'
    """
    dtype = column["dtype"]
    if dtype.startswith("date"):
        return "sc:Date"
    if dtype.startswith("timestamp"):
        return "sc:DateTime"
    if dtype.startswith(("int", "uint")):
        return "sc:Integer"
    if dtype.startswith(("float", "double", "half", "decimal")):
        return "sc:Float"
    return "sc:Boolean" if dtype.startswith("bool") else "sc:Text"


def _responsible(facts: Facts) -> dict[str, Any]:
    """Responsible AI: what the data are, what they may be used for, and what is not known."""
    open_points = "; ".join(facts.not_assessed)
    return {
        "rai:dataCollection": (
            f"No data were collected: the rows were drawn from a {facts.generator} model"
            f" ({facts.generator_reference}) that learnt a confidential table."
        ),
        "rai:dataUseCases": (
            f"Use class '{facts.use_class}' under the policy '{facts.policy_title}'."
        ),
        "rai:dataLimitations": (
            "Relations that the model did not learn are absent; figures on fidelity and utility,"
            " with intervals, are in report.json."
        ),
        "rai:dataBiases": "Biases of the original table are learnt and kept.",
        "rai:personalSensitiveInformation": list(facts.sensitive)
        or "No column was declared sensitive.",
        "rai:dataReleaseMaintenancePlan": (
            f"The certificate can be revoked: read its status list. Not assessed: {open_points}."
        ),
    }
