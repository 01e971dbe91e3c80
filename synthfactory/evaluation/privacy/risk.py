"""The risk of an attack: what it gains with members over what it gains with strangers.

Success rates are Wilson's (1927, https://doi.org/10.1080/01621459.1927.10502953), and the risk is
that of Giomi et al. 2023, arXiv 2211.10459 (PoPETs 2023(2)): the successes that are due to people
having been learnt, as a share of the attacks that would otherwise have failed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.intervals import Interval, detectable, effective_size, z_value


class Rate(NamedTuple):
    """A success rate: Wilson's centre and the half width of its interval."""

    value: float
    reach: float


class Risk(NamedTuple):
    """How much of the attack's success is due to members having been learnt.

    Parameters
    ----------
    estimate, lcb, ucb
        The risk, at most 1.  It is *not* clipped at 0: a value below 0 says that strangers were hit
        more often, which happens by chance.  Clipped estimates of clean data would be
        positive on average.  Whoever wants a share shows ``max(0, estimate)``.
    error
        Its standard error.
    attack, control
        The success rate with members and with strangers.
    mde
        The smallest true risk that the interval would tell from 0 in four of five repetitions.
    """

    estimate: float
    lcb: float
    ucb: float
    error: float
    attack: Rate
    control: Rate
    mde: float

    @property
    def interval(self) -> Interval:
        """The estimate with its bounds."""
        return Interval(self.estimate, self.lcb, self.ucb)


def counted(
    hits: npt.NDArray[np.bool_], whose: npt.NDArray[Any] | None = None
) -> tuple[float, float]:
    """Successes and attacks, as of so many attacks that do not depend on each other.

    Parameters
    ----------
    hits
        **Shape** (n,): which attacks succeeded.
    whose
        **Shape** (n,): equal for attacks on rows of one person, which succeed together; None where
        every row is a person's only one.

    Examples
    --------
    >>> counted(np.array([True, True, False, False] * 9), np.repeat(np.arange(18), 2))
    (8.742857142857142, 17.485714285714284)
    """
    n = effective_size(hits.astype(np.float64), whose)
    return min(float(hits.sum()) * (n / len(hits)), n), n


def rate(successes: float, n: float, confidence: float) -> Rate:
    """Wilson's estimate ``(n_s + z^2 / 2) / (n + z^2)`` and half width of a success rate.

    Parameters
    ----------
    successes
        Among ``n`` attacks; need not be whole where an attack succeeds in part.
    n
        Attacks; fewer than were made, and not whole, where they depend on each other.
    confidence
        Coverage of the interval.

    Raises
    ------
    EvaluationError
        When there are no attacks, or not 0 to ``n`` successes.

    Examples
    --------
    >>> tuple(round(part, 4) for part in rate(0, 500, 0.95))
    (0.0038, 0.0038)
    """
    if n <= 0 or not 0 <= successes <= n:
        raise EvaluationError(
            f"Expected successes from 0 to the number of attacks, got {successes} of {n}."
        )
    z = z_value(confidence)
    value = (successes + z * z / 2) / (n + z * z)
    reach = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return Rate(float(value), float(reach))


def estimate(
    successes: float, n: float, control_successes: float, n_control: float, confidence: float
) -> Risk:
    """``(r_attack - r_control) / (1 - r_control)`` by the delta method.

    Parameters
    ----------
    successes, n
        Of the attacks on members.
    control_successes, n_control
        Of the same attacks on strangers.
    confidence
        Coverage of the two-sided interval.

    Raises
    ------
    EvaluationError
        See `rate`.

    Examples
    --------
    >>> found = estimate(300, 500, 100, 500, 0.95)
    >>> tuple(round(value, 3) for value in found.interval)
    (0.498, 0.44, 0.556)
    >>> round(estimate(90, 500, 100, 500, 0.95).estimate, 3)
    -0.025
    """
    attack, control = rate(successes, n, confidence), rate(control_successes, n_control, confidence)
    free = 1 - control.value
    value = (attack.value - control.value) / free
    reach = math.hypot(attack.reach / free, control.reach * (1 - attack.value) / free**2)
    error = reach / z_value(confidence)
    # At no risk both rates are the control's: the smallest risk that stands out from there.
    blank = math.hypot(rate(control_successes, n_control, confidence).reach, control.reach) / free
    return Risk(
        estimate=value,
        lcb=value - reach,
        ucb=max(min(value + reach, 1.0), value),
        error=error,
        attack=attack,
        control=control,
        mde=detectable(blank / z_value(confidence), confidence),
    )
