"""Randomness is addressed, not consumed."""

from __future__ import annotations

import torch

from synthfactory.seeds import derive, numpy_stream, torch_stream


def test_stream_depends_on_its_whole_address_and_on_nothing_else() -> None:
    addresses = [(0, "fit", 0), (1, "fit", 0), (0, "split", 0), (0, "fit", 1)]
    draws = [numpy_stream(*address).integers(2**62) for address in addresses]
    assert len(set(draws)) == len(addresses)
    numpy_stream(0, "other").random(1000)
    assert numpy_stream(*addresses[0]).integers(2**62) == draws[0]


def test_seed_and_purpose_do_not_run_into_each_other() -> None:
    assert derive(1, "1x") != derive(11, "x")


def test_torch_stream_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=torch_stream(0, "noise"))
    assert torch.equal(first, torch.rand(4, generator=torch_stream(0, "noise")))
    assert torch.equal(before, torch.get_rng_state())
