"""Whatever is bent in a release is refused, with a line that names the failed check."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bends import CASES, PLAN, SIGNED, edit, reissue, resign

from synthfactory.artifacts import canonical_json, digest_file, read_json, write_json
from synthfactory.certification import (
    IssuerKey,
    Signers,
    attestations,
    credential,
    issue_certificate,
    new_key,
    verify,
)
from synthfactory.certification.keys import did_document
from synthfactory.certification.multibase import base64url, digest_multibase
from synthfactory.errors import ReleaseError


@pytest.fixture
def release(certified_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(certified_run / "release", tmp_path / "release")
    return tmp_path / "release"


def failed(release: Path, **options: Any) -> set[str]:
    verification = verify(release, **options)
    assert not verification.ok
    assert all(line.startswith("FAILED ") for line in verification.lines)
    return {check.name for check in verification.checks if not check.ok}


def test_untouched_release_holds(release: Path) -> None:
    verification = verify(release)
    assert verification.ok, verification.lines
    assert "anybody may have signed" in verification.lines[1]
    assert verify(release, issuer=verification.issuer).lines[0].startswith("ok")


def test_release_of_several_parts_has_their_rows(release: Path) -> None:
    manifest = read_json(release / "manifest.json")
    assert [part["rows"] for part in manifest["parts"]] == [1_000, 800]


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no release folder"):
        verify(tmp_path / "absent")


@pytest.mark.parametrize("bend", CASES, ids=lambda bend: bend.__name__)
def test_bent_release_is_refused(bend: Callable[[Path], None], release: Path) -> None:
    bend(release)
    assert CASES[bend] in failed(release)


def test_foreign_key_is_refused_when_the_issuer_is_pinned(release: Path, tmp_path: Path) -> None:
    honest = verify(release).issuer
    for name in ("certificate.json", "status.json"):
        (release / name).unlink()
    shutil.rmtree(release / "contexts")
    stranger = new_key(tmp_path / "stranger.pem")
    issue_certificate(release, key=stranger, plan=PLAN)
    assert verify(release).ok, "a whole forged release is self-consistent"
    assert failed(release, issuer=honest) == {"issuer"}


def test_release_that_is_signed_anew_holds(release: Path, tmp_path: Path) -> None:
    reissue(release, new_key(tmp_path / "key.pem"))
    assert verify(release).ok, verify(release).lines


@pytest.mark.parametrize("name", SIGNED)
def test_signature_does_not_make_it_so(name: str, release: Path, tmp_path: Path) -> None:
    bend, check = SIGNED[name]
    bend(release, new_key(tmp_path / "key.pem"))
    assert check in failed(release)


def test_costs_of_the_certificate_are_those_of_the_release(release: Path, tmp_path: Path) -> None:
    certificate = read_json(release / "certificate.json")
    del certificate["proof"]
    assert certificate["credentialSubject"]["resources"]["energy"]
    certificate["credentialSubject"]["resources"]["processorHoursUsed"] = "0"
    key = new_key(tmp_path / "k.pem")
    certificate["issuer"] = key.did
    now = datetime.now(UTC)
    write_json(release / "certificate.json", credential.sign(certificate, key, now))
    assert "claims" in failed(release)


def reseal(release: Path, place: int, change: Callable[[dict[str, Any]], object], key: Any) -> None:
    """Change one statement and sign it again, with a key of one's own."""
    path = release / attestations.FILE
    lines = path.read_bytes().splitlines()
    statement = attestations.open_envelope(lines[place]).statement
    change(statement)
    lines[place] = attestations.envelope(statement, key)
    attestations.write(path, lines)


