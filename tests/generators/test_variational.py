"""The parts of a variational autoencoder against automatic differentiation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from generators.examples import n_slow

from synthfactory.generators._kernels import arithmetic
from synthfactory.generators.drawing import Batch, Batches, Deck
from synthfactory.generators.features import Features
from synthfactory.generators.layout import Layout
from synthfactory.generators.representation import Rows
from synthfactory.generators.variational import (
    LOG_VARIANCE_RANGE,
    FusedLatent,
    FusedLikelihood,
    Latent,
    Likelihood,
)

CPU = torch.device("cpu")
MEMBERS, N_ROWS = 3, 12


def _stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _layout() -> Layout:
    """Two numeric columns, of which members have different modes, and discrete ones, one wide."""
    return Layout(
        sizes=(4, 3, 6, 3, 700),
        n_numeric=2,
        own_modes=((4, 3), (2, 3), (4, 2)),
        gaussians=((3, 3), (1, 2), (3, 2)),
    )


def _batches(layout: Layout, block: int = 1) -> tuple[Deck, Batches]:
    rows = [
        Rows(
            scalars_BM=torch.rand(40, 2, generator=_stream(member)) * 2.0 - 1.0,
            codes_BS=torch.stack(
                [
                    torch.randint(size, (40,), generator=_stream(10 * member + place))
                    for place, size in enumerate(layout.member(member).sizes)
                ],
                dim=1,
            ),
        )
        for member in range(layout.n_members)
    ]
    deck = Deck(rows, CPU)
    return deck, Batches(deck, layout, N_ROWS, list(range(layout.n_members)), block)


def _first_batch(layout: Layout) -> Batch:
    _, batches = _batches(layout)
    batches.prepare(0)
    return batches[0]


@pytest.mark.parametrize("sort", [Latent, FusedLatent])
def test_the_latent_point_equals_automatic_differentiation(sort: type[Latent]) -> None:
    n_latent = 5
    encoded = torch.randn(MEMBERS, 2 * n_latent, N_ROWS, generator=_stream(1))
    # Some beyond the range: there the gradient is 0.
    encoded[:, n_latent:] *= 12.0
    assert (encoded[:, n_latent:] > LOG_VARIANCE_RANGE[1]).any()
    noise = torch.randn(MEMBERS, n_latent, N_ROWS, generator=_stream(2))
    d_points = torch.randn(noise.shape, generator=_stream(3))
    leaf = encoded.clone().requires_grad_()
    mean, log = leaf[:, :n_latent], leaf[:, n_latent:].clamp(*LOG_VARIANCE_RANGE)
    points = mean + noise * (0.5 * log).exp()
    each = 0.5 * (mean.square() + log.exp() - 1.0 - log)
    expected = each.sum(dim=(1, 2)) / N_ROWS
    (expected.sum() + (points * d_points).sum()).backward()
    written = torch.empty_like(noise)
    latent = sort(place := torch.empty_like(encoded), written)
    for _ in range(2):
        place.copy_(encoded)
        divergence = latent.draw(noise)
        d_encoded = latent.backward(d_points)
    torch.testing.assert_close(written, points)
    torch.testing.assert_close(divergence, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(d_encoded, leaf.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sort", [Likelihood, FusedLikelihood])
def test_the_likelihood_equals_automatic_differentiation(sort: type[Likelihood]) -> None:
    layout, factor = _layout(), 2.0
    batch = _first_batch(layout)
    logits = torch.randn(MEMBERS, layout.width, N_ROWS, generator=_stream(1)) + layout.absences()
    sigma = 0.1 + torch.rand(MEMBERS, layout.n_numeric, generator=_stream(2))
    d_sigma = torch.full_like(sigma, 7.0)
    likelihood = sort(layout, place := torch.empty_like(logits), sigma, d_sigma, factor)
    for _ in range(2):
        place.copy_(logits)
        loss, d_logits = likelihood.learn(batch)
    for member in range(MEMBERS):
        leaf, own_sigma = (value[member].clone().requires_grad_() for value in (logits, sigma))
        expected = _likelihood(layout, leaf, own_sigma, batch, member)
        torch.testing.assert_close(loss[member], expected)
        (factor * expected).backward()
        torch.testing.assert_close(d_logits[member], leaf.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(d_sigma[member], own_sigma.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sort", [Likelihood, FusedLikelihood])
def test_what_is_no_number_stays_none(sort: type[Likelihood]) -> None:
    layout = _layout()
    batch = _first_batch(layout)
    sigma = torch.ones(MEMBERS, layout.n_numeric)
    for row in (0, layout.starts[2] + 1):
        logits = torch.zeros(MEMBERS, layout.width, N_ROWS)
        logits[1, row, 5] = math.nan
        learner = sort(layout, logits, sigma, torch.empty_like(sigma), 2.0)
        loss, d_logits = learner.learn(batch)
        present = row or bool(batch.present_KMB[1, 0, 5])
        assert torch.isnan(d_logits[1, :, 5]).any() or not present
        assert torch.isnan(loss).tolist() == [False, bool(present), False]


@pytest.mark.parametrize("sort", [Latent, FusedLatent])
@pytest.mark.parametrize("row", [0, 3])
def test_a_point_that_is_no_number_is_told(sort: type[Latent], row: int) -> None:
    encoded, points = torch.zeros(1, 4, N_ROWS), torch.zeros(1, 2, N_ROWS)
    encoded[0, row, 7] = math.nan
    divergence = sort(encoded, points).draw(torch.ones_like(points))
    assert torch.isnan(divergence).all()
    assert torch.isnan(points[0, :, 7]).any()


def test_far_logits_have_a_finite_loss() -> None:
    layout = _layout()
    batch = _first_batch(layout)
    sigma = torch.ones(MEMBERS, layout.n_numeric)
    logits = 1e4 * torch.randn(MEMBERS, layout.width, N_ROWS, generator=_stream(1))
    loss, d_logits = FusedLikelihood(layout, logits, sigma, torch.empty_like(sigma), 1.0).learn(
        batch
    )
    expected = _likelihood(layout, logits[0], sigma[0], batch, 0)
    torch.testing.assert_close(loss[0], expected)
    assert torch.isfinite(d_logits).all()


def test_a_small_share_leads_to_no_number_that_a_processor_is_slow_with() -> None:
    layout = _layout()
    batch = _first_batch(layout)
    sigma = torch.ones(MEMBERS, layout.n_numeric)
    logits = 20.0 * torch.randn(MEMBERS, layout.width, N_ROWS, generator=_stream(1))
    learner = FusedLikelihood(layout, logits, sigma, torch.empty_like(sigma), 1e-3)
    _, d_logits = learner.learn(batch)
    shares = torch.softmax(logits[:, layout.starts[4] :], dim=1)
    assert n_slow(shares * 1e-3), "there would be some"
    assert not n_slow(d_logits)


def test_exponential_and_logarithm_are_exact_to_their_last_bits() -> None:
    numbers = np.linspace(-86.0, 87.0, 20_001, dtype=np.float32)
    exponentials = np.array(
        [arithmetic.exponential(number) for number in numbers], dtype=np.float64
    )
    np.testing.assert_allclose(exponentials, np.exp(numbers.astype(np.float64)), rtol=2e-7)
    positive = np.exp(numbers.astype(np.float64)).astype(np.float32)
    logarithms = np.array([arithmetic.logarithm(number) for number in positive], dtype=np.float64)
    expected = np.log(positive.astype(np.float64))
    np.testing.assert_allclose(logarithms, expected, rtol=3e-7, atol=3e-7)
    assert arithmetic.exponential(np.float32(0.0)) == 1.0
    assert arithmetic.logarithm(np.float32(1.0)) == 0.0


def _likelihood(
    layout: Layout, logits: torch.Tensor, sigma: torch.Tensor, batch: Batch, member: int
) -> torch.Tensor:
    """By its definition, span by span."""
    total = torch.zeros(())
    for span, (start, size) in enumerate(zip(layout.starts, layout.sizes, strict=True)):
        codes = batch.codes_KSB[member, span]
        part = logits[start : start + size].t()
        total = total + torch.nn.functional.cross_entropy(part, codes, reduction="sum")
        if span < layout.n_numeric:
            has = codes < layout.gaussians[member][span]
            error = batch.scalars_KMB[member, span] - torch.tanh(logits[span])
            each = 0.5 * (error / sigma[span]).square() + sigma[span].log()
            total = total + each[has].sum()
    return total / N_ROWS


@pytest.mark.parametrize("block", [1, 4])
def test_every_epoch_goes_through_the_rows_in_an_order_of_its_own(block: int) -> None:
    layout = _layout()
    deck, batches = _batches(layout, block)
    steps = 40 // N_ROWS
    seen: list[torch.Tensor] = []
    for step in range(block * 10):
        if step % block == 0:
            batches.prepare(step)
        seen.append(batches[step % block].codes_KSB[1, 4].clone())
    mine = deck.of_member(1).codes_BS[:, 4]
    for epoch in range(len(seen) // steps):
        drawn = torch.cat(seen[epoch * steps : (epoch + 1) * steps])
        counts = torch.bincount(drawn, minlength=700)
        assert bool((counts <= torch.bincount(mine, minlength=700)).all()), "no row twice"
    assert not torch.equal(torch.cat(seen[:steps]), torch.cat(seen[steps : 2 * steps]))
    again = _batches(layout, block)[1]
    again.prepare(block * 7)
    assert torch.equal(again[0].codes_KSB[1, 4], seen[block * 7])


def test_a_batch_is_written_as_its_rows_are() -> None:
    narrow = Layout(
        sizes=(4, 3, 6),
        n_numeric=2,
        own_modes=((4, 3), (2, 3), (4, 2)),
        gaussians=((3, 3), (1, 2), (3, 2)),
    )
    for layout in (narrow, _layout()):
        _, batches = _batches(layout)
        batches.prepare(1)
        features, batch = Features(layout, CPU), batches[0]
        shape = (MEMBERS, layout.feature_width, N_ROWS)
        expected, ours = torch.zeros(shape), torch.full(shape, 3.0)
        features.of_rows(batch.codes_KSB, batch.scalars_KMB, expected)
        features.of_batch(batch, ours)
        assert torch.equal(ours, expected)
