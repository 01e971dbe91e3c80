"""Networks, losses and calibration against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from synthfactory.generators.calibration import logit_shift
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.flat import Adam, Flat
from synthfactory.generators.layout import EMBEDDING, Layout
from synthfactory.generators.networks import EPSILON, LEAK, PENALTY, Critic, Perceptron, Residual
from synthfactory.generators.noise import Noise
from synthfactory.generators.sampling import draw_codes

CPU = torch.device("cpu")
MEMBERS = 3


def _stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random(shapes: dict[str, tuple[int, ...]], scale: float = 0.5) -> Flat:
    """Random weights, and gradients that must be overwritten."""
    flat = Flat(shapes, MEMBERS, CPU)
    flat.values.normal_(0.0, scale, generator=_stream(1))
    flat.grads.normal_(generator=_stream(2))
    return flat


def _leaves(flat: Flat, member: int) -> dict[str, torch.Tensor]:
    return {name: value.clone().requires_grad_() for name, value in flat.member(member)}


def _assert_same_gradients(flat: Flat, member: int, leaves: dict[str, torch.Tensor]) -> None:
    for name, leaf in leaves.items():
        torch.testing.assert_close(flat.grad[name][member], leaf.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_levels", [7, 0])
def test_residual_blocks_equal_automatic_differentiation(n_levels: int) -> None:
    hidden, n_rows = (8, 6), 30
    network = Residual(5, hidden, 11, n_levels)
    flat = _random(network.shapes)
    noise = torch.randn(MEMBERS, 5, n_rows, generator=_stream(3))
    pairs = torch.randint(max(n_levels, 1), (MEMBERS, n_rows), generator=_stream(4))
    out = network.forward(flat, noise, pairs if n_levels else None)
    d_out = torch.randn(out.shape, generator=_stream(5))
    network.backward(flat, d_out)
    for member in range(MEMBERS):
        leaves = _leaves(flat, member)
        x, start = noise[member].t(), 0
        added = torch.zeros(n_rows, sum(hidden) + 11)
        if n_levels:
            added = leaves["levels"][pairs[member]]
        for place, size in enumerate(hidden):
            sums = x @ leaves[f"layer.{place}.weight"].t() + added[:, start : start + size]
            normed = F.batch_norm(
                sums,
                None,
                None,
                leaves[f"layer.{place}.gain"],
                leaves[f"layer.{place}.bias"],
                training=True,
                eps=EPSILON,
            )
            x, start = torch.cat([F.relu(normed), x], dim=1), start + size
        expected = x @ leaves["out.weight"].t() + added[:, start:]
        torch.testing.assert_close(out[member], expected.t(), rtol=1e-4, atol=1e-4)
        (expected.t() * d_out[member]).sum().backward()
        _assert_same_gradients(flat, member, leaves)


def test_folded_weights_give_what_batch_statistics_give() -> None:
    network = Residual(5, (8, 6), 11, 7)
    flat = Flat(network.shapes, 1, CPU)
    flat.values.normal_(generator=_stream(1))
    noise = torch.randn(1, 5, 40, generator=_stream(2))
    pairs = torch.randint(7, (1, 40), generator=_stream(3))
    out = network.forward(flat, noise, pairs)
    folded = network.fold(flat, network.statistics())
    torch.testing.assert_close(
        network.apply(folded, noise[0], pairs[0]), out[0], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("n_conditions", [3, 0])
@pytest.mark.parametrize("dropout", [0.5, 0.0])
def test_critic_and_penalty_equal_automatic_differentiation(
    n_conditions: int, dropout: float
) -> None:
    n_features, pac, n_pacs, hidden = 4, 5, 6, (9, 8, 7)
    critic = Critic(n_features, n_conditions, pac, hidden, dropout)
    flat = _random(critic.shapes, 0.3)
    real, fake = torch.randn(2, MEMBERS, n_features, pac * n_pacs, generator=_stream(3))
    levels = None
    if n_conditions:
        levels = torch.randn(MEMBERS, n_conditions, pac * n_pacs, generator=_stream(4))
    share = torch.rand(MEMBERS, 1, n_pacs, generator=_stream(5))
    mask = []
    if dropout:
        mask = [torch.rand(MEMBERS, size, 3 * n_pacs, generator=_stream(6)) for size in hidden]
    difference, penalty = critic.learn(flat, real, fake, levels, share, mask)
    kept = flat.grads.clone()
    guides = [part[:, :, :n_pacs] for part in mask]
    adversary, d_fake = critic.guide(flat, fake, levels, guides)
    assert torch.equal(kept, flat.grads), "the generator's step forms no gradient of the critic"
    for member in range(MEMBERS):
        leaves = _leaves(flat, member)

        def score(
            x: torch.Tensor,
            c: torch.Tensor | None,
            which: slice,
            member: int = member,
            leaves: dict[str, torch.Tensor] = leaves,
        ) -> torch.Tensor:
            sums = x.t() @ leaves["rows"].t() + leaves["layer.0.bias"]
            if c is not None:
                sums = sums + c.t() @ leaves["levels"].t()
            for place in range(len(hidden)):
                if place:
                    weight = leaves[f"layer.{place}.weight"]
                    sums = sums @ weight.t() + leaves[f"layer.{place}.bias"]
                sums = F.leaky_relu(sums, LEAK)
                if dropout:
                    kept = (mask[place][member][:, which].t() >= dropout).float()
                    sums = sums * kept / (1.0 - dropout)
            result: torch.Tensor = sums @ leaves["out.weight"] + leaves["out.bias"]
            return result

        x_real, x_fake = (part[member].view(-1, n_pacs) for part in (real, fake))
        c_fake = c_real = c_between = None
        between = torch.lerp(x_fake, x_real, share[member]).requires_grad_()
        inputs = [between]
        if levels is not None:
            c_fake = levels[member].view(-1, n_pacs)
            c_real = levels[member].view(n_conditions, pac, n_pacs).roll(1, 2).view(-1, n_pacs)
            c_between = torch.lerp(c_fake, c_real, share[member]).requires_grad_()
            inputs.append(c_between)
        first, second, third = (slice(n * n_pacs, (n + 1) * n_pacs) for n in range(3))
        expected = score(x_fake, c_fake, second).mean() - score(x_real, c_real, first).mean()
        slopes = torch.autograd.grad(
            score(between, c_between, third).sum(), inputs, create_graph=True
        )
        norm = torch.stack([slope.square().sum(dim=0) for slope in slopes]).sum(dim=0).sqrt()
        pull = PENALTY * (norm - 1.0).square().mean()
        torch.testing.assert_close(difference[member], expected)
        torch.testing.assert_close(penalty[member], pull)
        (expected + pull).backward()
        _assert_same_gradients(flat, member, leaves)
        wanted = x_fake.clone().requires_grad_()
        loss = -score(wanted, c_fake, first).mean()
        loss.backward()
        torch.testing.assert_close(adversary[member], loss)
        assert wanted.grad is not None
        torch.testing.assert_close(d_fake[member].view(-1, n_pacs), wanted.grad)


def test_perceptrons_equal_automatic_differentiation() -> None:
    network = Perceptron("net", 6, (9, 8), 4, out_bias=True)
    flat = _random(network.shapes)
    x = torch.randn(MEMBERS, 6, 20, generator=_stream(3))
    out = network.forward(flat, x.clone())
    d_out = torch.randn(out.shape, generator=_stream(4))
    d_x = network.backward(flat, d_out, to_input=True)
    for member in range(MEMBERS):
        leaves = _leaves(flat, member)
        mine = x[member].clone().requires_grad_()
        h = mine
        for place in range(3):
            h = F.relu(h) if place else h
            h = leaves[f"net.{place}.weight"] @ h + leaves[f"net.{place}.bias"].unsqueeze(1)
        torch.testing.assert_close(out[member], h)
        torch.testing.assert_close(network.apply(dict(flat.member(member)), x[member].clone()), h)
        (h * d_out[member]).sum().backward()
        _assert_same_gradients(flat, member, leaves)
        torch.testing.assert_close(d_x[member], mine.grad)


def _layout() -> Layout:
    """Three numeric columns, of which members have different modes; a wide discrete column."""
    return Layout(
        sizes=(4, 3, 5, 6, 3, 700, 2),
        n_numeric=3,
        own_modes=((4, 3, 5), (2, 3, 4), (4, 2, 5)),
        gaussians=((3, 3, 4), (2, 2, 4), (3, 2, 5)),
    )


def test_spans_of_equal_size_stand_together() -> None:
    layout = _layout()
    assert [(group.size, group.count) for group in layout.groups] == [
        (2, 1),
        (3, 2),
        (4, 1),
        (5, 1),
        (6, 1),
        (700, 1),
    ]
    each = zip(layout.starts, layout.sizes, strict=True)
    rows = [set(range(start, start + size)) for start, size in each]
    assert set().union(*rows) == set(range(3, layout.width))
    assert layout.feature_width == layout.narrow_width + EMBEDDING == 26 + EMBEDDING


def test_a_member_finds_its_rows_in_the_shared_layout() -> None:
    layout = _layout()
    own, placement = layout.member(1), layout.placement(1)
    assert len(placement.unique()) == own.width
    for span, size in enumerate(own.sizes):
        mine = placement[own.starts[span] : own.starts[span] + size]
        assert mine.tolist() == list(range(layout.starts[span], layout.starts[span] + size))
    assert len(layout.feature_placement(1)) == own.feature_width


def test_fake_rows_and_heads_equal_automatic_differentiation() -> None:
    layout, n_rows = _layout(), 12
    features, heads = Features(layout, CPU), Heads(layout, CPU)
    flat = _random(heads.shapes)
    out = torch.randn(MEMBERS, layout.feature_width, n_rows, generator=_stream(3))
    uniform = torch.rand(MEMBERS, layout.width - 3, n_rows, generator=_stream(4))
    logits = heads.forward(flat, out.clone())
    fake = features.of_logits(logits, uniform)
    d_fake = torch.randn(fake.shape, generator=_stream(5))
    d_out = heads.backward(flat, features.backward(d_fake))
    (table,) = layout.embeddings()
    for member in range(MEMBERS):
        leaves = _leaves(flat, member)
        mine = out[member].clone().requires_grad_()
        wide = leaves["head.wide.0"] @ mine[layout.wide_rows(0)]
        expected = torch.cat([mine[: layout.narrow_width], wide])
        expected = expected + leaves["head.bias"].unsqueeze(1) + layout.absences()[member]
        gumbel = -torch.log(-torch.log(uniform[member]))
        noisy = (expected[3:] + gumbel) / 0.2
        parts = {
            span: noisy[start - 3 : start - 3 + size].softmax(dim=0)
            for span, (start, size) in enumerate(zip(layout.starts, layout.sizes, strict=True))
        }
        scalars = [
            torch.tanh(expected[place]) * parts[place][: layout.gaussians[member][place]].sum(0)
            for place in range(3)
        ]
        rows: list[torch.Tensor | None] = [*scalars, *([None] * (layout.narrow_width - 3))]
        for span, part in parts.items():
            if span != 5:
                for code, row in enumerate(part):
                    rows[layout.starts[span] + code] = row
        whole = torch.cat(
            [torch.stack([row for row in rows if row is not None]), table.t() @ parts[5]]
        )
        torch.testing.assert_close(fake[member], whole, rtol=1e-4, atol=1e-5)
        (whole * d_fake[member]).sum().backward()
        _assert_same_gradients(flat, member, leaves)
        torch.testing.assert_close(d_out[member], mine.grad, rtol=1e-3, atol=1e-4)
        absent = layout.absences()[member, :, 0] < 0
        assert torch.all(fake[member][absent[: layout.narrow_width].nonzero()[:, 0]] == 0)


def test_real_rows_are_one_hot_or_embedded() -> None:
    layout = _layout()
    codes = torch.tensor([[1], [2], [0], [5], [1], [699], [0]]).expand(MEMBERS, -1, 2)
    x = Features(layout, CPU).of_rows(codes, torch.full((MEMBERS, 3, 2), 0.25))
    assert torch.all(x[:, :3] == 0.25)
    assert torch.all(x[:, 3 : layout.narrow_width].sum(dim=1) == 6.0)
    assert torch.all(x[:, layout.starts[3] + 5] == 1.0)
    (table,) = layout.embeddings()
    torch.testing.assert_close(x[0, layout.wide_rows(0), 1], table[699])
    assert abs(float(table.square().sum(dim=1).mean()) - 1.0) < 0.05


def test_adam_is_adam() -> None:
    flat = _random({"a": (3, 2), "b": (5,)})
    parameter = torch.nn.Parameter(flat.values.clone())
    theirs = torch.optim.Adam([parameter], lr=0.01, betas=(0.5, 0.9), weight_decay=0.1)
    ours = Adam(flat, lr=0.01, betas=(0.5, 0.9), weight_decay=0.1)
    for turn in range(5):
        flat.grads.normal_(generator=_stream(turn))
        parameter.grad = flat.grads.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(flat.values, parameter.detach())


def test_a_member_draws_the_same_numbers_whoever_trains_beside_it() -> None:
    alone = Noise([8], "test", n_normal=32, n_uniform=16, device=CPU)
    places = [torch.arange(20), torch.arange(0, 20, 1)[torch.arange(20) % 5 != 0]]
    together = Noise([7, 8], "test", n_normal=32, n_uniform=20, device=CPU, places=places)
    for _ in range(3):
        alone.fill()
        together.fill()
        mine, theirs = alone.reader(0), together.reader(0)
        assert torch.equal(mine.normal(4, 8)[0], theirs.normal(4, 8)[1])
        assert torch.equal(mine.uniform(16)[0], theirs.uniform(20)[1][places[1]])


def test_categories_are_drawn_by_their_softmax() -> None:
    layout = Layout(sizes=(3, 2), n_numeric=0, own_modes=((),), gaussians=((),))
    shares = torch.tensor([0.9, 0.1, 0.7, 0.25, 0.05])
    codes = draw_codes(layout, shares.log().unsqueeze(1).repeat(1, 40_000), _stream())
    first = np.bincount(codes[0].numpy(), minlength=3) / 40_000
    second = np.bincount(codes[1].numpy(), minlength=2) / 40_000
    np.testing.assert_allclose(first, [0.7, 0.25, 0.05], atol=0.01)
    np.testing.assert_allclose(second, [0.9, 0.1], atol=0.01)


def test_shifted_logits_have_the_wanted_shares() -> None:
    logits = torch.randn(3, 4_000, generator=_stream())
    shares = torch.tensor([0.6, 0.3, 0.1])
    shifted = logits + logit_shift(logits, shares).unsqueeze(1)
    torch.testing.assert_close(shifted.softmax(dim=0).mean(dim=1), shares, atol=2e-3, rtol=0)
