"""A number never travels alone: value, interval, n, baseline, control, unit, direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from synthfactory.errors import EvaluationError, did_you_mean
from synthfactory.markup import html_table, short_number

if TYPE_CHECKING:
    import pandas as pd

Family = Literal["fidelity", "privacy", "utility"]
DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured quantity with everything that is needed to judge it.

    Parameters
    ----------
    id
        ``<family>.<name>``; policies refer to it.
    family
        What it is about.
    estimate, lcb, ucb
        The value and the bounds of its two-sided interval.
    n
        Rows behind the estimate.
    baseline
        What chance, or columns without dependence, would give.
    control
        The same measurement with real rows that nobody trained on in place of the synthetic ones.
    unit
        What the numbers are.
    better
        Which direction is better.
    confidence
        Coverage that the interval aims at.
    method
        The formula in one line.
    mde
        Minimum detectable effect: how far from its baseline the true value must be for the
        interval to exclude the baseline in four of five repetitions; None where there is none.
    details
        Further aggregates, JSON-able.

    Raises
    ------
    EvaluationError
        When the value or a bound is no finite number, or the bounds do not enclose the value.
    """

    id: str
    family: Family
    estimate: float
    lcb: float
    ucb: float
    n: int
    baseline: float | None
    control: float | None
    unit: str
    better: Literal["higher", "lower"]
    confidence: float
    method: str
    mde: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = (self.lcb, self.estimate, self.ucb)
        if not all(math.isfinite(number) for number in numbers):
            raise EvaluationError(f"{self.id} gave {numbers}, expected finite numbers.")
        if not self.lcb <= self.estimate <= self.ucb:
            raise EvaluationError(f"{self.id}: the interval {numbers} does not hold its estimate.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, rounded to six significant digits."""
        return {
            "id": self.id,
            "family": self.family,
            "estimate": rounded(self.estimate),
            "lcb": rounded(self.lcb),
            "ucb": rounded(self.ucb),
            "n": self.n,
            "baseline": rounded(self.baseline),
            "control": rounded(self.control),
            "unit": self.unit,
            "better": self.better,
            "confidence": self.confidence,
            "method": self.method,
            "mde": rounded(self.mde),
            "details": rounded(dict(self.details)),
        }


@dataclass(frozen=True, kw_only=True)
class ControlOutcome:
    """Whether the instrument saw a planted leak, or kept quiet about clean data.

    Parameters
    ----------
    id
        Which table took the place of the synthetic rows.
    kind
        ``positive``: a planted leak; ``negative``: clean data.
    flagged
        Whether an attack raised the alarm.
    by
        Which ones.
    """

    id: str
    kind: Literal["positive", "negative"]
    flagged: bool
    by: tuple[str, ...] = ()

    @property
    def expected(self) -> bool:
        """Whether it should be flagged."""
        return self.kind == "positive"

    @property
    def holds(self) -> bool:
        """Whether it came as expected."""
        return self.flagged == self.expected

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "id": self.id,
            "kind": self.kind,
            "expected": self.expected,
            "flagged": self.flagged,
            "by": list(self.by),
        }


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an evaluation found.

    Parameters
    ----------
    measurements
        In the order of the suites.
    failures
        What could not be measured, and why; a policy refuses what is absent.
    instrument
        The outcomes of the planted leaks and the clean controls; empty when they were not made.
    charts
        Aggregates for the report.
    protocol
        What was compared with what: sizes of the parts and samples, what straddles them.
    """

    measurements: tuple[Measurement, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    instrument: tuple[ControlOutcome, ...] = ()
    charts: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_id(self) -> dict[str, Measurement]:
        """Measurements by id."""
        return {measurement.id: measurement for measurement in self.measurements}

    def __getitem__(self, name: str) -> Measurement:
        try:
            return self.by_id[name]
        except KeyError:
            why = self.failures.get(name)
            told = f": {why}" if why else did_you_mean(name, self.by_id)
            raise KeyError(f"There is no measurement '{name}'{told}") from None

    @property
    def instrument_valid(self) -> bool | None:
        """Whether every control came as expected; None when none was made."""
        return all(outcome.holds for outcome in self.instrument) if self.instrument else None

    def to_frame(self) -> pd.DataFrame:
        """A row per measurement."""
        import pandas as pd

        names = (
            "id", "family", "estimate", "lcb", "ucb", "n", "baseline", "control", "unit", "better",
        )  # fmt: skip
        rows = [{name: getattr(item, name) for name in names} for item in self.measurements]
        return pd.DataFrame(rows, columns=list(names))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; equal findings give equal values."""
        return {
            "measurements": [item.to_dict() for item in self.measurements],
            "failures": dict(self.failures),
            "instrument": [outcome.to_dict() for outcome in self.instrument],
            "instrument_valid": self.instrument_valid,
            "charts": rounded(dict(self.charts)),
            "protocol": rounded(dict(self.protocol)),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Findings:
        """The inverse of `to_dict`."""
        return cls(
            measurements=tuple(Measurement(**item) for item in values["measurements"]),
            failures=dict(values["failures"]),
            instrument=tuple(
                ControlOutcome(
                    id=item["id"],
                    kind=item["kind"],
                    flagged=item["flagged"],
                    by=tuple(item["by"]),
                )
                for item in values["instrument"]
            ),
            charts=dict(values["charts"]),
            protocol=dict(values["protocol"]),
        )

    def __repr__(self) -> str:
        lines = [f"Findings({len(self.measurements)} measurements)"]
        lines += [
            f"  {item.id:<28} {item.estimate:8.4f}  [{item.lcb:.4f}, {item.ucb:.4f}]"
            for item in self.measurements
        ]
        lines += [f"  {name:<28} not measured: {why}" for name, why in self.failures.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            (
                item.id,
                short_number(item.estimate),
                f"{short_number(item.lcb)} to {short_number(item.ucb)}",
                short_number(item.control),
                short_number(item.baseline),
                f"{item.unit}, {item.better} is better",
                f"{item.n:,}",
            )
            for item in self.measurements
        ]
        rows += [(name, "not measured", why, "", "", "", "") for name, why in self.failures.items()]
        told = {
            None: "The instrument was not checked.",
            True: "The instrument holds: planted leaks were found, clean data passed.",
            False: "The instrument does NOT hold: do not trust what says that little leaks.",
        }
        headings = ("finding", "estimate", "interval", "control", "baseline", "unit", "n")
        return html_table(headings, rows, note=told[self.instrument_valid])


def rounded(value: Any) -> Any:
    """Floats at six significant digits, in any nesting; what is no finite number is None."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if hasattr(value, "item"):
        return rounded(value.item())
    return value
