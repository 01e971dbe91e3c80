"""SDV's programs run with our engine: metadata, constraints, conditions and saving are SDV's."""

from __future__ import annotations

import copy
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import synthfactory as sf
from synthfactory.errors import OrderError, TableError

pytestmark = [
    pytest.mark.sdv,
    # SDV's own words, about its own habits.
    pytest.mark.filterwarnings("ignore:We strongly recommend saving the metadata:UserWarning"),
    pytest.mark.filterwarnings("ignore:This model has already been fitted"),
]
sdv = pytest.importorskip("sdv")

from sdv.cag import FixedCombinations, Inequality  # noqa: E402
from sdv.metadata import Metadata  # noqa: E402
from sdv.sampling import Condition  # noqa: E402
from sdv.utils import load_synthesizer  # noqa: E402

from synthfactory.sdv import CTGANSynthesizer, TVAESynthesizer  # noqa: E402

GAN = {
    "epochs": 20,
    "batch_size": 100,
    "embedding_dim": 16,
    "generator_dim": (32,),
    "discriminator_dim": (32,),
    "threads": 1,
}
VAE = {
    "epochs": 400,
    "batch_size": 100,
    "embedding_dim": 16,
    "compress_dims": (32,),
    "decompress_dims": (32,),
    "threads": 1,
}
KINDS = [(CTGANSynthesizer, GAN), (TVAESynthesizer, VAE)]
BY_NAME = pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=["ctgan", "tvae"])
COUNTRY = {"paris": "france", "lyon": "france", "rome": "italy", "milan": "italy"}
METADATA = {
    "METADATA_SPEC_VERSION": "V1",
    "tables": {
        "people": {
            "primary_key": "person",
            "columns": {
                "person": {"sdtype": "id"},
                "mail": {"sdtype": "email", "pii": True},
                "town": {"sdtype": "categorical"},
                "country": {"sdtype": "categorical"},
                "member": {"sdtype": "boolean"},
                "age": {"sdtype": "numerical"},
                "low": {"sdtype": "numerical"},
                "high": {"sdtype": "numerical"},
                "seen": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d"},
            },
        }
    },
}


def people(n_rows: int = 400) -> pd.DataFrame:
    chance = np.random.default_rng(0)
    town = chance.choice(list(COUNTRY), n_rows, p=[0.5, 0.3, 0.15, 0.05])
    low = chance.gamma(2.0, 50.0, n_rows).round(2)
    days = pd.to_timedelta(chance.integers(0, 500, n_rows), unit="D")
    frame = pd.DataFrame(
        {
            "person": [f"P-{number:05d}" for number in range(n_rows)],
            "mail": [f"planted{number}@example.org" for number in range(n_rows)],
            "town": town,
            "country": [COUNTRY[name] for name in town],
            "member": chance.random(n_rows) < 0.3,
            "age": chance.integers(18, 90, n_rows),
            "low": low,
            "high": (low + chance.gamma(2.0, 20.0, n_rows)).round(2),
            "seen": (pd.Timestamp("2024-01-01") + days).strftime("%Y-%m-%d"),
        }
    )
    # Missing where the country is italy only: a dependence that random holes would lose.
    holes = (frame["country"] == "italy") & (chance.random(n_rows) < 0.6)
    frame.loc[holes, "seen"] = None
    return frame


def synthesizer(kind: Any, arguments: dict[str, Any]) -> Any:
    return kind(Metadata.load_from_dict(copy.deepcopy(METADATA)), **arguments)


@pytest.fixture(scope="module", params=KINDS, ids=["ctgan", "tvae"])
def fitted(request: pytest.FixtureRequest) -> Any:
    made = synthesizer(*request.param)
    made.fit({"people": people()})
    return made


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest) -> None:
    if "fitted" in request.fixturenames:
        request.getfixturevalue("fitted").reset_sampling()


