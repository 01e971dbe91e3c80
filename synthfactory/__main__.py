"""``python -m synthfactory`` is the command ``synthfactory``."""

from __future__ import annotations

import sys

from synthfactory.cli import main

if __name__ == "__main__":
    sys.exit(main())
