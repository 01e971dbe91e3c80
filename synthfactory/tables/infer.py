"""What each column is taken for, and why; and bringing a file into the form of a schema.

Declared values win over inferred ones.  Each rule below is one sentence in the reasons that
`synthfactory inspect` prints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthfactory.errors import SchemaError, TableError, did_you_mean
from synthfactory.tables.schema import KINDS, Column, Level, Schema
from synthfactory.tables.table import Table, columns_differ

MISSING_VALUES = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "null", "NULL", "<NA>", "?")
MAX_INTEGER = 2**53 - 1
FEW_LEVELS = 24
ROWS_PER_LEVEL = 50

_INTEGER = r"^[+-]?(0|[1-9][0-9]*)$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
ISO_8601 = "ISO 8601"
_DATE_FORMATS = (
    ("%Y-%m-%d", "date32[day]"),
    ("%Y-%m-%d %H:%M:%S", "timestamp[us]"),
    ("%Y-%m-%dT%H:%M:%S", "timestamp[us]"),
    ("%Y-%m-%d %H:%M", "timestamp[us]"),
    (ISO_8601, "timestamp[us]"),
    ("%Y/%m/%d", "date32[day]"),
    ("%d.%m.%Y", "date32[day]"),
    ("%d/%m/%Y", "date32[day]"),
    ("%m/%d/%Y", "date32[day]"),
    ("%d/%m/%Y %H:%M", "timestamp[us]"),
    ("%m/%d/%Y %H:%M", "timestamp[us]"),
)
_ID_NAME = re.compile(
    r"(?i)(^|[_\W])(id|uuid|guid|key|nr|no|number|index|instant|row|rownumber)$|[a-z](Id|ID|Number)$"
)
_PERSON_NAME = re.compile(
    r"(?i)(^|[_\W]|sur|fore|last|first|full|user|nick)(names?|mail|e-?mail|phone|telephone|mobile|"
    r"ssn|passport|address|street|iban)$"
)
_TARGET_NAMES = (
    "target", "label", "class", "outcome", "y", "income", "exited", "churn", "revenue", "default",
    "survived", "diagnosis", "response", "cnt", "pm", "price", "died", "readmitted",
)  # fmt: skip
_QUASI_NAMES = re.compile(
    r"(?i)(^|[_\W])(age|sex|gender|race|ethnicity|zip|zipcode|postcode|postal|city|region|country|"
    r"geography|native-country|nationality|marital|marital-status|education|job|occupation|"
    r"birth|birthdate|dob|workclass)($|[_\W])"
)
_SENSITIVE_NAMES = re.compile(
    r"(?i)(income|salary|balance|disease|diagnos|illness|hiv|credit|loan|capital-gain|religion|"
    r"outcome|default$)"
)


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A file's columns as they stand: texts for CSV, typed for Parquet."""

    path: Path
    data: pa.Table
    is_text: bool
    missing_values: tuple[str, ...]

    def column(self, name: str) -> pa.Array:
        """A column with surrounding whitespace removed and missing values as nulls."""
        values = self.data.column(name).combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = (
                pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
            )
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
            values = values.cast(pa.string())
        if pa.types.is_string(values.type):
            if self.is_text:
                values = pc.utf8_trim_whitespace(values)
            missing = pc.is_in(values, value_set=pa.array(self.missing_values, pa.string()))
            values = pc.if_else(missing, pa.scalar(None, pa.string()), values)
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        return values


def infer_schema(
    raw: Raw,
    *,
    columns: Mapping[str, Mapping[str, Any]],
    target: str | None = None,
    entity: str | None = None,
    quasi_identifiers: Sequence[str] = (),
    sensitive: Sequence[str] = (),
) -> tuple[Schema, dict[str, str]]:
    """The schema of a file, and for each column (and role) the reason.

    Raises
    ------
    TableError
        When a column holds values that fit no kind, such as infinities or nested lists.
    SchemaError
        When a declared column or role does not exist.
    """
    names = raw.data.column_names
    for name in columns:
        if name not in names:
            raise SchemaError(
                f"A column '{name}' is declared, but {raw.path} has none{did_you_mean(name, names)}"
            )
    reasons: dict[str, str] = {}
    inferred = []
    for name in names:
        column, reasons[name] = _infer_column(raw, name, columns.get(name, {}), entity == name)
        inferred.append(column)
    learnt = [column for column in inferred if column.kind != "identifier"]
    if not learnt:
        raise TableError(
            f"{raw.path} holds nothing but identifiers ({', '.join(names)}), which are never "
            "learnt. Declare the kind of the columns that should be."
        )
    if len(learnt) == 1 and len(names) == 1:
        reasons["(table)"] = "one column: no dependence between columns can be learnt"
    if target is None:
        target, why = _suggest_target(inferred)
        if target is not None:
            reasons["target"] = why
    quasi = tuple(quasi_identifiers) or tuple(
        column.name
        for column in learnt
        if column.name != target and _QUASI_NAMES.search(column.name)
    )
    secrets = tuple(sensitive) or tuple(
        column.name
        for column in learnt
        if _SENSITIVE_NAMES.search(column.name) and column.name not in quasi
    )
    schema = Schema(
        columns=tuple(inferred),
        target=target,
        entity=entity,
        quasi_identifiers=quasi,
        sensitive=secrets,
    )
    return schema, reasons


