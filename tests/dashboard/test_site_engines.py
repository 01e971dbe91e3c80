"""The site in Firefox and in WebKit, as Safari has it: silent, drawn, usable, and inert."""

from __future__ import annotations

import csv
import io
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import ENTER, TAB, Window
from hostile import FORMULA, HOSTILE
from serving import serving
from test_site_browser import EXPECTED_WITHOUT_SCRIPTS, OVER_ALL, PAGES, path_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DRAWN = ("pareto", "pareto-2", "heatmap", "trend", "run")
HASH = "new URLSearchParams(location.hash.slice(1))"
# Marks refer to shapes, hatchings and colours elsewhere in the page: they must be found and drawn.
CHARTS = """return [...document.querySelectorAll("svg.chart")].map(chart => {
  const { width, height } = chart.getBoundingClientRect();
  const marks = [...chart.querySelectorAll(".mk, .series, .used-bar, .cell")];
  const sizes = marks.map(mark => mark.getBoundingClientRect()).map(box => box.width + box.height);
  return [width, height, marks.length, Math.max(0, ...sizes)];
})"""


@pytest.fixture(scope="module")
def served(made_site: Path) -> Iterator[str]:
    """The site from a plain web server."""
    with serving(made_site) as address:
        yield address


def address_of(site: Path, page: str, state: dict[str, str] | None = None) -> str:
    chosen = f"#{urllib.parse.urlencode(state)}" if state else ""
    return (site / path_of(page, site)).as_uri() + chosen


