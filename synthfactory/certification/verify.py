"""Checking a release offline, by somebody who trusts none of it.

Nothing here needs the network, torch, dask or Hydra.  Every check reads the files again and
computes what it compares; the policy's decision is made again from the findings.  Whatever a file
holds, the answer is a list of checks, never a traceback.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthfactory.accounting import RESOURCES_FILE
from synthfactory.artifacts import digest_file, digest_json
from synthfactory.certification import attestations, credential, status
from synthfactory.certification.keys import keys_of
from synthfactory.certification.manifest import merkle_root
from synthfactory.certification.multibase import digest_multibase
from synthfactory.certification.needs import LEAST_CONFIDENCE
from synthfactory.certification.policy import Policy, decide
from synthfactory.errors import ReleaseError, SynthfactoryError

# No file outside data/ is larger.
MAX_PAPER_BYTES = 64 << 20
# Names that every file system and every reader tells apart alike.
PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+")
PART_NAME = re.compile(r"data/[A-Za-z0-9_-][A-Za-z0-9._-]*\.parquet")
# Parts are hashed side by side: hashing and reading both leave Python alone.
MAX_THREADS = 8
# No honest part unpacks to more bytes or cells than this for each of its own bytes, and a little.
MAX_UNPACKED, SMALL_BYTES = 1_000, 1 << 20
# What a hostile or broken file can make the reading code raise.
_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    SynthfactoryError,
    pa.ArrowException,
    zlib.error,
)


class _Fault(Exception):
    """What a check found to be wrong."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked, and what was found."""

    name: str
    ok: bool
    message: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome of all checks.

    Parameters
    ----------
    checks
        In the order in which they were made.
    issuer
        Who signed, as the certificate says.
    pinned
        Whether the caller named the issuer; without that anybody may have signed.
    """

    checks: tuple[Check, ...]
    issuer: str
    pinned: bool

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(check.ok for check in self.checks)

    @property
    def lines(self) -> list[str]:
        """The outcome for a terminal: a line for each failed check, or one that all hold."""
        failed = [
            _one_line(f"FAILED {check.name}: {check.message}")
            for check in self.checks
            if not check.ok
        ]
        if failed:
            return failed
        lines = [f"ok: all {len(self.checks)} checks hold; signed by {self.issuer}"]
        if not self.pinned:
            lines.append(
                "note: no issuer was named, so anybody may have signed; compare the issuer with "
                "the one you know, or use --issuer."
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "ok": self.ok,
            "issuer": self.issuer,
            "pinned": self.pinned,
            "checks": [asdict(check) for check in self.checks],
        }

    def __repr__(self) -> str:
        return "\n".join(["Verification", *(f"  {line}" for line in self.lines)])


def verify(
    path: str | Path,
    *,
    issuer: str | None = None,
    did_document: str | Path | None = None,
    status_list: str | Path | None = None,
    part: str | None = None,
    now: datetime | None = None,
) -> Verification:
    """Check a release folder.

    Parameters
    ----------
    path
        The ``release`` folder.
    issuer
        The ``did:key`` or ``did:web`` that must have signed.
    did_document
        A copy of the issuer's DID document from its own address; needed to pin a ``did:web``.
    status_list
        A fresher status list, from where the issuer hosts it; by default the release's own.
    part
        One part of the data, such as ``data/part-00017.parquet``, that is checked alone; the
        others need not be there.
    now
        The moment for which validity is checked.

    Raises
    ------
    ReleaseError
        When there is no such folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ReleaseError(f"There is no release folder {folder}.")
    inquiry = _Inquiry(
        folder,
        issuer=issuer,
        did_document=None if did_document is None else Path(did_document),
        status=None if status_list is None else Path(status_list),
        part=part,
        now=now or datetime.now(UTC),
    )
    checks = tuple(inquiry.run())
    return Verification(checks=checks, issuer=inquiry.signer, pinned=issuer is not None)


