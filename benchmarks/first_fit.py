"""Small figures that the documents give of a fit: what the first one waits for, and of what a step
consists.

    python benchmarks/first_fit.py compile     # seconds of the first fit after an installation
    python benchmarks/first_fit.py loops       # TVAE's compiled loops beside plain operations
    python benchmarks/first_fit.py operations  # operations of a step, and bare matrix products
    python benchmarks/first_fit.py course      # a step as the fit goes on, and tiny numbers left
    python benchmarks/first_fit.py waiting     # OMP_WAIT_POLICY: steps beside busy processes
    python benchmarks/first_fit.py rare        # merge_rare, by rows

All on the embedded Adult table and a processor.  Each part adds its figures to
``benchmarks/results/first_fit.json``, with machine, versions and the load of the machine; a figure
that was measured beside other work is not one of an idle machine.  ``--show`` records nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import torch
from compare_sdv import DATA, TARGETS, describe_machine

import synthfactory as sf
from synthfactory.artifacts import read_json, write_json
from synthfactory.generators import NeuralGenerator
from synthfactory.generators.drawing import Deck
from synthfactory.generators.flat import Adam
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import Runner, find_device, using_threads
from synthfactory.generators.variational import (
    FusedLatent,
    FusedLikelihood,
    Latent,
    Likelihood,
)

RESULTS = Path(__file__).resolve().parent / "results" / "first_fit.json"
MODELS: dict[str, NeuralGenerator] = {
    "CTGAN": sf.CTGAN(batch_size=500),
    "TVAE": sf.TVAE(batch_size=500),
}
CALLS, THOUSAND = 20, 1_000
LEAST_S = 0.1
FIT = """
import sys, time
import synthfactory as sf
table = sf.read_table(sys.argv[1], target=sys.argv[2]).head(1_000)
spec = getattr(sf, sys.argv[3])(epochs=1)
began_s = time.perf_counter()
spec.fit(table, seed=0, device="cpu", threads=1)
print(time.perf_counter() - began_s)
"""
BUSY = "while True: pass"


def adult() -> sf.Table:
    """Adult as it is embedded."""
    return sf.read_table(DATA / "adult.parquet", target=TARGETS["adult"])


@contextmanager
def trainer_of(spec: NeuralGenerator, threads: int) -> Iterator[Any]:
    """A trainer that is ready for its steps, under its settings."""
    table, device = adult(), find_device("cpu")
    representation = Representation.fit(table)
    rows = representation.encode(table, seed=0)
    with using_threads(threads), using_precision(spec.precision, device), torch.no_grad():
        trainer: Any = spec._trainer([representation], Deck([rows], device), [0], device)
        trainer.prepare(0)
        yield trainer


def microseconds(action: Callable[[], object], turns: int) -> list[float]:
    """Of one call, each time over as many as a tenth of a second takes."""
    action()
    taken = []
    for _ in range(turns):
        calls, began_s, spent_s = 0, time.perf_counter(), 0.0
        while spent_s < LEAST_S:
            for _ in range(CALLS):
                action()
            calls += CALLS
            spent_s = time.perf_counter() - began_s
        taken.append(1e6 * spent_s / calls)
    return taken


def middle(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        name: float(f"{of(values):.3g}")
        for name, of in (("median", statistics.median), ("least", min), ("most", max))
    }


# Parts.


def compile_(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A fit of one epoch on 1,000 rows in a new process: nothing compiled yet, and all of it."""
    for name in MODELS:
        first, later = [], []
        for _ in range(options.turns):
            with tempfile.TemporaryDirectory() as folder:
                first.append(_fit_seconds(name, folder))
                later.append(_fit_seconds(name, folder))
        yield {"model": name, "first_s": middle(first), "later_s": middle(later)}


