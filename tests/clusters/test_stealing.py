"""Workers that come late take their share of what waits, with the settings of a campaign."""

from __future__ import annotations

import time
from collections import Counter

import dask
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_worker

from synthfactory.clusters.settings import DASK

pytestmark = pytest.mark.slow

ORDERS = 60


def stage(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


def last(number: int, seconds: float) -> str:
    time.sleep(seconds)
    return str(get_worker().name)


def worker(name: str, resource: str) -> dict[str, object]:
    options = {"nthreads": 1, "resources": {resource: 1}, "name": name}
    return {"cls": Worker, "options": options}


@pytest.mark.parametrize("resource", ["CPU", "GPU"])
def test_late_worker_takes_its_share_of_tasks_that_ask_for_a_resource(resource: str) -> None:
    options = {"port": 0, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(DASK),
        SpecCluster(
            workers={"first": worker("first", resource), "other": worker("other", "OTHER")},
            scheduler={"cls": Scheduler, "options": options},
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        ended = []
        for number in range(ORDERS):
            # What comes before is made by a worker of the other kind, as a split before a fit.
            before = client.submit(stage, number, 0.01, key=f"a:{number}", resources={"OTHER": 1})
            fit = client.submit(stage, before, 0.2, key=f"b:{number}", resources={resource: 1})
            after = client.submit(last, fit, 0.02, key=f"c:{number}", resources={resource: 1})
            ended.append(after)
        while sum(future.done() for future in ended) < 3:
            time.sleep(0.05)
        cluster.worker_spec["late"] = worker("late", resource)
        cluster.sync(cluster._correct_state)
        left = sum(not future.done() for future in ended)
        made = Counter(client.gather(ended))
    assert made["first"] + made["late"] == ORDERS
    # Its share is a third to a half: how soon it comes and how soon it is given some vary.
    assert made["late"] >= left // 4
    assert left > ORDERS // 2
