"""What stands behind a measurement: its parts as small tables and plain notes.

A measurement's ``details`` hold aggregates only, in a form of their own each.  Here they become
texts, in the order in which a reader asks: compared with what, where it is worst, by which attack.
What is not known here is not shown on the page, and stays in ``report.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from synthfactory.release import words

Json = Mapping[str, Any]

MAX_ROWS = 6


class Table(NamedTuple):
    """A small table of texts; the first cell of each row is its header."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables_of(finding: Json) -> list[Table]:
    """The tables of a measurement's details, those that hold something."""
    details = finding.get("details") or {}
    made = [make(finding, details) for make in _TABLES]
    return [table for table in made if table is not None and table.rows]


def notes_of(finding: Json) -> list[str]:
    """What a measurement's details say in one sentence each."""
    details = finding.get("details") or {}
    return [note for make in _NOTES if (note := make(finding, details))]


def _share(value: float | None) -> str:
    return words.measured(value, "share")


def _span(part: Json, write: Callable[[float | None], str]) -> str:
    return words.span(part, write)


def _names(names: Sequence[str]) -> str:
    return " × ".join(words.short(name, 40) for name in names)


def _worst(finding: Json, details: Json) -> Table | None:
    """Which columns, pairs or triples agree least."""
    worst = details.get("worst")
    if not isinstance(worst, (list, tuple)) or not worst:
        return None
    unit = str(finding.get("unit", ""))
    first = worst[0]
    if "distance" in first:
        far = [(_names([part["name"]]), words.measured(part["distance"])) for part in worst]
        return Table("Columns that are farthest off", ("Column", "Distance"), far[:MAX_ROWS])
    if "kept" in first:
        broken = [(f"{part['kind']}: {_names(part['columns'])}", _share(part["kept"]))
                  for part in worst]  # fmt: skip
        return Table("Rules that are broken most", ("Rule", "Rows that keep it"), broken[:MAX_ROWS])
    caption = "Least alike"
    if "real" in first:
        both = [
            (
                _names(part["columns"]),
                words.measured(part["real"]),
                words.measured(part["synthetic"]),
                words.measured(part["score"], unit),
            )
            for part in worst
        ]
        return Table(caption, ("Columns", "Real", "Synthetic", "Agreement"), both[:MAX_ROWS])
    rows = [(_names(part["columns"]), words.measured(part["score"], unit)) for part in worst]
    return Table(caption, ("Columns", "Agreement"), rows[:MAX_ROWS])


def _missing(finding: Json, details: Json) -> Table | None:
    if finding["id"] != "fidelity.missing_patterns":
        return None
    rows = [
        (_names([part["name"]]), _share(part["missing_real"]), _share(part["missing_synthetic"]))
        for part in details.get("columns", ())
    ]
    return Table("Missing values by column", ("Column", "Real", "Synthetic"), rows[:MAX_ROWS])


def _judged(finding: Json, details: Json) -> Table | None:
    if finding["id"] != "fidelity.two_sample_auc":
        return None
    rows = [
        (_names([part["name"]]), words.measured(part["auc_lost"]))
        for part in details.get("columns", ())
    ]
    return Table(
        "What gives the rows away", ("Column", "AUC that is lost without it"), rows[:MAX_ROWS]
    )


def _sizes(finding: Json, details: Json) -> Table | None:
    named = {"univariate": "One column", "bivariate": "Two columns", "trivariate": "Three columns"}
    rows = [(name, _share(details[key])) for key, name in named.items() if key in details]
    return Table("By number of columns", ("Counted", "Agreement"), rows)


def _time(finding: Json, details: Json) -> Table | None:
    rows = [
        (str(part["name"]), _share(part["score"]), _share(part["fresh_real"]))
        for part in details.get("parts", ())
    ]
    return Table("By part", ("Compared", "Synthetic", "Fresh real rows"), rows)


def _attacks(finding: Json, details: Json) -> Table | None:
    """Every form of an attack, with its success on members and on strangers."""
    parts = [(str(part["attack"]), part) for part in details.get("attacks", ())]
    parts += [(str(part["split"]), part) for part in details.get("splits", ())]
    rows = [
        (
            name,
            _share(part["members"]),
            _share(part["strangers"]),
            _share(part["naive"]),
            f"{_share(part['risk'])} ({_span(part, _share)})",
        )
        for name, part in parts
    ]
    head = ("Form", "Training persons", "Persons never seen", "By guessing", "Added risk")
    return Table("Each form of the attack", head, rows)


