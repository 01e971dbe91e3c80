"""The leak table: six generators on Adult, each judged by every attack.

    python benchmarks/leak_table.py --folder FOLDER [--sdv-python PYTHON]

Three stages, each kept in FOLDER, so that a repeated command goes on where it was:

1. *make*: each generator learns Adult's training rows and draws as many synthetic rows.  SDV's
   CTGAN needs ``pip install 'synthfactory[sdv]'``; ``--sdv-python`` names the interpreter of
   another environment that has it.
2. *judge*: every attack, and what says how useful the rows are, judges every synthetic table.  What
   was judged is kept for as long as the suite's source files are the same, and judged again when
   they change.  ``--shadows 16`` adds the membership attack by shadow models for the generators
   that a laptop can train seventeen times.
3. *write*: ``benchmarks/results/leak_table.json`` and ``docs/leak-table.md``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from compare_sdv import describe_machine
from sources import digest_of

import synthfactory as sf
from synthfactory.artifacts import digest_file, read_json, write_atomic, write_json
from synthfactory.evaluation import Evaluation, Evidence, conclude, measure
from synthfactory.evaluation.suite import Suite
from synthfactory.generators import Generator
from synthfactory.shadowing import Shadow, ShadowTrainer
from synthfactory.tables import Dataset, Parts

HOME = Path(__file__).resolve().parent
RESULTS = HOME / "results" / "leak_table.json"
PAGE = HOME.parent / "docs" / "leak-table.md"
ROWS = "rows.parquet"
MODEL = "model"
MADE = "made.json"
SEED = 0
STAGES = ("make", "judge", "write")
SHADOWED = ("bootstrap", "cart", "tvae", "independent")
# How useful the rows are, beside how much they leak.
CONTEXT = (
    "fidelity.column_shapes",
    "fidelity.pair_trends",
    "fidelity.two_sample_auc",
    "utility.retained",
)


def specs() -> dict[str, Generator]:
    """The generators by name, with their defaults."""
    return {
        "bootstrap": sf.Bootstrap(),
        "cart": sf.CART(),
        "tvae": sf.TVAE(),
        "ctgan": sf.CTGAN(),
        "sdv_ctgan": sf.SDVCTGAN(),
        "independent": sf.Independent(),
    }


def parts() -> Parts:
    """Adult, as `dataset=adult` declares it, divided as by default."""
    declared = yaml.safe_load((HOME.parent / "conf" / "dataset" / "adult.yaml").read_text())
    declared.pop("_target_")
    return sf.split(Dataset(**declared).load(), seed=SEED)


def make(name: str, folder: Path, *, threads: int, sdv_python: str | None) -> None:
    """Fit a generator and draw as many rows as it learnt, unless that is done."""
    if (folder / name / MADE).exists():
        return
    if name.startswith("sdv_") and importlib.util.find_spec("sdv") is None:
        _make_elsewhere(name, folder, threads=threads, sdv_python=sdv_python)
        return
    spec, train = specs()[name], parts().train
    began_s = time.monotonic()
    model = spec.fit(train, seed=SEED, device="cpu", threads=threads)
    fitted_s = time.monotonic()
    rows = model.sample(train.n_rows, seed=SEED + 1)
    write_atomic(folder / name / ROWS, rows.to_parquet_bytes())
    if not name.startswith("sdv_"):
        model.save(folder / name / MODEL)
    made: Mapping[str, Any] = {
        "generator": name,
        "hyperparameters": spec.hyperparameters(),
        "licence": spec.licence,
        "rows_learnt": train.n_rows,
        "rows_drawn": rows.n_rows,
        "fit_s": round(fitted_s - began_s, 1),
        "sample_s": round(time.monotonic() - fitted_s, 1),
        "threads": threads,
        "load_after": round(os.getloadavg()[0], 1),
        "machine": describe_machine(),
    }
    write_json(folder / name / MADE, made)
    print(name, made["fit_s"], made["sample_s"], flush=True)


def _make_elsewhere(name: str, folder: Path, *, threads: int, sdv_python: str | None) -> None:
    if sdv_python is None:
        raise SystemExit(
            f"{name} needs the package sdv: install 'synthfactory[sdv]' here, or name the Python "
            "of an environment that has it with --sdv-python."
        )
    words = [sdv_python, __file__, "--folder", str(folder), "--stage", "make", "--only", name,
             "--threads", str(threads)]  # fmt: skip
    # The other environment uses this copy of the package.
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(HOME.parent)})


def judging(name: str, shadows: int) -> tuple[Evaluation, list[Suite]]:
    """The evaluation of a generator, and its suites that the table shows."""
    evaluation = Evaluation(controls=False, shadows=shadows if name in SHADOWED else 0)
    return evaluation, [
        suite
        for suite in evaluation.suites
        if any(id_.startswith("privacy.") or id_ in CONTEXT for id_ in suite.ids)
    ]


def judge(name: str, folder: Path, *, threads: int, shadows: int) -> None:
    """Let the suites judge a generator's rows; what is kept and still holds is not repeated."""
    evaluation, suites = judging(name, shadows)
    key = {"rows": digest_file(folder / name / ROWS), "seed": SEED, "shadows": shadows}
    wanted = [suite for suite in suites if not _is_judged(name, folder, suite, key)]
    if not wanted:
        return
    evidence = _evidence(name, folder, evaluation, threads)
    for suite in wanted:
        began_s = time.monotonic()
        found = conclude(evidence, [suite], measure(evidence, [suite]))
        content: dict[str, Any] = {
            "key": _key_of(suite, key),
            "seconds": round(time.monotonic() - began_s, 1),
            "measurements": [item.to_dict() for item in found.measurements],
            "failures": dict(found.failures),
        }
        write_json(_judged(name, folder, suite), content)
        print(name, suite.name, content["seconds"], flush=True)


