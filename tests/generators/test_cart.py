"""Sequential trees: what they learn, what their model holds, and that the audit flags them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from generators.examples import as_table, mixed
from sklearn.tree import DecisionTreeClassifier

import synthfactory as sf
from synthfactory.errors import OrderError, ShortfallWarning
from synthfactory.evaluation import Evaluation
from synthfactory.generators.cart import _Column, grow


def columns(*kinds: str, n_codes: int) -> list[_Column]:
    return [
        _Column(numeric=False, place=place, n_codes=n_codes, ordered=kind == "ordered")
        for place, kind in enumerate(kinds)
    ]


def test_leaves_and_their_values_are_those_of_scikit_learn() -> None:
    chance = np.random.default_rng(0)
    x = chance.integers(0, 12, (800, 2))
    y = (x[:, 0] > 6) * 2 + (x[:, 1] > chance.integers(0, 12, 800))
    codes = np.column_stack([x, y]).astype(np.int64)
    kinds = columns("ordered", "ordered", "level", n_codes=12)
    tree = grow(codes, kinds, 2, min_leaf=7, seed=3)
    model = DecisionTreeClassifier(
        min_samples_leaf=7, min_impurity_decrease=1e-8, random_state=3
    ).fit(x.astype(np.float32), y)
    leaves = tree.leaves(codes[:, :2])
    assert np.array_equal(leaves, model.apply(x.astype(np.float32)))
    assert len(np.unique(leaves)) > 10
    for leaf in np.unique(leaves):
        mine = slice(tree.starts[leaf], tree.starts[leaf + 1])
        values, counts = np.unique(y[leaves == leaf], return_counts=True)
        assert tree.values[mine].tolist() == values.tolist()
        assert tree.counts[mine].tolist() == counts.tolist()
        assert counts.sum() >= 7


def test_draws_follow_the_counts_of_the_leaf() -> None:
    codes = np.repeat([0, 1, 5], [10, 30, 60]).astype(np.int64)[:, None]
    tree = grow(codes, columns("level", n_codes=6), 0, min_leaf=5, seed=0)
    drawn = tree.draw(np.zeros(20_000, dtype=np.int64), np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=6) / len(drawn)
    assert shares == pytest.approx([0.1, 0.3, 0, 0, 0, 0.6], abs=0.015)


def test_one_split_divides_unordered_levels_by_what_they_predict() -> None:
    # Alphabetical codes would need seven splits for every second level.
    level = np.arange(4_000) % 16
    target = level % 2
    codes = np.column_stack([level, target]).astype(np.int64)
    tree = grow(codes, columns("level", "level", n_codes=16), 1, min_leaf=5, seed=0)
    assert len(tree.feature) == 3


def test_dependence_missing_values_and_spikes_are_kept(tmp_path: Path) -> None:
    real = mixed(4_000)
    real["twin"] = real["size"] * 2 + np.random.default_rng(0).normal(0, 0.1, len(real))
    table = as_table(real, tmp_path)
    frame = sf.CART().fit(table, seed=0).sample(4_000, seed=1).to_pandas()
    for name in ("a", "b"):
        means = [part.loc[part["group"] == name, "size"].mean() for part in (real, frame)]
        assert means[0] == pytest.approx(means[1], abs=1.0)
    both = frame.dropna(subset=["size", "twin"])
    assert np.corrcoef(both["size"], both["twin"])[0, 1] > 0.99
    assert (frame["size"].isna() == frame["twin"].isna()).mean() > 0.99
    assert (frame["gain"] == 0).mean() == pytest.approx(0.8, abs=0.03)
    assert set(frame["size"].dropna()) <= set(real["size"])


def test_the_likelihood_is_the_share_of_rows_that_are_drawn(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    group = chance.choice(["a", "b", "c"], 900)
    frame = pd.DataFrame(
        {
            "group": group,
            "gap": np.where(chance.random(900) < 0.3, np.nan, chance.integers(0, 3, 900)),
            "flag": np.where(group == "a", "p", chance.choice(["p", "q"], 900)),
        }
    )
    columns = {"gap": {"kind": "numerical"}}
    table = as_table(frame, tmp_path, columns=columns)
    model = sf.CART(min_leaf=60).fit(table, seed=0)
    drawn = (
        model.sample(60_000, seed=1).to_pandas().fillna({"gap": -1}).value_counts(normalize=True)
    )
    rows = table.to_pandas().drop_duplicates()
    likelihoods = model.log_likelihood(sf.read_table(_write(rows, tmp_path), schema=table.schema))
    expected = [
        drawn.get(tuple(row), 0.0) for row in rows.fillna({"gap": -1}).itertuples(index=False)
    ]
    assert np.exp(likelihoods) == pytest.approx(expected, abs=0.006)
    assert np.exp(likelihoods).sum() == pytest.approx(1.0, abs=0.01)
    never = rows.head(1).assign(group="a", flag="q")
    other = rows.head(1).assign(gap=1.5)
    for strange in (never, other):
        found = model.log_likelihood(sf.read_table(_write(strange, tmp_path), schema=table.schema))
        assert found.tolist() == [-np.inf]


def _write(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder / "rows.parquet", index=False)
    return folder / "rows.parquet"


def test_the_model_says_that_it_holds_real_values(tmp_path: Path) -> None:
    table = as_table(mixed(600), tmp_path)
    sf.CART().fit(table, seed=0).save(tmp_path / "model")
    document = json.loads((tmp_path / "model" / "model.json").read_bytes())
    assert document["contains_training_values"] is True
    assert "do not share this model" in document["holds"]
    content = b"".join(path.read_bytes() for path in (tmp_path / "model").iterdir())
    assert not any(person.encode() in content for person in table.to_pandas()["person"])


def test_large_leaves_hold_many_people(tmp_path: Path) -> None:
    model = sf.CART(min_leaf=150).fit(as_table(mixed(600), tmp_path), seed=0)
    for tree in model._trees:
        sizes = [
            tree.counts[first:last].sum()
            for first, last in zip(tree.starts[:-1], tree.starts[1:], strict=True)
            if last > first
        ]
        assert sum(sizes) == 600
        assert min(sizes) >= 150


@pytest.mark.parametrize("value", [0, 2.5, True, "5"])
def test_wrong_leaves_are_named(value: Any) -> None:
    with pytest.raises(OrderError, match="min_leaf: expected a whole number of at least 1"):
        sf.CART(min_leaf=value)


def test_what_never_occurs_is_a_shortfall(tmp_path: Path) -> None:
    frame = pd.DataFrame({"g": ["u", "v"] * 40, "h": ["p", "q"] * 40, "x": np.arange(80) * 0.3})
    model = sf.CART().fit(as_table(frame, tmp_path), seed=0)
    never = {"g": "u", "h": "q"}
    with pytest.raises(OrderError, match=r"Only 0 of 5 rows met the conditions after 16,384 draws"):
        model.sample(5, seed=1, conditions=never)
    with pytest.warns(ShortfallWarning, match="Only 0 of 5"):
        assert model.sample(5, seed=1, conditions=never, shortfall="warn").n_rows == 0
    with pytest.raises(OrderError, match="shortfall: expected error or warn"):
        model.sample(5, seed=1, shortfall="ignore")


def test_the_audit_flags_the_trees(people_csv: Path) -> None:
    train, control, test = sf.split(sf.read_table(people_csv), seed=0)
    rows = sf.CART().fit(train, seed=0).sample(len(train), seed=1)
    found = Evaluation(repeats=20, controls=False).run(
        train=train, control=control, test=test, synthetic=rows, seed=2, threads=1
    )
    assert found["privacy.dcr_share"].lcb > 0.5
    assert found["fidelity.association"].estimate > 0.6
