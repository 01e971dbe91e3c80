"""Rows at scale: any number of rows of a fitted model, as Parquet parts, on any cluster.

The rows are divided into logical shards, each with a stream of chance of its own, and the shards
into parts; both depend on the request alone.  A part is one file and one task: it is written shard
by shard, so memory does not grow with it, and gets its name when it is whole.  So the number of
workers, the kind of cluster and the order of completion cannot change a byte, and whoever is killed
loses the parts that were being written, no more.

::

    <output>/
      request.json           what was asked for; another request is refused
      data/part-*.parquet    the rows; a row group for each shard
      records/part-*.json    rows, size and digest of each finished part, until all are finished
      manifest.json          all of them under one Merkle root; it comes last
"""

from __future__ import annotations

from synthfactory.generation.making import Generated as Generated
from synthfactory.generation.making import generate as generate
from synthfactory.generation.parts import make_part as make_part
from synthfactory.generation.plan import Part as Part
from synthfactory.generation.plan import Plan as Plan
from synthfactory.generation.plan import Request as Request
from synthfactory.generation.plan import choose_shards_per_part as choose_shards_per_part
from synthfactory.generation.plan import software as software
from synthfactory.generation.watching import Advance as Advance
