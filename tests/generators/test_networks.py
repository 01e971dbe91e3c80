"""Networks, losses and calibration against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthfactory.errors import TrainingError
from synthfactory.generators.calibration import logit_shift
from synthfactory.generators.ctgan import gradient_penalty
from synthfactory.generators.networks import (
    Average,
    Discriminator,
    GeneratorNetwork,
    draw_categories,
    gumbel,
)
from synthfactory.generators.training import train, using_threads


def _stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_slopes_and_penalty_equal_automatic_differentiation() -> None:
    critic = Discriminator(6, 2, (16, 8, 5), 0.0, _stream())
    real, fake = torch.randn(2, 7, 12, generator=_stream(1))
    share = torch.rand(7, 1, generator=_stream(2))
    score_real, score_fake, slopes = critic.judge(real, fake, share, _stream())
    torch.testing.assert_close(score_real, critic(real, _stream()))
    torch.testing.assert_close(score_fake, critic(fake, _stream()))
    between = torch.lerp(fake, real, share).requires_grad_()
    (expected,) = torch.autograd.grad(critic(between, _stream()).sum(), between, create_graph=True)
    torch.testing.assert_close(slopes, expected)
    gradient_penalty(slopes).backward()
    ours = [layer.weight.grad.clone() for layer in (*critic.layers, critic.out)]
    critic.zero_grad()
    gradient_penalty(expected).backward()
    for mine, layer in zip(ours, (*critic.layers, critic.out), strict=True):
        torch.testing.assert_close(mine, layer.weight.grad)


def test_categories_are_drawn_by_their_softmax() -> None:
    shares = torch.tensor([0.7, 0.25, 0.05, 0.9, 0.1])
    codes = draw_categories(shares.log().repeat(40_000, 1), [3, 2], _stream())
    first = np.bincount(codes[:, 0].numpy(), minlength=3) / 40_000
    second = np.bincount(codes[:, 1].numpy(), minlength=2) / 40_000
    np.testing.assert_allclose(first, [0.7, 0.25, 0.05], atol=0.01)
    np.testing.assert_allclose(second, [0.9, 0.1], atol=0.01)


def test_gumbel_noise_is_finite() -> None:
    assert torch.isfinite(gumbel(torch.empty(1_000_000), _stream())).all()


def test_shifted_logits_have_the_wanted_shares() -> None:
    logits = torch.randn(4_000, 5, generator=_stream())
    shares = [torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.8, 0.2])]
    shifted = logits + logit_shift(logits, shares)
    means = [part.softmax(dim=1).mean(dim=0) for part in shifted.split([3, 2], dim=1)]
    for mean, share in zip(means, shares, strict=True):
        torch.testing.assert_close(mean, share, atol=2e-3, rtol=0)


def test_average_forgets_its_start() -> None:
    network = GeneratorNetwork(4, (8,), 3, _stream())
    average = Average(network, 0.999)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1.0)
    for _ in range(50):
        average.update(network)
    assert all(torch.all((w - 1.0).abs() < 1e-2) for w in average.network.parameters())


def test_a_loss_that_is_no_number_stops_the_fit() -> None:
    with pytest.raises(TrainingError, match=r"no finite number at step 1.*learning rate"):
        train(lambda: {"loss": torch.tensor(float("nan"))}, steps=3)


def test_a_deadline_ends_the_fit() -> None:
    done = train(lambda: {"loss": torch.zeros(())}, steps=10**9, max_minutes=0.001)
    assert 0 < done < 10**9


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
