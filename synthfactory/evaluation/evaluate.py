"""The evaluation: every suite on the same evidence, failures named, never swallowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthfactory.artifacts import digest_file
from synthfactory.errors import EvaluationError, OrderError, expect_count
from synthfactory.evaluation import controls, protocol
from synthfactory.evaluation.evidence import Evidence, ShadowModel, Trainer
from synthfactory.evaluation.fidelity import (
    accuracy,
    alpha_precision,
    correlation,
    marginals,
    missing,
    mmd,
    pairs,
    prdc,
    rules,
    shapes,
    time_order,
    triples,
    two_sample,
)
from synthfactory.evaluation.measurement import Findings
from synthfactory.evaluation.privacy import (
    attribute_inference,
    authenticity,
    dcr,
    domias,
    exact_match,
    k_map,
    linkability,
    shadows,
    singling_out,
)
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.evaluation.utility import suite as utility
from synthfactory.tables import Table

SUITES: tuple[Suite, ...] = (
    shapes.SUITE,
    pairs.SUITE,
    correlation.SUITE,
    triples.SUITE,
    accuracy.SUITE,
    marginals.SUITE,
    missing.SUITE,
    rules.SUITE,
    time_order.SUITE,
    two_sample.SUITE,
    mmd.SUITE,
    prdc.SUITE,
    alpha_precision.SUITE,
    exact_match.SUITE,
    dcr.SUITE,
    authenticity.SUITE,
    singling_out.SUITE,
    linkability.SUITE,
    attribute_inference.SUITE,
    domias.SUITE,
    k_map.SUITE,
    utility.SUITE,
)

ReportProgress = Callable[[float, str], None]

LEAST = {"max_rows": 100, "repeats": 20, "attacks": 100, "shadows": 0, "targets": 100}
MIN_SHADOWS = 16


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
    attacks
        People that each attack on single persons tries, members and strangers alike, at most.
    shadows
        Shadow models that the membership attack trains; 0 leaves that attack out.
    targets
        People whose membership the shadow models test, at most.
    controls
        Whether the instrument is checked with planted leaks; without it nothing is certified.
    population
        A CSV or Parquet file with the quasi-identifiers of everybody among whom a person could be
        looked for, for the k-map; None where there is no such file.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    confidence: float = 0.95
    max_rows: int = 20_000
    repeats: int = 200
    attacks: int = 2_000
    shadows: int = 0
    targets: int = 1_000
    controls: bool = True
    population: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.confidence, float) or not 0.5 < self.confidence < 1:
            raise OrderError(
                "evaluation.confidence: expected a number between 0.5 and 1, "
                f"got {self.confidence!r}."
            )
        for name, least in LEAST.items():
            expect_count(f"evaluation.{name}", getattr(self, name), least, optional=False)
        if 0 < self.shadows < MIN_SHADOWS:
            raise OrderError(
                f"evaluation.shadows: expected 0, or at least {MIN_SHADOWS} shadow models, got "
                f"{self.shadows}: fewer say nothing about a single person."
            )
        if not isinstance(self.controls, bool):
            raise OrderError(f"evaluation.controls: expected true or false, got {self.controls!r}.")
        if self.population is not None and not isinstance(self.population, str):
            raise OrderError(
                "evaluation.population: expected the path of a table, or null, got "
                f"{self.population!r}."
            )

    @property
    def population_digest(self) -> str | None:
        """The digest of the population table's file, if there is one.

        Raises
        ------
        OrderError
            When the file does not exist.
        """
        if self.population is None:
            return None
        path = Path(self.population).expanduser()
        if not path.is_file():
            raise OrderError(f"evaluation.population: there is no file {path}.")
        return digest_file(path)

    @property
    def suites(self) -> tuple[Suite, ...]:
        """The suites of this evaluation, in the order in which they are reported."""
        return (
            *SUITES,
            *((shadows.SUITE,) if self.shadows else ()),
            *((controls.SUITE,) if self.controls else ()),
        )

    def gather(
        self,
        *,
        train: Table,
        control: Table,
        test: Table,
        synthetic: Table,
        seed: int,
        threads: int = 2,
        attempts: int = 1,
        trainer: Trainer | None = None,
        model: ShadowModel | None = None,
    ) -> Evidence:
        """The evidence on which this evaluation's suites work; see `run`.

        Who tries several candidates for a release tests several times: the error rate of each
        interval is divided by ``attempts`` (Bonferroni).
        """
        return Evidence.of(
            train,
            control,
            test,
            synthetic,
            seed=seed,
            threads=threads,
            confidence=1 - (1 - self.confidence) / attempts,
            attempts=attempts,
            max_rows=self.max_rows,
            repeats=self.repeats,
            attacks=self.attacks,
            shadows=self.shadows,
            targets=self.targets,
            trainer=trainer,
            model=model,
            population=(
                None
                if self.population is None
                else k_map.read_population(Path(self.population).expanduser(), train.schema)
            ),
        )

    def run(
        self,
        *,
        train: Table,
        control: Table,
        test: Table,
        synthetic: Table,
        seed: int,
        threads: int = 2,
        trainer: Trainer | None = None,
        model: ShadowModel | None = None,
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
        trainer
            Trains shadow models as the judged one was trained; needed when ``shadows`` is not 0.
        model
            The model that made the synthetic rows, for attacks that may look into it.
        progress
            Called with the fraction done and what comes next.

        Returns
        -------
        Findings
            With what could not be measured, and why, among its failures.
        """
        evidence = self.gather(
            train=train,
            control=control,
            test=test,
            synthetic=synthetic,
            seed=seed,
            threads=threads,
            trainer=trainer,
            model=model,
        )
        return conclude(evidence, self.suites, measure(evidence, self.suites, progress=progress))


