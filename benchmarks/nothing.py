"""Orders whose stages do next to nothing: what is left is the cost of making many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthfactory.evaluation import Evaluation, Findings
from synthfactory.generators import Independent
from synthfactory.order import Order
from synthfactory.tables import Dataset


@dataclass(frozen=True, kw_only=True)
class NoEvaluation(Evaluation):
    """Measures nothing, so every order is refused."""

    def run(self, **given: Any) -> Findings:
        """No findings."""
        return Findings(measurements=())


def write_table(path: Path) -> Path:
    """Sixty rows of two discrete columns."""
    rows = [f"{'ab'[row % 2]},{'xyz'[row % 3]}" for row in range(60)]
    path.write_text("\n".join(["one,other", *rows]) + "\n")
    return path


def orders(table: Path, count: int) -> list[Order]:
    """Orders that differ in their seed alone."""
    return [
        Order(
            dataset=Dataset(path=str(table)),
            generator=Independent(),
            evaluation=NoEvaluation(),
            seed=seed,
            threads=1,
            device="cpu",
        )
        for seed in range(count)
    ]
