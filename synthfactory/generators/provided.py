"""Generators of other packages: found by their offers, and held to what a run relies on.

What is checked here costs little and is checked in every run.  `synthfactory.testing` checks the
rest, for the tests of whoever writes a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthfactory import plugins
from synthfactory.errors import OrderError, PluginError, SynthfactoryError
from synthfactory.generators.base import Generator, Model
from synthfactory.plugins import Offer
from synthfactory.seeds import derive
from synthfactory.tables import Table

OURS = __name__.partition(".")[0]
PROBE_ROWS = 256
PROBE_SHARD = 3


def is_ours(found: type) -> bool:
    """Whether this package defines a class."""
    return found.__module__.partition(".")[0] == OURS


def load_generator(name: str) -> type[Generator] | None:
    """The generator that an installed package offers under this name; None when none does.

    Raises
    ------
    PluginError
        When two packages claim the name, the import fails, or what is offered is no generator of
        this name.
    """
    offer = plugins.find(plugins.GENERATORS, name)
    return None if offer is None else _load(offer, Generator, "name")


def load_model_class(kind: str) -> type[Model] | None:
    """The model that an installed package offers for this kind; None when none does.

    Raises
    ------
    PluginError
        As `load_generator`.
    """
    offer = plugins.find(plugins.MODELS, kind)
    return None if offer is None else _load(offer, Model, "kind")


def _load(offer: Offer, base: type, named_by: str) -> Any:
    found = offer.load()
    if not isinstance(found, type) or not issubclass(found, base):
        raise PluginError(
            f"{offer.in_words} is offered in the group '{offer.group}', but it is no subclass of "
            f"{base.__module__}.{base.__qualname__}: got {found!r}."
        )
    if not offer.name.isidentifier() or not offer.name.isascii():
        raise PluginError(
            f"{offer.in_words} has no usable name: expected letters, digits and _, got "
            f"{offer.name!r}."
        )
    if getattr(found, named_by, None) != offer.name:
        raise PluginError(
            f"{offer.in_words} has {named_by}={getattr(found, named_by, None)!r}: expected "
            f"'{offer.name}', the name of its entry point."
        )
    return found


def offer_of(found: type[Generator]) -> Offer | None:
    """The offer of a generator's class; None for ours, and for one that no package offers."""
    name = getattr(found, "name", None)
    if is_ours(found) or name is None:
        return None
    offer = plugins.find(plugins.GENERATORS, name)
    return offer if offer is not None and offer.load() is found else None


def offer_of_model(model: Model) -> Offer | None:
    """The offer of a model's class; None for ours."""
    return None if is_ours(type(model)) else plugins.find(plugins.MODELS, model.kind)


def check_provided(spec: Generator) -> None:
    """Refuse a generator whose model could not be loaded again, before anything is trained.

    A subclass of one of ours that fits a model of ours needs no offer.

    Raises
    ------
    OrderError
        When no installed package offers it.
    """
    kind = type(spec)
    if not isinstance(spec, Generator):
        raise OrderError(
            f"generator: expected a subclass of synthfactory.generators.Generator, got {spec!r}."
        )
    inherits = is_ours(kind) or any(
        is_ours(base) and not getattr(base, "__abstractmethods__", None)
        for base in kind.__mro__[1:]
        if issubclass(base, Generator)
    )
    if not inherits and offer_of(kind) is None:
        raise OrderError(
            f"The generator {kind.__module__}.{kind.__qualname__} is offered by no installed "
            f"package, so its model could not be loaded again: its package must name it in the "
            f"entry points '{plugins.GENERATORS}' and '{plugins.MODELS}' (docs/extending.md)."
        )


def check_fitted(model: object, spec: Generator, table: Table) -> None:
    """Refuse what a fit of another package's generator gave, unless it is a model of the table.

    Raises
    ------
    PluginError
        With what was expected and what came.
    """
    who = f"The generator '{spec.name}' ({_where(spec)})"
    if not isinstance(model, Model):
        raise PluginError(f"{who}: fit must return a Model, but it returned {model!r:.80}.")
    if model.schema != table.schema:
        raise PluginError(f"{who}: the model's schema is not the schema of the table it learnt.")
    if not is_ours(type(model)) and load_model_class(model.kind) is not type(model):
        raise PluginError(
            f"{who}: its model is of kind '{model.kind}', which no installed package offers for "
            f"{_where(model)}: add it to the entry points '{plugins.MODELS}'."
        )


def check_saved(model: Model, folder: Path, load: Callable[[Path], Model]) -> None:
    """Refuse a model that does not draw the same rows twice, or not after it was loaded again.

    Parameters
    ----------
    model
        As it was fitted; it is drawn from.
    folder
        Where it was saved.
    load
        Loads it.

    Raises
    ------
    PluginError
        With what was expected and what came.
    """
    if is_ours(type(model)):
        return
    again = load(folder)
    expected = _probe(model)
    for what, digest in (
        ("was asked twice", _probe(model)),
        ("was saved and loaded", _probe(again)),
        ("was loaded and asked twice", _probe(again)),
    ):
        if digest != expected:
            raise PluginError(
                f"The model {_where(model)} is not deterministic: seed 1, shard {PROBE_SHARD} gave "
                f"other bytes when it {what}. Draw from numpy_stream(seed, purpose, shard) alone, "
                "and save everything that rows depend on."
            )


def _probe(model: Model) -> str:
    seed = derive(1, "probe")
    table = model.sample(PROBE_ROWS, seed=seed, shard=PROBE_SHARD, first_row=PROBE_ROWS, threads=1)
    check_drawn(model, table, PROBE_ROWS)
    return table.digest


def check_drawn(model: Model, table: object, n_rows: int, *, fewer: bool = False) -> None:
    """Refuse rows that are not those that were asked for.

    Parameters
    ----------
    model
        Drew them.
    table
        What came.
    n_rows
        How many were asked for.
    fewer
        Whether fewer will do.

    Raises
    ------
    PluginError
        With what was expected and what came.
    """
    who = f"The model {_where(model)}"
    if not isinstance(table, Table):
        raise PluginError(f"{who}: sample must return a Table, but it returned {table!r:.80}.")
    if table.schema is not model.schema and table.schema != model.schema:
        raise PluginError(f"{who}: the rows that it drew have another schema than the model.")
    for column in model.schema.columns:
        expected, came = pa.type_for_alias(column.dtype), table.data.schema.field(column.name).type
        if came != expected:
            raise PluginError(
                f"{who}: column '{column.name}' was drawn as {came}; expected {expected}, as its "
                "schema says. Encoder(schema).decode makes the right types."
            )
    if table.n_rows > n_rows or (table.n_rows < n_rows and not fewer):
        raise PluginError(f"{who}: asked for {n_rows:,} rows, it drew {table.n_rows:,}.")


def load_foreign(found: type[Model], folder: Path, document: Mapping[str, Any]) -> Model:
    """A model of another package from its folder.

    Raises
    ------
    PluginError
        When its `load` fails, whatever it raises.
    """
    try:
        return found.load(folder, document)
    except SynthfactoryError:
        raise
    except Exception as error:
        offer = plugins.find(plugins.MODELS, found.kind)
        who = _where(found) if offer is None else offer.in_words
        raise PluginError(
            f"{who} cannot load the model in {folder}: {type(error).__name__}: {error}."
        ) from error


def _where(thing: object) -> str:
    kind = thing if isinstance(thing, type) else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