def test_rows_have_the_form_of_the_data(fitted: Any) -> None:
    real, rows = people(), fitted.sample(600)["people"]
    assert list(rows.columns) == list(real.columns)
    assert rows.dtypes.to_dict() == real.dtypes.to_dict()
    assert rows["person"].is_unique
    assert not set(rows["mail"]) & set(real["mail"])
    assert set(rows["town"]) <= set(COUNTRY)
    assert rows["age"].between(18, 89).all()
    assert (rows["low"].round(2) == rows["low"]).all()
    assert pd.to_datetime(rows["seen"].dropna(), format="%Y-%m-%d").notna().all()


def test_our_engine_learns_the_marginals(fitted: Any) -> None:
    real, rows = people(), fitted.sample(3_000)["people"]
    assert isinstance(fitted.model.spec, (sf.CTGAN, sf.TVAE))
    for name in ("town", "member"):
        shares = [part[name].value_counts(normalize=True) for part in (real, rows)]
        assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.08
    assert rows["seen"].isna().mean() == pytest.approx(real["seen"].isna().mean(), abs=0.06)


# The GAN's 80 steps are too few to learn any dependence.
@pytest.mark.parametrize("fitted", KINDS[1:], ids=["tvae"], indirect=True)
def test_where_values_are_missing_is_learnt(fitted: Any) -> None:
    rows = fitted.sample(3_000)["people"]
    by_country = rows["seen"].isna().groupby(rows["country"]).mean()
    # In the data 0.69 and 0; holes made at random would give 0.17 and 0.17.
    assert by_country["italy"] > 0.4
    assert by_country["france"] < 0.1


def test_draws_differ_until_the_sampling_is_reset(fitted: Any) -> None:
    first, second = (fitted.sample(50)["people"] for _ in range(2))
    assert not first.drop(columns=["person", "mail"]).equals(
        second.drop(columns=["person", "mail"])
    )
    fitted.reset_sampling()
    pd.testing.assert_frame_equal(fitted.sample(50)["people"], first)


def test_conditions_are_met(fitted: Any) -> None:
    conditions = [
        Condition({"town": "milan", "member": True}, num_rows=40),
        Condition({"town": "rome", "age": 40}, num_rows=3),
        Condition({"low": 80.0}, num_rows=20),
        Condition({"country": "italy", "low": 100.0}, num_rows=5),
    ]
    rows = fitted.sample_from_conditions(conditions)["people"]
    assert len(rows) == 68
    assert ((rows["town"] == "milan") & rows["member"]).sum() >= 40
    assert ((rows["town"] == "rome") & (rows["age"] == 40)).sum() >= 3
    assert (rows["low"] == 80.0).sum() >= 20


