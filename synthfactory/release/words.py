"""The words of the report: one plain sentence per measurement, and what it does not prove.

The reader is a data protection officer who decides, not a statistician who already knows.  So
each measurement says what was done to whom, in numbers out of 100 where that is possible, with
its interval and what chance or never-seen people give.  The report claims no legal status of
the data: it says which attacks were tried, what they found, and what was not tried.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from synthfactory.tables.rare import IN_WORDS

Json = Mapping[str, Any]

SIGNIFICANT = 0.05
# With a space that does not break: no line begins with a percent sign.
PERCENT = "\u00a0%"
# Counts, and what is so small that three places would hide it.
_OWN_DIGITS = frozenset({"people", "squared kernel distance"})
_SHARES = frozenset({"share", "rate", "rates", "proportion", "similarity"})


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the report says about one kind of measurement.

    Parameters
    ----------
    title
        A short name.
    question
        What a reader wants to know, as a question.
    sentence
        From a measurement (as a dictionary) to one sentence with its numbers.
    limits
        What a good value does not prove.
    remedy
        What to try when its rule is missed.
    control, baseline
        What the measurement's control and baseline stand for.
    """

    title: str
    question: str
    sentence: Callable[[Json], str]
    limits: str
    remedy: str = ""
    control: str = "Fresh real rows"
    baseline: str = "chance"


def number(value: float | None, unit: str = "") -> str:
    """A number for reading: shares in percent, three significant digits, a true minus sign.

    >>> number(0.50312, "share"), number(0.87345), number(12345.6), number(-0.004, "share")
    ('50.3\\xa0%', '0.873', '12,300', '−0.4\\xa0%')
    >>> number(None), number(0.0001234, "share"), number(12345), number(0.6000000001)
    ('–', '0.0123\\xa0%', '12,345', '0.6')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if is_share(unit):
        return f"{_digits(100 * value)}{PERCENT}"
    return f"{value:,}".replace("-", "−") if isinstance(value, int) else _digits(value)


def is_share(unit: str) -> bool:
    """Whether a unit is a part of a whole, written in percent.

    >>> is_share("share of rows"), is_share("difference of success rates"), is_share("AUC")
    (True, True, False)
    """
    return not _SHARES.isdisjoint(unit.replace(",", " ").split())


def measured(value: float | None, unit: str = "") -> str:
    """A measured number with as many digits as its neighbours: no trailing zero is dropped.

    >>> measured(0.51, "share"), measured(0.0004, "share"), measured(0.9), measured(-0.11)
    ('51.0\\xa0%', '0.04\\xa0%', '0.900', '−0.110')
    >>> measured(0.00447, "squared kernel distance"), measured(3.0, "people")
    ('0.00447', '3')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if unit in _OWN_DIGITS:
        return number(value)
    return f"{points(value)}{PERCENT}" if is_share(unit) else _fixed(value, 3)


