"""Fidelity: does it look like the original?"""

from __future__ import annotations

from synthfactory.release.words.kinds import Group, Words
from synthfactory.release.words.numbers import Json, measured, number, plain_text, points, span
from synthfactory.release.words.phrases import if_known, kept


def _column_shapes(finding: Json) -> str:
    return (
        "Column by column, the synthetic rows agree with the original in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _pair_trends(finding: Json) -> str:
    return (
        f"For an average pair of columns, the joint picture agrees in {points(finding['estimate'])}"
        f" of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _association(finding: Json) -> str:
    return (
        f"Of the dependence between columns, the synthetic rows keep {kept(finding)}"
        + if_known(finding.get("control"), "; a fresh sample of real rows keeps {}")
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
        + if_known(finding.get("control"), ", and with fresh real rows it is {}")
        + "."
        + (f" What gives them away most: {named}." if named and _above(finding, 0.5) else "")
    )


def _above(finding: Json, value: float) -> bool:
    return finding.get("lcb") is not None and finding["lcb"] > value


def _correlation(finding: Json) -> str:
    return (
        "For an average pair of numbers, the correlation agrees in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _triples(finding: Json) -> str:
    return (
        "For three columns at a time, the joint picture agrees in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _accuracy(finding: Json) -> str:
    return (
        "Over single columns, pairs and triples, the counts agree in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
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
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _rules_kept(finding: Json) -> str:
    rules = (finding.get("details") or {}).get("rules") or {}
    count = sum(rules.values())
    told = {0: "every rule", 1: "the one rule"}.get(count, f"all {count} rules")
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} keep {told} that the real rows keep"
        f" ({span(finding, points)})"
        + if_known(finding.get("control"), "; of 100 fresh real rows {} do")
        + "."
    )


def _time_order(finding: Json) -> str:
    return (
        "The calendar and the order of the rows in time agree in"
        f" {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; a fresh sample of real rows reaches {}")
        + "."
    )


def _mmd2(finding: Json) -> str:
    return (
        "The squared distance between the distributions of whole real and whole synthetic rows is"
        f" {number(finding['estimate'])} ({span(finding, number)}); it is about 0, a little below"
        " included, when they are the same"
        + if_known(finding.get("control"), ", {} for fresh real rows", number)
        + if_known(finding.get("baseline"), ", and {} for independent columns", number)
        + "."
    )


def _precision(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {points(finding['estimate'])} lie where real rows lie"
        f" ({span(finding, points)})"
        + if_known(finding.get("control"), "; of fresh real rows {} do")
        + "."
    )


def _recall(finding: Json) -> str:
    return (
        f"Of 100 real rows, {points(finding['estimate'])} lie where synthetic rows lie"
        f" ({span(finding, points)})"
        + if_known(finding.get("control"), "; {} lie where fresh real rows lie")
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
        + if_known(finding.get("control"), "; {} have a fresh real row there")
        + "."
    )


def _alpha_precision(finding: Json) -> str:
    return (
        "From the most typical rows to the rarest, the synthetic rows are as typical as the real"
        f" ones in {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; fresh real rows reach {}")
        + "."
    )


def _beta_recall(finding: Json) -> str:
    return (
        "From the most typical synthetic rows to the rarest, they cover as many real rows as they"
        f" should in {points(finding['estimate'])} of 100 parts ({span(finding, points)})"
        + if_known(finding.get("control"), "; fresh real rows reach {}")
        + "."
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
}

HEADLINES = ("fidelity.column_shapes", "fidelity.pair_trends")

GROUPS = (
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
)
