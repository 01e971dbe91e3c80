"""What the windows of `browsers` must notice; otherwise the silence of a page would say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import Window, wait_for
from serving import serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]

POLICY = "default-src 'none'; script-src 'unsafe-inline'"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Bad</title>
<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">
<p style="color: red">{body}</p>"""
IMAGE = '<img src="{address}beside.png" alt="">'


def write(folder: Path, body: str, policy: str = POLICY) -> Path:
    page = folder / "bad.html"
    page.write_text(PAGE.format(body=body, policy=policy))
    return page


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("<script>console.error('said aloud')</script>", "said aloud"),
        ("<script>nobody.home()</script>", "nobody"),
        (IMAGE.format(address="http://127.0.0.1:9/"), "img-src"),
        ("<script src='elsewhere.js'></script>", "elsewhere.js"),
        ("red", "style"),
    ],
)
def test_what_a_page_complains_about_is_noticed(
    window: Window, tmp_path: Path, body: str, word: str
) -> None:
    window.open(write(tmp_path, body))
    # A browser's processes pass on what they have to say, each in its own time.
    wait_for(f"'{word}' said", lambda: any(word in said for said in window.complaints))

    def silent() -> bool:
        window.open("about:blank")
        return window.complaints == []

    wait_for("silence on another page", silent)


def test_what_a_page_asks_of_others_is_noticed(window: Window, tmp_path: Path) -> None:
    with serving(tmp_path) as here, serving(tmp_path) as elsewhere:
        write(tmp_path, IMAGE.format(address=elsewhere), policy="img-src *")
        window.open(f"{here}bad.html")
        assert set(window.requests) == {f"{here}bad.html", f"{elsewhere}beside.png"}


def test_a_dialog_stops_the_test(window: Window, tmp_path: Path) -> None:
    page = write(tmp_path, "<script>setTimeout(() => alert(1), 500)</script>")

    def look() -> None:
        window.open(page)
        window.wait_until("false")

    # On a busy machine the dialog may be there before the page is.
    with pytest.raises(RuntimeError, match="alert"):
        look()


def test_scripts_of_a_page_can_be_switched_off(window: Window, tmp_path: Path) -> None:
    page = write(tmp_path, "<script>document.title = 'Worse'</script>")
    for scripts, title in ((False, "Bad"), (True, "Worse")):
        window.open(page, scripts=scripts)
        assert window.run("return document.title") == title
