# The workshop. `make run` and `make test` need nothing but Python 3.11+ and a network for packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: run test setup check docs bench format clean

run: $(VENV)/.package ## a certified synthetic version of the embedded Adult table
	$(BIN)/synthfactory run

test: $(VENV)/.dev ## everything that the tests need, then the tests: quick ones first
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/setup.sh
	$(BIN)/python -m pytest -m "not slow and not browser"
	$(BIN)/python -m pytest -m "slow or browser"

setup: $(VENV)/.dev ## the whole development environment

check: $(VENV)/.dev ## formatting, lint, types, import contracts, shell scripts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run tests/setup.sh

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs ## the documentation site, warnings as errors, offline
	$(BIN)/mkdocs build --strict --site-dir site

bench: $(VENV)/.dev ## the recorded comparisons, see benchmarks/RESULTS.md
	$(BIN)/python benchmarks/factory.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist site
