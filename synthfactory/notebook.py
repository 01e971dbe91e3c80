"""A release's certificate, for reading in a notebook.

Reading is not checking: a certificate that is shown here says what it claims.  `Certificate.verify`
checks it, with the data that it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthfactory import artifacts, markup
from synthfactory.certification.verify import Verification, verify
from synthfactory.errors import ReleaseError

if TYPE_CHECKING:
    import pandas as pd

CERTIFICATE_FILE = "certificate.json"
UNKNOWN = "?"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a release's ``certificate.json`` claims.

    Parameters
    ----------
    folder
        The release.
    document
        The certificate, a verifiable credential, as JSON values.
    """

    folder: Path
    document: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """Who says so: a ``did:key`` or ``did:web``."""
        issuer = self.document.get("issuer", UNKNOWN)
        return str(issuer.get("id", UNKNOWN) if isinstance(issuer, Mapping) else issuer)

    @property
    def subject(self) -> Mapping[str, Any]:
        """What is claimed about the data; numbers are texts."""
        subject = self.document.get("credentialSubject")
        return subject if isinstance(subject, Mapping) else {}

    @property
    def not_assessed(self) -> tuple[str, ...]:
        """What was not tried."""
        return tuple(map(str, _list(self.subject.get("notAssessed"))))

    def to_frame(self) -> pd.DataFrame:
        """A row per finding: metric, estimate, lower and upper bound, sample size, threshold."""
        import pandas as pd

        frame = pd.DataFrame(_list(self.subject.get("findings")))
        for name in ("estimate", "lowerBound", "upperBound", "sampleSize"):
            if name in frame:
                frame[name] = pd.to_numeric(frame[name])
        return frame

    def verify(self, *, issuer: str | None = None) -> Verification:
        """Check the whole release, as `synthfactory.verify` does.

        Parameters
        ----------
        issuer
            The issuer whom you know; without it anybody may have signed.
        """
        return verify(self.folder, issuer=issuer)

    def _lines(self) -> dict[str, str]:
        subject = self.subject
        manifest, policy = (_mapping(subject.get(name)) for name in ("manifest", "policy"))
        return {
            "issuer": self.issuer,
            "valid": f"{self.document.get('validFrom', UNKNOWN)} to "
            f"{self.document.get('validUntil', UNKNOWN)}",
            "use": f"{subject.get('useClass', UNKNOWN)}, level "
            f"{subject.get('assuranceLevel', UNKNOWN)}",
            "policy": f"{policy.get('policyId', UNKNOWN)} {policy.get('policyVersion', '')}",
            "data": f"{manifest.get('rowCount', UNKNOWN)} rows, "
            f"{manifest.get('partCount', UNKNOWN)} parts, {manifest.get('merkleRoot', UNKNOWN)}",
            "evaluations": f"{subject.get('attempts', UNKNOWN)} of this table so far",
            "key": str(subject.get("keyAssurance", UNKNOWN)),
            "not assessed": "; ".join(self.not_assessed) or UNKNOWN,
        }

    def __repr__(self) -> str:
        lines = ["Certificate, as it claims (.verify() checks it)"]
        return "\n".join([*lines, *(f"  {name:<13}{text}" for name, text in self._lines().items())])

    def _repr_html_(self) -> str:
        findings = [
            tuple(
                str(_mapping(item).get(name, ""))
                for name in ("metric", "estimate", "lowerBound", "upperBound", "threshold")
            )
            for item in _list(self.subject.get("findings"))
        ]
        return (
            markup.title("Certificate, as it claims")
            + markup.html_table(("", ""), self._lines().items())
            + markup.html_table(
                ("finding", "estimate", "lower", "upper", "the policy asks"), findings
            )
            + markup.paragraph("Not checked here: .verify(issuer=...) checks it with its data.")
        )


def certificate(path: str | Path) -> Certificate:
    """Read the certificate of a release; it is not checked, see `Certificate.verify`.

    Parameters
    ----------
    path
        A ``release`` folder, a run's folder, or the ``certificate.json`` itself.

    Raises
    ------
    ReleaseError
        When there is none, or it is no JSON object.
    """
    given = Path(path)
    places = [given / CERTIFICATE_FILE, given / "release" / CERTIFICATE_FILE]
    found = [given] if given.is_file() else [place for place in places if place.is_file()]
    if not found:
        raise ReleaseError(
            f"Expected a release, a certified run or a {CERTIFICATE_FILE}, but {given} is none: a "
            "refused run has no certificate."
        )
    try:
        document = artifacts.read_json(found[0])
    except (OSError, ValueError) as error:
        raise ReleaseError(f"Cannot read the certificate {found[0]}: {error}") from error
    if not isinstance(document, dict):
        raise ReleaseError(f"Expected a JSON object in {found[0]}, got {type(document).__name__}.")
    return Certificate(folder=found[0].parent, document=document)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
