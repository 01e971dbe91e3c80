"""Models go to the ctgan package and come from it, and draw the same rows there and here."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from generators.examples import as_table, of_columns
from scipy.stats import ks_2samp

import synthfactory as sf
from synthfactory.errors import OrderError, ReleaseError
from synthfactory.generators import exchange, layout
from synthfactory.generators.sampling import NeuralModel, Wanted
from synthfactory.seeds import torch_stream

pytestmark = pytest.mark.sdv
ctgan = pytest.importorskip("ctgan")

N_ROWS = 20_000
LARGEST = 0.025
GAN = sf.CTGAN(
    epochs=15,
    batch_size=100,
    embedding_dim=16,
    generator_dims=(32, 24),
    discriminator_dims=(32,),
)
VAE = sf.TVAE(
    epochs=15, batch_size=100, embedding_dim=16, encoder_dims=(32,), decoder_dims=(32, 24)
)
BY_NAME = pytest.mark.parametrize("spec", [GAN, VAE], ids=lambda spec: spec.name)
PLANTED = 31_415.926535


def every_kind(n_rows: int = 500) -> pd.DataFrame:
    """All kinds of columns, spikes, missing values in each, and numbers and names that are unique.

    Numeric and discrete columns alternate, so that the order of columns is not that of our spans.
    """
    chance = np.random.default_rng(0)
    group = chance.choice(["c", "a", "b"], n_rows, p=[0.05, 0.7, 0.25])
    frame = pd.DataFrame(
        {
            "size": np.where(
                group == "a", chance.normal(0, 1, n_rows), chance.normal(50, 5, n_rows)
            ),
            "person": [f"planted-{number:05d}" for number in range(n_rows)],
            "group": group,
            "gain": np.where(
                chance.random(n_rows) < 0.7, 0, chance.integers(1_000, 90_000, n_rows)
            ),
            "member": chance.random(n_rows) < 0.3,
            "visits": pd.array(chance.integers(0, 200, n_rows), dtype="Int64"),
            "mood": chance.choice(["good", "bad"], n_rows).astype(object),
            "seen": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(chance.integers(0, 4_000, n_rows), unit="h"),
            "grade": chance.choice([3, 1, 2], n_rows, p=[0.2, 0.5, 0.3]),
            "dose": chance.gamma(2.0, 3.0, n_rows).round(1),
        }
    )
    frame.loc[0, "size"] = PLANTED
    frame.loc[1, "size"] = PLANTED + 1.0
    for name in ("size", "visits", "mood"):
        frame.loc[chance.random(n_rows) < 0.15, name] = None
    return frame


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> sf.Table:
    return as_table(every_kind(), tmp_path_factory.mktemp("exchange"))


@pytest.fixture(scope="module")
def models(table: sf.Table) -> dict[str, NeuralModel]:
    return {spec.name: spec.fit(table, seed=0, threads=1) for spec in (GAN, VAE)}


def numbers_of(values: pd.Series[Any]) -> np.ndarray[Any, Any]:
    if pd.api.types.is_datetime64_any_dtype(values):
        return (values.dropna() - pd.Timestamp(0)).dt.total_seconds().to_numpy()
    return values.dropna().to_numpy(dtype=float)


def distances(ours: pd.DataFrame, theirs: pd.DataFrame, schema: sf.Schema) -> dict[str, float]:
    """Total variation of discrete columns; of numeric ones that of Kolmogorov and Smirnov, and the
    difference of the missing shares."""
    found = {}
    for column in schema.columns:
        if column.kind == "identifier":
            continue
        here, there = ours[column.name], theirs[column.name]
        if column.is_discrete:
            shares = [
                part.astype(object).where(part.notna(), "missing").astype(str).value_counts()
                / len(part)
                for part in (here, there)
            ]
            found[column.name] = float(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
        else:
            found[column.name] = float(ks_2samp(numbers_of(here), numbers_of(there)).statistic)
            found[f"{column.name} missing"] = abs(here.isna().mean() - there.isna().mean())
    return found


def their_draw(theirs: Any, n_rows: int = N_ROWS, **condition: Any) -> pd.DataFrame:
    theirs.set_random_state(7)
    # Fewer, larger batches: small ones take long where cores are shared.
    setattr(theirs, "batch_size" if isinstance(theirs, ctgan.TVAE) else "_batch_size", 2_000)
    return theirs.sample(n_rows, **condition)


@BY_NAME
def test_both_sides_draw_the_same_marginals(
    spec: Any, table: sf.Table, models: dict[str, NeuralModel]
) -> None:
    model = models[spec.name]
    theirs = their_draw(model.to_ctgan())
    ours = model.sample(N_ROWS, seed=1).to_pandas()
    found = distances(ours, theirs, table.schema)
    # Two samples of 20,000 rows of one distribution differ by 0.02 in a thousandth of cases.
    assert max(found.values()) < LARGEST, found
    assert list(theirs.columns) == [name for name in table.schema.names if name != "person"]
    assert (theirs["dose"].round(1) == theirs["dose"]).all()
    dose = table.schema.column("dose")
    assert theirs["dose"].between(dose.minimum, dose.maximum).all()


def test_their_generator_gives_our_logits(models: dict[str, NeuralModel]) -> None:
    check_logits(models["ctgan"])


def check_logits(model: NeuralModel) -> None:
    """Their network and ours agree on every logit, in evaluation mode and, in mean, in training."""
    spec, own = model.spec, model.layout
    theirs = model.to_ctgan()._generator
    n_rows = 20_000
    noise = torch.randn(spec.embedding_dim, n_rows, generator=torch_stream(0, "test"))
    pairs = torch.arange(n_rows) % max(1, own.n_levels)
    features = exchange.exporting.Features(own, torch.device("cpu"))
    inputs = torch.zeros(spec.embedding_dim + features.n_conditions, n_rows)
    inputs[: spec.embedding_dim] = noise
    features.of_conditions(pairs.unsqueeze(0), inputs[spec.embedding_dim :].unsqueeze(0))
    one_hot = torch.nn.functional.one_hot(pairs, own.n_levels).float()
    rows = exchange.theirs.their_rows(own, model.schema, {})
    with torch.no_grad():
        here = model.logits(inputs)
        there = theirs(torch.cat([noise.t(), one_hot], dim=1)).t()[rows]
        assert torch.allclose(here, there, atol=1e-4, rtol=1e-4)
        order = torch.from_numpy(np.random.default_rng(0).permutation(n_rows))
        in_training = theirs.train()(torch.cat([noise.t(), one_hot], dim=1)[order]).t()[rows]
    spread = here.std(dim=1)
    # These inputs have conditions uniformly, not at true frequencies: the batch moves a little.
    assert ((in_training - here[:, order]).abs().mean(dim=1) < 0.5 * spread + 0.05).all()


@pytest.mark.parametrize(("name", "level"), [("group", "b"), ("member", True), ("grade", 3)])
def test_conditions_work_for_every_column_there(
    name: str, level: Any, models: dict[str, NeuralModel]
) -> None:
    model = models["ctgan"]
    place = [column.name for column in model.schema.discrete].index(name)
    code = list(model.schema.column(name).categories).index(level)
    stream = torch_stream(0, "test")
    with torch.no_grad():
        rows = model.draw(model.inputs(N_ROWS, stream, Wanted(codes={place: code})), stream)
    expected = float((rows.codes_BS[:, model.layout.n_numeric + place] == code).float().mean())
    theirs = their_draw(model.to_ctgan(), condition_column=name, condition_value=level)
    assert (theirs[name] == level).mean() == pytest.approx(expected, abs=0.02)


@BY_NAME
def test_their_files_hold_the_whole_model(
    spec: Any, models: dict[str, NeuralModel], tmp_path: Path
) -> None:
    theirs = models[spec.name].to_ctgan()
    theirs.save(tmp_path / "model.pt")
    loaded = type(theirs).load(tmp_path / "model.pt")
    pd.testing.assert_frame_equal(their_draw(theirs, 500), their_draw(loaded, 500))
    # Whoever has ctgan can read the file: it asks for nothing of ours.
    assert b"synthfactory" not in (tmp_path / "model.pt").read_bytes()


@BY_NAME
def test_no_training_row_goes_along(
    spec: Any, table: sf.Table, models: dict[str, NeuralModel], tmp_path: Path
) -> None:
    theirs = models[spec.name].to_ctgan()
    theirs.save(tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes() + pickle.dumps(theirs)
    sizes = sorted(table.to_pandas()["size"].dropna())

    def is_inside(number: float) -> bool:
        return any(struct.pack(form, number) in content for form in (">d", "<d", "<f"))

    # The range belongs to the schema; that it is found shows that the others would be.
    assert is_inside(sizes[-1])
    assert PLANTED in sizes
    assert not is_inside(PLANTED)
    assert not any(is_inside(number) for number in sizes[1:-1])
    assert b"planted-" not in content
    assert not getattr(getattr(theirs, "_data_sampler", None), "_rid_by_cat_cols", [])


def test_wide_columns_are_multiplied_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layout, "WIDE", 8)
    monkeypatch.setattr(exchange.importing, "WIDE", 8)
    chance = np.random.default_rng(0)
    wide = of_columns(
        {
            "town": [f"t{number:02d}" for number in chance.integers(0, 20, 400)],
            "x": chance.normal(0, 1, 400).round(2),
            "short": chance.choice(["u", "v"], 400),
        },
        tmp_path,
    )
    model = GAN.fit(wide, seed=0, threads=1)
    assert model.layout.wide
    check_logits(model)
    vae = VAE.fit(wide, seed=0, threads=1)
    found = distances(
        vae.sample(N_ROWS, seed=0).to_pandas(), their_draw(vae.to_ctgan()), wide.schema
    )
    assert max(found.values()) < LARGEST, found
    with pytest.raises(OrderError, match=r"'town': expected at most 8 levels, got 20.*fit again"):
        sf.from_ctgan(model.to_ctgan())


@pytest.mark.parametrize("name", ["x", "label"])
@BY_NAME
def test_tables_of_one_sort_of_column(spec: Any, name: str, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    columns = {
        "x": {"x": chance.normal(0, 1, 200), "y": chance.normal(5, 2, 200)},
        "label": {"label": chance.choice(["u", "v"], 200), "other": chance.random(200) < 0.5},
    }
    model = spec.fit(of_columns(columns[name], tmp_path), seed=0, threads=1)
    theirs = model.to_ctgan()
    assert list(their_draw(theirs, 50)[name].notna()) == [True] * 50
    assert sf.from_ctgan(theirs).sample(50, seed=0).n_rows == 50


@BY_NAME
def test_there_and_back_is_the_same_model(
    spec: Any, table: sf.Table, models: dict[str, NeuralModel], tmp_path: Path
) -> None:
    model = models[spec.name]
    model.to_ctgan().save(tmp_path / "theirs.pt")
    back = sf.from_ctgan(tmp_path / "theirs.pt")
    assert type(back) is type(model)
    for name, weight in model.weights.items():
        assert torch.allclose(back.weights[name], weight, atol=1e-4, rtol=1e-4), name
    for here, there in zip(model.representation.modes, back.representation.modes, strict=True):
        assert here.nullable == there.nullable
        np.testing.assert_allclose(here.means, there.means)
        np.testing.assert_allclose(here.stds, there.stds)
        np.testing.assert_array_equal(here.spikes, there.spikes)
    if spec.name == "ctgan":
        assert back.representation.level_counts == model.representation.level_counts
    back.save(tmp_path / "ours")
    again = sf.load_model(tmp_path / "ours")
    assert again.sample(300, seed=3).digest == back.sample(300, seed=3).digest
    assert not list((tmp_path / "ours").glob("*.p*t*"))


def simple(n_rows: int = 300) -> pd.DataFrame:
    """A table whose levels do not occur in the order of their names, in which ours stand."""
    chance = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "rare": chance.choice(["usual", "extra"], n_rows, p=[0.95, 0.05]),
            "x": chance.normal(0, 1, n_rows),
            "n": chance.integers(0, 9, n_rows) * 100,
            "flag": chance.random(n_rows) < 0.8,
            "holes": np.where(chance.random(n_rows) < 0.3, None, "full"),
        }
    )


@pytest.fixture(scope="module")
def their_gan() -> Any:
    return fit_theirs(
        ctgan.CTGAN(
            epochs=5, batch_size=50, embedding_dim=8, generator_dim=(16,), discriminator_dim=(16,)
        )
    )


def fit_theirs(theirs: Any) -> Any:
    theirs.set_random_state(0)
    theirs.fit(simple(), discrete_columns=["rare", "flag", "holes"])
    theirs.set_random_state(None)
    return theirs


def test_a_model_of_theirs_draws_here_what_it_draws_there(their_gan: Any, tmp_path: Path) -> None:
    their_gan.save(tmp_path / "theirs.pt")
    there = ctgan.CTGAN.load(tmp_path / "theirs.pt")
    # What differs on purpose, set as ours: evaluation mode, true frequencies.
    there._generator.eval()
    sampler = there._data_sampler
    for place, rows in enumerate(sampler._rid_by_cat_cols):
        shares = [len(part) / sampler._data_length for part in rows]
        sampler._discrete_column_category_prob[place, : len(rows)] = shares
    model = sf.from_ctgan(there)
    ours = model.sample(N_ROWS, seed=0)
    found = distances(ours.to_pandas(), their_draw(there), ours.schema)
    assert max(found.values()) < LARGEST, found
    assert ours.schema.column("n").decimals == 0
    assert ours.schema.column("holes").nullable
    assert ours.schema.column("flag").kind == "boolean"


def test_true_frequencies_are_counted(their_gan: Any) -> None:
    model = sf.from_ctgan(their_gan)
    counts = dict(zip(("extra", "usual"), model.representation.level_counts[0], strict=True))
    assert counts == simple()["rare"].value_counts().to_dict()


def test_batches_are_normalised_as_in_training(their_gan: Any, tmp_path: Path) -> None:
    their_gan.save(tmp_path / "theirs.pt")
    there = ctgan.CTGAN.load(tmp_path / "theirs.pt")
    # Their running statistics follow whatever is drawn: here one condition.
    their_draw(there, condition_column="rare", condition_value="extra")
    model = sf.from_ctgan(there)
    found = exchange.importing._columns(there._transformer)
    np.random.seed(0)  # noqa: NPY002
    conditions = torch.from_numpy(there._data_sampler.sample_condvec(N_ROWS)[0])
    noise = torch.randn(N_ROWS, 8, generator=torch_stream(0, "test"))
    with torch.no_grad():
        in_training = there._generator.train()(torch.cat([noise, conditions], dim=1))
        ours = model.logits(torch.cat([noise, conditions[:, found.conditions]], dim=1).t())
    assert torch.allclose(ours, in_training.t()[found.rows], atol=0.05)


def test_reading_leaves_their_object_as_it_was(their_gan: Any) -> None:
    before = {name: value.clone() for name, value in their_gan._generator.state_dict().items()}
    sf.from_ctgan(their_gan).sample(100, seed=0)
    after = their_gan._generator.state_dict()
    assert their_gan._generator.training
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_vae_of_theirs_becomes_ours() -> None:
    theirs = fit_theirs(
        ctgan.TVAE(
            epochs=20, batch_size=50, embedding_dim=8, compress_dims=(16,), decompress_dims=(16,)
        )
    )
    model = sf.from_ctgan(theirs)
    ours = model.sample(N_ROWS, seed=0)
    # Theirs takes the likeliest level; a distribution that both draw alike: the numbers' scalars.
    with torch.no_grad():
        noise = torch.randn(8, 200, generator=torch_stream(0, "test"))
        rows = exchange.importing._columns(theirs.transformer).rows
        there = theirs.decoder(noise.t())[0].t()[rows]
        assert torch.allclose(model.logits(noise), there, atol=1e-5)
    shares = np.asarray(model.representation.level_counts[0]) / exchange.theirs.STATISTICS_ROWS
    drawn = (
        ours.to_pandas()["rare"].value_counts(normalize=True).reindex(["extra", "usual"]).fillna(0)
    )
    np.testing.assert_allclose(shares, drawn, atol=0.03)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"no pickle at all")
    for path in (tmp_path / "bad.pt", tmp_path / "absent.pt"):
        with pytest.raises(ReleaseError, match=r"Expected a file that save of ctgan\.CTGAN"):
            sf.from_ctgan(path)


def test_foreign_and_unfitted_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "foreign.pt")
    for foreign in (tmp_path / "foreign.pt", object()):
        with pytest.raises(OrderError, match=r"Expected a ctgan\.CTGAN or ctgan\.TVAE.*got"):
            sf.from_ctgan(foreign)
    for unfitted in (ctgan.CTGAN(), ctgan.TVAE()):
        with pytest.raises(OrderError, match=r"Expected a fitted ctgan\..*call its fit first"):
            sf.from_ctgan(unfitted)


def test_an_object_of_another_version_is_refused(their_gan: Any, tmp_path: Path) -> None:
    their_gan.save(tmp_path / "theirs.pt")
    other = ctgan.CTGAN.load(tmp_path / "theirs.pt")
    del other._transformer._column_transform_info_list
    with pytest.raises(ReleaseError, match=r"as version 0\.12 makes it"):
        sf.from_ctgan(other)
    narrower = ctgan.CTGAN.load(tmp_path / "theirs.pt")
    narrower._generator_dim = (15,)
    with pytest.raises(ReleaseError, match=r"layer\.0\.bias.*differ"):
        sf.from_ctgan(narrower)


def test_without_ctgan_the_package_is_named(
    models: dict[str, NeuralModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ctgan"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ctgan", None)
    with pytest.raises(OrderError, match=r"pip install 'synthfactory\[sdv\]'.*Business Source"):
        models["ctgan"].to_ctgan()
    with pytest.raises(OrderError, match="package ctgan"):
        sf.from_ctgan("any.pt")


def test_other_models_are_refused(table: sf.Table) -> None:
    model: Any = sf.Independent().fit(table, seed=0, threads=1)
    with pytest.raises(OrderError, match=r"Expected a fitted CTGAN or TVAE, got IndependentModel"):
        exchange.to_ctgan(model)
