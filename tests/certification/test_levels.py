"""Level SF-2 on a real table, from the file to a verified release: who passes, and who doesn't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthfactory.certification import load_policy, new_key, verify
from synthfactory.factory import produce
from synthfactory.generators import CART, TVAE, Bootstrap, Generator
from synthfactory.order import Order
from synthfactory.paths import conf_dir
from synthfactory.run import Outcome
from synthfactory.tables import Dataset

pytestmark = pytest.mark.slow


def made(generator: Generator, folder: Path) -> tuple[Outcome, dict[str, Any], str]:
    """An order for level SF-2 on the embedded Adult, its report, and who signed."""
    declared = yaml.safe_load((conf_dir() / "dataset" / "adult.yaml").read_text())
    declared.pop("_target_")
    order = Order(
        dataset=Dataset(**declared),
        generator=generator,
        policy=load_policy("sf2"),
        threads=2,
    )
    key = new_key(folder / "issuer.pem")
    outcome = produce(order, folder / "runs", key=key)
    report = json.loads((outcome.folder / "decide" / "report.json").read_text())
    return outcome, report, key.did


def test_a_network_is_certified_at_sf_2_and_its_release_verifies(tmp_path: Path) -> None:
    outcome, report, issuer = made(TVAE(epochs=30), tmp_path)
    assert outcome.state == "certified", outcome.reasons
    assert report["policy"]["needs"] == {"attacks": 2_000, "people": 4_000}
    by_id = {item["id"]: item for item in report["findings"]["measurements"]}
    for rule in load_policy("sf2").rules:
        assert by_id[rule.metric]["n"] >= rule.min_n
    certificate = json.loads((outcome.folder / "release" / "certificate.json").read_text())
    assert certificate["credentialSubject"]["assuranceLevel"] == "SF-2"
    checked = verify(outcome.folder / "release", issuer=issuer)
    assert checked.ok, checked


@pytest.mark.parametrize("generator", [CART(), Bootstrap()], ids=["cart", "bootstrap"])
def test_generators_that_hand_out_people_are_refused(generator: Generator, tmp_path: Path) -> None:
    outcome, report, _ = made(generator, tmp_path)
    assert outcome.state == "refused"
    assert not (outcome.folder / "release").exists()
    refused = {rule["metric"] for rule in report["verdict"]["reasons"] if not rule["passed"]}
    assert {"privacy.exact_match", "privacy.dcr_share", "privacy.tpr_at_1pct_fpr"} <= refused
    assert all(metric.startswith("privacy.") for metric in refused), "of use they are"
