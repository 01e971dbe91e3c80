"""Make the embedded Parquet tables from UCI's CSV files.

    python benchmarks/embed_tables.py FOLDER

FOLDER holds ``adult.csv``, ``bank.csv`` and ``shoppers.csv`` with a header each.  Cells are
trimmed, and ``?`` becomes missing; nothing else is changed.  The same files give the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import synthfactory as sf

HOME = Path(__file__).resolve().parents[1] / "synthfactory" / "tables" / "data"


def main(folder: Path) -> None:
    """Write one Parquet file per table."""
    for name in ("adult", "bank", "shoppers"):
        table = sf.read_table(folder / f"{name}.csv")
        table.write_parquet(HOME / f"{name}.parquet")
        print(f"{name}: {table.n_rows} rows, {len(table.column_names)} columns, {table.digest}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
