"""Runs that were really made, and the site over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hostile import CANARY, EXTREME, FORMULA, HOSTILE
from people import LENIENT

if TYPE_CHECKING:
    from synthfactory.run import Outcome


@pytest.fixture(scope="session")
def made_runs(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that were really made: certified, refused and failed, on two tables.

    One table has a hostile name and a hostile column, and unique values in its training rows.
    """
    from synthfactory.certification import Policy, load_policy, new_key
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import TVAE, Bootstrap, Generator, Independent
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    folder = tmp_path_factory.mktemp("made")
    people = folder / "people.csv"
    frame = pd.read_csv(people_csv).head(1_500)
    frame.to_csv(people, index=False)
    hostile = folder / "hostile.csv"
    _hostile_table(frame).to_csv(hostile, index=False)
    runs = folder / "runs"
    key = new_key(folder / "issuer.pem")

    def make(path: Path, name: str, generator: Generator, seed: int, policy: Policy) -> Outcome:
        order = Order(
            dataset=Dataset(path=str(path), name=name, target="outcome"),
            generator=generator,
            evaluation=Evaluation(max_rows=600, repeats=20, attacks=100),
            policy=policy,
            threads=1,
            seed=seed,
        )
        return produce(order, runs, key=key)

    lenient, default = Policy.from_dict(LENIENT), load_policy("default")
    for seed in (0, 1):
        assert make(people, "people", TVAE(epochs=5), seed, lenient).state == "certified"
    assert make(people, "people", Bootstrap(), 0, default).state == "refused"
    assert make(people, "people", Independent(), 0, default).state == "refused"
    assert make(hostile, FORMULA, Independent(), 0, default).state == "refused"
    assert make(hostile, FORMULA, TVAE(epochs=5), 0, default).state == "refused"
    _fail(runs)
    return runs


def _hostile_table(people: pd.DataFrame) -> pd.DataFrame:
    frame = people.drop(columns=["visit"]).rename(columns={"region": HOSTILE})
    frame.loc[0, HOSTILE] = CANARY
    frame.loc[1, "pressure"] = EXTREME
    frame[FORMULA] = np.random.default_rng(0).integers(0, 5, len(frame))
    return frame


def _fail(runs: Path) -> None:
    """A run whose failure quotes a value and a path, written by the function that workers use."""
    from synthfactory.errors import SchemaError
    from synthfactory.journal import write_failure

    source = next(runs.glob("people-independent-s0-*"))
    folder = runs / "people-sdv_tvae-s0-000000000000"
    folder.mkdir()
    order = json.loads((source / "order.json").read_text())
    order["order"]["generator"] = {"_target_": "synthfactory.generators.SDVTVAE", "epochs": 300}
    (folder / "order.json").write_text(json.dumps(order))
    write_failure(folder, "split", SchemaError(f"holds 3 strings, first '{CANARY}' in {source}"))


@pytest.fixture(scope="session")
def made_site(made_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site over `made_runs`."""
    from synthfactory.dashboard import build

    site = tmp_path_factory.mktemp("site")
    built = build(made_runs, site)
    assert built.runs == 7
    assert built.unreadable == ()
    return site
