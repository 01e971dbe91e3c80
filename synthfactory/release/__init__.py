"""What is published: the report, as JSON for machines and as one self-contained page.

``build_report`` gathers what earlier stages found into one deterministic document of aggregates;
``render_html`` turns that document into ``report.html``; ``write_report`` writes both, and
``write_page`` the page with what the run cost, which differs each time and so is no part of the
report.
"""

from __future__ import annotations

from synthfactory.release.html import render_html, write_page, write_report
from synthfactory.release.metadata import write_metadata
from synthfactory.release.report import build_report, public_order

__all__ = [
    "build_report",
    "public_order",
    "render_html",
    "write_metadata",
    "write_page",
    "write_report",
]
