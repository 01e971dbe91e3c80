"""Attestations: who made the data, who tested it and who says so, each under a key of their own.

Every line of ``attestations.intoto.jsonl`` is a DSSE envelope
(https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md) around an in-toto Statement v1
about the release's manifest, which stands for all of its rows:

- the **generator** role signs SLSA provenance (https://slsa.dev/spec/v1.0/provenance): the resolved
  order, the software, and salted commitments to the private inputs;
- the **evaluator** role signs a test result per family of measurements
  (https://in-toto.io/attestation/test-result/v0.1), under the policy's digest;
- the **controller** role signs the verification summary (https://slsa.dev/verification_summary/v1).

Three people may hold the three keys.  Where one person holds them all, the certificate says so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from synthfactory.artifacts import canonical_json, digest_file, digest_json, write_atomic
from synthfactory.certification.keys import IssuerKey, verifies

FILE = "attestations.intoto.jsonl"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
BUILD_TYPE = "https://w3id.org/synthfactory/build/v1"
SUBJECT = "manifest.json"
FAMILIES = ("fidelity", "privacy", "utility")
GENERATOR, EVALUATOR, CONTROLLER = ROLES = ("generator", "evaluator", "controller")
ROLE_OF = {PROVENANCE: GENERATOR, TEST_RESULT: EVALUATOR, SUMMARY: CONTROLLER}

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Signers:
    """The keys of the three roles; the controller's is the issuer's.

    Parameters
    ----------
    controller
        Vouches for the release and issues the certificate.
    generator, evaluator
        Who made the data and who tested it; the controller where nobody else did.
    """

    controller: IssuerKey
    generator: IssuerKey
    evaluator: IssuerKey

    @classmethod
    def of(cls, key: IssuerKey | Signers) -> Signers:
        """One key in all three roles, unless they are told apart already."""
        if isinstance(key, Signers):
            return key
        return cls(controller=key, generator=key, evaluator=key)


class AProvenance(Protocol):
    """What is told about how the data were made; `synthfactory.provenance` gathers it."""

    @property
    def order(self) -> Json: ...
    @property
    def dependencies(self) -> Sequence[Json]: ...
    @property
    def invocation(self) -> str: ...
    @property
    def started_on(self) -> str: ...
    @property
    def finished_on(self) -> str: ...


def provenance(release: Path, made: AProvenance, *, builder: str, version: str) -> dict[str, Any]:
    """The statement of how the data were made.

    Parameters
    ----------
    release
        A folder that holds the manifest.
    made
        The resolved order, the software and the committed inputs.
    builder
        Identifier of whoever made it.
    version
        Of synthfactory.
    """
    return _statement(
        release,
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(made.order),
                "internalParameters": {},
                "resolvedDependencies": list(made.dependencies),
            },
            "runDetails": {
                "builder": {"id": builder, "version": {"synthfactory": version}},
                "metadata": {
                    "invocationId": made.invocation,
                    "startedOn": made.started_on,
                    "finishedOn": made.finished_on,
                },
            },
        },
    )


def results(release: Path, report: Json) -> list[dict[str, Any]]:
    """A statement per family of measurements, and one of the instrument's controls.

    A measurement that no rule reads is neither passed nor failed: it is among the configuration,
    with the digest of what was found, as every other one is.
    """
    findings = report["findings"]
    passed = {reason["metric"]: reason["passed"] for reason in report["verdict"]["reasons"]}
    policy = {
        "name": "policy",
        "uri": policy_uri(report["policy"]),
        "digest": _digest(report["policy"]["digest"]),
    }
    statements = []
    for family in FAMILIES:
        measured = [item for item in findings["measurements"] if item["family"] == family]
        ruled = {name: ok for name, ok in passed.items() if name.startswith(f"{family}.")}
        attacks = [{"name": item["id"], "digest": _digest(digest_json(item))} for item in measured]
        statements.append(_result(release, ruled, [policy, *attacks]))
    controls = {
        f"control.{item['id']}": item["flagged"] == item["expected"]
        for item in findings["instrument"]
    }
    outcome = {"name": "controls", "digest": _digest(digest_json(findings["instrument"]))}
    statements.append(_result(release, controls, [policy, outcome]))
    return statements


def summary(
    release: Path, report: Json, level: str, *, verifier: str, at: str, inputs: Sequence[bytes]
) -> dict[str, Any]:
    """The statement that the release satisfies its policy.

    Parameters
    ----------
    release, report
        As for `results`.
    level
        ``SF-1``, ``SF-2``, ``SF-3`` or ``none``.
    verifier
        Identifier of whoever says so.
    at
        When, as ``2026-11-23T10:00:00Z``.
    inputs
        The envelopes that it rests on, as they stand in the file.
    """
    return _statement(
        release,
        SUMMARY,
        {
            "verifier": {"id": verifier},
            "timeVerified": at,
            "resourceUri": f"urn:synthfactory:dataset:{report['manifest']['merkleRoot']}",
            "policy": {
                "uri": policy_uri(report["policy"]),
                "digest": _digest(report["policy"]["digest"]),
            },
            "inputAttestations": [{"digest": _digest(_digest_of(line))} for line in inputs],
            "verificationResult": "PASSED" if report["verdict"]["certified"] else "FAILED",
            "verifiedLevels": [level],
        },
    )


def policy_uri(policy: Json) -> str:
    """The name of a policy's version."""
    return f"urn:synthfactory:policy:{policy['id']}:{policy['version']}"