@dataclass(frozen=True)
class Unmeasured:
    """Why a piece could not be made."""

    why: str


Results = Mapping[tuple[str, str], Any]


def measure(
    evidence: Evidence,
    suites: Sequence[Suite],
    *,
    number: int = 0,
    of: int = 1,
    progress: ReportProgress | None = None,
) -> dict[tuple[str, str], Any]:
    """Make every ``of``-th piece of all suites, from ``number`` on.

    Parameters
    ----------
    evidence
        The evidence.
    suites
        Which measurements.
    number, of
        Which share of the pieces; all by default.  Shares that workers made can be merged with
        ``|`` and give `conclude` the same as one pass.
    progress
        Called with the fraction done and what comes next.

    Returns
    -------
    dict
        The result of each piece by (suite, piece); `Unmeasured` where an `EvaluationError` said
        that it cannot be made.  Any other error fails the run: it is never taken for low risk.
    """
    pieces = [(suite, piece) for suite in suites for piece in suite.pieces(evidence)]
    mine = pieces[number::of]
    counts = Counter(suite.name for suite, _ in pieces)
    weights = [suite.weight / counts[suite.name] for suite, _ in mine]
    results: dict[tuple[str, str], Any] = {}
    for place, (suite, piece) in enumerate(mine):
        if progress is not None:
            named = suite.name if counts[suite.name] == 1 else f"{suite.name} {piece}"
            progress(sum(weights[:place]) / sum(weights), named)
        try:
            results[suite.name, piece] = suite.work(evidence, piece)
        except EvaluationError as error:
            results[suite.name, piece] = Unmeasured(str(error))
    return results


def conclude(evidence: Evidence, suites: Sequence[Suite], results: Results) -> Findings:
    """What the pieces' results say together.

    Parameters
    ----------
    evidence
        The evidence.
    suites
        Which measurements, in the order in which they are reported.
    results
        Of all pieces; see `measure`.
    """
    found = [_conclude(evidence, suite, results) for suite in suites]
    return Findings(
        measurements=tuple(item for each in found for item in each.measurements),
        failures={name: why for each in found for name, why in each.failures.items()},
        instrument=tuple(outcome for each in found for outcome in each.instrument),
        charts={name: chart for each in found for name, chart in each.charts.items()},
        protocol=protocol.describe(evidence),
    )


def _conclude(evidence: Evidence, suite: Suite, results: Results) -> Found:
    mine = {piece: result for (name, piece), result in results.items() if name == suite.name}
    lost = [result.why for result in mine.values() if isinstance(result, Unmeasured)]
    try:
        if lost:
            raise EvaluationError(lost[0])
        return suite.conclude(evidence, mine)
    except EvaluationError as error:
        return Found(failures=dict.fromkeys(suite.ids, str(error)))