def _secrets(finding: Json, details: Json) -> Table | None:
    rows = [
        (
            _names([part["secret"]]),
            str(part["attacker"]),
            _share(part["members"]),
            _share(part["strangers"]),
            f"{_share(part['advantage'])} ({_span(part, _share)})",
        )
        for part in sorted(details.get("secrets", ()), key=lambda part: -part["ucb"])
    ]
    head = ("Secret", "Best attacker", "Training persons", "Persons never seen", "Difference")
    return Table("Each declared secret", head, rows[:MAX_ROWS])


def _columns_guessed(finding: Json, details: Json) -> Table | None:
    found = details.get("every_column") or {}
    rows = [
        (
            _names([part["column"]]),
            _share(part["members"]),
            _share(part["strangers"]),
            f"{_share(part['advantage'])} ({_span(part, _share)})",
            words.p_value(part["p_holm"]),
        )
        for part in found.get("columns", ())
    ]
    head = ("Column", "Training persons", "Persons never seen", "Difference", "Corrected")
    return Table("Any other column, guessed from the nearest row", head, rows[:MAX_ROWS])


def _forms(finding: Json, details: Json) -> Table | None:
    """Every way in which membership was guessed."""
    parts = [(str(name), part) for name, part in (details.get("forms") or {}).items()]
    parts += [
        (f"{part['score']}, {part['targets']} people", part) for part in details.get("looks", ())
    ]
    rows = [
        (name, words.measured(part["auc"]), _span(part, words.measured)) for name, part in parts
    ]
    return Table("Each form of the attack", ("Form", "AUC", "Interval"), rows)


def _certain(finding: Json, details: Json) -> Table | None:
    rows = [
        (_share(part["fpr"]), _share(part["tpr"]), _span(part, _share))
        for key, part in sorted(details.items())
        if key.startswith("tpr_at_") and part.get("tpr") is not None
    ]
    head = ("Wrongly suspected", "Recognised", "Interval")
    return Table("Who is recognised almost for certain", head, rows)


def _quantiles(finding: Json, details: Json) -> Table | None:
    ours, theirs = details.get("to_members"), details.get("to_strangers")
    if not ours or not theirs:
        return None
    rows = [
        ("the nearest 5 of 100 rows", words.measured(ours["5 %"]), words.measured(theirs["5 %"])),
        ("half of the rows", words.measured(ours["50 %"]), words.measured(theirs["50 %"])),
    ]
    head = ("Not farther than this are", "Training persons", "Persons never seen")
    named = "Distances" if finding["id"] != "privacy.nndr_share" else "Ratios of distances"
    return Table(named, head, rows)


def _learners(finding: Json, details: Json) -> Table | None:
    rows = [(str(name), _share(kept)) for name, kept in (details.get("learners") or {}).items()]
    return Table("By learner", ("Learner", "Lift over chance that is kept"), rows)


def _importance(finding: Json, details: Json) -> Table | None:
    if finding["id"] != "utility.feature_importance":
        return None
    rows = [
        (_names([part["name"]]), _share(part["real"]), _share(part["synthetic"]))
        for part in details.get("columns", ())
    ]
    head = ("Column", "Trained on real", "Trained on synthetic")
    return Table("Share of all importance", head, rows[: 2 * MAX_ROWS])


def _fairness(finding: Json, details: Json) -> Table | None:
    rows = [
        (
            f"{_names([part['attribute']])}: {part['difference']}",
            _share(part["real"]),
            _share(part["synthetic"]),
            words.number(part["n_groups"]),
            words.number(part["n"]),
        )
        for part in details.get("compared", ())
    ]
    head = ("Between groups of", "Trained on real", "Trained on synthetic", "Groups", "People")
    return Table("Each difference between groups", head, rows[: 2 * MAX_ROWS])


_TABLES: tuple[Callable[[Json, Json], Table | None], ...] = (
    _worst,
    _missing,
    _judged,
    _sizes,
    _time,
    _attacks,
    _secrets,
    _columns_guessed,
    _forms,
    _certain,
    _quantiles,
    _learners,
    _importance,
    _fairness,
)


