"""What other installed packages offer: generators and the models that they fit.

A package offers them by entry points (https://packaging.python.org/specifications/entry-points/)::

    [project.entry-points."synthfactory.generators"]
    uniform = "mylab_uniform:Uniform"         # generator=uniform

    [project.entry-points."synthfactory.models"]
    uniform = "mylab_uniform:UniformModel"    # the kind that its model.json names

Looking an offer up reads metadata of installed packages and imports nothing.  Only what is asked
for by name is imported, and no file of a run or a model can name anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from synthfactory.errors import PluginError
from synthfactory.paths import conf_dir

GENERATORS = "synthfactory.generators"
MODELS = "synthfactory.models"
# Models of this package; nobody else can take these names, nor those of its generators.
SHIPPED_KINDS = ("ctgan", "tvae", "cart", "independent", "bootstrap", "sdv")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A name that an installed package gives to a class of its own.

    Parameters
    ----------
    group
        `GENERATORS` or `MODELS`.
    name
        Of the generator, or the kind of the model.
    target
        Where the class is, ``mylab_uniform.Uniform``.
    package, version
        Who offers it.
    """

    group: str
    name: str
    target: str
    package: str
    version: str
    entry: metadata.EntryPoint

    def load(self) -> Any:
        """Import the class.

        Raises
        ------
        PluginError
            When the import fails, whatever it raises.
        """
        try:
            return self.entry.load()
        except Exception as error:
            raise PluginError(
                f"{self.in_words} cannot be imported: {type(error).__name__}: {error}. Repair or "
                "update that package; other generators are not affected."
            ) from error

    @property
    def in_words(self) -> str:
        """Who offers what."""
        return f"'{self.name}' ({self.entry.value}) of the package {self.package} {self.version}"

    def to_dict(self) -> dict[str, str]:
        """Who offers it, JSON-able."""
        return {"name": self.name, "package": self.package, "version": self.version}


def offers(group: str) -> Iterator[Offer]:
    """What installed packages offer, by name."""
    for entry in sorted(metadata.entry_points(group=group), key=lambda entry: entry.name):
        yield Offer(
            group=group,
            name=entry.name,
            target=entry.value.partition("[")[0].strip().replace(":", "."),
            package=str(entry.dist.name) if entry.dist else "unknown",
            version=str(entry.dist.version) if entry.dist else "unknown",
            entry=entry,
        )


def shipped(group: str) -> tuple[str, ...]:
    """Names that this package itself gives."""
    if group == MODELS:
        return SHIPPED_KINDS
    return tuple(sorted(path.stem for path in (conf_dir() / "generator").glob("*.yaml")))


def find(group: str, name: str) -> Offer | None:
    """The offer of this name; None when no other installed package makes it, or this one ships it.

    Raises
    ------
    PluginError
        When two packages claim the name.
    """
    if name in shipped(group):
        return None
    found = [offer for offer in offers(group) if offer.name == name]
    if len(found) > 1:
        claims = " and ".join(f"{offer.package} {offer.version}" for offer in found)
        raise PluginError(
            f"'{name}' is claimed by {len(found)} installed packages, {claims}: which one is meant "
            "cannot be told. Uninstall one of them."
        )
    return found[0] if found else None