def _result(release: Path, ruled: Mapping[str, bool], configuration: list[Any]) -> dict[str, Any]:
    predicate = {
        "result": "PASSED" if all(ruled.values()) else "FAILED",
        "configuration": configuration,
        "passedTests": sorted(name for name, ok in ruled.items() if ok),
        "warnedTests": [],
        "failedTests": sorted(name for name, ok in ruled.items() if not ok),
    }
    return _statement(release, TEST_RESULT, predicate)


def _statement(release: Path, predicate_type: str, predicate: Json) -> dict[str, Any]:
    digest = _digest(digest_file(release / SUBJECT))
    return {
        "_type": STATEMENT,
        "subject": [{"name": SUBJECT, "digest": digest}],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def _digest(text: str) -> dict[str, str]:
    algorithm, _, value = text.partition(":")
    return {algorithm: value}


def _digest_of(line: bytes) -> str:
    return digest_json(json.loads(line))


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is made over.

    >>> pre_authentication("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(statement: Json, key: IssuerKey) -> bytes:
    """A signed statement as one line of JSON."""
    payload = canonical_json(statement)
    signature = key.sign(pre_authentication(PAYLOAD_TYPE, payload))
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": key.key_did, "sig": base64.b64encode(signature).decode()},
            ],
        }
    )


def write(path: Path, lines: Sequence[bytes]) -> None:
    """Write envelopes, one a line, whole or not at all."""
    write_atomic(path, b"".join(line + b"\n" for line in lines))


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A statement whose signature holds.

    Parameters
    ----------
    signer
        The ``did:key`` that signed.
    statement
        What it says.
    line
        The envelope as it stands in the file.
    """

    signer: str
    statement: dict[str, Any]
    line: bytes

    @property
    def role(self) -> str:
        """The role that such a statement belongs to."""
        return ROLE_OF[self.statement["predicateType"]]


def open_envelope(line: bytes) -> Signed:
    """Check an envelope and give its statement.

    Raises
    ------
    ValueError
        When it is no envelope with one valid signature, or no statement of a known kind.
    """
    sealed = json.loads(line)
    if not isinstance(sealed, dict) or sealed.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"expected an envelope of {PAYLOAD_TYPE}")
    signatures = sealed["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise ValueError("expected exactly one signature")
    try:
        payload = base64.b64decode(sealed["payload"], validate=True)
        signature = base64.b64decode(signatures[0]["sig"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"the envelope is not in standard base64: {error}") from error
    signer = str(signatures[0]["keyid"])
    if not verifies(signer, signature, pre_authentication(PAYLOAD_TYPE, payload)):
        raise ValueError(f"the signature by {signer[:60]} does not fit: the statement was changed")
    statement = json.loads(payload)
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT:
        raise ValueError("the payload is no in-toto statement v1")
    if statement.get("predicateType") not in ROLE_OF:
        raise ValueError(f"the predicate {str(statement.get('predicateType'))[:80]!r} is unknown")
    return Signed(signer=signer, statement=statement, line=line)


def read(path: Path) -> list[Signed]:
    """Every statement of a file of envelopes.

    Raises
    ------
    ValueError
        As `open_envelope`, with the line's number.
    """
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found.append(open_envelope(line))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return found
