"""Rows at scale: the same bytes on any workers, killed at any moment, in few files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from waiting import eventually

from synthfactory import artifacts, certification, generation, generators, interruption, seeds
from synthfactory.clusters import Local
from synthfactory.errors import Interrupted, OrderError, StageError
from synthfactory.generation import (
    Advance,
    Plan,
    Request,
    choose_shards_per_part,
    generate,
    make_part,
)
from synthfactory.tables import Column, Schema, bits_per_row, check_room
from synthfactory.workers import Workers

N_ROWS = 9_500
REFERENCE_ROWS = 2_700_000


def small(run: Path, **values: Any) -> Request:
    """A request of five parts: ten shards, the last of half the size."""
    given = {"n_rows": N_ROWS, "rows_per_shard": 1_000, "shards_per_part": 2, **values}
    return Request(run=run, **given)


def plan_of(request: Request) -> Plan:
    model = generators.load_model(request.run / "fit" / "model")
    return Plan.of(request, model, artifacts.read_done(request.run / "fit")["files"])


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every finished part."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("data/part-*.parquet")
    }


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


@pytest.fixture(scope="module")
def made(certified_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the small request, made in this process on one thread."""
    folder = tmp_path_factory.mktemp("made")
    generate(small(certified_run), folder, threads=1)
    return folder


def root(folder: Path) -> str:
    merkle_root: str = artifacts.read_json(folder / "manifest.json")["merkleRoot"]
    return merkle_root


def test_manifest_is_the_one_that_the_files_give(certified_run: Path, made: Path) -> None:
    schema = generators.load_model(certified_run / "fit" / "model").schema
    assert artifacts.read_json(made / "manifest.json") == certification.build_manifest(made, schema)


def test_a_shard_is_a_row_group_with_a_stream_of_its_own(certified_run: Path, made: Path) -> None:
    model = generators.load_model(certified_run / "fit" / "model")
    part = pq.ParquetFile(made / "data" / "part-00003.parquet")
    assert part.metadata.num_row_groups == 2
    alone = model.sample(
        1_000, seed=seeds.derive(0, "more rows"), shard=7, first_row=7_000
    ).to_arrow()
    assert part.read_row_group(1).equals(alone)


def test_identifiers_continue_over_all_parts(made: Path) -> None:
    names = pq.read_table(made / "data").column("patient").to_pylist()
    assert len(names) == len(set(names)) == N_ROWS


def test_threads_do_not_change_the_bytes(certified_run: Path, made: Path, tmp_path: Path) -> None:
    assert generate(small(certified_run), tmp_path, threads=3).merkle_root == root(made)


@contextlib.contextmanager
def noting_loads(n_orders: int, threads: int) -> Iterator[Workers]:
    with Local(n_workers=3).connect(n_orders, threads) as workers:
        yield workers
        loads = workers.client.run(lambda: generation.parts.load_model.cache_info().misses)
        assert len(loads) == 3
        assert max(loads.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "connect", [Local(n_workers=1).connect, noting_loads], ids=["1 worker", "3 workers"]
)
def test_workers_do_not_change_the_bytes(
    connect: Any, certified_run: Path, made: Path, tmp_path: Path
) -> None:
    told: list[Advance] = []
    done = generate(small(certified_run), tmp_path, connect=connect, watch=told.append)
    assert done.merkle_root == root(made)
    assert (done.written, done.kept, done.n_rows) == (5, 0, N_ROWS)
    assert (told[-1].parts_done, told[-1].rows_done) == (5, N_ROWS)
    assert told[-1].left_s == 0.0


@contextlib.contextmanager
def one_leaves(n_orders: int, threads: int) -> Iterator[Workers]:
    with Local(n_workers=2).connect(n_orders, threads) as workers:
        first, _ = sorted(workers.client.nthreads())
        workers.client.run(interruption.ask, workers=[first])
        yield Workers(client=workers.client, elastic=True)
        eventually("the worker gone", lambda: first not in workers.client.nthreads())


@pytest.mark.slow
def test_worker_that_is_asked_to_stop_leaves_its_part_to_others(
    certified_run: Path, made: Path, tmp_path: Path
) -> None:
    done = generate(small(certified_run), tmp_path, connect=one_leaves)
    assert done.merkle_root == root(made)