def test_conditions_are_drawn_by_the_engine_at_once(
    fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    draw = fitted._model.sample
    monkeypatch.setattr(fitted._model, "sample", lambda *words: asked.append(words) or draw(*words))
    fitted.sample_from_conditions([Condition({"country": "italy", "low": 80.0}, num_rows=30)])
    assert asked == [(30, {"country": "italy", "low": (79.2, 80.8)})]


def test_the_rest_of_known_columns_is_drawn(fitted: Any) -> None:
    known = pd.DataFrame({"town": ["paris", "milan", "milan"], "member": [True, False, True]})
    rows = fitted.sample_remaining_columns(known)["people"]
    pd.testing.assert_frame_equal(rows[["town", "member"]].reset_index(drop=True), known)


def test_a_condition_that_never_occurs_is_given_up(fitted: Any) -> None:
    with pytest.raises(ValueError, match=r"Unable to sample any rows.*no level 'berlin'; known:"):
        fitted.sample_from_conditions([Condition({"town": "berlin"}, num_rows=5)])
    with pytest.raises(ValueError, match="Unable to sample any rows"):
        fitted.sample_from_conditions([Condition({"low": 1e9}, num_rows=2)], max_tries_per_batch=2)


def test_saved_synthesizers_draw_the_same_rows(fitted: Any, tmp_path: Path) -> None:
    fitted.save(str(tmp_path / "synthesizer.pkl"))
    loaded = load_synthesizer(str(tmp_path / "synthesizer.pkl"))
    assert type(loaded) is type(fitted)
    loaded.reset_sampling()
    pd.testing.assert_frame_equal(loaded.sample(80)["people"], fitted.sample(80)["people"])


def test_the_learnt_part_holds_no_row(fitted: Any) -> None:
    content = pickle.dumps(fitted._model)
    assert b"planted" not in content
    assert b"P-00" not in content
    sums = sorted(people()["high"])
    assert struct.pack(">d", sums[-1]) in content
    once = [number for number in sums[1:-1] if sums.count(number) == 1]
    assert len(once) > 200
    assert not any(
        struct.pack(form, number) in content for number in once for form in (">d", "<d", "<f")
    )


@BY_NAME
def test_constraints_of_sdv_hold(kind: Any, arguments: dict[str, Any]) -> None:
    made = synthesizer(kind, arguments)
    made.add_constraints(
        [
            FixedCombinations(column_names=["town", "country"]),
            Inequality(low_column_name="low", high_column_name="high"),
        ]
    )
    made.fit({"people": people()})
    rows = made.sample(400)["people"]
    assert len(rows) == 400
    assert (rows["town"].map(COUNTRY) == rows["country"]).all()
    assert (rows["low"] <= rows["high"]).all()
    # Levels reach the engine as levels, not as the numbers that SDV would make of them.
    assert {"member", "town#country"} <= {column.name for column in made.model.schema.discrete}
    italians = made.sample_from_conditions([Condition({"country": "italy"}, num_rows=20)])["people"]
    assert list(italians["country"]) == ["italy"] * 20


@BY_NAME
def test_parameters_make_the_same_synthesizer(kind: Any, arguments: dict[str, Any]) -> None:
    made = synthesizer(kind, arguments)
    parameters = made.get_parameters()
    assert arguments.items() <= parameters.items()
    assert synthesizer(kind, parameters).get_parameters() == parameters
    assert made._spec.epochs == arguments["epochs"]


@BY_NAME
def test_every_argument_of_sdv_is_known_or_refused_with_a_reason(
    kind: Any, arguments: dict[str, Any]
) -> None:
    import inspect

    from sdv import single_table

    theirs = inspect.signature(getattr(single_table, kind.__name__).__init__).parameters
    ours = inspect.signature(kind.__init__).parameters
    without = set(theirs) - set(ours)
    assert without <= {"discriminator_decay", "log_frequency"}
    for name in without:
        with pytest.raises(OrderError, match=rf"'{name}' has no counterpart.*Leave it out"):
            synthesizer(kind, {name: 1})


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(OrderError, match=r"no argument 'epoch'; did you mean 'epochs'\?"):
        synthesizer(CTGANSynthesizer, {"epoch": 3})
    with pytest.raises(OrderError, match=r"expected a multiple of pac=7"):
        synthesizer(CTGANSynthesizer, {"pac": 7})
    with pytest.raises(OrderError, match="call fit first"):
        synthesizer(TVAESynthesizer, VAE).model  # noqa: B018


def test_losses_have_the_names_of_sdv(fitted: Any) -> None:
    losses = fitted.get_loss_values()
    expected = "Generator Loss" if isinstance(fitted, CTGANSynthesizer) else "Loss"
    assert {"Epoch", expected} <= set(losses.columns)
    assert losses["Epoch"].max() == fitted.epochs - 1
    assert np.isfinite(losses[expected]).all()


def test_infinite_numbers_are_refused() -> None:
    frame = people()
    frame.loc[3, "low"] = np.inf
    with pytest.raises(TableError, match="Column 'low': expected finite numbers"):
        synthesizer(TVAESynthesizer, VAE).fit({"people": frame})


def test_the_learnt_model_can_leave_sdv(fitted: Any, tmp_path: Path) -> None:
    fitted.model.save(tmp_path / "model")
    rows = sf.load_model(tmp_path / "model").sample(20, seed=0)
    assert "person" not in rows.column_names
    assert set(rows.to_pandas()["town"]) <= set(COUNTRY)