@pytest.mark.parametrize("scheme", ["file", "http"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_nothing_beyond_the_site_and_complains_about_nothing(
    window: Window, made_site: Path, served: str, page: str, scheme: str
) -> None:
    base = made_site.as_uri() + "/" if scheme == "file" else served
    window.open(base + path_of(page, made_site))
    window.open_everything()
    assert [url for url in window.requests if not url.startswith((base, "data:"))] == []
    assert window.complaints == []
    assert window.run("return document.images.length") == 0


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_needs_no_sideways_scrolling(window: Window, made_site: Path, page: str) -> None:
    window.open(address_of(made_site, page), width=360, height=740)
    window.open_everything()
    # Firefox's scroll bar takes a part of the 360 pixels.
    widths = window.run("const h = document.documentElement; return [h.scrollWidth, h.clientWidth]")
    assert widths[0] == widths[1]
    assert 340 <= widths[1] <= 360


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_choices_stand_out_from_what_is_behind_them(
    window: Window, made_site: Path, dark: bool
) -> None:
    window.open(address_of(made_site, "runs"), dark=dark)
    for selector in ("body", ".panel", "form.controls select", "form.controls input", "button"):
        ink, behind = window.run(STANDS_OUT, selector)
        assert (ink > behind) == dark, selector
        assert abs(ink - behind) > 300, selector


# The sums of red, green and blue of text, and of the nearest background that is painted.
STANDS_OUT = """const found = document.querySelector(arguments[0]);
const sum = colour => colour.match(/[0-9.]+/g).slice(0, 3).reduce((all, part) => all + +part, 0);
let behind = found;
while (/, 0\\)$|transparent/.test(getComputedStyle(behind).backgroundColor))
  behind = behind.parentElement;
return [sum(getComputedStyle(found).color), sum(getComputedStyle(behind).backgroundColor)]"""


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("page", DRAWN)
def test_charts_are_drawn(window: Window, made_site: Path, page: str, scripts: bool) -> None:
    window.open(address_of(made_site, page), scripts=scripts)
    charts = window.run(CHARTS)
    assert charts
    for width, height, marks, size in charts:
        assert width > 200
        assert height > 30
        assert marks >= 1
        assert size > 10


@pytest.mark.parametrize("page", EXPECTED_WITHOUT_SCRIPTS)
def test_tables_read_without_scripts(window: Window, made_site: Path, page: str) -> None:
    window.open(address_of(made_site, page), scripts=False)
    window.open_everything()
    text = window.run(
        "return document.body.innerText + [...document.querySelectorAll('svg')]"
        ".map(s => s.textContent + s.getAttribute('aria-label')).join(' ')"
    )
    for expected in EXPECTED_WITHOUT_SCRIPTS[page]:
        assert expected in text
    forms = "return [...document.querySelectorAll('form.controls')].map(f => f.offsetHeight)"
    assert sum(window.run(forms)) == 0


SORTED = "document.querySelector('#runs th[data-sort=fidelity]').ariaSort === '{}'"
EVERY_ROW_HAS = (
    "[...document.querySelectorAll('#runs tbody tr')].every(row => row.innerText.includes('{}'))"
)
ROWS = "return [...document.querySelectorAll('#runs tbody tr')].map(row => row.innerText)"


def test_runs_are_searched_filtered_and_sorted_by_hand(window: Window, made_site: Path) -> None:
    window.open(address_of(made_site, "runs"))
    assert len(window.run(ROWS)) == 7
    # The address changes before the table does: wait for the table.
    window.click("th[data-sort=fidelity] button")
    window.wait_until(SORTED.format("ascending"))
    assert window.run(f"return {HASH}.get('sort')") == "fidelity"
    upwards = window.run(ROWS)
    window.click("th[data-sort=fidelity] button")
    window.wait_until(SORTED.format("descending"))
    assert window.run(f"return {HASH}.get('sort')") == "-fidelity"
    downwards = window.run(ROWS)
    # The failed run has no value and stands last, whichever way.
    assert downwards[:-1] == upwards[:-1][::-1]
    assert downwards[-1] == upwards[-1]
    window.click("form.controls [name=q]")
    window.type("tvae")
    window.wait_until(EVERY_ROW_HAS.format("tvae"))
    assert window.run(f"return {HASH}.get('q')") == "tvae"
    before = len(window.run(ROWS))
    window.click("form.controls [name=state]")
    window.type(f"certified{ENTER}")
    window.wait_until(EVERY_ROW_HAS.format("certified"))
    assert window.run(f"return {HASH}.get('state')") == "certified"
    kept = window.run(ROWS)
    assert 0 < len(kept) < before
    address = window.run("return location.href")
    window.open(address)
    assert window.run(ROWS) == kept
    assert window.complaints == []


def test_exports_hold_what_is_shown(window: Window, made_site: Path) -> None:
    window.open(address_of(made_site, "runs", {"sort": "run"}))
    rows = list(csv.DictReader(io.StringIO(window.download("[data-format=csv]"))))
    assert [row["run"] for row in rows] == sorted(
        path.name for path in (made_site / "runs").iterdir()
    )
    as_json = json.loads(window.download("[data-format=json]"))
    assert [row["run"] for row in as_json] == [row["run"] for row in rows]
    window.open(address_of(made_site, "pareto"))
    assert window.download("[data-format=svg]").startswith("<svg")
    assert window.complaints == []


def test_hostile_names_stay_text(window: Window, made_site: Path) -> None:
    window.open(address_of(made_site, "pareto", {"dataset": FORMULA}))
    assert window.run("return document.querySelector('#view h2').textContent") == FORMULA
    window.open(address_of(made_site, "runs", {"q": HOSTILE}))
    window.wait_until("document.getElementById('count').textContent.startsWith('0 of')")
    assert window.run("return document.images.length") == 0
    assert window.complaints == []
    window.open(address_of(made_site, "datasets"))
    window.open_everything()
    assert HOSTILE in window.run("return document.body.innerText")


def test_an_address_with_unknown_words_still_shows_the_page(
    window: Window, made_site: Path
) -> None:
    unknown = {"metric": "x", "dataset": "<b>", "x": "__proto__", "runs": "nobody,a", "sort": "at"}
    for page in OVER_ALL:
        window.open(address_of(made_site, page, unknown))
        assert window.run("return document.querySelector('h1').offsetHeight") > 0
        assert window.complaints == []


def test_runs_are_compared_and_taken_away(window: Window, made_site: Path) -> None:
    names = sorted(p.name for p in (made_site / "runs").iterdir() if "people" in p.name)[:3]
    window.open(address_of(made_site, "compare", {"runs": ",".join(names)}))
    window.wait_until("document.querySelectorAll('#chosen button').length === 3")
    window.wait_until("document.getElementById('view').innerText.includes('generator._target_')")
    window.click("#chosen button")
    window.wait_until("document.querySelectorAll('#chosen button').length === 2")
    assert names[0] not in window.run("return location.href")
    assert window.complaints == []


FOCUSED = """const found = document.activeElement;
const all = [...document.querySelectorAll("*")];
const { width, height } = found.getBoundingClientRect();
const outline = getComputedStyle(found).outlineStyle;
return [found.tagName, found.name || found.textContent.trim(), all.indexOf(found),
        width * height > 0, outline !== "none"]"""


def test_the_keyboard_goes_through_the_page_in_reading_order(
    window: Window, made_site: Path
) -> None:
    window.open(address_of(made_site, "runs"))
    reached = []
    for _ in range(34):
        window.type(TAB)
        reached.append(window.run(FOCUSED))
    names = [name for _, name, *_ in reached]
    places = [place for _, _, place, *_ in reached]
    assert names[0] == "Skip to the content"
    assert {
        "Leaderboard",
        "q",
        "state",
        "dataset",
        "generator",
        "CSV",
        "JSON",
        "Fidelity ≥",
    } <= set(names)
    assert places == sorted(places)
    assert all(visible for *_, visible, _ in reached)
    assert all(outlined for *_, outlined in reached)


def test_what_is_folded_opens_by_keyboard(window: Window, made_site: Path) -> None:
    window.open(address_of(made_site, "run"))
    window.run("document.querySelector('summary').focus()")
    window.type(ENTER)
    window.wait_until("document.querySelector('details').open")
    assert window.run("return document.querySelector('details table').offsetHeight") > 50
