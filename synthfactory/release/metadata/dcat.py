"""DCAT-AP 3.0.1 with quality (DQV), an offer (ODRL) and, for health data, HealthDCAT-AP.

https://semiceu.github.io/DCAT-AP/releases/3.0.1/, https://www.w3.org/TR/vocab-dqv/,
https://www.w3.org/TR/odrl-model/, https://healthdataeu.pages.code.europa.eu/healthdcat-ap/.
"""

from __future__ import annotations

from typing import Any

from synthfactory.release.metadata.facts import TERMS, Facts, Json, Quality, in_words, is_iri

EU = "http://publications.europa.eu/resource/authority/"
CONTEXT: dict[str, Any] = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcatap": "http://data.europa.eu/r5r/",
    "dct": "http://purl.org/dc/terms/",
    "dqv": "http://www.w3.org/ns/dqv#",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "healthdcatap": "http://healthdataportal.eu/ns/health#",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "prov": "http://www.w3.org/ns/prov#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "spdx": "http://spdx.org/rdf/terms#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "sf": TERMS,
}
ACCESS = {"open": "PUBLIC", "restricted": "RESTRICTED", "secure-environment": "NON_PUBLIC"}
DIMENSIONS = {
    "completeness": "Completeness",
    "consistency": "Consistency",
    "provenance": "Provenance",
    "semanticClarity": "Semantic clarity",
    "governance": "Governance",
    "fidelity": "Fidelity to the original table",
    "privacy": "Privacy leakage",
    "utility": "Utility",
}
HEALTH_THEME = f"{EU}data-theme/HEAL"
HEALTH_LAW = "http://data.europa.eu/eli/reg/2025/327/oj"
ENGLISH = f"{EU}language/ENG"
PARQUET = "https://www.iana.org/assignments/media-types/application/vnd.apache.parquet"


def dcat(facts: Facts) -> dict[str, Any]:
    """The release for catalogues; every node that is linked has its type in the same file."""
    return {
        "@context": CONTEXT,
        "@graph": [
            _dataset(facts),
            *_agents(facts),
            *(_distribution(facts, part) for part in facts.parts),
            *_quality(facts),
            _offer(facts),
            *_concepts(facts),
            *_terms(facts),
        ],
    }


def _dataset(facts: Facts) -> dict[str, Any]:
    described: dict[str, Any] = {
        "@id": facts.identifier,
        "@type": "dcat:Dataset",
        "dct:title": _text(facts.title),
        "dct:description": _text(facts.description),
        "dct:identifier": facts.identifier,
        "dct:issued": _typed(facts.issued.isoformat(), "xsd:dateTime"),
        "dct:language": {"@id": ENGLISH},
        "dct:publisher": {"@id": facts.publisher},
        "dct:accessRights": {"@id": f"{EU}access-right/{ACCESS[facts.use_class]}"},
        "dct:provenance": {"@id": f"{facts.identifier}#provenance"},
        "dct:conformsTo": {"@id": facts.policy_uri},
        "dcat:theme": [{"@id": HEALTH_THEME if facts.health else f"{EU}data-theme/TECH"}],
        "dcat:keyword": [_text("synthetic data")],
        "dcat:distribution": [{"@id": _address(facts, part)} for part in facts.parts],
        "prov:wasGeneratedBy": {"@id": f"{facts.identifier}#production"},
        "dqv:hasQualityMeasurement": [
            {"@id": _measurement_id(facts, item)} for item in facts.quality
        ],
        "odrl:hasPolicy": {"@id": f"{facts.identifier}#offer"},
    }
    if terms := _terms(facts):
        described["dct:subject"] = [{"@id": term["@id"]} for term in terms]
    if facts.health:
        described["dcatap:applicableLegislation"] = {"@id": HEALTH_LAW}
        described["healthdcatap:numberOfRecords"] = _typed(
            str(facts.n_rows), "xsd:nonNegativeInteger"
        )
        described["healthdcatap:populationCoverage"] = _text(
            "Synthetic rows: no record describes a person."
        )
    return described


def _agents(facts: Facts) -> list[dict[str, Any]]:
    agent: dict[str, Any] = {
        "@id": facts.publisher, "@type": "foaf:Agent", "foaf:name": facts.publisher,
    }  # fmt: skip
    activity: dict[str, Any] = {
        "@id": f"{facts.identifier}#production",
        "@type": "prov:Activity",
        "rdfs:label": _text(f"Production by synthfactory {facts.version} with {facts.generator}"),
        "prov:startedAtTime": _typed(facts.started_on, "xsd:dateTime"),
        "prov:endedAtTime": _typed(facts.finished_on, "xsd:dateTime"),
    }
    return [agent, activity]


