"""Certificates are accepted, and bent ones refused, by software that nobody here wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from bends import reissue

from synthfactory.artifacts import read_json, write_json
from synthfactory.certification import issue_certificate, new_key, set_status, verify
from synthfactory.ledger import FIRST, Plan

NODE = Path(__file__).parent / "node"

PLAN = Plan(attempts=1, entry=FIRST)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm"),
]


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(NODE, folder, dirs_exist_ok=True)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", "--fetch-retries=5"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    return folder


def outside_verdict(validator: Path, release: Path) -> dict[str, bool]:
    done = subprocess.run(
        ["node", "verify.mjs", str(release)],
        cwd=validator,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    verdict: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    return verdict


def test_fresh_certificate_is_accepted(validator: Path, certified_run: Path) -> None:
    verdict = outside_verdict(validator, certified_run / "release")
    assert verdict == {"verified": True, "revoked": False}


def test_certificate_of_a_did_web_is_accepted(validator: Path, hostile_run: Path) -> None:
    verdict = outside_verdict(validator, hostile_run / "release")
    assert verdict == {"verified": True, "revoked": False}


def test_revoked_certificate_is_refused(
    validator: Path, certified_run: Path, tmp_path: Path
) -> None:
    release, key = tmp_path / "release", new_key(tmp_path / "key.pem")
    shutil.copytree(certified_run / "release", release)
    reissue(release, key)
    assert outside_verdict(validator, release) == {"verified": True, "revoked": False}
    for change in ("suspended", "revoked"):
        set_status(release, change, key=key)
        assert outside_verdict(validator, release) == {"verified": True, "revoked": True}


def test_certificate_with_measured_energy_is_accepted(
    validator: Path, certified_run: Path, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    shutil.copytree(certified_run / "release", release)
    for name in ("certificate.json", "status.json"):
        (release / name).unlink()
    resources = read_json(release / "resources.json")
    resources["energy"] = [
        {"method": "nvml", "kwh": 0.61, "coverage": "the GPUs of this process", "shared": False,
         "of_wall": 0.975},
        {"method": "rapl", "kwh": 0.2, "coverage": "packages", "shared": True, "of_wall": 1.0},
        {"method": "unmeasured", "of": "pm_counters", "why": "the counter was reset meanwhile"},
    ]  # fmt: skip
    write_json(release / "resources.json", resources)
    issue_certificate(release, key=new_key(tmp_path / "key.pem"), plan=PLAN)
    assert outside_verdict(validator, release) == {"verified": True, "revoked": False}
    assert verify(release).ok


def test_changed_certificate_is_refused(
    validator: Path, certified_run: Path, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    shutil.copytree(certified_run / "release", release)
    certificate = read_json(release / "certificate.json")
    certificate["credentialSubject"]["assuranceLevel"] = "SF-3"
    write_json(release / "certificate.json", certificate)
    assert not outside_verdict(validator, release)["verified"]
