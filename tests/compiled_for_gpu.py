"""Compiles every kernel that CTGAN's or TVAE's step launches on an NVIDIA GPU, without one.

    python tests/compiled_for_gpu.py

The step is made on the processor; where it would launch a kernel, the kernel is compiled to machine
code for compute capability 9.0 with the same arguments, and nothing is run.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from generators.examples import SMALL_GAN, SMALL_VAE, as_table, mixed
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from synthfactory.generators import ctgan, fusing, tvae
from synthfactory.generators.drawing import Deck
from synthfactory.generators.representation import Representation

HOPPER = GPUTarget("cuda", 90, 32)
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64"}
OPTIONS = ("num_warps", "num_stages")
compiled: dict[str, set[str]] = {}


def _compile(kernel: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
    assert all(0 < size < 2**16 for size in grid[1:])
    options = {name: named.pop(name) for name in OPTIONS if name in named}
    bound = inspect.signature(kernel.fn).bind(*args, **named).arguments
    constant = {p.name for p in kernel.params if p.is_constexpr}
    # As at a launch.
    constant |= {name for name, value in bound.items() if type(value) is int and value == 1}
    signature = {
        name: "constexpr" if name in constant else _type_of(value) for name, value in bound.items()
    }
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={name: value for name, value in bound.items() if name in constant},
    )
    made = triton.compile(source, target=HOPPER, options=options)
    assert made.asm["cubin"]
    compiled.setdefault(kernel.fn.__name__, set()).add(str(signature))


def _type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return POINTERS[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def main() -> None:
    """Make a step of models that use every kernel, in float32 and bfloat16."""
    JITFunction.run = _compile
    for module in (ctgan, tvae):
        module.loops_of = lambda *_: fusing.GpuLoops()  # type: ignore[assignment]
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        table = as_table(mixed(300).drop(columns="person"), Path(folder))
    representation = Representation.fit(table)
    deck = Deck([representation.encode(table, seed=1)], cpu)
    whole = dataclasses.replace(SMALL_GAN, dropout=0.5, discriminator_dims=(32, 16))
    plain = dataclasses.replace(SMALL_GAN, average_decay=0.0)
    low = [dataclasses.replace(spec, precision="bf16") for spec in (whole, SMALL_VAE)]
    for spec in (whole, plain, SMALL_VAE, *low):
        trainer = spec._trainer([representation], deck, [1], cpu)
        trainer.prepare(0)
        trainer.step(0)
    for name, signatures in sorted(compiled.items()):
        print(name, len(signatures))


if __name__ == "__main__":
    sys.exit(main())
