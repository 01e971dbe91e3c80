"""What is planned for a table is counted, in a chain that nobody can shorten unseen."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from synthfactory.artifacts import read_json, write_json
from synthfactory.errors import StorageError
from synthfactory.ledger import FOLDER, Candidate, Plan, commit_plan, read

TABLE = "sha256:" + "ab" * 32


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(run=name, policy="sha256:p", split="sha256:s") for name in names]


def attempts(plans: dict[str, Plan]) -> dict[str, int]:
    return {name: plan.attempts for name, plan in plans.items()}


def test_all_candidates_of_a_campaign_count_for_each(tmp_path: Path) -> None:
    assert attempts(commit_plan(tmp_path, TABLE, candidates("a", "b"))) == {"a": 2, "b": 2}


def test_later_candidates_count_the_earlier_ones_and_do_not_change_them(tmp_path: Path) -> None:
    commit_plan(tmp_path, TABLE, candidates("a", "b"))
    later = commit_plan(tmp_path, TABLE, candidates("b", "c"))
    assert attempts(later) == {"a": 2, "b": 2, "c": 3}


def test_planning_again_is_no_attempt(tmp_path: Path) -> None:
    first = commit_plan(tmp_path, TABLE, candidates("a"))
    assert commit_plan(tmp_path, TABLE, candidates("a")) == first
    assert len(read(tmp_path, TABLE)) == 1


def test_another_table_has_a_ledger_of_its_own(tmp_path: Path) -> None:
    commit_plan(tmp_path, TABLE, candidates("a"))
    other = commit_plan(tmp_path, "sha256:" + "cd" * 32, candidates("b"))
    assert attempts(other) == {"b": 1}


def test_two_who_plan_at_once_are_both_counted(tmp_path: Path) -> None:
    names = [[f"{writer}-{number}" for number in range(8)] for writer in range(6)]

    def plan_all(mine: list[str]) -> None:
        for name in mine:
            commit_plan(tmp_path, TABLE, candidates(name))

    threads = [threading.Thread(target=plan_all, args=(mine,)) for mine in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = read(tmp_path, TABLE)
    assert [entry["attempts"] for entry in entries] == list(range(1, 49))


@pytest.mark.parametrize("harm", ["removed", "changed", "reordered"])
def test_a_broken_chain_is_noticed(harm: str, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        commit_plan(tmp_path, TABLE, candidates(name))
    first, second, _ = sorted((tmp_path / FOLDER).glob("*/*.json"))
    if harm == "removed":
        second.unlink()
    elif harm == "changed":
        entry = read_json(first)
        entry["planned"], entry["attempts"] = [], 0
        write_json(first, entry)
    else:
        one, two = first.read_bytes(), second.read_bytes()
        first.write_bytes(two)
        second.write_bytes(one)
    with pytest.raises(StorageError, match="not whole"):
        commit_plan(tmp_path, TABLE, candidates("d"))