def _evidence(name: str, folder: Path, evaluation: Evaluation, threads: int) -> Evidence:
    real = parts()
    attacked: dict[str, Any] = {}
    if (folder / name / MODEL).exists():
        model = sf.load_model(folder / name / MODEL)
        spec, schema = model.spec, real.train.schema
        attacked = {
            "model": Shadow(model, threads=threads),
            "trainer": ShadowTrainer(spec, schema, device="cpu", threads=threads),
        }
    return evaluation.gather(
        **real._asdict(),
        synthetic=sf.read_table(folder / name / ROWS, schema=real.train.schema),
        seed=SEED + 2,
        threads=threads,
        **attacked,
    )


def _judged(name: str, folder: Path, suite: Suite) -> Path:
    return folder / name / "judged" / f"{suite.name}.json"


def _key_of(suite: Suite, key: Mapping[str, Any]) -> dict[str, Any]:
    mine = dict(key)
    if suite.name != "privacy.shadows":
        del mine["shadows"]
    return {**mine, "source": digest_of(suite)}


def _is_judged(name: str, folder: Path, suite: Suite, key: Mapping[str, Any]) -> bool:
    path = _judged(name, folder, suite)
    return path.exists() and read_json(path)["key"] == _key_of(suite, key)


def collect(names: Sequence[str], folder: Path, shadows: int) -> dict[str, Any]:
    """Everything that is kept, by generator."""
    tables = {}
    for name in names:
        _, suites = judging(name, shadows)
        judged = [read_json(_judged(name, folder, suite)) for suite in suites]
        tables[name] = {
            "made": read_json(folder / name / MADE),
            "judged_s": round(sum(each["seconds"] for each in judged), 1),
            "measurements": [item for each in judged for item in each["measurements"]],
            "failures": {id_: why for each in judged for id_, why in each["failures"].items()},
        }
    return {"dataset": "adult", "seed": SEED, "machine": describe_machine(), "tables": tables}


HEAD = """# The leak table

Written by `python benchmarks/leak_table.py`; do not edit. The numbers, with everything that is left
out here, are in `benchmarks/results/leak_table.json`.

Six generators learn the same {rows:,} people of Adult and draw as many synthetic rows, each judged
by every attack against {control:,} people who were not learnt. **Bold**: the alarm, a 95 % bound
beyond what an attack finds where nothing leaks (*baseline*). *Fresh* is the same attack on real
people whom nobody learnt, in place of synthetic rows.
"""

