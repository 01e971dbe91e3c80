"""The report in Firefox and in WebKit, as Safari has it: silent, inert, readable, printed whole."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import ENTER, TAB, Window
from report_examples import EVERY, REAL
from serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CHARTS = """return [...document.querySelectorAll("svg.chart")]
  .filter(chart => !chart.closest(".sheet")).map(chart => chart.getBoundingClientRect())
  .map(box => Math.min(box.width, box.height))"""


@pytest.fixture(scope="module")
def served(pages: dict[str, Path]) -> Iterator[str]:
    """The address of a server of these pages."""
    with serving(next(iter(pages.values())).parent) as address:
        yield address


@pytest.mark.parametrize(
    ("name", "dark"), [*((name, False) for name in EVERY), *((name, True) for name in REAL)]
)
def test_the_page_asks_for_nothing_and_complains_about_nothing(
    window: Window, served: str, name: str, dark: bool
) -> None:
    window.open(f"{served}{name}.html", dark=dark)
    window.open_everything()
    asked = [url for url in window.requests if not url.startswith("data:")]
    assert asked == [f"{served}{name}.html"]
    assert window.complaints == []
    brightness = "getComputedStyle(document.body).{}.match(/[0-9]+/g).reduce((a, b) => a + +b, 0)"
    ink, paper = (
        window.run(f"return {brightness.format(part)}") for part in ("color", "backgroundColor")
    )
    assert (ink > paper) == dark


@pytest.mark.parametrize("name", ["hostile", *REAL])
def test_it_is_as_silent_from_a_disk(window: Window, pages: dict[str, Path], name: str) -> None:
    window.open(pages[name])
    window.open_everything()
    assert [url for url in window.requests if not url.startswith("data:")] in (
        [],
        [pages[name].as_uri()],
    )
    assert window.complaints == []


@pytest.mark.parametrize("name", EVERY)
def test_a_phone_needs_no_sideways_scrolling(
    window: Window, pages: dict[str, Path], name: str
) -> None:
    window.open(pages[name], width=360, height=740)
    for _ in range(2):
        # Firefox's scroll bar takes a part of the 360 pixels.
        wide, seen = window.run(
            "const h = document.documentElement; return [h.scrollWidth, h.clientWidth]"
        )
        assert wide == seen
        assert 340 <= seen <= 360
        window.open_everything()


@pytest.mark.parametrize("name", REAL)
def test_charts_are_drawn(window: Window, pages: dict[str, Path], name: str) -> None:
    window.open(pages[name])
    window.open_everything()
    sizes = window.run(CHARTS)
    assert len(sizes) > 20
    assert min(sizes) > 8


def test_a_measurement_opens_without_scripts(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["real-certified"], scripts=False)
    shown = "document.querySelector('#m-privacy-singling_out .line-more').checkVisibility()"
    assert not window.run(f"return {shown}")
    window.click("#m-privacy-singling_out summary")
    window.wait_until(shown)


def test_a_missed_rule_is_open_from_the_start(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["real-leaking"], scripts=False)
    missed = "return document.querySelector('#m-privacy-exact_match .miss').offsetHeight"
    assert window.run(missed) > 10


def test_a_hostile_name_is_text_wherever_it_stands(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["hostile"])
    window.open_everything()
    assert window.run("return document.images.length") == 0
    text = window.run("return document.body.innerText")
    assert text.count("<img src=x onerror=alert(1)>") > 3
    assert window.complaints == []


def test_the_keyboard_reaches_sections_and_opens_measurements(
    window: Window, pages: dict[str, Path]
) -> None:
    window.open(pages["real-certified"])
    reached, places = [], []
    for _ in range(40):
        window.type(TAB)
        name, parent, place = window.run(
            "const found = document.activeElement; return [found.getAttribute('href'),"
            " found.parentElement.id, [...document.querySelectorAll('*')].indexOf(found)]"
        )
        reached.append(name)
        places.append(place)
        if parent == "m-privacy-exact_match":
            break
    assert {"#main", "#privacy", "#fidelity", "#utility", "#method"} <= set(reached)
    assert places == sorted(places)
    window.type(ENTER)
    window.wait_until("document.getElementById('m-privacy-exact_match').open")


# Chromium prints every example; Firefox takes seconds for each where a machine is busy.
@pytest.mark.parametrize("name", ["certified", "crowded", "hostile", "real-deep"])
def test_the_summary_for_the_officer_is_exactly_one_printed_page(
    window: Window, pages: dict[str, Path], name: str
) -> None:
    window.open(pages[name])
    window.run(
        "document.querySelectorAll('main, header.top, .foot').forEach(part => part.remove());"
        "document.querySelector('.sheet').style.breakAfter = 'auto'"
    )
    assert pages_in(window.printed()) == 1


def test_what_is_folded_on_the_screen_is_printed(window: Window, pages: dict[str, Path]) -> None:
    window.open(pages["real-certified"])
    window.run(
        "document.querySelectorAll('.sheet, main > :not(#privacy)').forEach(part => part.remove())"
    )
    with_folded = pages_in(window.printed())
    window.run("document.querySelectorAll('.line-more').forEach(part => part.remove())")
    assert with_folded > 1.5 * pages_in(window.printed())


def pages_in(pdf: bytes) -> int:
    """How many pages a PDF file has; Firefox packs their descriptions into compressed streams."""
    packed = re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    plain = [zlib.decompressobj().decompress(part) for part in packed]
    return sum(len(re.findall(rb"/Type\s*/Page\b", part)) for part in (pdf, *plain))
