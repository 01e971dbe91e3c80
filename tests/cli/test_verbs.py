"""The verbs as a user types them, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synthfactory.cli import main


def synthfactory(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synthfactory", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("verb", ["run", "inspect", "sample", "status", "verify", "keys", "policy"])
def test_every_verb_explains_itself(verb: str) -> None:
    done = synthfactory(verb, "--help")
    assert done.returncode == 0
    assert "exit codes:" in done.stdout


def test_unknown_verb_is_a_usage_error() -> None:
    done = synthfactory("rnu")
    assert done.returncode == 2
    assert "rnu" in done.stderr


def test_show_prints_the_resolved_order_and_makes_nothing(tmp_path: Path) -> None:
    done = synthfactory("run", "--show", "generator=tvae", "seed=4", cwd=tmp_path)
    order = json.loads(done.stdout)
    assert order["generator"]["_target_"] == "synthfactory.generators.TVAE"
    assert order["seed"] == 4
    assert list(tmp_path.iterdir()) == []


BAD_TABLES = {
    "empty.csv": (b"", "empty"),
    "header.csv": (b"a,b\n", "row"),
    "one_row.csv": (b"a,b\n1,2\n", "row"),
    "duplicate.csv": (b"a,a\n" + b"1,2\n" * 50, "'a'"),
    "latin1.csv": ("näme,b\n".encode("latin-1") + b"1,2\n" * 50, "UTF-8"),
    "truncated.parquet": (b"PAR1\x00\x01\x02", "Parquet"),
    "ragged.csv": (b"a,b\n1,2\n" * 20 + b"1,2,3\n", "3"),
}


@pytest.mark.parametrize("name", sorted(BAD_TABLES))
def test_bad_table_is_one_clear_error_and_writes_nothing(name: str, tmp_path: Path) -> None:
    content, word = BAD_TABLES[name]
    (tmp_path / name).write_bytes(content)
    done = synthfactory("run", f"dataset.path={name}", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert word.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_settings_may_stand_anywhere(tmp_path: Path) -> None:
    done = synthfactory("run", "seed=4", "--show", "generator=tvae", "-q", "rows=7", cwd=tmp_path)
    order = json.loads(done.stdout)
    assert (order["seed"], order["rows"]) == (4, 7)
    assert synthfactory("run", "--shwo").returncode == 2


def test_missing_file_is_explained(tmp_path: Path) -> None:
    done = synthfactory("run", "dataset.path=patients.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "patients.csv" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_target_is_explained(people_csv: Path, tmp_path: Path) -> None:
    words = ("run", f"dataset.path={people_csv}", "dataset.target=outcme")
    done = synthfactory(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'outcome'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_setting_is_explained(tmp_path: Path) -> None:
    done = synthfactory("run", "generator.epoch=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'generator.epochs'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_runs_folder_behind_a_file_is_explained(people_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = synthfactory(
        "run", f"dataset.path={people_csv}", "paths.runs=file/runs", "generator=independent",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "set paths.runs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/full").exists(), reason="needs root")
def test_full_disk_is_explained_and_leaves_nothing_half_written(
    people_csv: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        done = synthfactory(
            "run", f"dataset.path={people_csv}", f"paths.runs={disk}", "generator=independent"
        )
        assert done.returncode == 2
        assert "the disk is full" in done.stderr
        assert not list(disk.glob("*/*/*.parquet"))
        assert not list(disk.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_inspect_writes_a_dataset_that_loads_back(people_csv: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "dataset"
    done = synthfactory("inspect", str(people_csv), "-o", str(folder / "people.yaml"))
    assert done.returncode == 0, done.stderr
    written = (folder / "people.yaml").read_text()
    assert "were made common (dataset.min_people=10)" in written
    assert "fewer than 10 people's cells clipped from above" in written
    shown = synthfactory("run", "--show", "--config-dir", str(tmp_path / "mine"), "dataset=people")
    assert json.loads(shown.stdout)["dataset"]["target"] == "outcome"


def test_keys_new_is_private_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    done = synthfactory("keys", "new", str(path))
    assert done.stdout.startswith("did:key:z6Mk")
    assert path.stat().st_mode & 0o777 == 0o600
    again = synthfactory("keys", "new", str(path))
    assert again.returncode == 2
    shown = synthfactory("keys", "show", str(path))
    assert shown.stdout == done.stdout


def test_policy_is_explained_with_reasons() -> None:
    done = synthfactory("policy", "explain")
    assert "privacy.dcr_share" in done.stdout
    assert "because" in done.stdout.lower()


def test_verify_of_no_folder_exits_with_2(tmp_path: Path) -> None:
    assert synthfactory("verify", str(tmp_path / "absent")).returncode == 2


def test_more_rows_are_drawn_once_and_a_wrong_condition_writes_nothing(
    certified_run: Path, tmp_path: Path
) -> None:
    words = ("sample", str(certified_run), "--rows", "300", "-o", str(tmp_path / "more"))
    wrong = synthfactory(*words, "--where", "outcome=il")
    assert wrong.returncode == 2
    assert "did you mean 'ill'" in wrong.stderr
    assert not (tmp_path / "more").exists()
    first = synthfactory(*words, "--where", "outcome=ill")
    assert "1 parts written" in first.stderr
    rows = pq.read_table(tmp_path / "more" / "data" / "part-00000.parquet")
    assert rows.column("outcome").to_pylist() == ["ill"] * 300
    assert "0 parts written, 1 were there" in synthfactory(*words, "--where", "outcome=ill").stderr
    other = synthfactory(*words)
    assert other.returncode == 2
    assert "another request" in other.stderr


def test_rows_of_a_range_are_drawn_and_a_shortfall_is_told(
    certified_run: Path, tmp_path: Path
) -> None:
    words = ("sample", str(certified_run), "--rows", "200")
    done = synthfactory(*words, "-o", str(tmp_path / "some"), "--where", "age=30..40")
    assert done.returncode == 0, done.stderr
    ages = pq.read_table(tmp_path / "some" / "data" / "part-00000.parquet").column("age")
    assert len(ages) == 200
    assert all(30 <= age <= 40 for age in ages.to_pylist())
    never = (*words, "-o", str(tmp_path / "none"), "--where", "pressure=1000..")
    refused = synthfactory(*never)
    assert refused.returncode == 2
    assert "Only 0 of 200 rows met the conditions" in refused.stderr
    assert not list((tmp_path / "none").rglob("*.parquet"))
    told = synthfactory(*never[:3], "200", "-o", str(tmp_path / "none2"), *never[6:],
                        "--shortfall", "warn")  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "Only 0 of 200 rows" in told.stderr


def test_status_of_no_folder_exits_with_2(tmp_path: Path) -> None:
    assert synthfactory("status", str(tmp_path / "absent")).returncode == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "there is no verb 'rnu'; did you mean 'run'?"),
        (["run", "--jsno"], "there is no option '--jsno'; did you mean '--json'?"),
        (["run", "seed=1", "--multrun"], "did you mean '--multirun'?"),
        (["keys", "nwe"], "there is no choice 'nwe'; did you mean 'new'?"),
        (["keys", "new", "k.pem", "--pasphrase"], "did you mean '--passphrase'?"),
        (["completion", "tcsh"], "there is no choice 'tcsh'; known: bash, zsh, fish"),
        (["status", "runs", "more"], "expected no more words, got: more"),
        ([], "a verb is missing"),
        (["keys"], "a verb is missing"),
    ],
)
def test_misspelt_words_are_answered_with_the_right_ones(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
