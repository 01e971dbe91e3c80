"""Results of an unfinished evaluation: read exactly as they were made, or not at all."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from people import make_people

import synthfactory as sf
from synthfactory.errors import EvaluationError
from synthfactory.evaluation import Evaluation, Evidence, Shelf, conclude, measure, secret_of
from synthfactory.evaluation.evaluate import Standing, Unmeasured
from synthfactory.evaluation.fidelity import shapes
from synthfactory.evaluation.pieces import pack, unpack
from synthfactory.evaluation.privacy import dcr, exact_match
from synthfactory.evaluation.privacy.shadows import Seen
from synthfactory.evaluation.suite import Suite
from synthfactory.evaluation.utility.results import Trained
from synthfactory.tables import Dataset

SUITES = (shapes.SUITE, exact_match.SUITE, dcr.SUITE)
N_PIECES = 6


def same(first: Any, second: Any) -> bool:
    """Whether two results are of the same types and bits."""
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray | np.generic):
        return first.dtype == second.dtype and first.tobytes() == second.tobytes()
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if hasattr(first, "__dataclass_fields__"):
        return same(vars(first), vars(second))
    return bool(first == second or (first != first and second != second))


def test_results_come_back_with_their_types_and_bits() -> None:
    chance = np.random.default_rng(0)
    value = {
        ("learner", "rows"): Trained(predicted=chance.normal(size=(5, 3)), n_rows=5),
        "seen": [Seen(chance.normal(size=(2, 4)), None), Seen(np.zeros((0, 3)), np.ones(4))],
        "why": Unmeasured("too few rows"),
        "numbers": (1, 2**70, 0.1, float("nan"), -float("inf"), True, None, np.float32(0.1)),
        "arrays": [np.asfortranarray(chance.normal(size=(3, 4))), np.array(["a", "bc"])],
        3: np.bool_(True),
        "empty": ((), [], {}),
    }
    assert same(unpack(pack(value)), value)
    columns = unpack(pack(np.asfortranarray(np.ones((3, 4)))))
    assert columns.flags.f_contiguous, "sums over it must go the same way"


@pytest.mark.parametrize(
    "value", [print, np.array([{}]), {1, 2}, pd.DataFrame({"a": [1]}), Path("x"), object()]
)
def test_what_is_more_than_values_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="Expected"):
        pack({"result": [value]})


def packed(document: bytes) -> bytes:
    """A file of this document and no array."""
    import io

    buffer = io.BytesIO()
    np.savez(buffer, document=np.frombuffer(document, dtype=np.uint8))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "subprocess:Popen", "synthfactory.evaluation.pieces:Shelf",
        "synthfactory.evaluation.pieces:os.system", "synthfactory.nowhere:Thing", "builtins:eval",
        "synthfactory.evaluation.evaluate:Path", "synthfactory.evaluation.pieces:AESGCM",
    ],
)  # fmt: skip
def test_file_cannot_name_what_does_more_than_hold_values(name: str) -> None:
    with pytest.raises(ValueError, match="Expected"):
        unpack(packed(f'{{"class": "{name}", "fields": {{}}}}'.encode()))


class Ran:
    """An object whose pickle would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch hacked",)


def test_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trap = np.empty(1, dtype=object)
    trap[0] = Ran()
    np.savez(tmp_path / "trap.npz", document=trap)
    for content in (pickle.dumps(Ran()), (tmp_path / "trap.npz").read_bytes()):
        with pytest.raises(ValueError, match="pickle"):
            unpack(content)
    assert not (tmp_path / "hacked").exists()


def evidence(seed: int = 0, n_rows: int = 600, **settings: Any) -> Evidence:
    chance = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "x": chance.normal(size=n_rows), "c": chance.choice(list("abc"), n_rows),
    })  # fmt: skip
    import pyarrow as pa

    from synthfactory.tables import Column, Schema

    schema = Schema(
        columns=(
            Column(name="x", kind="numerical", dtype="double"),
            Column(name="c", kind="categorical", dtype="string", categories=tuple("abc")),
        )
    )
    table = sf.Table(data=pa.Table.from_pandas(frame, preserve_index=False), schema=schema)
    train, control, test = sf.split(table, seed=0)
    return Evaluation(max_rows=300, repeats=20).gather(
        train=train, control=control, test=test, synthetic=train, seed=3, threads=1, **settings
    )


class Heard:
    """Notes what a shelf tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __call__(self, event: str, **more: Any) -> None:
        self.events.append((event, more["piece"]))

    def count(self, event: str) -> int:
        return sum(name == event for name, _ in self.events)


def shelf(folder: Path, judged: Evidence, key: str = "order") -> tuple[Shelf, Heard]:
    heard = Heard()
    return Shelf(folder, key=key, secret=secret_of(judged), tell=heard), heard


def findings(judged: Evidence, results: Any) -> dict[str, Any]:
    return conclude(judged, SUITES, results).to_dict()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with every piece of `evidence`."""
    judged = evidence()
    there, heard = shelf(tmp_path / "kept", judged)
    measure(judged, SUITES, shelf=there)
    assert heard.count("measured") == len(heard.events) == N_PIECES
    return tmp_path / "kept"


def test_kept_pieces_are_not_made_again_and_say_the_same(kept: Path) -> None:
    judged = evidence()
    there, heard = shelf(kept, judged)
    assert findings(judged, measure(judged, SUITES, shelf=there)) == findings(
        judged, measure(judged, SUITES)
    )
    assert heard.events == []


