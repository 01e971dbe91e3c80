"""How far a request is, for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synthfactory.generation.parts import Record
from synthfactory.generation.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Advance:
    """How far a request is.

    Parameters
    ----------
    n_parts, n_rows
        Parts and rows of the whole request.
    parts_done, rows_done
        Finished so far, by whomever.
    rows_made
        Finished since this process began.
    seconds
        Since this process began.
    """

    n_parts: int
    n_rows: int
    parts_done: int
    rows_done: int
    rows_made: int
    seconds: float

    @property
    def rows_per_s(self) -> float:
        """Rows made in a second; 0 before the first part."""
        return self.rows_made / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at this pace; None before the first part."""
        rate = self.rows_per_s
        return (self.n_rows - self.rows_done) / rate if rate else None


Watch = Callable[[Advance], None]


class Count:
    """Counts what is finished, and tells a watcher."""

    def __init__(
        self, plan: Plan, finished: Sequence[Record], watch: Watch, began_s: float
    ) -> None:
        self._plan, self._watch, self._began_s = plan, watch, began_s
        self._parts = len(finished)
        self._kept = self._rows = sum(record["rows"] for record in finished)

    def add(self, record: Record) -> None:
        """Count a part."""
        self._parts += 1
        self._rows += record["rows"]

    def tell(self) -> None:
        """Call the watcher."""
        self._watch(
            Advance(
                n_parts=self._plan.n_parts,
                n_rows=self._plan.request.n_rows,
                parts_done=self._parts,
                rows_done=self._rows,
                rows_made=self._rows - self._kept,
                seconds=time.monotonic() - self._began_s,
            )
        )
