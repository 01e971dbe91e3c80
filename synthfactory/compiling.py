"""Inner loops that are compiled; importing this imports numba.

Nothing is compiled before the first call, and what was compiled is kept on disk where that is
possible.  The loops release Python's lock and start no threads of their own: numba's threading
layers abort the process when two Python threads (two tasks of one worker, say) enter a parallel
loop at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile at the first call; kept on disk unless no folder can be written.

    A division by 0 gives what floating-point arithmetic says, as in NumPy: to ask each time whether
    it is one would keep loops from being vectorised.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(Function, numba.njit(function, cache=True, **options))
    except RuntimeError:  # "cannot cache function": installation and home are read-only
        return cast(Function, numba.njit(function, **options))
