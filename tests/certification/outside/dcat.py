"""Hold a release's DCAT file against SHACL shapes: python dcat.py RELEASE SHAPES...

Prints what does not conform; exits with 0 only if the file conforms to all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyshacl
import rdflib


def main(release: str, *shapes: str) -> int:
    graph = rdflib.Graph().parse(Path(release, "dcat.jsonld"), format="json-ld")
    bad = 0
    for path in shapes:
        conforms, _, text = pyshacl.validate(
            graph, shacl_graph=rdflib.Graph().parse(path, format="turtle"), inference="none"
        )
        print(Path(path).name, "conforms" if conforms else text)
        bad += not conforms
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
