"""From words on the command line to orders, through Hydra."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from synthfactory import artifacts, plugins
from synthfactory.certification import Policy
from synthfactory.clusters import Cluster, Site
from synthfactory.errors import OrderError, UserError, did_you_mean
from synthfactory.generators import Generator, load_generator
from synthfactory.journal import ORDER_FILE
from synthfactory.order import Order, as_plain
from synthfactory.paths import conf_dir
from synthfactory.run import Run

GROUPS = ("dataset", "split", "generator", "evaluation", "policy", "cluster", "site", "experiment")
# Settings that say where to work, and nothing about what is made.
WHERE = ("cluster", "site")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One order, and where and under which key it is made."""

    order: Order
    cluster: Cluster
    site: Site
    runs: Path
    key: Path | None
    did: str | None = None
    generator_key: Path | None = None
    evaluator_key: Path | None = None


def one(words: Sequence[str], config_dir: Path | None) -> Settings:
    """The settings that ``words`` (Hydra overrides) describe.

    Raises
    ------
    OrderError
        For an unknown key, group or option (with what was probably meant), a value out of
        range, or a target that is not trusted.
    """
    overrides = check(words, config_dir)
    with _explained(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return settings(compose("config", overrides=overrides))


def place(words: Sequence[str], config_dir: Path | None) -> tuple[Cluster, Site]:
    """Where ``words`` say to work; other settings would have no effect and are refused.

    Raises
    ------
    OrderError
        As `one`, and for a word about anything but where to work.
    """
    for word in words:
        if "=" in word and _name(word).partition(".")[0] not in WHERE:
            raise OrderError(
                f"'{word}' changes no row that a fitted model draws; expected settings of "
                f"{' and '.join(WHERE)}, such as cluster.n_workers=4."
            )
    there = one(words, config_dir)
    return there.cluster, there.site


def many(words: Sequence[str], config_dir: Path | None) -> Any:
    """Sweep over ``words`` with Hydra's sweeper and our launcher; returns what the launcher did."""
    overrides = check(words, config_dir, sweep=True)
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    search_path.append("main", f"file://{conf_dir()}")
    search_path.append("schema", "structured://")
    GlobalHydra.instance().clear()
    try:
        with _explained():
            hydra = Hydra.create_main_hydra2("synthfactory", search_path)
            return hydra.multirun(
                config_name="config",
                task_function=settings,
                overrides=overrides,
                with_log_configuration=False,
            )
    finally:
        GlobalHydra.instance().clear()


def is_sweep(words: Sequence[str]) -> bool:
    """Whether some override names several values."""
    return any(override.is_sweep_override() for override in _parse(words))


def settings(config: DictConfig) -> Settings:
    """Turn a composed configuration into checked objects."""
    ours = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    plain = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    trusted = tuple(plain["trusted_targets"])
    built = {
        group: build(plain[group], trusted, group)
        for group in ("dataset", "split", "generator", "evaluation", "cluster", "site")
    }
    cluster, site = built.pop("cluster"), built.pop("site")
    order = Order(
        **built,
        policy=Policy.from_dict(plain["policy"]),
        **{name: plain[name] for name in ("seed", "rows", "rows_per_shard", "threads", "device")},
    )
    issuer = plain["issuer"]
    keys = {
        name: None if issuer[name] is None else Path(issuer[name]).expanduser()
        for name in ("key", "generator_key", "evaluator_key")
    }
    return Settings(
        order=order,
        cluster=cluster,
        site=site,
        runs=Path(plain["paths"]["runs"]),
        did=issuer["did"],
        **keys,
    )


def unfinished(runs: Path, words: Sequence[str], config_dir: Path | None) -> list[Settings]:
    """The orders of a folder of runs that are not done, read from their ``order.json``.

    Parameters
    ----------
    runs
        The folder.
    words
        Overrides of everything that is no part of an order: cluster, site, issuer.key.

    Raises
    ------
    OrderError
        When there is no such folder, or an override would change the orders.
    """
    if not runs.is_dir():
        raise OrderError(
            f"Expected a folder of runs, but there is no folder {runs}. "
            "Name it: synthfactory resume FOLDER"
        )
    free = ("cluster", "site", "issuer", "trusted_targets")
    for word in words:
        if _name(word).partition(".")[0] not in free:
            raise OrderError(
                f"'{word}' would change the orders: resume takes {', '.join(free)} only. "
                "Use `synthfactory run` for other orders."
            )
    overrides = check(words, config_dir)
    with _explained(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=overrides)
        base = settings(config)
        trusted = tuple(config.trusted_targets)
    found = []
    for path in sorted(runs.glob(f"*/{ORDER_FILE}")):
        order = order_of(artifacts.read_json(path), trusted)
        run = Run.open(order, runs)
        if run.folder != path.parent:
            raise OrderError(
                f"{path.parent} was made of another table, or by another version of synthfactory: "
                "repeat its own command, which makes a run of its own."
            )
        if run.outcome is None:
            found.append(dataclasses.replace(base, order=order, runs=runs))
    return found


def reopen(folder: Path) -> Run:
    """The run of a folder, by what it says of itself; the confidential table is not looked at.

    Raises
    ------
    OrderError
        When it is no run's folder.
    """
    path = folder / ORDER_FILE
    if not path.is_file():
        raise OrderError(f"Expected the folder of a run, but {folder} holds no {ORDER_FILE}.")
    with _explained(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        trusted = tuple(compose("config").trusted_targets)
    document = artifacts.read_json(path)
    order = order_of(document, trusted)
    return Run(order=order, folder=folder, table_digest=document["table"])


def order_of(document: Mapping[str, Any], trusted: Sequence[str]) -> Order:
    """The order that a run's ``order.json`` describes.

    Raises
    ------
    OrderError
        When it names a class that is not trusted, or is no order.
    """
    node = dict(document["order"])
    node.pop("_target_", None)
    built: dict[str, Any] = {
        group: build(node.pop(group), trusted, group)
        for group in ("split", "generator", "evaluation")
    }
    dataset = build({**node.pop("dataset"), "path": document["path"]}, trusted, "dataset")
    return Order(dataset=dataset, policy=Policy.from_dict(node.pop("policy")), **built, **node)


def build(node: Mapping[str, Any], trusted: Sequence[str], where: str) -> Any:
    """Call the class that ``_target_`` names with the node's values.

    Raises
    ------
    OrderError
        When the target lies outside the trusted prefixes or does not take these values.
    """
    values = dict(node)
    target = values.pop("_target_", None)
    plugin = values.pop("_plugin_", None)
    if not isinstance(target, str):
        raise OrderError(f"{where}: expected a '_target_' that names a class, got {target!r}.")
    if where == "generator":
        for offer in plugins.offers(plugins.GENERATORS):
            if offer.target == target and offer.name in _names():
                return _call(_offered(offer.name), target, values, where)
        if plugin is not None:
            raise OrderError(
                f"The run's generator '{plugin['name']}' is of {plugin['package']} "
                f"{plugin['version']}, and no installed package offers it: install that one."
            )
    if not target.startswith(tuple(trusted)):
        raise OrderError(
            f"{where}: the target '{target}' is not trusted; expected one that begins with "
            f"{' or '.join(trusted)}. Add its prefix to 'trusted_targets' if you know the code."
        )
    try:
        found = get_class(target)
    except (TypeError, ValueError, ImportError) as error:
        raise OrderError(f"{where}: cannot make {target}: {error}") from error
    return _call(found, target, values, where)


def _call(found: Callable[..., Any], target: str, values: Mapping[str, Any], where: str) -> Any:
    try:
        return found(**values)
    except UserError:
        raise
    except (TypeError, ValueError, ImportError) as error:
        raise OrderError(f"{where}: cannot make {target}: {error}") from error


def _offered(name: str) -> type[Generator]:
    """The class of a generator that an installed package offers."""
    found = load_generator(name)
    assert found is not None, "the name is one of an offer"
    return found


def _offer_generators(names: Collection[str]) -> None:
    """Let Hydra know the generators of installed packages, as it knows those that have a file.

    A file of the same name comes first.  Only the chosen ones are imported, for their fields.
    """
    for offer in plugins.offers(plugins.GENERATORS):
        if offer.name not in _names():
            continue
        node: dict[str, Any] = {"_target_": offer.target}
        if offer.name in names:
            for item in dataclasses.fields(_offered(offer.name)):
                node[item.name] = as_plain(_default(item))
        ConfigStore.instance().store(
            group="generator", name=offer.name, node=node, provider=offer.package
        )


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return "???" if item.default is dataclasses.MISSING else item.default


def check(words: Sequence[str], config_dir: Path | None, *, sweep: bool = False) -> list[str]:
    """The overrides to hand to Hydra, checked so that a mistake is explained in our words."""
    overrides = list(words)
    names = [_name(word) for word in overrides]
    if any(name.startswith("dataset.path") for name in names) and "dataset" not in names:
        overrides.insert(0, "dataset=file")
    if config_dir is not None:
        if not config_dir.is_dir():
            raise OrderError(f"--config-dir: expected a folder, but {config_dir} is none.")
        overrides.append(f"hydra.searchpath=[file://{config_dir.resolve()}]")
    folders = [conf_dir(), *([config_dir] if config_dir else [])]
    parsed = _parse(overrides)
    for override in parsed:
        if override.is_sweep_override() and not sweep:
            raise OrderError(
                f"'{override.input_line}' names several values: add --multirun to make them all."
            )
        _check_option(override, folders)
    _offer_generators(_chosen_generators(parsed, folders))
    _check_keys(parsed, config_dir)
    return overrides


def _parse(words: Sequence[str]) -> list[Override]:
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise OrderError(
                f"Expected an override such as 'generator.epochs=50', got '{word}'"
                f"{did_you_mean(word, [*GROUPS, 'seed', 'rows', 'device'])}"
            )
    try:
        return OverridesParser.create().parse_overrides(overrides=list(words))
    except OverrideParseException as error:
        raise OrderError(
            f"Cannot read the override '{error.override}': {_first_line(error)}. "
            "Quote values that hold spaces or brackets: 'dataset.path=\"my table.csv\"'."
        ) from error


def _check_option(override: Override, folders: Sequence[Path]) -> None:
    """A group's option must be a file in one of the configuration folders."""
    group = override.key_or_group
    if group not in GROUPS or override.is_delete():
        return
    known = sorted(_files(folders, group) | (_names() if group == "generator" else set()))
    for value in _values(override):
        if value is not None and str(value) not in known:
            raise OrderError(f"There is no {group} '{value}'{did_you_mean(str(value), known)}")


def _files(folders: Sequence[Path], group: str) -> set[str]:
    return {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}


def _names() -> set[str]:
    offered = {offer.name for offer in plugins.offers(plugins.GENERATORS)}
    return offered - {*plugins.shipped(plugins.GENERATORS)}


def _chosen_generators(parsed: Sequence[Override], folders: Sequence[Path]) -> set[str]:
    """The generators of other packages that the overrides choose."""
    chosen = {
        str(value)
        for override in parsed
        if override.key_or_group == "generator" and not override.is_delete()
        for value in _values(override)
    }
    return chosen & _names() - _files(folders, "generator")


def _values(override: Override) -> Iterator[Any]:
    if override.is_sweep_override():
        yield from override.sweep_string_iterator()
    else:
        yield override.value()


def _check_keys(parsed: Sequence[Override], config_dir: Path | None) -> None:
    """A dotted key must exist in the configuration that the chosen groups make."""
    chosen = [
        f"{override.key_or_group}={next(_values(override))}"
        for override in parsed
        if override.key_or_group in GROUPS and not override.is_delete()
    ]
    if config_dir is not None:
        chosen.append(f"hydra.searchpath=[file://{config_dir.resolve()}]")
    with _explained(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=chosen)
    known = [*GROUPS, *_dotted(config)]
    for override in parsed:
        key = override.key_or_group
        free = override.is_add() or override.is_force_add() or key.startswith("hydra")
        if not free and key not in known:
            raise OrderError(f"There is no setting '{key}'{_hint(key, known)}")


def _dotted(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in map(str, node):
        key = f"{prefix}{name}"
        yield key
        if OmegaConf.is_missing(node, name):
            continue
        if isinstance(node[name], DictConfig):
            yield from _dotted(node[name], f"{key}.")


def _hint(key: str, known: Sequence[str]) -> str:
    """What was probably meant: first among the settings beside it, then among all."""
    parent = key.rpartition(".")[0]
    beside = [name for name in known if name.rpartition(".")[0] == parent]
    return did_you_mean(key, beside) if beside else did_you_mean(key, known)


def _name(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into an `OrderError`."""
    try:
        yield
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        message = _first_line(error)
        missing = re.search(r"full_key: ([\w.]+)", str(error))
        if missing and isinstance(error, MissingMandatoryValue):
            message = f"'{missing[1]}' is needed: add {missing[1]}=... to the command"
        raise OrderError(f"{message}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
