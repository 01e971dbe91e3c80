"""Every sentence, with every kind of number: no nonsense, no computer's words."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from synthfactory.evaluation import Evaluation
from synthfactory.evaluation.utility import fairness
from synthfactory.release import overview, words
from synthfactory.release.details import notes_of, tables_of

Finding = dict[str, Any]

UNITS = {
    "fidelity.wasserstein": "interquartile ranges",
    "fidelity.jensen_shannon": "distance, 0 to 1",
    "fidelity.two_sample_auc": "AUC",
    "fidelity.mmd2": "squared kernel distance",
    "fidelity.density": "ratio",
    "privacy.domias_knn": "AUC",
    "privacy.domias_classifier": "AUC",
    "privacy.membership_black_box": "AUC",
    "privacy.membership_white_box": "AUC",
    "privacy.epsilon_lower_bound": "epsilon",
    "privacy.k_map": "people",
    "utility.tstr": "AUC",
    "utility.rank_agreement": "Kendall's tau-b",
    "utility.augmentation": "difference of AUC",
}
CASES = {
    "typical": (0.512, 0.496, 0.53, 0.49),
    "zero": (0.0, -0.004, 0.004, 0.0),
    "exactly zero": (0.0, 0.0, 0.0, 0.0),
    "one": (1.0, 1.0, 1.0, 1.0),
    "almost nothing": (1e-9, -1e-9, 2e-9, -1e-12),
    "a little below zero": (-1e-7, -2e-7, 1e-7, -1e-7),
    "negative": (-0.11, -0.2, -0.02, -0.3),
    "below and above zero": (-0.02, -0.2, 0.3, 0.02),
    "extreme": (123_456.7, -98_765.4, 1e7, 1e6),
    "more than all": (1.04, 0.98, 1.1, 1.02),
}
NONSENSE = re.compile(
    r"None|nan|inf\b|[−–]0(\.0+)?\b(?![.\d])|  |\be[-+]\d|\(\)|\{|\}|^\W|\.\.| ,| \.|True|False"
    r"|\b1 (people|rules|models|looks|rows)\b"
)


def finding(metric: str, case: str, **changes: Any) -> Finding:
    estimate, lcb, ucb, control = CASES[case]
    whole = metric == "privacy.k_map"
    return {
        "id": metric,
        "family": metric.split(".")[0],
        "estimate": float(max(1, round(abs(estimate)))) if whole else estimate,
        "lcb": lcb,
        "ucb": ucb,
        "n": 1_000,
        "baseline": 0.5,
        "control": float(max(1, round(abs(control)))) if whole else control,
        "unit": UNITS.get(metric, "share"),
        "better": "lower",
        "confidence": 0.95,
        "method": "",
        "mde": 0.01,
        "details": {},
    } | changes


def sentence_of(found: dict[str, Any]) -> str:
    return words.words_of(found["id"]).sentence(found)


def assert_reads_well(text: str) -> None:
    found = NONSENSE.search(text)
    assert found is None, f"{found[0]!r} in: {text}"
    assert text[0].isupper() or text[0] in "“0123456789", text
    assert text[-1] in ".?)", text


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("metric", sorted(words.METRICS))
def test_every_sentence_reads_well_with_every_number(metric: str, case: str) -> None:
    assert_reads_well(sentence_of(finding(metric, case)))


@pytest.mark.parametrize("missing", ["control", "baseline", "details", "lcb"])
@pytest.mark.parametrize("metric", sorted(words.METRICS))
def test_every_sentence_reads_well_without_something(metric: str, missing: str) -> None:
    said = finding(metric, "typical")
    if missing == "lcb":
        said |= {"lcb": None, "ucb": None}
    elif missing == "details":
        del said["details"]
    else:
        said[missing] = None
    assert_reads_well(sentence_of(said))


@pytest.mark.parametrize("metric", sorted(words.METRICS))
def test_every_measurement_has_its_question_limits_and_remedy(metric: str) -> None:
    said = words.METRICS[metric]
    assert said.question.endswith("?")
    for text in (said.question, said.limits, said.remedy):
        assert_reads_well(text)
    assert said.title
    assert said.control
    assert said.baseline


@pytest.mark.parametrize("family", sorted(words.FAMILIES))
def test_a_familys_module_holds_its_measurements_and_no_others(family: str) -> None:
    module = importlib.import_module(f"synthfactory.release.words.{family}")
    mine = {metric for metric in words.METRICS if metric.startswith(f"{family}.")}
    assert set(module.METRICS) == mine
    assert {metric for group in module.GROUPS for metric in group.metrics} == mine
    assert set(module.HEADLINES) <= mine


def everything() -> Iterator[str]:
    """Each id that an evaluation can measure."""
    for suite in Evaluation(shadows=16).suites:
        yield from suite.ids
    yield fairness.ID
    yield from ("privacy.tpr_at_1pct_fpr", "privacy.tpr_at_1permille_fpr")


def test_every_measurement_that_can_be_made_has_words_and_a_place() -> None:
    ids = set(everything()) - {"instrument"}
    assert ids == set(words.METRICS)
    placed = [
        metric for groups in words.GROUPS.values() for group in groups for metric in group.metrics
    ]
    assert sorted(placed) == sorted(ids)


def test_what_has_no_place_yet_is_shown_all_the_same() -> None:
    found = words.grouped("privacy", ["privacy.some_new_attack", "privacy.exact_match"])
    assert [(group.key, metrics) for group, metrics in found] == [
        ("copies", ["privacy.exact_match"]),
        ("other", ["privacy.some_new_attack"]),
    ]


@pytest.mark.parametrize(
    ("metric", "case", "expected"),
    [
        (
            "privacy.exact_match",
            "zero",
            "Of 100 synthetic rows, no more repeat a training row word for word than coincidence"
            " explains (0.40 fewer to 0.40 more); without copying it is about 0.",
        ),
        (
            "privacy.attribute_inference",
            "negative",
            "Guessing a hidden attribute with the help of the synthetic rows succeeds in 11.0 fewer"
            " of 100 tries for training persons than for persons never seen (2.0 to 20.0 fewer); 0"
            " means that taking part changes nothing.",
        ),
        (
            "utility.retained",
            "negative",
            "Of what a model learns from the real rows beyond guessing, a model trained on"
            " synthetic rows keeps nothing (−11.0 of 100 parts; −20.0 to −2.0); trained on fresh"
            " real rows it keeps −30.0.",
        ),
        (
            "fidelity.association",
            "more than all",
            "Of the dependence between columns, the synthetic rows keep everything (104.0 of 100"
            " parts; 98.0 to 110.0); a fresh sample of real rows keeps 102.0.",
        ),
        (
            "utility.augmentation",
            "negative",
            "Adding the synthetic rows to the real ones lowers a model's score by 0.110 (AUC −0.200"
            " to −0.020) on real rows; 0 means no help and no harm. Adding fresh real rows lowers a"
            " model's score by 0.300.",
        ),
        (
            "privacy.epsilon_lower_bound",
            "exactly zero",
            "The attackers’ guesses refute no claim of differential privacy: that proves nothing,"
            " since better guesses may exist.",
        ),
        (
            "privacy.k_map",
            "one",
            "The rarest combination of known attributes that the synthetic rows show fits 1 person;"
            " that of real rows never seen fits 1.",
        ),
    ],
)
def test_numbers_become_words(metric: str, case: str, expected: str) -> None:
    assert sentence_of(finding(metric, case)) == expected


def test_the_one_rule_that_is_kept_is_no_plural() -> None:
    one = finding("fidelity.rules_kept", "typical", details={"rules": {"range": 1}})
    assert "keep the one rule that" in sentence_of(one)


def test_a_p_value_is_never_zero() -> None:
    group = {"group": "sex = f", "advantage": 0.3, "lcb": 0.2, "ucb": 0.4, "p": 0.0, "p_holm": 0.0}
    found = {"worst": group, "rarest": None, "n_groups": 1}
    (said,) = words.groups(finding("privacy.exact_match", "typical", details={"subgroups": found}))
    assert said == (
        "Hit hardest: “sex = f”, 30.0 more of 100 for training persons (20.0 to 40.0 more)"
        " (beyond chance, p < 0.001 after correction for 1 look)."
    )


REAL = ("certified_report", "deep_report", "leaking_report")


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_everything_about_real_findings_reads_well(
    name: str, request: pytest.FixtureRequest
) -> None:
    report = request.getfixturevalue(name)
    for found in report["findings"]["measurements"]:
        for text in (sentence_of(found), *words.groups(found), *notes_of(found)):
            assert_reads_well(text.replace("= True", "").replace("= False", ""))
        for table in tables_of(found):
            assert all(len(row) == len(table.head) for row in table.rows)
            assert not any(re.search("None|nan", cell) for row in table.rows for cell in row)


@pytest.mark.slow
def test_a_deep_evaluation_shows_parts_of_every_attack(deep_report: dict[str, Any]) -> None:
    by_id = overview.findings_by_id(deep_report)
    for metric in ("privacy.singling_out", "privacy.linkability", "privacy.attribute_inference",
                   "privacy.domias_knn", "privacy.membership_black_box", "privacy.dcr_share",
                   "fidelity.pair_trends", "fidelity.wasserstein", "fidelity.time_order",
                   "utility.feature_importance", "utility.fairness_gap",
                   "utility.retained_mean"):  # fmt: skip
        assert tables_of(by_id[metric]), metric
    for metric in ("privacy.k_map", "privacy.membership_white_box", "fidelity.column_shapes",
                   "utility.tstr", "fidelity.two_sample_auc"):  # fmt: skip
        assert notes_of(by_id[metric]), metric


@pytest.mark.slow
def test_lines_share_a_scale_and_those_with_rules_come_first(deep_report: dict[str, Any]) -> None:
    for section in overview.sections(deep_report).values():
        rows = overview.rows_of(section)
        assert len({row["id"] for row in rows}) == len(rows)
        for group in section:
            for block in group["blocks"]:
                assert len({words.is_share(row["unit"]) for row in block["rows"]}) == 1
                ranks = [
                    2 if row["passed"] is None else int(row["passed"]) for row in block["rows"]
                ]
                assert ranks == sorted(ranks)


@pytest.mark.slow
def test_no_measurement_is_lost(deep_report: dict[str, Any]) -> None:
    shown = [
        row["id"]
        for section in overview.sections(deep_report).values()
        for row in overview.rows_of(section)
    ]
    assert sorted(shown) == sorted(overview.findings_by_id(deep_report))


def test_a_rule_that_rests_on_few_rows_says_so() -> None:
    rule = {"rule": "r", "metric": "privacy.exact_match", "bound": "ucb", "op": "<=",
            "threshold": 0.005, "value": 0.2, "passed": False, "sentence": "raw"}  # fmt: skip
    report: dict[str, Any] = {
        "findings": {"measurements": [finding("privacy.exact_match", "typical", n=1)]},
        "policy": {"rules": [{"id": "r", "min_n": 500}]},
        "verdict": {"reasons": [rule]},
    }
    assert overview.rule_sentence(rule, report) == (
        "Exact copies: measured on 1 row; the policy asks for at least 500."
    )
    enough = copy.deepcopy(report)
    enough["findings"]["measurements"][0]["n"] = 1_000
    assert " ".join(overview.rule_sentence(rule, enough).split()) == (
        "Exact copies: the upper end of the interval is 20.0 %; the policy asks for at most 0.5 %."
    )
