"""The evaluation: every suite on the same evidence, failures named, never swallowed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
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
from synthfactory.evaluation.pieces import Shelf
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


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where an evaluation is when a piece begins.

    Parameters
    ----------
    fraction
        Of the work, from 0 to 1, that is done.
    share
        Of the work, that the piece is.
    name
        The piece's.
    pieces, of_pieces
        How many pieces are done, by all processes where results are kept, and of how many.
    shadows, of_shadows
        How many shadow models of these are trained, and of how many.
    """

    fraction: float
    share: float
    name: str
    pieces: int
    of_pieces: int
    shadows: int = 0
    of_shadows: int = 0

    def in_words(self, doing: str = "") -> str:
        """In a line, with what the piece is doing.

        >>> standing = Standing(fraction=0.5, share=0.1, name="pairs", pieces=3, of_pieces=9)
        >>> standing.in_words(), standing.in_words("step 4 of 7")
        ('3 of 9 pieces: pairs', '3 of 9 pieces: pairs, step 4 of 7')
        """
        counts = f"{self.pieces} of {self.of_pieces} pieces"
        if self.of_shadows:
            counts += f", {self.shadows} of {self.of_shadows} shadows"
        return f"{counts}: {self.name}" + (f", {doing}" if doing else "")


ReportProgress = Callable[[Standing], None]

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
            Called with where the evaluation is, before every piece.

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


Name = tuple[str, str]
"""Of a piece: its suite's and its own."""

Results = Mapping[Name, Any]


def measure(
    evidence: Evidence,
    suites: Sequence[Suite],
    *,
    number: int = 0,
    of: int = 1,
    progress: ReportProgress | None = None,
    shelf: Shelf | None = None,
) -> dict[Name, Any]:
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
        Called with where the evaluation is, before every piece.
    shelf
        Where results are kept as soon as they are made; those that are there are not made again.

    Returns
    -------
    dict
        The result of each piece by (suite, piece); `Unmeasured` where an `EvaluationError` said
        that it cannot be made.  Any other error fails the run: it is never taken for low risk.
    """
    everything = {
        (suite.name, piece): suite for suite in suites for piece in suite.pieces(evidence)
    }
    mine = list(everything)[number::of]
    # Without a shelf nobody knows what others have made.
    tally = _Tally(evidence, everything, mine if shelf is None else list(everything))
    results: dict[Name, Any] = {}
    for name in mine:
        if progress is not None:
            progress(tally(name, set(results) if shelf is None else shelf.kept(everything)))
        kept = None if shelf is None else shelf.read(name)
        result = kept[0] if kept else _make(evidence, everything[name], name[1], shelf)
        results[name] = result
    return results


class _Tally:
    """Where an evaluation is, from which of its pieces are done."""

    def __init__(
        self, evidence: Evidence, everything: Mapping[Name, Suite], counted: Sequence[Name]
    ) -> None:
        self._n_pieces = Counter(suite for suite, _ in everything)
        suites = {name: everything[name] for name in counted}
        weights = {name: suite.weight / self._n_pieces[name[0]] for name, suite in suites.items()}
        total = sum(weights.values())
        self._shares = {name: weight / total for name, weight in weights.items()}
        self._trains = {name: suite.shadows(evidence, name[1]) for name, suite in suites.items()}

    def __call__(self, name: Name, done: Set[Name]) -> Standing:
        """Where it is when the piece of this name begins."""
        return Standing(
            # In the order of the pieces, so that it does not depend on a set's.
            fraction=sum(share for key, share in self._shares.items() if key in done),
            share=self._shares[name],
            name=name[0] if self._n_pieces[name[0]] == 1 else " ".join(name),
            pieces=len(done),
            of_pieces=len(self._shares),
            shadows=sum(self._trains[key] for key in done),
            of_shadows=sum(self._trains.values()),
        )


def _make(evidence: Evidence, suite: Suite, piece: str, shelf: Shelf | None) -> Any:
    """The result of a piece, kept where there is a shelf."""
    began_s = time.monotonic()
    try:
        result: Any = suite.work(evidence, piece)
    except EvaluationError as error:
        result = Unmeasured(str(error))
    if shelf is None:
        return result
    try:
        result = shelf.keep((suite.name, piece), result)
    except TypeError as error:
        # The work is done; that it would have to be done again is no reason to lose it now.
        shelf.tell("unkept", piece=f"{suite.name} {piece}", why=str(error))
    else:
        took_s = round(time.monotonic() - began_s, 3)
        shelf.tell("measured", piece=f"{suite.name} {piece}", wall_s=took_s)
    return result


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
