"""A campaign: many orders on one Dask client, whoever provides it.

Each order is a chain of tasks, one per stage.  What is committed is not submitted; a failing
order does not stop the others; certificates are signed here, beside the key, as verdicts come in.
Nothing below this module knows about Dask, and nothing in it knows which cluster it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synthfactory import artifacts, factory
from synthfactory.certification import IssuerKey
from synthfactory.errors import SynthfactoryError
from synthfactory.journal import Progress, read_progress
from synthfactory.order import Order
from synthfactory.run import Outcome, Run

if TYPE_CHECKING:
    from distributed import Client, Future

POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class View:
    """What a watcher sees of a campaign: runs, where each one is, and how it ended."""

    runs: tuple[Run, ...]
    progress: Mapping[str, Progress] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


Watch = Callable[[View], None]
Connect = Callable[[int, int], AbstractContextManager["Client"]]


def run_campaign(
    orders: Sequence[Order],
    runs: Path,
    *,
    connect: Connect,
    key: Callable[[], IssuerKey],
    watch: Watch = lambda view: None,
) -> list[Outcome]:
    """Make all orders; return how each one ended, in the orders' order.

    Parameters
    ----------
    orders
        What to make; two equal orders are one run.
    runs
        The folder of all runs.
    connect
        Called with (number of orders, threads per order) only when something is left to do.
    key
        Gives the issuer's key; called before anything is submitted, so that a night of training
        is not lost to a wrong passphrase.
    watch
        Called about twice a second with the campaign's view.

    Raises
    ------
    UserError
        When a table cannot be read or the key cannot be used: nothing was started.
    StorageError
        When the folder of runs cannot be written: nothing was started.
    """
    plan = [Run.open(order, runs) for order in orders]
    distinct = {run.folder.name: run for run in plan}
    outcomes = {name: run.outcome for name, run in distinct.items()}
    todo = [run for name, run in distinct.items() if outcomes[name] is None]
    ended = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    if todo:
        issuer = key()
        artifacts.check_writable(runs)
        threads = max(run.order.threads for run in todo)
        with connect(len(todo), threads) as client:
            for outcome in _work(client, todo, issuer, ended, tuple(distinct.values()), watch):
                ended[outcome.run] = outcome
    watch(View(runs=tuple(distinct.values()), outcomes=ended))
    return [ended[run.folder.name] for run in plan]


def _work(
    client: Client,
    todo: Sequence[Run],
    issuer: IssuerKey,
    ended: Mapping[str, Outcome],
    everything: tuple[Run, ...],
    watch: Watch,
) -> Iterator[Outcome]:
    """Submit every run and yield its outcome as it ends."""
    pending = {run.folder.name: (run, _submit(client, run)) for run in todo}
    while pending:
        done = [name for name, (_, last) in pending.items() if last.done()]
        for name in done:
            run, last = pending.pop(name)
            yield _conclude(run, last, issuer)
        progress = {
            name: seen
            for name, (run, _) in pending.items()
            if (seen := read_progress(run.folder)) is not None
        }
        watch(View(runs=everything, progress=progress, outcomes=dict(ended)))
        if pending and not done:
            _wait_for_any([last for _, last in pending.values()])


def _submit(client: Client, run: Run) -> Future[str]:
    """Chain the stages of a run; earlier runs of a campaign go first."""
    last: Future[str] | None = None
    for stage in factory.STAGES:
        last = client.submit(
            _perform_after,
            last,
            stage,
            run,
            key=f"{stage}-{run.folder.name}",
            pure=False,
        )
    assert last is not None
    return last


def _perform_after(previous: object, stage: str, run: Run) -> str:
    return factory.perform(stage, run)


def _conclude(run: Run, last: Future[str], issuer: IssuerKey) -> Outcome:
    """Sign what was certified; turn an error into an outcome that says why."""
    error = last.exception()
    if error is None:
        try:
            return factory.certify(run, issuer)
        except SynthfactoryError as failure:
            error = failure
    return Outcome(
        run=run.folder.name,
        folder=run.folder,
        state="failed",
        reasons=(_in_words(error),),
        failure_code=getattr(error, "exit_code", 1),
    )


def _in_words(error: BaseException) -> str:
    if isinstance(error, SynthfactoryError):
        return str(error)
    if type(error).__name__ == "KilledWorker":
        return (
            "The worker process died repeatedly, most likely for lack of memory: use a smaller "
            "table or batch, fewer workers (cluster.n_workers=1), or a machine with more memory."
        )
    return f"{type(error).__name__}: {error}"


def _wait_for_any(futures: Sequence[Future[str]]) -> None:
    from distributed import TimeoutError as DaskTimeout
    from distributed import wait

    try:
        wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED")
    except (DaskTimeout, TimeoutError):
        return