def _fit_seconds(name: str, cache: str) -> float:
    words = [sys.executable, "-c", FIT, str(DATA / "adult.parquet"), TARGETS["adult"], name]
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def loops(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The latent point with divergence and gradients, and the likelihood with its gradient."""
    for kind, threads in dict.fromkeys((("compiled", 1), ("plain", 1), ("plain", options.threads))):
        with trainer_of(MODELS["TVAE"], threads) as trainer:
            yield {
                "kind": kind,
                "threads": threads,
                "point_us": middle(_point_us(trainer, kind == "compiled", options.turns)),
                "likelihood_us": middle(_likelihood_us(trainer, kind == "compiled", options.turns)),
            }


def _point_us(trainer: Any, fused: bool, turns: int) -> list[float]:
    encoded, points = trainer._encode.output.clone(), trainer._decode.input.clone()
    start, noise, pulled = encoded.clone(), torch.randn_like(points), torch.randn_like(points)
    latent = (FusedLatent if fused else Latent)(encoded, points)

    def restore() -> None:
        encoded.copy_(start)

    def learn() -> None:
        latent.draw(noise)
        latent.backward(pulled)
        # The plain way writes over what it read: without this, numbers would grow.
        encoded.copy_(start)

    copying = statistics.median(microseconds(restore, turns))
    return [taken - copying for taken in microseconds(learn, turns)]


def _likelihood_us(trainer: Any, fused: bool, turns: int) -> list[float]:
    flat, batch = trainer.flat, trainer._batches[0]
    likelihood = (FusedLikelihood if fused else Likelihood)(
        trainer._layout,
        trainer._logits.clone(),
        flat.value["sigma"].clone(),
        flat.grad["sigma"].clone(),
        trainer._spec.loss_factor,
    )
    return microseconds(lambda: likelihood.learn(batch), turns)


def operations(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Operations that a step calls by itself, and TVAE's matrix products alone."""
    for name, spec in MODELS.items():
        with trainer_of(spec, options.threads) as trainer:
            yield {"model": name, "threads": options.threads, "operations": _count(trainer)}
            if name == "TVAE":
                yield {"threads": options.threads, **_products_alone(trainer, options.turns)}


def _count(trainer: Any) -> int:
    """Operations of one step that no other operation calls."""
    trainer.step(0)
    with torch.profiler.profile() as seen:
        trainer.step(0)
    return sum(
        event.name.startswith("aten::")
        and (event.cpu_parent is None or not event.cpu_parent.name.startswith("aten::"))
        for event in seen.events() or ()
    )


def _products_alone(trainer: Any, turns: int) -> dict[str, Any]:
    products = [
        pair
        for sizes, to_input in ((trainer._encoder.sizes, False), (trainer._decoder.sizes, True))
        for pair in _products(sizes, trainer._n_rows, to_input)
    ]

    def multiply() -> None:
        for a, b in products:
            torch.bmm(a, b)

    return {
        "products": len(products),
        "gflop": round(sum(_flop(a, b) for a, b in products) / 1e9, 3),
        "products_us": middle(microseconds(multiply, turns)),
    }


def _products(
    sizes: Sequence[int], n_rows: int, to_input: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The factors of all layers: forwards, at the weights, and at what a layer reads."""
    pairs = []
    for place, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        weight, read, pulled = (
            torch.randn(1, *shape) for shape in ((n_out, n_in), (n_in, n_rows), (n_out, n_rows))
        )
        pairs += [(weight, read), (pulled, read.transpose(1, 2))]
        pairs += [(weight.transpose(1, 2), pulled)] if place or to_input else []
    return pairs


def _flop(a: torch.Tensor, b: torch.Tensor) -> float:
    return 2.0 * a.shape[1] * a.shape[2] * b.shape[2]


def course(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A step in each thousand of a fit's first 8,000, with `Adam.tidy` and without."""
    for name, is_tidied in itertools.product(MODELS, (True, False)):
        left = nullcontext() if is_tidied else patch.object(Adam, "tidy", lambda *_: None)
        with left, trainer_of(MODELS[name], options.threads) as trainer:
            run, taken = Runner(trainer), []
            for first in range(0, 8 * THOUSAND, THOUSAND):
                began_s = time.perf_counter()
                for step in range(first, first + THOUSAND):
                    run(step, 1)
                # Seconds of a thousand steps are milliseconds of one.
                taken.append(round(time.perf_counter() - began_s, 3))
            n_tiny = sum(_count_tiny(tensor) for tensor in trainer.tensors.values())
        yield {
            "model": name,
            "threads": options.threads,
            "is_tidied": is_tidied,
            "step_ms": taken,
            "tiny_numbers": n_tiny,
        }


def _count_tiny(tensor: torch.Tensor) -> int:
    """Numbers of float32 that are not 0 and below its normal ones."""
    if tensor.dtype != torch.float32:
        return 0
    return int(((tensor != 0.0) & (tensor.abs() < torch.finfo(torch.float32).tiny)).sum())


def waiting(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """TVAE's steps per second with the threads' two ways of waiting, beside busy processes."""
    for others in dict.fromkeys((0, options.others)):
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
        try:
            rates: dict[str, list[float]] = {"passive": [], "default": []}
            for _ in range(options.turns):
                for policy, taken in rates.items():
                    taken.append(_steps_per_s(policy, options))
        finally:
            for process in busy:
                process.kill()
                process.wait()
        yield {
            "model": "TVAE",
            "threads": options.threads,
            "others": others,
            "steps_per_s": {policy: middle(taken) for policy, taken in rates.items()},
        }


def _steps_per_s(policy: str, options: argparse.Namespace) -> float:
    environment = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE"} if policy == "passive" else {}
    words = [sys.executable, __file__, "steps", "--show", "--threads", str(options.threads),
             "--seconds", str(options.seconds)]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return float(json.loads(done.stdout)["steps_per_s"])


def steps(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """TVAE's steps per second in this process, for some seconds."""
    with trainer_of(MODELS["TVAE"], options.threads) as trainer:
        run, done = Runner(trainer), 0
        run(done, trainer.block)
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < options.seconds:
            done += trainer.block
            run(done, trainer.block)
        yield {"steps_per_s": done / (time.perf_counter() - began_s)}


def rare(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seconds in which the rare values of a table are made common."""
    table = adult()
    for n_rows in dict.fromkeys((table.n_rows, options.rows)):
        copies = -(-n_rows // table.n_rows)
        data = pa.concat_tables([table.data] * copies).slice(0, n_rows).combine_chunks()
        large = sf.Table(data=data, schema=table.schema)
        taken = []
        for _ in range(options.turns):
            began_s = time.perf_counter()
            sf.merge_rare(large, min_people=10 * copies)
            taken.append(time.perf_counter() - began_s)
        yield {"rows": n_rows, "columns": len(table.schema.columns), "seconds": middle(taken)}


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "compile": compile_,
    "loops": loops,
    "operations": operations,
    "course": course,
    "waiting": waiting,
    "steps": steps,
    "rare": rare,
}


def main() -> None:
    """Measure the parts that are named, and record them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each timing")
    parser.add_argument("--others", type=int, default=4, help="busy processes of `waiting`")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each count of `waiting`")
    parser.add_argument("--rows", type=int, default=1_000_000, help="the larger table of `rare`")
    parser.add_argument("--show", action="store_true", help="print and record nothing")
    options = parser.parse_args()
    for part in options.parts:
        for entry in PARTS[part](options):
            print(json.dumps(entry), flush=True)
            if not options.show:
                found = read_json(RESULTS)["entries"] if RESULTS.exists() else []
                found.append(
                    {"part": part, **entry, "load": round(os.getloadavg()[0], 1),
                     "machine": describe_machine()}
                )  # fmt: skip
                write_json(RESULTS, {"entries": found})


if __name__ == "__main__":
    main()
