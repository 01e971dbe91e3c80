"""A campaign: many orders on one Dask client, whoever provides it.

Each order is a chain of tasks, one per stage.  What is committed is not submitted; a failing
order does not stop the others; certificates are signed here, beside the key, as verdicts come in.
Nothing below this module knows about Dask, and nothing in it knows which cluster it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synthfactory import artifacts, factory
from synthfactory.certification import IssuerKey
from synthfactory.errors import SynthfactoryError
from synthfactory.generators import NeuralGenerator
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
    models_per_fit: int | None = None,
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
    models_per_fit
        How many orders that differ in their seed alone are trained in one step; None for what
        suits the worker's device.

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
        # Ranks of one fit take every GPU of their machine: such orders are made one by one.
        at_once = 1 if any(_has_ranks(run) for run in todo) else len(todo)
        with connect(at_once, threads) as client:
            last = _submit(client, todo, models_per_fit)
            for outcome in _work(last, todo, issuer, ended, tuple(distinct.values()), watch):
                ended[outcome.run] = outcome
    watch(View(runs=tuple(distinct.values()), outcomes=ended))
    return [ended[run.folder.name] for run in plan]


def _work(
    last: Mapping[str, Future[str]],
    todo: Sequence[Run],
    issuer: IssuerKey,
    ended: Mapping[str, Outcome],
    everything: tuple[Run, ...],
    watch: Watch,
) -> Iterator[Outcome]:
    """Yield the outcome of every run as its last task ends."""
    pending = {run.folder.name: (run, last[run.folder.name]) for run in todo}
    while pending:
        done = [name for name, (_, future) in pending.items() if future.done()]
        for name in done:
            run, future = pending.pop(name)
            yield _conclude(run, future, issuer)
        progress = {
            name: seen
            for name, (run, _) in pending.items()
            if (seen := read_progress(run.folder)) is not None
        }
        watch(View(runs=everything, progress=progress, outcomes=dict(ended)))
        if pending and not done:
            _wait_for_any([future for _, future in pending.values()])


def _submit(
    client: Client, todo: Sequence[Run], models_per_fit: int | None
) -> dict[str, Future[str]]:
    """Chain the stages of every run; earlier runs of a campaign go first.

    Runs that differ in their seed alone have a task in common between `split` and `fit`, which
    trains them together where that is faster; what it leaves is fitted run by run.
    """
    last: dict[str, Future[str]] = {}
    # One worker for each set of GPUs; none where there are no GPUs.
    places = list({gpus: worker for worker, gpus in client.run(_gpus).items() if gpus}.values())
    for number, group in enumerate(_groups(todo, len(places), models_per_fit)):
        together: Future[str] | None = None
        for stage in factory.STAGES:
            if stage == "fit" and len(group) > 1:
                together = client.submit(
                    _fit_after,
                    [last[run.folder.name] for run in group],
                    group,
                    models_per_fit,
                    key=f"fit-together-{number}-{group[0].folder.name}",
                    pure=False,
                    workers=places[number % len(places)] if places else None,
                    allow_other_workers=bool(places),
                )
            for run in group:
                name = run.folder.name
                previous = together if stage == "fit" and together else last.get(name)
                last[name] = client.submit(
                    _perform_after, previous, stage, run, key=f"{stage}-{name}", pure=False
                )
    return last


def _groups(todo: Sequence[Run], n_places: int, at_once: int | None) -> list[list[Run]]:
    """Runs that are trained together, as many groups as places with GPUs; others are alone.

    On a processor nothing is trained together unless it is asked for: one model per core is faster.
    """
    groups: dict[str, list[Run]] = {}
    for run in todo:
        generator = run.order.generator
        alone = (
            not isinstance(generator, NeuralGenerator)
            or generator.patience > 0
            or _has_ranks(run)
            or (at_once is None and (n_places == 0 or run.order.device == "cpu"))
        )
        order = run.folder.name if alone else dataclasses.replace(run.order, seed=0).to_dict()
        key = artifacts.digest_json({"order": order, "table": run.table_digest})
        groups.setdefault(key, []).append(run)
    return [
        group[start : start + size]
        for group in groups.values()
        for size in [at_once or -(-len(group) // max(1, n_places))]
        for start in range(0, len(group), size)
    ]


def _has_ranks(run: Run) -> bool:
    generator = run.order.generator
    return isinstance(generator, NeuralGenerator) and generator.ranks > 1


def _gpus() -> str:
    """The GPUs that a worker was given, by the variables that choose them."""
    names = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
    given = [os.environ.get(name, "") for name in names]
    return next((gpus for gpus in given if gpus not in ("", "-1")), "")


def _fit_after(previous: object, runs: Sequence[Run], at_once: int | None) -> str:
    """Train together what can be; a failure here is no failure of a run, which is fitted alone."""
    with contextlib.suppress(Exception):
        factory.fit_together(runs, at_once)
    return "fit"


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
