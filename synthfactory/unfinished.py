"""What an unfinished stage of a run goes on from, and how far an evaluation is."""

from __future__ import annotations

import functools
import importlib.metadata

from synthfactory import __version__, artifacts, generators, interruption, journal, shadowing
from synthfactory.errors import Interrupted
from synthfactory.evaluation import Evidence, Shelf, Standing, pieces_kept, secret_of
from synthfactory.journal import Reporter
from synthfactory.run import Run

# Other versions of these may give other last digits, so what they made is not mixed.
CALCULATES = (
    "fairlearn", "numba", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "torch",
    "xgboost", "xgboost-cpu",
)  # fmt: skip


class Course:
    """Tells how far an evaluation is; between two pieces it stops if it is asked to.

    Parameters
    ----------
    report
        Writes it down.
    """

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._standing: Standing | None = None

    def __call__(self, standing: Standing) -> None:
        """Tell that a piece begins.

        Raises
        ------
        Interrupted
            When the process is asked to stop.
        """
        self._standing = standing
        self._report("evaluate", standing.fraction, standing.in_words())
        if interruption.asked():
            raise Interrupted(f"The evaluation was asked to stop before {standing.name}.")

    def within(self, share: float, doing: str) -> None:
        """Tell how much of the piece is done, from 0 to 1, and what it is doing."""
        if self._standing is not None:
            fraction = self._standing.fraction + share * self._standing.share
            self._report("evaluate", fraction, self._standing.in_words(doing))


def shelf_of(run: Run, evidence: Evidence) -> Shelf:
    """Where a run's unfinished evaluation keeps results, by all that they depend on."""
    order = run.order
    key = {
        "order": order.to_dict(),
        "table": run.table_digest,
        "population": order.evaluation.population_digest,
        "seed": str(evidence.seed),
        "attempts": evidence.attempts,
        "model": artifacts.read_done(run.folder / "fit")["files"],
        "synthetic": artifacts.read_done(run.folder / "sample")["files"],
        "engine": generators.describe_engine(order.generator, order.device, order.threads),
        "software": _versions(),
        "synthfactory": __version__,
    }
    return Shelf(
        run.unfinished_evaluation,
        key=artifacts.digest_json(key),
        secret=secret_of(evidence),
        tell=functools.partial(journal.write_event, run.folder, stage="evaluate"),
    )


@functools.cache
def _versions() -> dict[str, str]:
    """What calculates, and its version."""
    found = {item.name: item.version for item in importlib.metadata.distributions()}
    return {name: found[name] for name in CALCULATES if name in found}


def reached(run: Run, stage: str) -> int:
    """How far a stage is that was interrupted: a larger number is further, 0 is nothing."""
    if stage == "fit":
        return generators.step_of(run.checkpoint)
    if stage == "evaluate":
        kept = run.unfinished_evaluation
        return pieces_kept(kept) + shadowing.steps_of(kept)
    return 0
