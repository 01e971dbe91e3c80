"""Where the package's own files and the user's own files lie."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of the shipped configuration: inside a wheel, or beside the checkout's package."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def user_config_dir() -> Path:
    """The user's configuration folder for synthfactory (XDG base directory specification)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".config"
    return root / "synthfactory"