def conform(raw: Raw, schema: Schema) -> Table:
    """The file's rows in the form of a schema.

    Raises
    ------
    SchemaError
        When columns are missing or superfluous, or values do not fit their column.
    """
    if set(raw.data.column_names) != set(schema.names):
        raise SchemaError(columns_differ(schema.names, raw.data.column_names))
    arrays = {column.name: _convert(raw, column) for column in schema.columns}
    return Table(data=pa.table(arrays), schema=schema)


def _infer_column(
    raw: Raw, name: str, declared: Mapping[str, Any], is_entity: bool
) -> tuple[Column, str]:
    unknown = set(declared) - set(Column.__dataclass_fields__)
    if unknown:
        word = sorted(unknown)[0]
        raise SchemaError(
            f"Column '{name}': there is no property '{word}'"
            f"{did_you_mean(word, Column.__dataclass_fields__)}"
        )
    if "kind" in declared and declared["kind"] not in KINDS:
        raise SchemaError(
            f"Column '{name}': expected a kind among {', '.join(KINDS)}, got "
            f"'{declared['kind']}'{did_you_mean(str(declared['kind']), KINDS)}"
        )
    values = raw.column(name)
    if declared.get("dtype") == "string" and not pa.types.is_temporal(values.type):
        values = values.cast(pa.string())
    guess, reason = _guess(raw.path, name, values, declared, is_entity)
    properties = {"name": name, "nullable": values.null_count > 0, **guess, **declared}
    if "kind" in declared and declared["kind"] != guess.get("kind"):
        reason = "declared"
    if properties["kind"] == "boolean":
        properties["categories"] = (False, True)
    if properties["kind"] in ("numerical", "datetime", "identifier"):
        properties["categories"] = ()
    if properties["kind"] not in ("numerical", "datetime"):
        for bound in ("minimum", "maximum", "decimals"):
            properties.pop(bound, None)
    return Column(**properties), reason


def _guess(
    path: Path, name: str, values: pa.Array, declared: Mapping[str, Any], is_entity: bool
) -> tuple[dict[str, Any], str]:
    """Properties of a column and the reason, honouring a declared kind."""
    present = values.drop_null()
    kind = declared.get("kind")
    stays_text = declared.get("dtype") == "string" and kind in ("categorical", "ordinal")
    if kind == "identifier" or (is_entity and kind is None):
        return _identifier(present), "declared" if kind else "says which rows belong together"
    if len(present) == 0:
        empty = {"numerical": "double", "datetime": "timestamp[us]"}.get(kind or "")
        if empty:
            return {"kind": kind, "dtype": empty}, "declared; no value at all"
        return _levels("categorical", pa.array([], pa.string())), "no value at all: stays missing"
    typed, how = (present, {}) if stays_text else _typed(path, name, present, kind)
    if kind is None:
        kind, reason = _choose_kind(name, typed)
    else:
        reason = "declared"
    if kind == "identifier":
        return _identifier(typed), reason
    if kind in ("categorical", "ordinal", "boolean"):
        return _levels(kind, typed), reason
    return {**_range(kind, typed), **how}, reason


