"""The page in a real Chromium: silent, accessible, readable on a phone and on paper.

``SYNTHFACTORY_WRITE_GOLDEN=1`` makes the pictures in ``docs/img/`` anew, of what the README's first
command makes (minutes); without it the same pictures are taken of a smaller run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit
from report_examples import EVERY, REAL
from serving import serving

from synthfactory.certification import new_key
from synthfactory.release import render_html

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # playwright's own event loop is still open when its objects are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def served(pages: dict[str, Path]) -> Iterator[str]:
    """The address of a server of these pages."""
    with serving(next(iter(pages.values())).parent) as address:
        yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
def test_the_page_asks_for_nothing_and_complains_about_nothing(
    browser: Any, pages: dict[str, Path], name: str, scheme: str
) -> None:
    with Visit(browser, pages[name], color_scheme=scheme) as visit:
        visit.open_everything()
        visit.page.wait_for_load_state("networkidle")
        # The address of the page itself and its empty icon are all that may be asked for.
        assert [url for url in visit.requests if not url.startswith("data:")] == [
            pages[name].as_uri()
        ]
        assert visit.complaints == []


@pytest.mark.parametrize("name", ["hostile", *REAL])
def test_it_is_as_silent_when_it_is_served(browser: Any, served: str, name: str) -> None:
    with Visit(browser, f"{served}{name}.html") as visit:
        visit.open_everything()
        visit.page.wait_for_load_state("networkidle")
        asked = [url for url in visit.requests if not url.startswith("data:")]
        assert asked == [f"{served}{name}.html"]
        assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["certified", "refused", "incomplete", "hostile", *REAL])
def test_no_serious_barrier_for_anybody(
    browser: Any, pages: dict[str, Path], name: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # The tester's own script needs the page's content policy out of its way.
    with Visit(browser, pages[name], color_scheme=scheme, bypass_csp=True) as visit:
        visit.open_everything()
        found = axe.Axe().run(visit.page).response["violations"]
    serious = [
        (item["id"], [node["html"][:120] for node in item["nodes"][:3]])
        for item in found
        if item["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("name", EVERY)
def test_a_phone_needs_no_sideways_scrolling(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Visit(browser, pages[name], viewport={"width": 360, "height": 740}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
        visit.open_everything()
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


def test_everything_reads_without_scripts(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["certified"], java_script_enabled=False) as visit:
        text = visit.page.locator("body").inner_text()
    for expected in ("Certified", "What was not tested", "chance is 50", "Instrument controls"):
        assert expected in text


def test_a_measurement_opens_without_scripts(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["real-certified"], java_script_enabled=False) as visit:
        line = visit.page.locator("#m-privacy-singling_out")
        limits = line.get_by_text("What this does not prove.")
        assert not limits.is_visible()
        line.locator("summary").click()
        assert limits.is_visible()
        assert line.get_by_text("Each form of the attack").is_visible()


def test_a_measurement_opens_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["real-certified"]) as visit:
        limits = visit.page.locator("#m-privacy-exact_match .line-more")
        for _ in range(40):
            visit.page.keyboard.press("Tab")
            if visit.page.evaluate(
                "document.activeElement.parentElement.id === 'm-privacy-exact_match'"
            ):
                break
        assert not limits.is_visible()
        visit.page.keyboard.press("Enter")
        assert limits.is_visible()


def test_a_missed_rule_is_open_from_the_start(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["real-leaking"], java_script_enabled=False) as visit:
        assert visit.page.locator("#m-privacy-exact_match .miss").is_visible()
        assert visit.page.locator("#m-privacy-exact_match").get_by_text("What to try").is_visible()


def test_a_hostile_name_is_text_wherever_it_stands(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["hostile"]) as visit:
        visit.open_everything()
        assert visit.page.locator("img").count() == 0
        assert visit.page.get_by_text("<img src=x onerror=alert(1)>").count() > 3
        assert visit.complaints == []


def test_the_keyboard_reaches_every_section(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["certified"]) as visit:
        reached = set()
        for _ in range(12):
            visit.page.keyboard.press("Tab")
            reached.add(visit.page.evaluate("document.activeElement.getAttribute('href')"))
    assert {"#main", "#privacy", "#fidelity", "#utility", "#method"} <= reached


def test_every_link_leads_somewhere(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["certified"]) as visit:
        broken = visit.page.evaluate(
            "[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
            ".filter(href => !document.getElementById(href.slice(1)))"
        )
    assert broken == []


@pytest.mark.parametrize("name", EVERY)
def test_the_summary_for_the_officer_is_exactly_one_printed_page(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    # Taking the rest away needs a style of the test's own, which the page's policy forbids.
    with Visit(browser, pages[name], bypass_csp=True) as visit:
        visit.page.add_style_tag(
            content="main, .foot { display: none !important }"
            " .sheet { break-after: auto !important }"
        )
        printed = visit.page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1


@pytest.mark.parametrize("name", ["certified", "crowded", *REAL])
def test_the_summary_for_the_officer_comes_first_and_whole(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Visit(browser, pages[name]) as visit:
        visit.page.emulate_media(media="print")
        sheet = visit.page.locator(".sheet")
        assert sheet.is_visible()
        # A4 less its margins, at 96 pixels per inch.
        visit.page.set_viewport_size({"width": 688, "height": 1000})
        height_mm = sheet.bounding_box()["height"] / 96 * 25.4
        printed = visit.page.pdf(prefer_css_page_size=True)
        text = sheet.inner_text()
    assert height_mm < 297 - 2 * 13
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1
    for expected in (
        "data protection officer",
        "urn:synthfactory:dataset:",
        "Not tested",
        "Words",
        "Decision",
    ):
        assert expected.lower() in text.lower()


def test_what_is_folded_on_the_screen_is_printed(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["real-certified"]) as visit:
        visit.page.emulate_media(media="print")
        line = visit.page.locator("#m-privacy-singling_out .line-more")
        assert line.bounding_box()["height"] > 50


def test_the_summary_is_for_paper_only(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["certified"]) as visit:
        assert not visit.page.locator(".sheet").is_visible()


@pytest.fixture(scope="module")
def pictured(
    pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path]]:
    """The page to be pictured, and where the pictures go."""
    folder = tmp_path_factory.mktemp("pictures")
    if not os.environ.get("SYNTHFACTORY_WRITE_GOLDEN"):
        yield pages["real-certified"], folder
        return
    page = folder / "adult.html"
    page.write_text(render_html(adult_report(folder)), encoding="utf-8")
    yield page, PICTURES


PICTURES = Path(__file__).parents[2] / "docs" / "img"


def adult_report(folder: Path) -> dict[str, Any]:
    """Of what the README's first command makes."""
    new_key(folder / "issuer.pem")
    settings = [f"paths.runs={folder / 'runs'}", f"issuer.key={folder / 'issuer.pem'}"]
    subprocess.run([sys.executable, "-m", "synthfactory", "run", *settings], check=True)
    (found,) = (folder / "runs").glob("*/release/report.json")
    report: dict[str, Any] = json.loads(found.read_text())
    return report


@pytest.mark.parametrize(
    ("name", "context", "section"),
    [
        ("light", {"viewport": {"width": 1120, "height": 1010}}, None),
        ("dark", {"viewport": {"width": 1120, "height": 1010}, "color_scheme": "dark"}, None),
        ("privacy", {"viewport": {"width": 1120, "height": 1400}}, "#privacy"),
        ("phone", {"viewport": {"width": 360, "height": 1010}}, "#privacy"),
    ],
)
def test_pictures(
    browser: Any, pictured: tuple[Path, Path], name: str, context: Any, section: str | None
) -> None:
    page, folder = pictured
    with Visit(browser, page, reduced_motion="reduce", **context) as visit:
        if section:
            visit.page.locator(section).evaluate("element => element.scrollIntoView()")
        path = folder / f"report-{name}.png"
        visit.page.screenshot(path=str(path))
        background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = visit.page.evaluate("getComputedStyle(document.body).color")
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (background, ink)]
    assert (brightness[0] < brightness[1]) == (name == "dark")
    # A picture with nothing on it would be far smaller.
    assert path.stat().st_size > 8_000