STATEMENTS: dict[str, tuple[int, Callable[[dict[str, Any]], object]]] = {
    "another order": (
        0,
        lambda s: s["predicate"]["buildDefinition"]["externalParameters"].update(seed=99),
    ),
    "another release": (1, lambda s: s["subject"][0]["digest"].update(sha256="00" * 32)),
    "a test that was not made": (2, lambda s: s["predicate"]["passedTests"].append("privacy.x")),
    "another policy": (3, lambda s: s["predicate"]["configuration"][0].update(uri="urn:x")),
    "a higher level": (5, lambda s: s["predicate"].update(verifiedLevels=["SF-3"])),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_changed_statement_is_refused_whoever_signs_it(
    name: str, certified_run: Path, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    shutil.copytree(certified_run / "release", release)
    stranger = new_key(tmp_path / "stranger.pem")
    reseal(release, *STATEMENTS[name], stranger)
    assert "attestations" in failed(release)


def test_signature_of_another_statement_is_refused(release: Path) -> None:
    path = release / attestations.FILE
    first, second, *rest = (json.loads(line) for line in path.read_bytes().splitlines())
    first["signatures"], second["signatures"] = second["signatures"], first["signatures"]
    attestations.write(path, [canonical_json(item) for item in (first, second, *rest)])
    assert "attestations" in failed(release)


def issue_in_roles(run: Path, release: Path, **keys: IssuerKey) -> None:
    """The release of a run, signed by three people."""
    shutil.copytree(run / "release", release)
    lines = (release / attestations.FILE).read_bytes().splitlines()[:5]
    resealed = [
        attestations.envelope(
            attestations.open_envelope(line).statement, keys["evaluator" if place else "generator"]
        )
        for place, line in enumerate(lines)
    ]
    attestations.write(release / attestations.FILE, resealed)
    issue_certificate(release, key=Signers(**keys), plan=PLAN)


def test_three_people_sign_in_three_roles(certified_run: Path, tmp_path: Path) -> None:
    keys = {role: new_key(tmp_path / role) for role in attestations.ROLES}
    issue_in_roles(certified_run, tmp_path / "release", **keys)
    verification = verify(tmp_path / "release", issuer=keys["controller"].did)
    assert verification.ok, verification.lines
    roles = read_json(tmp_path / "release" / "certificate.json")["credentialSubject"]["roles"]
    assert roles == {f"{role}Role": key.did for role, key in keys.items()}


def test_highest_level_needs_an_evaluator_of_their_own(certified_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(certified_run / "release", run / "release")
    edit(run / "release" / "report.json", lambda r: r["policy"].update(level="SF-3"))
    key, other = new_key(tmp_path / "a"), new_key(tmp_path / "b")
    with pytest.raises(ReleaseError, match="a key of their own"):
        issue_in_roles(run, tmp_path / "one", controller=key, generator=key, evaluator=key)
    with pytest.raises(ReleaseError, match="a key of their own"):
        issue_in_roles(run, tmp_path / "two", controller=other, generator=key, evaluator=key)


def test_did_web_is_verified_with_its_document(certified_run: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    key = dataclasses.replace(new_key(tmp_path / "key"), web="did:web:lab.example.eu")
    issue_in_roles(certified_run, release, controller=key, generator=key, evaluator=key)
    assert verify(release).ok, verify(release).lines
    assert "issuer" in failed(release, issuer=key.did), "its own did.json pins nothing"
    published = tmp_path / "did.json"
    shutil.copy(release / "did.json", published)
    assert verify(release, issuer=key.did, did_document=published).ok
    write_json(published, did_document(dataclasses.replace(new_key(tmp_path / "k2"), web=key.web)))
    assert "keys" in failed(release, issuer=key.did, did_document=published)


def test_file_name_cannot_forge_a_line(release: Path) -> None:
    (release / "x\nok: all 16 checks hold\x1b[2J").write_text("")
    lines = verify(release).lines
    assert lines
    assert all(line.startswith("FAILED ") and line.isprintable() for line in lines)


def test_expired_and_early_certificates_are_refused(release: Path) -> None:
    now = datetime.now(UTC)
    assert "validity" in failed(release, now=now + timedelta(days=400))
    assert "validity" in failed(release, now=now - timedelta(days=1))


def test_revoked_certificate_is_refused(certified_run: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    shutil.copytree(certified_run / "release", release)
    key = new_key(tmp_path / "issuer.pem")
    for name in ("certificate.json", "status.json"):
        (release / name).unlink()
    shutil.rmtree(release / "contexts")
    issue_certificate(release, key=key, plan=PLAN)
    assert verify(release).ok
    status = {
        name: value for name, value in read_json(release / "status.json").items() if name != "proof"
    }
    bits = bytearray(credential.STATUS_BITS // 8)
    bits[0] = 0x80
    status["credentialSubject"]["encodedList"] = base64url(gzip.compress(bytes(bits)))
    write_json(release / "status.json", credential.sign(status, key, datetime.now(UTC)))
    verification = verify(release)
    assert [check.message for check in verification.checks if not check.ok] == [
        "the issuer has revoked this certificate"
    ]


def test_data_of_another_release_is_refused(release: Path, tmp_path: Path) -> None:
    part = release / "data" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(0, 999), part)
    assert "data" in failed(release)


def test_certificate_repeats_digests_of_every_other_file(release: Path) -> None:
    certificate = read_json(release / "certificate.json")
    named = {item["id"].split("/", 1)[1]: item for item in certificate["relatedResource"]}
    assert set(named) == {
        "attestations.intoto.jsonl", "contexts/certificate-v1.jsonld", "contexts/index.json",
        "croissant.json", "dcat.jsonld", "manifest.json", "report.html", "report.json",
        "resources.json", "ro-crate-metadata.json",
    }  # fmt: skip
    report = named["report.json"]["digestMultibase"]
    assert report == digest_multibase(digest_file(release / "report.json"))
    raw = base64.urlsafe_b64decode(report[1:] + "==")
    assert raw[:2] == b"\x12\x20"


def test_every_term_is_defined_by_our_context(release: Path) -> None:
    terms = set(read_json(release / "contexts" / "certificate-v1.jsonld")["@context"])
    standard = {
        "@context", "id", "type", "issuer", "validFrom", "validUntil", "credentialStatus",
        "credentialSubject", "evidence", "relatedResource", "proof",
    }  # fmt: skip

    def names(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {name for item in value.values() for name in names(item)}
        if isinstance(value, list):
            return {name for item in value for name in names(item)}
        return set()

    certificate = read_json(release / "certificate.json")
    used = set(certificate) - standard
    for key in ("credentialSubject", "evidence"):
        used |= names(certificate[key]) - {"id", "type"}
    assert used <= terms


def test_report_and_certificate_hold_no_path_of_this_machine(certified_run: Path) -> None:
    for path in (certified_run / "release").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(certified_run).encode() not in content, path
            assert str(Path.home()).encode() + b"/" not in content, path


def test_signature_covers_canonical_json(release: Path) -> None:
    path = release / "certificate.json"
    document = json.loads(path.read_text())
    path.write_bytes(canonical_json(document))
    assert verify(release).ok


STRANGE: list[Any] = [
    None, True, -1, 0, 2**53, 10**30, 0.5, 1e308, "", "x", "\ud800", "../..", "\x00", [], [[]], {},
    {"a": None}, [None], ["x", 1], {"id": []},
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a document: the container and the key."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "name", ["certificate.json", "manifest.json", "report.json", "status.json", "resources.json"]
)
def test_strange_values_never_crash_it(
    name: str, signed: bool, release: Path, tmp_path: Path
) -> None:
    key = new_key(tmp_path / "key.pem")
    reissue(release, key)
    chance = np.random.default_rng(11)
    before = {path: path.read_bytes() for path in release.glob("*.json")}
    for _ in range(60):
        document = read_json(release / name)
        container, where = (every := places(document))[chance.integers(len(every))]
        strange = STRANGE[chance.integers(len(STRANGE))]
        if container[where] == strange:
            continue
        container[where] = strange
        (release / name).write_text(json.dumps(document))
        if signed and name == "certificate.json":
            with contextlib.suppress(ValueError, KeyError):
                unsigned = {k: v for k, v in document.items() if k != "proof"}
                signed_again = credential.sign(unsigned, key, datetime.now(UTC))
                (release / name).write_text(json.dumps(signed_again))
        elif signed:
            resign(release, key)
        verification = verify(release)
        assert signed or not verification.ok, (where, strange)
        assert all(line.isprintable() for line in verification.lines)
        for path, content in before.items():
            path.write_bytes(content)
