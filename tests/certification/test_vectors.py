"""The signature scheme gives, byte for byte, what the W3C's test vector says.

Source: Data Integrity EdDSA Cryptosuites v1.0, W3C Recommendation of 15 May 2025, test vectors,
"Representation: eddsa-jcs-2022", https://www.w3.org/TR/vc-di-eddsa/#representation-eddsa-jcs-2022;
the canonical forms and hashes also lie in https://github.com/w3c/vc-di-eddsa under
TestVectors/eddsa-jcs-2022, the key in TestVectors/keyPair.json.  The key, the unsigned credential
and the proof options are input; all else must come out.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from synthfactory.artifacts import canonical_json
from synthfactory.certification import IssuerKey, credential
from synthfactory.certification.keys import verifies
from synthfactory.certification.multibase import base58_decode, base58_encode

PUBLIC = "z6MkrJVnaZkeFzdQyMZu1cgjg7k1pZZ6pvBQ7XJPt4swbTQ2"
SECRET = "z3u2en7t5LR2WtQH5PfFqMqwVHBeXouLzo6haApm8XHqvjxq"
METHOD = f"did:key:{PUBLIC}#{PUBLIC}"
CONTEXTS = [
    "https://www.w3.org/ns/credentials/v2",
    "https://www.w3.org/ns/credentials/examples/v2",
]
UNSIGNED: dict[str, Any] = {
    "@context": CONTEXTS,
    "id": "urn:uuid:58172aac-d8ba-11ed-83dd-0b3aef56cc33",
    "type": ["VerifiableCredential", "AlumniCredential"],
    "name": "Alumni Credential",
    "description": "A minimum viable example of an Alumni Credential.",
    "issuer": "https://vc.example/issuers/5678",
    "validFrom": "2023-01-01T00:00:00Z",
    "credentialSubject": {"id": "did:example:abcdefgh", "alumniOf": "The School of Examples"},
}
OPTIONS: dict[str, Any] = {
    "type": "DataIntegrityProof",
    "cryptosuite": "eddsa-jcs-2022",
    "created": "2023-02-24T23:36:38Z",
    "verificationMethod": METHOD,
    "proofPurpose": "assertionMethod",
    "@context": CONTEXTS,
}
CANONICAL_DOCUMENT = (
    '{"@context":["https://www.w3.org/ns/credentials/v2",'
    '"https://www.w3.org/ns/credentials/examples/v2"],"credentialSubject":{"alumniOf":'
    '"The School of Examples","id":"did:example:abcdefgh"},"description":'
    '"A minimum viable example of an Alumni Credential.","id":'
    '"urn:uuid:58172aac-d8ba-11ed-83dd-0b3aef56cc33","issuer":"https://vc.example/issuers/5678",'
    '"name":"Alumni Credential","type":["VerifiableCredential","AlumniCredential"],'
    '"validFrom":"2023-01-01T00:00:00Z"}'
)
CANONICAL_OPTIONS = (
    '{"@context":["https://www.w3.org/ns/credentials/v2",'
    '"https://www.w3.org/ns/credentials/examples/v2"],"created":"2023-02-24T23:36:38Z",'
    '"cryptosuite":"eddsa-jcs-2022","proofPurpose":"assertionMethod","type":'
    f'"DataIntegrityProof","verificationMethod":"{METHOD}"}}'
)
DOCUMENT_HASH = "59b7cb6251b8991add1ce0bc83107e3db9dbbab5bd2c28f687db1a03abc92f19"
OPTIONS_HASH = "66ab154f5c2890a140cb8388a22a160454f80575f6eae09e5a097cabe539a1db"
SIGNATURE = (
    "407cd12654b33d718ecbb99179a1506daaa849450bf3fc523cce3e1c96f8b80351da3f253d725c6f00b07c9e5448d5"
    "0b3ef78012b9ab54255116d069c6dd2808"
)
PROOF_VALUE = (
    "z2HnFSSPPBzR36zdDgK8PbEHeXbR56YF24jwMpt3R1eHXQzJDMWS93FCzpvJpwTWd3GAVFuUfjoJdcnTMuVor51aX"
)


@pytest.fixture
def key() -> IssuerKey:
    raw = base58_decode(SECRET[1:])
    assert raw[:2] == b"\x80\x26", "the multicodec prefix of an Ed25519 secret key"
    return IssuerKey(private=Ed25519PrivateKey.from_private_bytes(raw[2:]))


def test_key(key: IssuerKey) -> None:
    assert key.multikey == PUBLIC
    assert key.verification_method == METHOD


def test_canonical_forms_and_hashes() -> None:
    document, options = canonical_json(UNSIGNED), canonical_json(OPTIONS)
    assert document == CANONICAL_DOCUMENT.encode()
    assert options == CANONICAL_OPTIONS.encode()
    assert hashlib.sha256(document).hexdigest() == DOCUMENT_HASH
    assert hashlib.sha256(options).hexdigest() == OPTIONS_HASH
    assert credential._hash_data(UNSIGNED, OPTIONS).hex() == OPTIONS_HASH + DOCUMENT_HASH


def test_signature(key: IssuerKey) -> None:
    signature = key.sign(credential._hash_data(UNSIGNED, OPTIONS))
    assert signature.hex() == SIGNATURE
    assert "z" + base58_encode(signature) == PROOF_VALUE
    assert verifies(key.did, signature, bytes.fromhex(OPTIONS_HASH + DOCUMENT_HASH))


def test_whole_proof(key: IssuerKey) -> None:
    signed = credential.sign(UNSIGNED, key, datetime(2023, 2, 24, 23, 36, 38, tzinfo=UTC))
    assert signed == {**UNSIGNED, "proof": {**OPTIONS, "proofValue": PROOF_VALUE}}
    keys = {METHOD: key.did}
    assert credential.proof_holds(signed, UNSIGNED["issuer"], keys)
    for name, value in UNSIGNED.items():
        if name == "@context":
            continue
        changed = {**signed, name: [value]}
        assert not credential.proof_holds(changed, UNSIGNED["issuer"], keys)