def _typed(
    path: Path, name: str, present: pa.Array, kind: str | None
) -> tuple[pa.Array, dict[str, Any]]:
    """Values in their own type: texts that are numbers, dates or truths are converted."""
    if pa.types.is_string(present.type):
        return _typed_text(path, name, present, kind)
    if pa.types.is_boolean(present.type):
        return present, {}
    if pa.types.is_integer(present.type):
        return _whole(name, present), {}
    if pa.types.is_decimal(present.type) or pa.types.is_floating(present.type):
        return _finite(path, name, present.cast(pa.float64(), safe=False)), {}
    if pa.types.is_date(present.type):
        return present.cast(pa.date32()), {}
    if pa.types.is_timestamp(present.type):
        return present.cast(pa.timestamp("us"), safe=False), {}
    raise TableError(
        f"{path}: column '{name}' has the Arrow type {present.type}; expected numbers, texts, "
        "booleans or dates. Flatten or drop it."
    )


def _typed_text(
    path: Path, name: str, present: pa.Array, kind: str | None
) -> tuple[pa.Array, dict[str, Any]]:
    lower = pc.utf8_lower(present)
    if pc.all(pc.is_in(lower, value_set=pa.array(["true", "false"]))).as_py():
        return pc.equal(lower, "true"), {}
    if _all_match(present, _INTEGER):
        # A double cannot hold more than 16 digits: longer numbers are names, not quantities.
        longest = pc.max(pc.utf8_length(present)).as_py()
        whole = present if longest > 16 else _whole(name, present.cast(pa.int64()))
        if kind == "numerical" and pa.types.is_string(whole.type):
            raise TableError(
                f"{path}: column '{name}' is declared numerical but holds whole numbers beyond "
                f"{MAX_INTEGER}, which cannot be learnt exactly; declare it an identifier or "
                "categorical."
            )
        return whole, {}
    infinite = pc.match_substring_regex(present, _INFINITE)
    numeric = pc.match_substring_regex(present, _NUMBER)
    leading_zeros = pc.match_substring_regex(present, r"^[+-]?0[0-9]")
    n_numeric, n_zeros = pc.sum(numeric).as_py(), pc.sum(leading_zeros).as_py()
    if pc.any(infinite).as_py() and (n_numeric or kind == "numerical"):
        n_infinite = pc.sum(infinite).as_py()
        raise TableError(
            f"{path}: column '{name}' holds {n_infinite} infinite values; replace them with "
            "numbers, or leave them empty."
        )
    if n_numeric == len(present) and (not n_zeros or kind == "numerical"):
        return _finite(path, name, present.cast(pa.float64())), {}
    if kind in (None, "datetime"):
        dated = _dates(present)
        if dated is not None:
            return dated
    if kind == "numerical" or (kind is None and n_numeric * 2 > len(present) and not n_zeros):
        said = "is declared numerical but holds" if kind else "is mostly numbers but holds"
        raise TableError(f"{path}: column '{name}' {said} {_strange(present, numeric)}")
    if kind == "datetime":
        raise TableError(
            f"{path}: column '{name}' is declared datetime, but its texts follow none of the known "
            f"formats ({', '.join(form for form, _ in _DATE_FORMATS)}); declare its date_format."
        )
    return present, {}


def _strange(present: pa.Array, fits: pa.Array) -> str:
    odd = present.filter(pc.invert(fits))
    first = odd[0].as_py()
    return (
        f"{len(odd)} strings, first '{first[:40]}'; declare it categorical "
        f"(columns: {{kind: categorical}}), name '{first[:40]}' under missing_values, or clean it."
    )


def _whole(name: str, present: pa.Array) -> pa.Array:
    """Integers that a double can hold exactly, else texts."""
    if pa.types.is_uint64(present.type) or pa.types.is_int64(present.type):
        bounds = pc.min_max(present).as_py()
        if bounds["max"] > MAX_INTEGER or bounds["min"] < -MAX_INTEGER:
            return present.cast(pa.string())
    return present.cast(pa.int64())


def _finite(path: Path, name: str, present: pa.Array) -> pa.Array:
    n_infinite = pc.sum(pc.is_inf(present)).as_py()
    if n_infinite:
        raise TableError(
            f"{path}: column '{name}' holds {n_infinite} infinite values; replace them with "
            "numbers, or leave them empty."
        )
    return pc.add(present, 0.0)  # -0.0 and 0.0 are one value.


def _dates(present: pa.Array) -> tuple[pa.Array, dict[str, Any]] | None:
    for form, dtype in _DATE_FORMATS:
        parsed = parse_dates(present.slice(0, 100), form)
        if parsed.null_count:
            continue
        parsed = parse_dates(present, form)
        if not parsed.null_count:
            return parsed.cast(pa.type_for_alias(dtype)), {"date_format": form}
    return None


