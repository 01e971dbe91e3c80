"""A generator of another installed package, from the command line to the certificate and back."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from people import LENIENT
from plugins.packages import install

pytestmark = pytest.mark.slow

SMALL = ("evaluation=quick", "evaluation.max_rows=500", "evaluation.repeats=20", "threads=1")


@dataclass(frozen=True)
class Desk:
    """A folder with a package, a table and a policy; commands run in processes of their own."""

    folder: Path
    table: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def run(self) -> Path:
        (found,) = self.runs.glob("people-uniform-*")
        return found

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(self.site), *sys.path[1:]])},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def synthfactory(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "synthfactory", *words)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.synthfactory(
            "run", "--json", "--config-dir", str(self.folder / "conf"), "policy=lenient",
            f"dataset.path={self.table}", f"paths.runs={self.runs}", "generator=uniform", *SMALL,
            "rows=3500", "rows_per_shard=1000", "cluster.n_workers=2", *words,
        )  # fmt: skip


def set_up(folder: Path, table: Path, **package: Any) -> Desk:
    desk = Desk(folder, table)
    (folder / "conf" / "policy").mkdir(parents=True)
    (folder / "conf" / "policy" / "lenient.yaml").write_text(yaml.safe_dump(LENIENT))
    install(desk.site, **package)
    return desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, people_csv: Path) -> Desk:
    """Where a run was made with an installed generator, by two workers."""
    desk = set_up(tmp_path_factory.mktemp("plugin"), people_csv)
    done = desk.make("generator.cut=0.05")
    assert done.returncode == 0, done.stderr
    return desk


def statements(run: Path) -> list[Mapping[str, Any]]:
    lines = (run / "release" / "attestations.intoto.jsonl").read_bytes().splitlines()
    return [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in lines]


def test_a_run_is_certified_and_names_the_package(desk: Desk) -> None:
    release = desk.run / "release"
    assert len(list((release / "data").iterdir())) == 4
    told = json.loads((release / "certificate.json").read_bytes())["credentialSubject"]["generator"]
    assert told == {
        "generatorName": "uniform",
        "generatorLicence": "Apache-2.0",
        "generatorPackage": "mylab-uniform",
        "generatorVersion": "1.0.0",
    }
    (made,) = (
        item["predicate"]["buildDefinition"]
        for item in statements(desk.run)
        if "buildDefinition" in item["predicate"]
    )
    assert made["externalParameters"]["generator"]["_plugin_"]["version"] == "1.0.0"
    (software,) = (
        item
        for item in made["resolvedDependencies"]
        if item.get("uri", "").startswith("pkg:pypi/mylab-uniform")
    )
    assert software["uri"] == "pkg:pypi/mylab-uniform@1.0.0"
    assert software["annotations"] == {"generator": "uniform", "class": "mylab_uniform.Uniform"}
    source = subprocess.run(
        ["sha256sum", str(desk.site / "mylab_uniform.py")],
        capture_output=True, text=True, check=True,
    ).stdout.split()[0]  # fmt: skip
    assert software["digest"] == {"sha256": source}
    assert "mylab-uniform 1.0.0" in (release / "report.html").read_text()


def test_a_release_is_verified_where_the_package_is_not_installed(desk: Desk) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synthfactory", "verify", str(desk.run / "release")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_repeating_the_command_is_resuming(desk: Desk) -> None:
    before = {path: path.stat().st_mtime_ns for path in desk.run.rglob("*") if path.is_file()}
    done = desk.make("generator.cut=0.05")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_more_rows_are_the_same_from_workers_from_one_process_and_from_python(desk: Desk) -> None:
    roots = []
    for workers in (1, 2):
        done = desk.synthfactory(
            "sample", str(desk.run), "--rows", "1_200_000", "--json", "-o",
            str(desk.folder / f"more-{workers}"), f"cluster.n_workers={workers}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["rows"] == 1_200_000
        assert made["parts"] > 1
        roots.append(made["merkle_root"])
    assert roots[0] == roots[1]
    request = json.loads((desk.folder / "more-2" / "request.json").read_bytes())
    assert request["software"]["mylab-uniform"] == "1.0.0"
    code = (
        "import sys, synthfactory as sf, pyarrow.parquet as pq\n"
        "from synthfactory.seeds import derive\n"
        f"model = sf.load_model('{desk.run}/fit/model')\n"
        "part = pq.ParquetFile(sys.argv[1])\n"
        "rows = model.sample(part.metadata.row_group(0).num_rows, seed=derive(0, 'more rows'))\n"
        "assert part.read_row_group(0).equals(rows.data.replace_schema_metadata(None))\n"
        "print(type(model).__module__, model.spec.cut)\n"
    )
    done = desk.python("-c", code, str(desk.folder / "more-2" / "data" / "part-00000.parquet"))
    assert done.stdout == "mylab_uniform 0.05\n", done.stderr


def test_without_the_package_more_rows_say_what_to_install(desk: Desk) -> None:
    words = ["sample", str(desk.run), "--rows", "10", "-o", str(desk.folder / "none")]
    done = subprocess.run(
        [sys.executable, "-m", "synthfactory", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "installed kinds: bootstrap, cart" in done.stderr
    assert "Install the package that provides it, mylab-uniform 1.0.0" in done.stderr


def test_another_version_makes_a_run_of_its_own_and_cannot_end_a_begun_one(
    tmp_path: Path, people_csv: Path
) -> None:
    desk = set_up(tmp_path, people_csv)
    assert desk.make("rows=1000").returncode == 0
    (first,) = desk.runs.glob("people-*")
    install(tmp_path / "site-2", version="1.1.0")
    (tmp_path / "site").rename(tmp_path / "site-1")
    (tmp_path / "site-2").rename(tmp_path / "site")
    assert desk.make("rows=1000").returncode == 0
    (second,) = {*desk.runs.glob("people-*")} - {first}
    noted = [
        json.loads((run / "order.json").read_bytes())["order"]["generator"]["_plugin_"]["version"]
        for run in (first, second)
    ]
    assert noted == ["1.0.0", "1.1.0"]
    code = (
        "import sys\nfrom pathlib import Path\nfrom synthfactory.cli.compose import reopen\n"
        "from synthfactory import factory\n"
        "import shutil; run = reopen(Path(sys.argv[1])); shutil.rmtree(run.folder / 'decide')\n"
        "factory.perform('decide', run)\n"
    )
    done = desk.python("-c", code, str(first))
    assert "mylab-uniform 1.0.0, but this process has that of mylab-uniform 1.1.0" in done.stderr


def test_a_generator_that_breaks_the_protocol_ends_the_run_with_the_reason(
    tmp_path: Path, people_csv: Path
) -> None:
    chance = {'numpy_stream(seed, "sample", shard)': "np.random.default_rng()"}
    desk = set_up(tmp_path, people_csv, changes=chance)
    done = desk.make()
    assert done.returncode == 1
    (outcome,) = json.loads(done.stdout)
    assert outcome["state"] == "failed"
    assert (
        "UniformModel is not deterministic: seed 1, shard 3 gave other bytes"
        in (outcome["reasons"][0])
    )
    assert not (desk.run / "fit").exists()
    listed = desk.synthfactory("status", str(desk.runs), "--json")
    assert "is not deterministic" in listed.stdout


def test_a_misspelt_generator_and_a_misspelt_field_are_told(desk: Desk) -> None:
    done = desk.make("generator=unifrom")
    assert done.returncode == 2
    assert "did you mean 'uniform'" in done.stderr
    done = desk.make("generator.cutt=1")
    assert done.returncode == 2
    assert "did you mean 'generator.cut'" in done.stderr
    done = desk.make("generator.cut=-1")
    assert done.returncode == 2
    assert "Uniform.cut: expected a number of at least 0, got -1" in done.stderr


def test_it_is_compared_with_a_shipped_one_in_a_sweep(desk: Desk, tmp_path: Path) -> None:
    done = desk.synthfactory(
        "run", "--multirun", "--json", "--config-dir", str(desk.folder / "conf"),
        "policy=lenient", f"dataset.path={desk.table}", f"paths.runs={tmp_path / 'runs'}",
        "generator=uniform,independent", *SMALL, "cluster.n_workers=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [item["state"] for item in json.loads(done.stdout)] == ["certified", "certified"]
    made = desk.synthfactory("dashboard", str(tmp_path / "runs"), "-o", str(tmp_path / "site"))
    assert made.returncode == 0, made.stderr
    assert "uniform" in (tmp_path / "site" / "leaderboard.html").read_text()
    # Where the package is not installed, what the runs found is still read.
    again = subprocess.run(
        [sys.executable, "-m", "synthfactory", "dashboard", str(tmp_path / "runs"), "-o",
         str(tmp_path / "again")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
