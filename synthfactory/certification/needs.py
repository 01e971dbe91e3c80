"""What a policy needs before anything is trained: settings and people that its rules rest on.

A rule that reads what is never measured refuses every table, and one that reads an interval which
is too wide at any value refuses nearly every table, whether or not it leaks.  Whoever finds that
out after a night of training has lost the night.  So a policy may declare the least settings of the
evaluation and the least people on either side of the split with which a table that leaks nothing
passes in four of five cases, and an order that gives less is refused at once, with what to add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from synthfactory.errors import OrderError, PolicyError, did_you_mean

LEAST_CONFIDENCE = 0.95
PEOPLE, ROWS = "people", "rows"
WORDS = {
    "shadows": "shadow models (evaluation.shadows)",
    "targets": "targets of shadow models (evaluation.targets)",
    "attacks": "attacks on single people (evaluation.attacks)",
    "max_rows": "rows for costly measurements (evaluation.max_rows)",
    ROWS: "synthetic rows (rows)",
    PEOPLE: "people on either side of the split (train and control)",
}


class Measures(Protocol):
    """The settings of an evaluation that a policy may ask about."""

    @property
    def shadows(self) -> int: ...
    @property
    def targets(self) -> int: ...
    @property
    def attacks(self) -> int: ...
    @property
    def max_rows(self) -> int: ...
    @property
    def controls(self) -> bool: ...
    @property
    def confidence(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The least of each setting; 0 where nothing is asked.  Planted leaks must be tried too.

    Parameters
    ----------
    shadows, targets, attacks, max_rows
        As in `synthfactory.evaluation.Evaluation`.
    rows
        Synthetic rows.
    people
        In the train part, and in the control part: rows, or entities where one is declared.

    Raises
    ------
    PolicyError
        When a value is no whole number from 0 on.
    """

    shadows: int = 0
    targets: int = 0
    attacks: int = 0
    max_rows: int = 0
    rows: int = 0
    people: int = 0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise PolicyError(f"needs.{item.name}: expected a whole number, got {value!r}.")

    def __bool__(self) -> bool:
        return bool(self.to_dict())

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Needs:
        """From the values of a policy's YAML.

        Raises
        ------
        PolicyError
            For an unknown key, or a value that is no whole number.
        """
        if not isinstance(values, Mapping):
            raise PolicyError(f"{where}: expected keys and values, got {values!r}.")
        for key in values:
            if key not in WORDS:
                raise PolicyError(f"{where}: unknown key '{key}'{did_you_mean(str(key), WORDS)}")
        return cls(**values)

    def to_dict(self) -> dict[str, int]:
        """What is asked, without zeros; the inverse of `from_dict`."""
        values = {item.name: int(getattr(self, item.name)) for item in fields(self)}
        return {name: value for name, value in values.items() if value}

    @property
    def in_words(self) -> str:
        """What is asked, in one line."""
        return _list(
            [f"at least {value:,} {WORDS[name]}" for name, value in self.to_dict().items()]
        )

    def check_settings(self, policy: str, evaluation: Measures, rows: int | None) -> None:
        """Refuse an order whose settings are too small for the policy.

        Parameters
        ----------
        policy
            The policy's id.
        evaluation
            The order's evaluation.
        rows
            The order's synthetic rows; None for as many as are learnt.

        Raises
        ------
        OrderError
            With what is missing and the settings to add.
        """
        if not self:
            return
        given = {
            name: rows if name == ROWS else getattr(evaluation, name)
            for name in self.to_dict()
            if name != PEOPLE
        }
        short = {name: value for name, value in given.items() if _is_less(value, self, name)}
        lacks = [
            f"{getattr(self, name):,} {WORDS[name]}, not {value:,}" for name, value in short.items()
        ]
        add = [
            f"{'' if name == ROWS else 'evaluation.'}{name}={getattr(self, name)}" for name in short
        ]
        if not evaluation.controls:
            lacks.append("the instrument's check on planted leaks (evaluation.controls)")
            add.append("evaluation.controls=true")
        if evaluation.confidence < LEAST_CONFIDENCE:
            lacks.append(f"intervals of {LEAST_CONFIDENCE:.0%} (evaluation.confidence)")
            add.append(f"evaluation.confidence={LEAST_CONFIDENCE}")
        if lacks:
            raise OrderError(
                f"Policy '{policy}' would refuse most tables with these settings, even if they "
                f"leaked nothing, so nothing is trained. It needs {_list(lacks)}. "
                f"Add: {' '.join(add)}"
            )

    def check_people(self, policy: str, *, train: int, control: int, test: int) -> None:
        """Refuse a split whose sides are too small for the policy.

        Parameters
        ----------
        policy
            The policy's id.
        train, control, test
            People of each part.

        Raises
        ------
        OrderError
            With a split that would do, or how many people it takes.
        """
        if min(train, control) >= self.people:
            return
        raise OrderError(
            f"Policy '{policy}' would refuse most tables that are divided so, even if they leaked "
            f"nothing, so nothing is trained. It needs {self.people:,} {WORDS[PEOPLE]}; there are "
            f"{train:,} and {control:,}. {self._way_out(train + control + test, test)}"
        )

    def _way_out(self, people: int, test: int) -> str:
        # Shares are rounded to whole people, and may miss by one.
        share, rest = math.ceil(100 * self.people / people) / 100, 1 - test / people
        if (rest - share) * people >= self.people + 1:
            return f"Add: split.control={share:g}"
        enough = math.ceil(2 * (self.people + 1) / rest)
        return (
            f"No split of {people:,} people gives that beside the test part: use a table of at "
            f"least {enough:,} people, or another policy."
        )


def _is_less(value: int | None, needs: Needs, name: str) -> bool:
    return value is not None and value < getattr(needs, name)


def _list(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
