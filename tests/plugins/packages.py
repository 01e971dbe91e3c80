"""Tiny packages that offer a generator, installed into a folder as pip would install them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def documented_source() -> str:
    """The generator of the page on extending: the first block of Python."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def install(
    folder: Path,
    *,
    package: str = "mylab-uniform",
    module: str = "mylab_uniform",
    version: str = "1.0.0",
    source: str | None = None,
    changes: Mapping[str, str] | None = None,
    offers: Mapping[str, str] | None = None,
) -> Path:
    """Put a package with its metadata into a folder, which becomes a place of ``sys.path``.

    Parameters
    ----------
    source
        Of its module; the documented generator when None.
    changes
        Parts of the source that are replaced.
    offers
        Group to ``name = module:class``; by default what the page on extending says.
    """
    text = documented_source() if source is None else source
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(text)
    told = offers or {
        "synthfactory.generators": f"uniform = {module}:Uniform",
        "synthfactory.models": f"uniform = {module}:UniformModel",
    }
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(
        "".join(f"[{group}]\n{line}\n\n" for group, line in told.items())
    )
    (info / "RECORD").write_text(f"{module}.py,,\n{info.name}/METADATA,,\n")
    return folder
