"""The fields of a generator that another package offers, read from its source: nothing is imported.

Importing a generator takes seconds, because torch comes with it, and runs code of its package.  Who
only wants to complete words needs neither.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from synthfactory.plugins import Offer

OURS = __name__.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A module's statements, and the package that its relative imports start from."""

    body: list[ast.stmt]
    package: str


def offered_fields(offer: Offer) -> tuple[str, ...]:
    """Names of the fields of an offered dataclass, inherited ones first.

    What this package's own classes give to it is not repeated: those fields are in the shipped
    YAML files.  Empty where the source cannot be found or read: whoever uses a broken package is
    told so when it is loaded.
    """
    try:
        found = _fields(offer.entry.module, offer.entry.attr, set())
        names = [name for name in found if name.isascii() and not name.startswith("_")]
    except (OSError, ValueError, SyntaxError, ImportError, AttributeError, RecursionError):
        return ()
    return tuple(dict.fromkeys(names))


def _fields(module: str, name: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Fields of a class that a module defines or takes from another one."""
    source = _read(module)
    if source is None or (module, name) in seen:
        return
    seen.add((module, name))
    for statement in _statements(source.body):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            for base in statement.bases:
                yield from _fields(*_of_base(ast.unparse(base), module, source), seen)
            if any("dataclass" in ast.unparse(found) for found in statement.decorator_list):
                yield from _own_fields(statement)
            return
    origin = _imported(source).get(name)
    if origin is not None:
        yield from _fields(*origin, seen)


def _own_fields(found: ast.ClassDef) -> Iterator[str]:
    for statement in found.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        kind = ast.unparse(statement.annotation).strip("'\"").partition("[")[0]
        given = statement.value
        hidden = isinstance(given, ast.Call) and any(
            word.arg == "init" and ast.unparse(word.value) == "False" for word in given.keywords
        )
        if kind.rpartition(".")[2] not in ("ClassVar", "InitVar") and not hidden:
            yield statement.target.id


def _of_base(base: str, module: str, source: _Source) -> tuple[str, str]:
    """Module and name of a base as it is written: ``Base``, ``parts.Base`` or ``Base[int]``."""
    first, *rest = base.partition("[")[0].split(".")
    if not rest:
        return module, first
    room, name = _imported(source).get(first, (first, ""))
    return ".".join([room, *([name] if name else []), *rest[:-1]]), rest[-1]


def _imported(source: _Source) -> dict[str, tuple[str, str]]:
    """Module and name, which is empty for a module itself, of what a module imports."""
    found: dict[str, tuple[str, str]] = {}
    for statement in _statements(source.body):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or whole] = (whole, "")
        elif isinstance(statement, ast.ImportFrom):
            dots, room = "." * statement.level, statement.module or ""
            whole = importlib.util.resolve_name(dots + room, source.package) if dots else room
            found |= {alias.asname or alias.name: (whole, alias.name) for alias in statement.names}
    return found


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under conditions among them."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _statements([*statement.body, *statement.orelse])


def _read(module: str) -> _Source | None:
    """A module's source; None for one of ours, and for what is no Python file."""
    top, *rest = module.split(".")
    if top == OURS:
        return None
    # Only a module's parents are imported by a search for it, and this one has none.
    spec = importlib.util.find_spec(top)
    for depth in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = ".".join([top, *rest[: depth + 1]])
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    is_package = spec.submodule_search_locations is not None
    return _Source(
        body=ast.parse(Path(spec.origin).read_bytes()).body,
        package=module if is_package else module.rpartition(".")[0],
    )
