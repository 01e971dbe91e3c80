"""Fields of generators of other packages: read from their source, equal to what they are."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from plugins.packages import install

from synthfactory import plugins
from synthfactory.cli.fields import offered_fields

BASE = """
import dataclasses
import typing
from dataclasses import dataclass, field, InitVar
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")


class Plain:
    remark: str = "no field: this class is no dataclass"


@dataclass(frozen=True, kw_only=True)
class Base(Plain, Generic[T]):
    name: ClassVar[str] = "base"
    other: "typing.ClassVar[int]" = 1
    depth: int = 3
    given: InitVar[int] = 0
    made: int = field(default=0, init=False)
    _hidden: int = 0
"""
MIXED = """
import dataclasses

from . import parts as rooms
from .parts.base import Base as Root


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wide(rooms.base.Base[int]):
    width: float = 1.0


if True:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Deep(Wide, Root):
        depth: int = 4
        länge: int = 0

        def fit(self):
            inner: int = 0
            return inner
"""
BROKEN = {
    "not_there": "nowhere_at_all:Any",
    "no_module": "shapes.nothing:Any",
    "no_class": "shapes.mixed:Nobody",
    "not_python": "shapes.syntax:Any",
    "bytes": "shapes.bytes:Any",
    "circle": "shapes.circle:Any",
    "whole_module": "shapes.mixed",
    "beyond": "shapes.beyond:Any",
    "builtin": "sys:Any",
}


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of several modules, which stops whoever imports the wrong one."""
    names = {"deep": "shapes:Deep", "wide": "shapes.mixed:Wide", **BROKEN}
    told = "\n".join(f"{name} = {target}" for name, target in names.items())
    place = install(tmp_path / "site", package="shapes", module="unused", source="",
                    offers={plugins.GENERATORS: told})  # fmt: skip
    room = place / "shapes"
    (room / "parts").mkdir(parents=True)
    (room / "__init__.py").write_text("from shapes.mixed import Deep\n")
    (room / "parts" / "__init__.py").write_text("from shapes.parts import base\n")
    (room / "parts" / "base.py").write_text(BASE)
    (room / "mixed.py").write_text(MIXED, encoding="utf-8")
    (room / "syntax.py").write_text("class Any(:\n")
    (room / "bytes.py").write_bytes(b"\xff\xfe class Any: ...")
    (room / "circle.py").write_text("from shapes.circle import Any\n")
    (room / "beyond.py").write_text("from .....far import Any\n")
    monkeypatch.syspath_prepend(str(place))
    return place


def found(name: str) -> tuple[str, ...]:
    (offer,) = (offer for offer in plugins.offers(plugins.GENERATORS) if offer.name == name)
    return offered_fields(offer)


def test_fields_are_those_of_the_class(shapes: Path) -> None:
    read = {name: found(name) for name in ("deep", "wide")}
    assert not any(module.partition(".")[0] == "shapes" for module in sys.modules)
    module = importlib.import_module("shapes.mixed")
    try:
        for name, names in read.items():
            settable = [
                field.name
                for field in dataclasses.fields(getattr(module, name.capitalize()))
                if field.init and not field.name.startswith("_") and field.name.isascii()
            ]
            assert sorted(names) == sorted(settable)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "shapes"]:
            del sys.modules[name]
    assert set(read["wide"]) == {"depth", "width"}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_package_has_no_fields_and_stops_nobody(shapes: Path, name: str) -> None:
    assert found(name) == ()


def test_completion_imports_neither_the_generator_nor_torch(shapes: Path, tmp_path: Path) -> None:
    install(tmp_path / "other", package="trap", module="trap",
            source="import torch\nfrom dataclasses import dataclass\n\n\n"
            "@dataclass\nclass Trap:\n    teeth: int = 3\n\n\nraise SystemExit('imported')\n",
            offers={plugins.GENERATORS: "trap = trap:Trap"})  # fmt: skip
    code = (
        "import sys; from synthfactory.cli import main; code = main(['completion', 'bash']); "
        "assert not {'torch', 'numpy', 'trap', 'shapes'} & set(sys.modules); sys.exit(code)"
    )
    paths = [str(tmp_path / "other"), str(shapes), str(Path(__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}; {code}"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert "generator.teeth= " in done.stdout
    assert "generator.width=" in done.stdout
    for name in ("deep", "trap", "not_there"):
        assert f" {name} " in done.stdout
