"""Small real parts that many tests share."""

from __future__ import annotations

import dataclasses
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
VALIDATORS = SHARED.with_name("validators")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of further real tables, which lies beside a developer's checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder of real tables {SHARED.relative_to(SHARED.parents[2])}")
    return SHARED


@pytest.fixture(scope="session")
def shared_validators() -> Path:
    """The folder of published shapes and contexts, which lies beside a developer's checkout."""
    if not VALIDATORS.is_dir():
        pytest.skip(f"needs the folder {VALIDATORS.relative_to(VALIDATORS.parents[1])}")
    return VALIDATORS


@pytest.fixture(autouse=True)
def own_configuration_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep tests away from the user's keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


def make_people(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """A table with every kind of column, associations, and a target that can be predicted."""
    chance = np.random.default_rng(seed)
    age = chance.integers(18, 90, n_rows)
    region = chance.choice(["north", "south", "east", "west"], n_rows, p=[0.5, 0.3, 0.15, 0.05])
    smoker = chance.random(n_rows) < 0.3
    pressure = 100 + 0.5 * age + 15 * smoker + chance.normal(0, 8, n_rows)
    ill = chance.random(n_rows) < 1 / (1 + np.exp(-(pressure - 140) / 6))
    frame = pd.DataFrame(
        {
            "patient": [f"P{number:06d}" for number in range(n_rows)],
            "age": age,
            "region": region,
            "smoker": smoker,
            "pressure": pressure.round(1),
            "visit": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(chance.integers(0, 500, n_rows), unit="D"),
            "outcome": np.where(ill, "ill", "well"),
        }
    )
    frame.loc[chance.random(n_rows) < 0.05, "pressure"] = np.nan
    return frame


@pytest.fixture(scope="session")
def people_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_people` as a CSV file of 3,000 rows."""
    path = tmp_path_factory.mktemp("people") / "people.csv"
    make_people(3_000).to_csv(path, index=False)
    return path


LENIENT = {
    "id": "test-lenient",
    "version": "1",
    "title": "A policy that a short fit satisfies",
    "use_class": "restricted",
    "rules": [
        {
            "id": "no-copies",
            "metric": "privacy.exact_match",
            "bound": "ucb",
            "op": "<=",
            "value": 0.05,
            "why": "tests need a certified release within seconds",
        }
    ],
}


@pytest.fixture(scope="session")
def certified_run(people_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was really made, of 3,000 people, and certified."""
    from synthfactory.certification import Policy, new_key
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import TVAE
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    order = Order(
        dataset=Dataset(path=str(people_csv), target="outcome"),
        generator=TVAE(epochs=10),
        evaluation=Evaluation(max_rows=1_000, repeats=20),
        policy=Policy.from_dict(LENIENT),
        threads=1,
        rows_per_shard=1_000,
    )
    key = new_key(tmp_path_factory.mktemp("keys") / "issuer.pem")
    outcome = produce(order, tmp_path_factory.mktemp("runs"), key=key)
    assert outcome.state == "certified", outcome.reasons
    return outcome.folder


HOSTILE = {
    "age": 'age "<script>alert(1)</script>',
    "region": "région / π, {x} #1\u202e",
    "smoker": "@id",
    "pressure": "~20~",
    "outcome": "out come'; DROP",
}


def hostile_table(n_rows: int = 3_000) -> pa.Table:
    """People under names that break naive readers, with every type of column and nulls in it."""
    chance = np.random.default_rng(1)
    table = pa.Table.from_pandas(make_people(n_rows).rename(columns=HOSTILE))
    absent = chance.random(n_rows) < 0.1
    whole = chance.integers(3_000, 9_000, n_rows).astype(np.int32)
    cents = [decimal.Decimal(int(value)).scaleb(-2) for value in chance.integers(0, 9_999, n_rows)]
    further = {
        "count, whole": pa.array(whole, pa.int64(), mask=absent),
        "born": pa.array(whole, pa.int32(), mask=absent).cast(pa.date32()),
        "price": pa.array(cents, pa.decimal128(10, 2)),
        "flag": pa.array(chance.random(n_rows) < 0.4, pa.bool_(), mask=absent),
        "kind": pa.array(chance.choice(list("abc"), n_rows), mask=absent).dictionary_encode(),
        "single": pa.array(chance.normal(size=n_rows), pa.float32()),
        "zoned": pa.array(chance.integers(10**9, 2 * 10**9, n_rows), pa.timestamp("s", "UTC")),
    }
    for name, values in further.items():
        table = table.append_column(name, values)
    return table


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `hostile_table`: health data, several parts, a did:web issuer."""
    from synthfactory.certification import Policy, new_key
    from synthfactory.evaluation import Evaluation
    from synthfactory.factory import produce
    from synthfactory.generators import TVAE
    from synthfactory.order import Order
    from synthfactory.tables import Dataset

    folder = tmp_path_factory.mktemp("hostile")
    pq.write_table(hostile_table(), folder / "hostile.parquet")
    term = {"iri": "http://purl.obolibrary.org/obo/NCIT_C25150", "unit": "a", "description": "Age"}
    dataset = Dataset(
        path=str(folder / "hostile.parquet"),
        target=HOSTILE["outcome"],
        title='Ti"tle <b>',
        description="Rows & more\nrows",
        licence="CC-BY-4.0",
        health=True,
        columns={HOSTILE["age"]: term, HOSTILE["pressure"]: {"iri": "no address"}},
    )
    order = Order(
        dataset=dataset,
        generator=TVAE(epochs=5),
        evaluation=Evaluation(max_rows=1_000, repeats=20),
        policy=Policy.from_dict(LENIENT),
        threads=1,
        rows_per_shard=1_000,
    )
    key = dataclasses.replace(new_key(folder / "issuer.pem"), web="did:web:lab.example.eu:data")
    outcome = produce(order, folder / "runs", key=key)
    assert outcome.state == "certified", outcome.reasons
    return outcome.folder
