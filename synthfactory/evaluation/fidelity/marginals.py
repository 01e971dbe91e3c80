"""How far apart single columns are: Wasserstein and Jensen-Shannon distances.

- `fidelity.wasserstein`: how far values must be moved on average to turn the synthetic column into
  the real one, in interquartile ranges of the real one; mean over numeric columns;
- `fidelity.jensen_shannon`: square root of the Jensen-Shannon divergence, base 2, of the columns on
  bins of the real rows (Endres and Schindelin 2003, https://doi.org/10.1109/TIT.2003.813506); mean
  over columns.

The first sees how far, not only how many; the second works for levels as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity.ceiling import Stand
from synthfactory.evaluation.fidelity.influence import Scatter, interval
from synthfactory.evaluation.fidelity.joint import Binned, shares
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import Encoded

Floats = npt.NDArray[np.float64]
ID_WASSERSTEIN = "fidelity.wasserstein"
ID_JENSEN_SHANNON = "fidelity.jensen_shannon"
N_WORST = 20


class Distance(NamedTuple):
    """How far a column is from the real one, and how each row moves that.

    Parameters
    ----------
    value
        At least 0.
    real, other
        **Shape** (n_rows,): influences.
    """

    value: float
    real: Floats
    other: Floats


def wasserstein(real: Floats, other: Floats) -> Distance:
    """Wasserstein-1 distance of the present values.

    ``integral |F - G|`` of the distribution functions (Vallender 1974,
    https://doi.org/10.1137/1118101).

    Parameters
    ----------
    real, other
        **Shape** (n_real,) and (n_other,), NaN where missing; at least one present value each.
    """
    mine, theirs = real[~np.isnan(real)], other[~np.isnan(other)]
    every = np.sort(np.concatenate([mine, theirs]))
    gaps = np.searchsorted(np.sort(mine), every[:-1], side="right") / len(mine)
    gaps -= np.searchsorted(np.sort(theirs), every[:-1], side="right") / len(theirs)
    steps = np.diff(every)
    # What a row at x adds below all t >= x.
    signed = np.sign(gaps) * steps
    after = np.append(np.cumsum(signed[::-1])[::-1], 0.0)

    def influence(values: Floats) -> Floats:
        present = ~np.isnan(values)
        found = np.zeros(len(values))
        moves = after[np.searchsorted(every, values[present], side="left")]
        found[present] = (moves - moves.mean()) / present.mean()
        return found

    return Distance(float(np.abs(gaps) @ steps), influence(real), -influence(other))


def yardstick(real: Floats) -> tuple[float, str]:
    """What distances in a column are measured in, and its name.

    The interquartile range of the present values; where it is 0, their standard deviation; where
    that is 0 too, there is none.
    """
    present = real[~np.isnan(real)]
    low, high = np.quantile(present, [0.25, 0.75])
    if high > low:
        return float(high - low), "interquartile range"
    if present.min() < present.max():
        return float(present.std()), "standard deviation"
    return 0.0, "constant"


def scaled_distance(real: Floats, other: Floats) -> Distance:
    """Wasserstein distance by `yardstick`; of a constant, the share of values that differ."""
    scale, _ = yardstick(real)
    if scale > 0:
        found = wasserstein(real, other)
        return Distance(found.value / scale, found.real / scale, found.other / scale)
    present = ~np.isnan(other)
    differs = np.where(present, other != real[~np.isnan(real)][0], False)
    share = float(differs.sum()) / float(present.sum())
    return Distance(share, np.zeros(len(real)), (differs - share * present) / present.mean())


def jensen_shannon(p: Floats, q: Floats) -> tuple[float, Floats, Floats]:
    """Distance of two tables of shares, 0 to 1, and its slopes by each of their cells."""
    middle = (p + q) / 2
    slopes = []
    divergence = 0.0
    for side in (p, q):
        logs = np.zeros_like(side)
        held = side > 0
        logs[held] = np.log2(side[held] / middle[held])
        divergence += 0.5 * float(side @ logs)
        slopes.append(0.5 * logs)
    value = float(np.sqrt(max(divergence, 0.0)))
    if value == 0:
        return 0.0, np.zeros_like(p), np.zeros_like(q)
    return value, slopes[0] / (2 * value), slopes[1] / (2 * value)


def binned_distance(real: Binned, other: Binned, column: int) -> Distance:
    """Jensen-Shannon distance of a column."""
    mine, theirs = real.cells([column]), other.cells([column])
    n_cells = real.n_cells([column])
    value, slope, other_slope = jensen_shannon(shares(mine, n_cells), shares(theirs, n_cells))
    return Distance(value, slope[mine], other_slope[theirs])


def measure_wasserstein(evidence: Evidence) -> Measurement:
    """`fidelity.wasserstein`; the baseline is the real median, repeated.

    Raises
    ------
    EvaluationError
        When no numeric column holds a value, or a synthetic one is empty.
    """
    names = [column.name for column in evidence.schema.numeric]
    places = [place for place in range(len(names)) if _n_present(evidence.train, place)]
    if not places:
        raise EvaluationError("No numeric column of the real table holds a value.")
    for place in places:
        if not _n_present(evidence.synthetic, place):
            raise EvaluationError(
                f"Column '{names[place]}' holds no value in the synthetic rows: its Wasserstein "
                "distance is not defined."
            )

    def distances(rows: Encoded) -> list[Distance]:
        real = evidence.train.numbers
        return [scaled_distance(real[:, place], rows.numbers[:, place]) for place in places]

    def mean(rows: Encoded) -> float:
        held = [place for place in places if _n_present(rows, place)]
        real = evidence.train.numbers
        # A sample of few rows may hold no value of a column that is nearly always missing.
        values = [scaled_distance(real[:, place], rows.numbers[:, place]).value for place in held]
        return float(np.mean(values)) if values else 0.0

    beside = Stand.of(evidence).each(mean, baseline=mean(_medians(evidence.train)))
    real = evidence.train.numbers
    return _measurement(
        evidence,
        ID_WASSERSTEIN,
        distances(evidence.synthetic),
        [{"name": names[place], "unit": yardstick(real[:, place])[1]} for place in places],
        beside,
        unit="interquartile ranges",
        method="mean over numeric columns of the Wasserstein-1 distance / interquartile range",
        most=np.inf,
        more={"left_out": [name for place, name in enumerate(names) if place not in places]},
    )


def measure_jensen_shannon(evidence: Evidence) -> Measurement:
    """`fidelity.jensen_shannon`; 1 where no bin is shared."""
    stand = Stand.of(evidence)
    binning = evidence.binning
    real = Binned.of(binning(evidence.train), binning.sizes)
    columns = range(len(evidence.names))

    def distances(rows: Encoded) -> list[Distance]:
        other = Binned.of(binning(rows), binning.sizes)
        return [binned_distance(real, other, column) for column in columns]

    def mean(rows: Encoded) -> float:
        return float(np.mean([found.value for found in distances(rows)]))

    return _measurement(
        evidence,
        ID_JENSEN_SHANNON,
        distances(evidence.synthetic),
        [{"name": name} for name in evidence.names],
        stand.each(mean, baseline=1.0),
        unit="distance, 0 to 1",
        method="mean over columns of the Jensen-Shannon distance, base 2, on bins of the real rows",
        most=1.0,
        more={},
    )


def _measurement(
    evidence: Evidence,
    name: str,
    found: list[Distance],
    columns: list[dict[str, Any]],
    beside: Any,
    *,
    unit: str,
    method: str,
    most: float,
    more: dict[str, Any],
) -> Measurement:
    values = np.array([column.value for column in found])
    error = Scatter(evidence)(
        np.mean([column.real for column in found], axis=0),
        np.mean([column.other for column in found], axis=0),
    )
    bounds = interval(float(values.mean()), error, evidence.confidence, most=most)
    order = np.argsort(-values, kind="stable")[:N_WORST]
    return Measurement(
        id=name,
        family="fidelity",
        estimate=bounds.estimate,
        lcb=bounds.lcb,
        ucb=bounds.ucb,
        n=len(evidence.synthetic),
        baseline=beside.baseline,
        control=beside.control,
        unit=unit,
        better="lower",
        confidence=evidence.confidence,
        method=method,
        details={
            "worst": [{**columns[place], "distance": float(values[place])} for place in order],
            **more,
            **beside.details,
        },
    )


def _n_present(rows: Encoded, place: int) -> int:
    return int((~np.isnan(rows.numbers[:, place])).sum())


def _medians(real: Encoded) -> Encoded:
    """One row of the real medians; missing where no value is present."""
    medians = [
        np.median(values[~np.isnan(values)]) if (~np.isnan(values)).any() else np.nan
        for values in real.numbers.T
    ]
    return Encoded(numbers=np.array([medians]), codes=real.codes[:1])


def measure(evidence: Evidence) -> Found:
    """Both distances; where there is no number, levels alone."""
    measurements, failures = [], {}
    for name, measured in ((ID_WASSERSTEIN, measure_wasserstein),
                           (ID_JENSEN_SHANNON, measure_jensen_shannon)):  # fmt: skip
        try:
            measurements.append(measured(evidence))
        except EvaluationError as error:
            failures[name] = str(error)
    return Found(measurements=measurements, failures=failures)


SUITE = Suite.of("fidelity.marginals", measure, ids=(ID_WASSERSTEIN, ID_JENSEN_SHANNON), weight=0.5)