WHY = """
## Why in this order

- **bootstrap** repeats training rows: each is a copy, and every attack says so, by row, by
  distance, by density and by secret. To the fidelity measurements alone it looks perfect.
- **cart** draws each value from a leaf of at least five people who agree in what was drawn before.
  After some columns the leaves hold people who share much, and parts of a person's row come out
  together again: exact copies, rows nearer to members, denser places where members are. A number
  that one person alone has comes out as it is, so predicates on single columns single people out
  nearly as often as with bootstrap. All this is known of synthpop's trees, whose share of rows
  nearer to members is reported as 0.551 on Adult. It comes with the best fidelity of all that are
  no copies.
- **TVAE** has no people to hand out, only weights that were fitted to them, row by row. It is the
  network that fits best, and the only one that attacks find anything of: little in its rows, at the
  edge of what can be told on this many people, and more in its likelihoods of those who are
  easiest to recognise, for an attacker who has the model and trains shadow models (*membership,
  white box*). So the model should not be shared like its rows.
- **CTGAN** and **SDV's CTGAN** learn from what a critic says about packs of rows. Their rows are
  told from real ones more easily than TVAE's and say less about members: nothing that these attacks
  find. Shadow models of them were not trained, as one fit takes minutes.
- **independent** knows the columns' marginals alone. No attack on rows can gain anything: it is the
  floor, of leakage and of fidelity alike.

So leakage follows how closely rows of people are fitted; the second table shows the other side.

So many attacks on six tables are many looks: even where nothing leaks, an alarm at 95 % rings once
in forty. An attack that raises no alarm proves no more than that this attack, with so many people,
found nothing. What it could have found is the column *smallest leak seen*: the least departure from
the baseline that its interval would exclude in four of five repetitions (the median over the six
tables).
"""


def page(found: Mapping[str, Any]) -> str:
    """The results as a page."""
    tables = found["tables"]
    by_id = {
        name: {item["id"]: item for item in table["measurements"]} for name, table in tables.items()
    }
    ids = list(dict.fromkeys(id_ for items in by_id.values() for id_ in items))
    attacks = [id_ for id_ in ids if id_.startswith("privacy.")]
    made = next(iter(tables.values()))["made"]
    control = next(iter(by_id.values()))["privacy.dcr_share"]["details"]["n_strangers"]
    parts_ = [
        HEAD.format(rows=made["rows_learnt"], control=control),
        _table(attacks, by_id),
        WHY,
        "## What they are good for",
        "Rows that leak nothing are had for nothing when they need not be of any use.",
        _table([id_ for id_ in CONTEXT if id_ in ids], by_id),
        "## How they were made",
        _fits(tables),
    ]
    return "\n\n".join(part.strip() for part in parts_) + "\n"


def _table(ids: Sequence[str], by_id: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| measurement | baseline | fresh | smallest leak seen | " + " | ".join(by_id) + " |",
        "|---" * (4 + len(by_id)) + "|",
    ]
    for id_ in ids:
        first = next(items[id_] for items in by_id.values() if id_ in items)
        words = [f"`{id_}`", _number(first["baseline"]), _number(first["control"])]
        known = [items[id_]["mde"] for items in by_id.values() if id_ in items]
        words += [_number(statistics.median(known) if None not in known else None)]
        words += [_cell(items.get(id_)) for items in by_id.values()]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cell(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return "not assessed"
    text = f"{item['estimate']:.3f} [{item['lcb']:.3f}, {item['ucb']:.3f}]"
    return f"**{text}**" if rings(item) else text


def rings(item: Mapping[str, Any]) -> bool:
    """Whether an attack's bound lies beyond its baseline."""
    leaks = item["family"] == "privacy" and item["better"] == "lower"
    return leaks and item["baseline"] is not None and item["lcb"] > item["baseline"]


def _fits(tables: Mapping[str, Any]) -> str:
    lines = [
        "| generator | epochs | licence | fit, s | sampling, s | threads |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for name, table in tables.items():
        made = table["made"]
        epochs = made["hyperparameters"].get("epochs", "")
        words = [name, epochs, made["licence"], made["fit_s"], made["sample_s"], made["threads"]]
        lines.append("| " + " | ".join(map(str, words)) + " |")
    return "\n".join(
        [*lines, "", "Defaults throughout; the machine was shared, so times are rough."]
    )


def main() -> None:
    """Make, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where stages are kept")
    parser.add_argument("--sdv-python", help="a Python that has the package sdv")
    parser.add_argument("--stage", choices=STAGES, default=STAGES[-1], help="up to this one")
    parser.add_argument("--only", nargs="+", help="make and judge these generators alone")
    parser.add_argument("--shadows", type=int, default=0, help="shadow models of quick generators")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    last = STAGES.index(options.stage)
    for name in options.only or list(specs()):
        make(name, options.folder, threads=options.threads, sdv_python=options.sdv_python)
        if last >= 1:
            judge(name, options.folder, threads=options.threads, shadows=options.shadows)
    if last >= 2:
        found = collect(list(specs()), options.folder, options.shadows)
        write_json(RESULTS, found)
        write_atomic(PAGE, page(found).encode())


if __name__ == "__main__":
    main()
