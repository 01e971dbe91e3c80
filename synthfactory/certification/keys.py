"""Issuer keys: Ed25519, on disk as PEM (PKCS#8), readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from synthfactory.artifacts import storage_errors, write_atomic
from synthfactory.certification.multibase import base58_decode, base58_encode
from synthfactory.errors import KeyFileError, StorageError
from synthfactory.paths import user_config_dir

ED25519_PREFIX = b"\xed\x01"
DID_WEB = re.compile(r"did:web:[A-Za-z0-9.-]+(%3A\d+)?(:[A-Za-z0-9._-]+)*")
DEVELOPMENT_KEY = "development-key.pem"
AskPassphrase = Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class IssuerKey:
    """A private key and who it speaks for.

    Parameters
    ----------
    private
        The key.
    is_development
        Whether it is the automatic key of the quick start, which vouches for nobody.
    web
        The ``did:web`` under which the key is published; None for its ``did:key``.

    Raises
    ------
    KeyFileError
        When ``web`` is no did:web.
    """

    private: Ed25519PrivateKey
    is_development: bool = False
    web: str | None = None

    def __post_init__(self) -> None:
        if self.web is not None and not DID_WEB.fullmatch(self.web):
            raise KeyFileError(
                "Expected a did:web such as did:web:lab.example.eu as issuer.did, got "
                f"{self.web!r}."
            )

    @property
    def did(self) -> str:
        """Who it speaks for: the ``did:web`` where there is one, else its ``did:key``."""
        return self.web or self.key_did

    @property
    def key_did(self) -> str:
        """The public key as an identifier, ``did:key:z6Mk...`` (W3C did:key method)."""
        return "did:key:" + self.multikey

    @property
    def multikey(self) -> str:
        """The public key as a Multikey text."""
        raw = self.private.public_key().public_bytes_raw()
        return "z" + base58_encode(ED25519_PREFIX + raw)

    @property
    def verification_method(self) -> str:
        """The identifier of the key within the issuer's DID document."""
        return f"{self.did}#{self.multikey}"

    def sign(self, data: bytes) -> bytes:
        """The Ed25519 signature of ``data`` (RFC 8032), 64 bytes."""
        return self.private.sign(data)


def did_document(key: IssuerKey) -> dict[str, Any]:
    """The DID document of a key's ``did:web``, to be published at its address.

    https://www.w3.org/TR/did-core/ and https://w3c-ccg.github.io/did-method-web/.
    """
    return {
        "@context": [
            "https://www.w3.org/ns/did/v1",
            "https://w3id.org/security/multikey/v1",
        ],
        "id": key.did,
        "verificationMethod": [
            {
                "id": key.verification_method,
                "type": "Multikey",
                "controller": key.did,
                "publicKeyMultibase": key.multikey,
            }
        ],
        "assertionMethod": [key.verification_method],
    }


def keys_of(document: Mapping[str, Any], did: str) -> dict[str, str]:
    """The keys that a DID document lets sign: verification method to ``did:key``.

    Raises
    ------
    ValueError
        When the document is another one's, or holds no such key.
    """
    if document.get("id") != did:
        raise ValueError(f"expected the DID document of {did[:80]}")
    allowed = document["assertionMethod"]
    found = {
        method["id"]: f"did:key:{method['publicKeyMultibase']}"
        for method in document["verificationMethod"]
        if method["type"] == "Multikey" and method["id"] in allowed
    }
    if not found:
        raise ValueError(f"the DID document of {did[:80]} names no Multikey that may sign")
    return found


def public_key_of(did: str) -> Ed25519PublicKey:
    """The public key of a ``did:key``.

    Raises
    ------
    ValueError
        When it is no did:key of an Ed25519 key.
    """
    text = did.removeprefix("did:key:z")
    if text == did:
        raise ValueError(f"expected a did:key that begins with did:key:z, got {did[:40]!r}")
    raw = base58_decode(text)
    if not raw.startswith(ED25519_PREFIX) or len(raw) != 34:
        raise ValueError(f"{did[:40]!r} is no Ed25519 key")
    return Ed25519PublicKey.from_public_bytes(raw[2:])


def verifies(did: str, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` over ``data`` is by the key of ``did``."""
    try:
        public_key_of(did).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def new_key(path: Path, *, passphrase: bytes | None = None) -> IssuerKey:
    """Make a key and write it, with permissions 0600; an existing file is never replaced.

    Raises
    ------
    KeyFileError
        When the file exists.
    StorageError
        When it cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    content = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with storage_errors("write", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(temporary, content, mode=0o600)
            # A link never replaces a file, and what it names is whole from the first moment.
            os.link(temporary, path)
    except StorageError:
        if path.exists():
            raise KeyFileError(
                f"{path} exists, and a key is never replaced: certificates signed with it could "
                "not be made again. Choose another path."
            ) from None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return IssuerKey(private=private)


def load_key(path: Path, *, passphrase: AskPassphrase | None = None) -> IssuerKey:
    """Read a private key.

    Parameters
    ----------
    path
        PEM, PKCS#8.
    passphrase
        Asked only when the key is encrypted.

    Raises
    ------
    KeyFileError
        When it is missing, readable by others, no Ed25519 key, or the passphrase is wrong.
    """
    try:
        mode = path.stat().st_mode & 0o777
        content = path.read_bytes()
    except OSError as error:
        raise KeyFileError(
            f"Cannot read the issuer key {path}: {error.strerror}. Make one with: "
            f"synthfactory keys new {path}"
        ) from error
    if mode & 0o077:
        raise KeyFileError(
            f"The issuer key {path} can be read by others (mode {mode:04o}); run: chmod 600 {path}"
        )
    try:
        try:
            private = serialization.load_pem_private_key(content, password=None)
        except TypeError:
            if passphrase is None:
                raise
            private = serialization.load_pem_private_key(content, password=passphrase())
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path} is no usable private key, or the passphrase is wrong: expected Ed25519 as "
            "PEM, PKCS#8, as `synthfactory keys new` makes it."
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds a {type(private).__name__}; expected an Ed25519 key.")
    return IssuerKey(private=private)


def development_key() -> IssuerKey:
    """The quick start's key in the user's configuration folder, made on first use."""
    path = user_config_dir() / DEVELOPMENT_KEY
    if not path.exists():
        try:
            new_key(path)
        except KeyFileError:
            pass  # Another process was first: its key is as good.
    return IssuerKey(private=load_key(path).private, is_development=True)
