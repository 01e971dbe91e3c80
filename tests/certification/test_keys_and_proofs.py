"""Keys stay private, and proofs are what the standards say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from synthfactory.certification import credential, development_key, load_key, new_key
from synthfactory.certification.keys import IssuerKey, public_key_of
from synthfactory.certification.manifest import merkle_root
from synthfactory.certification.multibase import base58_decode, base58_encode
from synthfactory.errors import KeyFileError


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    new_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(path)


def test_encrypted_key_asks_for_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    made = new_key(path, passphrase=b"correct horse")
    assert load_key(path, passphrase=lambda: b"correct horse").did == made.did
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        load_key(path, passphrase=lambda: b"battery staple")


def test_missing_and_foreign_keys_are_explained(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="synthfactory keys new"):
        load_key(tmp_path / "absent.pem")
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "text.pem").chmod(0o600)
    with pytest.raises(KeyFileError, match="no usable private key"):
        load_key(tmp_path / "text.pem")


def test_development_key_is_made_once_and_says_so() -> None:
    first, second = development_key(), development_key()
    assert first.did == second.did
    assert first.is_development


def test_existing_key_is_never_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    first = new_key(path)
    with pytest.raises(KeyFileError, match="never replaced"):
        new_key(path)
    assert load_key(path).did == first.did
    assert [item.name for item in tmp_path.iterdir()] == ["issuer.pem"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_did_key_of_a_known_key() -> None:
    # The key pair of RFC 8032, section 7.1, test 1.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = IssuerKey(private=Ed25519PrivateKey.from_private_bytes(seed))
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert public_key_of(key.did).public_bytes_raw().hex() == public
    assert key.did.startswith("did:key:z6Mk")


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00abc", bytes(range(64))])
def test_base58_round_trip(data: bytes) -> None:
    assert base58_decode(base58_encode(data)) == data


def test_merkle_root_is_rfc_6962() -> None:
    parts = [{"path": f"data/{i}", "rows": i, "sha256": "00", "size": i} for i in range(5)]

    def leaf(i: int) -> bytes:
        text = f'{{"path":"data/{i}","rows":{i},"sha256":"00","size":{i}}}'
        return hashlib.sha256(b"\x00" + text.encode()).digest()

    def node(a: bytes, b: bytes) -> bytes:
        return hashlib.sha256(b"\x01" + a + b).digest()

    four = node(node(leaf(0), leaf(1)), node(leaf(2), leaf(3)))
    assert merkle_root(parts) == "sha256:" + node(four, leaf(4)).hex()
    assert merkle_root(parts[::-1]) == merkle_root(parts)
    assert merkle_root(parts[:1]) == "sha256:" + leaf(0).hex()


def test_proof_options_are_part_of_what_is_signed(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    key = new_key(tmp_path / "k.pem")
    signed = credential.sign({"@context": ["x"], "a": 1}, key, datetime(2026, 1, 1, tzinfo=UTC))
    assert credential.proof_holds(signed, key.did, {key.verification_method: key.did})
    signed["proof"]["created"] = "2027-01-01T00:00:00Z"
    assert not credential.proof_holds(signed, key.did, {key.verification_method: key.did})
