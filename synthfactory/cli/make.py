"""The verb `run`: settings in, outcomes out, with progress for whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from synthfactory.campaign import Watch, run_campaign
from synthfactory.certification import Signers
from synthfactory.cli.compose import Settings
from synthfactory.cli.console import read_key
from synthfactory.run import Outcome

# Hydra's launcher stands between the command line and `make_all`: the watcher goes around it.
watcher: ContextVar[Watch] = ContextVar("watcher", default=lambda view: None)


def act(settings: Sequence[Settings]) -> Any:
    """Do with the orders what the verb is about; by default make them."""
    return action.get()(settings)


def make_all(settings: Sequence[Settings]) -> list[Outcome]:
    """Make all orders as one campaign, on the cluster and under the key of the first."""
    first = settings[0]

    def key() -> Signers:
        issuer = read_key(first.key, first.did)
        others = {
            role: issuer if path is None else read_key(path)
            for role, path in (
                ("generator", first.generator_key),
                ("evaluator", first.evaluator_key),
            )
        }
        return Signers(controller=issuer, **others)

    # Ranks that serve the client of their job do not come back from here.
    with first.cluster.session(first.site, first.runs) as connect:
        return run_campaign(
            [item.order for item in settings],
            first.runs,
            connect=connect,
            models_per_fit=first.cluster.models_per_fit,
            key=key,
            watch=watcher.get(),
        )


# What Hydra's launcher does with the orders of a sweep, for verbs that make nothing.
action: ContextVar[Callable[[Sequence[Settings]], Any]] = ContextVar("action", default=make_all)
