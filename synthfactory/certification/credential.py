"""The certificate: a W3C Verifiable Credential 2.0 with an ``eddsa-jcs-2022`` proof.

https://www.w3.org/TR/vc-data-model-2.0/ and https://www.w3.org/TR/vc-di-eddsa/, section 3.3.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from synthfactory import __version__
from synthfactory.accounting import RESOURCES_FILE
from synthfactory.artifacts import canonical_json, digest_file, read_json, write_json
from synthfactory.certification import attestations
from synthfactory.certification.attestations import Signers
from synthfactory.certification.keys import IssuerKey, did_document, verifies
from synthfactory.certification.multibase import (
    base58_decode,
    base58_encode,
    base64url,
    digest_multibase,
)
from synthfactory.errors import ReleaseError

CREDENTIALS_CONTEXT = "https://www.w3.org/ns/credentials/v2"
OUR_CONTEXT = "https://w3id.org/synthfactory/certificate/v1"
CONTEXTS = {OUR_CONTEXT: "certificate-v1.jsonld"}
CRYPTOSUITE = "eddsa-jcs-2022"
VALID_DAYS = 365
# A key that was stolen signs no fresh list: a verifier refuses one that is older.
STATUS_DAYS = 90
STATUS_BITS = 131_072
CERTIFICATE, STATUS, MANIFEST, REPORT = (
    "certificate.json",
    "status.json",
    "manifest.json",
    "report.json",
)
DID_DOCUMENT = "did.json"
# The level for which generator and controller may not test their own data.
INDEPENDENT_LEVEL = "SF-3"
NOT_COVERED = (CERTIFICATE, STATUS)
MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
}
DEVELOPMENT_NOTE = (
    "Signed with a development key that this tool made by itself: it proves that the files belong "
    "together, not who vouches for them."
)


class APlan(Protocol):
    """Where a release stands in the ledger of its table; `synthfactory.ledger.Plan` is one."""

    @property
    def attempts(self) -> int: ...
    @property
    def entry(self) -> str: ...


def issue_certificate(
    folder: Path,
    *,
    key: IssuerKey | Signers,
    plan: APlan,
    describe: Callable[[Path], None] = lambda folder: None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Complete a release folder that holds data, manifest, report and costs; this comes last.

    Parameters
    ----------
    folder
        With ``data/``, ``manifest.json``, ``report.json``, ``report.html``, ``resources.json``,
        and the attestations of generator and evaluator.
    key
        The issuer's, or the keys of the three roles.
    plan
        How many candidates were planned for the table, and the entry of the ledger that says so.
    describe
        Called when only the certificate and its status are missing, to write the metadata that
        name all other files.
    now
        When it is issued.

    Returns
    -------
    dict
        The certificate, also written to ``certificate.json``.
    """
    signers = Signers.of(key)
    issuer = signers.controller
    begin = (now or datetime.now(UTC)).replace(microsecond=0)
    manifest, report = read_json(folder / MANIFEST), read_json(folder / REPORT)
    resources = read_json(folder / RESOURCES_FILE)
    root = manifest["merkleRoot"]
    _copy_contexts(folder)
    roles = _summarise(folder, report, issuer, begin)
    if issuer.web is not None:
        write_json(folder / DID_DOCUMENT, did_document(issuer))
    describe(folder)
    status_id = f"urn:synthfactory:status:{root}"
    write_json(folder / STATUS, sign(status_list(status_id, issuer, begin), issuer, begin))
    credential = {
        "@context": [CREDENTIALS_CONTEXT, OUR_CONTEXT],
        "id": f"urn:synthfactory:certificate:{root}",
        "type": ["VerifiableCredential", "SyntheticDataCertificate"],
        "issuer": issuer.did,
        "validFrom": _time(begin),
        "validUntil": _time(begin + timedelta(days=VALID_DAYS)),
        "credentialStatus": {
            "id": f"{status_id}#0",
            "type": "BitstringStatusListEntry",
            "statusPurpose": "revocation",
            "statusListIndex": "0",
            "statusListCredential": status_id,
        },
        "credentialSubject": _subject(manifest, report, issuer, roles, resources, plan),
        "evidence": [
            {
                "id": f"urn:synthfactory:evaluation:{root}",
                "type": ["SyntheticDataEvaluation"],
                "reportDigest": digest_multibase(digest_file(folder / REPORT)),
                "attestationsDigest": digest_multibase(digest_file(folder / attestations.FILE)),
            }
        ],
        "relatedResource": [
            {
                "id": f"urn:synthfactory:release:{root}/{name}",
                "digestMultibase": digest_multibase(digest_file(folder / name)),
                "mediaType": MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream"),
            }
            for name in covered_files(folder)
        ],
    }
    signed = sign(credential, issuer, begin)
    write_json(folder / CERTIFICATE, signed)
    return signed


