"""A policy reads bounds, refuses what is absent, and holds nothing but its grammar."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from synthfactory.certification import Policy, decide, load_policy
from synthfactory.errors import PolicyError

RULE: dict[str, Any] = {
    "id": "r", "metric": "privacy.dcr_share", "bound": "ucb", "op": "<=", "value": 0.53,
    "min_n": 500, "why": "a reason",
}  # fmt: skip
POLICY: dict[str, Any] = {
    "id": "p", "version": "1", "title": "t", "use_class": "open", "rules": [RULE],
}  # fmt: skip
CONTROLS = [
    {"id": "copy", "kind": "positive", "expected": True, "flagged": True, "by": []},
    {"id": "fresh", "kind": "negative", "expected": False, "flagged": False, "by": []},
]


def findings(ucb: float | None = 0.52, n: int = 1000, **more: Any) -> dict[str, Any]:
    item = {"id": "privacy.dcr_share", "estimate": 0.5, "lcb": 0.48, "ucb": ucb, "n": n}
    item["confidence"] = 0.95
    return {"measurements": [item], "failures": {}, "instrument": CONTROLS, **more}


def findings_twice() -> list[dict[str, Any]]:
    return [*findings(ucb=0.9)["measurements"], *findings()["measurements"]]


def at_confidence(value: float | None) -> list[dict[str, Any]]:
    item = {name: x for name, x in findings()["measurements"][0].items() if name != "confidence"}
    return [item if value is None else {**item, "confidence": value}]


def policy(**changes: Any) -> Policy:
    return Policy.from_dict({**POLICY, "rules": [{**RULE, **changes}]})


def test_bound_decides_not_the_estimate() -> None:
    assert decide(findings(ucb=0.52), policy()).certified
    refused = decide(findings(ucb=0.54), policy())
    assert not refused.certified
    assert "missed by 0.01" in refused.reasons[1].sentence


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"measurements": []}, "was not measured"),
        ({"measurements": [], "failures": {"privacy.dcr_share": "no rows"}}, "no rows"),
        ({"instrument": []}, "was not checked"),
        ({"instrument": CONTROLS[:1]}, "both planted leaks and clean data"),
        ({"instrument": CONTROLS[1:]}, "both planted leaks and clean data"),
        ({"failures": {"privacy.dcr_share": "out of memory"}}, "out of memory"),
        ({"measurements": findings_twice()}, "2 times"),
        ({"measurements": at_confidence(0.51)}, "0.51 confidence"),
        ({"measurements": at_confidence(None)}, "0 confidence"),
        ({"instrument": [{**CONTROLS[0], "flagged": False}]}, "leaks not found: copy"),
        ({"instrument": [{**CONTROLS[1], "flagged": True}]}, "clean data flagged: fresh"),
    ],
)
def test_what_is_absent_or_invalid_refuses(changes: dict[str, Any], said: str) -> None:
    verdict = decide({**findings(), **changes}, policy())
    assert not verdict.certified
    assert any(said in reason.sentence for reason in verdict.reasons if not reason.passed)


def test_nan_and_few_rows_refuse() -> None:
    assert not decide(findings(ucb=float("nan")), policy()).certified
    assert not decide(findings(ucb=None), policy()).certified
    assert not decide(findings(n=499), policy()).certified
    assert not decide(
        {**findings(), "measurements": [{**findings()["measurements"][0], "n": float("nan")}]},
        policy(),
    ).certified


def test_required_control_must_have_been_made() -> None:
    assert decide(findings(), policy(requires=["copy"])).certified
    assert not decide(findings(), policy(requires=["collapse"])).certified


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opp": "<="}, "unknown key 'opp'; did you mean 'op'"),
        ({"op": "<"}, "op is '<'"),
        ({"bound": "lcb"}, "must read the cautious bound, ucb"),
        ({"bound": "estimate"}, "bound is 'estimate'"),
        ({"value": float("nan")}, "finite number"),
        ({"value": "0.5"}, "finite number"),
        ({"on_missing": "pass"}, "on_missing is 'pass'"),
        ({"why": " "}, "'why' must give the reason"),
        ({"min_n": -1}, "min_n"),
        ({"requires": "collapse"}, "list of controls"),
        ({"requires": 5}, "list of controls"),
        ({"metric": ["m"]}, "text as metric"),
    ],
)
def test_language_is_closed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        policy(**change)


def test_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("id: a\nversion: 1\nid: b\n")
    with pytest.raises(PolicyError, match=r"(?s)'id' stands twice.*line 1"):
        load_policy(path)


def test_missing_key_empty_rules_and_twins_are_refused() -> None:
    without = copy.deepcopy(POLICY)
    del without["rules"][0]["value"]
    with pytest.raises(PolicyError, match="rule 1: the key 'value' is missing"):
        Policy.from_dict(without)
    with pytest.raises(PolicyError, match="no rules"):
        Policy.from_dict({**POLICY, "rules": []})
    with pytest.raises(PolicyError, match="share an id"):
        Policy.from_dict({**POLICY, "rules": [RULE, RULE]})


def test_digest_changes_with_every_word() -> None:
    assert policy().digest == policy().digest
    assert policy(why="another").digest != policy().digest
    assert Policy.from_dict(policy().to_dict()) == policy()


@pytest.mark.parametrize("name", ["default", "strict"])
def test_shipped_policies_give_reasons(name: str) -> None:
    shipped = load_policy(name)
    families = {rule.metric.split(".")[0] for rule in shipped.rules}
    assert families == {"fidelity", "privacy", "utility"}
    text = shipped.explain()
    assert text.count("because") == len(shipped.rules)


def test_strict_asks_for_more_than_default() -> None:
    strict = {rule.metric: rule for rule in load_policy("strict").rules}
    for rule in load_policy("default").rules:
        other = strict[rule.metric]
        assert other.value <= rule.value if rule.op == "<=" else other.value >= rule.value


def test_unknown_policy_is_explained() -> None:
    with pytest.raises(PolicyError, match="did you mean 'default'"):
        load_policy("defualt")
