"""Every way to bend a release that we could think of, with the check that must refuse it.

Two kinds: somebody who has no key changes files (`CASES`), and an issuer, or a stranger who forges
a whole release, signs what is not so (`SIGNED`).
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthfactory.artifacts import canonical_json, digest_file, digest_json, read_json, write_json
from synthfactory.certification import (
    IssuerKey,
    Signers,
    attestations,
    credential,
    issue_certificate,
    new_key,
)
from synthfactory.certification.manifest import merkle_root
from synthfactory.certification.multibase import base64url, digest_multibase
from synthfactory.ledger import FIRST, Plan

PLAN = Plan(attempts=1, entry=FIRST)
PART, OTHER = "data/part-00000.parquet", "data/part-00001.parquet"
METADATA = ("croissant.json", "ro-crate-metadata.json", "dcat.jsonld")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = read_json(path)
    change(document)
    write_json(path, document)


def flip_byte(release: Path) -> None:
    path = release / "data" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_parts(release: Path) -> None:
    first, second = sorted((release / "data").iterdir())[:2]
    first.rename(release / "swap")
    second.rename(first)
    (release / "swap").rename(second)


def remove_part_everywhere(release: Path) -> None:
    (release / "data" / "part-00001.parquet").unlink()
    edit(release / "manifest.json", lambda m: m["parts"].pop(1))
    edit(release / "manifest.json", lambda m: m.update(merkleRoot=merkle_root(m["parts"])))


def claim_more_rows(release: Path) -> None:
    edit(release / "manifest.json", lambda m: m["parts"][0].update(rows=10**9))


def better_finding(release: Path) -> None:
    edit(
        release / "report.json",
        lambda r: r["findings"]["measurements"][0].update(estimate=0.99, lcb=0.98),
    )


def weaker_policy(release: Path) -> None:
    edit(release / "report.json", lambda r: r["policy"]["rules"][0].update(value=0.9))


def longer_validity(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c.update(validUntil="2099-01-01T00:00:00Z"))


def other_level(release: Path) -> None:
    edit(
        release / "certificate.json",
        lambda c: c["credentialSubject"].update(assuranceLevel="SF-3"),
    )


def strip_proof(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c.pop("proof"))


def several_proofs(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c.update(proof=[c["proof"], c["proof"]]))


def foreign_context(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c["@context"].append("https://example.org/x"))


def other_issuer_name(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c.update(issuer="did:key:z6Mkfake"))


def empty_status(release: Path) -> None:
    edit(release / "status.json", lambda s: s["credentialSubject"].update(encodedList="uAAAA"))


def status_is_a_list(release: Path) -> None:
    (release / "status.json").write_text("[]")


def duplicate_key(release: Path) -> None:
    path = release / "certificate.json"
    path.write_text(path.read_text().replace("{", '{"issuer": "did:key:z6Mkfake",', 1))


def not_a_number(release: Path) -> None:
    edit(release / "manifest.json", lambda m: m["parts"][0].update(rows=0))
    path = release / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 0', '"rows": NaN'))


def path_traversal(release: Path) -> None:
    edit(release / "manifest.json", lambda m: m["parts"][0].update(path="data/../../x.parquet"))


def absolute_path(release: Path) -> None:
    edit(release / "manifest.json", lambda m: m["parts"][0].update(path="/etc/passwd"))


def piped_part(release: Path) -> None:
    path = release / "data" / "part-00000.parquet"
    path.unlink()
    os.mkfifo(path)
    edit(release / "manifest.json", lambda m: m["parts"][0].update(size=0))


def piped_context(release: Path) -> None:
    (release / "contexts" / "index.json").unlink()
    os.mkfifo(release / "contexts" / "index.json")


def endless_part(release: Path) -> None:
    path = release / "data" / "part-00000.parquet"
    path.unlink()
    path.symlink_to("/dev/zero")
    edit(release / "manifest.json", lambda m: m["parts"][0].update(size=0))


def symlinked_part(release: Path) -> None:
    path = release / "data" / "part-00000.parquet"
    shutil.copy(path, release.parent / "elsewhere.parquet")
    path.unlink()
    path.symlink_to(release.parent / "elsewhere.parquet")


def extra_file(release: Path) -> None:
    (release / "data" / "part-99999.parquet").write_bytes(b"PAR1")


def extra_page(release: Path) -> None:
    (release / "notes.html").write_text("<p>certified for everything</p>")


def changed_page(release: Path) -> None:
    path = release / "report.html"
    path.write_text(path.read_text().replace("</body>", "<p>SF-3</p></body>"))


def truncated_part(release: Path) -> None:
    path = release / "data" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:1_000])


def changed_context(release: Path) -> None:
    edit(release / "contexts" / "certificate-v1.jsonld", lambda c: c["@context"].pop("findings"))


def deep_nesting(release: Path) -> None:
    (release / "report.json").write_text('{"a":' * 100_000)


def no_report(release: Path) -> None:
    (release / "report.json").unlink()


def cheaper(release: Path) -> None:
    edit(release / "resources.json", lambda r: r["total"].update(cpu_used_h=0.0))


def no_costs(release: Path) -> None:
    (release / "resources.json").unlink()


def metadata_file(name: str, old: str, new: str) -> Callable[[Path], None]:
    """A word changed in a metadata file."""

    def bend(release: Path) -> None:
        content = (release / name).read_text()
        assert old in content
        (release / name).write_text(content.replace(old, new, 1))

    bend.__name__ = f"changed_{name.split('.')[0].replace('-', '_')}"
    return bend


def no_metadata(release: Path) -> None:
    (release / "croissant.json").unlink()


def no_attestations(release: Path) -> None:
    (release / attestations.FILE).unlink()


def lines_of(release: Path) -> list[bytes]:
    return (release / attestations.FILE).read_bytes().splitlines()


def attestation_added(release: Path) -> None:
    statement = attestations.open_envelope(lines_of(release)[1]).statement
    forged = attestations.envelope(statement, new_key(release.parent / "stranger.pem"))
    attestations.write(release / attestations.FILE, [*lines_of(release), forged])


def attestation_removed(release: Path) -> None:
    attestations.write(release / attestations.FILE, lines_of(release)[:-1])


def attestation_twice(release: Path) -> None:
    attestations.write(release / attestations.FILE, [*lines_of(release), lines_of(release)[1]])


def attestation_of_one_replayed(release: Path) -> None:
    first, *rest = lines_of(release)
    attestations.write(release / attestations.FILE, [first, rest[0], rest[0], *rest[2:]])


def attestation_with_a_changed_payload(release: Path) -> None:
    first, *rest = lines_of(release)
    sealed = json.loads(first)
    payload = base64.b64decode(sealed["payload"]).replace(b"manifest.json", b"manifest.jsom")
    sealed["payload"] = base64.b64encode(payload).decode()
    attestations.write(release / attestations.FILE, [canonical_json(sealed), *rest])


def attestations_without_end(release: Path) -> None:
    with (release / attestations.FILE).open("ab") as file:
        file.truncate(10 << 30)


def huge_json(release: Path) -> None:
    with (release / "report.json").open("ab") as file:
        file.truncate(10 << 30)


def long_list(release: Path) -> None:
    (release / "report.json").write_text("[" + "0," * 8_000_000 + "0]")


def wide_number(release: Path) -> None:
    path = release / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 1000', '"rows": 1' + "0" * 5_000))


def infinite_number(release: Path) -> None:
    path = release / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 1000', '"rows": 1e999'))


def key_twice_in_report(release: Path) -> None:
    path = release / "report.json"
    path.write_text(path.read_text().replace("{", '{"verdict": {"certified": true},', 1))


def key_twice_in_status(release: Path) -> None:
    path = release / "status.json"
    path.write_text(path.read_text().replace("{", '{"issuer": "did:key:z6Mkfake",', 1))


def attempts_lowered(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c["credentialSubject"].update(attempts="0"))


def attempts_lowered_in_the_report(release: Path) -> None:
    edit(release / "report.json", lambda r: r["findings"]["protocol"].update(attempts=0))


def not_assessed_emptied(release: Path) -> None:
    edit(release / "certificate.json", lambda c: c["credentialSubject"].update(notAssessed=[]))


def signature_of_the_status(release: Path) -> None:
    status = read_json(release / "status.json")["proof"]
    edit(release / "certificate.json", lambda c: c.update(proof=status))


def no_status(release: Path) -> None:
    (release / "status.json").unlink()


def longer_status(release: Path) -> None:
    edit(release / "status.json", lambda s: s.update(validUntil="2099-01-01T00:00:00Z"))


def bomb_in_the_status(release: Path) -> None:
    packed = base64url(gzip.compress(bytes(1 << 28)))
    edit(release / "status.json", lambda s: s["credentialSubject"].update(encodedList=packed))


def other_rows(release: Path) -> None:
    """Rows of the same shape; the manifest is made to fit, the certificate cannot be."""
    table = pq.read_table(release / PART)
    pq.write_table(table.take(list(reversed(range(table.num_rows)))), release / PART)
    describe_parts(release)


def symlinked_folder(release: Path) -> None:
    (release / "data").rename(release.parent / "elsewhere")
    (release / "data").symlink_to(release.parent / "elsewhere")


def symlinked_release(release: Path) -> None:
    release.rename(release.parent / "elsewhere")
    release.symlink_to(release.parent / "elsewhere")


def symlinked_certificate(release: Path) -> None:
    (release / "certificate.json").rename(release.parent / "elsewhere.json")
    (release / "certificate.json").symlink_to(release.parent / "elsewhere.json")


def dangling_link(release: Path) -> None:
    (release / "data" / "more.parquet").symlink_to("nowhere")


def upper_case_twin(release: Path) -> None:
    shutil.copy(release / "report.json", release / "Report.json")


def upper_case_part(release: Path) -> None:
    shutil.copy(release / PART, release / "data" / "PART-00000.parquet")


def look_alike_name(release: Path) -> None:
    (release / "rep\u043ert.json").write_text("{}")


def look_alike_part(release: Path) -> None:
    path = release / "data" / "p\u0430rt-00000.parquet"
    (release / PART).rename(path)
    edit(release / "manifest.json", lambda m: m["parts"][0].update(path=f"data/{path.name}"))


def folder_in_data(release: Path) -> None:
    (release / "data" / "more").mkdir()
    shutil.copy(release / PART, release / "data" / "more" / "part-00000.parquet")


def hidden_file(release: Path) -> None:
    (release / "data" / ".part-00009.parquet").write_bytes(b"PAR1")


def no_data(release: Path) -> None:
    shutil.rmtree(release / "data")


def part_is_a_folder(release: Path) -> None:
    (release / PART).unlink()
    (release / PART).mkdir()


def certificate_is_a_folder(release: Path) -> None:
    (release / "certificate.json").unlink()
    (release / "certificate.json").mkdir()


def no_utf8(release: Path) -> None:
    path = release / "report.json"
    path.write_bytes(path.read_bytes().replace(b"{", b'{"a": "\xff",', 1))


def describe_parts(release: Path) -> None:
    """Make the manifest fit the parts that lie there."""

    def change(manifest: dict[str, Any]) -> None:
        for part in manifest["parts"]:
            path = release / part["path"]
            part["size"] = path.stat().st_size
            part["sha256"] = digest_file(path).removeprefix("sha256:")
        manifest["merkleRoot"] = merkle_root(manifest["parts"])

    edit(release / "manifest.json", change)


def reissue(
    release: Path,
    key: IssuerKey | Signers,
    *,
    report: Callable[[dict[str, Any]], object] = lambda report: None,
    certificate: Callable[[dict[str, Any]], object] = lambda certificate: None,
) -> None:
    """Sign a whole release anew, after its manifest, its report or its certificate was changed."""
    signers = Signers.of(key)
    manifest = read_json(release / "manifest.json")
    rows = sum(part["rows"] for part in manifest["parts"])
    edit(
        release / "report.json",
        lambda r: r["manifest"].update(
            merkleRoot=manifest["merkleRoot"], parts=len(manifest["parts"]), rows=rows
        ),
    )
    origin = attestations.open_envelope(lines_of(release)[0]).statement
    origin["subject"][0]["digest"]["sha256"] = digest_file(release / "manifest.json")[7:]
    edit(release / "report.json", report)
    results = attestations.results(release, read_json(release / "report.json"))
    attestations.write(
        release / attestations.FILE,
        [
            attestations.envelope(origin, signers.generator),
            *(attestations.envelope(item, signers.evaluator) for item in results),
        ],
    )
    for name in ("certificate.json", "status.json"):
        (release / name).unlink(missing_ok=True)
    shutil.rmtree(release / "contexts")
    document = issue_certificate(release, key=key, plan=PLAN)
    del document["proof"]
    certificate(document)
    now = datetime.now(UTC)
    write_json(release / "certificate.json", credential.sign(document, signers.controller, now))


def policy_of(report: dict[str, Any], **changes: Any) -> None:
    """Another policy with a digest that fits."""
    report["policy"].update(changes)
    plain = {name: value for name, value in report["policy"].items() if name != "digest"}
    report["policy"]["digest"] = digest_json(plain)


def parquet_footer(release: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a part's footer, which thrift's compact protocol holds, and its length."""
    content = (release / PART).read_bytes()
    (length,) = struct.unpack("<I", content[-8:-4])
    footer = change(content[-8 - length : -8])
    end = footer + struct.pack("<I", len(footer)) + b"PAR1"
    (release / PART).write_bytes(content[: -8 - length] + end)
    describe_parts(release)


