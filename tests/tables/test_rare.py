"""Values that too few people have are made common at the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synthfactory.errors import OrderError
from synthfactory.tables import Dataset
from synthfactory.tables.rare import OTHER

N = 400


def frame() -> pd.DataFrame:
    chance = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "illness": chance.choice(["flu", "gout"], N),
            "town": chance.choice(["a", "b"], N),
            "stage": chance.choice([1, 2, 3], N),
            "income": chance.normal(30_000, 5_000, N).round(1),
            "born": pd.Timestamp("1980-01-01") + pd.to_timedelta(chance.integers(0, 999, N), "D"),
            "smoker": chance.random(N) < 0.01,
        }
    )
    made.loc[:2, "illness"] = "rare-a"
    made.loc[3:11, "illness"] = "rare-b"
    made.loc[:4, "town"] = "rare-town"
    made.loc[:3, "stage"] = 9
    made.loc[:2, "income"] = 9e8
    made.loc[3:5, "income"] = -9e8
    made.loc[0, "born"] = pd.Timestamp("1871-03-14")
    made.loc[17, "income"] = np.nan
    return made


def load(folder: Path, made: pd.DataFrame, **settings: Any) -> Any:
    made.to_csv(folder / "t.csv", index=False)
    return Dataset(path=str(folder / "t.csv"), **{"min_people": 10, **settings}).load()


def test_rare_levels_of_texts_become_one_where_enough_people_have_them(tmp_path: Path) -> None:
    table = load(tmp_path, frame())
    assert set(table.schema.column("illness").categories) == {"flu", "gout", OTHER}
    assert table.to_pandas()["illness"].value_counts()[OTHER] == 12


def test_rare_levels_of_too_few_people_become_missing(tmp_path: Path) -> None:
    table = load(tmp_path, frame())
    town, stage = table.schema.column("town"), table.schema.column("stage")
    assert (set(town.categories), town.nullable) == ({"a", "b"}, True)
    assert table.to_pandas()["town"].isna().sum() == 5
    assert 9 not in stage.categories
    assert stage.nullable


def test_numbers_and_dates_are_clipped_to_what_ten_people_reach(tmp_path: Path) -> None:
    made = frame()
    table = load(tmp_path, made)
    income = table.to_pandas()["income"]
    column = table.schema.column("income")
    assert (income.min(), income.max()) == (column.minimum, column.maximum)
    assert (made["income"] >= column.maximum).sum() == 10
    assert (made["income"] <= column.minimum).sum() == 10
    assert income.isna().sum() == 1
    assert pd.to_datetime(table.to_pandas()["born"]).min().year == 1980


def test_people_count_not_rows(tmp_path: Path) -> None:
    made = frame()
    # Thirty rows of one person.
    made["person"] = [f"p{max(number, 29)}" for number in range(N)]
    made.loc[:29, "illness"] = "theirs alone"
    table = load(tmp_path, made, entity="person")
    assert "theirs alone" not in table.schema.column("illness").categories


def test_declared_levels_and_ends_stay(tmp_path: Path) -> None:
    declared = {
        "town": {"kind": "categorical", "categories": ["a", "b", "rare-town"]},
        "income": {"kind": "numerical", "maximum": 1e9},
    }
    table = load(tmp_path, frame(), columns=declared)
    assert "rare-town" in table.schema.column("town").categories
    assert table.to_pandas()["income"].max() == 9e8
    assert table.to_pandas()["income"].min() > -1e6


def test_nothing_rare_changes_nothing_and_zero_leaves_all(tmp_path: Path) -> None:
    untouched = load(tmp_path, frame(), min_people=0)
    assert "rare-a" in untouched.schema.column("illness").categories
    common = load(tmp_path, frame(), min_people=1)
    assert common.to_pandas().equals(untouched.to_pandas())
    assert common.schema == untouched.schema


@pytest.mark.parametrize("value", [-1, 2.5, True, "ten"])
def test_settings_are_checked(value: Any) -> None:
    with pytest.raises(OrderError, match="min_people"):
        Dataset(path="x.csv", min_people=value)
