"""Whether a certificate still counts: a status list that its issuer signs again when that changes.

The list is a BitstringStatusListCredential (https://www.w3.org/TR/vc-bitstring-status-list/), a
file that the issuer can host.  A certificate whose bit is set is revoked, for any software that
reads such lists.  A suspension sets the same bit and says in the signed description that it may be
lifted: so software that knows of no suspensions refuses the certificate while it lasts.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from synthfactory.artifacts import read_json, write_json
from synthfactory.certification.credential import CERTIFICATE, STATUS, sign, status_list
from synthfactory.certification.keys import IssuerKey
from synthfactory.certification.multibase import base64url, base64url_decode
from synthfactory.errors import ReleaseError

Change = Literal["revoked", "suspended", "valid"]
MAX_BYTES = 1 << 24
DESCRIPTIONS: Mapping[Change, str] = {
    "revoked": "revoked",
    "suspended": "suspended; the issuer may lift this",
    "valid": "valid",
}


def set_status(
    release: Path, change: Change, *, key: IssuerKey, reason: str = "", now: datetime | None = None
) -> dict[str, Any]:
    """Sign a release's status list again; what is already revoked stays so.

    Parameters
    ----------
    release
        The release folder.
    change
        ``revoked`` for good, ``suspended`` for a time, or ``valid``: a suspension is lifted, and
        the list's own validity begins anew.
    key
        The issuer's; no other can change the status.
    reason
        One line for the readers.

    Returns
    -------
    dict
        The signed list, also written to ``status.json``.

    Raises
    ------
    ReleaseError
        When there is no certificate, another key issued it, or it is revoked already.
    """
    path = release / CERTIFICATE
    if not path.is_file():
        raise ReleaseError(f"There is no certificate in {release}; name a release folder.")
    certificate, before = read_json(path), read_json(release / STATUS)
    if certificate["issuer"] != key.did:
        raise ReleaseError(
            f"The certificate was issued by {certificate['issuer']}, and this is the key of "
            f"{key.did}: only the issuer can change its status."
        )
    if state_of(before) == "revoked" and change != "revoked":
        raise ReleaseError("The certificate is revoked, which is for good; issue another release.")
    begin = (now or datetime.now(UTC)).replace(microsecond=0)
    entry = certificate["credentialStatus"]
    listed = status_list(entry["statusListCredential"], key, begin)
    bits = bytearray(unpack(listed["credentialSubject"]["encodedList"]))
    index = int(entry["statusListIndex"])
    if change != "valid":
        bits[index // 8] |= 0x80 >> (index % 8)
    listed["credentialSubject"]["encodedList"] = base64url(gzip.compress(bytes(bits), mtime=0))
    said = " ".join(reason.split())
    listed["description"] = DESCRIPTIONS[change] + (f": {said}" if said else "")
    signed = sign(listed, key, begin)
    write_json(release / STATUS, signed)
    return signed


def state_of(listed: Mapping[str, Any]) -> Change:
    """What a status list says of its first entry; its signature is not looked at."""
    bits = unpack(listed["credentialSubject"]["encodedList"])
    if not bits[0] & 0x80:
        return "valid"
    suspended = str(listed.get("description", "")).startswith(DESCRIPTIONS["suspended"])
    return "suspended" if suspended else "revoked"


def unpack(encoded: str) -> bytes:
    """The bits of an encoded list.

    Raises
    ------
    ValueError
        When it unpacks to an absurd size.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(base64url_decode(encoded))) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError("the status list unpacks to an absurd size")
    return content
