"""Seven traps: where respected libraries give wrong verdicts, their values and ours on equal rows.

Tests with the mark ``parity`` reproduce a library's value and run beside it (``make parity``); the
others show ours and run always.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
from known_tables import as_tables, evidence_of
from other_libraries import library, method_from_source, parity
from safetensors.numpy import load_file
from sklearn.neighbors import NearestNeighbors

import synthfactory as sf
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.fidelity import pairs
from synthfactory.evaluation.neighbours import by_scale, nearest, scales
from synthfactory.evaluation.privacy import (
    attribute_inference,
    authenticity,
    dcr,
    domias,
    linkability,
    singling_out,
)

Frame = pd.DataFrame


# Trap 1: anonymeter corrects for a control of another size, and sees a risk where there is none.

N_ORIGINAL, N_CONTROL = 10_000, 1_000


def independent(n_rows: int, chance: np.random.Generator) -> Frame:
    """Ten numbers that do not depend on each other."""
    return pd.DataFrame(chance.random((n_rows, 10)), columns=list("abcdefghij"))


def anonymeter_risk(n_control: int) -> Any:
    evaluators = library("anonymeter.evaluators")
    chance = np.random.default_rng(1)
    original, synthetic = (independent(N_ORIGINAL, chance) for _ in range(2))
    control = independent(n_control, chance)
    evaluator = evaluators.SinglingOutEvaluator(
        ori=original, syn=synthetic, control=control, n_attacks=500, n_cols=3, seed=1
    )
    return evaluator.evaluate("multivariate").risk()


@parity
def test_anonymeter_finds_a_risk_in_independent_rows_when_the_control_is_small() -> None:
    value, (low, high) = anonymeter_risk(N_CONTROL)
    assert value == pytest.approx(0.26, abs=0.02)
    assert (low, high) == pytest.approx((0.22, 0.30), abs=0.02)


@parity
def test_anonymeter_finds_hardly_any_when_the_control_is_as_large() -> None:
    value, (low, _) = anonymeter_risk(N_ORIGINAL)
    assert value < 0.1
    assert low < 0.02


def test_a_small_control_raises_no_alarm_of_ours() -> None:
    alarms = 0
    for seed in range(10):
        chance = np.random.default_rng(seed)
        found = singling_out.measure(
            evidence_of(
                train=independent(N_ORIGINAL, chance),
                control=independent(N_CONTROL, chance),
                test=independent(N_CONTROL, chance),
                synthetic=independent(N_ORIGINAL, chance),
                seed=seed,
                settings={"attacks": 500},
            )
        )
        assert abs(found.estimate) < 0.1
        alarms += found.lcb > 0
    assert alarms <= 1


# Trap 2: anonymeter mixes up people and signs, fails on dates, and takes ties as they come.


def with_secret(n_rows: int, secret: npt.NDArray[Any], chance: np.random.Generator) -> Frame:
    known = chance.normal(size=(n_rows, 2))
    return pd.DataFrame({"a": known[:, 0], "b": known[:, 1], "secret": secret})


def coins(n_rows: int, chance: np.random.Generator) -> Frame:
    """Nothing tells the secret: whoever guesses is right half the time."""
    return with_secret(n_rows, np.array(["heads", "tails"])[chance.integers(0, 2, n_rows)], chance)


def debts(n_rows: int, chance: np.random.Generator, sign: int = -1) -> Frame:
    """Nothing tells the secret, and it is negative."""
    return with_secret(n_rows, sign * 1_000 * np.exp(chance.normal(size=n_rows)), chance)


def four(draw: Any, n_rows: int, **more: Any) -> dict[str, Frame]:
    chance = np.random.default_rng(0)
    names = ("train", "control", "test", "synthetic")
    return {name: draw(n_rows, chance, **more) for name in names}


def anonymeter_inference(frames: dict[str, Frame], n_attacks: int, *, regression: bool) -> Any:
    evaluators = library("anonymeter.evaluators")
    np.random.seed(0)  # noqa: NPY002  (the library draws from it)
    return (
        evaluators.InferenceEvaluator(
            ori=frames["train"],
            syn=frames["synthetic"],
            control=frames["control"],
            aux_cols=["a", "b"],
            secret="secret",
            regression=regression,
            n_attacks=n_attacks,
        )
        .evaluate(n_jobs=1)
        .results()
    )


@parity
def test_anonymeter_says_that_a_coin_is_guessed_two_times_in_a_hundred() -> None:
    found = anonymeter_inference(four(coins, 10_000), 300, regression=False)
    assert found.attack_rate.value == pytest.approx(0.5, abs=0.1)
    assert found.baseline_rate.value == pytest.approx(0.02, abs=0.02)


def test_a_coin_is_guessed_half_the_time_by_members_strangers_and_the_mode() -> None:
    found = attribute_inference.measure(evidence_of(**four(coins, 2_000), sensitive=("secret",)))
    (secret, *_) = found.details["secrets"]
    assert secret["most_frequent"] == pytest.approx(0.5, abs=0.03)
    assert secret["members"] == pytest.approx(0.5, abs=0.04)
    assert secret["strangers"] == pytest.approx(0.5, abs=0.04)
    assert found.lcb <= 0 <= found.ucb


@parity
def test_anonymeter_calls_every_negative_guess_right() -> None:
    rates = [
        anonymeter_inference(four(debts, 2_000, sign=sign), 300, regression=True).attack_rate.value
        for sign in (-1, 1)
    ]
    assert rates[0] > 0.98
    assert rates[1] < 0.1


def test_the_sign_of_a_secret_does_not_change_how_often_it_is_guessed() -> None:
    shares = []
    for sign in (-1, 1):
        frames = four(debts, 2_000, sign=sign)
        found = attribute_inference.measure(evidence_of(**frames, sensitive=("secret",)))
        shares.append(found.details["secrets"][0]["strangers"])
        assert found.lcb <= 0 <= found.ucb
    assert max(shares) < 0.2
    assert shares[0] == pytest.approx(shares[1], abs=0.03)


def dates(n_rows: int, chance: np.random.Generator) -> Frame:
    """Three moments of a life, each to the hour."""
    hours = chance.integers(0, 1_000_000, (n_rows, 3))
    moments = pd.Timestamp("1950-01-01") + pd.to_timedelta(hours.ravel(), unit="h")
    return pd.DataFrame(moments.to_numpy().reshape(-1, 3), columns=["born", "wed", "moved"])


@parity
def test_anonymeter_cannot_single_anybody_out_by_dates() -> None:
    evaluators, exceptions = library("anonymeter.evaluators"), library("polars.exceptions")
    rows = dates(1_000, np.random.default_rng(0))
    attack = evaluators.SinglingOutEvaluator(ori=rows, syn=rows, n_attacks=100, n_cols=2, seed=0)
    with pytest.raises(exceptions.InvalidOperationError, match="cannot compare 'date/datetime"):
        attack.evaluate("multivariate")


def test_a_copied_date_singles_its_person_out() -> None:
    frames = four(dates, 1_000)
    leak = singling_out.measure(evidence_of(**{**frames, "synthetic": frames["train"]}))
    clean = singling_out.measure(evidence_of(**frames))
    assert leak.lcb > 0.5
    assert clean.lcb <= 0


def crossed(n_rows: int, chance: np.random.Generator) -> Frame:
    """Two columns of two levels: many rows are equally near."""
    return pd.DataFrame(chance.choice(["0", "1"], (n_rows, 2)), columns=["left", "right"])


def fair_share_of_links(rows: Frame) -> float:
    """How often the first of the nearest rows is the same on both sides, in a random order."""
    both = pd.crosstab(rows["left"], rows["right"]).to_numpy()
    either = both.sum(axis=1)[:, None] + both.sum(axis=0)[None, :] - both
    return float((both / either * both).sum() / both.sum())


@parity
def test_the_links_of_anonymeter_depend_on_the_order_of_equal_rows() -> None:
    evaluator = library("anonymeter.evaluators.linkability_evaluator")
    rows = crossed(200, np.random.default_rng(0))
    shares = []
    for seed in range(12):
        order = np.random.default_rng(seed).permutation(len(rows))
        found = evaluator._linkability_attack(
            ori=rows,
            syn=rows.iloc[order].reset_index(drop=True),
            n_attacks=len(rows),
            aux_cols=(["left"], ["right"]),
            n_neighbors=1,
            n_jobs=1,
        )
        shares.append(found.count_links(1) / len(rows))
    assert max(shares) - min(shares) > 0.1, "the same rows in another order"
    assert np.mean(shares) < fair_share_of_links(rows) / 3


@parity
def test_the_baseline_of_anonymeter_cannot_be_repeated() -> None:
    evaluator = library("anonymeter.evaluators.linkability_evaluator")
    drawn = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002  (all that a caller can do)
        drawn.append(evaluator._random_linkability_attack(1_000, 100, 1)._idx_0)
    assert not np.array_equal(*drawn)


def test_equally_near_rows_are_linked_as_often_as_chance_says() -> None:
    rows = crossed(200, np.random.default_rng(0))
    shares = []
    for seed in range(200):
        evidence = evidence_of(train=rows, control=rows, test=rows, synthetic=rows, seed=seed)
        found = linkability.attack(evidence, evidence.synthetic, ((0,), (1,)), "test")
        shares.append(found.members.mean())
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) == pytest.approx(fair_share_of_links(rows), abs=3 * error)
    assert error < 0.03


def test_the_links_of_ours_can_be_repeated_and_so_can_their_baseline() -> None:
    rows = crossed(200, np.random.default_rng(0))
    evidence = evidence_of(train=rows, control=rows, test=rows, synthetic=rows, seed=3)
    assert linkability.measure(evidence) == linkability.measure(evidence)
    assert linkability.naive(len(rows), 1) == pytest.approx(1 / len(rows))


# Trap 3: SDMetrics counts ties for the holdout, and leaves columns with an order out.


def discrete(n_rows: int, chance: np.random.Generator) -> Frame:
    """512 different rows: more than half of 500 people have a double among 500 others."""
    rows = pd.DataFrame(chance.choice(list("abcd"), (n_rows, 4)), columns=list("abcd"))
    return rows.assign(e=chance.choice(["y", "n"], n_rows))


def sdmetrics_metadata(rows: Frame, **kinds: str) -> dict[str, Any]:
    guess = {
        name: "numerical" if pd.api.types.is_numeric_dtype(rows[name]) else "categorical"
        for name in rows
    }
    return {"columns": {name: {"sdtype": kind} for name, kind in {**guess, **kinds}.items()}}


def sdmetrics_protection(frames: dict[str, Frame]) -> float:
    module = library("sdmetrics.single_table.privacy.dcr_overfitting_protection")
    score = module.DCROverfittingProtection.compute(
        real_training_data=frames["train"],
        synthetic_data=frames["synthetic"],
        real_validation_data=frames["control"],
        metadata=sdmetrics_metadata(frames["train"]),
        table_name=None,
    )
    return float(score)


@parity
def test_sdmetrics_calls_a_verbatim_copy_perfectly_protected() -> None:
    frames = four(discrete, 500)
    assert sdmetrics_protection({**frames, "synthetic": frames["train"]}) == 1.0


def test_a_verbatim_copy_of_levels_is_nearer_to_members() -> None:
    frames = four(discrete, 500)
    clean, copied = (
        {found.id: found for found in dcr.measure(evidence_of(**{**frames, "synthetic": rows}))}
        for rows in (frames["synthetic"], frames["train"])
    )
    assert clean[dcr.ID].lcb <= 0.5 <= clean[dcr.ID].ucb
    assert copied[dcr.ID].lcb > 0.6


GRADES = pd.DataFrame({"grade": [1, 2, 3, 4, 5] * 20, "x": np.arange(100.0)})


@parity
def test_sdmetrics_does_not_see_a_column_with_an_order() -> None:
    distances = library("sdmetrics.single_table.privacy.dcr_utils").calculate_dcr
    turned = GRADES.assign(grade=6 - GRADES["grade"])
    metadata = sdmetrics_metadata(GRADES, grade="ordinal")
    assert distances(turned, GRADES, metadata).max() == 0


def test_a_column_with_an_order_counts_in_our_distances() -> None:
    turned = GRADES.assign(grade=6 - GRADES["grade"])
    seen = evidence_of(
        train=GRADES, control=GRADES, test=GRADES, synthetic=turned, ordinal=("grade",)
    )
    spread = scales(seen.train)
    distances, _ = nearest(
        by_scale(seen.synthetic, spread), by_scale(seen.train, spread), threads=1
    )
    changed = (turned["grade"] != GRADES["grade"]).to_numpy()
    assert (distances[changed] > 0).all()
    assert (distances[~changed] == 0).all()


# Trap 4: SDMetrics bins numbers of both tables on their own, and skips weak pairs.

PAIRS = "fidelity.pair_trends"


def mixture(n_rows: int, chance: np.random.Generator, apart: float = 1.0) -> Frame:
    """A number whose mean depends on a level."""
    level = chance.integers(0, 2, n_rows)
    return pd.DataFrame(
        {"x": chance.normal(size=n_rows) + apart * level, "level": np.array(["a", "b"])[level]}
    )


def with_outlier(rows: Frame) -> Frame:
    changed = rows.copy()
    changed.loc[0, "x"] = 1e9
    return changed


def rescaled(rows: Frame) -> Frame:
    return rows.assign(x=rows["x"] * 1_000 + 5e6)


def sdmetrics_pair(real: Frame, synthetic: Frame) -> dict[str, Any]:
    report = library("sdmetrics.reports.single_table").QualityReport()
    report.generate(real, synthetic, sdmetrics_metadata(real), verbose=False)
    found: dict[str, Any] = report.get_details("Column Pair Trends").iloc[0].to_dict()
    return found


def our_pair(frames: dict[str, Frame], synthetic: Frame) -> Any:
    found = pairs.measure(evidence_of(**{**frames, "synthetic": synthetic}))
    return {item.id: item for item in found}[PAIRS]


@parity
def test_sdmetrics_lets_one_outlier_spoil_a_pair_and_does_not_see_a_wrong_scale() -> None:
    frames = four(mixture, 20_000)
    real, synthetic = frames["train"], frames["synthetic"]
    clean = sdmetrics_pair(real, synthetic)["Score"]
    assert clean == pytest.approx(0.79, abs=0.01), "of equal distributions"
    assert sdmetrics_pair(real, with_outlier(synthetic))["Score"] < 0.01
    assert sdmetrics_pair(real, rescaled(synthetic))["Score"] == pytest.approx(clean)
    assert sdmetrics_pair(real, rescaled(real))["Score"] == 1.0


def test_one_outlier_moves_our_pair_by_one_row_and_a_wrong_scale_is_seen() -> None:
    frames = four(mixture, 20_000)
    clean = our_pair(frames, frames["synthetic"]).estimate
    assert clean > 0.97
    assert our_pair(frames, with_outlier(frames["synthetic"])).estimate == pytest.approx(
        clean, abs=2 / 20_000
    )
    assert our_pair(frames, rescaled(frames["train"])).estimate < 0.4


@parity
def test_sdmetrics_skips_a_weak_pair_and_uses_50_000_rows() -> None:
    frames = four(mixture, 20_000, apart=0.3)
    skipped = sdmetrics_pair(frames["train"], frames["synthetic"])
    assert 0 < skipped["Real Association"] < 0.3
    assert np.isnan(skipped["Score"])
    assert library("sdmetrics.reports.utils").DEFAULT_NUM_ROWS_SUBSAMPLE == 50_000


def test_a_weak_pair_counts() -> None:
    frames = four(mixture, 20_000, apart=0.3)
    broken = frames["synthetic"].assign(
        level=np.random.default_rng(1).permutation(frames["synthetic"]["level"])
    )
    assert our_pair(frames, frames["synthetic"]).lcb > our_pair(frames, broken).ucb


# Trap 5: synthcity looks up the distances of the wrong rows.


def collapsed() -> dict[str, Frame]:
    """A model that gives the same 20 training rows again and again."""

    def draw(n_rows: int, chance: np.random.Generator) -> Frame:
        return pd.DataFrame(chance.normal(size=(n_rows, 5)), columns=list("abcde"))

    frames = four(draw, 1_000)
    picked = np.random.default_rng(1).choice(20, 1_000)
    return {**frames, "synthetic": frames["train"].iloc[picked].reset_index(drop=True)}


@parity
def test_synthcity_calls_20_copied_rows_authentic() -> None:
    metrics = method_from_source(
        "synthcity",
        "synthcity/metrics/eval_statistical.py",
        "AlphaPrecision",
        "metrics",
        {"np": np, "NearestNeighbors": NearestNeighbors, "Optional": Optional, "Tuple": tuple},
    )
    frames = collapsed()
    *_, authenticity_naive = metrics(
        None, frames["train"].to_numpy(), frames["synthetic"].to_numpy()
    )
    assert authenticity_naive == pytest.approx(0.915, abs=0.01)


def test_no_copied_row_is_authentic() -> None:
    frames = collapsed()
    found = authenticity.measure(evidence_of(**frames))
    assert found.estimate == 0.0
    assert found.ucb < found.control
    clean = authenticity.measure(evidence_of(**{**frames, "synthetic": frames["test"]}))
    assert clean.lcb <= clean.control <= clean.ucb
    assert clean.estimate > 0.2


# Trap 6: a pickled ctgan holds the rows that it learnt; no file of a saved model of ours does.

N_PEOPLE = 997


def people(n_rows: int = N_PEOPLE) -> Frame:
    """Levels and a number; their number is a prime, which no layer of a network has."""
    chance = np.random.default_rng(0)
    frame = pd.DataFrame(chance.choice(list("abcdef"), (n_rows, 4)), columns=list("stuv"))
    return frame.assign(x=chance.normal(size=n_rows))


def sequences(value: Any, seen: set[int]) -> Iterator[list[npt.NDArray[Any]]]:
    """Every family of arrays and lists inside an object: each by itself, and siblings together."""
    if id(value) in seen or isinstance(value, (str, bytes)) or value is None:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield [value]
        return
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, (list, tuple, dict, np.ndarray, pd.Index)):
        children = list(inner)
        parts = [part for part in map(as_array, children) if part is not None]
        if parts:
            yield parts
        whole = as_array(children)
        if whole is not None:
            yield [whole]
    elif isinstance(value, (Frame, pd.Series)):
        children = [value.to_numpy()]
    else:
        children = [getattr(value, "__dict__", None)]
    for child in children:
        yield from sequences(child, seen)


def as_array(value: Any) -> npt.NDArray[Any] | None:
    """A flat list or array of numbers or texts as an array, else None."""
    if isinstance(value, np.ndarray):
        return value if value.dtype != object else None
    if not isinstance(value, (list, tuple)) or not value:
        return None
    if not all(isinstance(item, (int, float, str, np.number)) for item in value):
        return None
    return np.array(value)


def labels_of_rows(family: list[npt.NDArray[Any]], n_rows: int) -> Iterator[npt.NDArray[Any]]:
    """Every way in which arrays can say something about each of ``n_rows`` rows."""
    for part in family:
        for axis, length in enumerate(part.shape):
            if length == n_rows:
                yield from np.moveaxis(part, axis, 0).reshape(n_rows, -1).T
    flat = [part.ravel() for part in family]
    if sum(map(len, flat)) == n_rows and all(part.dtype.kind in "iuf" for part in flat):
        joined = np.concatenate(flat)
        if np.array_equal(np.sort(joined), np.arange(n_rows)):
            groups = np.repeat(np.arange(len(flat)), [len(part) for part in flat])
            yield groups[np.argsort(joined)]


def share_rebuilt(objects: list[Any], rows: Frame) -> float:
    """The share of rows whose levels can all be read off these objects, up to names of levels.

    The attacker does not know what the arrays mean: each is tried, and for each column of the table
    the best one is kept.
    """
    right = np.ones(len(rows), dtype=bool)
    candidates = [
        label
        for item in objects
        for family in sequences(item, set())
        for label in labels_of_rows(family, len(rows))
    ]
    for name in "stuv":
        best = np.zeros(len(rows), dtype=bool)
        truth = rows[name].to_numpy()
        for label in candidates:
            guessed = pd.Series(truth).groupby(label).transform(lambda level: level.mode()[0])
            n_groups = len(np.unique(label))
            hit = (guessed == truth).to_numpy() if n_groups <= 2 * rows[name].nunique() else best
            best = max(best, hit, key=np.sum)
        right &= best
    return float(right.mean())


def content_of(path: Path) -> list[Any]:
    """What a file of a saved model holds, read as what it is."""
    if path.suffix == ".json":
        return [json.loads(path.read_bytes())]
    if path.suffix == ".safetensors":
        return list(load_file(path).values())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return [column.to_numpy().astype("U") for column in table.itercolumns()
                if column.type == "string"] + [table.to_pydict()]  # fmt: skip
    raise AssertionError(f"{path} is of a kind that no attack reads")


@parity
def test_a_pickled_ctgan_gives_every_training_row_back(tmp_path: Path) -> None:
    ctgan = library("ctgan")
    rows = people()
    model = ctgan.CTGAN(
        epochs=1,
        batch_size=100,
        embedding_dim=8,
        generator_dim=(16,),
        discriminator_dim=(16,),
        enable_gpu=False,
    )
    model.fit(rows[list("stuv")], discrete_columns=list("stuv"))
    model.save(str(tmp_path / "model.pkl"))
    stolen = ctgan.CTGAN.load(str(tmp_path / "model.pkl"))
    # Nothing but the file: levels are named by the encoders, rows are numbered by the sampler.
    infos = stolen._transformer._column_transform_info_list
    rebuilt = np.empty((len(rows), len(infos)), dtype=object)
    for place, (info, groups) in enumerate(
        zip(infos, stolen._data_sampler._rid_by_cat_cols, strict=True)
    ):
        for level, numbers in zip(info.transform.dummies, groups, strict=True):
            rebuilt[np.asarray(numbers, dtype=int), place] = level
    assert (rebuilt == rows[list("stuv")].to_numpy()).all()
    assert share_rebuilt([stolen], rows) == 1.0


SMALL = {"epochs": 1, "batch_size": 100, "embedding_dim": 8}
SPECS = [
    sf.CTGAN(**SMALL, generator_dims=(16,), discriminator_dims=(16,)),
    sf.TVAE(**SMALL, encoder_dims=(16,), decoder_dims=(16,)),
    sf.Independent(),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_no_file_of_a_saved_model_gives_a_training_row_back(spec: Any, tmp_path: Path) -> None:
    rows = people()
    (table,) = as_tables([rows])
    spec.fit(table, seed=0, threads=1).save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    chance = share_rebuilt([], rows)
    assert share_rebuilt([item for path in files for item in content_of(path)], rows) == chance
    everything = b"".join(path.read_bytes() for path in files)
    inner = np.sort(rows["x"].to_numpy())[1:-1]
    for value in inner:
        for written in (repr(float(value)).encode(), value.tobytes(), value.astype("f4").tobytes()):
            assert written not in everything


def test_the_same_attack_reads_the_rows_of_a_model_that_says_it_holds_them(tmp_path: Path) -> None:
    rows = people()
    (table,) = as_tables([rows])
    sf.Bootstrap().fit(table, seed=0, threads=1).save(tmp_path)
    found = [item for path in tmp_path.iterdir() for item in content_of(path)]
    assert share_rebuilt(found, rows) == 1.0


# Trap 7: distances see nothing in a copy that was shifted.


def shifted_copy() -> dict[str, Frame]:
    """Train rows, moved by one standard deviation in every column."""

    def draw(n_rows: int, chance: np.random.Generator) -> Frame:
        return pd.DataFrame(chance.normal(size=(n_rows, 4)), columns=list("abcd"))

    frames = four(draw, 2_000)
    return {**frames, "synthetic": frames["train"] + 1.0}


def distance_attack(seen: Evidence) -> float:
    """AUC of the attack that takes whoever lies nearer to a synthetic row for a member."""
    spread = scales(seen.train)
    synthetic = by_scale(seen.synthetic, spread)
    members, strangers = (
        nearest(by_scale(side, spread), synthetic, threads=1)[0]
        for side in (seen.members, seen.strangers)
    )
    ordered = members[:, None] < strangers[None, :]
    equal = members[:, None] == strangers[None, :]
    return float((ordered + 0.5 * equal).mean())


@parity
def test_sdmetrics_calls_a_shifted_copy_protected() -> None:
    assert sdmetrics_protection(shifted_copy()) > 0.9


def test_distances_see_nothing_in_a_shifted_copy_and_aligned_ones_see_it() -> None:
    seen = evidence_of(**shifted_copy())
    found = {item.id: item for item in dcr.measure(seen)}
    assert found[dcr.ID].estimate == pytest.approx(0.5, abs=0.02)
    assert distance_attack(seen) == pytest.approx(0.5, abs=0.02)
    assert found[dcr.ID_ALIGNED].lcb > 0.95


def test_densities_on_each_tables_own_ranks_tell_who_was_copied_and_shifted() -> None:
    seen = evidence_of(**shifted_copy())
    suite = domias.SUITE
    found = suite.conclude(seen, {piece: suite.work(seen, piece) for piece in suite.pieces(seen)})
    (near,) = (item for item in found.measurements if item.id == domias.ID_KNN)
    assert near.lcb > 0.99
    assert near.control == pytest.approx(0.5, abs=0.05)
