"""Open a release's attestations with outside libraries: python attestations.py RELEASE.

Each envelope must verify with the key that its keyid names and hold a valid in-toto statement;
prints the kinds of statements as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def key_of(did: str) -> SSlibKey:
    number = 0
    for character in did.removeprefix("did:key:z"):
        number = number * 58 + ALPHABET.index(character)
    raw = number.to_bytes(34, "big")
    assert raw[:2] == b"\xed\x01"
    return SSlibKey(did, "ed25519", "ed25519", {"public": raw[2:].hex()})


def main(release: str) -> None:
    kinds = []
    for line in Path(release, "attestations.intoto.jsonl").read_bytes().splitlines():
        envelope = Envelope.from_dict(json.loads(line))
        (keyid,) = envelope.signatures
        envelope.verify([key_of(keyid)], 1)
        statement = Statement.copy_from_pb(
            json_format.Parse(envelope.payload, statement_pb2.Statement())
        )
        statement.validate()
        kinds.append(statement.pb.predicate_type)
    print(json.dumps(kinds))


if __name__ == "__main__":
    main(*sys.argv[1:])