def varint(number: int) -> bytes:
    """A number as thrift's compact protocol writes it: zigzag, seven bits a byte.

    >>> varint(1_000).hex()
    'd00f'
    """
    number <<= 1
    digits = b""
    while number > 127:
        digits += bytes([number & 127 | 128])
        number >>= 7
    return digits + bytes([number])


def signed_more_rows(n_rows: int, *, everywhere: bool) -> Callable[[Path, IssuerKey], None]:
    """A footer, and a manifest, that claim more rows than there are."""

    def bend(release: Path, key: IssuerKey) -> None:
        old, new = varint(1_000), varint(n_rows)
        parquet_footer(release, lambda footer: footer.replace(old, new, -1 if everywhere else 1))
        assert pq.read_metadata(release / PART).num_rows == n_rows
        edit(release / "manifest.json", lambda m: m["parts"][0].update(rows=n_rows))
        describe_parts(release)
        reissue(release, key)

    bend.__name__ = f"rows_{n_rows}_{'everywhere' if everywhere else 'in_the_footer_alone'}"
    return bend


def signed_2_60_rows(release: Path, key: IssuerKey) -> None:
    """More rows than a manifest can say: it keeps its own number."""
    parquet_footer(release, lambda footer: footer.replace(varint(1_000), varint(2**60)))
    reissue(release, key)