def test_process_that_is_asked_to_stop_leaves_whole_parts(
    certified_run: Path, made: Path, tmp_path: Path
) -> None:
    def stop_at_two(advance: Advance) -> None:
        if advance.parts_done == 2:
            interruption.ask()

    with pytest.raises(Interrupted):
        generate(small(certified_run), tmp_path, watch=stop_at_two)
    interruption.forget()
    before = stamps(tmp_path)
    assert len(before) == 2
    assert not unfinished(tmp_path)
    done = generate(small(certified_run), tmp_path)
    assert (done.written, done.kept) == (3, 2)
    assert before.items() <= stamps(tmp_path).items()
    assert done.merkle_root == root(made)


def test_two_requests_never_mix(certified_run: Path, made: Path) -> None:
    before = stamps(made)
    for change in ({"seed": 1}, {"n_rows": N_ROWS + 1}, {"conditions": {"outcome": "ill"}},
                   {"shards_per_part": 3}, {"shortfall": "warn"}):  # fmt: skip
        with pytest.raises(OrderError, match="another request"):
            generate(small(certified_run, **change), made)
    assert stamps(made) == before


def test_finished_request_reads_no_part(certified_run: Path, made: Path, tmp_path: Path) -> None:
    for name in ("request.json", "manifest.json"):
        artifacts.write_atomic(tmp_path / name, (made / name).read_bytes())
    # Parts of the right size that hold nothing: whoever read them would notice.
    for part in artifacts.read_json(made / "manifest.json")["parts"]:
        artifacts.write_atomic(tmp_path / part["path"], bytes(part["size"]))
    done = generate(small(certified_run), tmp_path)
    assert (done.written, done.kept) == (0, 5)
    assert done.merkle_root == root(made)


def one_part(run: Path, folder: Path) -> tuple[Plan, Path, Path]:
    """A request whose first part is made: its plan, the part and its record."""
    plan = plan_of(small(run))
    make_part(plan, folder, 0)
    return plan, folder / plan.part(0).path, folder / plan.part(0).record


def test_part_without_a_record_is_made_again_and_compared(
    certified_run: Path, tmp_path: Path
) -> None:
    plan, path, record = one_part(certified_run, tmp_path)
    before, told = stamps(tmp_path), artifacts.read_json(record)
    record.unlink()
    again = make_part(plan, tmp_path, 0)
    assert stamps(tmp_path) == before
    assert again["sha256"] == told["sha256"] == artifacts.digest_file(path)[7:]
    assert artifacts.read_json(record)["sha256"] == told["sha256"]


@pytest.mark.parametrize("lost", ["record", "file"])
def test_late_commit_of_other_bytes_is_refused(
    lost: str, certified_run: Path, tmp_path: Path
) -> None:
    plan, path, record = one_part(certified_run, tmp_path)
    if lost == "record":
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
        record.unlink()
    else:
        artifacts.write_json(record, {**artifacts.read_json(record), "sha256": "0" * 64})
        path.unlink()
    before = stamps(tmp_path)
    with pytest.raises(StageError, match="equal requests must give equal bytes"):
        make_part(plan, tmp_path, 0)
    assert stamps(tmp_path) == before
    assert record.exists() == (lost == "file")
    assert not unfinished(tmp_path)


def test_part_that_was_cut_is_noticed(certified_run: Path, tmp_path: Path) -> None:
    _, path, _ = one_part(certified_run, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    generation.parts.claim(plan_of(small(certified_run)), tmp_path,
                      generators.load_model(certified_run / "fit" / "model"))  # fmt: skip
    with pytest.raises(StageError, match="was changed: expected"):
        generate(small(certified_run), tmp_path)


def test_model_that_changed_is_noticed(certified_run: Path, tmp_path: Path) -> None:
    plan = plan_of(small(certified_run))
    other = Plan(
        request=plan.request,
        model={**plan.model, generation.plan.MODEL: "sha256:0"},
        software=plan.software,
    )
    with pytest.raises(StageError, match="not the one of the request"):
        make_part(other, tmp_path, 0)


def test_worker_with_other_software_is_refused(certified_run: Path, tmp_path: Path) -> None:
    plan = plan_of(small(certified_run))
    old = Plan(request=plan.request, model=plan.model, software={**plan.software, "torch": "0.1"})
    with pytest.raises(StageError, match=r"torch 0\.1"):
        make_part(old, tmp_path, 0)


def test_files_are_few_at_any_time(certified_run: Path, tmp_path: Path) -> None:
    def count(advance: Advance) -> None:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) == 2 * advance.parts_done + 1

    generate(small(certified_run), tmp_path, watch=count)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    parts = [f"data/part-{number:05d}.parquet" for number in range(5)]
    assert left == ["data", *parts, "manifest.json", "request.json"]


