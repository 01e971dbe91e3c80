"""The page on clusters says what the sites' YAML says.

After a change of a site, write its tables anew::

    SYNTHFACTORY_WRITE_GOLDEN=1 python -m pytest tests/slurm/test_sites_page.py
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest

from synthfactory.cli import compose
from synthfactory.clusters import Partition, Site
from synthfactory.clusters.sites import walltime
from synthfactory.paths import conf_dir

PAGE = Path(__file__).resolve().parents[2] / "docs" / "on-your-cluster.md"
SITES = sorted(
    path.stem
    for path in (conf_dir() / "site").glob("*.yaml")
    if path.stem not in ("generic", "devcluster")
)


@functools.cache
def site_of(name: str) -> Site:
    return compose.one([f"site={name}"], None).site


def shown(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"


def summary() -> str:
    """One line for each site: what a node is, how GPUs are asked for, where orders run."""
    lines = [
        "| `site=` | a node | asked for by | account | unless told otherwise |",
        "|---|---|---|---|---|",
    ]
    for name in SITES:
        site = site_of(name)
        node = (
            f"{shown(site.gpus_per_node)} {site.gpu_model}, {shown(site.gpu_memory_gb)} GB each; "
            f"{shown(site.usable_cores or site.cores_per_node)} cores, {site.arch}"
        )
        account = f"`{site.account.example}`" if site.account.example else "?"
        lines.append(
            f"| `{name}` | {node} | `{site.gpu_request}` | {account} | `cluster={site.launch}` |"
        )
    return "\n".join(lines)


def partitions(site: Site) -> str:
    """The partitions and qualities of service of a site, with their limits."""
    lines = [
        "| partition | qos | at most | nodes | given | for |",
        "|---|---|---|---|---|---|",
    ]
    for partition in site.partitions.values():
        kind = "processors" if partition.gpus_per_node == 0 else "GPUs"
        given = "whole nodes" if partition.whole_nodes else "parts of nodes"
        rows = [("", partition.max_walltime_min, partition.max_nodes)]
        for name, qos in partition.qos.items():
            time, nodes = qos.max_walltime_min, qos.max_nodes
            rows.append((f"`{name}`", time or partition.max_walltime_min, nodes))
        for qos_name, time, nodes in rows:
            limit = "?" if time is None else walltime(time)
            lines.append(
                f"| `{partition.name}` | {qos_name} | {limit} | {shown(nodes)} | {given} | {kind} |"
            )
    return "\n".join(lines)


def figures(name: str) -> str:
    site = site_of(name)
    billing = site.billing
    charged = f"{billing.formula} ({billing.unit})" if billing.unit else "not known"
    unsure = ", ".join(f"`{path}`" for path in site.uncertain) or "nothing"
    home: Partition = site.partition(site.default_partition)
    return "\n".join(
        [
            partitions(site),
            "",
            f"Default partition: `{home.name}`. Charged: {charged}.",
            "",
            f"**Uncertain**: {unsure}.",
        ]
    )


def replaced(text: str, name: str, table: str) -> str:
    """The page with what stands between the marks of that name replaced."""
    pattern = rf"(<!-- {name} -->\n\n).*?(\n\n<!-- /{name} -->)"
    assert re.search(pattern, text, re.DOTALL), f"{PAGE.name} lacks the marks <!-- {name} -->"
    return re.sub(pattern, lambda found: found[1] + table + found[2], text, flags=re.DOTALL)


@pytest.mark.parametrize("name", ["sites", *SITES])
def test_tables_of_the_page_are_those_of_the_sites(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    expected = replaced(text, name, summary() if name == "sites" else figures(name))
    if os.environ.get("SYNTHFACTORY_WRITE_GOLDEN"):
        PAGE.write_text(expected, encoding="utf-8")
        text = expected
    assert text == expected


def test_every_site_has_a_command_that_its_rules_accept() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in SITES:
        site = site_of(name)
        command = re.search(rf"synthfactory submit site={name} (.*)", text)
        assert command is not None, name
        words = dict(word.split("=", 1) for word in re.findall(r"cluster\.\S+", command[1]))
        account, qos = words.get("cluster.account"), words.get("cluster.qos")
        assert account is not None or not site.account.required
        assert (
            qos is not None
            or not site.qos.required
            or site.partition(site.default_partition).default_qos
        )
        rule = site.partition(words.get("cluster.partition", site.default_partition)).account
        assert rule is not None
        if account is not None and rule.pattern:
            assert re.fullmatch(rule.pattern, account)


def test_command_names_sites_that_exist() -> None:
    named = re.findall(r"site=([a-z]\w+)", PAGE.read_text(encoding="utf-8"))
    assert set(named) <= {*SITES, "generic", "devcluster", "ours"}
