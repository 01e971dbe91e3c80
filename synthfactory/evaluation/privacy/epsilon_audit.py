"""One-run audit of differential privacy: how large must epsilon at least be?

Steinke, Nasr, Jagielski 2023, arXiv 2305.08846.  Whether a person was learnt was decided by a
coin.  An attacker looks at what was released and guesses for ``r`` of ``m`` persons.  Under
(epsilon, delta)-differential privacy the number of right guesses is hardly larger than that of
``r`` coins that show the right side with probability ``e^epsilon / (1 + e^epsilon)`` (theorem 5.2).
More right guesses than such coins explain refute epsilon; the largest epsilon that is refuted is a
lower bound.

It is a lower bound: 0 proves nothing, another attack may guess better.  The split decides by
coin up to the fixed sizes of the parts, so canaries are drawn to be members and strangers by a fair
coin each; what remains of the fixed sizes is of order 1/m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import clopper_pearson
from synthfactory.evaluation.measurement import Measurement

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

ID = "privacy.epsilon_lower_bound"
HIGHEST = 50.0
HALVINGS = 50
# Which part of the canaries is guessed, and whether low scores are guessed to be strangers.
STRATEGIES: tuple[tuple[float, bool], ...] = ((1.0, True), (0.1, True), (0.1, False), (0.01, False))


def p_value(m: int, r: int, v: int, epsilon: float, delta: float = 0.0) -> float:
    """How probable ``v`` or more right guesses are under (epsilon, delta)-differential privacy.

    Theorem 5.2: at most ``P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i`` with ``W`` the number
    of right ones among ``r`` coins of bias ``e^epsilon / (1 + e^epsilon)``.

    Parameters
    ----------
    m, r, v
        Canaries, guesses, right guesses.
    epsilon, delta
        The claim.
    """
    q = 1.0 / (1.0 + math.exp(-epsilon))
    value = float(stats.binom.sf(v - 1, r, q))
    if delta > 0 and v > 0:
        steps = np.arange(1, v + 1)
        below = np.cumsum(stats.binom.pmf(v - steps, r, q))
        value += 2 * m * delta * float((below / steps).max())
    return min(value, 1.0)


def lower_bound(m: int, r: int, v: int, *, error: float, delta: float = 0.0) -> float:
    """The largest epsilon that is refuted with this chance of error; 0 when none is.

    >>> round(lower_bound(1000, 1000, 560, error=0.05), 2)
    0.13
    """
    if r == 0 or p_value(m, r, v, 0.0, delta) >= error:
        return 0.0
    low, high = 0.0, HIGHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if p_value(m, r, v, middle, delta) < error:
            low = middle
        else:
            high = middle
    return low


class Canaries(NamedTuple):
    """Persons in a random order, each a member by a fair coin.

    Parameters
    ----------
    members, strangers
        **Shape** (n_1,), (n_2,): places of the members and of the strangers that take part.
    order
        **Shape** (n_1 + n_2,): a random order of both, members counted first.
    """

    members: Codes
    strangers: Codes
    order: Codes

    @property
    def included(self) -> npt.NDArray[np.bool_]:
        """**Shape** (m,): who is a member, in the random order."""
        return self.order < len(self.members)


def draw_canaries(members: Codes, strangers: Codes, chance: np.random.Generator) -> Canaries:
    """One row of as many persons as coins allow.

    Parameters
    ----------
    members, strangers
        **Shape** (n,): a number for the person behind each row.
    chance
        What throws the coins.
    """
    sides = []
    for persons in (members, strangers):
        shuffled = chance.permutation(len(persons))
        _, first = np.unique(persons[shuffled], return_index=True)
        sides.append(chance.permutation(shuffled[first]))
    # So few that heads do not outnumber a side, but once in 20,000 draws: a number of coins that
    # waited for that would tell how they fell.
    least = min(map(len, sides))
    coins = chance.integers(0, 2, size=max(2 * least - math.ceil(6 * math.sqrt(least)), 1))
    heads = np.cumsum(coins)
    tails = np.arange(1, len(coins) + 1) - heads
    m = int(((heads <= len(sides[0])) & (tails <= len(sides[1]))).sum())
    n_members = int(coins[:m].sum())
    return Canaries(
        members=sides[0][:n_members],
        strangers=sides[1][: m - n_members],
        order=chance.permutation(m),
    )


def right_guesses(
    canaries: Canaries, members: Floats, strangers: Floats, share: float, both: bool
) -> tuple[int, int]:
    """Guesses, and how many of them are right.

    Parameters
    ----------
    canaries
        Who is guessed about.
    members, strangers
        **Shape** (n,): scores of all rows; who has a high one is guessed to be a member.
    share, both
        Which share of the canaries is guessed; whether half of the guesses go to the low scores.
    """
    scores = np.concatenate([members[canaries.members], strangers[canaries.strangers]])
    ordered = np.argsort(-scores[canaries.order], kind="stable")
    included = canaries.included[ordered]
    n_high = math.ceil(share * len(included) / (2 if both else 1))
    n_low = min(n_high, len(included) - n_high) if both else 0
    right = int(included[:n_high].sum())
    if n_low:
        right += int((~included[len(included) - n_low :]).sum())
    return n_high + n_low, right


class Bound(NamedTuple):
    """The best of several audits."""

    epsilon: float
    highest: float
    n_canaries: int
    n_guesses: int
    n_right: int
    attack: str


def best_bound(
    canaries: Canaries,
    attacks: Mapping[str, tuple[Floats, Floats]],
    confidence: float,
    delta: float = 0.0,
) -> Bound:
    """The largest lower bound over attacks and shares of guesses, Bonferroni over all of them.

    Parameters
    ----------
    attacks
        Scores of members and strangers by attack.
    confidence
        That the true epsilon is not below the bound.
    delta
        For which delta.
    """
    error = (1 - confidence) / (len(attacks) * len(STRATEGIES))
    m = len(canaries.order)
    bounds = []
    for name, (members, strangers) in attacks.items():
        for share, both in STRATEGIES:
            r, v = right_guesses(canaries, members, strangers, share, both)
            epsilon = lower_bound(m, r, v, error=error, delta=delta)
            # The attack's own rate can be as high as this; where all guesses are right, half a
            # wrong one keeps the bound finite.
            rate = min(clopper_pearson(v, r, 1 - 2 * error).ucb, 1 - 0.5 / r)
            highest = max(math.log(rate / (1 - rate)) if rate > 0 else 0.0, epsilon)
            bounds.append(Bound(epsilon, highest, m, r, v, name))
    return max(bounds, key=lambda bound: (bound.epsilon, -bound.highest))


def measure(
    evidence: Evidence,
    attacks: Mapping[str, tuple[Floats, Floats]],
    control: Mapping[str, tuple[Floats, Floats]],
) -> Measurement:
    """The audit with scores that attacks gave to `Evidence.members` and `Evidence.strangers`.

    Parameters
    ----------
    attacks, control
        By attack, for the synthetic rows and for real rows in their place.
    """
    canaries = draw_canaries(
        evidence.persons("train")[evidence.member_places],
        evidence.persons("control")[: len(evidence.strangers)],
        evidence.stream("epsilon audit"),
    )
    claim = None if evidence.trainer is None else evidence.trainer.claim
    delta = 0.0 if claim is None else claim[1]
    # The lower end of a two-sided interval, as of all other measurements.
    one_sided = (1 + evidence.confidence) / 2
    found = best_bound(canaries, attacks, one_sided, delta)
    details: dict[str, Any] = {
        "canaries": found.n_canaries,
        "guesses": found.n_guesses,
        "right": found.n_right,
        "attack": found.attack,
        "delta": delta,
        "claimed": None if claim is None else claim[0],
        "claim_refuted": None if claim is None else found.epsilon > claim[0],
    }
    return Measurement(
        id=ID,
        family="privacy",
        estimate=found.epsilon,
        lcb=found.epsilon,
        ucb=found.highest,
        n=found.n_canaries,
        baseline=0.0,
        control=best_bound(canaries, control, one_sided, delta).epsilon,
        unit="epsilon",
        better="lower",
        confidence=evidence.confidence,
        method="one-run audit (Steinke et al. 2023, theorem 5.2), best of "
        f"{len(attacks) * len(STRATEGIES)} sets of guesses with Bonferroni; a lower bound: a "
        "value of 0 proves nothing; the upper end is what this attack could reach, not a bound on "
        "epsilon",
        details=details,
    )
