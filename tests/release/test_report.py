"""The document behind the page: deterministic, aggregates only, and true to what it was given."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import report_examples as examples

from synthfactory.certification import Policy, decide, load_policy
from synthfactory.release import build_report, render_html
from synthfactory.release.report import environment, loss_curve, outcome_of
from synthfactory.tables import Column, Dataset, RareValues, Schema, Split
from synthfactory.tables.rare import Changed

CANARY = "canary-5f1c"
CANARY_NUMBER = 987_654_321.25


@dataclass(frozen=True)
class Written:
    """Something that is known by its dictionary only."""

    content: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.content))


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A generator's specification."""

    epochs: int = 300
    generator_dims: tuple[int, ...] = (256, 256)
    name = "ctgan"
    licence = "Apache-2.0"
    reference = "arXiv:1907.00503"

    def hyperparameters(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


SECRETIVE = Schema(
    columns=(
        Column(
            name="income",
            kind="numerical",
            dtype="double",
            minimum=-CANARY_NUMBER,
            maximum=CANARY_NUMBER,
        ),
        Column(name="disease", kind="categorical", dtype="string", categories=(CANARY, "flu")),
    ),
    target="disease",
)


RARE = RareValues(
    min_people=10,
    n_rows=105,
    n_people=105,
    changes=(
        Changed(column="age", change="high", cells=9, people=9),
        Changed(column="disease", change="together", cells=14, people=14),
    ),
)


@dataclass(frozen=True, kw_only=True)
class AnOrder:
    dataset: Dataset = field(
        default_factory=lambda: Dataset(
            path=f"/home/{CANARY}/people.csv",
            name="people",
            target="disease",
            columns={"disease": {"categories": [CANARY, "flu"]}},
            missing_values=(CANARY,),
        )
    )
    generator: Any = field(default_factory=lambda: Learner(epochs=5))
    policy: Policy = field(default_factory=lambda: load_policy("default"))
    split: Split = field(default_factory=lambda: Split(control=0.25))
    evaluation: Any = field(default_factory=Learner)
    seed: int = 7

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataset": dataclasses.asdict(self.dataset),
            "generator": dataclasses.asdict(self.generator),
            "policy": self.policy.to_dict(),
            "split": dataclasses.asdict(self.split),
            "seed": self.seed,
            "rows": None,
            "threads": 2,
            "device": "cpu",
        }


def build(order: AnOrder | None = None, **changes: Any) -> dict[str, Any]:
    example = examples.certified()
    given: dict[str, Any] = {
        "schema": SECRETIVE,
        "rare": RARE,
        "split": {"rows": {"train": 60, "control": 25, "test": 20}, "by": "row"},
        "findings": Written(example["findings"]),
        "verdict": decide(example["findings"], "default"),
        "manifest": {"merkleRoot": "sha256:" + "3f" * 32, "parts": [{"rows": 40}, {"rows": 20}]},
        "losses": [{"step": 1, "critic": 0.5}, {"step": 2, "critic": 0.25}],
    }
    return build_report(order or AnOrder(), **(given | changes))


def test_the_same_run_gives_the_same_report() -> None:
    assert json.dumps(build()) == json.dumps(build())


def test_the_report_renders() -> None:
    assert "Certified" in render_html(build())


def test_no_value_of_the_confidential_table_is_repeated() -> None:
    report = build()
    for text in (json.dumps(report), render_html(report)):
        assert CANARY not in text
        assert "987654321" not in text.replace(",", "")


def test_the_report_counts_rows_of_table_and_release() -> None:
    report = build()
    assert report["dataset"]["rows"] == 105
    assert report["manifest"] == {"merkleRoot": "sha256:" + "3f" * 32, "parts": 2, "rows": 60}


def test_the_command_names_what_differs_from_the_defaults() -> None:
    command = build()["command"]
    assert command.startswith("synthfactory run 'dataset.path=<the confidential table>'")
    assert "generator=ctgan generator.epochs=5" in command
    assert "generator_dims" not in command
    assert "split.control=0.25" in command
    assert "split.test" not in command
    assert "policy=default" in command
    assert "seed=7" in command


def test_the_command_names_a_policy_of_the_users_own_by_its_file() -> None:
    own = dataclasses.replace(load_policy("default"), id="ours")
    assert "'policy=<the file of the policy ours>'" in build(AnOrder(policy=own))["command"]


def test_the_command_of_an_embedded_table_can_be_copied() -> None:
    order = AnOrder(dataset=Dataset(path="package:adult", name="adult"))
    assert "dataset=adult generator=ctgan" in build(order)["command"]


def test_the_policy_stands_in_the_report_once_with_its_digest() -> None:
    report = build()
    assert report["policy"]["digest"] == load_policy("default").digest
    assert report["order"]["policy"] == "sf-default"


def test_what_is_not_a_number_becomes_null() -> None:
    findings = Written(copy.deepcopy(examples.certified()["findings"]))
    findings.content["measurements"][0]["control"] = math.nan
    report = build(findings=findings)
    assert report["findings"]["measurements"][0]["control"] is None
    json.dumps(report, allow_nan=False)
    render_html(report)


@pytest.mark.parametrize(
    ("failures", "reasons", "outcome"),
    [
        ({}, [{"passed": False, "value": 0.7}], "refused"),
        ({}, [{"passed": False, "value": None}], "incomplete"),
        ({"privacy.dcr_share": "out of memory"}, [], "incomplete"),
    ],
)
def test_what_could_not_be_measured_is_told_apart_from_what_failed(
    failures: dict[str, str], reasons: list[dict[str, Any]], outcome: str
) -> None:
    verdict = {"certified": False, "reasons": reasons}
    assert outcome_of({"failures": failures}, verdict) == outcome


def test_a_long_training_is_thinned_and_keeps_its_end() -> None:
    curve = loss_curve([{"step": step, "loss": step / 1e4} for step in range(10_001)])
    assert len(curve["steps"]) <= 202
    assert curve["steps"][0] == 0
    assert curve["steps"][-1] == 10_000


def test_the_environment_names_versions_without_importing_them() -> None:
    described = environment(threads=2)
    assert described["threads"] == 2
    assert described["packages"]["numpy"]
    assert described["python"].startswith("3.")


def test_rare_values_are_told_with_rounded_counts() -> None:
    report = build()
    assert report["rareValues"] == {
        "minPeople": 10,
        "kept": False,
        "changes": [
            {"column": "age", "change": "high", "cells": None},
            {"column": "disease", "change": "together", "cells": 10},
        ],
        "declared": [],
        "single": [],
    }
    page = render_html(report)
    assert "values of fewer than 10 people were made common, in 2 columns" in page
    assert "<td>clipped from above</td><td>of fewer than 10 people</td>" in page
    assert "Rare values" not in {item["what"] for item in report["notAssessed"]}


def test_rare_values_that_were_kept_are_a_gap_that_is_named() -> None:
    kept = RareValues(min_people=0, n_rows=105, n_people=105)
    order = AnOrder(dataset=Dataset(path="people.csv", target="disease", min_people=0))
    report = build(order, rare=kept)
    assert report["notAssessed"][0]["what"] == "Rare values"
    assert "dataset.min_people=0" in report["command"]
    page = render_html(report)
    assert page.count("Rare values were kept: ") >= 3


def test_nothing_rare_and_reports_of_before_are_rendered() -> None:
    report = build(rare=RareValues(min_people=10, n_rows=105, n_people=105))
    assert "No value of fewer than 10 people was found" in render_html(report)
    del report["rareValues"]
    assert "Rare values" not in render_html(report)
