"""The site's folder over runs that were really made: what it holds, and what it never holds."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from copied_runs import copy_runs

from synthfactory.dashboard import Built, build, serve
from synthfactory.dashboard.records import read_detail, worst_attack
from synthfactory.dashboard.site import CACHE
from synthfactory.errors import OrderError

pytestmark = pytest.mark.slow


def everything(site: Path) -> dict[str, bytes]:
    return {str(p.relative_to(site)): p.read_bytes() for p in site.rglob("*") if p.is_file()}


@pytest.fixture
def own_runs(made_runs: Path, tmp_path: Path) -> Path:
    """Copies that a test may change."""
    return Path(shutil.copytree(made_runs, tmp_path / "runs"))


def test_the_exported_numbers_are_those_of_the_runs(made_runs: Path, made_site: Path) -> None:
    with (made_site / "data/measurements.csv").open(newline="") as file:
        exported = {(row["run"], row["metric"]): row for row in csv.DictReader(file)}
    n_findings = 0
    for path in made_runs.glob("*/evaluate/findings.json"):
        run, findings = path.parent.parent.name, json.loads(path.read_text())
        for item in findings["measurements"]:
            row = exported.pop((run, item["id"]))
            n_findings += 1
            for name in ("estimate", "lcb", "ucb", "n", "baseline", "control", "confidence"):
                assert row[name] == ("" if item[name] is None else str(item[name]))
        worst = exported.pop((run, "privacy.worst_attack"))
        assert float(worst["ucb"]) == worst_attack(findings)[2]  # type: ignore[index]
    assert n_findings > 100
    assert exported == {}
    with (made_site / "data/runs.csv").open(newline="") as file:
        runs = {row["run"]: row for row in csv.DictReader(file)}
    assert set(runs) == {path.parent.name for path in made_runs.glob("*/order.json")}
    for run, row in runs.items():
        resources = made_runs / run / "resources.json"
        if resources.is_file():
            total = json.loads(resources.read_text())["total"]
            assert float(row["wall_s"]) == total["wall_s"]
            assert float(row["cpu_h"]) == total["cpu_allocated_h"]
        order = json.loads((made_runs / run / "order.json").read_text())["order"]
        assert int(row["seed"]) == order["seed"]


def test_no_value_path_host_or_digest_of_the_table_is_on_the_site(
    made_runs: Path, made_site: Path
) -> None:
    digests = {
        json.loads(path.read_text())["table"].removeprefix("sha256:")
        for path in made_runs.glob("*/order.json")
    }
    assert len(digests) == 2
    # A certificate's identifiers are of the synthetic data, and no digest of the table.
    forbidden = [*digests, "Zyxqwvut", "987654321987", str(made_runs), str(made_runs.parent)]
    forbidden += [socket.gethostname()] if len(socket.gethostname()) > 4 else []
    for name, content in everything(made_site).items():
        for word in forbidden:
            assert word.encode() not in content, f"{word} in {name}"


def test_a_failure_says_its_kind_and_never_its_message(made_site: Path) -> None:
    page = (made_site / "index.html").read_text()
    assert "Failed in split: a table does not fit its schema." in page
    assert "holds 3 strings" not in page


def test_an_unchanged_folder_is_read_and_written_once(made_runs: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert build(made_runs, site).read == 7
    before = {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file() and p.name != CACHE}
    again = build(made_runs, site)
    assert (again.read, again.changed) == (0, 0)
    after = {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file() and p.name != CACHE}
    assert before == after


def test_an_incremental_build_equals_a_fresh_one(own_runs: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    hidden = next(own_runs.glob("people-bootstrap-*"))
    kept = shutil.move(hidden, tmp_path / "hidden")
    build(own_runs, site)
    shutil.move(kept, hidden)
    assert build(own_runs, site).read == 1
    fresh = tmp_path / "fresh"
    build(own_runs, fresh)
    changing = {CACHE, "index.html"}  # what changed since the last build differs, rightly
    one, other = everything(site), everything(fresh)
    assert set(one) == set(other)
    assert [name for name in one if one[name] != other[name] and name not in changing] == []


def test_a_run_that_is_gone_leaves_the_site(own_runs: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build(own_runs, site)
    gone = next(own_runs.glob("people-tvae-s1-*"))
    shutil.rmtree(gone)
    assert build(own_runs, site).runs == 6
    assert not (site / "runs" / gone.name).exists()
    assert gone.name not in (site / "runs.html").read_text()
    assert "certified → removed" in (site / "index.html").read_text()


def test_a_damaged_run_is_named_and_hides_no_other(own_runs: Path, tmp_path: Path) -> None:
    damaged = next(own_runs.glob("people-bootstrap-*"))
    (damaged / "decide" / "report.json").write_text('{"half')
    built = build(own_runs, tmp_path / "site")
    assert built.unreadable == (damaged.name,)
    assert built.runs == 6
    assert damaged.name in (tmp_path / "site/index.html").read_text()


def test_two_tables_of_one_name_are_not_compared(own_runs: Path, tmp_path: Path) -> None:
    order = next(own_runs.glob("people-independent-*")) / "order.json"
    document = json.loads(order.read_text())
    document["table"] = "sha256:" + 64 * "e"
    order.write_text(json.dumps(document))
    build(own_runs, tmp_path / "site")
    page = (tmp_path / "site/datasets.html").read_text()
    assert "people (table 2)" in page
    # The next build, which reads the cache, keeps the labels.
    assert build(own_runs, tmp_path / "site").read == 0
    assert "people (table 2)" in (tmp_path / "site/datasets.html").read_text()


def test_a_revoked_certificate_is_seen_at_the_next_build(
    made_runs: Path, own_runs: Path, tmp_path: Path
) -> None:
    from synthfactory.certification import load_key, set_status

    site = tmp_path / "site"
    build(own_runs, site)
    assert ">revoked<" not in (site / "certificates.html").read_text()
    release = next(own_runs.glob("people-tvae-s0-*")) / "release"
    key = load_key(made_runs.parent / "issuer.pem")
    set_status(release, "revoked", key=key)
    assert build(own_runs, site).read == 1
    assert "revoked</span>" in (site / "certificates.html").read_text()


def test_a_folder_of_other_things_is_never_written_into(made_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OrderError, match="holds other files"):
        build(made_runs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_folder_of_runs_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="no folder"):
        build(tmp_path / "none", tmp_path / "site")
    (tmp_path / "empty").mkdir()
    assert build(tmp_path / "empty", tmp_path / "site").runs == 0


def test_a_detail_holds_no_message_of_an_exception(made_runs: Path) -> None:
    detail = read_detail(made_runs / "people-sdv_tvae-s0-000000000000")
    assert detail.record.state == "failed"
    assert detail.record.generator == "sdv_tvae"
    assert "canary" not in repr(detail)


def loaded_bytes(page: Path) -> int:
    """What a reader's browser loads for a page: the page and its scripts."""
    scripts = re.findall(r'<script src="([^"]+)"', page.read_text(encoding="utf-8"))
    return sum(path.stat().st_size for path in [page, *(page.parent / name for name in scripts)])


