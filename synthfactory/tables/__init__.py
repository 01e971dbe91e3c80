"""What a table is: schema, reading, inference, split, encoding, quality."""

from __future__ import annotations

from synthfactory.tables.dataset import Dataset as Dataset
from synthfactory.tables.dataset import inspect_file as inspect_file
from synthfactory.tables.encode import Encoded as Encoded
from synthfactory.tables.encode import Encoder as Encoder
from synthfactory.tables.infer import infer_schema as infer_schema
from synthfactory.tables.parquet import ROW_GROUP as ROW_GROUP
from synthfactory.tables.parquet import Writer as Writer
from synthfactory.tables.parquet import bits_per_row as bits_per_row
from synthfactory.tables.pseudonyms import check_room as check_room
from synthfactory.tables.quality import quality_report as quality_report
from synthfactory.tables.rare import OTHER as OTHER
from synthfactory.tables.rare import RareValues as RareValues
from synthfactory.tables.rare import merge_rare as merge_rare
from synthfactory.tables.read import read_columns as read_columns
from synthfactory.tables.read import read_table as read_table
from synthfactory.tables.rows import row_numbers as row_numbers
from synthfactory.tables.schema import Column as Column
from synthfactory.tables.schema import Schema as Schema
from synthfactory.tables.split import Parts as Parts
from synthfactory.tables.split import Split as Split
from synthfactory.tables.split import entity_numbers as entity_numbers
from synthfactory.tables.split import people_of as people_of
from synthfactory.tables.split import split as split
from synthfactory.tables.split import split_report as split_report
from synthfactory.tables.table import Table as Table