def check_evaluator(level: str, evaluator: str, others: Sequence[str]) -> None:
    """Refuse an evaluator who has another role too, where the level asks for independence.

    Parameters
    ----------
    level
        The policy's.
    evaluator, others
        The signing keys' identifiers, of the evaluator and of the other roles.

    Raises
    ------
    ReleaseError
        With what to do.
    """
    if level == INDEPENDENT_LEVEL and evaluator in others:
        raise ReleaseError(
            f"{level} asks for an evaluator with a key of their own: set issuer.evaluator_key, or "
            "have them run `synthfactory attest RUN --role evaluator --key THEIR_KEY`."
        )


def _summarise(
    folder: Path, report: Mapping[str, Any], issuer: IssuerKey, begin: datetime
) -> dict[str, str]:
    """Add the controller's summary to the attestations; returns who signed in which role.

    Raises
    ------
    ReleaseError
        When an attestation is missing, or the level asks for an evaluator of their own.
    """
    path = folder / attestations.FILE
    signed = [item for item in attestations.read(path) if item.role != attestations.CONTROLLER]
    roles = {item.role: item.signer for item in signed}
    for role in (attestations.GENERATOR, attestations.EVALUATOR):
        if role not in roles:
            raise ReleaseError(f"The {role}'s attestation is missing in {attestations.FILE}.")
    level = report["policy"]["level"]
    check_evaluator(
        level, roles[attestations.EVALUATOR], (roles[attestations.GENERATOR], issuer.key_did)
    )
    lines = [item.line for item in signed]
    summary = attestations.summary(
        folder, report, level, verifier=issuer.did, at=_time(begin), inputs=lines
    )
    attestations.write(path, [*lines, attestations.envelope(summary, issuer)])
    return {**roles, attestations.CONTROLLER: issuer.key_did}


def covered_files(folder: Path) -> list[str]:
    """Files that the certificate covers itself: all but the two signed ones and the data parts."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(
        name for name in names if name not in NOT_COVERED and not name.startswith("data/")
    )


def _subject(
    manifest: Mapping[str, Any],
    report: Mapping[str, Any],
    issuer: IssuerKey,
    roles: Mapping[str, str],
    resources: Mapping[str, Any],
    plan: APlan,
) -> dict[str, Any]:
    """What is claimed about the data; numbers are texts, so that every reader sees the same."""
    parts = manifest["parts"]
    policy, findings = report["policy"], report["findings"]
    controls = findings["instrument"]
    return {
        "id": f"urn:synthfactory:dataset:{manifest['merkleRoot']}",
        "type": "SyntheticDataset",
        "manifest": {
            "merkleRoot": manifest["merkleRoot"],
            "merkleAlgorithm": "RFC6962-SHA256",
            "partCount": str(len(parts)),
            "rowCount": str(sum(part["rows"] for part in parts)),
            "schemaDigest": manifest["schemaDigest"],
        },
        "releaseScope": "data-only",
        "useClass": policy["use_class"],
        "assuranceLevel": policy["level"],
        "policy": {
            "policyId": policy["id"],
            "policyVersion": policy["version"],
            "policyDigest": policy["digest"],
        },
        "attempts": str(plan.attempts),
        "planDigest": plan.entry,
        "adversary": {
            "access": "the released rows, and none of the model",
            "auxiliary": "for attribute inference, every other column of a person; for distances "
            "and copies, whole rows of candidates",
            "actor": "a person with common machine-learning tools",
        },
        "controls": {
            "positive": [c["id"] for c in controls if c["kind"] == "positive" and c["flagged"]],
            "negative": [c["id"] for c in controls if c["kind"] == "negative" and not c["flagged"]],
        },
        "findings": certified_findings(report),
        "differentialPrivacy": {"claimed": "no"},
        "notAssessed": [item["what"] for item in report["notAssessed"]],
        "roles": {f"{role}Role": signer for role, signer in roles.items()},
        "generator": {
            "generatorName": report["generator"]["name"],
            "generatorLicence": report["generator"]["licence"],
            "generatorPackage": report["generator"]["package"],
            "generatorVersion": report["generator"]["version"],
        },
        "resources": certified_resources(resources),
        "software": f"synthfactory {__version__}",
        "keyAssurance": DEVELOPMENT_NOTE if issuer.is_development else "issuer key",
    }


def certified_findings(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The findings as the certificate repeats them, with the policy's thresholds."""
    rules = {rule["metric"]: rule for rule in report["policy"]["rules"]}
    found = []
    for item in report["findings"]["measurements"]:
        entry = {
            "metric": item["id"],
            "estimate": decimal(item["estimate"]),
            "lowerBound": decimal(item["lcb"]),
            "upperBound": decimal(item["ucb"]),
            "sampleSize": str(item["n"]),
        }
        if (rule := rules.get(item["id"])) is not None:
            entry["threshold"] = f"{rule['bound']} {rule['op']} {decimal(rule['value'])}"
        found.append(entry)
    return found


