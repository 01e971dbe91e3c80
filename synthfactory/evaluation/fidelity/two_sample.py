"""Two-sample test: how well does a trained judge tell synthetic from real rows?

Lopez-Paz and Oquab 2017, arXiv 1610.06545, with gradient boosting and out-of-fold scores: the area
under the ROC curve says how large the difference is, the p value whether there is any.

Folds judge each other: a pair of rows in two folds speaks twice, once in the one's training and
once in the other's, and in the same sense.  So scores of different folds are not independent
(Bengio and Grandvalet 2004, https://www.jmlr.org/papers/v5/grandvalet04a.html).  Between equal
distributions the plain error covers in about 4 of 5 repetitions instead of 19 of 20, and labels
dealt anew under all the scores call chance a difference twice as often as they should.  Therefore

- the variance of the area is doubled, which is what a pair counted twice does to it;
- labels are dealt anew only for scores of judges that saw *earlier* folds alone: whatever those
  held, each later fold's labels are exchangeable when there is no difference, so p is exact.

Rows of one person are alike, so where an entity is declared a judge who saw some of them would
recognise the others.  Then whole persons are dealt to folds, the area's variance is that of persons
(Obuchowski 1997), and persons are dealt labels anew, all their rows together, each by a fair coin:
that is exact up to the number of heads, and holds where the one side has more rows of a person.

An area clearly below 0.5 is no success: it comes from copies, which a judge who saw the one takes
the other for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold

from synthfactory.evaluation.evidence import Evidence, features
from synthfactory.evaluation.fidelity.samples import groups, samples
from synthfactory.evaluation.intervals import normal
from synthfactory.evaluation.learners import boosted_classifier, few_threads
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.roc import auc
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ID = "fidelity.two_sample_auc"
N_FOLDS = 3
N_PERMUTATIONS = 999
N_SHUFFLED = 1_000
N_SHOWN = 10
SYNTHETIC, HOLDOUT = PIECES = ("synthetic", "holdout")


class Judged(NamedTuple):
    """What a judge of two samples found.

    Parameters
    ----------
    auc, error
        Out of fold; DeLong's standard error, its variance doubled.
    p
        Of the permutation test, one-sided.
    n
        Rows on each side.
    lost
        What the area loses when a column is shuffled, by column; empty when it was not asked.
    """

    auc: float
    error: float
    p: float
    n: int
    lost: Mapping[str, float]


def permutation_p(
    judgements: Sequence[tuple[Floats, Mask]],
    repeats: int,
    chance: np.random.Generator,
    persons: Sequence[Codes] | None = None,
) -> float:
    """How likely labels dealt anew are ordered by the scores at least as well as the true ones.

    The statistic is the sum over folds of the positive rows' ranks within their fold.  Phipson and
    Smyth 2010, https://doi.org/10.2202/1544-6115.1585: ``(1 + hits) / (1 + repeats)``.

    Parameters
    ----------
    judgements
        Of each fold, scores and whether a row is positive; **shape** (n_fold,) each.  A fold's
        scores may depend on the labels of folds before it, not on its own or later ones.
    repeats
        How often labels are dealt anew.
    persons
        Of each fold, whose each row is, **shape** (n_fold,); None where every row is alone.  Then
        ranks are taken from the fold's middle, as the number of positive rows is left to chance.
    """
    seen, dealt = 0.0, np.zeros(repeats)
    for place, (scores, is_positive) in enumerate(judgements):
        ranks = rankdata(scores)
        if persons is not None:
            ranks -= (len(ranks) + 1) / 2
            sums = np.bincount(np.unique(persons[place], return_inverse=True)[1], ranks)
            seen += ranks[is_positive].sum()
            dealt += [sums[chance.random(len(sums)) < 0.5].sum() for _ in range(repeats)]
            continue
        seen += ranks[is_positive].sum()
        n_positive = int(is_positive.sum())
        dealt += [chance.permutation(ranks)[:n_positive].sum() for _ in range(repeats)]
    # Sums of half ranks are exact, so that ties are ties.
    return float((1 + (dealt >= seen).sum()) / (1 + repeats))


class Whose(NamedTuple):
    """**Shape** (n,) each: whose the rows of both sides are."""

    real: Codes
    other: Codes

    @classmethod
    def of(cls, real: Codes | None, other: Codes | None, n: int) -> Whose | None:
        """None where every row of both sides is alone."""
        if real is None and other is None:
            return None
        alone = np.arange(n)
        return cls(alone if real is None else real, alone if other is None else other)

    @property
    def together(self) -> Codes:
        """**Shape** (2n,): both, of different numbers."""
        return np.concatenate([self.real, self.other + self.real.max() + 1])

    def folds(self, chance: np.random.Generator) -> list[Codes]:
        """Places of rows in folds, whole persons in one, equally many of each side in all."""
        fold = np.concatenate(
            [
                chance.permutation(np.arange(side.max() + 1) % N_FOLDS)[side]
                for side in (self.real, self.other)
            ]
        )
        return [np.flatnonzero(fold == number) for number in range(N_FOLDS)]


def judged(
    evidence: Evidence,
    real: Encoded,
    other: Encoded,
    whose: Whose | None = None,
    *,
    explain: bool,
) -> Judged:
    """Judges of real against other rows.

    Parameters
    ----------
    evidence
        The evidence.
    real, other
        Equally many rows.
    whose
        Whose they are; None where every row is alone.
    explain
        Whether to ask which columns give the difference away.
    """
    n = len(real)
    x_real, categorical = features(real, None, evidence.schema)
    x = np.vstack([x_real, features(other, None, evidence.schema)[0]])
    is_other = np.repeat([False, True], n)

    def scores_of(fit: Codes, held: Codes) -> tuple[Any, Floats]:
        judge = boosted_classifier(categorical, evidence.integer("judge"))
        judge.fit(x[fit], is_other[fit].astype(np.int64))
        return judge, judge.decision_function(x[held])

    if whose is None:
        splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=evidence.integer("folds"))
        folds = [held for _, held in splitter.split(x, is_other)]
    else:
        folds = whose.folds(evidence.stream("two samples: folds of persons"))
    scores, lost = np.empty(2 * n), []
    for number, held in enumerate(folds):
        rest = np.concatenate([fold for fold in folds if fold is not held])
        judge, scores[held] = scores_of(rest, held)
        if explain:
            chance = evidence.stream(f"two samples: shuffles {number}")
            lost.append(lost_without(judge, x[held], is_other[held], chance))
    # The last fold's judge has seen all folds before it already.
    in_order = [
        scores_of(np.concatenate(folds[:number]), folds[number])[1]
        for number in range(1, N_FOLDS - 1)
    ] + [scores[folds[-1]]]
    judgements = [(found, is_other[fold]) for found, fold in zip(in_order, folds[1:], strict=True)]
    value, error = auc(
        scores[is_other],
        scores[~is_other],
        positive_groups=None if whose is None else whose.other,
        negative_groups=None if whose is None else whose.real,
    )
    if whose is not None:
        # Where all pairs are in order, persons do not differ; one half wrong is the least error.
        error = max(error, 0.5 / (1 + min(int(side.max()) for side in whose)))
    p = permutation_p(
        judgements,
        N_PERMUTATIONS,
        evidence.stream("two samples: labels"),
        None if whose is None else [whose.together[fold] for fold in folds[1:]],
    )
    columns = dict(zip(evidence.names, np.mean(lost, axis=0).tolist(), strict=True)) if lost else {}
    return Judged(value, math.sqrt(2) * error, p, n, columns)


def lost_without(judge: Any, x: Floats, is_other: Mask, chance: np.random.Generator) -> Floats:
    """**Shape** (n_columns,): the area that a fitted judge loses when each column is shuffled.

    Breiman 2001, https://doi.org/10.1023/A:1010933404324, section 10, on held-out rows, at most
    1,000 of them.
    """
    picked = chance.permutation(len(x))[:N_SHUFFLED]
    x, is_other = x[picked], is_other[picked]

    def area(rows: Floats) -> float:
        scores = judge.decision_function(rows)
        return auc(scores[is_other], scores[~is_other])[0]

    whole = area(x)
    losses = []
    for column in range(x.shape[1]):
        spoilt = x.copy()
        spoilt[:, column] = chance.permutation(spoilt[:, column])
        losses.append(whole - area(spoilt))
    return np.array(losses)


def work(evidence: Evidence, piece: str) -> Judged:
    """The judge of the synthetic rows, or of as many held-out real rows.

    A single thread: for so few rows, threads wait for each other longer than they work, many times
    longer where others use the processor too; two workers can share the two pieces.
    """
    drawn, persons = samples(evidence), groups(evidence)
    other, theirs = (
        (drawn.synthetic, persons.synthetic)
        if piece == SYNTHETIC
        else (drawn.holdout, persons.holdout)
    )
    whose = Whose.of(persons.real, theirs, drawn.n_rows)
    with few_threads(1):
        return judged(evidence, drawn.real, other, whose, explain=piece == SYNTHETIC)


def conclude(evidence: Evidence, results: Mapping[str, Judged]) -> Found:
    """The judge's area under the ROC curve; 0.5 is a coin."""
    mine, control = results[SYNTHETIC], results[HOLDOUT]
    found = normal(mine.auc, mine.error, evidence.confidence)
    columns = sorted(mine.lost.items(), key=lambda item: -item[1])[:N_SHOWN]
    measurement = Measurement(
        id=ID,
        family="fidelity",
        estimate=found.estimate,
        lcb=max(found.lcb, 0.0),
        ucb=max(min(found.ucb, 1.0), found.estimate),
        n=mine.n,
        baseline=0.5,
        control=control.auc,
        unit="AUC",
        better="lower",
        confidence=evidence.confidence,
        method=f"{N_FOLDS}-fold out-of-fold AUC of gradient boosting, real against synthetic rows; "
        f"DeLong's variance, doubled; p from {N_PERMUTATIONS} permutations of labels within folds "
        "scored by judges of the folds before",
        details={
            "p": mine.p,
            "control_p": control.p,
            "permutations": N_PERMUTATIONS,
            "columns": [{"name": name, "auc_lost": lost} for name, lost in columns if lost > 0],
        },
    )
    return Found(measurements=[measurement])


SUITE = Suite(
    name="fidelity.two_sample",
    ids=(ID,),
    pieces=lambda evidence: PIECES,
    work=work,
    conclude=conclude,
    weight=10,
)
