"""Small HTML for notebooks: escaped, without style sheets, scripts or remote resources."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def html_table(headings: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """A table, with a line below it.

    >>> html_table(["a"], [["<b>"], [None]], note="2 rows")
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr><tr><td></td></tr></tbody></table><p><small>2 rows</small></p>'
    """  # noqa: E501
    head = "".join(f"<th>{_text(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    made = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return made + (paragraph(note) if note else "")


def paragraph(text: str) -> str:
    """A line of small text."""
    return f"<p><small>{_text(text)}</small></p>"


def title(text: str) -> str:
    """A line that names what follows."""
    return f"<p><strong>{_text(text)}</strong></p>"


def short_number(value: object) -> str:
    """Four significant digits; empty for what was not measured.

    >>> short_number(0.123456), short_number(None), short_number(12), short_number("text")
    ('0.1235', '', '12', 'text')
    """
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(value: object) -> str:
    return "" if value is None else html.escape(str(value))
