"""The page in a real Chromium: silent, accessible, readable on a phone and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_examples as examples

from synthfactory.release import render_html

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # playwright's own event loop is still open when its objects are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs the extra synthfactory[test]"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"needs Debian's chromium at {CHROMIUM}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in examples.ALL}
    for name, path in paths.items():
        # A refused run has no release, and so no page with costs.
        costs = None if name in ("refused", "incomplete") else examples.costs()
        path.write_text(render_html(examples.ALL[name](), costs), encoding="utf-8")
    return paths


class Visit:
    """A page that was opened, and everything that it asked for or complained about."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("name", sorted(examples.ALL))
def test_the_page_asks_for_nothing_and_complains_about_nothing(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Visit(browser, pages[name]) as visit:
        visit.page.wait_for_load_state("networkidle")
        # The address of the page itself and its empty icon are all that may be asked for.
        assert [url for url in visit.requests if not url.startswith("data:")] == [
            pages[name].as_uri()
        ]
        assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["certified", "refused", "incomplete", "hostile"])
def test_no_serious_barrier_for_anybody(
    browser: Any, pages: dict[str, Path], name: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # The tester's own script needs the page's content policy out of its way.
    with Visit(browser, pages[name], color_scheme=scheme, bypass_csp=True) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = axe.Axe().run(visit.page).response["violations"]
    serious = [
        (item["id"], [node["html"][:120] for node in item["nodes"][:3]])
        for item in found
        if item["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("name", sorted(examples.ALL))
def test_a_phone_needs_no_sideways_scrolling(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    with Visit(browser, pages[name], viewport={"width": 360, "height": 740}) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


def test_everything_reads_without_scripts(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["certified"], java_script_enabled=False) as visit:
        text = visit.page.locator("body").inner_text()
    for expected in ("Certified", "What was not tested", "chance is 50", "Instrument controls"):
        assert expected in text


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


@pytest.mark.parametrize("name", ["certified", "refused", "incomplete"])
def test_the_summary_for_the_officer_is_exactly_one_printed_page(
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
    for expected in ("data protection officer", "urn:synthfactory:dataset:", "Not tested", "Words"):
        assert expected.lower() in text.lower()


def test_the_summary_is_for_paper_only(browser: Any, pages: dict[str, Path]) -> None:
    with Visit(browser, pages["certified"]) as visit:
        assert not visit.page.locator(".sheet").is_visible()
