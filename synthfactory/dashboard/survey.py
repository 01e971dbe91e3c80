"""All runs at once: what the pages and the data files are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from synthfactory.dashboard.boards import (
    AXES,
    Cell,
    Group,
    board,
    generator_labels,
    group_runs,
    version_key,
)
from synthfactory.dashboard.records import LEAKAGE, STATES, Record
from synthfactory.release.words import words_of

HEADLINES = tuple(axis.metric for axis in AXES if axis.metric is not None)
LEAKAGE_TITLE = "Worst attack"
# Colour and sign of a state.
STATE_LOOKS = {
    "certified": ("good", "check"),
    "refused": ("bad", "cross"),
    "failed": ("bad", "cross"),
    "interrupted": ("unknown", "gap"),
    "running": ("unknown", "gap"),
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A run that is new, went on, or was removed.

    Parameters
    ----------
    at
        When a build noticed it, seconds since 1970.
    run
        Its name.
    before, after
        Its states; empty when it was not there.
    """

    at: float
    run: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Everything that the site shows.

    Parameters
    ----------
    records
        All runs, the newest result first.
    datasets
        The table's label by run; two tables of one name have different labels.
    about_datasets
        By label: what the reports say about the table.
    about_metrics
        By id: unit, direction, and the methods by version.
    changes
        The newest first.
    unreadable
        Folders that look like runs and cannot be read.
    """

    records: Sequence[Record]
    datasets: Mapping[str, str]
    about_datasets: Mapping[str, Mapping[str, Any]]
    about_metrics: Mapping[str, Mapping[str, Any]]
    changes: Sequence[Change] = ()
    unreadable: Sequence[str] = ()
    _boards: dict[str, dict[tuple[str, str], Cell]] = field(default_factory=dict)

    @cached_property
    def generators(self) -> dict[str, str]:
        """The generator's label by run."""
        return generator_labels(self.records)

    @cached_property
    def groups(self) -> dict[tuple[str, str], Group]:
        """Runs by table and generator."""
        return group_runs(self.records, self.datasets, self.generators)

    @cached_property
    def dataset_labels(self) -> list[str]:
        """Labels of the tables, sorted."""
        return sorted({self.datasets[record.run] for record in self.records})

    @cached_property
    def generator_labels(self) -> list[str]:
        """Labels of the generators, sorted."""
        return sorted(set(self.generators.values()))

    @cached_property
    def versions(self) -> list[str]:
        """Versions of the package, oldest first."""
        return sorted({record.version for record in self.records}, key=version_key)

    @cached_property
    def metrics(self) -> list[str]:
        """Measured ids: the headlines, then by family."""
        seen = {metric for record in self.records for metric in record.metrics}
        first = [metric for metric in HEADLINES if metric in seen]
        return first + sorted(seen - set(first))

    @cached_property
    def states(self) -> Counter[str]:
        """How many runs are in each state."""
        counted = Counter(dict.fromkeys(STATES, 0))
        counted.update(record.state for record in self.records)
        return counted

    def better(self, metric: str) -> str:
        """``higher`` or ``lower``."""
        return "lower" if metric == LEAKAGE else str(self.about_metrics[metric]["better"])

    def unit(self, metric: str) -> str:
        """The unit of a metric."""
        return "share" if metric == LEAKAGE else str(self.about_metrics[metric]["unit"])

    def board(self, metric: str) -> dict[tuple[str, str], Cell]:
        """A metric's cells by table and generator, ranked."""
        if metric not in self._boards:
            self._boards[metric] = board(self.groups, metric, self.better(metric))
        return self._boards[metric]

    def of_dataset(self, dataset: str) -> list[Record]:
        """The runs on a table."""
        return [record for record in self.records if self.datasets[record.run] == dataset]


def title_of(metric: str) -> str:
    """A metric's short name."""
    return LEAKAGE_TITLE if metric == LEAKAGE else words_of(metric).title
