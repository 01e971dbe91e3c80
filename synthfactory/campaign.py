"""A campaign: many orders on one Dask client, whoever provides it.

Each order is a chain of tasks, one per stage.  What is committed is not submitted; a failing
order does not stop the others; certificates are signed here, beside the key, as verdicts come in.
Nothing below this module knows about Dask, and nothing in it knows which cluster it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from synthfactory import accounting, artifacts, factory, interruption
from synthfactory.accounting.allocation import VISIBLE
from synthfactory.certification import IssuerKey, Signers
from synthfactory.errors import Interrupted, OrderError, SynthfactoryError
from synthfactory.generators import NeuralGenerator
from synthfactory.journal import Progress, read_events, read_progress, write_event
from synthfactory.order import Order
from synthfactory.run import Outcome, Run, plan_together
from synthfactory.workers import Connect, Workers, in_words, leave

if TYPE_CHECKING:
    from distributed import Future

POLL_S = 0.5
# Runs of a worker whose progress is looked at, from both ends of its queue.
MAX_SHOWN = 4
# After being asked to stop without a known deadline, the campaign waits so long for its workers.
MAX_WAIT_S = 30.0
# How often a job may be queued again without a stage that begins.
MAX_LIVES = 3
# Shares of one evaluation: each reads the table again; its longest piece bounds what more gain.
MAX_SHARES = 8
LOST = "It was unfinished when Dask's scheduler was lost."


@dataclass(frozen=True, kw_only=True)
class View:
    """What a watcher sees of a campaign: runs, where each one is, and how it ended."""

    runs: tuple[Run, ...]
    progress: Mapping[str, Progress] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


Watch = Callable[[View], None]


def run_campaign(
    orders: Sequence[Order],
    runs: Path,
    *,
    connect: Connect,
    key: Callable[[], IssuerKey | Signers],
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

    Returns
    -------
    list of Outcome
        An order whose table has too few people for its policy has ``failed`` before anything was
        planned, begun or written; the others are made.  A run that was asked to stop is
        ``interrupted``; it has failed if the campaign's job was queued several times and never
        began a stage, so that this does not go on for ever.

    Raises
    ------
    UserError
        When a table cannot be read or the key cannot be used: nothing was started.
    StorageError
        When the folder of runs cannot be written: nothing was started.
    ClusterError
        When workers cannot be had.
    """
    plan = [Run.open(order, runs) for order in orders]
    distinct = {run.folder.name: run for run in plan}
    outcomes = {name: run.outcome for name, run in distinct.items()}
    open_ = [run for name, run in distinct.items() if outcomes[name] is None]
    ended = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    ended |= {run.folder.name: refused for run in open_ if (refused := _refused_at_once(run))}
    todo = [run for run in open_ if run.folder.name not in ended]
    if todo:
        issuer = key()
        artifacts.check_writable(runs)
        plan_together(todo)
        threads = max(run.order.threads for run in todo)
        # Ranks of one fit take every GPU of their machine: such orders are made one by one.
        at_once = 1 if any(_has_ranks(run) for run in todo) else len(todo)
        before = _marks(todo)
        campaign = os.environ.get("SLURM_JOB_ID") or uuid.uuid4().hex[:12]
        with connect(at_once, threads) as workers:
            last = _submit(workers, todo, models_per_fit, campaign)
            work = _Work(workers, last, issuer, dict(ended), tuple(distinct.values()))
            for outcome in work.outcomes(todo, watch):
                ended[outcome.run] = outcome
        if _marks(todo) == before and all(_never_began(run, campaign) for run in todo):
            ended = {name: _without_progress(outcome) for name, outcome in ended.items()}
    watch(View(runs=tuple(distinct.values()), outcomes=ended))
    return [ended[run.folder.name] for run in plan]


def _refused_at_once(run: Run) -> Outcome | None:
    """How an order ends whose table has too few people: neither planned nor begun."""
    try:
        run.check_people()
    except OrderError as error:
        return Outcome(
            run=run.folder.name,
            folder=run.folder,
            state="failed",
            reasons=(in_words(error),),
            failure_code=error.exit_code,
        )
    return None


