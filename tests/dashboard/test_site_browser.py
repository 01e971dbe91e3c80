"""The site in a real Chromium: silent, accessible, the same from a disk and from a server."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import PATIENCE_MS, Visit
from copied_runs import copy_runs
from hostile import FORMULA, HOSTILE
from serving import serving

from synthfactory.dashboard import build
from synthfactory.dashboard.boards import AXES, front_of
from synthfactory.dashboard.records import read_detail

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "img"
OVER_ALL = ("index", "runs", "leaderboard", "pareto", "heatmap", "compare", "trend",
            "certificates", "datasets", "metrics")  # fmt: skip
PAGES = (*OVER_ALL, "run")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # playwright's own event loop is still open when its objects are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def pictured_site(made_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the pictures: over a folder of your own real runs, or those of the tests."""
    site = tmp_path_factory.mktemp("pictured")
    build(Path(os.environ.get("SYNTHFACTORY_PICTURED_RUNS", made_runs)), site)
    return site


@pytest.fixture(scope="module")
def served(made_site: Path) -> Iterator[str]:
    """The site from a plain web server."""
    with serving(made_site) as address:
        yield address


def path_of(page: str, site: Path) -> str:
    if page != "run":
        return f"{page}.html"
    runs = site / "runs"
    # A folder of your own real runs holds other tables.
    found = sorted(runs.glob("people-tvae-s*")) or sorted(runs.glob("*-tvae-s*"))
    return f"runs/{found[0].name}/index.html"


def open_disk(browser: Any, site: Path, page: str, state: str = "", **context: Any) -> Visit:
    return Visit(browser, (site / path_of(page, site)).as_uri() + state, **context)


