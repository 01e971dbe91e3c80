"""What people look at: the benchmark site over many runs, made of files alone.

``build`` reads run folders and writes a static site; what did not change since the last build is
not read again.  ``serve`` does so every few seconds and shows the site on this machine.
"""

from __future__ import annotations

from synthfactory.dashboard.server import serve
from synthfactory.dashboard.site import Built, build

__all__ = ["Built", "build", "serve"]
