"""Membership inference: overfitting is found, clean data are not flagged, formulas are right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

import synthfactory as sf
from synthfactory import generators, interruption, shadowing
from synthfactory.errors import Interrupted
from synthfactory.evaluation import Evaluation
from synthfactory.evaluation.evaluate import conclude, measure
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.intervals import clopper_pearson
from synthfactory.evaluation.privacy import domias, epsilon_audit, shadows
from synthfactory.evaluation.roc import auc, auc_interval, rate_at
from synthfactory.generators.likelihood import CellLikelihood, cells, log_clipped_normal
from synthfactory.generators.modes import ColumnModes
from synthfactory.tables import Column, Encoded, Encoder, Schema

LEVELS = tuple("abcdef")
SCHEMA = Schema(
    columns=(
        *(Column(name=f"x{i}", kind="numerical", dtype="double") for i in range(3)),
        *(
            Column(name=f"c{i}", kind="categorical", dtype="string", categories=LEVELS)
            for i in range(2)
        ),
    )
)


def draw(n: int, chance: np.random.Generator) -> Encoded:
    factor = chance.normal(size=(n, 1))
    codes = np.clip(np.rint(factor + chance.normal(size=(n, 2)) + 2.5), 0, 5)
    return Encoded(numbers=factor + chance.normal(size=(n, 3)), codes=codes.astype(np.int32))


def evidence(copied: str, *, seed: int = 0, n: int = 600, **more: Any) -> Evidence:
    chance = np.random.default_rng(seed)
    train, control, test, fresh = (draw(size, chance) for size in (2 * n, n, n, 2 * n))
    synthetic = {"fresh": fresh, "train": train}[copied]
    return Evidence(
        schema=SCHEMA, train=train, control=control, test=test, synthetic=synthetic, seed=seed,
        threads=1, **more,
    )  # fmt: skip


def neighbours(judged: Evidence) -> Any:
    found = domias.work(judged, domias.NEIGHBOURS)
    return domias.measurement(judged, domias.ID_KNN, found, "")


# The area under the curve, and its low end.


def test_area_and_its_error_are_those_of_all_pairs_and_of_the_bootstrap() -> None:
    chance = np.random.default_rng(0)
    a, b = chance.normal(0.4, 1, 300).round(1), chance.normal(0, 1, 200).round(1)
    value, error = auc(a, b)
    pairs = a[:, None] - b[None, :]
    assert value == pytest.approx((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
    repeats = [auc(chance.choice(a, 300), chance.choice(b, 200))[0] for _ in range(400)]
    assert error == pytest.approx(np.std(repeats), rel=0.15)


def test_rows_of_one_person_count_as_one() -> None:
    chance = np.random.default_rng(0)
    a, b = chance.normal(size=100), chance.normal(size=100)
    once = auc(a, b)
    groups = np.repeat(np.arange(100), 4)
    repeated = auc(np.repeat(a, 4), np.repeat(b, 4), positive_groups=groups, negative_groups=groups)
    assert repeated == pytest.approx(once, rel=0.01)
    assert auc(np.repeat(a, 4), np.repeat(b, 4))[1] < 0.6 * once[1]


def test_perfect_scores_keep_an_error() -> None:
    value, error = auc(np.ones(50), np.zeros(50))
    interval, least = auc_interval(value, error, 50, 0.95)
    assert (interval.estimate, interval.ucb) == (1.0, 1.0)
    assert interval.lcb < 1.0
    assert least == pytest.approx(math.sqrt(2 * 0.25) / 50), "half a row wrong on each side"


def test_rate_at_a_small_false_positive_rate_needs_enough_strangers() -> None:
    chance = np.random.default_rng(0)
    strangers = chance.normal(size=1_000)
    members = chance.normal(3, 1, 500)
    found = rate_at(members, strangers, 0.01, 0.95)
    threshold = np.sort(strangers)[-11]
    assert (strangers > threshold).mean() == 0.01
    right = int((members > threshold).sum())
    assert (found["tpr"], found["lcb"]) == clopper_pearson(right, 500, 0.95)[:2]
    too_few = rate_at(members, strangers, 0.001, 0.95)
    assert too_few["tpr"] is None
    assert "10,000" in too_few["why"]


def test_clopper_pearson_solves_its_defining_equations() -> None:
    found = clopper_pearson(7, 40, 0.9)
    assert stats.binom.sf(6, 40, found.lcb) == pytest.approx(0.05)
    assert stats.binom.cdf(7, 40, found.ucb) == pytest.approx(0.05)


# DOMIAS.


def test_copy_of_the_training_rows_is_found() -> None:
    found = neighbours(evidence("train"))
    assert found.estimate > 0.99
    assert found.details["tpr_at_0.1"]["tpr"] > 0.95


def test_constant_shift_in_every_column_hides_nothing() -> None:
    base = evidence("train")
    moved = Encoded(numbers=base.train.numbers + 100.0, codes=base.train.codes)
    shifted = base.judging(moved)
    found = neighbours(shifted)
    assert found.lcb > 0.9
    assert found.details["forms"]["k = 1, numbers by spread"]["lcb"] < 0.55, "the trap"


def test_fresh_rows_are_not_flagged_and_the_control_is_chance() -> None:
    flags, covered = 0, 0
    for seed in range(40):
        judged = evidence("fresh", seed=seed, n=250)
        found = neighbours(judged)
        flags += found.lcb > 0.5
        covered += found.lcb <= 0.5 <= found.ucb
        assert found.control == pytest.approx(0.5, abs=0.12)
    assert flags <= 3
    assert covered >= 36


def test_exact_copy_scores_above_every_other_row() -> None:
    scores = domias.log_ratio(np.array([0.0, 0.0, 1e-6]), np.array([1e-6, 0.0, 15.0]), 15)
    assert scores[0] > scores[2]
    assert scores[1] == 0.0


def test_classifier_form_finds_a_small_copied_table() -> None:
    judged = evidence("train", n=100)
    scores = domias.work(judged, domias.CLASSIFIER).synthetic["gradient boosting"]
    value, error = auc(scores.members, scores.strangers)
    assert value - 3 * error > 0.5


def test_table_without_numbers_or_without_levels_is_judged() -> None:
    base = evidence("train")
    for numbers, codes in ((3, 0), (0, 2)):
        parts = {
            name: Encoded(
                numbers=getattr(base, name).numbers[:, :numbers],
                codes=getattr(base, name).codes[:, :codes],
            )
            for name in ("train", "control", "test", "synthetic")
        }
        columns = SCHEMA.numeric if numbers else SCHEMA.discrete
        judged = Evidence(schema=Schema(columns=columns), seed=0, threads=1, **parts)
        assert 0.4 < neighbours(judged).estimate <= 1.0


# The one-run audit.


def test_published_bound_and_the_smallest_refuted_epsilon() -> None:
    assert epsilon_audit.lower_bound(1_000, 1_000, 560, error=0.05) == pytest.approx(
        0.13, abs=0.006
    )
    bound = epsilon_audit.lower_bound(500, 100, 90, error=0.05)
    q = math.exp(bound) / (1 + math.exp(bound))
    assert stats.binom.sf(89, 100, q) == pytest.approx(0.05)
    assert epsilon_audit.lower_bound(1_000, 1_000, 510, error=0.05) == 0.0


def test_delta_term_is_the_theorem_s() -> None:
    m, r, v, epsilon, delta = 200, 50, 40, 0.5, 1e-3
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    below = [stats.binom.cdf(v - 1, r, q) - stats.binom.cdf(v - i - 1, r, q) for i in range(1, 41)]
    most = max(share / i for i, share in enumerate(below, 1))
    expected = stats.binom.sf(v - 1, r, q) + 2 * m * delta * most
    assert epsilon_audit.p_value(m, r, v, epsilon, delta) == pytest.approx(expected)


def test_bound_holds_for_randomised_response() -> None:
    # Scores that show membership with epsilon = 1: the bound must not be above it, but in 5 %.
    epsilon, above = 1.0, 0
    keep = math.exp(epsilon) / (1 + math.exp(epsilon))
    for seed in range(60):
        chance = np.random.default_rng(seed)
        sides = [
            np.where(chance.random(400) < keep, right, 1 - right).astype(float) for right in (1, 0)
        ]
        canaries = epsilon_audit.draw_canaries(np.arange(400), np.arange(400), chance)
        found = epsilon_audit.best_bound(canaries, {"coin": (sides[0], sides[1])}, 0.95)
        above += found.epsilon > epsilon
        assert found.epsilon <= found.highest
    assert above <= 6
    assert found.epsilon > 0.4


def test_canaries_are_persons_not_rows() -> None:
    canaries = epsilon_audit.draw_canaries(
        np.repeat(np.arange(100), 5), np.repeat(np.arange(100), 5), np.random.default_rng(0)
    )
    assert len(set(canaries.members // 5)) == len(canaries.members)
    assert 100 < len(canaries.order) < 200


def test_copy_refutes_small_epsilons_and_fresh_rows_refute_none() -> None:
    for copied, least, most in (("train", 3.0, 50.0), ("fresh", 0.0, 0.0)):
        judged = evidence(copied)
        found = domias.work(judged, domias.NEIGHBOURS)
        bound = epsilon_audit.measure(judged, found.synthetic, found.control)
        assert least <= bound.estimate <= most
        assert math.isfinite(bound.ucb)
        assert bound.control == 0.0
        assert bound.details["claim_refuted"] is None


def test_claim_below_the_bound_is_refuted() -> None:
    class Claimed(shadowing.ShadowTrainer):
        claim = (1.0, 1e-6)

    judged = evidence("train", trainer=Claimed(sf.Bootstrap(), SCHEMA))
    found = domias.work(judged, domias.NEIGHBOURS)
    assert epsilon_audit.measure(judged, found.synthetic, found.control).details["claim_refuted"]


# Shadow models.


def toy(seed: int = 0) -> tuple[shadows.Numbers, np.ndarray]:
    chance = np.random.default_rng(seed)
    inside = np.argsort(chance.random((16, 30)), axis=0) % 2 == 0
    numbers = shadows.Numbers(
        judged=chance.normal(size=30),
        population=chance.normal(size=50),
        shadows=chance.normal(size=(16, 30)) + inside,
        shadow_population=chance.normal(size=(16, 50)),
    )
    return numbers, inside


def test_lira_is_the_ratio_of_two_normal_densities_of_pooled_variance() -> None:
    numbers, inside = toy()
    found = shadows.lira(numbers.judged, numbers.shadows, inside)
    residuals: dict[bool, list[float]] = {True: [], False: []}
    means = np.empty((2, 30))
    for t in range(30):
        for side in (True, False):
            values = numbers.shadows[inside[:, t] == side, t]
            means[int(side), t] = values.mean()
            residuals[side] += list(values - values.mean())
    spread = {
        side: math.sqrt(sum(r * r for r in rest) / (30 * 7)) for side, rest in residuals.items()
    }
    for t in range(30):
        logs = [
            stats.norm.logpdf(numbers.judged[t], means[int(side), t], spread[side])
            for side in (True, False)
        ]
        assert found[t] == pytest.approx(logs[0] - logs[1])


def test_rmia_counts_the_people_whom_a_target_beats() -> None:
    numbers, _ = toy()
    found = shadows.rmia(numbers, gamma=2.0)
    for t in range(30):
        ours = math.exp(numbers.judged[t]) / np.exp(numbers.shadows[:, t]).mean()
        beaten = [
            ours
            / (math.exp(numbers.population[z]) / np.exp(numbers.shadow_population[:, z]).mean())
            >= 2.0
            for z in range(50)
        ]
        assert found[t] == pytest.approx(np.mean(beaten))


def test_pool_is_shared_between_the_shadows_of_a_pair() -> None:
    judged = evidence("fresh", shadows=16)
    inside = shadows.divide_pool(judged)
    assert (inside.sum(axis=0) == 8).all()
    assert len(set(inside.sum(axis=1))) == 1
    targets = shadows.choose_targets(judged)
    assert targets.member.sum() == (~targets.member).sum() == 2 * targets.vulnerable.sum() / 2
    assert len(set(targets.places)) == len(targets.places)
    assert (targets.places < len(judged.train)).tolist() == targets.member.tolist()


def test_rows_of_one_person_are_learnt_together() -> None:
    chance = np.random.default_rng(0)
    frame = pd.DataFrame({
        "person": np.repeat([f"p{i}" for i in range(200)], 3), "x": chance.normal(size=600),
        "c": chance.choice(list("uv"), 600),
    })  # fmt: skip
    people = shared_people(frame)
    inside = shadows.divide_pool(people)
    for part, rows in (
        ("train", inside[:, : len(people.train)]),
        ("control", inside[:, len(people.train) :]),
    ):
        persons = people.persons(part)
        for person in np.unique(persons)[:20]:
            mine = rows[:, persons == person]
            assert (mine == mine[:, :1]).all()


def shared_people(frame: pd.DataFrame) -> Evidence:
    import pyarrow as pa

    schema = Schema(
        columns=(
            Column(name="person", kind="identifier", dtype="string"),
            Column(name="x", kind="numerical", dtype="double"),
            Column(name="c", kind="categorical", dtype="string", categories=("u", "v")),
        ),
        entity="person",
    )
    table = sf.Table(data=pa.Table.from_pandas(frame, preserve_index=False), schema=schema)
    parts = sf.split(table, seed=0)
    return Evidence.of(*parts, parts.test, seed=0, shadows=16)


def test_counts_of_shared_values_are_brute_force() -> None:
    chance = np.random.default_rng(0)
    people, rows = chance.integers(0, 3, (40, 3)), chance.integers(0, 3, (200, 3))
    found = shadows.shared_counts(people, rows)
    assert found.tolist() == [int((rows == person).all(axis=1).sum()) for person in people]


def parts_of(table: sf.Table, spec: Any, **settings: Any) -> tuple[Evidence, Any]:
    train, control, test = sf.split(table, seed=0)
    model = spec.fit(train, seed=0, threads=1)
    judged = Evaluation(shadows=16, **settings).gather(
        train=train,
        control=control,
        test=test,
        synthetic=model.sample(len(train), seed=1),
        seed=2,
        threads=1,
        trainer=shadowing.ShadowTrainer(spec, table.schema, device="cpu", threads=1),
        model=shadowing.Shadow(model, threads=1),
    )
    return judged, model


def test_shadows_of_a_generator_that_copies_find_its_members(people_csv: Path) -> None:
    judged, _ = parts_of(sf.read_table(people_csv), sf.Bootstrap(), targets=400)
    findings = conclude(judged, [shadows.SUITE], measure(judged, [shadows.SUITE]))
    black, white = findings[shadows.ID_BLACK], findings[shadows.ID_WHITE]
    assert white.estimate > 0.99
    # A bootstrap misses a third of its rows (e^-1), which no attack on the rows can find.
    assert black.lcb > 0.6
    for found in (black, white):
        assert found.control == pytest.approx(0.5, abs=0.05)
        assert found.details["shadows_told_apart"] > 0.8
        assert found.details["tpr_at_0.01"]["tpr"] is None
    # Pieces that others made give the same.
    shares = [measure(judged, [shadows.SUITE], number=number, of=2) for number in range(2)]
    again = conclude(judged, [shadows.SUITE], shares[0] | shares[1])
    assert again.to_dict() == findings.to_dict()


def test_generator_without_a_likelihood_is_not_assessed_in_white_box(people_csv: Path) -> None:
    small = sf.CTGAN(epochs=1, batch_size=100, generator_dims=(16,), discriminator_dims=(16,))
    judged, _ = parts_of(sf.read_table(people_csv).take(range(600)), small, targets=100)
    findings = conclude(judged, [shadows.SUITE], measure(judged, [shadows.SUITE]))
    assert not findings.failures
    assert shadows.ID_WHITE not in findings.by_id
    assert shadows.ID_WHITE in findings[shadows.ID_BLACK].details["not_assessed"]


def test_shadows_without_a_generator_are_a_named_failure(people_csv: Path) -> None:
    table = sf.read_table(people_csv)
    train, control, test = sf.split(table, seed=0)
    judged = Evaluation(shadows=16).gather(
        train=train, control=control, test=test, synthetic=test, seed=0, threads=1
    )
    findings = conclude(judged, [shadows.SUITE], measure(judged, [shadows.SUITE]))
    assert "pass generator and model" in findings.failures[shadows.ID_BLACK]


def test_public_evaluation_hands_generator_and_model_over(people_csv: Path) -> None:
    table = sf.read_table(people_csv).take(range(900))
    train, control, test = sf.split(table, seed=0)
    model = sf.Independent().fit(train, seed=0)
    findings = sf.evaluate(
        train=train,
        control=control,
        test=test,
        synthetic=model.sample(len(train), seed=1),
        seed=2,
        threads=1,
        model=model,
        evaluation=Evaluation(
            max_rows=300, repeats=20, shadows=16, targets=100, attacks=100, controls=False
        ),
    )
    assert {shadows.ID_BLACK, shadows.ID_WHITE} <= set(findings.by_id)


def test_shadows_stop_when_the_process_is_asked_to(people_csv: Path) -> None:
    table = sf.read_table(people_csv).take(range(900))
    judged, _ = parts_of(table, sf.TVAE(epochs=1, calibrate=False), targets=100)
    interruption.ask()
    try:
        with pytest.raises(Interrupted):
            measure(judged, [shadows.SUITE])
    finally:
        interruption.forget()


@pytest.mark.slow
def test_overfitted_autoencoder_is_found_by_its_likelihood(people_csv: Path) -> None:
    spec = sf.TVAE(epochs=300, batch_size=100, calibrate=False)
    judged, _ = parts_of(sf.read_table(people_csv).take(range(700)), spec, targets=240)
    findings = conclude(judged, [shadows.SUITE], measure(judged, [shadows.SUITE]))
    assert findings[shadows.ID_WHITE].lcb > 0.5


# Likelihoods of models.

COLUMN = Column(name="x", kind="numerical", dtype="int64", decimals=0, minimum=-6, maximum=9)
MODES = ColumnModes(
    weights=np.array([0.6, 0.4]),
    means=np.array([0.0, 4.0]),
    stds=np.array([0.7, 1.1]),
    spikes=np.array([7.0]),
    nullable=True,
)


def test_cells_of_a_column_have_probability_one_together() -> None:
    values = np.append(np.arange(-6.0, 10.0), np.nan)
    cell = CellLikelihood(MODES, values, COLUMN)
    logs = torch.log_softmax(torch.tensor([0.3, -0.2, 0.5, -1.0]).double(), dim=0).unsqueeze(1)
    found = cell.log(logs, torch.tensor(0.2), torch.tensor(0.3)).exp()
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-9)


def test_probability_of_a_cell_is_how_often_it_is_sampled() -> None:
    chance = np.random.default_rng(0)
    shares = np.array([0.3, 0.4, 0.2, 0.1])
    modes = chance.choice(4, 200_000, p=shares)
    scalars = np.clip(0.2 + 0.5 * chance.standard_normal(len(modes)), -1, 1)
    drawn = Encoder.tidy(MODES.decode(scalars, modes), COLUMN)
    values = np.append(np.arange(-6.0, 10.0), np.nan)
    cell = CellLikelihood(MODES, values, COLUMN)
    logs = torch.tensor(np.log(shares)).unsqueeze(1)
    expected = cell.log(logs, torch.tensor(0.2), torch.tensor(0.5)).exp().numpy()
    counts = [(drawn == value).mean() for value in values[:-1]] + [np.isnan(drawn).mean()]
    assert np.allclose(counts, expected, atol=0.005)


def test_far_tails_keep_their_digits() -> None:
    tail = log_clipped_normal(
        torch.tensor([0.50, -0.51]).double(), torch.tensor([0.51, -0.50]).double(),
        torch.tensor(0.0).double(), torch.tensor(0.01).double(),
    )  # fmt: skip
    assert tail[0] == pytest.approx(float(tail[1]))
    assert tail[0] == pytest.approx(stats.norm.logsf(50.0), rel=1e-6)


def test_dates_are_whole_days() -> None:
    column = Column(name="d", kind="datetime", dtype="date32[day]")
    begin, end = cells(np.array([86_400.0]), column)
    assert (end - begin).tolist() == [86_400.0]


def test_independent_likelihood_is_the_product_of_counts() -> None:
    import pyarrow as pa

    schema = Schema(
        columns=(
            Column(name="a", kind="categorical", dtype="string", categories=("u", "v")),
            Column(name="b", kind="categorical", dtype="string", categories=("p", "q")),
        )
    )
    rows = {"a": ["u", "u", "u", "v"], "b": ["p", "q", "q", "q"]}
    table = sf.Table(data=pa.table(rows), schema=schema)
    found = sf.Independent().fit(table, seed=0).log_likelihood(table)
    assert np.exp(found).tolist() == pytest.approx([3 / 16, 9 / 16, 9 / 16, 3 / 16])
    copies = sf.Bootstrap().fit(table, seed=0).log_likelihood(table)
    assert np.exp(copies).tolist() == pytest.approx([1 / 4, 1 / 2, 1 / 2, 1 / 4])


@pytest.fixture(scope="module")
def narrow() -> tuple[Any, sf.Table]:
    """A TVAE of one latent number, whose likelihood can be integrated."""
    import pyarrow as pa

    chance = np.random.default_rng(0)
    z = chance.normal(size=600)
    data = pa.table(
        {
            "x": np.rint(3 * z + chance.normal(size=600)).astype(np.int64),
            "c": np.where(z + 0.5 * chance.normal(size=600) > 0, "u", "v"),
        }
    )
    schema = Schema(
        columns=(
            Column(name="x", kind="numerical", dtype="int64", decimals=0, minimum=-15, maximum=15),
            Column(name="c", kind="categorical", dtype="string", categories=("u", "v")),
        )
    )
    table = sf.Table(data=data, schema=schema)
    spec = sf.TVAE(
        epochs=100, batch_size=100, embedding_dim=1, encoder_dims=(16,), decoder_dims=(16,), lr=5e-3
    )
    return spec.fit(table, seed=0, threads=1), table.head(20)


def integrated(model: Any, table: sf.Table) -> np.ndarray:
    """The exact likelihood: the integral over the latent number."""
    points = torch.linspace(-8, 8, 4_001)
    logits = model.logits(points.unsqueeze(0)).double()
    logits = logits.unsqueeze(2).expand(-1, -1, len(table))
    density = torch.from_numpy(stats.norm.pdf(points.numpy()))
    joint = model._log_probability(table, logits).exp() * density.unsqueeze(1)
    found = integrate.simpson(joint.numpy(), x=points.numpy(), axis=0)
    exact: np.ndarray = np.log(np.maximum(found, 1e-300))
    return exact


def test_bound_grows_with_samples_to_the_integral(narrow: tuple[Any, sf.Table]) -> None:
    model, table = narrow
    exact = integrated(model, table)
    means = [
        np.mean([model.log_likelihood(table, seed=seed, samples=k) for seed in range(100)])
        for k in (1, 8, 64)
    ]
    assert means[0] < means[1] < means[2] + 1e-3
    assert means[2] <= exact.mean() + 0.02
    assert np.allclose(model.log_likelihood(table, seed=0, samples=20_000), exact, atol=0.05)


def test_probabilities_of_all_rows_add_up_to_one(narrow: tuple[Any, sf.Table]) -> None:
    import pyarrow as pa

    model, table = narrow
    rows = [(x, c) for x in range(-15, 16) for c in "uv"]
    every = sf.Table(
        data=pa.table({"x": [x for x, _ in rows], "c": [c for _, c in rows]}), schema=table.schema
    )
    assert np.exp(integrated(model, every)).sum() == pytest.approx(1.0, abs=1e-3)


def test_likelihood_survives_saving_and_does_not_depend_on_neighbours(
    narrow: tuple[Any, sf.Table], tmp_path: Path
) -> None:
    model, table = narrow
    expected = model.log_likelihood(table, seed=3)
    model.save(tmp_path)
    back = sf.load_model(tmp_path)
    assert np.array_equal(back.log_likelihood(table, seed=3), expected)
    alone = model.log_likelihood(table.take([7]), seed=3)
    assert alone[0] == pytest.approx(expected[7], abs=1e-4)
    gan = sf.CTGAN(epochs=1, generator_dims=(8,), discriminator_dims=(8,))
    assert gan.fit(table, seed=0, threads=1).log_likelihood(table, seed=0) is None


def test_members_of_an_ensemble_have_the_likelihoods_of_single_fits(people_csv: Path) -> None:
    table = sf.read_table(people_csv)
    spec = sf.TVAE(epochs=2, calibrate=False)
    parts = [table.take(range(first, first + 900)) for first in (0, 900)]
    together = generators.fit_tables(spec, parts, [0, 1], device="cpu", threads=1)
    for part, seed, member in zip(parts, (0, 1), together, strict=True):
        alone = spec.fit(part, seed=seed, device="cpu", threads=1)
        rows = table.take(range(2_000, 2_050))
        ours, theirs = (model.log_likelihood(rows, seed=0) for model in (member, alone))
        assert np.allclose(ours, theirs, atol=0.1)
