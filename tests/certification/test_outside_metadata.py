"""Catalogues and attestations are accepted, and bent ones refused, by outside software, offline.

It runs in an environment of its own (`make validators`), as a program that is given a release.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bends import attestation_with_a_changed_payload, edit

from synthfactory.artifacts import read_json

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("SYNTHFACTORY_VALIDATORS", ROOT / ".venv-validators")) / "bin/python"
PROGRAMS = Path(__file__).parent / "outside"
SHAPES = ("shapes.ttl", "dcat-ap-SHACL.ttl", "range.ttl")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="needs the validators: make validators"),
]


def ask(program: str, *words: object) -> tuple[int, str]:
    """Exit code and output of an outside program, which finds no network to ask."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [PYTHON, PROGRAMS / program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **nowhere, **{name.upper(): url for name, url in nowhere.items()}},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(params=["certified_run", "hostile_run"])
def fresh(request: pytest.FixtureRequest) -> Path:
    """A plain release, and one of hostile names, many types, health data and a did:web."""
    run: Path = request.getfixturevalue(request.param)
    return run / "release"


@pytest.fixture
def release(hostile_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(hostile_run / "release", tmp_path / "release")
    return tmp_path / "release"


def test_croissant_loads_with_its_declared_fields(fresh: Path) -> None:
    code, said = ask("croissant.py", fresh)
    assert code == 0, said
    schema = read_json(fresh / "manifest.json")["schema"]
    expected = {"rows": 1_800, "fields": len(schema["columns"]), "warnings": []}
    assert json.loads(said.splitlines()[-1]) == expected


def test_croissant_of_other_data_is_refused(release: Path) -> None:
    edit(release / "croissant.json", lambda c: c["recordSet"][0]["field"][0]["source"].clear())
    code, _ = ask("croissant.py", release)
    assert code != 0


def test_crate_follows_every_rule_and_recommendation(fresh: Path, shared_validators: Path) -> None:
    code, said = ask("crate.py", fresh, shared_validators / "ro-crate-contexts")
    assert code == 0, said
    verdict = json.loads(said[said.index("{") :])
    assert verdict["passed"]
    assert verdict["issues"] == []
    assert verdict["statistics"]["total_passed_checks"] > 50


def test_bent_crate_is_refused(release: Path, shared_validators: Path) -> None:
    def change(crate: dict[str, Any]) -> None:
        (action,) = [item for item in crate["@graph"] if item["@type"] == "CreateAction"]
        del action["instrument"]

    edit(release / "ro-crate-metadata.json", change)
    code, said = ask("crate.py", release, shared_validators / "ro-crate-contexts")
    assert code == 1, said


def test_dcat_conforms_to_every_shape(fresh: Path, shared_validators: Path) -> None:
    folder = shared_validators / "dcat-ap-3.0.1-shapes"
    code, said = ask("dcat.py", fresh, *(folder / name for name in SHAPES))
    assert said.splitlines() == [f"{name} conforms" for name in SHAPES]
    assert code == 0


def test_dcat_tells_health_data_and_ontology_terms(hostile_run: Path) -> None:
    graph = read_json(hostile_run / "release" / "dcat.jsonld")["@graph"]
    (dataset,) = [node for node in graph if node["@type"] == "dcat:Dataset"]
    assert dataset["healthdcatap:numberOfRecords"]["@value"] == "1800"
    assert dataset["dcat:theme"][0]["@id"].endswith("data-theme/HEAL")
    assert [term["@id"] for term in dataset["dct:subject"]] == [
        "http://purl.obolibrary.org/obo/NCIT_C25150"
    ]


BENT: dict[str, Callable[[dict[str, Any]], object]] = {
    "a plain number of bytes": lambda part: part.update({"dcat:byteSize": 1_000}),
    "no address": lambda part: part.pop("dcat:accessURL"),
    "two licences": lambda part: part.update({"dct:license": [{"@id": "urn:a"}, {"@id": "urn:b"}]}),
}


@pytest.mark.parametrize("name", BENT)
def test_bent_dcat_is_refused(name: str, release: Path, shared_validators: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for node in document["@graph"]:
            if node["@type"] == "dcat:Distribution":
                BENT[name](node)

    edit(release / "dcat.jsonld", change)
    folder = shared_validators / "dcat-ap-3.0.1-shapes"
    code, said = ask("dcat.py", release, *(folder / name for name in SHAPES))
    assert code == 1, said


def test_every_attestation_verifies_with_the_key_that_it_names(fresh: Path) -> None:
    code, said = ask("attestations.py", fresh)
    assert code == 0, said
    result = "https://in-toto.io/attestation/test-result/v0.1"
    assert json.loads(said.splitlines()[-1]) == [
        "https://slsa.dev/provenance/v1",
        *[result] * 4,
        "https://slsa.dev/verification_summary/v1",
    ]


def test_changed_attestation_is_refused(release: Path) -> None:
    attestation_with_a_changed_payload(release)
    code, said = ask("attestations.py", release)
    assert code != 0
    assert "VerificationError" in said