@pytest.mark.parametrize("scheme", ["file", "http"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_nothing_beyond_the_site_and_complains_about_nothing(
    browser: Any, made_site: Path, served: str, page: str, scheme: str
) -> None:
    base = made_site.as_uri() + "/" if scheme == "file" else served
    with Visit(browser, base + path_of(page, made_site)) as visit:
        visit.page.wait_for_load_state("networkidle")
        assert [u for u in visit.requests if not u.startswith((base, "data:"))] == []
        assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_no_serious_barrier_for_anybody(
    browser: Any, made_site: Path, page: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # The tester's own script needs the page's content policy out of its way.
    with open_disk(browser, made_site, page, color_scheme=scheme, bypass_csp=True) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = axe.Axe().run(visit.page).response["violations"]
    serious = [
        (item["id"], [node["html"][:160] for node in item["nodes"][:3]])
        for item in found
        if item["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_needs_no_sideways_scrolling(browser: Any, made_site: Path, page: str) -> None:
    with open_disk(browser, made_site, page, viewport={"width": 360, "height": 740}) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 360


EXPECTED_WITHOUT_SCRIPTS = {
    "index": ["7 runs", "What changed", "Failures", "Failed in split", "Who leads"],
    "runs": ["people-tvae-s0", "certified", "failed"],
    "leaderboard": ["Pair trends", "Over all tables", "not ranked"],
    "pareto": ["The front", "tvae", "people"],
    "pareto-2": ["The front", "bootstrap"],
    "heatmap": ["tvae", "✕ 1 failed", "≥"],
    "compare": ["Configuration: what differs", "Environment: what differs"],
    "trend": ["0.1.0", "Pair trends on people"],
    "certificates": ["urn:synthfactory:dataset:", "valid", "did:key:"],
    "datasets": [HOSTILE, "1,500"],
    "metrics": ["Formula", "Does not prove", "Fresh real rows"],
    "run": ["Certified", "Training", "Resources", "used of", "synthfactory run"],
}


@pytest.mark.parametrize("page", EXPECTED_WITHOUT_SCRIPTS)
def test_tables_and_charts_read_without_scripts(browser: Any, made_site: Path, page: str) -> None:
    with open_disk(browser, made_site, page, java_script_enabled=False) as visit:
        text = visit.page.locator("html").evaluate(
            "html => { html.querySelectorAll('details').forEach(d => d.open = true);"
            " return html.innerText + [...html.querySelectorAll('svg')].map("
            " s => s.textContent + s.getAttribute('aria-label')).join(' '); }"
        )
        assert not visit.page.locator("form.controls").first.is_visible()
        for expected in EXPECTED_WITHOUT_SCRIPTS[page]:
            assert expected in text
        if page in ("pareto-2", "heatmap", "trend"):
            assert visit.page.locator("svg.chart").first.is_visible()
            marks = visit.page.locator("svg.chart .mk")
            assert marks.count() > 2
            # They refer to shapes elsewhere in the page: they must be found and drawn.
            assert all(mark.bounding_box()["width"] > 5 for mark in marks.all())


def test_the_script_writes_the_rows_that_the_server_writes(browser: Any, made_site: Path) -> None:
    read = "rows => rows.map(row => [...row.cells].map(cell => cell.outerHTML))"
    written = []
    for scripts in (False, True):
        with open_disk(browser, made_site, "runs", java_script_enabled=scripts) as visit:
            if scripts:
                visit.page.locator("#runs input").evaluate_all("all => all.map(b => b.remove())")
            written.append(visit.page.locator("#runs tbody tr").evaluate_all(read))
    assert written[0] == written[1]
    assert len(written[0]) == 7


def test_hostile_names_stay_text(browser: Any, made_site: Path) -> None:
    for page in OVER_ALL:
        with open_disk(browser, made_site, page) as visit:
            assert visit.page.locator("img").count() == 0
            assert visit.page.evaluate("typeof window.SF_RUNS !== 'undefined'") == (
                page in ("runs", "leaderboard", "pareto", "heatmap", "compare", "trend")
            )
            assert visit.complaints == []
    with open_disk(browser, made_site, "pareto", f"#dataset={_quoted(FORMULA)}") as visit:
        assert visit.page.locator("#view h2").inner_text() == FORMULA
        assert visit.complaints == []
    with open_disk(browser, made_site, "runs", f"#q={_quoted(HOSTILE)}") as visit:
        assert visit.page.locator("#count").inner_text().startswith("0 of")
        assert visit.page.locator("img").count() == 0


def _quoted(text: str) -> str:
    return urllib.parse.quote(text)


STATES = [
    ("runs", {"state": "certified", "sort": "-fidelity", "q": "people"}),
    ("leaderboard", {"metric": "utility.tstr", "dataset": "people"}),
    ("pareto", {"dataset": "people", "x": "cpu_h", "y": "utility"}),
    ("heatmap", {"metric": "privacy.dcr_share"}),
    ("trend", {"dataset": "people", "y": "leakage", "by": "day"}),
]


@pytest.mark.parametrize(("page", "choices"), STATES, ids=lambda value: str(value)[:12])
def test_a_permalink_shows_what_its_sender_saw(
    browser: Any, made_site: Path, page: str, choices: dict[str, str]
) -> None:
    with open_disk(browser, made_site, page) as sender:
        # Called after the page's own listener, which draws.
        sender.page.evaluate(
            "addEventListener('hashchange',"
            " () => { document.documentElement.dataset.drawn = location.hash; })"
        )
        for name, value in choices.items():
            field = sender.page.locator(f"form.controls [name={name}]")
            if name == "sort":
                for _ in range(2):
                    sender.page.locator(f"th[data-sort={value[1:]}] button").click()
            elif name == "q":
                field.fill(value)
            else:
                field.select_option(value)
        last = list(choices)[-1]
        sender.page.wait_for_function(
            "name => new URLSearchParams(location.hash.slice(1)).has(name)"
            " && document.documentElement.dataset.drawn === location.hash",
            arg=last,
        )
        seen = sender.page.locator("#main").inner_text()
        address = sender.page.url
    with Visit(browser, address) as receiver:
        assert receiver.page.locator("#main").inner_text() == seen
        assert receiver.complaints == []
    with open_disk(browser, made_site, page) as plain:
        assert plain.page.locator("#main").inner_text() != seen


def test_an_address_with_unknown_words_still_shows_the_page(browser: Any, made_site: Path) -> None:
    for page in OVER_ALL:
        state = "#metric=x&dataset=%3Cb%3E&x=__proto__&y=constructor&runs=nobody,a&sort=toString"
        with open_disk(browser, made_site, page, state) as visit:
            assert visit.page.locator("h1").is_visible()
            assert visit.complaints == []


def _downloaded(visit: Visit, format: str) -> str:
    with visit.page.expect_download() as download:
        visit.page.locator(f"[data-format={format}]").first.click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_the_exported_table_equals_the_run_manifests(
    browser: Any, made_runs: Path, made_site: Path
) -> None:
    with open_disk(browser, made_site, "runs") as visit:
        rows = list(csv.DictReader(io.StringIO(_downloaded(visit, "csv"))))
        as_json = json.loads(_downloaded(visit, "json"))
    assert len(rows) == len(as_json) == 7
    checked = 0
    for row, plain in zip(rows, as_json, strict=True):
        folder = made_runs / row["run"]
        order = json.loads((folder / "order.json").read_text())["order"]
        assert plain["dataset"] == order["dataset"]["name"]
        # A spreadsheet must not take a name for a formula.
        assert row["dataset"].lstrip("'") == order["dataset"]["name"]
        assert not row["dataset"].startswith("=")
        if not (folder / "evaluate").is_dir():
            assert row["fidelity"] == ""
            continue
        found = {
            item["id"]: item
            for item in json.loads((folder / "evaluate/findings.json").read_text())["measurements"]
        }
        for name, metric in (("fidelity", "fidelity.pair_trends"), ("utility", "utility.retained")):
            for column, bound in (("", "estimate"), ("_lcb", "lcb"), ("_ucb", "ucb")):
                assert float(row[name + column]) == found[metric][bound]
                assert plain[name + column] == found[metric][bound]
                checked += 1
        total = json.loads((folder / "resources.json").read_text())["total"]
        assert float(row["wall_s"]) == total["wall_s"]
    assert checked == 36


def test_the_exported_drawing_is_a_whole_svg_file(
    browser: Any, made_site: Path, tmp_path: Path
) -> None:
    with open_disk(browser, made_site, "pareto") as visit:
        (tmp_path / "chart.svg").write_text(_downloaded(visit, "svg"), encoding="utf-8")
    with Visit(browser, (tmp_path / "chart.svg").as_uri()) as visit:
        assert visit.page.locator("path.mk").count() > 1
        colour = visit.page.locator("path.mk").first.evaluate("m => getComputedStyle(m).fill")
        assert colour not in ("none", "rgb(0, 0, 0)")
        assert visit.complaints == []


def test_the_script_finds_the_same_fronts_as_the_server(
    browser: Any, made_runs: Path, made_site: Path
) -> None:
    records = [read_detail(path.parent).record for path in made_runs.glob("people-*/order.json")]
    compared = 0
    for x, y in itertools.combinations(AXES, 2):
        expected = front_of(records, x, y)
        state = f"#dataset=people&x={x.key}&y={y.key}"
        with open_disk(browser, made_site, "pareto", state) as visit:
            drawn = visit.page.locator("#view tbody th a").all_inner_texts()
        assert sorted(drawn) == sorted(expected), (x.key, y.key)
        compared += bool(expected)
    assert compared > 10


def test_runs_are_compared_with_their_configuration_and_environment(
    browser: Any, made_site: Path
) -> None:
    from playwright.sync_api import expect  # it waits without a script that the page forbids

    names = sorted(p.name for p in (made_site / "runs").iterdir() if "people" in p.name)[:3]
    with open_disk(browser, made_site, "compare", "#runs=" + ",".join(names)) as visit:
        expect(visit.page.locator("#chosen button")).to_have_count(3, timeout=PATIENCE_MS)
        visit.page.wait_for_selector("#view td >> text=synthfactory.generators.Bootstrap")
        text = visit.page.locator("#view").inner_text()
        assert "generator._target_" in text
        assert "Environment: what differs" in text
        visit.page.locator("#chosen button").first.click()
        expect(visit.page.locator("#chosen button")).to_have_count(2, timeout=PATIENCE_MS)
        assert names[0] not in visit.page.url
        assert visit.complaints == []


def test_the_keyboard_alone_reaches_pages_choices_and_exports(
    browser: Any, made_site: Path
) -> None:
    with open_disk(browser, made_site, "runs") as visit:
        reached = []
        for _ in range(40):
            visit.page.keyboard.press("Tab")
            reached.append(
                visit.page.evaluate(
                    "[document.activeElement.tagName, document.activeElement.textContent.trim(),"
                    " document.activeElement.name || '']"
                )
            )
        texts = {text for _, text, _ in reached}
        assert {"Skip to the content", "Leaderboard", "CSV", "JSON", "Fidelity ≥"} <= texts
        assert {"q", "state", "dataset", "generator"} <= {name for _, _, name in reached}
        visit.page.locator("th[data-sort=fidelity] button").focus()
        visit.page.keyboard.press("Enter")
        sorted_ = visit.page.locator("th[data-sort=fidelity][aria-sort=ascending]")
        sorted_.wait_for(state="attached")
        assert visit.page.url.endswith("#sort=fidelity")


def test_every_link_within_the_site_leads_somewhere(browser: Any, made_site: Path) -> None:
    for page in PAGES:
        with open_disk(browser, made_site, page) as visit:
            hrefs = visit.page.evaluate(
                "[...document.querySelectorAll('a')].map(a => a.href.split('#')[0])"
            )
        for href in set(hrefs):
            assert href.startswith(made_site.as_uri())
            assert Path(urllib.parse.unquote(urllib.parse.urlsplit(href).path)).is_file(), href


def test_a_thousand_runs_are_usable_at_once(browser: Any, made_runs: Path, tmp_path: Path) -> None:
    """The runs are copies of real ones, with changed names and figures."""
    sources = [path.parent for path in sorted(made_runs.glob("*/order.json"))]
    copy_runs(sources, tmp_path / "runs", 1_000)
    build(tmp_path / "runs", tmp_path / "site")
    for page, choice in (("runs", "#state=certified"), ("pareto", ""), ("index", "")):
        with open_disk(browser, tmp_path / "site", page, choice) as visit:
            if page == "runs":
                visit.page.wait_for_function(
                    "document.getElementById('count').textContent.includes('of 1000')"
                )
            elif page == "pareto":
                visit.page.wait_for_selector("form.controls select option", state="attached")
            assert visit.complaints == []
    site = tmp_path / "site"
    with open_disk(browser, site, "runs-7") as visit:
        assert visit.page.locator("#runs tbody tr").count() == 1_000
        assert visit.page.locator("nav.parts").count() == 0
        visit.page.locator("form.controls [name=q]").fill(sources[0].name.split("-")[1] + "-s7-")
        visit.page.locator("#runs tbody tr").nth(1).wait_for(state="detached")
    with open_disk(browser, site, "runs", java_script_enabled=False) as visit:
        assert visit.page.locator("#runs tbody tr").count() == 100
        assert "Runs 1 to 100 of 1000" in visit.page.locator("nav.parts").inner_text()
        visit.page.locator("nav.parts a", has_text="10").last.click()
        assert "Runs 901 to 1000 of 1000" in visit.page.locator("nav.parts").inner_text()
    with open_disk(browser, site, "pareto-3") as visit:
        shown = visit.page.locator("#view h2").inner_text()
        assert shown == visit.page.locator("form.controls [name=dataset]").input_value()
        assert (
            visit.page.locator("form.controls [name=dataset] option").nth(2).inner_text() == shown
        )


@pytest.mark.skipif(
    os.environ.get("SYNTHFACTORY_WRITE_GOLDEN") != "1", reason="writes the pictures of the docs"
)
@pytest.mark.parametrize("page", PAGES)
def test_pictures_for_the_documents(browser: Any, pictured_site: Path, page: str) -> None:
    for name, scheme, width in (
        ("light", "light", 1200),
        ("dark", "dark", 1200),
        ("phone", "light", 360),
    ):
        viewport = {"width": width, "height": 1000}
        with open_disk(
            browser, pictured_site, page, color_scheme=scheme, viewport=viewport
        ) as visit:
            target = IMAGES / f"dashboard-{page}-{name}.png"
            visit.page.screenshot(path=str(target))
            assert target.stat().st_size > 5_000
