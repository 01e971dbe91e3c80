"""How complete and consistent a table is: counts only, no values."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from synthfactory.tables.split import row_keys
from synthfactory.tables.table import Table


def quality_report(table: Table) -> dict[str, Any]:
    """Aggregates about a table's completeness and consistency.

    Returns
    -------
    dict
        ``rows``, ``columns``, ``duplicate_rows`` (identifiers aside), and by column ``kind``,
        ``missing_share`` and ``constant``.
    """
    names = [column.name for column in table.schema.columns if column.kind != "identifier"]
    keys = row_keys(table, names)
    return {
        "rows": table.n_rows,
        "columns": len(table.schema.columns),
        "duplicate_rows": len(keys) - len(set(keys)),
        "by_column": {
            column.name: {
                "kind": column.kind,
                "missing_share": table.data.column(column.name).null_count / max(table.n_rows, 1),
                "constant": pc.count_distinct(table.data.column(column.name)).as_py() <= 1,
            }
            for column in table.schema.columns
        },
    }
