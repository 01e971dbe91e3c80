"""Numbers, spans and names as they are read."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

Json = Mapping[str, Any]
# With a space that does not break: no line begins with a percent sign.
PERCENT = "\u00a0%"
# Counts, and what is so small that three places would hide it.
_OWN_DIGITS = frozenset({"people", "squared kernel distance"})
_SHARES = frozenset({"share", "rate", "rates", "proportion", "similarity"})


def number(value: float | None, unit: str = "") -> str:
    """A number for reading: shares in percent, three significant digits, a true minus sign.

    >>> number(0.50312, "share"), number(0.87345), number(12345.6), number(-0.004, "share")
    ('50.3\\xa0%', '0.873', '12,300', '−0.4\\xa0%')
    >>> number(None), number(0.0001234, "share"), number(12345), number(0.6000000001)
    ('–', '0.0123\\xa0%', '12,345', '0.6')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if is_share(unit):
        return f"{_digits(100 * value)}{PERCENT}"
    return f"{value:,}".replace("-", "−") if isinstance(value, int) else _digits(value)


def is_share(unit: str) -> bool:
    """Whether a unit is a part of a whole, written in percent.

    >>> is_share("share of rows"), is_share("difference of success rates"), is_share("AUC")
    (True, True, False)
    """
    return not _SHARES.isdisjoint(unit.replace(",", " ").split())


def measured(value: float | None, unit: str = "") -> str:
    """A measured number with as many digits as its neighbours: no trailing zero is dropped.

    >>> measured(0.51, "share"), measured(0.0004, "share"), measured(0.9), measured(-0.11)
    ('51.0\\xa0%', '0.04\\xa0%', '0.900', '−0.110')
    >>> measured(0.00447, "squared kernel distance"), measured(3.0, "people")
    ('0.00447', '3')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if unit in _OWN_DIGITS:
        return number(value)
    return f"{points(value)}{PERCENT}" if is_share(unit) else _fixed(value, 3)


def points(value: float | None) -> str:
    """A share as a plain number out of 100.

    >>> points(0.503), points(0.51), points(0.0004)
    ('50.3', '51.0', '0.04')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return _fixed(100 * value, 1 if abs(value) >= 0.00995 or value == 0 else 2)


def plain_text(text: object) -> str:
    """A name as it may be shown: control and direction-changing characters become ``�``.

    Such characters could make a name look like another one, or run into the text around it.

    >>> plain_text("a\\u202eb\\x00\\tc")
    'a�b��c'
    """
    return "".join(
        "�" if unicodedata.category(sign) in {"Cc", "Cf", "Cs"} and sign not in _JOINERS else sign
        for sign in str(text)
    )


# Zero-width joiner and non-joiner belong to emoji and to several scripts.
_JOINERS = "\u200c\u200d"


def short(text: object, length: int) -> str:
    """``text`` cut to ``length`` signs.

    >>> short("capital-gain", 8)
    'capital…'
    """
    plain = plain_text(text)
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def span(finding: Json, write: Callable[[float | None], str]) -> str:
    """The interval of a measurement in words: ``49.6 to 51.0``."""
    return f"{write(finding.get('lcb'))} to {write(finding.get('ucb'))}"


def p_value(value: float | None) -> str:
    """A p value for reading; none is ever 0.

    >>> p_value(0.0), p_value(0.0312), p_value(1.0)
    ('p < 0.001', 'p 0.0312', 'p 1')
    """
    if value is None or not math.isfinite(value):
        return "p –"
    return "p < 0.001" if value < 0.001 else f"p {number(value)}"


def _fixed(value: float, places: int) -> str:
    if abs(value) >= 1_000:
        return _digits(value)
    text = f"{value:.{places}f}"
    return (text.removeprefix("-") if not text.strip("-0.") else text).replace("-", "−")


def _digits(value: float) -> str:
    """Three significant digits and no trailing zeros after the fourth place."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    text = f"{rounded:,.{min(places, 6)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")
