"""Values that too few people have are made common at the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synthfactory.errors import OrderError, TableError
from synthfactory.tables import OTHER, Dataset, RareValues, Table, merge_rare

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


def load(folder: Path, made: pd.DataFrame, **settings: Any) -> Table:
    """As a run reads it; without settings, under the default."""
    return changes(folder, made, **settings)[0]


def changes(folder: Path, made: pd.DataFrame, **settings: Any) -> tuple[Table, RareValues]:
    made.to_csv(folder / "t.csv", index=False)
    return Dataset(path=str(folder / "t.csv"), **settings).load_with_changes()


def counted(rare: RareValues) -> dict[tuple[str, str], int]:
    return {(item.column, item.change): item.cells for item in rare.changes}


def plain(**columns: Any) -> pd.DataFrame:
    """1,000 rows with a common column beside, which is taken for the target."""
    return pd.DataFrame({**columns, "side": ["x", "y"] * 500})


def test_rare_levels_of_texts_become_one_where_enough_people_have_them(tmp_path: Path) -> None:
    table = load(tmp_path, frame())
    assert set(table.schema.column("illness").categories) == {"flu", "gout", OTHER}
    assert table.to_pandas()["illness"].value_counts()[OTHER] == 12


def test_rare_levels_of_too_few_people_take_the_commonest_level(tmp_path: Path) -> None:
    """Five missing cells of a column without others would name the five."""
    made = frame()
    commonest = made["town"].value_counts().idxmax()
    table = load(tmp_path, made)
    town = table.schema.column("town")
    assert (set(town.categories), town.nullable) == ({"a", "b"}, False)
    assert set(table.to_pandas()["town"][:5]) == {commonest}


def test_rare_levels_become_missing_where_enough_people_are_missing(tmp_path: Path) -> None:
    made = frame()
    made.loc[100:120, "town"] = np.nan
    table, rare = changes(tmp_path, made)
    assert table.to_pandas()["town"].isna().sum() == 5 + 21
    assert counted(rare)["town", "missing"] == 5


def test_rare_ordinal_levels_take_the_nearest_common_one(tmp_path: Path) -> None:
    counts = np.repeat([0, 1, 2, 3, 7, 9], [500, 300, 100, 90, 4, 6])
    kinds = {"visits": {"kind": "ordinal"}}
    table, rare = changes(tmp_path, plain(visits=counts), columns=kinds)
    assert table.schema.column("visits").categories == (0, 1, 2, 3)
    assert table.to_pandas()["visits"].value_counts()[3] == 100
    assert counted(rare) == {("visits", "moved"): 10}


def test_rare_codes_that_are_numbers_become_missing(tmp_path: Path) -> None:
    """There is no whole number that means "(other)"."""
    codes = np.concatenate([np.repeat([501, 502], 480), np.repeat(range(700, 708), 5)])
    table, rare = changes(tmp_path, plain(zip=codes), columns={"zip": {"kind": "categorical"}})
    assert table.schema.column("zip").categories == (501, 502)
    assert counted(rare) == {("zip", "missing"): 40}


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


def test_heavy_tails_of_whole_numbers_stay_whole(tmp_path: Path) -> None:
    tail = np.random.default_rng(0).zipf(1.5, 1_000).clip(max=10**9)
    table, rare = changes(tmp_path, plain(visits=tail))
    column = table.schema.column("visits")
    assert (column.kind, column.dtype, column.decimals) == ("numerical", "int64", 0)
    assert column.maximum == np.sort(tail)[-10]
    assert counted(rare) == {("visits", "high"): int((tail > column.maximum).sum())}


def test_a_boolean_that_three_people_have_becomes_constant(tmp_path: Path) -> None:
    made = plain(rare_illness=np.arange(1_000) < 3, common=np.arange(1_000) < 10)
    table, rare = changes(tmp_path, made)
    assert not table.to_pandas()["rare_illness"].any()
    assert table.schema.column("rare_illness").categories == (False, True)
    assert table.to_pandas()["common"].sum() == 10
    assert (rare.single, counted(rare)) == (("rare_illness",), {("rare_illness", "moved"): 3})


def test_people_count_not_rows(tmp_path: Path) -> None:
    made = frame()
    # Thirty rows of one person.
    made["person"] = [f"p{max(number, 29)}" for number in range(N)]
    made.loc[:29, "illness"] = "theirs alone"
    made.loc[:29, "income"] = 123_456.7
    table, rare = changes(tmp_path, made, entity="person")
    assert "theirs alone" not in table.schema.column("illness").categories
    assert table.schema.column("income").maximum < 123_456.7
    assert list(table.to_pandas()["person"]) == list(made["person"])
    told = {(item["column"], item["change"]): item["cells"] for item in rare.public()["changes"]}
    assert told["income", "high"] is None


@pytest.mark.parametrize("entity", [None, "person"])
def test_every_state_and_end_is_shared_by_ten_people(tmp_path: Path, entity: str | None) -> None:
    """Counted anew by pandas, on tables of every kind of column."""
    chance = np.random.default_rng(7)
    n = 3_000
    made = pd.DataFrame(
        {
            "person": [f"p{number}" for number in chance.integers(0, 900, n)],
            "town": [f"t{number}" for number in chance.zipf(1.6, n).clip(max=400)],
            "code": chance.zipf(1.6, n).clip(max=60),
            "stage": chance.geometric(0.4, n),
            "ill": chance.random(n) < 0.002,
            "amount": chance.lognormal(3, 2, n).round(2),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(chance.geometric(0.01, n), "D"),
        }
    )
    made.loc[chance.random(n) < 0.3, "code"] = pd.NA
    declared = {"code": {"kind": "categorical"}, "stage": {"kind": "ordinal"}}
    frame = load(tmp_path, made, entity=entity, columns=declared).to_pandas()
    people = made["person"] if entity else pd.Series(range(n))
    for name in ("town", "code", "stage", "ill"):
        assert people.groupby(frame[name]).nunique().min() >= 10, name
    for name in ("amount", "day"):
        for end in (frame[name].min(), frame[name].max()):
            assert people[frame[name] == end].nunique() >= 10, name


def test_declared_levels_and_ends_stay(tmp_path: Path) -> None:
    declared = {
        "town": {"kind": "categorical", "categories": ["a", "b", "rare-town"]},
        "income": {"kind": "numerical", "maximum": 1e9},
    }
    table, rare = changes(tmp_path, frame(), columns=declared)
    assert "rare-town" in table.schema.column("town").categories
    assert table.to_pandas()["income"].max() == 9e8
    assert table.schema.column("income").maximum == 1e9
    assert table.to_pandas()["income"].min() > -1e6
    assert rare.declared == ("town", "income")


def test_an_entity_that_is_declared_a_level_still_divides_the_table(tmp_path: Path) -> None:
    made = plain(clinic=[f"c{number // 8}" for number in range(1_000)])
    declared = {"clinic": {"kind": "categorical"}}
    table, rare = changes(tmp_path, made, entity="clinic", columns=declared)
    assert len(table.schema.column("clinic").categories) == 125
    assert rare.declared == ("clinic",)


def test_nothing_rare_changes_nothing_and_zero_leaves_all(tmp_path: Path) -> None:
    untouched, kept = changes(tmp_path, frame(), min_people=0)
    assert "rare-a" in untouched.schema.column("illness").categories
    common = load(tmp_path, frame(), min_people=1)
    assert common.to_pandas().equals(untouched.to_pandas())
    assert common.schema == untouched.schema
    assert kept.kept
    assert "rare values were kept" in kept.lines[0]
    sides = plain(town=["a", "b"] * 500)
    table, rare = changes(tmp_path, sides)
    assert (rare.changes, rare.lines) == ((), ())
    assert table.digest == load(tmp_path, sides, min_people=0).digest


def test_making_common_twice_changes_no_more(tmp_path: Path) -> None:
    once = load(tmp_path, frame())
    twice, rare = merge_rare(once)
    assert rare.changes == ()
    assert twice.digest == once.digest


@pytest.mark.parametrize(
    "target", [["ill"] * 4 + ["well"] * 996, [True] * 9 + [False] * 991, [7.5] * 3 + [0.0] * 997]
)
def test_a_target_of_one_value_is_an_error_that_says_what_to_do(
    tmp_path: Path, target: list[Any]
) -> None:
    with pytest.raises(TableError, match=r"target 'y'.*dataset\.min_people=10"):
        load(tmp_path, plain(y=target), target="y")
    assert load(tmp_path, plain(y=target), target="y", min_people=3).n_rows == 1_000


def test_a_target_of_common_classes_is_untouched(tmp_path: Path) -> None:
    classes = ["a"] * 500 + ["b"] * 490 + ["c"] * 10
    table, rare = changes(tmp_path, plain(y=classes), target="y")
    assert list(table.to_pandas()["y"]) == classes
    assert rare.changes == ()
    # A rare class joins others of its like: the target keeps the common ones.
    classes = ["a"] * 500 + ["b"] * 480 + ["c"] * 9 + ["d"] * 9 + ["e"] * 2
    table = load(tmp_path, plain(y=classes), target="y")
    assert table.to_pandas()["y"].value_counts().to_dict() == {"a": 500, "b": 480, OTHER: 20}


def test_many_rare_levels_become_one(tmp_path: Path) -> None:
    made = pd.DataFrame({"shop": [f"s{n // 3}" for n in range(3_000)] + ["main"] * 3_000})
    made["side"] = ["x", "y"] * 3_000
    table, rare = changes(tmp_path, made)
    assert table.schema.column("shop").categories == ("main", OTHER)
    assert rare.public()["changes"][0]["cells"] == 3_000


def test_a_level_that_is_called_other_already_takes_the_rare_ones(tmp_path: Path) -> None:
    levels = [OTHER] * 20 + ["rare"] * 3 + ["a"] * 977
    table = load(tmp_path, plain(kind=levels))
    assert table.to_pandas()["kind"].value_counts().to_dict() == {"a": 977, OTHER: 23}


def test_columns_that_lose_everything_are_named(tmp_path: Path) -> None:
    made = plain(
        asked=[1.5, 2.5, 3.5] + [np.nan] * 997,
        paid=[0] * 994 + [7, 8, 9, 11, 12, 13],
        few=np.concatenate([np.arange(15.0), np.full(985, np.nan)]),
        place=[f"place {number % 2}" for number in range(12)] + [None] * 988,
    )
    table, rare = changes(tmp_path, made)
    assert rare.single == ("asked", "paid", "few", "place")
    assert table.data.column("asked").null_count == 1_000
    assert set(table.to_pandas()["paid"]) == {0}
    assert set(table.to_pandas()["few"].dropna()) == {7.0}
    assert table.to_pandas()["place"].value_counts().to_dict() == {OTHER: 12}
    assert "'asked', 'paid', 'few', 'place'" in " ".join(rare.lines)


def test_a_small_table_is_made_common_and_its_owner_warned(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    made = pd.DataFrame(
        {
            "age": chance.integers(18, 90, 50),
            "region": ["n"] * 25 + ["s"] * 14 + ["e"] * 7 + ["w"] * 4,
            "ill": [True] * 15 + [False] * 35,
        }
    )
    table, rare = changes(tmp_path, made)
    assert set(table.schema.column("region").categories) == {"n", "s", OTHER}
    ages = np.sort(made["age"])
    column = table.schema.column("age")
    assert (column.minimum, column.maximum) == (ages[9], ages[-10])
    assert any("so few people (50)" in line for line in rare.lines)


def test_fewer_people_than_asked_for_is_an_error(tmp_path: Path) -> None:
    made = plain(person=[f"p{number % 8}" for number in range(1_000)])
    with pytest.raises(TableError, match=r"8 people, fewer than dataset\.min_people=10"):
        load(tmp_path, made, entity="person")


def test_released_counts_are_rounded_and_small_ones_left_out(tmp_path: Path) -> None:
    made = plain(
        town=["a"] * 483 + ["b"] * 480 + [f"t{number}" for number in range(37)],
        ill=[True] * 3 + [False] * 997,
    )
    _, rare = changes(tmp_path, made)
    assert counted(rare) == {("town", "together"): 37, ("ill", "moved"): 3}
    assert rare.public()["changes"] == [
        {"column": "town", "change": "together", "cells": 40},
        {"column": "ill", "change": "moved", "cells": None},
    ]
    assert rare.lines[0].startswith("rare values: about 40 cells of 2 columns were made common")
    assert "37" not in " ".join(rare.lines)


def test_the_default_is_ten() -> None:
    assert Dataset(path="x.csv").min_people == 10


@pytest.mark.parametrize("value", [-1, 2.5, True, "ten"])
def test_settings_are_checked(value: Any) -> None:
    with pytest.raises(OrderError, match="min_people"):
        Dataset(path="x.csv", min_people=value)