class _Inquiry:
    """Reads a release and compares."""

    def __init__(
        self,
        folder: Path,
        *,
        issuer: str | None,
        did_document: Path | None,
        status: Path | None,
        part: str | None,
        now: datetime,
    ) -> None:
        self._folder = folder
        self._pinned = issuer
        self._did_document = did_document
        self._status = status
        self._part = part
        self._keys: dict[str, str] = {}
        self._now = now
        self._documents: dict[str, dict[str, Any]] = {}

    @property
    def signer(self) -> str:
        """Who signed, as the certificate says."""
        issuer = self._documents.get(credential.CERTIFICATE, {}).get("issuer", "unknown")
        return issuer if isinstance(issuer, str) else "unknown"

    def run(self) -> Iterable[Check]:
        """Make every check that can be made."""
        steps: list[tuple[str, Callable[[], str]]] = [
            ("files", self._check_files),
            *((name, self._reader(name)) for name in (
                credential.CERTIFICATE, credential.MANIFEST, credential.REPORT, credential.STATUS,
                RESOURCES_FILE,
            )),
            ("keys", self._check_keys),
            ("proof", self._check_proof),
            ("issuer", self._check_issuer),
            ("shape", self._check_shape),
            ("validity", self._check_validity),
            ("status", self._check_status),
            ("manifest", self._check_manifest),
            ("data", self._check_data),
            ("digests", self._check_digests),
            ("report", self._check_report),
            ("decision", self._check_decision),
            ("attestations", self._check_attestations),
            ("claims", self._check_claims),
        ]  # fmt: skip
        for name, step in steps:
            try:
                yield Check(name=name, ok=True, message=step())
            except _Fault as fault:
                yield Check(name=name, ok=False, message=str(fault))
                if step == self._check_files:
                    return  # Reading on could follow a link or wait for a pipe for ever.
            except _BROKEN as error:
                said = " ".join(str(error).split())[:200]
                yield Check(name=name, ok=False, message=f"{type(error).__name__}: {said}")

    def _document(self, name: str) -> dict[str, Any]:
        if name not in self._documents:
            raise _Fault(f"{name} could not be read")
        return self._documents[name]

    def _reader(self, name: str) -> Callable[[], str]:
        def read() -> str:
            path = self._folder / name
            if not path.is_file():
                raise _Fault("the file is missing")
            self._documents[name] = strict_json(path)
            return "is JSON"

        return read

    def _check_files(self) -> str:
        """No links and nothing but plain files: what is checked is what is read."""
        n_files = 0
        seen: set[str] = set()
        if self._folder.is_symlink():
            raise _Fault("the release folder itself is a symbolic link")
        for root, folders, files in os.walk(self._folder, onerror=_unreadable):
            for entry in (*folders, *files):
                path = Path(root, entry)
                name = path.relative_to(self._folder).as_posix()
                if path.is_symlink():
                    raise _Fault(f"{name} is a symbolic link")
                if not (path.is_file() or path.is_dir()):
                    raise _Fault(f"{name} is no plain file")
                if not PLAIN_NAME.fullmatch(entry):
                    raise _Fault(f"{name!a} is no plain name: letters a-z, digits, '.', '_', '-'")
                if name.lower() in seen:
                    raise _Fault(f"{name} differs from another name in upper and lower case only")
                if path.stat().st_size > MAX_PAPER_BYTES and not name.startswith("data/"):
                    raise _Fault(f"{name} has more than {MAX_PAPER_BYTES >> 20} MiB")
                seen.add(name.lower())
                n_files += path.is_file()
        return f"{n_files} plain files"

    def _check_keys(self) -> str:
        """Which keys may sign for the issuer: its did:key, or those of its DID document."""
        issuer = self._document(credential.CERTIFICATE)["issuer"]
        if issuer.startswith("did:key:"):
            self._keys = {f"{issuer}#{issuer.removeprefix('did:key:')}": issuer}
            return "the issuer is a key"
        path = self._did_document or self._folder / credential.DID_DOCUMENT
        self._keys = keys_of(strict_json(path), issuer)
        if self._did_document is not None:
            shipped = strict_json(self._folder / credential.DID_DOCUMENT)
            if keys_of(shipped, issuer) != self._keys:
                raise _Fault("the release's did.json names other keys than the issuer publishes")
        return f"{len(self._keys)} of {issuer[:80]}"

    def _check_proof(self) -> str:
        """The certificate's signature, by the issuer that it names."""
        document = self._document(credential.CERTIFICATE)
        if not credential.proof_holds(document, self.signer, self._keys):
            raise _Fault("the signature does not fit the certificate: it was changed")
        return "Ed25519 signature holds"

    def _check_issuer(self) -> str:
        """The issuer is the one that the caller trusts."""
        if self._pinned is not None and self.signer != self._pinned:
            raise _Fault(f"signed by {self.signer[:80]}, expected {self._pinned}")
        if self._pinned and self._pinned.startswith("did:web:") and self._did_document is None:
            raise _Fault(
                "a did:web says nothing about its keys, and whoever forges a release forges its "
                "did.json too: name a copy that you fetched yourself with --did-document"
            )
        return self.signer if self._pinned else "not pinned"

    def _check_shape(self) -> str:
        """The contexts and types are those that this verifier understands."""
        document = self._document(credential.CERTIFICATE)
        contexts = [credential.CREDENTIALS_CONTEXT, credential.OUR_CONTEXT]
        if document["@context"] != contexts:
            raise _Fault("the certificate's @context is not the one that we know")
        if "SyntheticDataCertificate" not in document["type"]:
            raise _Fault("the certificate is of another type")
        index = strict_json(self._folder / "contexts" / "index.json")
        if index != credential.CONTEXTS:
            raise _Fault("contexts/index.json names other contexts than ours")
        for name in credential.CONTEXTS.values():
            ours = Path(credential.__file__).parent / "contexts" / name
            if digest_file(self._folder / "contexts" / name) != digest_file(ours):
                raise _Fault(f"contexts/{name} is not the published context")
        return "contexts and types are known"

    def _check_validity(self) -> str:
        document = self._document(credential.CERTIFICATE)
        return self._valid_now(document, "the certificate")

    def _valid_now(self, document: Mapping[str, Any], what: str) -> str:
        begin, end = (_moment(document[name]) for name in ("validFrom", "validUntil"))
        if self._now < begin:
            raise _Fault(f"{what} is valid from {document['validFrom']} only")
        if self._now > end:
            raise _Fault(
                f"{what} expired at {document['validUntil']}; ask the issuer for a new one"
            )
        return f"until {document['validUntil']}"

    def _check_status(self) -> str:
        """The status list is the issuer's, current, and has the certificate's bit unset."""
        entry = self._document(credential.CERTIFICATE)["credentialStatus"]
        document = self._document(credential.STATUS)
        if self._status is not None:
            document = strict_json(self._status)
        if document["id"] != entry["statusListCredential"]:
            raise _Fault("the status list is not the one that the certificate names")
        if document["issuer"] != self.signer:
            raise _Fault("the status list is by another issuer")
        if not credential.proof_holds(document, self.signer, self._keys):
            raise _Fault("the status list's signature does not fit: it was changed")
        self._valid_now(document, "the status list")
        listed = document["credentialSubject"]
        if listed["statusPurpose"] != entry["statusPurpose"]:
            raise _Fault("the status list has another purpose")
        bits = status.unpack(listed["encodedList"])
        index = int(entry["statusListIndex"])
        if len(bits) * 8 < credential.STATUS_BITS or not 0 <= index < len(bits) * 8:
            raise _Fault("the status list is too short")
        if bits[index // 8] & (0x80 >> (index % 8)):
            raise _Fault(f"the issuer has {status.state_of(document)} this certificate")
        return "not revoked"

    def _check_manifest(self) -> str:
        """The manifest's root and digest are computed again and equal the certificate's."""
        manifest = self._document(credential.MANIFEST)
        claimed = self._document(credential.CERTIFICATE)["credentialSubject"]["manifest"]
        parts = manifest["parts"]
        root = merkle_root(parts)
        for where, value in (
            ("manifest", manifest["merkleRoot"]),
            ("certificate", claimed["merkleRoot"]),
        ):
            if value != root:
                raise _Fault(f"the {where}'s Merkle root is not that of the parts")
        if (
            not manifest["schemaDigest"]
            == claimed["schemaDigest"]
            == digest_json(manifest["schema"])
        ):
            raise _Fault("the schema's digest does not fit")
        rows = sum(part["rows"] for part in parts)
        if (str(len(parts)), str(rows)) != (claimed["partCount"], claimed["rowCount"]):
            raise _Fault("the certificate names other numbers of parts or rows")
        subject = self._document(credential.CERTIFICATE)["credentialSubject"]["id"]
        if subject != f"urn:synthfactory:dataset:{root}":
            raise _Fault("the certificate is about another dataset")
        return f"root {root[:19]}..., {len(parts)} parts, {rows} rows"

    def _check_data(self) -> str:
        """Every part is there with its digest, size and rows, and nothing else is."""
        parts = self._document(credential.MANIFEST)["parts"]
        data = self._folder / "data"
        listed: set[str] = set()
        for part in parts:
            name = part["path"]
            if not isinstance(name, str) or not PART_NAME.fullmatch(name):
                raise _Fault(f"the manifest names a path outside data/: {ascii(name)[:80]}")
            if name in listed:
                raise _Fault(f"{name} is listed twice")
            listed.add(name)
        found = {path.relative_to(self._folder).as_posix() for path in data.rglob("*")}
        if self._part is not None:
            if self._part not in listed:
                raise _Fault(f"{self._part[:80]} is not in the manifest")
            found, listed = found & {self._part}, {self._part}
        for name in sorted(listed - found):
            raise _Fault(f"{name} is missing")
        for name in sorted(found - listed):
            raise _Fault(f"{name} is not in the manifest")
        asked = [part for part in parts if part["path"] in listed]
        for part in asked:
            size = (self._folder / part["path"]).stat().st_size
            if size != part["size"]:
                raise _Fault(f"{part['path']} has {size} bytes, expected {part['size']}")
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(self._check_part, asked):
                pass
        return f"{len(asked)} of {len(parts)} parts are whole"

    def _check_part(self, part: Mapping[str, Any]) -> None:
        path, name = self._folder / part["path"], part["path"]
        if digest_file(path) != f"sha256:{part['sha256']}":
            raise _Fault(f"{name} was changed: its digest differs")
        claimed = pq.read_metadata(path)
        if claimed.num_rows != part["rows"]:
            raise _Fault(f"{name} holds {claimed.num_rows} rows, expected {part['rows']}")
        columns = [
            column["name"] for column in self._document(credential.MANIFEST)["schema"]["columns"]
        ]
        if claimed.schema.names != columns:
            raise _Fault(f"{name} holds other columns than the manifest names")
        _check_claims_of_footer(name, claimed, part["size"])

    def _check_digests(self) -> str:
        """Every other file is named once, with its digest."""
        document = self._document(credential.CERTIFICATE)
        root = self._document(credential.MANIFEST)["merkleRoot"]
        prefix = f"urn:synthfactory:release:{root}/"
        named: dict[str, str] = {}
        for entry in document["relatedResource"]:
            name = entry["id"].removeprefix(prefix)
            if name == entry["id"] or name in named:
                raise _Fault(f"relatedResource {entry['id'][:80]!r} is foreign or named twice")
            named[name] = entry["digestMultibase"]
        present = set(credential.covered_files(self._folder))
        for name in sorted(present ^ set(named)):
            where = "is not covered by the certificate" if name in present else "is missing"
            raise _Fault(f"{name} {where}")
        for name, digest in sorted(named.items()):
            if digest_multibase(digest_file(self._folder / name)) != digest:
                raise _Fault(f"{name} was changed: its digest differs")
        (evidence,) = document["evidence"]
        if evidence["reportDigest"] != named[credential.REPORT]:
            raise _Fault("the evidence names another report")
        if evidence["attestationsDigest"] != named[attestations.FILE]:
            raise _Fault("the evidence names other attestations")
        return f"{len(named)} files are as they were signed"

    def _check_report(self) -> str:
        """The report is about this data and repeats the policy that the certificate names."""
        report = self._document(credential.REPORT)
        subject = self._document(credential.CERTIFICATE)["credentialSubject"]
        if report["manifest"]["merkleRoot"] != subject["manifest"]["merkleRoot"]:
            raise _Fault("the report is about other data")
        values = {name: value for name, value in report["policy"].items() if name != "digest"}
        policy = Policy.from_dict(values)
        if not policy.digest == report["policy"]["digest"] == subject["policy"]["policyDigest"]:
            raise _Fault("the policy in the report is not the one that the certificate names")
        if not (policy.id, policy.use_class) == (
            subject["policy"]["policyId"],
            subject["useClass"],
        ):
            raise _Fault("the certificate names another policy or use class")
        return f"policy {policy.id}"

    def _check_decision(self) -> str:
        """The policy is applied again to the findings: the verdict is not taken on trust."""
        report = self._document(credential.REPORT)
        values = {name: value for name, value in report["policy"].items() if name != "digest"}
        verdict = decide(report["findings"], Policy.from_dict(values))
        if not verdict.certified:
            failed = [reason.sentence for reason in verdict.reasons if not reason.passed]
            raise _Fault(f"the findings do not satisfy the policy: {failed[0]}")
        if report["verdict"] != verdict.to_dict():
            raise _Fault("the report's verdict is not what the policy decides")
        return f"{len(verdict.reasons)} rules hold"

    def _check_attestations(self) -> str:
        """Every statement is signed in its role, about this release, its policy and findings."""
        report = self._document(credential.REPORT)
        subject = self._document(credential.CERTIFICATE)["credentialSubject"]
        signed = attestations.read(self._folder / attestations.FILE)
        if len({item.line for item in signed}) != len(signed):
            raise _Fault("a statement stands twice")
        roles = subject["roles"]
        digest = digest_file(self._folder / credential.MANIFEST)
        manifest = {"sha256": digest.removeprefix("sha256:")}
        for item in signed:
            if roles[f"{item.role}Role"] != item.signer:
                raise _Fault(f"a statement of the {item.role} is signed by {item.signer[:60]}")
            if [about["digest"] for about in item.statement["subject"]] != [manifest]:
                raise _Fault(f"a statement of the {item.role} is about another release")
        if roles["controllerRole"] not in self._keys.values():
            raise _Fault("the controller's key is not the issuer's")
        said = {role: [item.statement for item in signed if item.role == role]
                for role in attestations.ROLES}  # fmt: skip
        if [len(said[role]) for role in attestations.ROLES] != [1, 4, 1]:
            raise _Fault("expected one provenance, four test results and one summary")
        expected = attestations.results(self._folder, report)
        if said[attestations.EVALUATOR] != expected:
            raise _Fault("the evaluator's test results are not those of the report")
        if any(item["predicate"]["result"] != "PASSED" for item in expected):
            raise _Fault("a test result says FAILED")
        others = [item.line for item in signed if item.role != attestations.CONTROLLER]
        (made,) = said[attestations.CONTROLLER]
        if made != attestations.summary(
            self._folder,
            report,
            subject["assuranceLevel"],
            verifier=self.signer,
            at=made["predicate"]["timeVerified"],
            inputs=others,
        ):
            raise _Fault("the controller's summary is not that of this release")
        (origin,) = said[attestations.GENERATOR]
        order = origin["predicate"]["buildDefinition"]["externalParameters"]
        if order != report["order"]:
            raise _Fault("the provenance names another order than the report")
        if subject["assuranceLevel"] == credential.INDEPENDENT_LEVEL and roles["evaluatorRole"] in (
            roles["generatorRole"],
            roles["controllerRole"],
        ):
            raise _Fault(f"{credential.INDEPENDENT_LEVEL} asks for an evaluator's key of its own")
        return f"{len(signed)} statements, {len(set(roles.values()))} signers"

    def _check_claims(self) -> str:
        """The certificate repeats findings and costs, and says what was not assessed."""
        report = self._document(credential.REPORT)
        subject = self._document(credential.CERTIFICATE)["credentialSubject"]
        if subject["findings"] != credential.certified_findings(report):
            raise _Fault("the certificate's findings are not the report's")
        if subject["assuranceLevel"] != report["policy"]["level"]:
            raise _Fault("the certificate claims another level than its policy gives")
        protocol = report["findings"].get("protocol")
        if not isinstance(protocol, dict):
            raise _Fault("the findings do not say how they were found: the protocol is missing")
        attempts = protocol["attempts"]
        if type(attempts) is not int or attempts < 1:
            raise _Fault(f"the findings name {str(attempts)[:40]} attempts")
        if subject["attempts"] != str(attempts):
            raise _Fault("the certificate names another number of attempts than the findings")
        asked = 1 - (1 - LEAST_CONFIDENCE) / attempts
        for item in report["findings"]["measurements"]:
            if not item["confidence"] >= asked - 1e-12:
                raise _Fault(
                    f"{item['id']} has an interval of {item['confidence']:g} confidence; "
                    f"{attempts} attempts ask for {asked:g}"
                )
        costs = credential.certified_resources(self._document(RESOURCES_FILE))
        if subject["resources"] != costs:
            raise _Fault(f"the certificate's resources are not those of {RESOURCES_FILE}")
        if not subject["notAssessed"]:
            raise _Fault("the certificate does not say what was not assessed")
        return "findings and costs agree"


def _check_claims_of_footer(name: str, claimed: pq.FileMetaData, size: int) -> None:
    """A reader trusts a Parquet footer with its memory: it must add up, and fit the file."""
    groups = [claimed.row_group(number) for number in range(claimed.num_row_groups)]
    if sum(group.num_rows for group in groups) != claimed.num_rows:
        raise _Fault(f"{name}: the rows in its footer do not add up")
    packed = unpacked = 0
    for group in groups:
        for place in range(group.num_columns):
            column = group.column(place)
            if column.num_values != group.num_rows:
                raise _Fault(f"{name}: a column in its footer has other rows than its group")
            packed += column.total_compressed_size
            unpacked += max(column.total_uncompressed_size, column.num_values)
    if packed > size or unpacked > size * MAX_UNPACKED + SMALL_BYTES:
        raise _Fault(f"{name} claims {unpacked:,} bytes or cells in a file of {size:,} bytes")


def strict_json(path: Path) -> dict[str, Any]:
    """A JSON object without repeated keys and without NaN; at most 64 MiB."""
    if path.stat().st_size > MAX_PAPER_BYTES:
        raise _Fault(f"{path.name} has more than {MAX_PAPER_BYTES >> 20} MiB")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(items)
        if len(document) != len(items):
            raise _Fault(f"{path.name} holds a key twice")
        return document

    def constant(name: str) -> Any:
        raise _Fault(f"{path.name} holds {name}")

    document = json.loads(path.read_bytes(), object_pairs_hook=pairs, parse_constant=constant)
    if not isinstance(document, dict):
        raise _Fault(f"{path.name} holds no JSON object")
    return document


def _unreadable(error: OSError) -> None:
    raise _Fault(f"{error.filename} cannot be read: {error.strerror}")


def _one_line(text: str) -> str:
    """Text from a release for a terminal: names cannot add lines or move the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
