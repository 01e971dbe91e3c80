"""A generator of another installed package: found, checked, and refused with the reason."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from generators.examples import SMALL_GAN, SMALL_VAE
from plugins.packages import documented_source, install

import synthfactory as sf
from synthfactory import generators, plugins
from synthfactory.errors import OrderError, PluginError, ReleaseError
from synthfactory.generators import (
    Generator,
    check_drawn,
    check_fitted,
    check_saved,
    load_generator,
)
from synthfactory.order import Order
from synthfactory.tables import Dataset
from synthfactory.testing import CHECKS, Check, Subject, check_generator, example_table

OURS = [SMALL_GAN, SMALL_VAE, sf.CART(), sf.Independent(), sf.Bootstrap()]

Install = Callable[..., Any]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package for one test; returns its generator's class."""
    modules: list[str] = []

    def put(**values: Any) -> Any:
        module = values.get("module", "mylab_uniform")
        place = install(tmp_path / f"site-{len(modules)}", **values)
        monkeypatch.syspath_prepend(str(place))
        modules.append(module)
        return lambda: getattr(importlib.import_module(module), "Uniform")  # noqa: B009

    yield put
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture(scope="module")
def table() -> sf.Table:
    return example_table()


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_shipped_generators_keep_their_promises(
    spec: Generator, check: Check, table: sf.Table
) -> None:
    check(Subject(spec, table))


def test_the_documented_generator_keeps_its_promises(installed: Install) -> None:
    uniform = installed()
    assert check_generator(uniform()()) == [check.__name__ for check in CHECKS]


def test_an_installed_model_is_loaded_and_names_its_package(
    installed: Install, table: sf.Table, tmp_path: Path
) -> None:
    uniform = installed()
    model = uniform()(cut=0.05).fit(table, seed=0)
    model.save(tmp_path / "model")
    document = json.loads((tmp_path / "model" / "model.json").read_bytes())
    assert document["package"] == "mylab-uniform 1.0.0"
    loaded = sf.load_model(tmp_path / "model")
    assert loaded.spec == model.spec
    assert loaded.sample(99, seed=1).digest == model.sample(99, seed=1).digest


def test_the_order_names_package_and_version(installed: Install) -> None:
    uniform = installed(version="2.1.0")
    order = Order(dataset=Dataset(path="package:adult"), generator=uniform()())
    assert order.to_dict()["generator"] == {
        "_target_": "mylab_uniform.Uniform",
        "_plugin_": {"name": "uniform", "package": "mylab-uniform", "version": "2.1.0"},
        "cut": 0.01,
    }
    assert "_plugin_" not in Order(dataset=order.dataset).to_dict()["generator"]


def test_an_order_of_a_missing_package_says_what_to_install(
    installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthfactory.cli.compose import order_of

    order = Order(dataset=Dataset(path="package:adult"), generator=installed()()(cut=0.2))
    document = {"order": order.to_dict(), "path": order.dataset.path}
    assert order_of(document, ["synthfactory."]) == order
    monkeypatch.undo()
    with pytest.raises(
        OrderError, match=r"'uniform' is of mylab-uniform 1\.0\.0, and no installed"
    ):
        order_of(document, ["synthfactory."])


def test_a_kind_that_nobody_offers_says_what_to_install(
    installed: Install, table: sf.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uniform = installed()
    uniform()().fit(table, seed=0).save(tmp_path / "model")
    monkeypatch.undo()
    with pytest.raises(
        ReleaseError,
        match=r"kind 'uniform'; installed kinds: bootstrap, cart, ctgan.*Install the package that "
        r"provides it, mylab-uniform 1\.0\.0 as the folder says",
    ):
        sf.load_model(tmp_path / "model")


def test_a_model_folder_cannot_name_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a kind that looks like an import nor a module beside the model is ever imported."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for kind in ("evil", "evil:Model", "evil.Model", "../evil", ["evil"]):
        document = {"kind": kind, "_target_": "evil.Model", "package": "evil 1", "spec": {}}
        (tmp_path / "model.json").write_text(json.dumps(document))
        with pytest.raises(ReleaseError, match="Install the package that provides it"):
            sf.load_model(tmp_path)
    assert "evil" not in sys.modules


def test_only_the_package_that_is_asked_for_is_imported(
    installed: Install, table: sf.Table, tmp_path: Path
) -> None:
    uniform = installed()
    installed(
        package="other",
        module="other_module",
        source="raise RuntimeError('imported')",
        offers={"synthfactory.models": "other = other_module:Model"},
    )
    uniform()().fit(table, seed=0).save(tmp_path / "model")
    assert sf.load_model(tmp_path / "model").kind == "uniform"
    assert "other_module" not in sys.modules


def test_two_packages_that_claim_one_kind_are_named(
    installed: Install, table: sf.Table, tmp_path: Path
) -> None:
    uniform = installed()
    uniform()().fit(table, seed=0).save(tmp_path / "model")
    installed(package="rival", module="rival_module", version="3.0")
    with pytest.raises(
        PluginError,
        match=r"'uniform' is claimed by 2 installed packages.*rival 3\.0.*Uninstall one",
    ):
        sf.load_model(tmp_path / "model")
    with pytest.raises(PluginError, match="claimed by 2 installed packages"):
        load_generator("uniform")


def test_a_shipped_kind_cannot_be_taken_over(
    installed: Install, table: sf.Table, tmp_path: Path
) -> None:
    installed(
        package="taker",
        module="taker",
        source="raise RuntimeError('imported')",
        offers={
            "synthfactory.generators": "cart = taker:CART",
            "synthfactory.models": "cart = taker:Model",
        },
    )
    assert plugins.SHIPPED_KINDS == tuple(generators._MODELS)
    sf.CART().fit(table, seed=0).save(tmp_path / "model")
    assert type(sf.load_model(tmp_path / "model")).__module__ == "synthfactory.generators.cart"
    assert "package" not in json.loads((tmp_path / "model" / "model.json").read_bytes())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "import no_such_library"}, "cannot be imported: ModuleNotFoundError.*Repair"),
        ({"source": "raise ValueError('no GPU')"}, "cannot be imported: ValueError: no GPU"),
        ({"source": "x = 1"}, "cannot be imported: AttributeError"),
        ({"source": "Uniform = 7"}, "is no subclass of synthfactory.generators.base.Generator"),
        ({"changes": {'name: ClassVar[str] = "uniform"': 'name: ClassVar[str] = "flat"'}},
         "has name='flat': expected 'uniform', the name of its entry point"),
    ],
)  # fmt: skip
def test_an_offer_that_does_not_work_is_told(
    installed: Install, values: dict[str, Any], message: str
) -> None:
    installed(**values)
    with pytest.raises(
        PluginError, match=f"'uniform'.*of the package mylab-uniform 1.0.0.*{message}"
    ):
        load_generator("uniform")
    assert load_generator("no_such") is None


