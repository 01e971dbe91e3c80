"""The package as a whole: light to import, complete at its door."""

from __future__ import annotations

import subprocess
import sys

import pytest

import synthfactory


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_pulls_in_nothing_heavy() -> None:
    code = (
        "import sys, synthfactory; "
        "print([m for m in ('torch', 'dask', 'distributed', 'hydra', 'omegaconf', 'pandas', "
        "'pyarrow', 'sklearn') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom synthfactory.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'dask', 'hydra', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    assert run_python(code).endswith("[]")


def test_verbs_that_only_read_files_need_neither_torch_nor_dask() -> None:
    code = (
        "import sys, synthfactory.cli.verbs, synthfactory.status; "
        "print([m for m in ('torch', 'dask', 'hydra', 'sklearn', 'pandas') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize("name", [name for name in dir(synthfactory) if name != "__version__"])
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(synthfactory, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        synthfactory.nonsense  # noqa: B018


def test_verifier_needs_neither_torch_nor_dask_nor_hydra() -> None:
    code = (
        "import sys, synthfactory.certification.verify; "
        "print([m for m in ('torch', 'dask', 'hydra', 'sklearn', 'pandas') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_completion_and_past_runs_need_neither_torch_nor_dask() -> None:
    code = (
        "import sys, synthfactory.history, synthfactory.notebook\n"
        "from synthfactory.cli import main\n"
        "main(['completion', 'bash'])\n"
        "print([m for m in ('torch', 'dask', 'hydra', 'sklearn', 'pandas') if m in sys.modules])"
    )
    assert run_python(code).endswith("[]")