def test_a_thousand_runs_stay_in_their_budget(made_runs: Path, tmp_path: Path) -> None:
    """The runs are copies of real ones, with changed names and figures."""
    sources = [path.parent for path in sorted(made_runs.glob("*/order.json"))]
    runs, site = tmp_path / "runs", tmp_path / "site"
    copies = copy_runs(sources, runs, 1_000)
    assert build(runs, site).runs == 1_000
    sizes = {page.name: loaded_bytes(page) for page in site.glob("*.html")}
    assert len(sizes) > 20
    assert {name: size for name, size in sizes.items() if size >= 300_000} == {}
    # No run is lost between the pages of the list, and no certificate.
    linked = [
        name
        for page in sorted(site.glob("runs*.html"))
        for name in re.findall(r'<a href="runs/([^/"]+)/index\.html"', page.read_text())
    ]
    assert sorted(linked) == sorted(folder.name for folder in copies)
    told = sum(page.read_text().count("urn:synthfactory:dataset:")
               for page in site.glob("certificates*.html"))  # fmt: skip
    assert told == sum((folder / "release").is_dir() for folder in copies) > 100
    copy_runs(sources, runs, 1, first=1_000)
    again = build(runs, site)
    assert (again.runs, again.read) == (1_001, 1)
    # Where runs are gone, so are the pages that held them.
    for folder in copies[150:]:
        shutil.rmtree(folder)
    build(runs, site)
    assert {page.name for page in site.glob("runs*.html")} == {"runs.html", "runs-2.html"}


