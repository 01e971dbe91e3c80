"""Networks, losses and calibration against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from synthfactory.generators.adversarial import FusedCritic, FusedResidual
from synthfactory.generators.calibration import _bundles, _shifts, logit_shift
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.flat import ALIGNMENT, TIDY_STEPS, Adam, Average, Flat
from synthfactory.generators.fusing import ProcessorLoops
from synthfactory.generators.layout import EMBEDDING, Layout
from synthfactory.generators.networks import (
    EPSILON,
    LEAK,
    PENALTY,
    Critic,
    Looked,
    Perceptron,
    Residual,
)
from synthfactory.generators.noise import BitStream, Noise, bits
from synthfactory.generators.precision import using_precision
from synthfactory.generators.sampling import _draw_codes_compiled, draw_codes

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


def _forward(network: Residual, flat: Flat, inputs: torch.Tensor) -> torch.Tensor:
    network.input(flat, inputs.shape[2]).copy_(inputs)
    return network.forward(flat)


@pytest.mark.parametrize("fused", [False, True])
def test_residual_blocks_equal_automatic_differentiation(fused: bool) -> None:
    n_rows = 30
    widths = 5, (8, 6), 11
    network = FusedResidual(*widths, ProcessorLoops()) if fused else Residual(*widths)
    flat = _random(network.shapes)
    inputs = torch.randn(MEMBERS, 5, n_rows, generator=_stream(3))
    # Places may be used again: what a pass before has left there must not matter.
    network.backward(flat, torch.ones_like(_forward(network, flat, inputs.square())))
    out = _forward(network, flat, inputs)
    d_out = torch.randn(out.shape, generator=_stream(5))
    network.backward(flat, d_out)
    for member in range(MEMBERS):
        leaves = _leaves(flat, member)
        x = inputs[member].t()
        for place in range(2):
            normed = F.batch_norm(
                x @ leaves[f"layer.{place}.weight"].t(),
                None,
                None,
                leaves[f"layer.{place}.gain"],
                leaves[f"layer.{place}.bias"],
                training=True,
                eps=EPSILON,
            )
            x = torch.cat([F.relu(normed), x], dim=1)
        expected = x @ leaves["out.weight"].t()
        torch.testing.assert_close(out[member], expected.t(), rtol=1e-4, atol=1e-4)
        (expected.t() * d_out[member]).sum().backward()
        _assert_same_gradients(flat, member, leaves)


def test_folded_weights_give_what_batch_statistics_give() -> None:
    network = Residual(5, (8, 6), 11)
    flat = Flat(network.shapes, 1, CPU)
    flat.values.normal_(generator=_stream(1))
    inputs = torch.randn(1, 5, 40, generator=_stream(2))
    out = _forward(network, flat, inputs)
    folded = network.fold(flat, network.statistics())
    torch.testing.assert_close(network.apply(folded, inputs[0]), out[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_features", [0, 3, 6], ids=["none", "embedded", "one-hot"])
def test_looked_up_conditions_are_those_that_are_multiplied(n_features: int) -> None:
    network = Residual(5 + n_features, (8, 7), 11)
    shapes = network.folded(network.shapes)
    weights = {
        name: torch.randn(shape, generator=_stream(place))
        for place, (name, shape) in enumerate(shapes.items())
    }
    n_conditions = 6 if n_features else 1
    table = torch.randn(n_conditions, n_features, generator=_stream(9))
    table = torch.eye(6) if n_features == 6 else table
    noise = torch.randn(40, 5, generator=_stream(7))
    which = torch.arange(40) % n_conditions
    expected = network.apply(weights, torch.cat([noise, table[which]], dim=1).t())
    torch.testing.assert_close(
        Looked(network, weights, table).apply(noise, which).t(), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("sort", [Critic, FusedCritic])
@pytest.mark.parametrize("dropout", [0.5, 0.0])
def test_critic_and_penalty_equal_automatic_differentiation(
    dropout: float, sort: type[Critic]
) -> None:
    n_features, n_conditions, pac, n_pacs, hidden = 4, 3, 5, 6, (9, 8, 7)
    critic = sort(n_features, n_conditions, pac, hidden, dropout)
    flat = _random(critic.shapes, 0.3)
    flat.grad["out.bias"].zero_()
    x = critic.input(flat, pac * n_pacs)
    x.normal_(generator=_stream(3))
    share = torch.rand(MEMBERS, 1, n_pacs, generator=_stream(5))
    masks = []
    if dropout:
        uniform = [torch.rand(MEMBERS, size, 3 * n_pacs, generator=_stream(6)) for size in hidden]
        masks = [(part >= dropout) / (1.0 - dropout) for part in uniform]
    before = x.clone()
    difference, penalty = critic.learn(flat, x, share, masks)
    assert torch.equal(before[:, :, :, :2], x[:, :, :, :2])
    kept = flat.grads.clone()
    adversary, d_fake = critic.guide(flat, x, [part[:, :, :n_pacs] for part in masks])
    assert torch.equal(kept, flat.grads), "the generator's step forms no gradient of the critic"
    for member in range(MEMBERS):
        leaves = _leaves(flat, member)

        def score(
            x: torch.Tensor,
            which: slice,
            member: int = member,
            leaves: dict[str, torch.Tensor] = leaves,
        ) -> torch.Tensor:
            units = x.reshape(-1, n_pacs).t()
            for place in range(len(hidden)):
                weight = leaves[f"layer.{place}.weight"]
                units = F.leaky_relu(units @ weight.t() + leaves[f"layer.{place}.bias"], LEAK)
                if dropout:
                    units = units * masks[place][member][:, which].t()
            result: torch.Tensor = units @ leaves["out.weight"] + leaves["out.bias"]
            return result

        real, fake = x[member, :, :, 0], x[member, :, :, 1]
        first, second, third = (slice(n * n_pacs, (n + 1) * n_pacs) for n in range(3))
        expected = score(fake, second).mean() - score(real, first).mean()
        between = torch.lerp(fake, real, share[member]).requires_grad_()
        (slope,) = torch.autograd.grad(score(between, third).sum(), between, create_graph=True)
        pull = PENALTY * (slope.square().sum(dim=(0, 1)).sqrt() - 1.0).square().mean()
        torch.testing.assert_close(difference[member], expected)
        torch.testing.assert_close(penalty[member], pull)
        (expected + pull).backward()
        _assert_same_gradients(flat, member, leaves)
        wanted = fake.clone().requires_grad_()
        loss = -score(wanted, first).mean()
        loss.backward()
        torch.testing.assert_close(adversary[member], loss)
        assert wanted.grad is not None
        torch.testing.assert_close(d_fake[member], wanted.grad[:n_features].reshape(n_features, -1))


def test_perceptrons_equal_automatic_differentiation() -> None:
    network = Perceptron("net", 6, (9, 8), 4, out_bias=True)
    flat = _random(network.shapes)
    x = torch.randn(MEMBERS, 6, 20, generator=_stream(3))
    bound = network.bind(flat, 20, to_input=True)
    # Places are used again: what a pass before has left there must not matter.
    bound.input.fill_(5.0)
    bound.forward()
    bound.backward(torch.ones_like(bound.output))
    bound.input.copy_(x)
    bound.forward()
    out = bound.output
    d_out = torch.randn(out.shape, generator=_stream(4))
    d_x = bound.backward(d_out)
    assert d_x is not None
    assert network.bind(flat, 20).backward(d_out) is None
    bound.backward(d_out)
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
    fake = torch.empty(MEMBERS, layout.feature_width, n_rows)
    features.of_logits(logits, uniform, fake)
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
    x = torch.zeros(MEMBERS, layout.feature_width, 2)
    Features(layout, CPU).of_rows(codes, torch.full((MEMBERS, 3, 2), 0.25), x)
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


def test_what_is_next_to_nothing_becomes_nothing_in_time() -> None:
    flat = _random({"a": (4, 3)})
    used, unused = flat.values[:-ALIGNMENT].clone(), flat.values[-ALIGNMENT:]
    average = Average(flat.values.clone(), torch.zeros(()), 0.9)
    adam = Adam(flat, lr=0.0, betas=(0.5, 0.9), average=average)
    tensors = (flat.values, average.values, *(adam.state[name] for name in ("means", "squares")))
    for tensor in tensors:
        tensor[-ALIGNMENT:] = torch.tensor([1e-40, -1e-31]).repeat(ALIGNMENT // 2)
    flat.values[0] = used[0] = torch.nan
    for step in range(1, TIDY_STEPS):
        adam.tidy(step)
    assert unused.all()
    adam.tidy(TIDY_STEPS)
    for tensor in tensors:
        assert not tensor[-ALIGNMENT:].any()
    assert torch.equal(flat.values[1:-ALIGNMENT], used[1:])
    assert flat.values[0].isnan()


def test_a_member_draws_the_same_numbers_whoever_trains_beside_it() -> None:
    alone = Noise([8], "test", n_normal=32, n_uniform=16, n_masked=9, drop=0.5, device=CPU)
    places = [torch.arange(20), torch.arange(0, 20, 1)[torch.arange(20) % 5 != 0]]
    together = Noise(
        [7, 8], "test", n_normal=32, n_uniform=20, n_masked=9, drop=0.5, device=CPU, places=places
    )
    for _ in range(3):
        alone.fill()
        together.fill()
        mine, theirs = alone.reader(0), together.reader(0)
        assert torch.equal(mine.normal(4, 8)[0], theirs.normal(4, 8)[1])
        assert torch.equal(mine.uniform(16)[0], theirs.uniform(20)[1][places[1]])
        assert torch.equal(mine.mask(9)[0], theirs.mask(9)[1])


def test_numbers_from_bits_have_their_distributions() -> None:
    stream = BitStream(5)
    normal, uniform = stream.normal(400_000), stream.uniform(400_000)
    assert torch.isfinite(normal).all()
    assert scipy.stats.kstest(normal.double().numpy(), "norm").pvalue > 1e-3
    assert scipy.stats.kstest(uniform.double().numpy(), "uniform").pvalue > 1e-3
    assert uniform.max() < 1.0
    for drop in (0.5, 0.1):
        kept = stream.keep(400_000, drop)
        assert set(kept.unique().tolist()) == {0.0, float(torch.tensor(1.0 / (1.0 - drop)))}
        assert abs(float((kept == 0.0).double().mean()) - drop) < 0.004
    state = stream.get_state()
    expected = stream.uniform(7)
    stream.uniform(5)
    stream.set_state(state)
    assert torch.equal(stream.uniform(7), expected)


def test_oneDNN_is_chosen_only_where_it_is_exact() -> None:
    with using_precision("auto", CPU):
        a, b = (torch.randn(1, *shape, generator=_stream(1)) for shape in ((64, 900), (900, 32)))
        error = (torch.bmm(a, b) - torch.bmm(a.double(), b.double())).abs().max()
    assert float(error) < 1e-4 * 900**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "plain"])
def test_categories_are_drawn_by_their_softmax(dtype: torch.dtype) -> None:
    layout = Layout(sizes=(3, 2), n_numeric=0, own_modes=((),), gaussians=((),))
    shares = torch.tensor([0.9, 0.1, 0.7, 0.25, 0.05], dtype=dtype)
    codes = draw_codes(layout, shares.log().unsqueeze(1).repeat(1, 40_000), _stream())
    first = np.bincount(codes[0].numpy(), minlength=3) / 40_000
    second = np.bincount(codes[1].numpy(), minlength=2) / 40_000
    np.testing.assert_allclose(first, [0.7, 0.25, 0.05], atol=0.01)
    np.testing.assert_allclose(second, [0.9, 0.1], atol=0.01)


def test_drawn_codes_are_those_of_their_places_among_cumulated_weights() -> None:
    layout = Layout(sizes=(7, 2, 700, 7), n_numeric=0, own_modes=((),), gaussians=((),))
    logits = 4.0 * torch.randn(layout.width, 1_001, generator=_stream(3))
    logits[layout.starts[0] + 2] = -1e4
    codes = draw_codes(layout, logits, _stream(5))
    places = (bits((4, 1_001), _stream(5)).bitwise_and(0xFFFFFF) + 1).double() * 2.0**-24
    assert codes.shape == (4, 1_001)
    for span, (start, size) in enumerate(zip(layout.starts, layout.sizes, strict=True)):
        shares = logits[start : start + size].double().softmax(dim=0)
        expected = (shares.cumsum(dim=0)[:-1] < places[span]).sum(dim=0)
        # Where a place is within rounding of a border, both neighbours are right.
        assert int((codes[span] != expected).sum()) <= 2
    assert not (codes[0] == 2).any()
    # Rows do not depend on how many are drawn in one pass of the loop.
    assert torch.equal(codes[:, :300], _draw_first(layout, logits, 300))


def _draw_first(layout: Layout, logits: torch.Tensor, count: int) -> torch.Tensor:
    random = bits((4, 1_001), _stream(5))[:, :count].contiguous()
    return _draw_codes_compiled(layout, logits[:, :count], random)


def test_shifted_logits_have_the_wanted_shares() -> None:
    logits = torch.randn(3, 4_000, generator=_stream())
    shares = torch.tensor([0.6, 0.3, 0.1])
    shifted = logits + logit_shift(logits, shares).unsqueeze(1)
    torch.testing.assert_close(shifted.softmax(dim=0).mean(dim=1), shares, atol=2e-3, rtol=0)


def test_spans_are_shifted_side_by_side_as_one_by_one() -> None:
    layout = Layout(sizes=(4, 2, 9, 4), n_numeric=0, own_modes=((),), gaussians=((),))
    logits = torch.randn(layout.width, 2_000, generator=_stream(1))
    bias = torch.randn(layout.width, generator=_stream(2))
    shares = torch.rand(layout.width, generator=_stream(3))
    for start, size in zip(layout.starts, layout.sizes, strict=True):
        shares[start : start + size] /= shares[start : start + size].sum()
    alone, together = torch.zeros_like(bias), torch.zeros_like(bias)
    for bundle in _bundles(layout, logits):
        assert len(bundle) == 1, "a processor takes one after the other"
        alone.index_add_(0, *_shifts(layout, bundle, logits, bias, shares))
    together.index_add_(0, *_shifts(layout, [2, 0, 3, 1], logits, bias, shares))
    torch.testing.assert_close(together, alone)
    for start, size in zip(layout.starts, layout.sizes, strict=True):
        mine = slice(start, start + size)
        shifted = logits[mine] + (bias + alone)[mine].unsqueeze(1)
        given = shifted.softmax(dim=0).mean(dim=1)
        torch.testing.assert_close(given, shares[mine], atol=5e-3, rtol=0)


def test_repeated_weights_are_those_of_one_member() -> None:
    network = Residual(6, (5, 4), 3)
    flat = Flat(network.shapes, 1, CPU)
    flat.values.normal_(0.0, 0.5, generator=_stream(1))
    x_KIB = torch.randn(3, 6, 40, generator=_stream(2))
    several = flat.repeated(3)
    network.input(several, 40).copy_(x_KIB)
    out_KOB, statistics = network.forward(several), network.statistics()
    for place in range(3):
        network.input(flat, 40).copy_(x_KIB[place : place + 1])
        torch.testing.assert_close(out_KOB[place], network.forward(flat)[0])
        for ours, theirs in zip(statistics, network.statistics(), strict=True):
            for several_K, one in zip(ours, theirs, strict=True):
                torch.testing.assert_close(several_K[place], one[0])
    assert several.value["out.weight"].data_ptr() == flat.value["out.weight"].data_ptr()
