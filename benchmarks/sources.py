"""What a measurement's result depends on: its module's source, and what that imports."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from synthfactory.artifacts import digest_bytes
from synthfactory.evaluation.suite import Suite

ROOM = "synthfactory.evaluation"


def home_of(suite: Suite) -> ModuleType:
    """The module that ends with this suite."""
    return next(
        module
        for name, module in list(sys.modules.items())
        if name.startswith(ROOM) and getattr(module, "SUITE", None) is suite
    )


def digest_of(suite: Suite) -> str:
    """A digest of all source files of the evaluation that a suite reaches through imports.

    Comments, docstrings and layout do not count.
    """
    found: dict[str, ast.Module] = {}
    waiting = [home_of(suite).__name__]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = importlib.import_module(name).__file__
        assert file is not None
        found[name] = _Bare().visit(ast.parse(Path(file).read_bytes()))
        waiting += _imports(found[name])
    return digest_bytes("\0".join(ast.unparse(found[name]) for name in sorted(found)).encode())


class _Bare(ast.NodeTransformer):
    """Without what is written for readers alone."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def _imports(source: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(ROOM):
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if _is_module(name)]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
