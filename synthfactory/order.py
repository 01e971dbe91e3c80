"""An order: everything that decides which bytes come out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthfactory.certification import Policy, load_policy
from synthfactory.errors import OrderError, expect_count
from synthfactory.evaluation import Evaluation
from synthfactory.generators import CTGAN, Generator, check_provided, offer_of
from synthfactory.tables import Dataset, Split


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make: the same order gives the same bytes wherever it runs.

    Parameters
    ----------
    dataset
        The confidential table: where it lies, and what is declared about its columns.
    split
        The shares of control and test rows.
    generator
        Which generator learns it, with its hyperparameters.
    evaluation
        Which measurements are made, and how precisely.
    policy
        The rules that decide.
    seed
        The root of every stream of chance.
    rows
        Synthetic rows to release; ``None`` for as many as the train part has.
    rows_per_shard
        Rows of one logical shard, which is one Parquet part.
    threads
        Processor threads of a fit.  They are part of the order because they change its last bits.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:<i>``.

    Raises
    ------
    OrderError
        When a value is outside its range, or settings are too small for what the policy needs.
    """

    dataset: Dataset
    split: Split = field(default_factory=Split)
    generator: Generator = field(default_factory=CTGAN)
    evaluation: Evaluation = field(default_factory=Evaluation)
    policy: Policy = field(default_factory=lambda: load_policy("default"))
    seed: int = 0
    rows: int | None = None
    rows_per_shard: int = 131_072
    threads: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        expect_count("seed", self.seed, 0, maximum=2**53 - 1, optional=False)
        expect_count("rows_per_shard", self.rows_per_shard, 1_000, optional=False)
        expect_count("threads", self.threads, 1, optional=False)
        expect_count("rows", self.rows, 1)
        check_provided(self.generator)
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(self.device)):
            raise OrderError(
                f"device: expected auto, cpu, cuda or cuda:<number>, got {self.device!r}."
            )
        self.policy.needs.check_settings(self.policy.id, self.evaluation, self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The order as JSON-able values, without where the table lies."""
        return {item.name: as_plain(getattr(self, item.name)) for item in dataclasses.fields(self)}


def as_plain(value: Any) -> Any:
    """Dataclasses as dictionaries with their ``_target_``, tuples as lists, no path of a table.

    A generator of another package has its ``_plugin_``, too: name, package and version.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Policy):
            return value.to_dict()
        kind = type(value)
        skipped = {Dataset: {"path"}, Evaluation: {"population"}}.get(kind, set())
        return _named(kind) | {
            item.name: as_plain(getattr(value, item.name))
            for item in dataclasses.fields(value)
            if item.name not in skipped
        }
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_plain(item) for item in value]
    return value


def _named(kind: type) -> dict[str, Any]:
    """Where a class is found again, and the package that offers it where it is not this one."""
    room, *inner = kind.__module__.split(".")
    if room == __package__:
        return {"_target_": ".".join([room, *inner[:1], kind.__qualname__])}
    offer = offer_of(kind) if issubclass(kind, Generator) else None
    if offer is None:
        return {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    return {"_target_": offer.target, "_plugin_": offer.to_dict()}