def test_any_division_into_shares_uses_what_is_kept(kept: Path) -> None:
    judged = evidence()
    files = sorted(kept.iterdir())
    for lost in files[::2]:
        lost.unlink()
    there, heard = shelf(kept, judged)
    merged: dict[Any, Any] = {}
    for number in range(4):
        merged |= measure(judged, SUITES, number=number, of=4, shelf=there)
    assert heard.count("measured") == len(heard.events) == len(files[::2])
    assert findings(judged, merged) == findings(judged, measure(judged, SUITES))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "bend",
    [flip, lambda content: content[:-1], lambda content: b"", lambda content: pickle.dumps({})],
    ids=["a bit", "cut short", "empty", "pickle"],
)
def test_damaged_piece_is_told_and_made_again(kept: Path, bend: Callable[[bytes], bytes]) -> None:
    judged = evidence()
    first = sorted(kept.iterdir())[0]
    whole = first.read_bytes()
    first.write_bytes(bend(whole))
    there, heard = shelf(kept, judged)
    assert findings(judged, measure(judged, SUITES, shelf=there)) == findings(
        judged, measure(judged, SUITES)
    )
    assert [event for event, _ in heard.events] == ["discarded", "measured"]
    assert heard.events[0][1] == heard.events[1][1]


def test_one_piece_cannot_stand_for_another(kept: Path) -> None:
    judged = evidence()
    first, second = sorted(kept.iterdir())[:2]
    first.write_bytes(second.read_bytes())
    there, heard = shelf(kept, judged)
    measure(judged, SUITES, shelf=there)
    assert (heard.count("discarded"), heard.count("measured")) == (1, 1)


def test_pieces_of_another_order_are_left_alone(kept: Path) -> None:
    judged = evidence()
    there, heard = shelf(kept, judged, key="another order")
    measure(judged, SUITES, shelf=there)
    assert heard.count("measured") == len(heard.events) == N_PIECES
    assert len(list(kept.iterdir())) == 2 * N_PIECES


def test_pieces_of_another_table_do_not_open(kept: Path) -> None:
    judged = evidence(seed=1)
    there, heard = shelf(kept, judged)
    measure(judged, SUITES, shelf=there)
    assert (heard.count("discarded"), heard.count("measured")) == (N_PIECES, N_PIECES)


def test_files_are_for_their_owner_and_show_nothing(kept: Path) -> None:
    assert kept.stat().st_mode & 0o077 == 0
    for path in kept.iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert b"PK" not in path.read_bytes()[:64], "the container is sealed, too"


def test_progress_counts_what_others_have_made(tmp_path: Path) -> None:
    judged = evidence()
    there, _ = shelf(tmp_path / "kept", judged)
    measure(judged, SUITES, number=0, of=2, shelf=there)
    seen: list[Standing] = []
    measure(judged, SUITES, number=1, of=2, shelf=there, progress=seen.append)
    assert [standing.pieces for standing in seen] == [3, 4, 5]
    assert {standing.of_pieces for standing in seen} == {N_PIECES}
    assert seen[-1].fraction + seen[-1].share == pytest.approx(1.0)


def test_what_cannot_be_measured_is_kept_and_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    def cannot(evidence: Evidence) -> Any:
        raise EvaluationError("too few rows")

    suites = [
        Suite.of("a", cannot, ids=["a"]),
        Suite.of("b", lambda evidence: [print], ids=["b"]),  # type: ignore[list-item, return-value]
    ]
    judged = evidence()
    for again in (False, True):
        there, heard = shelf(tmp_path / "kept", judged)
        results = measure(judged, suites, shelf=there)
        assert results == {("a", "whole"): Unmeasured("too few rows"), ("b", "whole"): [print]}
        assert heard.events[-1] == ("unkept", "b whole")
        assert heard.count("measured") == (0 if again else 1)


def entity(frame: pd.DataFrame) -> dict[str, Any]:
    frame["patient"] = [f"P{number // 3:06d}" for number in range(len(frame))]
    return {"target": "outcome", "entity": "patient"}


def regression(frame: pd.DataFrame) -> dict[str, Any]:
    frame["pressure"] = frame["pressure"].fillna(frame["pressure"].mean())
    return {"target": "pressure", "sensitive": ["outcome"]}


def nothing_to_predict(frame: pd.DataFrame) -> dict[str, Any]:
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [entity, regression, nothing_to_predict])
def test_every_piece_of_an_evaluation_can_be_kept(
    kind: Callable[[pd.DataFrame], dict[str, Any]], tmp_path: Path
) -> None:
    frame = make_people(1_500)
    settings = kind(frame)
    frame.to_csv(tmp_path / "people.csv", index=False)
    table = Dataset(path=str(tmp_path / "people.csv"), **settings).load()
    train, control, test = sf.split(table, seed=0)
    evaluation = Evaluation(max_rows=500, repeats=20, attacks=100)
    judged = evaluation.gather(
        train=train, control=control, test=test, synthetic=control, seed=1, threads=1
    )
    there, heard = shelf(tmp_path / "kept", judged)
    first = measure(judged, evaluation.suites, shelf=there)
    assert heard.count("measured") == len(heard.events) == len(first)
    there, heard = shelf(tmp_path / "kept", judged)
    again = measure(judged, evaluation.suites, shelf=there)
    assert heard.events == []
    assert all(same(first[name], again[name]) for name in first)
    plain = measure(judged, evaluation.suites)
    told = [conclude(judged, evaluation.suites, made).to_dict() for made in (plain, first, again)]
    assert told[0] == told[1] == told[2]
