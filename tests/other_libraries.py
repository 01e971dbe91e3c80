"""Other people's libraries, beside which some tests run: ``make parity``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., None])


def parity(test: Test) -> Test:
    """Mark a test that needs other libraries; what they warn of is theirs."""
    marked: Test = pytest.mark.parity(pytest.mark.filterwarnings("ignore")(test))
    return marked


def library(name: str) -> Any:
    """A module of another library; without it the test is skipped."""
    return pytest.importorskip(
        name, reason=f"needs {name.split('.')[0]} (extra audit-parity; run `make parity`)"
    )


def method_from_source(
    package: str, file: str, class_name: str, method: str, names: dict[str, Any]
) -> Callable[..., Any]:
    """A method of a package whose module cannot be imported without gigabytes of others.

    Parameters
    ----------
    package, file
        The distribution, installed without its dependencies, and the module's path inside it.
    class_name, method
        What to take; decorators are left away.
    names
        The modules that the method uses, by the names that it gives them.
    """
    try:
        path = Path(str(metadata.distribution(package).locate_file(file)))
    except metadata.PackageNotFoundError:
        pytest.skip(f"needs {package}'s source (pip install --no-deps {package}; `make parity`)")
    module = ast.parse(path.read_text(encoding="utf-8"))
    (owner,) = (
        node for node in module.body if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    (function,) = (
        node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == method
    )
    function.decorator_list = []
    found = dict(names)
    exec(compile(ast.Module([function], []), str(path), "exec"), found)
    taken: Callable[..., Any] = found[method]
    return taken