def _marks(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """How far each run is: stages done, and when the last was written of what is not."""
    return [
        (
            sum(run.is_done(stage) for stage in factory.STAGES),
            _last_kept_ns(run),
        )
        for run in runs
    ]


def _last_kept_ns(run: Run) -> int:
    latest = 0
    # Another campaign may commit the stage and clear away meanwhile.
    with contextlib.suppress(FileNotFoundError):
        for path in run.unfinished:
            latest = max(latest, path.stat().st_mtime_ns)
    return latest


def _never_began(run: Run, campaign: str) -> bool:
    """Whether a job was queued again and again without beginning a stage of the run."""
    lives = 0
    for event in read_events(run.folder):
        if event["event"] == "started":
            lives = 0
        elif event["event"] == "queued" and event.get("campaign") == campaign:
            lives += 1
    return lives >= MAX_LIVES


def _without_progress(outcome: Outcome) -> Outcome:
    if outcome.state != "interrupted":
        return outcome
    why = (
        "Nothing was reached before the time was up: repeating would not help. Ask for a longer "
        "time limit (cluster.walltime_min), or make the stages shorter."
    )
    return dataclasses.replace(
        outcome, state="failed", reasons=(why, *outcome.reasons), failure_code=1
    )


class _Work:
    """A submitted campaign, watched to its end."""

    def __init__(
        self,
        workers: Workers,
        last: dict[str, Future[Run]],
        issuer: IssuerKey | Signers,
        ended: dict[str, Outcome],
        everything: tuple[Run, ...],
    ) -> None:
        self._workers, self._last, self._issuer = workers, last, issuer
        self._ended, self._everything = ended, everything
        self._asked_s: float | None = None
        self._arrived: SimpleQueue[str] = SimpleQueue()

    def outcomes(self, todo: Sequence[Run], watch: Watch) -> Iterator[Outcome]:
        """Yield the outcome of every run as its last task ends."""
        pending = {run.folder.name: run for run in todo}
        for name in pending:
            self._listen(name)
        why = "It was unfinished when the time was up."
        while pending and not self._is_late():
            if self._workers.client.status != "running":
                why = LOST
                break
            until_s = time.monotonic() + POLL_S
            while pending and (arrived := self._next_arrival(until_s)) is not None:
                if self._last[arrived].done():
                    yield self._conclude(pending.pop(arrived))
                else:
                    # The worker that held its result is gone: another one repeats the last stage.
                    self._listen(arrived)
            watch(
                View(runs=self._everything, progress=self._progress(pending), outcomes=self._ended)
            )
            self._workers.check()
        for run in pending.values():
            yield self._end(run, "interrupted", why)

    def _listen(self, name: str) -> None:
        """Have a run's name arrive when its last task has ended.

        Asking all futures again and again would take a time that grows with the square of their
        number.
        """
        self._last[name].add_done_callback(lambda _: self._arrived.put(name))

    def _next_arrival(self, until_s: float) -> str | None:
        try:
            return self._arrived.get(timeout=max(0.0, until_s - time.monotonic()))
        except Empty:
            return None

    def _is_late(self) -> bool:
        """Whether to leave what is unfinished: the process ends soon and was told so."""
        if not interruption.asked():
            return False
        if self._asked_s is None:
            self._asked_s = time.monotonic()
            interruption.spread()
        left_s = interruption.seconds_left()
        waited_s = time.monotonic() - self._asked_s
        return waited_s > (MAX_WAIT_S if left_s is None else interruption.lead_s() / 2)

    def _progress(self, pending: Mapping[str, Run]) -> dict[str, Progress]:
        """Where the runs are on which a worker is busy; hardly another file is read.

        A worker may hold a long queue.  What it works on came first, or last as a next stage.
        """
        try:
            processing = self._workers.client.processing()
        except (OSError, TimeoutError, CancelledError):
            return {}
        busy = {
            key.partition(":")[2]
            for keys in processing.values()
            for key in (*keys[:MAX_SHOWN], *keys[-MAX_SHOWN:])
        }
        return {
            name: seen
            for name in busy & set(pending)
            if (seen := read_progress(pending[name].folder)) is not None
        }

    def _conclude(self, run: Run) -> Outcome:
        """Sign what was certified; turn an error into an outcome that says why."""
        # Let the scheduler forget the run: else it is repeated when a worker with its result goes.
        last = self._last.pop(run.folder.name)
        try:
            error = last.exception()
        except (CancelledError, asyncio.CancelledError):
            return self._end(run, "interrupted", LOST)
        # A cancelled task has no error; what counts is what was committed.
        if error is None and not run.is_done("decide"):
            return self._end(run, "interrupted", LOST)
        if error is None:
            try:
                outcome = factory.certify(run, self._issuer)
                self._ended[outcome.run] = outcome
                _clear_away(run)
                return outcome
            except SynthfactoryError as failure:
                error = failure
        state = "interrupted" if isinstance(error, Interrupted) else "failed"
        return self._end(run, state, in_words(error), getattr(error, "exit_code", 1))

    def _end(self, run: Run, state: str, why: str, code: int = 1) -> Outcome:
        outcome = Outcome(
            run=run.folder.name,
            folder=run.folder,
            state=state,
            reasons=(why,),
            failure_code=code,
        )
        self._ended[outcome.run] = outcome
        return outcome


def _submit(
    workers: Workers, todo: Sequence[Run], models_per_fit: int | None, campaign: str
) -> dict[str, Future[Run]]:
    """Chain the stages of every run; earlier runs of a campaign go first.

    Runs that differ in their seed alone have a task in common between `split` and `fit`, which
    trains them together where that is faster; what it leaves is fitted run by run.  A run travels
    to the workers once: each stage gives it to the next.
    """
    client = workers.client
    last: dict[str, Future[Run]] = {}
    pins: list[str] = []
    n_places = workers.places
    if n_places is None:
        # One worker for each set of GPUs; none where there are no GPUs.
        found = {gpus: worker for worker, gpus in client.run(_gpus).items() if gpus}
        pins = list(found.values())
        n_places = len(pins)
    n_shares = _shares(workers, len(todo))
    for run in todo:
        write_event(run.folder, "queued", "", campaign=campaign)
    for number, group in enumerate(_groups(todo, n_places, models_per_fit)):
        together: Future[str] | None = None
        for stage in factory.STAGES:
            if stage == "fit" and len(group) > 1:
                together = client.submit(
                    _fit_after,
                    [last[run.folder.name] for run in group],
                    models_per_fit,
                    campaign,
                    workers.elastic,
                    key=f"fit-together-{number}:{group[0].folder.name}",
                    pure=False,
                    workers=pins[number % len(pins)] if pins else None,
                    allow_other_workers=bool(pins),
                    resources=_asks(workers, stage, group[0]),
                )
            for run in group:
                name = run.folder.name
                divided = stage == "evaluate" and n_shares > 1
                shares = [
                    client.submit(
                        _share_after,
                        last[name],
                        number,
                        n_shares,
                        workers.elastic,
                        key=f"evaluate-{number}:{name}",
                        pure=False,
                        resources=_asks(workers, stage, run),
                    )
                    for number in range(n_shares if divided else 0)
                ]
                last[name] = client.submit(
                    _perform_after,
                    last.get(name, run),
                    together if stage == "fit" else None,
                    shares,
                    stage,
                    campaign,
                    workers.elastic,
                    key=f"{stage}:{name}",
                    pure=False,
                    resources=_asks(workers, stage, run),
                )
    return last


def _shares(workers: Workers, n_runs: int) -> int:
    """Into how many shares an evaluation is divided: one, unless workers would be idle.

    An elastic cluster may have no worker yet; then each evaluation is one task.
    """
    n_workers = len(workers.client.scheduler_info()["workers"])
    return max(1, min(MAX_SHARES, n_workers // n_runs))


def _clear_away(run: Run) -> None:
    """Remove what killed workers left in the folder of a run whose stages are all committed.

    The client's own files are left alone: the client of another campaign may be writing them.
    """
    run.forget_unfinished_fit()
    run.forget_unfinished_evaluation()
    artifacts.sweep(run.folder, spared=("release", accounting.RESOURCES_FILE))


def _asks(workers: Workers, stage: str, run: Run) -> dict[str, float] | None:
    """The Dask resources that a task needs.

    Raises
    ------
    OrderError
        When no worker has that many GPUs.
    """
    generator = run.order.generator
    learns = stage == "fit" and isinstance(generator, NeuralGenerator)
    if not learns or run.order.device == "cpu" or not workers.on_gpu:
        return dict(workers.on_cpu) or None
    n_gpus = generator.ranks if isinstance(generator, NeuralGenerator) else 1
    if n_gpus > workers.gpus_per_worker:
        raise OrderError(
            f"generator.ranks={n_gpus}: expected at most the GPUs of one worker, which are "
            f"{workers.gpus_per_worker} here: use cluster=slurm with "
            f"cluster.gpus_per_worker={n_gpus}, or fewer ranks."
        )
    return {name: n_gpus * each for name, each in workers.on_gpu.items()}


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
    given = [os.environ.get(name, "") for name in VISIBLE]
    return next((gpus for gpus in given if gpus not in ("", "-1")), "")


def _fit_after(runs: Sequence[Run], at_once: int | None, campaign: str, elastic: bool) -> str:
    """Train together what can be; a failure here is no failure of a run, which is fitted alone."""
    with _leaving_when_asked(elastic):
        try:
            factory.fit_together(runs, at_once, campaign)
        except Interrupted:
            raise
        except Exception:  # noqa: BLE001
            return "left to each run"
    return "fit"


def _share_after(run: Run, number: int, of: int, elastic: bool) -> factory.Share | None:
    with _leaving_when_asked(elastic):
        return factory.evaluate_share(run, number, of)


def _perform_after(
    run: Run,
    together: str | None,
    shares: Sequence[factory.Share | None],
    stage: str,
    campaign: str,
    elastic: bool,
) -> Run:
    """Perform a stage after a common fit, or with the shares of an evaluation."""
    with _leaving_when_asked(elastic):
        factory.perform(stage, run, campaign, [share for share in shares if share is not None])
    return run


@contextlib.contextmanager
def _leaving_when_asked(elastic: bool) -> Iterator[None]:
    """Where a worker that is asked to stop is replaced, give its task to another one."""
    try:
        yield
    except Interrupted:
        if elastic:
            leave()
        raise
