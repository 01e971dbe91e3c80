"""Multibase texts: base58btc for keys and proofs, base64url for digests and lists."""

from __future__ import annotations

import base64

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SHA256_PREFIX = b"\x12\x20"


def base58_encode(data: bytes) -> str:
    """Bytes in Bitcoin's base 58, without a multibase prefix.

    >>> base58_encode(b"\\x00hello")
    '1Cn8eVZg'
    """
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    n_zeros = len(data) - len(data.lstrip(b"\x00"))
    return "1" * n_zeros + digits


def base58_decode(text: str) -> bytes:
    """The inverse of `base58_encode`.

    Raises
    ------
    ValueError
        For a character that is not in the alphabet, or an absurdly long text.
    """
    if len(text) > 512:
        raise ValueError("a base58 text of more than 512 characters")
    number = 0
    for character in text:
        number = number * 58 + ALPHABET.index(character)
    n_zeros = len(text) - len(text.lstrip("1"))
    return b"\x00" * n_zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def base64url(data: bytes) -> str:
    """Multibase ``u``: base64url without padding."""
    return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def base64url_decode(text: str) -> bytes:
    """The inverse of `base64url`.

    Raises
    ------
    ValueError
        When the text is no such thing.
    """
    if not text.startswith("u"):
        raise ValueError("expected a multibase text that begins with 'u'")
    body = text[1:]
    return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)


def digest_multibase(digest: str) -> str:
    """``sha256:<hex>`` as a multihash in multibase, as ``digestMultibase`` wants it."""
    return base64url(SHA256_PREFIX + bytes.fromhex(digest.removeprefix("sha256:")))
