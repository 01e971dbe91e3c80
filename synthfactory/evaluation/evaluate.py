"""The evaluation: every suite on the same evidence, failures named, never swallowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from synthfactory.errors import EvaluationError, OrderError
from synthfactory.evaluation import charts
from synthfactory.evaluation.controls import check_instrument
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity import pairs, shapes, two_sample
from synthfactory.evaluation.measurement import Findings, Measurement
from synthfactory.evaluation.privacy import attribute_inference, dcr, exact_match
from synthfactory.evaluation.utility import tstr
from synthfactory.tables import Table

ReportProgress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Which measurements are made, and how precisely.

    Parameters
    ----------
    confidence
        Coverage of the two-sided intervals.
    max_rows
        Rows of each table that costly measurements use at most; a measurement's n tells.
    repeats
        Bootstrap repeats.
    controls
        Whether the instrument is checked with planted leaks; without it nothing is certified.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    confidence: float = 0.95
    max_rows: int = 20_000
    repeats: int = 200
    controls: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.confidence, float) or not 0.5 < self.confidence < 1:
            raise OrderError(
                "evaluation.confidence: expected a number between 0.5 and 1, "
                f"got {self.confidence!r}."
            )
        for name, least in (("max_rows", 100), ("repeats", 20)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise OrderError(
                    f"evaluation.{name}: expected a whole number of at least {least}, "
                    f"got {value!r}."
                )
        if not isinstance(self.controls, bool):
            raise OrderError(f"evaluation.controls: expected true or false, got {self.controls!r}.")

    def run(
        self,
        *,
        train: Table,
        control: Table,
        test: Table,
        synthetic: Table,
        seed: int,
        threads: int = 2,
        progress: ReportProgress | None = None,
    ) -> Findings:
        """Measure fidelity, privacy leakage and utility.

        Parameters
        ----------
        train, control, test
            Parts of the real table: learnt, never seen, to predict.
        synthetic
            What is judged.
        seed
            Root of the measurements' streams of chance.
        threads
            Processor threads; the findings do not depend on who runs them.
        progress
            Called with the fraction done and what comes next.

        Returns
        -------
        Findings
            With what could not be measured, and why, among its failures.
        """
        evidence = Evidence.of(
            train,
            control,
            test,
            synthetic,
            seed=seed,
            threads=threads,
            confidence=self.confidence,
            max_rows=self.max_rows,
            repeats=self.repeats,
        )
        return _Inquiry(evidence, progress or (lambda fraction, detail: None)).run(self.controls)


class _Inquiry:
    """Collects what the suites find."""

    def __init__(self, evidence: Evidence, progress: ReportProgress) -> None:
        self._evidence = evidence
        self._progress = progress
        self._measurements: list[Measurement] = []
        self._failures: dict[str, str] = {}
        self._charts: dict[str, Any] = {}

    def run(self, controls: bool) -> Findings:
        evidence = self._evidence
        with self._measuring(0.0, "fidelity.column_shapes"):
            found = shapes.measure(evidence)
            self._measurements.append(found)
            self._charts["columns"] = charts.column_charts(evidence, found)
        with self._measuring(0.1, "fidelity.pair_trends", "fidelity.association"):
            self._measurements += pairs.measure(evidence)
            self._charts["pairs"] = charts.pair_chart(evidence)
        with self._measuring(0.25, "fidelity.two_sample_auc"):
            self._measurements.append(two_sample.measure(evidence))
        with self._measuring(0.4, exact_match.ID):
            self._measurements.append(exact_match.measure(evidence))
        with self._measuring(0.45, dcr.ID, dcr.ID_ALIGNED):
            self._measurements += dcr.measure(evidence)
        with self._measuring(0.6, attribute_inference.ID):
            self._measurements.append(attribute_inference.measure(evidence))
        with self._measuring(0.75, "utility.tstr", "utility.retained"):
            measurements, self._charts["learners"] = tstr.measure(evidence)
            self._measurements += measurements
        self._progress(0.9, "planted leaks")
        return Findings(
            measurements=tuple(self._measurements),
            failures=self._failures,
            instrument=check_instrument(evidence) if controls else (),
            charts=self._charts,
        )

    @contextmanager
    def _measuring(self, fraction: float, *names: str) -> Iterator[None]:
        """Note what could not be measured; anything but an `EvaluationError` fails the run."""
        self._progress(fraction, names[0])
        try:
            yield
        except EvaluationError as error:
            self._failures.update(dict.fromkeys(names, str(error)))


def evaluate(
    *,
    train: Table,
    control: Table,
    test: Table,
    synthetic: Table,
    seed: int,
    evaluation: Evaluation | None = None,
    threads: int = 2,
) -> Findings:
    """Measure fidelity, privacy leakage and utility; see `Evaluation.run`."""
    return (evaluation or Evaluation()).run(
        train=train, control=control, test=test, synthetic=synthetic, seed=seed, threads=threads
    )
