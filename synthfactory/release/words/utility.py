"""Utility: does it serve as the original would?"""

from __future__ import annotations

import math

from synthfactory.release.words.kinds import Group, Words
from synthfactory.release.words.numbers import Json, measured, plain_text, points, span
from synthfactory.release.words.phrases import if_known, kept


def _tstr(finding: Json) -> str:
    unit = str(finding.get("unit", "")) or "score"
    return (
        f"A model trained on synthetic rows scores {measured(finding['estimate'])} ({unit},"
        f" {span(finding, measured)}) on real rows it never saw"
        + (
            f"; trained on real rows it scores {measured(finding['control'])}"
            if finding.get("control") is not None
            else ""
        )
        + "."
    )


def _retained(finding: Json) -> str:
    return (
        "Of what a model learns from the real rows beyond guessing, a model trained on"
        f" synthetic rows keeps {kept(finding)}"
        + if_known(finding.get("control"), "; trained on fresh real rows it keeps {}")
        + "."
    )


def _retained_mean(finding: Json) -> str:
    return (
        "Of what several kinds of models learn from the real rows beyond guessing, they keep, on"
        f" average and trained on synthetic rows, {kept(finding)}"
        + if_known(finding.get("control"), "; trained on fresh real rows they keep {}")
        + "."
    )


def _rank_agreement(finding: Json) -> str:
    return (
        "Ranked by how well they predict, kinds of models come in the same order after training on"
        " synthetic as after training on real rows with an agreement of"
        f" {measured(finding['estimate'])} ({span(finding, measured)}); 1 is the same order, 0 is"
        " no relation, −1 the reverse"
        + (
            f"; fresh real rows reach {measured(finding['control'])}"
            if finding.get("control") is not None
            else ""
        )
        + "."
    )


def _feature_importance(finding: Json) -> str:
    return (
        "A model of the synthetic rows relies on the same columns as a model of the real rows for"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a model of fresh real rows does for {}")
        + "."
    )


def _augmentation(finding: Json) -> str:
    unit = str(finding.get("unit", "")).removeprefix("difference of ") or "score"
    return (
        f"Adding the synthetic rows to the real ones {_changes(finding['estimate'])} ({unit}"
        f" {span(finding, measured)}) on real rows; 0 means no help and no harm"
        + (
            f". Adding fresh real rows {_changes(finding['control'])}"
            if finding.get("control") is not None
            else ""
        )
        + "."
    )


def _changes(value: float | None) -> str:
    if value is None or not math.isfinite(value) or not measured(abs(value)).strip("0."):
        return "does not change a model's score"
    return f"{'raises' if value > 0 else 'lowers'} a model's score by {measured(abs(value))}"


def _fairness_gap(finding: Json) -> str:
    worst = (finding.get("details") or {}).get("worst")
    groups = f"groups of “{plain_text(worst)}”" if worst else "groups of people"
    return (
        f"The difference in how a model treats {groups} changes by"
        f" {points(abs(finding['estimate']))} of 100 decisions ({span(finding, points)}) when it is"
        " trained on synthetic instead of real rows"
        + if_known(finding.get("control"), "; training on fresh real rows changes it by up to {}")
        + "."
    )


METRICS: dict[str, Words] = {
    "utility.tstr": Words(
        title="Train on synthetic, test on real",
        question="Do models trained on the synthetic rows work on real ones?",
        sentence=_tstr,
        limits="It speaks about predicting the one target that was declared.",
        remedy="Train longer, or release more rows (rows).",
        control="Trained on real",
        baseline="guessing",
    ),
    "utility.retained": Words(
        title="Learning kept",
        question="How much of what can be learnt from the real rows is still there?",
        sentence=_retained,
        limits="Other questions to the data may keep more, or less.",
        remedy="Train longer, or release more rows (rows).",
        control="Trained on fresh real rows",
        baseline="guessing",
    ),
    "utility.retained_mean": Words(
        title="Learning kept, over several models",
        question="Do other kinds of models keep what they can learn, too?",
        sentence=_retained_mean,
        limits="A mean can hide one kind of model that keeps little: see the chart of learners.",
        remedy="Train longer, or release more rows (rows).",
        control="Trained on fresh real rows",
        baseline="guessing",
    ),
    "utility.rank_agreement": Words(
        title="Order of models",
        question="Would a comparison of models on synthetic rows choose as one on real rows?",
        sentence=_rank_agreement,
        limits=(
            "Few models are compared, and models that are equally good have no order: read it"
            " beside what fresh real rows reach."
        ),
        remedy="Train longer, or release more rows (rows).",
        control="Trained on fresh real rows",
        baseline="no relation",
    ),
    "utility.feature_importance": Words(
        title="Columns that matter",
        question="Do models of the synthetic rows rely on the same columns?",
        sentence=_feature_importance,
        limits=(
            "Columns that carry the same information can stand in for each other, so real rows do"
            " not agree fully either."
        ),
        remedy="Train longer, or compare with another generator.",
        control="Trained on fresh real rows",
        baseline="all columns alike",
    ),
    "utility.augmentation": Words(
        title="Added to the real rows",
        question="Do the synthetic rows help somebody who has the real ones?",
        sentence=_augmentation,
        limits="It adds as many synthetic as real rows; fewer real rows could gain more.",
        remedy="Nothing is wrong near 0: synthetic rows rarely add to the rows they come from.",
        control="Fresh real rows added",
        baseline="no help",
    ),
    "utility.fairness_gap": Words(
        title="Treatment of groups",
        question="Would models of the synthetic rows treat groups of people differently?",
        sentence=_fairness_gap,
        limits=(
            "It compares with a model of the real rows, which may be unfair itself; groups of fewer"
            " than 50 test persons are not looked at."
        ),
        remedy="See which column stands out, and train longer or on more rows of small groups.",
        control="Trained on fresh real rows",
        baseline="no change",
    ),
}

HEADLINES = ("utility.retained", "utility.tstr")

GROUPS = (
    Group(
        key="prediction",
        title="Prediction",
        lead="How good is a model that learns from the synthetic rows, on real people?",
        metrics=("utility.tstr", "utility.retained", "utility.retained_mean"),
    ),
    Group(
        key="conclusions",
        title="The same conclusions",
        lead=(
            "Would somebody who works with the synthetic rows choose the same model, see the"
            " same columns at work, and treat people alike?"
        ),
        metrics=(
            "utility.rank_agreement",
            "utility.feature_importance",
            "utility.fairness_gap",
        ),
    ),
    Group(
        key="addition",
        title="Beside the real rows",
        lead="Is anything gained by somebody who has the real rows as well?",
        metrics=("utility.augmentation",),
    ),
)
