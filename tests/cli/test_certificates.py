"""The verbs of people who sign: attest, issue, revoke, suspend, renew, verify a part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from people import LENIENT

from synthfactory.artifacts import read_json, write_json
from synthfactory.certification import new_key, verify
from synthfactory.certification.policy import LEVEL_METRICS
from synthfactory.cli import main


@pytest.fixture
def run(certified_run: Path, tmp_path: Path) -> Path:
    """A decided run that nobody signed yet."""
    shutil.copytree(certified_run.parent, tmp_path / "runs")
    folder = tmp_path / "runs" / certified_run.name
    shutil.rmtree(folder / "release")
    for path in folder.glob("attestations.*"):
        path.unlink()
    return folder


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(words) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_three_people_sign_one_after_the_other(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {name: tmp_path / f"{name}.pem" for name in ("generator", "evaluator", "controller")}
    dids = {name: new_key(path).did for name, path in keys.items()}
    for role in ("generator", "evaluator"):
        said(["attest", str(run), "--role", role, "--key", str(keys[role])], capsys)
    said(["issue", str(run), "--key", str(keys["controller"])], capsys)
    subject = read_json(run / "release" / "certificate.json")["credentialSubject"]
    assert subject["roles"] == {f"{role}Role": did for role, did in dids.items()}
    assert "ok" in said(["verify", str(run / "release"), "--issuer", dids["controller"]], capsys)


def test_nobody_signs_as_evaluator_for_want_of_another(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = sorted(set().union(*LEVEL_METRICS.values()))
    rules = [{**LENIENT["rules"][0], "id": metric, "metric": metric} for metric in metrics]
    policy = {**LENIENT, "level": "SF-3", "rules": rules}
    for name in ("order.json", "decide/report.json"):
        document = read_json(run / name)
        (document["order"] if name == "order.json" else document)["policy"] |= policy
        write_json(run / name, document)
    keys = {name: tmp_path / f"{name}.pem" for name in ("evaluator", "controller")}
    for path in keys.values():
        new_key(path)
    issue = ["issue", str(run), "--key", str(keys["controller"])]
    assert "an evaluator with a key of their own" in said(issue, capsys, code=2)
    assert not list(run.glob("attestations*")), "a signature in the wrong role would stay"
    said(["attest", str(run), "--role", "evaluator", "--key", str(keys["evaluator"])], capsys)
    said(issue, capsys)
    roles = read_json(run / "release" / "certificate.json")["credentialSubject"]["roles"]
    assert roles["evaluatorRole"] != roles["controllerRole"] == roles["generatorRole"]


def test_a_run_that_is_not_decided_is_not_signed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "decide")
    assert "decide is left" in said(["issue", str(run)], capsys, code=2)
    assert "no order.json" in said(["issue", str(run / "fit")], capsys, code=2)


def test_suspended_lifted_revoked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.pem"
    new_key(key)
    mine = ["--key", str(key)]
    said(["issue", str(run), *mine], capsys)
    release = str(run / "release")
    said(["suspend", release, "--reason", "a second look", *mine], capsys)
    assert "has suspended this certificate" in said(["verify", release], capsys, code=1)
    said(["renew", release, *mine], capsys)
    said(["verify", release], capsys)
    said(["revoke", release, *mine], capsys)
    assert "has revoked this certificate" in said(["verify", release], capsys, code=1)
    assert "for good" in said(["renew", release, *mine], capsys, code=2)


def test_only_the_issuer_changes_the_status(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_key(tmp_path / "a.pem"), new_key(tmp_path / "b.pem")
    said(["issue", str(run), "--key", str(tmp_path / "a.pem")], capsys)
    release = str(run / "release")
    told = said(["revoke", release, "--key", str(tmp_path / "b.pem")], capsys, code=2)
    assert "only the issuer" in told
    assert verify(release).ok


def test_a_fresher_list_from_elsewhere_counts(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(["issue", str(run)], capsys)
    shutil.copytree(run / "release", tmp_path / "copy")
    said(["revoke", str(run / "release")], capsys)
    said(["verify", str(tmp_path / "copy")], capsys)
    fresher = ["--status-list", str(run / "release" / "status.json")]
    assert "revoked" in said(["verify", str(tmp_path / "copy"), *fresher], capsys, code=1)


def test_one_part_is_verified_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(["issue", str(run)], capsys)
    release = run / "release"
    (release / "data" / "part-00000.parquet").unlink()
    assert "is missing" in said(["verify", str(release)], capsys, code=1)
    said(["verify", str(release), "--part", "data/part-00001.parquet"], capsys)
    told = said(["verify", str(release), "--part", "data/part-00000.parquet"], capsys, code=1)
    assert "is missing" in told
    told = said(["verify", str(release), "--part", "../x", "--json"], capsys, code=1)
    checks = {check["name"]: check["ok"] for check in json.loads(told)["checks"]}
    assert not checks["data"]