def _distribution(facts: Facts, part: Json) -> dict[str, Any]:
    address = _address(facts, part)
    return {
        "@id": address,
        "@type": "dcat:Distribution",
        "dct:title": _text(part["path"]),
        "dcat:accessURL": {"@id": address},
        "dcat:downloadURL": {"@id": address},
        "dcat:byteSize": _typed(str(part["size"]), "xsd:nonNegativeInteger"),
        "dcat:mediaType": {"@id": PARQUET},
        "dct:format": {"@id": f"{EU}file-type/PARQUET"},
        "dct:license": {"@id": f"{facts.identifier}#licence"},
        "odrl:hasPolicy": {"@id": f"{facts.identifier}#offer"},
        "spdx:checksum": {
            "@id": f"{address}#checksum",
            "@type": "spdx:Checksum",
            "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
            "spdx:checksumValue": _typed(part["sha256"], "xsd:hexBinary"),
        },
    }


def _quality(facts: Facts) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = [
        {
            "@id": f"{TERMS}dimension-{name}",
            "@type": "dqv:Dimension",
            "skos:prefLabel": _text(label),
        }
        for name, label in DIMENSIONS.items()
    ]
    for item in facts.quality:
        metric = f"{TERMS}metric-{item.name}"
        nodes.append(
            {
                "@id": metric,
                "@type": "dqv:Metric",
                "skos:prefLabel": _text(item.name),
                "skos:definition": _text(item.definition),
                "dqv:expectedDataType": {"@id": "xsd:decimal"},
                "dqv:inDimension": {"@id": f"{TERMS}dimension-{item.dimension}"},
            }
        )
        nodes.append(
            {
                "@id": _measurement_id(facts, item),
                "@type": "dqv:QualityMeasurement",
                "dqv:isMeasurementOf": {"@id": metric},
                "dqv:computedOn": {"@id": facts.identifier},
                "dqv:value": _typed(f"{item.value:.6f}", "xsd:decimal"),
            }
        )
    return nodes


def _offer(facts: Facts) -> dict[str, Any]:
    """What may be done with the rows: nobody may use them to find a person again."""
    target = {"@id": facts.identifier}

    def rule(action: str) -> dict[str, Any]:
        return {"odrl:target": target, "odrl:action": {"@id": action}}

    allowed = ["odrl:use", "odrl:reproduce", "odrl:derive"]
    forbidden = [f"{TERMS}reidentify"]
    (allowed if facts.use_class == "open" else forbidden).append("odrl:distribute")
    return {
        "@id": f"{facts.identifier}#offer",
        "@type": ["odrl:Offer", "odrl:Policy"],
        "odrl:uid": {"@id": f"{facts.identifier}#offer"},
        "odrl:assigner": {"@id": facts.publisher},
        "odrl:permission": [rule(action) for action in allowed],
        "odrl:prohibition": [rule(action) for action in forbidden],
    }


def _concepts(facts: Facts) -> list[dict[str, Any]]:
    """The linked things that others define, with their types."""
    theme = ("HEAL", "Health") if facts.health else ("TECH", "Science and technology")
    nodes: list[dict[str, Any]] = [
        {"@id": "spdx:checksumAlgorithm_sha256", "@type": "spdx:ChecksumAlgorithm"},
        {"@id": ENGLISH, "@type": "dct:LinguisticSystem"},
        {"@id": f"{EU}access-right/{ACCESS[facts.use_class]}", "@type": "dct:RightsStatement"},
        {"@id": PARQUET, "@type": "dct:MediaType"},
        {"@id": f"{EU}file-type/PARQUET", "@type": "dct:MediaTypeOrExtent"},
        {
            "@id": f"{EU}data-theme/{theme[0]}",
            "@type": "skos:Concept",
            "skos:prefLabel": _text(theme[1]),
        },
        {
            "@id": f"{facts.identifier}#licence",
            "@type": "dct:LicenseDocument",
            "rdfs:label": _text(facts.licence or "unspecified"),
        },
        {
            "@id": f"{facts.identifier}#provenance",
            "@type": "dct:ProvenanceStatement",
            "rdfs:label": _text(
                "Signed SLSA provenance: attestations.intoto.jsonl of the release."
            ),
        },
        {
            "@id": facts.policy_uri,
            "@type": "dct:Standard",
            "dct:title": _text(facts.policy_title),
        },
    ]
    if facts.health:
        nodes.append(
            {"@id": HEALTH_LAW, "@type": "http://data.europa.eu/eli/ontology#LegalResource"}
        )
    return nodes


def _terms(facts: Facts) -> list[dict[str, Any]]:
    """What the columns are about, where their owner named a term of an ontology."""
    columns: dict[str, list[Json]] = {}
    for column in facts.columns:
        if is_iri(column["iri"]):
            columns.setdefault(column["iri"], []).append(column)
    return [
        {
            "@id": iri,
            "@type": "skos:Concept",
            "skos:prefLabel": _text(", ".join(column["name"] for column in named)),
            "skos:note": [
                _text(f"{column['name']}: {told}") for column in named if (told := in_words(column))
            ],
        }
        for iri, named in columns.items()
    ]


def _address(facts: Facts, part: Json) -> str:
    return f"urn:synthfactory:release:{facts.root}/{part['path']}"


def _measurement_id(facts: Facts, item: Quality) -> str:
    return f"{facts.identifier}#quality-{item.name}"


def _text(text: str) -> dict[str, str]:
    return {"@language": "en", "@value": text}


def _typed(value: str, kind: str) -> dict[str, str]:
    return {"@type": kind, "@value": value}