def points(value: float | None) -> str:
    """A share as a plain number out of 100.

    >>> points(0.503), points(0.51), points(0.0004)
    ('50.3', '51.0', '0.04')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return _fixed(100 * value, 1 if abs(value) >= 0.00995 or value == 0 else 2)


def plain_text(text: object) -> str:
    """A name as it may be shown: control and direction-changing characters become ``�``.

    Such characters could make a name look like another one, or run into the text around it.

    >>> plain_text("a\\u202eb\\x00\\tc")
    'a�b��c'
    """
    return "".join(
        "�" if unicodedata.category(sign) in {"Cc", "Cf", "Cs"} and sign not in _JOINERS else sign
        for sign in str(text)
    )


# Zero-width joiner and non-joiner belong to emoji and to several scripts.
_JOINERS = "\u200c\u200d"


def short(text: object, length: int) -> str:
    """``text`` cut to ``length`` signs.

    >>> short("capital-gain", 8)
    'capital…'
    """
    plain = plain_text(text)
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def span(finding: Json, write: Callable[[float | None], str]) -> str:
    """The interval of a measurement in words: ``49.6 to 51.0``."""
    return f"{write(finding.get('lcb'))} to {write(finding.get('ucb'))}"


def words_of(metric: str) -> Words:
    """The words of a measurement; a plain wording for one that has none of its own."""
    return METRICS.get(metric) or Words(
        title=metric.split(".")[-1].replace("_", " ").capitalize(),
        question="What was measured?",
        sentence=_plain_sentence,
        limits="One number describes one aspect only.",
    )


def _fixed(value: float, places: int) -> str:
    if abs(value) >= 1_000:
        return _digits(value)
    text = f"{value:.{places}f}"
    return (text.removeprefix("-") if not text.strip("-0.") else text).replace("-", "−")


def _digits(value: float) -> str:
    """Three significant digits and no trailing zeros after the fourth place."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    text = f"{rounded:,.{min(places, 6)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")


def _plain_sentence(finding: Json) -> str:
    unit = str(finding.get("unit", ""))
    said = f"Measured {measured(finding['estimate'], unit)}"
    said += f" ({span(finding, lambda value: measured(value, unit))})"
    for name in ("control", "baseline"):
        if finding.get(name) is not None:
            said += f"; {name} {measured(finding[name], unit)}"
    return said + "."


def _no_more(value: float) -> bool:
    """Whether a difference of shares is nothing, as written."""
    return not points(abs(value)).strip("0.")


def _more(finding: Json) -> str:
    """A difference of shares in words: ``0.58 fewer`` for -0.0058, ``no more`` for 0."""
    estimate = finding["estimate"]
    if estimate is None or not math.isfinite(estimate):
        return "– more"
    if _no_more(estimate):
        return "no more"
    return f"{points(abs(estimate))} {'more' if estimate > 0 else 'fewer'}"


def _more_span(finding: Json) -> str:
    """The interval of a difference of shares: ``0.11 fewer to 0.11 more``."""
    low, high = finding.get("lcb"), finding.get("ucb")
    if low is None or high is None:
        return span(finding, points)
    if low >= 0:
        return f"{points(low)} to {points(high)} more"
    if high <= 0:
        return f"{points(-high)} to {points(-low)} fewer"
    if _no_more(low):
        return f"0 to {points(high)} more"
    return f"{points(-low)} fewer to {points(high)} more"


def _kept(finding: Json) -> str:
    """A share that is kept; less than nothing, and more than all, are said as such."""
    estimate = finding["estimate"]
    told = f"{points(estimate)} of 100 parts"
    if estimate is not None and estimate < 0:
        return f"nothing ({told}; {span(finding, points)})"
    if estimate is not None and estimate > 1:
        return f"everything ({told}; {span(finding, points)})"
    return f"{told} ({span(finding, points)})"


def _if_known(value: float | None, text: str, write: Callable[[float | None], str] = points) -> str:
    return text.format(write(value)) if value is not None else ""


def _column_shapes(finding: Json) -> str:
    return (
        "Column by column, the synthetic rows agree with the original in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _pair_trends(finding: Json) -> str:
    return (
        f"For an average pair of columns, the joint picture agrees in {points(finding['estimate'])}"
        f" of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _association(finding: Json) -> str:
    return (
        f"Of the dependence between columns, the synthetic rows keep {_kept(finding)}"
        + _if_known(finding.get("control"), "; a fresh sample of real rows keeps {}")
        + "."
    )


def _two_sample(finding: Json) -> str:
    details = finding.get("details") or {}
    named = ", ".join(
        f"“{plain_text(column['name'])}”" for column in details.get("columns", ())[:3]
    )
    return (
        "Shown one real and one synthetic row, a trained classifier picks the synthetic one in"
        f" {points(finding['estimate'])} of 100 cases ({span(finding, points)}); chance is 50"
        + _if_known(finding.get("control"), ", and with fresh real rows it is {}")
        + "."
        + (f" What gives them away most: {named}." if named and _above(finding, 0.5) else "")
    )


def _above(finding: Json, value: float) -> bool:
    return finding.get("lcb") is not None and finding["lcb"] > value


def _exact_match(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {_more(finding)} repeat a training row word for word than"
        f" coincidence explains ({_more_span(finding)}); without copying it is about 0."
    )


def _against_half(finding: Json) -> str:
    reach = ", and real rows never seen reach {}"
    return "; chance is 50" + _if_known(finding.get("control"), reach)


def _dcr_share(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} lie nearer to a training person than"
        f" to somebody who was never seen ({span(finding, points)}){_against_half(finding)}."
    )


def _dcr_share_aligned(finding: Json) -> str:
    return (
        "After undoing any shift or rescaling of the columns, of 100 synthetic rows"
        f" {points(finding['estimate'])} lie nearer to a training person than to somebody who was"
        f" never seen ({span(finding, points)}){_against_half(finding)}."
    )


def _attribute_inference(finding: Json) -> str:
    secret = (finding.get("details") or {}).get("worst")
    hidden = f"a hidden “{plain_text(secret)}”" if secret else "a hidden attribute"
    return (
        f"Guessing {hidden} with the help of the synthetic rows succeeds in {_more(finding)} of"
        " 100 tries for training persons than for persons never seen"
        f" ({_more_span(finding)}); 0 means that taking part changes nothing."
    )


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
        f" synthetic rows keeps {_kept(finding)}"
        + _if_known(finding.get("control"), "; trained on fresh real rows it keeps {}")
        + "."
    )


def groups(finding: Json) -> list[str]:
    """What a measurement found in its worst subgroup and among the rarest rows."""
    details = finding.get("details") or {}
    said = []
    for found in (details.get("subgroups") or {}, details.get("by_rarity") or {}):
        for key in ("worst", "rarest"):
            group = found.get(key)
            if not group or (key == "rarest" and group == found.get("worst")):
                continue
            named = "Hit hardest: " if key == "worst" else ""
            said.append(named + _group_sentence(group, int(found["n_groups"])))
    return said


def _group_sentence(group: Json, n_groups: int) -> str:
    # The hardest hit of many groups is a chance find as often as not: Holm's p says which.
    told = "beyond chance" if group["p_holm"] < SIGNIFICANT else "within chance"
    looks = "1 look" if n_groups == 1 else f"{n_groups} looks"
    return (
        f"{group_name(group)}, {group_value(group)} ({told}, {p_value(group['p_holm'])} after"
        f" correction for {looks})."
    )


def group_name(group: Json) -> str:
    """A subgroup's name, as one reads it: ``the rarest tenth of the rows``, ``“sex = f”``."""
    if group.get("tenth") is not None:
        return _TENTHS.get(group["tenth"], f"Tenth {group['tenth']} of 10 by rarity")
    return "The rarest tenth" if group["group"] == _RAREST else f"“{plain_text(group['group'])}”"


_RAREST = "rarest tenth"
_TENTHS = {1: "The commonest tenth", 10: "The rarest tenth"}


def group_value(group: Json) -> str:
    """What an attack gains in a subgroup, with its interval, in numbers out of 100."""
    if group.get("tenth") is not None:
        return f"{points(group['share'])} of 100 rows ({span(group, points)}), where chance is 50"
    as_finding = {**group, "estimate": group["advantage"]}
    return f"{_more(as_finding)} of 100 for training persons ({_more_span(as_finding)})"


def p_value(value: float | None) -> str:
    """A p value for reading; none is ever 0.

    >>> p_value(0.0), p_value(0.0312), p_value(1.0)
    ('p < 0.001', 'p 0.0312', 'p 1')
    """
    if value is None or not math.isfinite(value):
        return "p –"
    return "p < 0.001" if value < 0.001 else f"p {number(value)}"


def _nndr_share(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} single out one training person from"
        " the next nearest more sharply than one person who was never seen"
        f" ({span(finding, points)}){_against_half(finding)}."
    )


def _authenticity(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} keep a greater distance from their"
        " nearest training person than that person has to the next one"
        f" ({span(finding, points)})"
        + _if_known(finding.get("control"), "; of 100 real rows never seen, {} do")
        + "."
    )