def _beside(finding: Json, details: Json) -> str | None:
    """The same of equally many rows: fewer rows agree less."""
    equal = details.get("equally_many_rows")
    if not equal:
        return None
    unit = str(finding.get("unit", ""))
    said = words.words_of(str(finding["id"]))
    values = {
        "synthetic rows": equal["synthetic"],
        "fresh real rows": equal["fresh_real"],
        said.baseline: equal["baseline"],
    }
    told = ", ".join(f"{name} {words.measured(value, unit)}" for name, value in values.items())
    note = f"Equally many rows of each kind ({words.number(equal['n'])}): {told}."
    normalised = details.get("normalised")
    if normalised is None:
        return note
    note += (
        f" On the way from “{said.baseline}” (0) to fresh real rows (1), the synthetic rows come to"
        f" {words.measured(normalised)}."
    )
    if normalised > MORE_REAL_THAN_REAL:
        note += " Much above 1, they are more like the training rows than fresh people are: look at"
        note += " the leakage."
    return note


MORE_REAL_THAN_REAL = 1.1


def _copies(finding: Json, details: Json) -> str | None:
    if "equal_to_a_member" not in details:
        return None
    if not details["equal_to_a_member"] and not details["equal_to_a_stranger"]:
        return "No synthetic row equals a training row, nor the row of a person never seen."
    return (
        f"{words.points(details['equal_to_a_member'])} of 100 synthetic rows equal a training row,"
        f" {words.points(details['equal_to_a_member_unlike_all_others'])} one that occurs only"
        f" once; {words.points(details['equal_to_a_stranger'])} equal the row of a person never"
        f" seen, of whom there are {words.number(details['n_strangers'])} against"
        f" {words.number(details['n_members'])}."
    )


def _ties(finding: Json, details: Json) -> str | None:
    if not details.get("tied"):
        return None
    return (
        f"In {words.points(details['tied'])} of 100 rows both are equally near: half of them count."
    )


def _spread(finding: Json, details: Json) -> str | None:
    share = details.get("train_rows_that_are_nearest")
    if share is None:
        return None
    return f"{words.points(share)} of 100 training rows are the nearest one of some synthetic row."


def _judge_p(finding: Json, details: Json) -> str | None:
    if "permutations" not in details:
        return None
    return (
        f"Were both kinds of rows the same, a score this high would come up with"
        f" {words.p_value(details['p'])}; for fresh real rows {words.p_value(details['control_p'])}"
        f" ({words.number(details['permutations'])} permutations)."
    )


def _sampled(finding: Json, details: Json) -> str | None:
    drawn, of_all = details.get("n_triples"), details.get("n_triples_of_all")
    if not of_all or drawn == of_all:
        return None
    return f"{words.number(drawn)} of {words.number(of_all)} triples were drawn, whatever the data."


def _told_apart(finding: Json, details: Json) -> str | None:
    told = details.get("shadows_told_apart")
    if told is None:
        return None
    return (
        f"Were the released rows like those of the shadow models, the attack would reach"
        f" {words.measured(told)}: that is what it is able to find."
    )


def _combinations(finding: Json, details: Json) -> str | None:
    coarse = details.get("numbers_in_bins")
    if not coarse:
        return None
    known = ", ".join(f"“{words.plain_text(name)}”" for name in details["quasi_identifiers"])
    fits = "–" if coarse["k"] is None else words.number(int(coarse["k"]))
    return (
        f"Known attributes: {known}. With numbers in bins, the rarest combination fits {fits}. An"
        " attacker who picks among the people whom a row fits finds the right one in at most"
        f" {words.points(details['mean_chance_of_the_right_person'])} of 100 tries on average."
    )


def _trained_on(finding: Json, details: Json) -> str | None:
    if "n_synthetic" not in details or "n_real" not in details:
        return None
    return (
        f"Trained on {words.number(details['n_synthetic'])} synthetic rows against"
        f" {words.number(details['n_real'])} real ones; the reference on"
        f" {words.number(details['n_fresh'])} fresh real rows."
    )


def _spared(finding: Json, details: Json) -> str | None:
    spared = details.get("not_attacked")
    if not spared:
        return None
    named = "; ".join(f"“{words.plain_text(name)}”: {why}" for name, why in spared.items())
    return f"Not attacked: {named}"


_NOTES: tuple[Callable[[Json, Json], str | None], ...] = (
    _beside,
    _copies,
    _ties,
    _spread,
    _judge_p,
    _sampled,
    _told_apart,
    _combinations,
    _trained_on,
    _spared,
)