def test_a_generator_that_nobody_offers_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    names: dict[str, Any] = {"__name__": "somewhere"}
    exec(compile(documented_source(), "extending.md", "exec", dont_inherit=True), names)
    with pytest.raises(OrderError, match=r"somewhere\.Uniform is offered by no installed package"):
        Order(dataset=Dataset(path="package:adult"), generator=names["Uniform"]())


def test_a_subclass_of_a_shipped_generator_needs_no_offer() -> None:
    kind = type("Mine", (sf.Independent,), {"__module__": "somewhere"})
    assert Order(dataset=Dataset(path="package:adult"), generator=kind()).generator is not None


# Lines of the documented generator that are replaced by faulty ones.
CHANCE = 'numpy_stream(seed, "sample", shard)'
DECODED = 'return encoder.decode(rows, seed=derive(seed, "identifiers"), first_row=first_row)'
KEPT = "self.spec, self.schema, self.ends = spec, schema, ends"
SAVED = "save_document(Path(path), document)"
NOT_RETURNED = DECODED.replace("return", "rows =")

TWO_MORE = """n_rows += 2
        rows = Encoded(numbers=np.resize(numbers, (n_rows, numbers.shape[1])),
                       codes=np.resize(codes, (n_rows, codes.shape[1])))"""
SHORTER = f"""{NOT_RETURNED}
        from synthfactory.tables import Table
        schema = Schema(columns=rows.schema.columns[:-1])
        return Table(data=rows.data.select(schema.names), schema=schema)"""
FLOATS = f"""{NOT_RETURNED}
        import pyarrow as pa
        from synthfactory.tables import Table
        place = rows.data.column_names.index("gain")
        data = rows.data.set_column(place, "gain", rows.data["gain"].cast(pa.float32()))
        return Table(data=data, schema=rows.schema)"""
PLAIN_FILE = """import json
        Path(path).mkdir()
        (Path(path) / "model.json").write_text(json.dumps(document))"""
PICKLED = f"""{SAVED}
        import pickle
        (Path(path) / "rows.pkl").write_bytes(pickle.dumps(self.ends))"""

BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "two rows too many": (
        {"rows = Encoded(numbers=numbers, codes=codes)": TWO_MORE},
        r"asked for 256 rows, it drew 258",
    ),
    "another schema": ({DECODED: SHORTER}, "another schema than the model"),
    "another type": ({DECODED: FLOATS}, "column 'gain' was drawn as float; expected int64"),
    "no table": ({DECODED: "return rows"}, "sample must return a Table"),
    "global chance": (
        {CHANCE: "np.random.default_rng()"},
        "is not deterministic: .* when it was asked twice",
    ),
    "unsaved state": (
        {
            KEPT: f"{KEPT}\n        self.salt = id(self)",
            CHANCE: CHANCE.replace("d,", "d + self.salt,"),
        },
        "is not deterministic: .* when it was saved and loaded",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_model_that_breaks_the_protocol_is_refused_by_runs_and_by_the_checks(
    installed: Install, table: sf.Table, tmp_path: Path, fault: str
) -> None:
    changes, message = BROKEN[fault]
    spec = installed(changes=changes)()()
    model = spec.fit(table, seed=0)
    model.save(tmp_path / "model")
    with pytest.raises(PluginError, match=message):
        check_saved(model, tmp_path / "model", sf.load_model)
    with pytest.raises(PluginError, match="checks of the generator 'uniform' failed"):
        check_generator(spec, table)


@pytest.mark.parametrize(
    ("check", "message", "changes"),
    [
        ("other_addresses_give_other_rows", "another shard gave the same rows",
         {CHANCE: 'numpy_stream(seed, "sample")'}),
        ("other_addresses_give_other_rows", "another seed gave the same rows",
         {CHANCE: 'numpy_stream(0, "sample", shard)'}),
        ("rows_are_those_asked_for", "asked for -1 rows", {"check_count(n_rows)": "pass"}),
        ("nothing_to_learn_is_refused", "no rows raised no TrainingError",
         {"check_learnable(table)": "pass"}),
        ("identifiers_are_new_and_unique", "repeats", {"first_row=first_row)": "first_row=0)"}),
        ("conditions_are_met_or_refused", "does not hold in all rows",
         {"codes[:, place] = wanted[column.name]": "pass"}),
        ("files_are_safe_and_hold_no_rows", r"holds rows\.pkl", {SAVED: PICKLED}),
        ("files_are_safe_and_hold_no_rows", "'person' of a training row",
         {"UniformModel(self, table.schema, ends)":
          "UniformModel(self, table.schema, ends, table.data['person'].to_pylist())",
          "def __init__(self, spec, schema, ends):":
          "def __init__(self, spec, schema, ends, people=()):\n        self.people = people",
          "self.schema.to_dict(), ": "self.schema.to_dict(), 'people': self.people, "}),
        ("changed_description_is_refused", r"a changed model\.json was loaded",
         {SAVED: PLAIN_FILE}),
        ("saved_model_draws_the_same_rows", "another process draws other rows",
         {CHANCE: CHANCE.replace("d,", "d + hash('salt'),")}),
        ("shards_do_not_depend_on_each_other", "after other shards",
         {KEPT: f"{KEPT}\n        self.n = 0",
          f"chance = {CHANCE}": "self.n += shard\n        chance = "
          + CHANCE.replace("shard)", "shard + self.n)")}),
    ],
)  # fmt: skip
def test_each_check_finds_its_fault(
    installed: Install, table: sf.Table, check: str, message: str, changes: dict[str, str]
) -> None:
    spec = installed(changes=changes)()()
    (chosen,) = (one for one in CHECKS if one.__name__ == check)
    with pytest.raises(PluginError, match=message):
        chosen(Subject(spec, table))


def test_what_a_fit_gives_must_be_an_offered_model_of_the_table(
    installed: Install, table: sf.Table
) -> None:
    spec = installed(offers={"synthfactory.generators": "uniform = mylab_uniform:Uniform"})()()
    with pytest.raises(PluginError, match="its model is of kind 'uniform', which no installed"):
        check_fitted(spec.fit(table, seed=0), spec, table)
    with pytest.raises(PluginError, match="fit must return a Model, but it returned None"):
        check_fitted(None, spec, table)
    with pytest.raises(PluginError, match="the model's schema is not the schema of the table"):
        check_fitted(spec.fit(table, seed=0), spec, example_table(40, seed=9))


def test_fewer_rows_will_do_where_that_was_allowed(table: sf.Table) -> None:
    model = sf.Independent().fit(table, seed=0)
    rows = model.sample(5, seed=1)
    check_drawn(model, rows, 9, fewer=True)
    with pytest.raises(PluginError, match="asked for 9 rows, it drew 5"):
        check_drawn(model, rows, 9)
    with pytest.raises(PluginError, match="asked for 4 rows, it drew 5"):
        check_drawn(model, rows, 4, fewer=True)


def test_doctor_tells_of_generators_that_work_and_that_do_not(installed: Install) -> None:
    from synthfactory.cli.doctor import _generators

    installed()
    installed(
        package="lame", module="lame", source="import no_such_library",
        offers={"synthfactory.generators": "lame = lame:Lame"},
    )  # fmt: skip
    found = {item.check: item for item in _generators()}
    assert found["generator uniform"].level == "ok"
    assert found["generator uniform"].found == "of mylab-uniform 1.0.0"
    assert found["generator lame"].level == "warning"
    assert "no_such_library" in found["generator lame"].found


def test_completion_holds_the_names_but_nothing_that_a_shell_could_run(installed: Install) -> None:
    from synthfactory.cli import parser
    from synthfactory.cli.completion import script

    installed()
    installed(
        package="evil", module="evil", source="",
        offers={"synthfactory.generators": "x';touch$IFS/tmp/x;' = evil:Evil"},
    )  # fmt: skip
    text = script("bash", parser())
    assert "tvae uniform'" in text
    assert "generator.cut=" in text
    assert "touch" not in text
    assert [offer.name for offer in plugins.offers(plugins.GENERATORS)][
        -1
    ] == "x';touch$IFS/tmp/x;'"
