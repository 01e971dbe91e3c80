"""What every generator promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from generators.examples import SMALL_GAN, SMALL_VAE, as_table, mixed, of_columns

import synthfactory as sf
from synthfactory.errors import OrderError, ReleaseError, ShortfallWarning, TrainingError
from synthfactory.generators import Generator, Progress

OURS = [SMALL_GAN, SMALL_VAE, sf.CART(), sf.Independent(), sf.Bootstrap()]
NEURAL = [SMALL_GAN, SMALL_VAE]
BY_NAME = pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
NEURAL_BY_NAME = pytest.mark.parametrize("spec", NEURAL, ids=lambda spec: spec.name)


@pytest.fixture
def table(tmp_path: Path) -> sf.Table:
    return as_table(mixed(600), tmp_path)


@BY_NAME
def test_samples_follow_the_schema(spec: Generator, table: sf.Table) -> None:
    synthetic = spec.fit(table, seed=0, threads=1).sample(500, seed=1)
    assert synthetic.n_rows == 500
    assert synthetic.schema == table.schema
    assert synthetic.data.schema.types == table.data.schema.types
    frame = synthetic.to_pandas()
    assert set(frame["group"]) <= {"a", "b", "c"}
    assert frame["gain"].between(0, 90_000).all()
    assert frame["size"].isna().any()


@BY_NAME
def test_identifiers_are_new_and_unique(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    parts = [
        model.sample(200, seed=1, shard=shard, first_row=200 * shard).to_pandas()
        for shard in range(2)
    ]
    people = pd.concat(parts)["person"]
    assert people.is_unique
    assert not set(people) & set(table.to_pandas()["person"])


@BY_NAME
def test_same_seed_same_bytes(spec: Generator, table: sf.Table) -> None:
    first, second = (spec.fit(table, seed=3, threads=1) for _ in range(2))
    assert first.sample(300, seed=1).digest == second.sample(300, seed=1).digest
    assert first.sample(300, seed=1).digest != first.sample(300, seed=2).digest
    assert first.sample(300, seed=1).digest != first.sample(300, seed=1, shard=1).digest


@NEURAL_BY_NAME
def test_same_seed_same_weights_whatever_else_draws(
    spec: Generator, table: sf.Table, tmp_path: Path
) -> None:
    for number in range(2):
        torch.manual_seed(number)
        spec.fit(table, seed=3, threads=2).save(tmp_path / str(number))
    contents = [(tmp_path / str(number) / "weights.safetensors").read_bytes() for number in (0, 1)]
    assert contents[0] == contents[1]


@NEURAL_BY_NAME
def test_a_fit_leaves_the_global_chance_alone(spec: Generator, table: sf.Table) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    spec.fit(table, seed=0, threads=1).sample(10, seed=0)
    assert torch.equal(torch.rand(3), expected)


@BY_NAME
def test_saved_models_sample_the_same_rows(
    spec: Generator, table: sf.Table, tmp_path: Path
) -> None:
    model = spec.fit(table, seed=0, threads=1)
    model.save(tmp_path / "model")
    loaded = sf.load_model(tmp_path / "model")
    assert loaded.spec == spec
    assert loaded.sample(200, seed=5).digest == model.sample(200, seed=5).digest


@pytest.mark.parametrize("spec", [*NEURAL, sf.Independent()], ids=lambda spec: spec.name)
def test_no_training_row_is_in_the_files(spec: Generator, table: sf.Table, tmp_path: Path) -> None:
    spec.fit(table, seed=0, threads=1).save(tmp_path / "model")
    content = b"".join(path.read_bytes() for path in sorted((tmp_path / "model").iterdir()))
    frame = table.to_pandas()
    assert not any(person.encode() in content for person in frame["person"])
    # Extremes belong to the schema; every other value that occurs once must be absent.
    sizes = frame["size"].dropna()
    inner = sizes[(sizes > sizes.min()) & (sizes < sizes.max()) & ~sizes.duplicated(keep=False)]
    document = json.loads((tmp_path / "model" / "model.json").read_bytes())
    numbers = {round(number, 9) for number in _numbers(document)}
    assert not numbers & {round(float(size), 9) for size in inner if abs(size) > 2}
    assert "contains_training_rows" not in document


def _numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [float(value)] if isinstance(value, float) else []


def test_a_bootstrap_model_says_that_it_holds_rows(table: sf.Table, tmp_path: Path) -> None:
    sf.Bootstrap().fit(table, seed=0, threads=1).save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_bytes())["contains_training_rows"] is True


@pytest.mark.parametrize("spec", [*NEURAL, sf.CART(), sf.Bootstrap()], ids=lambda spec: spec.name)
def test_changed_files_are_refused(spec: Generator, table: sf.Table, tmp_path: Path) -> None:
    spec.fit(table, seed=0, threads=1).save(tmp_path)
    (path,) = (
        path
        for path in tmp_path.iterdir()
        if path.suffix in (".safetensors", ".parquet") and path.name != "table.parquet"
    )
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReleaseError, match=r"is not the file that model\.json names"):
        sf.load_model(tmp_path)
    path.unlink()
    with pytest.raises(ReleaseError, match="cannot be read"):
        sf.load_model(tmp_path)


@pytest.mark.parametrize("spec", [SMALL_GAN, sf.Independent()], ids=lambda spec: spec.name)
def test_a_changed_description_is_refused(spec: Generator, table: sf.Table, tmp_path: Path) -> None:
    spec.fit(table, seed=0, threads=1).save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace('"weights": [', '"weights": [0.5, ', 1))
    with pytest.raises(ReleaseError, match="is not as it was written"):
        sf.load_model(tmp_path)


@NEURAL_BY_NAME
def test_the_number_of_threads_does_not_change_a_sample(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    before = torch.get_num_threads()
    digests = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        digests.add(model.sample(20_000, seed=1).digest)
        digests.add(model.sample(20_000, seed=1, threads=threads).digest)
    torch.set_num_threads(before)
    assert len(digests) == 1


def test_a_folder_without_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"holds no readable model\.json"):
        sf.load_model(tmp_path)
    (tmp_path / "model.json").write_text('{"kind": "ctgan"}')
    with pytest.raises(ReleaseError, match="is incomplete"):
        sf.load_model(tmp_path)
    (tmp_path / "model.json").write_text('{"kind": "oracle"}')
    with pytest.raises(ReleaseError, match="of kind 'oracle'; installed kinds: bootstrap"):
        sf.load_model(tmp_path)


@BY_NAME
def test_conditions_are_met(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    one = model.sample(150, seed=1, conditions={"group": "c"}).to_pandas()
    assert one["group"].eq("c").all()
    two = model.sample(150, seed=1, conditions={"group": "b", "member": True}).to_pandas()
    assert two["group"].eq("b").all()
    assert two["member"].all()
    assert len(one) == len(two) == 150


@BY_NAME
def test_wrong_conditions_are_named(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    with pytest.raises(OrderError, match="not on 'gruop'; did you mean 'group'"):
        model.sample(5, seed=1, conditions={"gruop": "a"})
    with pytest.raises(OrderError, match="'group' has no level 'z'"):
        model.sample(5, seed=1, conditions={"group": "z"})


@NEURAL_BY_NAME
def test_ranges_are_met(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    rows = model.sample(100, seed=1, conditions={"gain": (1_000, 60_000), "group": "b"})
    frame = rows.to_pandas()
    assert len(frame) == 100
    assert frame["gain"].between(1_000, 60_000).all()
    assert frame["group"].eq("b").all()
    (zero,) = model.sample(40, seed=1, conditions={"gain": 0}).to_pandas()["gain"].unique()
    assert zero == 0
    assert model.sample(9, seed=1, conditions={"gain": "1000.."}).to_pandas()["gain"].min() >= 1000
    for wrong in ("abc", "5..3", [1, 2, 3]):
        with pytest.raises(OrderError, match="Column 'gain'"):
            model.sample(5, seed=1, conditions={"gain": wrong})


@pytest.mark.parametrize(
    "spec", [sf.CART(), sf.Independent(), sf.Bootstrap()], ids=lambda spec: spec.name
)
def test_floors_take_no_ranges(spec: Generator, table: sf.Table) -> None:
    with pytest.raises(OrderError, match="not on 'size'"):
        spec.fit(table, seed=0).sample(5, seed=1, conditions={"size": 3})


@NEURAL_BY_NAME
def test_a_shortfall_is_reported(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    never = {"gain": (1, 2)}
    with pytest.raises(OrderError, match=r"Only 0 of 5 rows met the conditions after 12,288 draws"):
        model.sample(5, seed=1, conditions=never)
    with pytest.warns(ShortfallWarning, match="Only 0 of 5"):
        assert model.sample(5, seed=1, conditions=never, shortfall="warn").n_rows == 0


@NEURAL_BY_NAME
def test_the_number_of_threads_does_not_change_conditional_rows(
    spec: Generator, table: sf.Table
) -> None:
    model = spec.fit(table, seed=0, threads=1)
    rows = [
        model.sample(9_000, seed=1, conditions={"group": "c"}, threads=threads).digest
        for threads in (1, 3)
    ]
    assert rows[0] == rows[1]


@BY_NAME
def test_no_rows_may_be_asked_for_but_not_fewer(spec: Generator, table: sf.Table) -> None:
    model = spec.fit(table, seed=0, threads=1)
    assert model.sample(0, seed=1).n_rows == 0
    with pytest.raises(OrderError, match="n_rows: expected a whole number"):
        model.sample(-1, seed=1)


EDGES = {
    "no discrete column": {"x": np.arange(60) * 1.37, "y": np.arange(60)[::-1] * 0.7 + 0.1},
    "no numeric column": {"g": ["u", "v", "w"] * 20, "h": ["p", "q"] * 30},
    "constant columns": {"g": ["u"] * 60, "x": [3.5] * 60, "h": ["p", "q"] * 30},
    "all missing": {"x": [None] * 60, "h": ["p", "q"] * 30, "y": np.arange(60) * 1.1},
    "twenty rows": {"x": np.arange(40) * 1.1, "h": ["p", "q"] * 20},
    "extreme values": {"x": [*np.arange(59) * 1.1, 1e15], "h": ["p", "q"] * 30},
}


@BY_NAME
@pytest.mark.parametrize("edge", EDGES)
def test_edge_tables_work(spec: Generator, edge: str, tmp_path: Path) -> None:
    table = of_columns(EDGES[edge], tmp_path)
    if edge == "twenty rows":
        table = table.head(20)
    synthetic = spec.fit(table, seed=0, threads=1).sample(50, seed=1)
    assert synthetic.n_rows == 50
    assert synthetic.schema == table.schema


@NEURAL_BY_NAME
def test_many_levels_do_not_fill_the_memory(spec: Generator, tmp_path: Path) -> None:
    codes = np.arange(4_000) % 2_000
    table = of_columns(
        {"code": [f"c{code}" for code in codes], "x": codes * 0.5},
        tmp_path,
        columns={"code": {"kind": "categorical"}},
    )
    assert spec.fit(table, seed=0, threads=1).sample(100, seed=1).n_rows == 100


@BY_NAME
def test_identifiers_alone_cannot_be_learnt(spec: Generator, table: sf.Table) -> None:
    alone = sf.Schema(columns=(table.schema.column("person"),))
    people = sf.Table(data=table.data.select(["person"]), schema=alone)
    with pytest.raises(TrainingError, match="identifiers only"):
        spec.fit(people, seed=0)


@NEURAL_BY_NAME
def test_progress_is_reported(spec: Generator, table: sf.Table) -> None:
    seen: list[Progress] = []
    spec.fit(table, seed=0, threads=1, callback=seen.append)
    assert seen[-1].step == seen[-1].steps == 12
    assert all(np.isfinite(value) for value in seen[-1].losses.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs: expected a whole number of at least 1, got 0"),
        ({"epochs": True}, "epochs: expected a whole number"),
        ({"epochs": "3"}, "epochs: expected a whole number"),
        ({"batch_size": 1, "pac": 1}, "batch_size: expected a whole number of at least 2"),
        ({"batch_size": 105}, "multiple of pac=10, got 105; use 100"),
        ({"generator_lr": 0}, "generator_lr: expected a number above 0"),
        ({"generator_lr": float("nan")}, "generator_lr: expected a number above 0"),
        ({"dropout": 1.0}, "dropout: expected a number below 1"),
        ({"generator_dims": ()}, "generator_dims: expected at least one width"),
        ({"generator_dims": 256}, "generator_dims: expected widths such as"),
        ({"calibrate": 1}, "calibrate: expected true or false"),
        ({"max_minutes": -1}, "max_minutes: expected a number above 0"),
    ],
)
def test_wrong_hyperparameters_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(OrderError, match=message):
        sf.CTGAN(**values)  # type: ignore[arg-type]


def test_an_unknown_device_is_refused(table: sf.Table) -> None:
    with pytest.raises(OrderError, match="device: expected auto, cpu"):
        SMALL_GAN.fit(table, seed=0, device="tpu")


def test_the_vault_is_an_extra(table: sf.Table) -> None:
    try:
        import sdv  # noqa: F401
    except ImportError:
        with pytest.raises(OrderError, match=r"pip install 'synthfactory\[sdv\]'.*Business Source"):
            sf.SDVCTGAN(epochs=1).fit(table, seed=0, threads=1)
    else:
        pytest.skip("sdv is installed")
