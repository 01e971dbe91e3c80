"""Privacy: did it leak its training persons?"""

from __future__ import annotations

from synthfactory.release.words.kinds import Group, Words
from synthfactory.release.words.numbers import Json, measured, number, plain_text, points, span
from synthfactory.release.words.phrases import if_known, more, more_span


def _exact_match(finding: Json) -> str:
    return (
        f"Of 100 synthetic rows, {more(finding)} repeat a training row word for word than"
        f" coincidence explains ({more_span(finding)}); without copying it is about 0."
    )


def _against_half(finding: Json) -> str:
    reach = ", and real rows never seen reach {}"
    return "; chance is 50" + if_known(finding.get("control"), reach)


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
        f"Guessing {hidden} with the help of the synthetic rows succeeds in {more(finding)} of"
        " 100 tries for training persons than for persons never seen"
        f" ({more_span(finding)}); 0 means that taking part changes nothing."
    )


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
        + if_known(finding.get("control"), "; of 100 real rows never seen, {} do")
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
    nobody = if_known(
        details.get("rows_that_fit_nobody"), "; {} of 100 synthetic rows fit nobody at all"
    )
    return (
        f"The rarest combination of known attributes that the synthetic rows show fits {k}"
        f" {'person' if k == '1' else 'people'}{among}{nobody}"
        + if_known(finding.get("control"), "; that of real rows never seen fits {}", number)
        + "."
    )


def _membership(finding: Json, who: str, otherwise: str = "with fresh real rows instead") -> str:
    return (
        f"Shown one training person and one person never seen, {who} picks the training person in"
        f" {points(finding['estimate'])} of 100 cases ({span(finding, points)}); chance is 50"
        + if_known(finding.get("control"), f", and {otherwise} it is {{}}")
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
        + if_known(finding.get("control"), "; with fresh real rows instead, {}")
        + "."
    )


def _epsilon(finding: Json) -> str:
    details = finding.get("details") or {}
    right, guesses = details.get("right"), details.get("guesses")
    counted = f" ({right:,} of {guesses:,} guesses were right)" if guesses else ""
    claimed = if_known(details.get("claimed"), "; claimed is {}", measured)
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

HEADLINES = ("privacy.dcr_share", "privacy.dcr_share_aligned", "privacy.exact_match")

GROUPS = (
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
)