def certified_resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """What making it cost, as the certificate repeats it; ``unmeasured`` where it is not known."""
    total, attempts, waiting = (resources[name] for name in ("total", "attempts", "waiting"))
    return {
        "wallSeconds": _measured(total["wall_s"]),
        "processorHoursAllocated": _measured(total["cpu_allocated_h"]),
        "processorHoursUsed": _measured(total["cpu_used_h"]),
        "gpuHoursAllocated": _measured(total["gpu_allocated_h"]),
        "gpuHoursUsed": _measured(total["gpu_used_h"]),
        "stageAttempts": _measured(attempts and attempts["begun"]),
        "uncommittedSeconds": _measured(attempts and attempts["uncommitted_wall_s"]),
        "queueSeconds": _measured(waiting["queue_s"]),
        "energy": [
            {"energyMethod": "unmeasured", "energyOf": entry["of"], "energyReason": entry["why"]}
            if entry["method"] == "unmeasured"
            else {
                "energyMethod": entry["method"],
                "energyKwh": decimal(entry["kwh"]),
                "energyCoverage": entry["coverage"],
                "energyShareOfTime": decimal(entry["of_wall"]),
            }
            for entry in resources["energy"]
        ],
    }


def _measured(value: float | None) -> str:
    return "unmeasured" if value is None else decimal(value)


def decimal(value: float) -> str:
    """A number as a text of at most six significant digits.

    >>> decimal(0.50), decimal(1234567.0)
    ('0.5', '1.23457e+06')
    """
    return f"{value:.6g}"


def sign(document: Mapping[str, Any], key: IssuerKey, now: datetime) -> dict[str, Any]:
    """Add an ``eddsa-jcs-2022`` proof (vc-di-eddsa, section 3.3.1)."""
    options = {
        "type": "DataIntegrityProof",
        "cryptosuite": CRYPTOSUITE,
        "created": _time(now),
        "verificationMethod": key.verification_method,
        "proofPurpose": "assertionMethod",
        "@context": document["@context"],
    }
    signature = key.sign(_hash_data(document, options))
    return {**document, "proof": {**options, "proofValue": "z" + base58_encode(signature)}}


def proof_holds(document: Mapping[str, Any], issuer: str, keys: Mapping[str, str]) -> bool:
    """Whether a document's proof is valid and by ``issuer`` (section 3.3.2).

    Parameters
    ----------
    document
        With its proof.
    issuer
        Who must have signed.
    keys
        The keys that may sign for the issuer: verification method to ``did:key``.

    Raises
    ------
    ValueError
        When there is no such proof, with what is wrong about it.
    """
    proof = document.get("proof")
    if not isinstance(proof, Mapping):
        raise ValueError("there is no single proof")
    expected = {
        "type": "DataIntegrityProof",
        "cryptosuite": CRYPTOSUITE,
        "proofPurpose": "assertionMethod",
        "@context": document.get("@context"),
    }
    for name, value in expected.items():
        if proof.get(name) != value:
            raise ValueError(f"the proof's {name} is not {str(value)[:80]!r}")
    method = proof.get("verificationMethod")
    if not isinstance(method, str) or method not in keys:
        raise ValueError(f"the proof's verificationMethod is no key of {issuer[:80]!r}")
    value = proof.get("proofValue")
    if not isinstance(value, str) or not value.startswith("z"):
        raise ValueError("the proofValue is no base58 text")
    options = {name: item for name, item in proof.items() if name != "proofValue"}
    unsigned = {name: item for name, item in document.items() if name != "proof"}
    return verifies(keys[method], base58_decode(value[1:]), _hash_data(unsigned, options))


def _hash_data(document: Mapping[str, Any], options: Mapping[str, Any]) -> bytes:
    """SHA-256 of the canonical proof options, then of the canonical document (section 3.3.4)."""
    return b"".join(hashlib.sha256(canonical_json(part)).digest() for part in (options, document))


def status_list(status_id: str, key: IssuerKey, begin: datetime) -> dict[str, Any]:
    """A list with no bit set: nothing is revoked (https://www.w3.org/TR/vc-bitstring-status-list/)."""
    bits = gzip.compress(bytes(STATUS_BITS // 8), mtime=0)
    return {
        "@context": [CREDENTIALS_CONTEXT],
        "id": status_id,
        "type": ["VerifiableCredential", "BitstringStatusListCredential"],
        "issuer": key.did,
        "validFrom": _time(begin),
        "validUntil": _time(begin + timedelta(days=STATUS_DAYS)),
        "credentialSubject": {
            "id": f"{status_id}#list",
            "type": "BitstringStatusList",
            "statusPurpose": "revocation",
            "encodedList": base64url(bits),
        },
    }


def _copy_contexts(folder: Path) -> None:
    """Our JSON-LD contexts, and an index that says which address each file stands for."""
    target = folder / "contexts"
    target.mkdir(exist_ok=True)
    for name in CONTEXTS.values():
        shutil.copy(Path(__file__).parent / "contexts" / name, target / name)
    write_json(target / "index.json", CONTEXTS)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