def test_the_live_site_follows_a_campaign_and_serves_this_machine_only(
    own_runs: Path, tmp_path: Path
) -> None:
    site, stop, addresses = tmp_path / "site", threading.Event(), []

    def ready(address: str, built: Built) -> None:
        addresses.append(address)

    hidden = shutil.move(next(own_runs.glob("people-bootstrap-*")), tmp_path / "hidden")
    thread = threading.Thread(
        target=serve,
        args=(own_runs, site),
        kwargs={"ready": ready, "stop": stop, "refresh_s": 0.1},
    )
    thread.start()
    try:
        deadline = time.monotonic() + 240
        while not addresses and time.monotonic() < deadline:
            time.sleep(0.02)
        assert addresses, "the site was not served"
        base = addresses[0].removesuffix("index.html")
        assert base.startswith("http://127.0.0.1:")
        before = _get(base + "data/stamp.json")
        assert b"data-live" in _get(base + "index.html")
        shutil.move(hidden, own_runs / "people-bootstrap-s0-arrived")
        # The stamp is written last: who sees a new one sees the new pages.
        while _get(base + "data/stamp.json") == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert b"bootstrap-s0-arrived" in _get(base + "runs.html")
        for path, host, status in (
            (CACHE, None, 404),
            ("data/", None, 404),
            ("../people.csv", None, 404),
            ("index.html", "evil.example", 421),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                _get(base + path, host)
            assert refused.value.code == status
            refused.value.close()
    finally:
        stop.set()
        thread.join()


def _get(address: str, host: str | None = None) -> bytes:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=120) as answer:
        content: bytes = answer.read()
    return content


def test_the_verb_writes_the_site_and_tells_it_as_json(made_runs: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthfactory", "dashboard", str(made_runs), "-o",
         str(tmp_path / "site"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["runs"] == 7
    assert Path(told["address"]).is_file()
    refused = subprocess.run(
        [sys.executable, "-m", "synthfactory", "dashboard", str(tmp_path / "none")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "no folder" in refused.stderr


def test_a_run_that_still_trains_shows_its_curve(own_runs: Path, tmp_path: Path) -> None:
    run = next(own_runs.glob("people-tvae-s0-*"))
    losses = json.loads((run / "fit/training.json").read_text())["losses"]
    for stage in ("fit", "sample", "evaluate", "decide", "release"):
        shutil.rmtree(run / stage)
    (run / "progress.json").unlink()  # nobody works on it any more
    lines = [json.dumps(report) for report in losses]
    (run / "fit.losses.jsonl").write_text("\n".join(lines) + '\n{"step": 9')
    build(own_runs, tmp_path / "site")
    page = (tmp_path / "site/runs" / run.name / "index.html").read_text()
    assert "Training losses by step" in page
    assert "Interrupted" in page


def test_reading_runs_needs_neither_torch_nor_dask() -> None:
    code = (
        "import sys, synthfactory.dashboard; "
        "print([m for m in ('torch', 'dask', 'hydra', 'sklearn', 'pandas')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