def signed_claim_of_10_gb(release: Path, key: IssuerKey) -> None:
    """A footer that says that a column unpacks to 10 GB."""
    old = pq.read_metadata(release / PART).row_group(0).column(0).total_uncompressed_size
    parquet_footer(release, lambda footer: footer.replace(varint(old), varint(10 << 30), 1))
    reissue(release, key)


def signed_bomb(release: Path, key: IssuerKey) -> None:
    """A part of some kilobytes that unpacks to 100 MB, as it says itself."""
    schema = pq.read_schema(release / PART)
    n_rows = 1_000
    first, *others = schema.names
    columns = {first: pa.array([" " * 100_000] * n_rows)}
    columns |= {name: pa.nulls(n_rows, schema.field(name).type) for name in others}
    pq.write_table(pa.table(columns), release / PART, compression="zstd", use_dictionary=False)
    describe_parts(release)
    reissue(release, key)


def signed_truncated_part(release: Path, key: IssuerKey) -> None:
    content = (release / PART).read_bytes()
    (release / PART).write_bytes(content[: len(content) // 2])
    describe_parts(release)
    reissue(release, key)


def signed_text_as_a_part(release: Path, key: IssuerKey) -> None:
    (release / PART).write_text("age,region\n1,north\n")
    describe_parts(release)
    reissue(release, key)


def signed_other_columns(release: Path, key: IssuerKey) -> None:
    table = pq.read_table(release / PART)
    pq.write_table(table.rename_columns([*table.column_names[:-1], "name"]), release / PART)
    describe_parts(release)
    reissue(release, key)


def signed_twin_parts(release: Path, key: IssuerKey) -> None:
    shutil.copy(release / PART, release / "data" / "PART-00000.parquet")
    edit(
        release / "manifest.json",
        lambda m: m["parts"].append({**m["parts"][0], "path": "data/PART-00000.parquet"}),
    )
    describe_parts(release)
    reissue(release, key)


def signed_traversal(release: Path, key: IssuerKey) -> None:
    (release / PART).rename(release.parent / "outside.parquet")
    edit(
        release / "manifest.json",
        lambda m: m["parts"][0].update(path="data/../../outside.parquet"),
    )
    describe_parts(release)
    reissue(release, key)


def signed_report(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, IssuerKey], None]:
    return lambda release, key: reissue(release, key, report=change)


def signed_certificate(
    change: Callable[[dict[str, Any]], object],
) -> Callable[[Path, IssuerKey], None]:
    return lambda release, key: reissue(release, key, certificate=change)


def measurements(report: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = report["findings"]["measurements"]
    return found


def lower_confidence(report: dict[str, Any]) -> None:
    for item in measurements(report):
        item["confidence"] = 0.5


def lower_confidence_for_attempts(report: dict[str, Any]) -> None:
    report["findings"]["protocol"]["attempts"] = 20


def leaking(report: dict[str, Any]) -> None:
    for item in measurements(report):
        if item["id"] == "privacy.exact_match":
            item.update(estimate=0.9, lcb=0.8, ucb=1.0)


def unmeasured(report: dict[str, Any]) -> None:
    report["findings"]["measurements"] = [
        item for item in measurements(report) if item["id"] != "privacy.exact_match"
    ]


def broken_instrument(report: dict[str, Any]) -> None:
    for item in report["findings"]["instrument"]:
        item["flagged"] = not item["expected"]


def subject(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda certificate: certificate["credentialSubject"].update(changes)


def foreign_data(certificate: dict[str, Any]) -> None:
    certificate["credentialSubject"]["id"] = "urn:synthfactory:dataset:sha256:" + "00" * 32


def uncovered(certificate: dict[str, Any]) -> None:
    certificate["relatedResource"].pop(0)


def covered_twice(certificate: dict[str, Any]) -> None:
    certificate["relatedResource"].append(certificate["relatedResource"][0])


def covered_outside(certificate: dict[str, Any]) -> None:
    root = certificate["credentialSubject"]["manifest"]["merkleRoot"]
    certificate["relatedResource"][0]["id"] = f"urn:synthfactory:release:{root}/../../etc/passwd"


def other_evidence(certificate: dict[str, Any]) -> None:
    digest = certificate["relatedResource"][0]["digestMultibase"]
    certificate["evidence"][0]["reportDigest"] = digest


def expired(certificate: dict[str, Any]) -> None:
    certificate["validUntil"] = "2020-01-01T00:00:00Z"


def status_entry(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda certificate: certificate["credentialStatus"].update(changes)


def signed_status(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, IssuerKey], None]:
    """A status list that its issuer signed, and that does not fit."""

    def bend(release: Path, key: IssuerKey) -> None:
        reissue(release, key)
        document = read_json(release / "status.json")
        del document["proof"]
        change(document)
        signed = credential.sign(document, key, datetime.now(UTC))
        write_json(release / "status.json", signed)

    return bend


def stale(status: dict[str, Any]) -> None:
    before = datetime.now(UTC) - timedelta(days=200)
    status["validFrom"] = before.strftime("%Y-%m-%dT%H:%M:%SZ")
    status["validUntil"] = (before + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")


def other_list(status: dict[str, Any]) -> None:
    status["id"] = "urn:synthfactory:status:sha256:" + "00" * 32


def highest_level_with_one_key(release: Path, key: IssuerKey) -> None:
    """What `issue_certificate` refuses to sign: signed by hand."""
    reissue(release, key, certificate=subject(assuranceLevel=credential.INDEPENDENT_LEVEL))


def statement(place: int, change: Callable[[dict[str, Any]], object]) -> Any:
    """One statement changed, signed by the right key, and everything else signed again over it."""

    def bend(release: Path, key: IssuerKey) -> None:
        reissue(release, key)
        lines = lines_of(release)
        document = attestations.open_envelope(lines[place]).statement
        change(document)
        lines[place] = attestations.envelope(document, key)
        attestations.write(release / attestations.FILE, lines)
        resign(release, key)

    return bend


def statements(choose: Callable[[list[bytes]], Sequence[bytes]]) -> Any:
    """Statements added, left out or repeated, and the certificate signed again over them."""

    def bend(release: Path, key: IssuerKey) -> None:
        reissue(release, key)
        attestations.write(release / attestations.FILE, choose(lines_of(release)))
        resign(release, key)

    return bend


def foreign_statement(release: Path, key: IssuerKey) -> None:
    """A test result by a key that has no role."""
    reissue(release, key)
    lines = lines_of(release)
    stranger = new_key(release.parent / "stranger.pem")
    lines[1] = attestations.envelope(attestations.open_envelope(lines[1]).statement, stranger)
    attestations.write(release / attestations.FILE, lines)
    resign(release, key)


def resign(release: Path, key: IssuerKey) -> None:
    """Sign the certificate again over the files as they are now."""
    document = read_json(release / "certificate.json")
    del document["proof"]
    for entry in document["relatedResource"]:
        name = entry["id"].rsplit("/", 1)[1]
        if (release / name).is_file():
            entry["digestMultibase"] = digest_multibase(digest_file(release / name))
    digest = digest_multibase(digest_file(release / attestations.FILE))
    document["evidence"][0]["attestationsDigest"] = digest
    write_json(release / "certificate.json", credential.sign(document, key, datetime.now(UTC)))


CASES: dict[Callable[[Path], None], str] = {
    flip_byte: "data",
    swap_parts: "data",
    remove_part_everywhere: "manifest",
    claim_more_rows: "manifest",
    better_finding: "digests",
    weaker_policy: "digests",
    longer_validity: "proof",
    other_level: "proof",
    strip_proof: "proof",
    several_proofs: "proof",
    foreign_context: "proof",
    other_issuer_name: "proof",
    empty_status: "status",
    status_is_a_list: "status.json",
    duplicate_key: "certificate.json",
    not_a_number: "manifest.json",
    path_traversal: "data",
    absolute_path: "data",
    symlinked_part: "files",
    piped_part: "files",
    piped_context: "files",
    endless_part: "files",
    extra_file: "data",
    extra_page: "digests",
    changed_page: "digests",
    truncated_part: "data",
    changed_context: "shape",
    deep_nesting: "report.json",
    no_report: "report.json",
    cheaper: "digests",
    no_costs: "resources.json",
    attempts_lowered: "proof",
    attempts_lowered_in_the_report: "digests",
    not_assessed_emptied: "proof",
    signature_of_the_status: "proof",
    metadata_file("croissant.json", "certificate can be revoked", "certificate holds for ever"): (
        "digests"
    ),
    metadata_file("ro-crate-metadata.json", "CompletedActionStatus", "FailedActionStatus"): (
        "digests"
    ),
    metadata_file("dcat.jsonld", "RESTRICTED", "PUBLIC"): "digests",
    no_metadata: "digests",
    no_attestations: "digests",
    attestation_added: "attestations",
    attestation_removed: "attestations",
    attestation_twice: "attestations",
    attestation_of_one_replayed: "attestations",
    attestation_with_a_changed_payload: "attestations",
    attestations_without_end: "files",
    huge_json: "files",
    long_list: "report.json",
    wide_number: "manifest.json",
    infinite_number: "manifest",
    key_twice_in_report: "report.json",
    key_twice_in_status: "status.json",
    no_status: "status.json",
    longer_status: "status",
    bomb_in_the_status: "status",
    other_rows: "manifest",
    symlinked_folder: "files",
    symlinked_release: "files",
    symlinked_certificate: "files",
    dangling_link: "files",
    upper_case_twin: "files",
    upper_case_part: "files",
    look_alike_name: "files",
    look_alike_part: "files",
    folder_in_data: "data",
    hidden_file: "data",
    no_data: "data",
    part_is_a_folder: "data",
    certificate_is_a_folder: "certificate.json",
    no_utf8: "report.json",
}

SIGNED: dict[str, tuple[Callable[[Path, IssuerKey], None], str]] = {
    "2^60 rows in the footer": (signed_2_60_rows, "data"),
    "2^50 rows in the footer": (signed_more_rows(2**50, everywhere=False), "data"),
    "2^50 rows in the footer and its columns": (signed_more_rows(2**50, everywhere=True), "data"),
    "a footer that claims 10 GB": (signed_claim_of_10_gb, "data"),
    "a part that unpacks to far more": (signed_bomb, "data"),
    "a truncated part": (signed_truncated_part, "data"),
    "a text as a part": (signed_text_as_a_part, "data"),
    "other columns": (signed_other_columns, "data"),
    "parts that differ in case": (signed_twin_parts, "files"),
    "a path outside the release": (signed_traversal, "data"),
    "a lower confidence": (signed_report(lower_confidence), "claims"),
    "more attempts at the same confidence": (
        signed_report(lower_confidence_for_attempts),
        "claims",
    ),
    "half an attempt": (
        signed_report(lambda r: r["findings"]["protocol"].update(attempts=0.5)),
        "claims",
    ),
    "no attempt": (
        signed_report(lambda r: r["findings"]["protocol"].update(attempts=0)),
        "claims",
    ),
    "findings without the protocol": (
        signed_report(lambda r: r["findings"].pop("protocol")),
        "claims",
    ),
    "findings that fail the policy": (signed_report(leaking), "decision"),
    "a ruled measurement left out": (signed_report(unmeasured), "decision"),
    "an instrument that does not work": (signed_report(broken_instrument), "decision"),
    "a policy without rules": (signed_report(lambda r: policy_of(r, rules=[])), "report"),
    "a level that the rules do not give": (
        signed_report(lambda r: policy_of(r, level="SF-2")),
        "report",
    ),
    "another order": (signed_report(lambda r: r["order"].update(seed=99)), "attestations"),
    "a verdict that is kinder": (
        signed_report(lambda r: r["verdict"]["reasons"][0].update(sentence="fine")),
        "decision",
    ),
    "a level raised": (signed_certificate(subject(assuranceLevel="SF-2")), "claims"),
    "SF-3 with one key": (highest_level_with_one_key, "attestations"),
    "fewer attempts": (signed_certificate(subject(attempts="0")), "claims"),
    "nothing left unassessed": (signed_certificate(subject(notAssessed=[])), "claims"),
    "findings of its own": (signed_certificate(subject(findings=[])), "claims"),
    "a wider use": (signed_certificate(subject(useClass="open")), "report"),
    "other data": (signed_certificate(foreign_data), "manifest"),
    "a file that is not covered": (signed_certificate(uncovered), "digests"),
    "a file that is covered twice": (signed_certificate(covered_twice), "digests"),
    "a covered file outside": (signed_certificate(covered_outside), "digests"),
    "the evidence of another report": (signed_certificate(other_evidence), "digests"),
    "an expired certificate": (signed_certificate(expired), "validity"),
    "an index beyond the list": (
        signed_certificate(status_entry(statusListIndex="9999999999")),
        "status",
    ),
    "a negative index": (signed_certificate(status_entry(statusListIndex="-1")), "status"),
    "a stale status list": (signed_status(stale), "status"),
    "the status list of another release": (signed_status(other_list), "status"),
    "a status list of another purpose": (
        signed_status(lambda s: s["credentialSubject"].update(statusPurpose="message")),
        "status",
    ),
    "another release's provenance": (
        statement(0, lambda s: s["subject"][0]["digest"].update(sha256="00" * 32)),
        "attestations",
    ),
    "an older verification": (
        statement(5, lambda s: s["predicate"].update(verifiedLevels=["SF-3"])),
        "attestations",
    ),
    "a test result left out": (
        statements(lambda lines: [*lines[:1], *lines[2:]]),
        "attestations",
    ),
    "a test result twice": (statements(lambda lines: [*lines, lines[1]]), "attestations"),
    "no provenance": (statements(lambda lines: lines[1:]), "attestations"),
    "a test result by a stranger": (foreign_statement, "attestations"),
}
