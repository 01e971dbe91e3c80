"""A policy says what it needs, and an order without it is refused before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from people import LENIENT, make_people

from synthfactory.certification import Policy, load_policy, new_key
from synthfactory.certification.needs import Needs
from synthfactory.certification.policy import schema
from synthfactory.errors import OrderError, PolicyError
from synthfactory.evaluation import Evaluation
from synthfactory.factory import perform, produce
from synthfactory.generators import CART
from synthfactory.order import Order
from synthfactory.paths import conf_dir
from synthfactory.run import Run
from synthfactory.tables import Dataset, Split

SHIPPED = sorted(path.stem for path in (conf_dir() / "policy").glob("*.yaml"))
LEVELLED = ("sf2", "sf3", "strict")


def needing(**needs: int) -> Policy:
    return Policy.from_dict({**LENIENT, "needs": needs})


def order(path: Path, **changes: Any) -> Order:
    return Order(dataset=Dataset(path=str(path)), generator=CART(), threads=1, **changes)


# The language


def test_a_policy_that_needs_nothing_keeps_its_digest() -> None:
    assert "needs" not in load_policy("default").to_dict()
    assert Policy.from_dict({**LENIENT, "needs": {}}) == Policy.from_dict(LENIENT)
    assert needing(shadows=16).digest != Policy.from_dict(LENIENT).digest
    assert Policy.from_dict(needing(people=7).to_dict()).needs == Needs(people=7)


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"shadow": 16}, "unknown key 'shadow'; did you mean 'shadows'"),
        ({"shadows": 1.5}, "needs.shadows: expected a whole number"),
        ({"people": -1}, "needs.people: expected a whole number"),
        ({"people": True}, "needs.people"),
        ([16], "expected keys and values"),
    ],
)
def test_the_language_is_closed(needs: Any, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        Policy.from_dict({**LENIENT, "needs": needs})


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_policies_fit_the_published_schema_and_say_what_they_need(name: str) -> None:
    document = yaml.safe_load((conf_dir() / "policy" / f"{name}.yaml").read_text())
    jsonschema.validate(document, schema())
    policy = load_policy(name)
    assert ("Before anything is trained" in policy.explain()) == (name in LEVELLED)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "needs": {"shadow": 1}}, schema())


# How many rows a measurement can rest on, from the settings: what min_n may ask for.
def reach(metric: str, needs: Needs) -> int:
    attacked = min(needs.attacks, needs.people)
    known = {
        "privacy.singling_out": needs.attacks,
        "privacy.linkability": attacked,
        "privacy.attribute_inference": needs.people,
        "privacy.domias_knn": 2 * needs.people,
        "privacy.domias_classifier": 2 * needs.people,
        "privacy.tpr_at_1pct_fpr": needs.people if needs.people >= 1_000 else 0,
        "privacy.tpr_at_1permille_fpr": needs.people if needs.people >= 10_000 else 0,
        "privacy.membership_black_box": needs.targets // 2 if needs.shadows >= 16 else 0,
        "privacy.epsilon_lower_bound": needs.people,
        "fidelity.two_sample_auc": needs.max_rows // 2,
    }
    return known.get(metric, max(needs.rows, needs.people))


@pytest.mark.parametrize("name", LEVELLED)
def test_no_rule_is_dead_with_what_a_policy_needs(name: str) -> None:
    policy = load_policy(name)
    for rule in policy.rules:
        assert reach(rule.metric, policy.needs) >= rule.min_n, rule.id
    if name != "strict":
        return
    fewer = Needs(**{**policy.needs.to_dict(), "people": 3_000})
    assert any(reach(rule.metric, fewer) < rule.min_n for rule in load_policy("sf3").rules)


# Before training


def test_settings_that_are_too_small_are_refused_with_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "no.csv"
    with pytest.raises(OrderError) as caught:
        order(path, policy=load_policy("sf3"))
    assert "nothing is trained" in str(caught.value)
    assert str(caught.value).endswith("Add: evaluation.shadows=16 evaluation.targets=4000")
    with pytest.raises(OrderError, match=r"Add: evaluation.attacks=6000 rows=2000$"):
        order(path, policy=load_policy("strict"), rows=500)
    with pytest.raises(OrderError, match=r"Add: evaluation.controls=true evaluation.confidence=0"):
        order(
            path,
            policy=needing(attacks=100),
            evaluation=Evaluation(controls=False, confidence=0.9),
        )
    order(path, policy=load_policy("strict"), evaluation=Evaluation(attacks=6_000))
    order(path, policy=load_policy("sf3"), evaluation=Evaluation(shadows=16, targets=4_000))
    # Who asks for no level keeps all freedom.
    order(path, evaluation=Evaluation(controls=False, attacks=100))


def test_the_command_line_refuses_before_training(tmp_path: Path) -> None:
    words = ("run", "policy=sf3", f"paths.runs={tmp_path / 'runs'}")
    done = subprocess.run(
        [sys.executable, "-m", "synthfactory", *words],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Policy 'sf-3-restricted' would refuse most tables" in done.stderr
    assert "16 shadow models (evaluation.shadows), not 0" in " ".join(done.stderr.split())
    assert "evaluation.shadows=16" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_table_that_is_too_small_is_refused_before_training(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    make_people(3_000).to_csv(path, index=False)
    key = new_key(tmp_path / "issuer.pem")

    def refused(people: int, **changes: Any) -> str:
        wanted = order(path, policy=needing(people=people), **changes)
        with pytest.raises(OrderError) as caught:
            produce(wanted, tmp_path / "runs", key=key)
        assert not (tmp_path / "runs").exists(), "neither planned nor begun"
        return str(caught.value)

    # 600 people of 3,000 are in control by default.
    said = refused(900)
    assert "900 people on either side" in said
    assert "there are 1,800 and 600" in said
    assert said.endswith("Add: split.control=0.3")
    assert "use a table of at least 5,003 people" in refused(2_000)
    assert "use a table of at least" in refused(1_200), "train would have a row too few"
    enough = order(path, policy=needing(people=900), split=Split(control=0.3))
    assert perform("split", Run.open(enough, tmp_path / "runs")) == "split"


def visits(path: Path, n_people: int = 1_000) -> Dataset:
    """Three rows of each person."""
    frame = make_people(3 * n_people)
    frame.insert(0, "person", [f"p{place // 3}" for place in range(len(frame))])
    frame.to_csv(path, index=False)
    return Dataset(path=str(path), entity="person")


def test_people_are_counted_not_their_rows(tmp_path: Path) -> None:
    dataset = visits(tmp_path / "visits.csv")

    def of(people: int, seed: int) -> Order:
        return Order(dataset=dataset, generator=CART(), threads=1, seed=seed,
                     policy=needing(people=people))  # fmt: skip

    for seed in range(3):
        run = Run.open(of(250, seed), tmp_path / "runs")
        with pytest.raises(OrderError) as early:
            run.check_people()
        assert "there are 600 and 200" in str(early.value)
        assert str(early.value).endswith("Add: split.control=0.25")
        # The stage finds the same when it divides the table, whoever asks it.
        with pytest.raises(OrderError) as late:
            perform("split", run)
        assert str(late.value) == str(early.value)
    enough = Run.open(of(200, 0), tmp_path / "runs")
    enough.check_people()
    assert perform("split", enough) == "split"
    assert enough.read("split/split.json")["entities"] == {
        "train": 600, "control": 200, "test": 200,
    }  # fmt: skip


def test_a_run_whose_split_is_committed_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    make_people(600).to_csv(path, index=False)
    run = Run.open(order(path, policy=needing(people=100)), tmp_path / "runs")
    perform("split", run)
    path.unlink()
    run.check_people()
