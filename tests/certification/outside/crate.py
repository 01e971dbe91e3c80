"""Validate a release as a Process Run Crate, offline: python crate.py RELEASE CONTEXTS.

The validator reads JSON-LD contexts from its cache of web pages, which is filled from files first.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import requests
import requests_cache
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

ADDRESS = "https://w3id.org/ro/crate/{}/context"


class FromFile(BaseAdapter):
    """Answers every request with one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code = 200
        answer.headers["Content-Type"] = "application/ld+json"
        answer.url, answer.request = str(request.url), request
        body = io.BytesIO(self._path.read_bytes())
        answer.raw = HTTPResponse(body=body, status=200, preload_content=False)
        return answer

    def close(self) -> None:
        """Nothing is open."""


def main(release: str, contexts: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")
        with requests_cache.CachedSession(str(cache), expire_after=-1) as session:
            for path in Path(contexts).glob("ro-crate-*.jsonld"):
                session.mount("https://", FromFile(path))
                session.get(ADDRESS.format(path.stem.removeprefix("ro-crate-")))
        return subprocess.run(
            [
                Path(sys.executable).with_name("rocrate-validator"),
                *("-y", "--disable-color", "validate"),
                *("--profile-identifier", "process-run-crate-0.5"),
                *("--requirement-severity", "recommended"),
                *("--offline", "--cache-path", str(cache)),
                *("--output-format", "json", "--no-paging", release),
            ],
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