ADULT_LIKE = Schema(
    columns=(
        *(
            Column(name=f"n{i}", kind="numerical", dtype="int64", minimum=0, maximum=99, decimals=0)
            for i in range(6)
        ),
        *(
            Column(name=f"c{i}", kind="categorical", dtype="string", categories=tuple("abcdefghij"))
            for i in range(9)
        ),
    )
)


@pytest.mark.parametrize(
    ("n_rows", "fewest", "most"),
    [(10**6, 1, 1), (10**8, 64, 128), (10**9, 64, 128), (10**11, 1_000, 10_000)],
)
def test_number_of_parts_is_reasonable(n_rows: int, fewest: int, most: int) -> None:
    shard = 131_072 * bits_per_row(ADULT_LIKE) / 8
    shards = -(-n_rows // 131_072)
    per_part = choose_shards_per_part(shards, shard)
    parts = -(-shards // per_part)
    assert fewest <= parts <= most
    assert per_part * shard <= 2**29
    if parts > 128:
        assert per_part * shard > 2**28


def test_wide_table_has_small_parts() -> None:
    assert choose_shards_per_part(10_000, 600e6) == 1
    assert choose_shards_per_part(10_000, 100e6) == 4


def test_names_of_parts_sort_as_their_numbers(certified_run: Path) -> None:
    plan = plan_of(small(certified_run, n_rows=150_000, rows_per_shard=1, shards_per_part=1))
    paths = [plan.part(index).path for index in (0, 9, 99_999, 100_000, 149_999)]
    assert paths == sorted(paths)
    assert plan.part(149_999).n_rows == 1


def test_billions_of_rows_are_planned_and_more_than_json_can_count_are_refused(
    certified_run: Path,
) -> None:
    plan = plan_of(Request(run=certified_run, n_rows=10**12))
    assert plan.n_parts < 100_000
    last = plan.part(plan.n_parts - 1).shards[-1]
    assert last.first_row + last.n_rows == 10**12
    with pytest.raises(OrderError, match="rows: expected"):
        Request(run=certified_run, n_rows=2**53)


@pytest.mark.parametrize(("dtype", "limit"), [("int16", 32_767), ("float", 2**24)])
def test_identifier_that_cannot_number_the_rows_is_refused(dtype: str, limit: int) -> None:
    schema = Schema(columns=(Column(name="id", kind="identifier", dtype=dtype),))
    check_room(schema, limit)
    with pytest.raises(OrderError, match="which numbers"):
        check_room(schema, limit + 1)


def test_rows_meet_conditions_in_every_part(certified_run: Path, tmp_path: Path) -> None:
    done = generate(small(certified_run, conditions={"age": "30..40"}), tmp_path)
    ages = pq.read_table(tmp_path / "data").column("age").to_numpy()
    assert done.n_rows == len(ages) == N_ROWS
    assert np.all((ages >= 30) & (ages <= 40))


def test_no_rows_are_a_request_too(certified_run: Path, tmp_path: Path) -> None:
    done = generate(small(certified_run, n_rows=0), tmp_path)
    assert (done.n_rows, done.n_parts) == (0, 0)
    assert artifacts.read_json(tmp_path / "manifest.json")["parts"] == []


MEMORY = """
import sys
from pathlib import Path
from synthfactory.generation import Request, generate
run, folder, shards = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
request = Request(run=run, n_rows=shards * 131_072, shards_per_part=64)
print(generate(request, folder, threads=1).peak_rss_mb)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows_of_a_part(certified_run: Path, tmp_path: Path) -> None:
    def peak_mb(n_shards: int) -> int:
        words = [sys.executable, "-c", MEMORY, certified_run, tmp_path / str(n_shards), n_shards]
        done = subprocess.run(map(str, words), capture_output=True, text=True, check=True)
        return int(done.stdout)

    few, many = peak_mb(8), peak_mb(32)
    rows = pq.read_table(tmp_path / "8" / "data")
    more_mb = 3 * rows.nbytes / 2**20
    assert more_mb > 100
    assert many - few < more_mb / 4


def command(run: Path, folder: Path, *words: str) -> list[str]:
    return [
        sys.executable, "-m", "synthfactory", "sample", str(run), "--rows", str(REFERENCE_ROWS),
        "-o", str(folder), "--json", *words,
    ]  # fmt: skip


def run_command(run: Path, folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        command(run, folder, *words), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def undisturbed(certified_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The root of three parts that nobody disturbed, made in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    told = run_command(certified_run, folder, "cluster.n_workers=1")
    assert (told["written"], told["parts"], told["rows"]) == (3, 3, REFERENCE_ROWS)
    merkle_root: str = told["merkle_root"]
    return merkle_root


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 300
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it ended too soon to be disturbed"


@pytest.mark.slow
@pytest.mark.parametrize("with_", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_request_continues_to_the_same_bytes(
    with_: signal.Signals, undisturbed: str, certified_run: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(certified_run, tmp_path, "cluster.n_workers=2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: any((tmp_path / "records").glob("*.json")), process)
    os.killpg(process.pid, with_)
    _, told = process.communicate(timeout=300)
    if (tmp_path / "manifest.json").exists():
        # On a busy machine the last part may end before the signal is heard.
        assert artifacts.read_json(tmp_path / "manifest.json")["merkleRoot"] == undisturbed
        return
    recorded = {path.stem for path in (tmp_path / "records").glob("*.json")}
    before = {name: stamp for name, stamp in stamps(tmp_path).items() if name[:10] in recorded}
    assert before
    # Killed it may have been after its last part, before the manifest.
    if with_ != signal.SIGKILL:
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 75}[with_], told
        assert not unfinished(tmp_path)
    told = run_command(certified_run, tmp_path, "cluster.n_workers=3")
    assert told["merkle_root"] == undisturbed
    assert told["kept"] == len(before)
    assert before.items() <= stamps(tmp_path).items()
    assert not unfinished(tmp_path)


@pytest.mark.slow
def test_two_commands_at_once_make_one_result(
    undisturbed: str, certified_run: Path, tmp_path: Path
) -> None:
    both = [
        subprocess.Popen(
            command(certified_run, tmp_path, "cluster.n_workers=1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert json.loads(out)["merkle_root"] == undisturbed
    assert len(stamps(tmp_path)) == 3
    assert not unfinished(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_full_disk_leaves_whole_parts_and_the_same_command_finishes(
    undisturbed: str, certified_run: Path, tmp_path: Path
) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        full = subprocess.run(
            command(certified_run, tmp_path, "cluster.n_workers=2"),
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert full.returncode == 2, full.stderr
        assert "the disk is full" in full.stderr
        assert "set -o to another disk" in full.stderr
        before = stamps(tmp_path)
        assert 0 < len(before) < 3
        assert not unfinished(tmp_path)
        for path in (tmp_path / "data").iterdir():
            whole = 8 * 131_072
            rest = REFERENCE_ROWS - 2 * whole
            assert pq.read_metadata(path).num_rows in (whole, rest)
        subprocess.run(["mount", "-o", "remount,size=256m", str(tmp_path)], check=True)
        told = run_command(certified_run, tmp_path)
        assert told["merkle_root"] == undisturbed
        assert before.items() <= stamps(tmp_path).items()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_parquet_is_readable_elsewhere_as_plain_types(made: Path) -> None:
    schema = pq.read_schema(made / "data" / "part-00000.parquet")
    assert schema.field("patient").type == pa.string()
    assert schema.field("age").type == pa.int64()
    assert schema.field("region").type == pa.string()
