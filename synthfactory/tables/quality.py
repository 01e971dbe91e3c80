"""How complete and consistent a table is: counts only, no values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from synthfactory.tables.encode import Encoder
from synthfactory.tables.rows import row_numbers
from synthfactory.tables.table import Table


def quality_report(table: Table) -> dict[str, Any]:
    """Aggregates about a table's completeness and consistency.

    Returns
    -------
    dict
        ``rows``, ``columns``, ``duplicate_rows`` (identifiers aside), and by column ``kind``,
        ``missing_share`` and ``constant``.
    """
    (numbers,) = row_numbers(Encoder(table.schema).encode(table))
    return {
        "rows": table.n_rows,
        "columns": len(table.schema.columns),
        "duplicate_rows": table.n_rows - len(np.unique(numbers)),
        "by_column": {
            column.name: {
                "kind": column.kind,
                "missing_share": table.data.column(column.name).null_count / max(table.n_rows, 1),
                "constant": pc.count_distinct(table.data.column(column.name)).as_py() <= 1,
            }
            for column in table.schema.columns
        },
    }
