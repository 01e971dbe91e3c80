"""What a run's document says, from real files of events and the costs of its stages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_cost import cost_of

from synthfactory.accounting import share, summarise
from synthfactory.accounting.summary import attempts_of, queue_wait_s
from synthfactory.artifacts import canonical_json
from synthfactory.journal import EVENTS_FILE, read_events

Event = dict[str, Any]


def event(at: float, kind: str, stage: str = "fit", attempt: str = "a", **more: Any) -> Event:
    named = None if kind == "queued" else attempt
    return {"at": at, "event": kind, "stage": stage, "attempt": named, **more}


WRITER = """
import json, os, signal, sys, time
file = open(sys.argv[1], "a")
def tell(**event):
    print(json.dumps({"at": time.time(), "pid": os.getpid(), **event}), file=file, flush=True)
tell(event="queued", stage="fit", attempt=None)
time.sleep(0.3)
tell(event="started", stage="fit", attempt=sys.argv[2])
time.sleep(0.4)
if sys.argv[3] == "die":
    file.write('{"at": 17, "event": "comm')
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
tell(event="committed", stage="fit", attempt=sys.argv[2])
"""


def test_killed_attempt_is_counted_with_the_time_until_the_next(tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    command = [sys.executable, "-c", WRITER, str(path)]
    assert subprocess.run([*command, "one", "die"], check=False).returncode == -signal.SIGKILL
    with path.open("a") as file:
        file.write("\n")  # Whoever appends next begins a line of its own.
    subprocess.run([*command, "two", "live"], check=True)
    events = read_events(tmp_path)
    assert [event["event"] for event in events] == [
        "queued", "started", "queued", "started", "committed",
    ]  # fmt: skip
    first, second = attempts_of(events)
    assert (first.committed, second.committed) == (False, True)
    assert not first.known
    assert first.ended_at == events[2]["at"]
    told = summarise({"fit": cost_of()}, events)
    assert told["stages"][0]["attempts"] == 2
    assert told["attempts"]["ended_without_commit"] == 1
    assert told["attempts"]["uncommitted_wall_is"] == "at most"
    queued, started, again, started_again, _ = (event["at"] for event in events)
    assert told["attempts"]["uncommitted_wall_s"] == pytest.approx(again - started, abs=0.01)
    assert again - started > 0.3
    waited_s = started - queued + started_again - again
    assert told["waiting"]["queue_s"] == pytest.approx(waited_s, abs=0.01)
    assert waited_s > 0.5


def test_file_of_events_may_be_absent_or_end_in_half_a_line(tmp_path: Path) -> None:
    assert read_events(tmp_path) == []
    whole = json.dumps(event(1, "started"))
    (tmp_path / EVENTS_FILE).write_text(f"{whole}\n[1]\n{whole[:20]}")
    assert read_events(tmp_path) == [event(1, "started")]


def test_attempts_that_tell_their_end_are_exact() -> None:
    events = [
        event(0, "started", attempt="a", cpus=4, gpus=0.5),
        event(3_600, "interrupted", attempt="a", step=200),
        event(4_000, "started", attempt="b", step=200, cpus=4, gpus=0.5),
        event(4_036, "failed", attempt="b"),
        event(5_000, "started", attempt="c", cpus=4, gpus=0.5),
        event(6_000, "committed", attempt="c"),
    ]
    told = summarise({"fit": cost_of()}, events)["attempts"]
    assert told == {
        "begun": 3,
        "ended_without_commit": 2,
        "of_these_continued": 1,
        "uncommitted_wall_s": 3_636.0,
        "uncommitted_wall_is": "exact",
        "uncommitted_cpu_allocated_h": 4.04,
        "uncommitted_gpu_allocated_h": 0.505,
    }


def test_last_sign_of_life_ends_a_killed_attempt() -> None:
    events = [
        event(0, "started", attempt="a"),
        event(500, "started", attempt="b", last_seen=90),
        event(600, "committed", attempt="b"),
    ]
    (killed, _) = attempts_of(events)
    assert (killed.wall_s, killed.known) == (90.0, True)
    events[1]["last_seen"] = 700  # Of somebody else: it is later than the next attempt.
    assert attempts_of(events)[0].wall_s == 500.0


def test_attempt_that_may_still_be_working_is_not_lost() -> None:
    told = summarise({}, [event(0, "started")])["attempts"]
    assert (told["begun"], told["ended_without_commit"]) == (1, 0)


@pytest.mark.parametrize(
    ("events", "waited_s"),
    [
        # Everything is queued at once; a stage waits only after the one before it.
        (
            [
                event(0, "queued", "split"),
                event(0, "queued", "fit"),
                event(30, "started", "split"),
                event(40, "committed", "split"),
                event(45, "started", "fit", "b"),
                event(90, "committed", "fit", "b"),
            ],
            35.0,
        ),
        # Ordered again after the campaign had died: nobody waited in between.
        ([event(0, "queued"), event(9_000, "queued"), event(9_010, "started")], 10.0),
        ([event(0, "started"), event(10, "committed")], 0.0),
        # Queued as a whole.
        (
            [
                {"at": 0, "event": "queued", "stage": None},
                event(12, "started", "split"),
                event(20, "committed", "split"),
                event(20, "started", "fit", "b"),
            ],
            12.0,
        ),
    ],
)
def test_waiting_is_from_queued_to_started(events: list[Event], waited_s: float) -> None:
    assert queue_wait_s(events) == waited_s


def test_stages_add_up_and_methods_do_not() -> None:
    told = summarise({"split": cost_of(), "fit": share(cost_of(wall_s=30.0), 4)})
    total = told["total"]
    assert total["wall_s"] == 40.0
    assert total["peak_rss_mb"] == 500
    assert total["cpu_used_h"] == pytest.approx(25 / 3_600, rel=1e-5)
    assert total["cpu_allocated_h"] == pytest.approx(50 / 3_600, rel=1e-5)
    assert total["gpu_allocated_h"] == pytest.approx(12.5 / 3_600, rel=1e-5)
    assert total["gpu_used_h"] == pytest.approx(8.75 / 3_600, rel=1e-5)
    by_method = {entry["method"]: entry for entry in told["energy"]}
    assert set(by_method) == {"nvml", "rapl", "unmeasured"}
    assert by_method["nvml"]["kwh"] == pytest.approx(3_750 / 3.6e6, rel=1e-5)
    assert by_method["rapl"]["shared"] is True
    assert by_method["nvml"]["of_wall"] == 0.5


def test_what_is_unmeasured_in_one_stage_is_in_the_total() -> None:
    told = summarise({"split": cost_of(), "fit": cost_of(gpu_busy_s=None)})
    assert told["stages"][0]["gpu_used_h"] is not None
    assert told["total"]["gpu_used_h"] is None


def test_without_events_attempts_and_waiting_are_unmeasured() -> None:
    told = summarise({"fit": cost_of()})
    assert told["attempts"] is None
    assert told["stages"][0]["attempts"] is None
    assert told["waiting"] == {"queue_s": None, "jobs": 0, "jobs_s": None}


def test_each_start_of_a_job_waits_once() -> None:
    def job(number: str, restart: int, wait_s: float | None) -> dict[str, Any]:
        return cost_of(job={"id": number, "restart": restart, "wait_s": wait_s})

    costs = {"split": job("7", 0, 8.0), "fit": job("7", 1, 121.0), "sample": job("7", 1, 121.0)}
    assert summarise(costs)["waiting"] == {"queue_s": None, "jobs": 2, "jobs_s": 129.0}
    costs["decide"] = job("9", 0, None)
    assert summarise(costs)["waiting"] == {"queue_s": None, "jobs": 3, "jobs_s": None}


def test_document_names_no_host_job_or_process_and_is_canonical() -> None:
    secret = cost_of(host="secret-node", job={"id": "4711", "restart": 0, "wait_s": 1.0})
    events = [
        event(1, "started", host="secret-node", pid=31337, job="4711"),
        event(2, "committed", host="secret-node", pid=31337, job="4711"),
    ]
    text = canonical_json(summarise({"fit": secret}, events)).decode()
    for word in ("secret-node", "4711", "31337"):
        assert word not in text