def _correlation(finding: Json) -> str:
    return (
        "For an average pair of numbers, the correlation agrees in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _triples(finding: Json) -> str:
    return (
        "For three columns at a time, the joint picture agrees in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _accuracy(finding: Json) -> str:
    return (
        "Over single columns, pairs and triples, the counts agree in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _wasserstein(finding: Json) -> str:
    control = finding.get("control")
    return (
        "To become the real ones, synthetic numbers would have to move by"
        f" {measured(finding['estimate'])} times the width of the real middle half on average"
        f" ({span(finding, measured)})"
        + (f"; a fresh sample of real rows by {measured(control)}" if control is not None else "")
        + "."
    )


def _jensen_shannon(finding: Json) -> str:
    control = finding.get("control")
    return (
        "On a scale from 0 (the same) to 1 (nothing in common), an average column lies"
        f" {measured(finding['estimate'])} away from the original ({span(finding, measured)})"
        + (f"; that of fresh real rows {measured(control)}" if control is not None else "")
        + "."
    )


def _missing_patterns(finding: Json) -> str:
    return (
        "Which values of a row are missing together agrees in"
        f" {points(finding['estimate'])} of 100 rows ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _rules_kept(finding: Json) -> str:
    rules = (finding.get("details") or {}).get("rules") or {}
    count = sum(rules.values())
    told = {0: "every rule", 1: "the one rule"}.get(count, f"all {count} rules")
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} keep {told} that the real rows keep"
        f" ({span(finding, points)})"
        + _if_known(finding.get("control"), "; of 100 fresh real rows {} do")
        + "."
    )


def _time_order(finding: Json) -> str:
    return (
        "The calendar and the order of the rows in time agree in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _mmd2(finding: Json) -> str:
    return (
        "The squared distance between the distributions of whole real and whole synthetic rows is"
        f" {number(finding['estimate'])} ({span(finding, number)}); it is about 0, a little below"
        " included, when they are the same"
        + _if_known(finding.get("control"), ", {} for fresh real rows", number)
        + _if_known(finding.get("baseline"), ", and {} for independent columns", number)
        + "."
    )


def _precision(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} lie where real rows lie"
        f" ({span(finding, points)})"
        + _if_known(finding.get("control"), "; of fresh real rows {} do")
        + "."
    )


def _recall(finding: Json) -> str:
    return (
        f"Of 100 real rows, {points(finding['estimate'])} lie where synthetic rows lie"
        f" ({span(finding, points)})"
        + _if_known(finding.get("control"), "; {} lie where fresh real rows lie")
        + "."
    )


def _density(finding: Json) -> str:
    return (
        f"Where a synthetic row lies, real rows are {measured(finding['estimate'])} times as dense"
        f" as around real rows ({span(finding, measured)})"
        + (
            f"; for fresh real rows it is {measured(finding['control'])} times"
            if finding.get("control") is not None
            else ""
        )
        + "."
    )


def _coverage(finding: Json) -> str:
    return (
        f"Of 100 real rows, {points(finding['estimate'])} have a synthetic row among their"
        f" neighbours ({span(finding, points)})"
        + _if_known(finding.get("control"), "; {} have a fresh real row there")
        + "."
    )


def _alpha_precision(finding: Json) -> str:
    return (
        "From the most typical rows to the rarest, the synthetic rows are as typical as the real"
        f" ones in {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; fresh real rows reach {}")
        + "."
    )


def _beta_recall(finding: Json) -> str:
    return (
        "From the most typical synthetic rows to the rarest, they cover as many real rows as they"
        f" should in {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + _if_known(finding.get("control"), "; fresh real rows reach {}")
        + "."
    )


def _rates(finding: Json, parts: str, name: str) -> Json | None:
    """The success rates of the worst of an attack's forms, where they were told."""
    details = finding.get("details") or {}
    return next(
        (part for part in details.get(parts, ()) if part.get(name) == details.get("worst")), None
    )


def _added_risk(finding: Json) -> str:
    said = (
        f"the risk that taking part adds is {points(finding['estimate'])} of 100"
        f" ({span(finding, points)}); 0 means that it changes nothing"
    )
    return said + (", and below 0 is chance." if (finding["estimate"] or 0) < 0 else ".")


def _singling_out(finding: Json) -> str:
    attack = _rates(finding, "attacks", "attack")
    told = (
        f"exactly one training person in {points(attack['members'])} of 100 tries, and exactly one"
        f" person never seen in {points(attack['strangers'])}"
        if attack
        else "single training persons, and single persons never seen"
    )
    return f"Descriptions read off the synthetic rows pick out {told}: {_added_risk(finding)}"


def _linkability(finding: Json) -> str:
    split = _rates(finding, "splits", "split")
    told = (
        f" in {points(split['members'])} of 100 tries for training persons, and in"
        f" {points(split['strangers'])} for persons never seen"
        if split
        else ", for training persons and for persons never seen"
    )
    return (
        "With the help of the synthetic rows, two records of one person are recognised as"
        f" belonging together{told}: {_added_risk(finding)}"
    )


def _k_map(finding: Json) -> str:
    details = finding.get("details") or {}
    k, everybody = number(int(finding["estimate"])), details.get("population")
    among = f" among the {number(everybody)} people of the population table" if everybody else ""
    nobody = _if_known(
        details.get("rows_that_fit_nobody"), "; {} of 100 synthetic rows fit nobody at all"
    )
    return (
        f"The rarest combination of known attributes that the synthetic rows show fits {k}"
        f" {'person' if k == '1' else 'people'}{among}{nobody}"
        + _if_known(finding.get("control"), "; that of real rows never seen fits {}", number)
        + "."
    )


def _retained_mean(finding: Json) -> str:
    return (
        "Of what several kinds of models learn from the real rows beyond guessing, they keep, on"
        f" average and trained on synthetic rows, {_kept(finding)}"
        + _if_known(finding.get("control"), "; trained on fresh real rows they keep {}")
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
        + _if_known(finding.get("control"), "; a model of fresh real rows does for {}")
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
        + _if_known(finding.get("control"), "; training on fresh real rows changes it by up to {}")
        + "."
    )


def _membership(finding: Json, who: str, otherwise: str = "with fresh real rows instead") -> str:
    return (
        f"Shown one training person and one person never seen, {who} picks the training person in"
        f" {points(finding['estimate'])} of 100 cases ({span(finding, points)}); chance is 50"
        + _if_known(finding.get("control"), f", and {otherwise} it is {{}}")
        + "."
    )


def _domias_knn(finding: Json) -> str:
    return _membership(finding, "an attacker who compares how crowded the synthetic rows are there")


def _domias_classifier(finding: Json) -> str:
    return _membership(finding, "an attacker who trains a model on the synthetic rows")


def _shadows(finding: Json) -> str:
    details = finding.get("details") or {}
    sort = (details.get("worst") or {}).get("targets")
    whose = f" and looks at {plain_text(sort)} people" if sort else ""
    count = details.get("shadows")
    trained = f"{count} models" if count else "models"
    who = f"an attacker who trained {trained} of the same kind{whose}"
    return _membership(finding, who, "against models of other people")


def _true_positives(finding: Json) -> str:
    wrongly = (
        f"wrongly suspects {points(finding['baseline'])} of 100 persons never seen"
        if finding.get("baseline") is not None
        else "hardly ever wrongly suspects a person never seen"
    )
    return (
        f"An attacker who {wrongly} recognises {points(finding['estimate'])} of 100 training"
        f" persons ({span(finding, points)})"
        + _if_known(finding.get("control"), "; with fresh real rows instead, {}")
        + "."
    )


def _epsilon(finding: Json) -> str:
    details = finding.get("details") or {}
    right, guesses = details.get("right"), details.get("guesses")
    counted = f" ({right:,} of {guesses:,} guesses were right)" if guesses else ""
    claimed = _if_known(details.get("claimed"), "; claimed is {}", measured)
    if not (finding["estimate"] or 0) > 0:
        return (
            f"The attackers’ guesses refute no claim of differential privacy{counted}{claimed}:"
            " that proves nothing, since better guesses may exist."
        )
    return (
        "If differential privacy is claimed, its epsilon cannot be below"
        f" {measured(finding['estimate'])}{counted}{claimed}."
    )


METRICS: dict[str, Words] = {
    "fidelity.column_shapes": Words(
        title="Column shapes",
        question="Does each column on its own look like the original?",
        sentence=_column_shapes,
        limits="Columns can each look right while the rows make no sense together.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="no agreement",
    ),
    "fidelity.pair_trends": Words(
        title="Pair trends",
        question="Do pairs of columns move together as in the original?",
        sentence=_pair_trends,
        limits="Relations among three or more columns are not seen here.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.association": Words(
        title="Dependence kept",
        question="How much of the dependence between columns survives?",
        sentence=_association,
        limits="It looks at the strength of pairwise dependence, not at its form.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.two_sample_auc": Words(
        title="Told apart by a classifier",
        question="Can a trained classifier tell synthetic rows from real ones?",
        sentence=_two_sample,
        limits="Another, stronger classifier may see differences that this one missed.",
        remedy="See which columns give the rows away, and look at those first.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.exact_match": Words(
        title="Exact copies",
        question="Are training rows repeated word for word?",
        sentence=_exact_match,
        limits="A copy with a small change is no exact copy: the distance tests look for those.",
        remedy="Declare identifiers as such, and use a generator that stores no rows.",
        control="Fresh real rows",
        baseline="no copying",
    ),
    "privacy.dcr_share": Words(
        title="Nearness to training rows",
        question="Do synthetic rows crowd around the people they were learnt from?",
        sentence=_dcr_share,
        limits=(
            "A distance test may refuse a dataset but never clears one: leaks that do not show as"
            " nearness (a constant shift, rare details) pass it (arXiv 2505.01524)."
        ),
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.dcr_share_aligned": Words(
        title="Nearness after undoing shifts",
        question="Would copies show once shifts and rescalings are undone?",
        sentence=_dcr_share_aligned,
        limits="Copies disguised by anything but a monotone change per column are not found here.",
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.attribute_inference": Words(
        title="Guessing hidden attributes",
        question="Does taking part make a person's hidden attribute easier to guess?",
        sentence=_attribute_inference,
        limits=(
            "The attacker here knows all other columns and uses one family of models; attackers"
            " with other knowledge were not played."
        ),
        remedy="Do not release. Train for fewer epochs, or leave that attribute out.",
        control="Fresh real rows",
        baseline="no effect of taking part",
    ),
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
    "privacy.nndr_share": Words(
        title="Singled-out training rows",
        question="Do synthetic rows point at one training person more than at anybody else?",
        sentence=_nndr_share,
        limits=(
            "It compares distances only: a leak that does not show as nearness passes it"
            " (arXiv 2505.01524)."
        ),
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.authenticity": Words(
        title="Rows that are new",
        question="Are synthetic rows more than training rows with a little noise?",
        sentence=_authenticity,
        limits=(
            "It is read beside fresh real rows, of which some lie near a training person by"
            " coincidence; where few different rows are possible, most do. Noise that is large"
            " enough hides any copy from it."
        ),
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.correlation": Words(
        title="Correlations",
        question="Do pairs of numbers correlate as in the original?",
        sentence=_correlation,
        limits="Correlation sees straight lines only; most tables score high even without them.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.triples": Words(
        title="Triples",
        question="Do three columns at a time look like the original together?",
        sentence=_triples,
        limits="Coarse groups of values are compared; relations inside a group are not seen.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.accuracy": Words(
        title="Accuracy of counts",
        question="Do counts in tables of one, two and three columns agree?",
        sentence=_accuracy,
        limits="It is defined as in mostlyai-qa, for comparison; rare levels are counted together.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.wasserstein": Words(
        title="Distance of numbers",
        question="How far are the synthetic numbers from the original ones?",
        sentence=_wasserstein,
        limits="Each column is seen on its own; a single far value weighs much.",
        remedy="See which columns stand out in the table of columns below.",
        control="Fresh real rows",
        baseline="the middle value, repeated",
    ),
    "fidelity.jensen_shannon": Words(
        title="Distance of shares",
        question="How far are the columns' shares from the original ones?",
        sentence=_jensen_shannon,
        limits="Each column is seen on its own, on at most a few dozen groups of values.",
        remedy="See which columns stand out in the table of columns below.",
        control="Fresh real rows",
        baseline="nothing in common",
    ),
    "fidelity.missing_patterns": Words(
        title="Missing values",
        question="Are the same values missing together as in the original?",
        sentence=_missing_patterns,
        limits="It does not ask whether values are missing for the same people or reasons.",
        remedy="Train longer (generator.epochs), or declare a code for missing values.",
        control="Fresh real rows",
        baseline="each column on its own",
    ),
    "fidelity.rules_kept": Words(
        title="Rules kept",
        question="Do the synthetic rows keep the rules that hold for the real ones?",
        sentence=_rules_kept,
        limits=(
            "Rules were searched among ranges, orders, sums and dependencies of two columns; other"
            " rules may be broken unseen."
        ),
        remedy="Drop a column that follows from others and calculate it after sampling.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.time_order": Words(
        title="Order in time",
        question="Do rows follow each other in time as in the original?",
        sentence=_time_order,
        limits="Calendar, gaps and neighbours in time are compared, not whole histories.",
        remedy="Use a generator of sequences, or do not study order in time with these data.",
        control="Fresh real rows",
        baseline="times dealt out at random",
    ),
    "fidelity.mmd2": Words(
        title="Distance of whole rows",
        question="Do whole rows, all columns together, have the same distribution?",
        sentence=_mmd2,
        limits="It sees broad differences better than rare ones, and has no scale of its own.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.precision": Words(
        title="Believable rows",
        question="Do synthetic rows lie where real rows lie?",
        sentence=_precision,
        limits="One far-off real person makes a large neighbourhood in which much is believable.",
        remedy="Train longer, and check the columns that the classifier names.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.recall": Words(
        title="Real rows reached",
        question="Do real rows lie where synthetic rows lie?",
        sentence=_recall,
        limits="Scattered synthetic rows have large neighbourhoods, which reach much by chance.",
        remedy="Train longer, or release more rows (rows).",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.density": Words(
        title="Density",
        question="Do synthetic rows lie where real rows are dense?",
        sentence=_density,
        limits="Rows that crowd in the middle score above 1: read it beside coverage.",
        remedy="Train longer, and check the columns that the classifier names.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.coverage": Words(
        title="Coverage",
        question="Is every kind of real row represented?",
        sentence=_coverage,
        limits="A copy of the training rows covers all of them: it says nothing about privacy.",
        remedy="Train longer; a generator that repeats a few kinds of rows has collapsed.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.alpha_precision": Words(
        title="Typical and rare rows (alpha-precision)",
        question="Are typical rows as typical, and rare rows as rare, as in the original?",
        sentence=_alpha_precision,
        limits="It measures distance from the middle only: rows may be off in any direction.",
        remedy="Train longer (generator.epochs), or compare with another generator.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "fidelity.beta_recall": Words(
        title="Typical and rare rows covered (beta-recall)",
        question="Do typical and rare synthetic rows cover the real rows as they should?",
        sentence=_beta_recall,
        limits="A copy of the training rows covers all of them: it says nothing about privacy.",
        remedy="Train longer; rare rows are learnt last.",
        control="Fresh real rows",
        baseline="independent columns",
    ),
    "privacy.singling_out": Words(
        title="Singling out",
        question="Can a description read off the synthetic rows pick out one training person?",
        sentence=_singling_out,
        limits=(
            "The descriptions tried are single values and conditions on three to eight columns of"
            " one synthetic row; other descriptions may pick out other people. A person who is"
            " singled out is not yet known by name."
        ),
        remedy=(
            "Do not release. Round numbers and dates, merge rare levels, and train for fewer"
            " epochs."
        ),
        control="Fresh real rows",
        baseline="no effect of taking part",
    ),
    "privacy.linkability": Words(
        title="Linking two records",
        question="Do the synthetic rows tell which two records belong to one training person?",
        sentence=_linkability,
        limits=(
            "Two splits of the columns were tried, and the nearest synthetic row of each record."
            " Links to tables with other columns were not examined."
        ),
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="no effect of taking part",
    ),
    "privacy.k_map": Words(
        title="People who share a combination",
        question="How many people does the rarest combination of known attributes fit?",
        sentence=_k_map,
        limits=(
            "It counts who fits the declared quasi-identifiers in the given population table. An"
            " attacker who knows more, or another population, changes the count."
        ),
        remedy="Round numbers and merge rare levels of the quasi-identifiers.",
        control="Fresh real rows",
        baseline="none",
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
    "privacy.domias_knn": Words(
        title="Crowding around members",
        question="Are the synthetic rows denser around training people than the population is?",
        sentence=_domias_knn,
        limits=(
            "The attacker here knows a sample of the population and looks at distances only; an"
            " attacker who can train the generator sees more."
        ),
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.domias_classifier": Words(
        title="Members told by a classifier",
        question="Does a model of synthetic against real rows recognise training people?",
        sentence=_domias_classifier,
        limits="Another, stronger classifier may recognise more people.",
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.tpr_at_1pct_fpr": Words(
        title="Members recognised almost for certain",
        question="How many training people are recognised by an attacker who is hardly ever wrong?",
        sentence=_true_positives,
        limits="An attacker who can train the generator, or look into it, may recognise more.",
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.tpr_at_1permille_fpr": Words(
        title="Members recognised for certain",
        question="How many are recognised by an attacker who is wrong once in a thousand times?",
        sentence=_true_positives,
        limits="An attacker who can train the generator, or look into it, may recognise more.",
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Fresh real rows",
        baseline="chance",
    ),
    "privacy.membership_black_box": Words(
        title="Members told by shadow models, from the rows",
        question="Can somebody who trains the same generator tell from the rows who took part?",
        sentence=_shadows,
        limits=(
            "The shadow models learnt from this table, which helps them; more of them, or other"
            " things to look at in the rows, could tell more."
        ),
        remedy="Do not release. Train for fewer epochs, or on more rows.",
        control="Models of other people",
        baseline="chance",
    ),
    "privacy.membership_white_box": Words(
        title="Members told by shadow models, from the model",
        question="Can somebody who holds the trained model tell who took part?",
        sentence=_shadows,
        limits=(
            "The model's likelihood is looked at, not its weights; the model is not part of the"
            " release, so this is what would be at stake if it were."
        ),
        remedy="Keep the model to yourself. Train for fewer epochs, or on more rows.",
        control="Models of other people",
        baseline="chance",
    ),
    "privacy.epsilon_lower_bound": Words(
        title="Least epsilon",
        question="Which claims of differential privacy do the attacks refute?",
        sentence=_epsilon,
        limits=(
            "It is a lower bound: 0 proves nothing, since better guesses may exist. It does not"
            " bound what can leak."
        ),
        remedy="Withdraw the claim, or train with more noise.",
        control="Fresh real rows",
        baseline="no refutation",
    ),
}

FAMILIES: dict[str, tuple[str, str]] = {
    "fidelity": ("Fidelity", "Does it look like the original?"),
    "privacy": ("Privacy", "Did it leak its training persons?"),
    "utility": ("Utility", "Does it serve as the original would?"),
}

HEADLINES: dict[str, tuple[str, ...]] = {
    "fidelity": ("fidelity.column_shapes", "fidelity.pair_trends"),
    "privacy": ("privacy.dcr_share", "privacy.dcr_share_aligned", "privacy.exact_match"),
    "utility": ("utility.retained", "utility.tstr"),
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Measurements of one family that are read together.

    Parameters
    ----------
    key
        A short name, for links.
    title, lead
        Its heading, and one sentence about what is done.
    metrics
        Ids, in the order in which they are read.
    """

    key: str
    title: str
    lead: str
    metrics: tuple[str, ...]


GROUPS: dict[str, tuple[Group, ...]] = {
    "privacy": (
        Group(
            key="copies",
            title="Copies",
            lead="Were training rows repeated word for word?",
            metrics=("privacy.exact_match",),
        ),
        Group(
            key="distances",
            title="Distances",
            lead=(
                "Do synthetic rows stay nearer to the people who were learnt than to equally many"
                " people who were not?"
            ),
            metrics=(
                "privacy.dcr_share",
                "privacy.dcr_share_aligned",
                "privacy.nndr_share",
                "privacy.authenticity",
            ),
        ),
        Group(
            key="wp216",
            title="Singling out, linking, guessing",
            lead=(
                "The three criteria of the European data protection authorities (Opinion 05/2014,"
                " WP216), each tried on training persons and on persons never seen."
            ),
            metrics=(
                "privacy.singling_out",
                "privacy.linkability",
                "privacy.attribute_inference",
                "privacy.k_map",
            ),
        ),
        Group(
            key="membership",
            title="Who took part",
            lead=(
                "Can an attacker who knows a person's row tell whether that person was in the"
                " training rows?"
            ),
            metrics=(
                "privacy.domias_knn",
                "privacy.domias_classifier",
                "privacy.membership_black_box",
                "privacy.membership_white_box",
                "privacy.tpr_at_1pct_fpr",
                "privacy.tpr_at_1permille_fpr",
            ),
        ),
        Group(
            key="epsilon",
            title="Differential privacy",
            lead="What the best guesses of these attackers say about a claimed epsilon.",
            metrics=("privacy.epsilon_lower_bound",),
        ),
    ),
    "fidelity": (
        Group(
            key="columns-alone",
            title="Columns, one at a time",
            lead="Has each column the values, and the missing values, that it should have?",
            metrics=(
                "fidelity.column_shapes",
                "fidelity.missing_patterns",
                "fidelity.jensen_shannon",
                "fidelity.wasserstein",
            ),
        ),
        Group(
            key="together",
            title="Columns together",
            lead="Do two and three columns at a time depend on each other as they should?",
            metrics=(
                "fidelity.pair_trends",
                "fidelity.association",
                "fidelity.correlation",
                "fidelity.triples",
                "fidelity.accuracy",
            ),
        ),
        Group(
            key="rows",
            title="Whole rows",
            lead=(
                "Do rows, all columns at once, lie where real rows lie (precision), wherever real"
                " rows lie (coverage), and can a judge tell them apart?"
            ),
            metrics=(
                "fidelity.two_sample_auc",
                "fidelity.precision",
                "fidelity.recall",
                "fidelity.coverage",
                "fidelity.alpha_precision",
                "fidelity.beta_recall",
                "fidelity.density",
                "fidelity.mmd2",
            ),
        ),
        Group(
            key="rules",
            title="Rules and time",
            lead="Do rows keep what always holds, and follow each other in time as real ones do?",
            metrics=("fidelity.rules_kept", "fidelity.time_order"),
        ),
    ),
    "utility": (
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
    ),
}
OTHER = Group(
    key="other", title="Further measurements", lead="Not yet part of a group.", metrics=()
)


def grouped(family: str, found: Collection[str]) -> list[tuple[Group, list[str]]]:
    """The groups of a family with those of their measurements that were made; none is lost.

    Parameters
    ----------
    family
        ``fidelity``, ``privacy`` or ``utility``.
    found
        Ids of this family's measurements.
    """
    groups = GROUPS.get(family, ())
    known = {metric for group in groups for metric in group.metrics}
    rest = [metric for metric in found if metric not in known]
    made = [(group, [metric for metric in group.metrics if metric in found]) for group in groups]
    return [(group, metrics) for group, metrics in [*made, (OTHER, rest)] if metrics]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that may not have been assessed.

    Parameters
    ----------
    what, meaning
        Its name, and what it means that it was not assessed.
    closed_by
        Measurements of which any closes the gap; none can close it when empty.
    """

    what: str
    meaning: str
    closed_by: tuple[str, ...] = ()


# No measurement: a generator's claim of differential privacy, which the audit's details repeat.
CLAIMED = "a claimed epsilon"

GAPS: tuple[Gap, ...] = (
    Gap(
        what="Singling out",
        meaning="No attack tried to isolate one person (WP216, criterion 1).",
        closed_by=("privacy.singling_out",),
    ),
    Gap(
        what="Linking records",
        meaning="No attack tried to tell which two records belong together (WP216, criterion 2).",
        closed_by=("privacy.linkability",),
    ),
    Gap(
        what="Guessing hidden attributes",
        meaning="No attack tried to guess what is hidden about a person (WP216, criterion 3).",
        closed_by=("privacy.attribute_inference",),
    ),
    Gap(
        what="Attackers who are hardly ever wrong",
        meaning="How many people are recognised almost for certain takes at least 1,000 persons "
        "never seen to tell.",
        closed_by=("privacy.tpr_at_1pct_fpr", "privacy.tpr_at_1permille_fpr"),
    ),
    Gap(
        what="Shadow-model membership inference",
        meaning="No attacker trained models of their own to recognise the traces of one person "
        "(evaluation=deep does).",
        closed_by=("privacy.membership_black_box",),
    ),
    Gap(
        what="Access to the model",
        meaning="Only the released rows were attacked; the trained model is not part of the "
        "release.",
        closed_by=("privacy.membership_white_box",),
    ),
    Gap(
        what="A population register",
        meaning="Nobody compared the rows with a register of the population (k-map).",
        closed_by=("privacy.k_map",),
    ),
    Gap(
        what="Differential privacy",
        meaning="None is claimed: the generator gives no mathematical bound on what one person "
        "changes.",
        closed_by=(CLAIMED,),
    ),
    Gap(
        what="Other releases of the same people",
        meaning="What this release reveals together with other tables was not examined.",
    ),
)


RARE_KEPT = {
    "what": "Rare values",
    "meaning": (
        "Rare values were kept: a level that one person has, or the largest number of all, may"
        " stand in the rows and in the model (dataset.min_people)."
    ),
}


def rare_sentence(report: Json) -> str:
    """What was done about values that few people have, in one sentence.

    >>> rare_sentence({"rareValues": {"minPeople": 10, "kept": False, "changes": []}})
    'No value of fewer than 10 people was found, so none was changed.'
    """
    rare = report["rareValues"]
    if rare["kept"]:
        return (
            "Rare values were kept: the order says that a level or an extreme of a single person"
            " may be learnt and released."
        )
    few = f"fewer than {rare['minPeople']} people"
    columns = {change["column"] for change in rare["changes"]}
    if not columns:
        return f"No value of {few} was found, so none was changed."
    were = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
    return f"Before anything was learnt, values of {few} were made common, in {were}."


def rare_brief(report: Json) -> str:
    """The same for a page that must stay one page.

    >>> rare_brief({"rareValues": {"minPeople": 10, "kept": False}})
    'Values of fewer than 10 people were made common first.'
    """
    rare = report["rareValues"]
    if rare["kept"]:
        return "Rare values were kept."
    return f"Values of fewer than {rare['minPeople']} people were made common first."


def rare_rows(report: Json) -> list[tuple[str, str, str]]:
    """By column what was done about rare values, and to about how many cells."""
    rare = report["rareValues"]
    rows = []
    for change in rare["changes"]:
        cells = change["cells"]
        told = f"of fewer than {rare['minPeople']} people" if cells is None else f"about {cells:,}"
        column = plain_text(change["column"])
        rows.append((column, IN_WORDS[change["change"]], told))
    return rows


def not_assessed(findings: Json, *, rare_kept: bool = False) -> list[dict[str, str]]:
    """What these findings leave open: a name and what it means, each.

    Parameters
    ----------
    findings
        As a dictionary.
    rare_kept
        Whether values that single people have were left in the table.
    """
    measurements = findings.get("measurements", ())
    measured_ids = {finding["id"] for finding in measurements}
    if any((each.get("details") or {}).get("claimed") is not None for each in measurements):
        measured_ids.add(CLAIMED)
    return [
        *([RARE_KEPT] if rare_kept else []),
        *(
            {"what": gap.what, "meaning": gap.meaning}
            for gap in GAPS
            if measured_ids.isdisjoint(gap.closed_by)
        ),
    ]


CONTROLS: dict[str, str] = {
    "noisy_copy": "Training rows with a little noise added",
    "shifted_copy": "Training rows with a constant added to every number",
    "memorised_1pct": "A sound sample in which 1 of 100 rows is a training row",
    "collapse": "A generator that repeats a handful of rows",
    "fresh_real": "Real rows that nobody trained on",
    "independent_marginals": "Each column drawn on its own",
}

GLOSSARY: dict[str, str] = {
    "Training rows": "The part of the confidential table from which the generator learnt.",
    "Control and test rows": (
        "Parts of the confidential table that the generator never saw. What holds for them by"
        " coincidence cannot be a leak."
    ),
    "Interval": (
        "The range that covers the true value in 95 of 100 repetitions of the measurement, or in"
        " more where several candidates were tried. The policy reads its worse end."
    ),
    "Threshold": "The bound that the policy sets. Missing it by any amount is a refusal.",
    "Policy": "A versioned list of rules, fixed before the run, that decides certified or refused.",
    "Instrument controls": (
        "Tables with a planted leak, which the privacy tests must find, and clean tables, which"
        " they must let pass. When they err on either, no certificate is issued."
    ),
    "AUC": (
        "How often a classifier ranks a case above a non-case: 0.5 is guessing, 1 is never wrong."
    ),
    "Merkle root": (
        "One fingerprint over all data files: change a single byte and it is another one."
    ),
}