def parse_dates(texts: pa.Array, form: str) -> pa.Array:
    """Texts as timestamps in microseconds; null where the format does not fit."""
    if form == ISO_8601:
        # Fractions of a second and time zones; zones are turned into UTC.
        try:
            zoned = pc.any(pc.match_substring_regex(texts, r"(Z|[+-]\d\d:?\d\d)$")).as_py()
            kind = pa.timestamp("us", tz="UTC" if zoned else None)
            return texts.cast(kind).cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            return pa.nulls(len(texts), pa.timestamp("us"))
    return pc.strptime(texts, format=form, unit="us", error_is_null=True)


def _all_match(present: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(present, pattern)).as_py())


def _choose_kind(name: str, typed: pa.Array) -> tuple[str, str]:
    """A kind and the reason, from the typed, present values of a column."""
    n_rows = len(typed)
    n_levels = pc.count_distinct(typed).as_py()
    if pa.types.is_boolean(typed.type):
        return "boolean", "true and false"
    if pa.types.is_date(typed.type) or pa.types.is_timestamp(typed.type):
        return "datetime", "dates"
    few = n_levels <= FEW_LEVELS and n_rows >= ROWS_PER_LEVEL * n_levels
    if pa.types.is_string(typed.type):
        return _choose_text_kind(name, typed, n_rows, n_levels)
    if pa.types.is_integer(typed.type):
        bounds = pc.min_max(typed).as_py()
        if n_levels == n_rows and n_rows > 1 and bounds["max"] - bounds["min"] + 1 == n_rows:
            return "identifier", "consecutive whole numbers, each once: a row number"
        if n_levels == n_rows and n_rows > 1 and _ID_NAME.search(name):
            return "identifier", "whole numbers, each once, named like an identifier"
        if n_levels == n_rows and n_rows > 1 and min(abs(bounds["min"]), bounds["max"]) >= 10_000:
            return "identifier", "long whole numbers, each once: they look like account numbers"
        if n_levels <= 2:
            return "categorical", f"{n_levels} whole numbers"
        if few:
            return "ordinal", f"{n_levels} whole numbers in {n_rows} rows: codes or small counts"
        return "numerical", f"{n_levels} different whole numbers"
    if few:
        return "ordinal", f"{n_levels} different numbers in {n_rows} rows"
    return "numerical", f"{n_levels} different numbers"


def _choose_text_kind(name: str, typed: pa.Array, n_rows: int, n_levels: int) -> tuple[str, str]:
    if n_levels == n_rows and n_rows > 1:
        return "identifier", "texts, each once"
    if _PERSON_NAME.search(name) and n_levels > ROWS_PER_LEVEL:
        return "identifier", f"{n_levels} texts, named like a direct identifier"
    if pc.all(pc.match_substring_regex(typed, r"^[^@\s]+@[^@\s]+\.[^@\s]+$")).as_py():
        return "identifier", "mail addresses"
    if n_levels > 100 and n_levels * 2 > n_rows:
        return "identifier", f"{n_levels} different texts in {n_rows} rows: names or free text"
    return "categorical", f"{n_levels} texts"


def _identifier(present: pa.Array) -> dict[str, Any]:
    kind = "int64" if pa.types.is_integer(present.type) else "string"
    if pa.types.is_string(present.type) and len(present) and _all_match(present, _INTEGER):
        kind = "int64" if pc.max(pc.utf8_length(present)).as_py() <= 15 else "string"
    return {"kind": "identifier", "dtype": kind}


def _levels(kind: str, typed: pa.Array) -> dict[str, Any]:
    if pa.types.is_date(typed.type) or pa.types.is_timestamp(typed.type):
        typed = typed.cast(pa.string())
    levels: list[Level] = sorted(pc.unique(typed).to_pylist())
    if kind == "boolean":
        return {"kind": kind, "dtype": "bool", "categories": (False, True)}
    return {"kind": kind, "dtype": str(typed.type), "categories": tuple(levels)}


