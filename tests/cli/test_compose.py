"""The command line's words become checked orders, and mistakes are explained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from synthfactory.cli import compose
from synthfactory.clusters import Local
from synthfactory.errors import OrderError
from synthfactory.generators import CTGAN, TVAE
from synthfactory.paths import conf_dir

SPEC_GROUPS = ("split", "generator", "evaluation", "cluster", "site")


def test_default_order_is_adult_with_ctgan() -> None:
    settings = compose.one([], None)
    assert settings.order.dataset.name == "adult"
    assert settings.order.generator == CTGAN()
    assert settings.order.policy.id == "sf-default"


def test_overrides_reach_the_spec() -> None:
    settings = compose.one(["generator=tvae", "generator.epochs=3", "seed=7"], None)
    assert settings.order.generator == TVAE(epochs=3)
    assert settings.order.seed == 7


@pytest.mark.parametrize(
    "path",
    [
        path
        for group in SPEC_GROUPS
        for path in sorted((conf_dir() / group).glob("*.yaml"))
        if path.stem not in ("quick", "deep") and (group != "site" or path.stem == "generic")
    ],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_yaml_states_every_field_with_its_default(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    made = compose.build(values, ("synthfactory.",), path.stem)
    assert made == type(made)()
    fields = {field.name for field in dataclasses.fields(made) if field.init}
    assert set(values) - {"_target_"} == fields


def test_a_path_alone_leaves_the_embedded_table(tmp_path: Path) -> None:
    settings = compose.one([f"dataset.path={tmp_path / 'my table.csv'}"], None)
    assert settings.order.dataset.target is None
    assert settings.order.dataset.path.endswith("my table.csv")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("generator.epoch=3", "did you mean 'generator.epochs'"),
        ("generator=ctgn", "There is no generator 'ctgn'; did you mean 'ctgan'"),
        ("dataset=adlut", "did you mean 'adult'"),
        ("sed=1", "did you mean 'seed'"),
        ("seed=-1", "seed: expected a whole number from 0"),
        ("seed=x", "seed: expected a whole number"),
        ("generator.epochs=0", "epochs"),
        ("generator.epochs=many", "epochs"),
        ("device=gpu", "device: expected auto, cpu, cuda"),
        ("split.control=0.9", "control"),
        ("generator=ctgan,tvae", "add --multirun"),
        ("epochs", "Expected an override such as"),
        ("generator._target_=os.system", "is not trusted"),
        ("generator._target_=synthfactory.nonsense.Nothing", "cannot make"),
        ("dataset=file", "'dataset.path' is needed"),
    ],
)
def test_mistakes_are_explained(word: str, message: str) -> None:
    with pytest.raises(OrderError, match=message.replace("(", r"\(")):
        compose.one([word], None)


def test_own_configuration_folder_joins(tmp_path: Path) -> None:
    folder = tmp_path / "generator"
    folder.mkdir()
    (folder / "short.yaml").write_text("_target_: synthfactory.generators.TVAE\nepochs: 2\n")
    settings = compose.one(["generator=short"], tmp_path)
    assert settings.order.generator == TVAE(epochs=2)


def test_configuration_folder_that_is_none_is_explained(tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="expected a folder"):
        compose.one([], tmp_path / "absent")


def test_place_alone_is_composed_and_other_settings_are_refused() -> None:
    assert compose.place(["cluster.n_workers=3"], None)[0] == Local(n_workers=3)
    with pytest.raises(OrderError, match="changes no row that a fitted model draws"):
        compose.place(["cluster.n_workers=3", "generator.epochs=5"], None)
    with pytest.raises(OrderError, match="did you mean 'local'"):
        compose.place(["cluster=locl"], None)
