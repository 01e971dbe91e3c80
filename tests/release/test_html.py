"""The page: whole in every state, the same for the same report, and only text where text is due."""

from __future__ import annotations

import base64
import copy
import hashlib
import html.parser
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import report_examples as examples

from synthfactory.certification import decide
from synthfactory.release import overview, render_html, write_report

Report = dict[str, Any]


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its tags, attributes and text."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "circle", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


@pytest.fixture(params=sorted(examples.ALL))
def any_report(request: pytest.FixtureRequest) -> Report:
    make: Callable[[], Report] = examples.ALL[request.param]
    return make()


def test_every_state_renders_as_well_formed_markup(any_report: Report) -> None:
    Page(render_html(any_report))


def test_the_same_report_gives_the_same_page(any_report: Report) -> None:
    again = json.loads(json.dumps(any_report, sort_keys=True))
    assert render_html(any_report) == render_html(again)


def test_rendering_does_not_change_the_report(any_report: Report) -> None:
    before = copy.deepcopy(any_report)
    render_html(any_report)
    assert any_report == before


def test_nothing_is_loaded_from_anywhere(any_report: Report) -> None:
    page = Page(render_html(any_report))
    assert page.tags.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "use"})
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), f"<{tag} {name}>"
        assert name != "style"
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#") or value == "data:,"


def test_the_policy_allows_this_style_sheet_and_nothing_else() -> None:
    text = render_html(examples.certified())
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(
        value
        for tag, name, value in Page(text).attributes
        if tag == "meta" and name == "content" and "default-src" in value
    )
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_hostile_names_stay_text() -> None:
    page = Page(render_html(examples.hostile()))
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "\"quoted\" & 'single'" in page.text
    assert "عمر المريض" in page.text
    assert "\u202e" not in page.text


def test_every_claim_comes_with_what_it_does_not_prove() -> None:
    report = examples.certified()
    text = Page(render_html(report)).text
    assert text.count("What this does not prove.") == len(report["findings"]["measurements"])
    for item in report["notAssessed"]:
        assert item["what"] in text


@pytest.mark.parametrize("word", ["anonym", " safe", "gdpr", "compliant", "guarantee"])
def test_no_word_claims_more_than_was_measured(any_report: Report, word: str) -> None:
    assert word not in Page(render_html(any_report)).text.lower()


def test_a_certified_report_says_so_and_how_many_rules() -> None:
    text = Page(render_html(examples.certified())).text
    assert "Certified" in text
    assert "All 12 rules of the policy “Default policy for restricted release” hold" in text


def test_a_refusal_shows_each_missed_rule() -> None:
    report = examples.refused()
    text = Page(render_html(report)).text
    assert "3 rules of 12 in the policy “Default policy for restricted release” do not" in text
    for said in (
        "Nearness to training rows: the upper end of the interval is 94.0 %; the policy asks for at"
        " most 53 %.",
        "Members told by a classifier: the upper end of the interval is 0.512; the policy asks for"
        " at most 0.55.",
        "Learning kept: the lower end of the interval is 88.3 %; the policy asks for at least"
        " 75 %.",
    ):
        assert said in text


def test_a_refusal_is_told_in_the_measurements_own_unit() -> None:
    text = Page(render_html(examples.refused())).text
    assert (
        "Exact copies: the upper end of the interval is 42.0 %; the policy asks for at most 0.5 %."
    ) in text


def test_each_threshold_has_its_reason() -> None:
    report = examples.certified()
    text = Page(render_html(report)).text
    assert text.count("Why this bound:") == len(report["policy"]["rules"])


def test_an_instrument_that_failed_is_no_good_news_for_privacy() -> None:
    report = examples.certified()
    report["findings"]["instrument"][0]["flagged"] = False
    report["verdict"] = decide(report["findings"], "default").to_dict()
    report["outcome"] = "refused"
    text = Page(render_html(report)).text
    assert "The tests did not pass their own check on this table." in text
    assert "The tests’ own check failed" in text


def test_a_failed_measurement_is_shown_and_never_read_as_low_risk() -> None:
    text = Page(render_html(examples.incomplete())).text
    assert "Incomplete" in text
    assert "never as low risk: no certificate is issued." in text
    assert "MemoryError: <b>no room</b> for 9,768 rows" in text
    assert "The controls were not run" in text


def test_without_a_target_the_page_says_that_utility_was_not_measured() -> None:
    text = Page(render_html(examples.without_target())).text
    assert "No target column is declared" in text


def test_the_officer_reads_a_sentence_in_numbers_out_of_a_hundred() -> None:
    text = Page(render_html(examples.certified())).text
    assert (
        "Of 100 synthetic rows, 50.3 lie nearer to a training person than to somebody who was"
        " never seen (49.6 to 51.0); chance is 50, and real rows never seen reach 49.9."
    ) in text


