"""An evaluation that workers share finds what one process finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from stage_files import bytes_of

import synthfactory as sf
from synthfactory import artifacts, factory
from synthfactory.campaign import run_campaign
from synthfactory.certification import new_key
from synthfactory.clusters import Local, Site
from synthfactory.evaluation import Evaluation, conclude, measure
from synthfactory.order import Order
from synthfactory.tables import Dataset

QUICK = Evaluation(max_rows=600, repeats=20)


@pytest.mark.parametrize("of", [2, 5, 1000])
def test_shares_put_together_are_the_single_pass(people_csv: Path, of: int) -> None:
    train, control, test = sf.split(sf.read_table(people_csv), seed=0)
    evidence = QUICK.gather(
        train=train, control=control, test=test, synthetic=train, seed=3, threads=1
    )
    suites = QUICK.suites
    merged = {}
    # A late share first: the order in which workers finish must not matter.
    for number in reversed(range(of)):
        merged |= measure(evidence, suites, number=number, of=of)
    whole = conclude(evidence, suites, measure(evidence, suites))
    assert conclude(evidence, suites, merged).to_dict() == whole.to_dict()


@pytest.mark.slow
def test_workers_share_an_evaluation_and_commit_the_same_bytes(
    people_csv: Path, tmp_path: Path
) -> None:
    order = Order(
        dataset=Dataset(path=str(people_csv), target="outcome"),
        generator=sf.Independent(),
        evaluation=QUICK,
        threads=1,
    )
    key = new_key(tmp_path / "issuer.pem")
    alone = factory.produce(order, tmp_path / "alone", key=key)
    with Local(n_workers=3).session(Site(), tmp_path / "shared") as connect:
        (outcome,) = run_campaign([order], tmp_path / "shared", connect=connect, key=lambda: key)
    assert outcome.state == alone.state
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "alone")
    cost = artifacts.read_done(outcome.folder / "evaluate")
    assert cost["cpu_s"] > 0
    events = (outcome.folder / "events.jsonl").read_text()
    assert events.count('"committed"') == len(factory.STAGES)
