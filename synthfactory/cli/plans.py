"""What a command would do: what is there already, what would be made, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synthfactory import __version__, artifacts, history
from synthfactory.cli.compose import Settings
from synthfactory.errors import OrderError
from synthfactory.journal import ORDER_FILE, STAGES, read_failure
from synthfactory.run import Run

MAX_REASONS = 6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would happen to one order.

    Parameters
    ----------
    run
        The run's name.
    state
        ``done`` (certified or refused), ``continue``, ``new``, or ``blocked``: the policy would
        refuse it before anything is trained.
    cached, missing
        Stages that are committed, and those that would run.
    reasons
        Why it is not done.
    left
        How long what is missing took in past runs; None where no past run tells.
    notes
        What is done about rare values.
    """

    run: str
    state: str
    cached: tuple[str, ...]
    missing: tuple[str, ...]
    reasons: tuple[str, ...]
    left: Left | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "run": self.run,
            "state": self.state,
            "cached": list(self.cached),
            "missing": list(self.missing),
            "reasons": list(self.reasons),
            "left": None if self.left is None else asdict(self.left),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Left:
    """An estimate, from past runs alone.

    Parameters
    ----------
    seconds
        Sum of the missing stages' median seconds.
    source
        Which past runs, in words.
    """

    seconds: float
    source: str


def plan(settings: Sequence[Settings]) -> list[Plan]:
    """What would happen to each order; equal orders are one run."""
    runs = [Run.open(item.order, item.runs) for item in settings]
    return [_plan_one(run) for run in {run.folder.name: run for run in runs}.values()]


def _plan_one(run: Run) -> Plan:
    cached = tuple(stage for stage in STAGES if run.is_done(stage))
    missing = tuple(stage for stage in STAGES if stage not in cached)
    outcome = run.outcome
    if outcome is not None:
        return Plan(run=run.folder.name, state="done", cached=cached, missing=(), reasons=())
    try:
        run.check_people()
    except OrderError as error:
        return Plan(
            run=run.folder.name,
            state="blocked",
            cached=cached,
            missing=(),
            reasons=(str(error),),
            notes=run.notes,
        )
    if (run.folder / ORDER_FILE).exists():
        fitting = run.checkpoint.exists() and "fit" in missing
        failure = read_failure(run.folder)
        reasons = ["It was begun and is unfinished."]
        if failure is not None:
            reasons = [f"It failed in {failure['stage']}: {failure['message']}"]
        reasons += ["Its fit goes on from a checkpoint."] if fitting else []
        if not missing:
            missing = ("release",)
        return Plan(
            run=run.folder.name,
            state="continue",
            cached=cached,
            missing=missing,
            reasons=tuple(reasons),
            left=_left(run, missing),
            notes=run.notes,
        )
    return Plan(
        run=run.folder.name,
        state="new",
        cached=(),
        missing=missing,
        reasons=tuple(_why_new(run)),
        left=_left(run, missing),
        notes=run.notes,
    )


def _left(run: Run, missing: Sequence[str]) -> Left | None:
    found = history.expect(run.folder, run.order.to_dict(), run.table_digest)
    if found is None:
        return None
    return Left(seconds=round(found.left_s(missing), 3), source=found.source)


def in_words(plans: Sequence[Plan]) -> str:
    """How long all that is missing took in past runs, one run after another; or that none tells."""
    todo = [item for item in plans if item.state not in ("done", "blocked")]
    known = [item.left.seconds for item in todo if item.left is not None]
    if not known:
        return "How long it takes is not known: no past run here tells." if todo else ""
    unknown = len(todo) - len(known)
    rest = f"; {unknown} more that no past run tells of" if unknown else ""
    return (
        f"About {history.in_words(sum(known))} of work for {len(known)} run(s), one after another, "
        f"as past runs here took{rest}."
    )


def _why_new(run: Run) -> Iterator[str]:
    """How the order differs from the run that is most like it."""
    mine: dict[str, Any] = {
        "order": run.order.to_dict(),
        "table": run.table_digest,
        "synthfactory": __version__,
    }
    others = [
        (differences(document, mine), path.parent.name)
        for path in sorted(run.folder.parent.glob(f"*/{ORDER_FILE}"))
        for document in [artifacts.read_json(path)]
        if document["order"]["dataset"]["name"] == run.order.dataset.name
        and document["order"]["generator"]["_target_"] == mine["order"]["generator"]["_target_"]
    ]
    if not others:
        yield "Nothing of this dataset and generator was made here yet."
        return
    found, name = min(others, key=lambda other: len(other[0]))
    yield f"Unlike {name}:"
    yield from found[:MAX_REASONS]
    if len(found) > MAX_REASONS:
        yield f"... and {len(found) - MAX_REASONS} more settings"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The settings that differ, in words.

    >>> differences({"order": {"generator": {"epochs": 300}}, "table": "a"},
    ...             {"order": {"generator": {"epochs": 50}}, "table": "a"})
    ['generator.epochs: 300 -> 50']
    """
    found = []
    if old.get("table") != new.get("table"):
        found.append("the table's content changed")
    if old.get("synthfactory") != new.get("synthfactory"):
        found.append(f"synthfactory {old.get('synthfactory')} -> {new.get('synthfactory')}")
    before, after = dict(_flat(old["order"])), dict(_flat(new["order"]))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            found.append(f"{key}: {before.get(key)} -> {after.get(key)}")
    return found or ["the columns' schema changed"]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value
