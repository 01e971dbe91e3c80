"""Load a release through its Croissant file: python croissant.py RELEASE; prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlcroissant


def main(release: str) -> None:
    path = Path(release, "croissant.json")
    dataset = mlcroissant.Dataset(jsonld=path)
    (rows,) = json.loads(path.read_bytes())["recordSet"]
    fields = sorted(field["@id"] for field in rows["field"])
    n_rows = 0
    for record in dataset.records(rows["@id"]):
        if sorted(record) != fields:
            sys.exit(f"expected the fields {fields}, got {sorted(record)}")
        n_rows += 1
    issues = dataset.metadata.ctx.issues
    print(json.dumps({"rows": n_rows, "fields": len(fields), "warnings": sorted(issues.warnings)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