def test_columns_come_worst_first() -> None:
    report = examples.certified()
    text = render_html(report)
    table = text[text.index('<table class="columns">') : text.index('<details class="charts">')]
    listed = re.findall(r'<th scope="row"><bdi>([^<]+)</bdi></th><td>', table)
    by_score = sorted(report["findings"]["charts"]["columns"], key=lambda chart: chart["score"])
    assert listed == [chart["name"] for chart in by_score]


@pytest.mark.parametrize(("columns", "budget"), [(100, 1_000_000), (500, 5_000_000)])
def test_many_columns_stay_within_the_budget(columns: int, budget: int) -> None:
    assert len(render_html(examples.wide(columns)).encode()) < budget


def test_many_columns_are_folded_and_none_is_lost() -> None:
    text = Page(render_html(examples.wide(60))).text
    assert "40 more columns" in text
    assert "Histograms of the 40 least faithful columns" in text
    assert all(re.search(rf"column_{at}\D", text) for at in range(60))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["certified_report", "deep_report", "leaking_report"])
def test_a_real_report_shows_every_number_with_its_interval_and_reference(
    name: str, request: pytest.FixtureRequest
) -> None:
    report = request.getfixturevalue(name)
    text = Page(render_html(report)).text
    for row in (
        row for section in overview.sections(report).values() for row in overview.rows_of(section)
    ):
        shown = f"Synthetic: {row['value']} {'exact count' if row['exact'] else row['interval']}"
        shown += f" {row['control_name']}: {row['control']} Policy asks: {row['threshold']}"
        assert " ".join(shown.split()) in text
    assert text.count("What this does not prove.") == len(report["findings"]["measurements"])


@pytest.mark.slow
def test_who_is_hit_hardest_and_what_could_go_unnoticed_is_told(
    certified_report: Report, leaking_report: Report
) -> None:
    for report in (certified_report, leaking_report):
        text = Page(render_html(report)).text
        assert "Who is hit hardest, and what could go unnoticed" in text
        for row in overview.hardest_hit(report):
            assert f"{row['title']}{row['worst']}{row['rarest']}" in text.replace("\u00a0", " ")
    worst = {row["id"]: row["worst"] for row in overview.hardest_hit(leaking_report)}
    assert "p < 0.001" in worst["privacy.exact_match"]


@pytest.mark.slow
def test_who_was_compared_with_whom_and_after_how_many_attempts(
    certified_report: Report, second_attempt: Report
) -> None:
    one, five = (Page(render_html(each)).text for each in (certified_report, second_attempt))
    assert "Attacked were 600 rows of training persons and 600 rows of persons never seen." in one
    assert "One candidate was tried for this release; each interval covers 95 %." in one
    assert "5 candidates were tried for this release, so each interval covers 99 % instead" in five
    assert "Nobody is on both sides: the table was divided by person." in five
    assert "declared as health data" in five


def test_unknown_measurements_have_plain_words() -> None:
    report = examples.certified()
    report["findings"]["measurements"].append(
        examples.measurement(
            "privacy.some_new_attack", 0.01, 0.005, control=0.0, baseline=None, better="lower"
        )
    )
    text = Page(render_html(report)).text
    assert "Some new attack" in text
    assert "Measured 1.0 % (0.50 % to 1.5 %); control 0.0 %." in text


def test_a_page_with_costs_tells_hours_energy_attempts_and_waiting() -> None:
    text = Page(render_html(examples.certified(), examples.costs())).text
    assert "Energy: GPUs (NVML)" in text
    assert "0.0612 kWh of the GPUs of this process; over 97.5 % of the time" in text
    assert "2, of at most 2 min 10 s in all" in text
    assert "1 went on from a checkpoint" in text
    assert "1 h 6 min" in text
    assert "1 min 30 s (2 jobs, which may have served other runs)" in text


def test_what_was_not_measured_is_called_unmeasured() -> None:
    text = Page(render_html(examples.certified(), examples.costs())).text
    assert "unmeasured: <b>no</b> counters" in text
    assert text.count("unmeasured") == 3  # GPU-hours used of the stage and in all, and RAPL.
    waiting = {"queue_s": None, "jobs": 0, "jobs_s": None}
    nothing = Page(
        render_html(examples.certified(), examples.costs(attempts=None, waiting=waiting))
    ).text
    assert "Attempts without a resultunmeasured" in nothing
    assert "Waiting for a workerunmeasured" in nothing
    assert "Waiting in the batch system" not in nothing


def test_a_page_without_costs_says_where_they_are(any_report: Report) -> None:
    text = Page(render_html(any_report)).text
    assert "they are in resources.json of the run" in text
    assert "CPU-hours used" not in text


def test_both_files_are_written(tmp_path: Path) -> None:
    report = examples.certified()
    write_report(tmp_path, report)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert (tmp_path / "report.html").read_text() == render_html(report)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