def _range(kind: str, typed: pa.Array) -> dict[str, Any]:
    if kind == "datetime":
        micros = typed.cast(pa.timestamp("us")).cast(pa.int64())
        bounds = pc.min_max(micros).as_py()
        whole = pc.all(
            pc.equal(pc.subtract(micros, pc.multiply(pc.divide(micros, 1_000_000), 1_000_000)), 0)
        )
        return {
            "kind": kind,
            "dtype": str(typed.type),
            "minimum": bounds["min"] / 1e6,
            "maximum": bounds["max"] / 1e6,
            "decimals": 0 if whole.as_py() else None,
        }
    numbers = np.asarray(typed.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return {
        "kind": kind,
        "dtype": str(typed.type),
        "minimum": float(numbers.min()),
        "maximum": float(numbers.max()),
        "decimals": 0 if pa.types.is_integer(typed.type) else _decimals(numbers),
    }


def _decimals(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> int | None:
    """Digits after the point that hold every number, or None for more than nine."""
    largest = float(np.abs(numbers).max(initial=1.0))
    for digits in range(10):
        # Beyond 15 significant digits a double cannot tell.
        if digits + math.log10(max(largest, 1.0)) > 15:
            return None
        if np.array_equal(np.round(numbers, digits), numbers):
            return digits
    return None


def _suggest_target(columns: Sequence[Column]) -> tuple[str | None, str]:
    learnt = [column for column in columns if column.kind not in ("identifier", "datetime")]
    for hint in _TARGET_NAMES:
        for column in learnt:
            if column.name.lower() == hint and _varies(column):
                return column.name, f"named '{column.name}'"
    for column in learnt[-1:] if len(learnt) > 1 else []:
        if column.is_discrete and 2 <= len(column.categories) <= 20:
            return column.name, "the last column, with few levels"
    return None, ""


def _varies(column: Column) -> bool:
    return len(column.categories) > 1 or column.is_numeric


def _convert(raw: Raw, column: Column) -> pa.Array:
    """A column of a file in the form that the schema says."""
    values = raw.column(column.name)
    if values.null_count and not column.nullable:
        raise SchemaError(
            f"Column '{column.name}' has {values.null_count} missing values, but its schema allows "
            "none; declare it nullable, or fill them."
        )
    kind = pa.type_for_alias(column.dtype)
    try:
        if pa.types.is_boolean(kind) and pa.types.is_string(values.type):
            values = _truths(column, values)
        elif column.kind == "datetime" and pa.types.is_string(values.type):
            values = _times(column, values)
        elif pa.types.is_integer(kind) and pa.types.is_string(values.type):
            values = (
                values.cast(pa.float64()).cast(kind) if column.is_numeric else values.cast(kind)
            )
        elif column.kind == "datetime":
            values = values.cast(pa.timestamp("us"), safe=False)
        converted = values.cast(kind)
    except pa.ArrowException as error:
        fits = (
            pc.fill_null(pc.match_substring_regex(values, _NUMBER), True)
            if pa.types.is_string(values.type)
            else None
        )
        told = (
            f"holds {_strange(values, fits)}"
            if fits is not None and not pc.all(fits).as_py()
            else f"does not fit: {error}"
        )
        raise SchemaError(
            f"Column '{column.name}' is declared {column.kind} ({column.dtype}) but {told}"
        ) from error
    if pa.types.is_floating(kind):
        converted = pc.add(converted, 0.0)
    if column.is_discrete:
        _check_levels(column, converted)
    return converted


def _truths(column: Column, values: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(values)
    truths = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    places = pc.index_in(lower, value_set=pa.array(list(truths)))
    if places.null_count != values.null_count:
        raise SchemaError(
            f"Column '{column.name}' is declared boolean, but holds more than true and false."
        )
    return pa.array(list(truths.values())).take(places)


def _times(column: Column, values: pa.Array) -> pa.Array:
    forms = [column.date_format] if column.date_format else [form for form, _ in _DATE_FORMATS]
    for form in forms:
        parsed = parse_dates(values, form)
        if parsed.null_count == values.null_count:
            return parsed
    raise SchemaError(
        f"Column '{column.name}' is declared datetime, but its texts do not follow "
        f"{' or '.join(forms)}; declare its date_format."
    )


def _check_levels(column: Column, values: pa.Array) -> None:
    levels = pa.array(column.categories, type=values.type)
    known = pc.or_(pc.is_in(values, value_set=levels), pc.is_null(values))
    if not pc.all(known).as_py():
        n_strange = pc.sum(pc.invert(known)).as_py()
        row = pc.index(known, False).as_py() + 1
        raise SchemaError(
            f"Column '{column.name}' holds {n_strange} values outside its {len(levels)} "
            f"categories, first in row {row}; add them to the categories, or clean them."
        )
