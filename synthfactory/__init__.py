"""synthfactory: from a confidential table to a certified synthetic dataset.

The names below are the public Python interface.  They are resolved on first use, so that
``import synthfactory`` loads neither torch, dask nor hydra.

>>> import synthfactory as sf
>>> sf.CTGAN(epochs=10).epochs
10
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthfactory.certification import Policy as Policy
    from synthfactory.certification import Verdict as Verdict
    from synthfactory.certification import Verification as Verification
    from synthfactory.certification import decide as decide
    from synthfactory.certification.verify import verify as verify
    from synthfactory.evaluation import Evaluation as Evaluation
    from synthfactory.evaluation import Findings as Findings
    from synthfactory.evaluation import Measurement as Measurement
    from synthfactory.generators import CART as CART
    from synthfactory.generators import CTGAN as CTGAN
    from synthfactory.generators import SDVCTGAN as SDVCTGAN
    from synthfactory.generators import SDVTVAE as SDVTVAE
    from synthfactory.generators import TVAE as TVAE
    from synthfactory.generators import Bootstrap as Bootstrap
    from synthfactory.generators import Independent as Independent
    from synthfactory.generators import SDVGaussianCopula as SDVGaussianCopula
    from synthfactory.generators import from_ctgan as from_ctgan
    from synthfactory.generators import load_model as load_model
    from synthfactory.history import RunRecord as RunRecord
    from synthfactory.history import Runs as Runs
    from synthfactory.history import runs as runs
    from synthfactory.notebook import Certificate as Certificate
    from synthfactory.notebook import certificate as certificate
    from synthfactory.shadowing import evaluate as evaluate
    from synthfactory.tables import Column as Column
    from synthfactory.tables import RareValues as RareValues
    from synthfactory.tables import Schema as Schema
    from synthfactory.tables import Table as Table
    from synthfactory.tables import merge_rare as merge_rare
    from synthfactory.tables import read_table as read_table
    from synthfactory.tables import split as split

__version__ = "0.1.0"

_HOME = {
    "tables": ("Column", "RareValues", "Schema", "Table", "merge_rare", "read_table", "split"),
    "generators": (
        "CTGAN",
        "TVAE",
        "CART",
        "Independent",
        "Bootstrap",
        "SDVCTGAN",
        "SDVTVAE",
        "SDVGaussianCopula",
        "from_ctgan",
        "load_model",
    ),
    "evaluation": ("Evaluation", "Findings", "Measurement"),
    "shadowing": ("evaluate",),
    "history": ("RunRecord", "Runs", "runs"),
    "notebook": ("Certificate", "certificate"),
    "certification": ("Policy", "Verdict", "Verification", "decide", "verify"),
}
_ROOM_OF = {name: room for room, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_ROOM_OF)]


def __getattr__(name: str) -> Any:
    try:
        room = _ROOM_OF[name]
    except KeyError:
        raise AttributeError(f"module 'synthfactory' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f"synthfactory.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
