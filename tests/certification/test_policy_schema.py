"""The published JSON Schema of policies is the language that the loader speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthfactory.certification import Policy
from synthfactory.certification.policy import BOUNDS, LEVELS, OPERATORS, USE_CLASSES, schema
from synthfactory.errors import PolicyError
from synthfactory.paths import conf_dir

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema (extra test)")

GOOD: dict[str, Any] = {
    "id": "p",
    "version": "1",
    "title": "t",
    "use_class": "open",
    "rules": [
        {"id": "r", "metric": "privacy.x", "bound": "ucb", "op": "<=", "value": 0.5, "why": "so"}
    ],
}


def both_refuse(values: Any) -> None:
    assert not jsonschema.Draft202012Validator(schema()).is_valid(values)
    with pytest.raises(PolicyError):
        Policy.from_dict(values)


@pytest.mark.parametrize("path", sorted(conf_dir().glob("policy/*.yaml")), ids=lambda p: p.stem)
def test_shipped_policies_are_in_the_language(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())


def test_what_a_policy_writes_is_in_the_language() -> None:
    written = Policy.from_dict(GOOD).to_dict()
    jsonschema.validate(written, schema())
    assert Policy.from_dict(json.loads(json.dumps(written))).digest == Policy.from_dict(GOOD).digest


@pytest.mark.parametrize(
    "change",
    [
        {"level": "SF-9"},
        {"use_class": "everybody"},
        {"rules": []},
        {"extra": 1},
    ],
)
def test_schema_and_loader_refuse_the_same_policies(change: dict[str, Any]) -> None:
    both_refuse({**GOOD, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"bound": "lcb"},
        {"op": ">"},
        {"op": ">="},
        {"value": "half"},
        {"min_n": -1},
        {"min_n": 1.5},
        {"on_missing": "pass"},
        {"why": " "},
        {"requires": "noisy_copy"},
        {"code": "import os"},
    ],
)
def test_schema_and_loader_refuse_the_same_rules(change: dict[str, Any]) -> None:
    both_refuse({**GOOD, "rules": [{**GOOD["rules"][0], **change}]})


@pytest.mark.parametrize("key", ["id", "metric", "bound", "op", "value", "why"])
def test_nothing_that_a_rule_needs_may_be_left_out(key: str) -> None:
    both_refuse({**GOOD, "rules": [{k: v for k, v in GOOD["rules"][0].items() if k != key}]})


def test_choices_are_the_same_in_both() -> None:
    document = schema()
    rule = document["$defs"]["rule"]["properties"]
    assert tuple(document["properties"]["use_class"]["enum"]) == USE_CLASSES
    assert tuple(document["properties"]["level"]["enum"]) == LEVELS
    assert tuple(rule["bound"]["enum"]) == BOUNDS
    assert tuple(rule["op"]["enum"]) == OPERATORS
