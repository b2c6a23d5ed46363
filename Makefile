# Each target works alone from a fresh clone: what it needs is set up in .venv,
# once, and again when setup.cfg changes.
#
#   make train ARGS="--epochs=5"        passes flags on to train.py
#   make test ARGS="-k easgd"           passes arguments on to pytest
#   make PYTHON=python3.12 test         chooses the Python of a new .venv

PYTHON ?= python3
# Processes that share the tests; 0 for none beside pytest's own. One more than
# two cores, as many tests wait for processes that they have started.
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
# What `make train` runs on, and what the checks run on.
BASE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
CUDA := $(VENV)/.installed-cuda
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help train test test-all test-keras test-random lint types doctest \
  coverage check bench bench-network gpu-check chaos clean

help:
	@echo "make train       train with the defaults of train.py (main job)"
	@echo "make test        run the tests, each code path once"
	@echo "make test-all    run all tests, then test-keras, -random, -slurm, -versions"
	@echo "make test-keras  Keras' own tests under our strategy"
	@echo "make test-random a longer search by random examples"
	@echo "make lint        ruff"
	@echo "make types       mypy on the typed layers"
	@echo "make doctest     run the examples in the docstrings"
	@echo "make test-slurm  the batch script on a real Slurm (needs root)"
	@echo "make test-versions  each TensorFlow and Keras that is declared (an hour)"
	@echo "make coverage    what a part of the tests runs of each layer"
	@echo "make check       lint, types, doctest, test"
	@echo "make bench       all ratios, in a table and in bench.json (half an hour)"
	@echo "make bench-network  two hosts and a slow network (needs root)"
	@echo "make gpu-check   what only a card of NVIDIA can show (an hour, 4 GB)"
	@echo "make chaos       kill processes of a cluster at random (10 minutes)"
	@echo "make clean       remove .venv and what builds and checks leave behind"

train: $(BASE)
	@$(BIN)/python train.py $(ARGS)

# Small matrices are quicker without threads, which would wait for each other.
test test-all test-random coverage: export OPENBLAS_NUM_THREADS ?= 1

# Graphs are run as they are traced, but in processes of their own: XLA is what
# the tests of `jit_compile=True` have, and in `test-all` the others have it, too,
# and what TensorFlow makes of graphs.
test: $(DEV)
	@$(PYTEST) -m "not full" --plain-graphs --hypothesis-profile=few $(ARGS)

test-all: $(DEV)
	@$(PYTEST) $(ARGS)
	@$(MAKE) --no-print-directory test-keras test-random test-slurm \
	  test-versions ARGS=

test-keras: $(DEV)
	@$(BIN)/python -m tests.keras_suite --jobs=$(JOBS) $(ARGS)

# Also with the arithmetic of an older processor.
test-random: $(DEV)
	@$(PYTEST) -m hypothesis --hypothesis-profile=search $(ARGS)
	@OPENBLAS_CORETYPE=Nehalem $(PYTEST) -m hypothesis $(ARGS)

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --quiet --diff .

types: $(DEV)
	@$(BIN)/mypy

doctest: $(DEV)
	@$(BIN)/python -m pytest --doctest-modules tf_elastic \
	  --doctest-glob='*.md' docs/theory.md $(ARGS)

# No gate: a part of the tests, in less than a minute.
coverage: $(DEV)
	@$(BIN)/python -m tests.coverage_by_layer -n $(JOBS) --dist=loadfile $(ARGS)

check: lint types doctest test

bench: $(BASE)
	@$(BIN)/python benchmarks/all_ratios.py --json=bench.json $(ARGS)

bench-network: $(BASE)
	@$(BIN)/python benchmarks/bench_network.py $(ARGS)

# CUDA is brought only where there is a card; without one this says what it needs.
gpu-check: $(DEV)
	@if nvidia-smi -L >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory $(CUDA); fi
	@$(BIN)/python -m benchmarks.gpu_check $(ARGS)

chaos: $(BASE)
	@$(BIN)/python -m tests.chaos $(or $(ARGS),--seconds=600)
	@$(BIN)/python -m tests.chaos_tree $(or $(ARGS),--seconds=300)

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info .pytest_cache .ruff_cache \
	  .mypy_cache .hypothesis
	find tf_elastic tests benchmarks -name __pycache__ -prune \
	  -exec rm -rf {} +

# A .venv that setup.cfg has outgrown is brought up to date in place.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; \
	  sys.exit(None if (3, 10) <= sys.version_info < (3, 14) else \
	  "tf_elastic needs Python 3.10 to 3.13. Received: $(PYTHON)=" \
	  + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(BASE): setup.cfg pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

$(DEV): setup.cfg pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV) for development (once, about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(BASE) $@

# CUDA for the TensorFlow that is there.
$(CUDA): $(DEV)
	@echo "Bringing CUDA into $(VENV) (once, some gigabytes) ..."
	@version=$$($(BIN)/python -c 'import importlib.metadata as metadata; \
	  print(metadata.version("tensorflow"))') && $(BIN)/python -m pip install \
	  --quiet --disable-pip-version-check "tensorflow[and-cuda]==$$version"
	@touch $@

# On a real Slurm. Installs it (Debian, as root) where it is missing; where that
# cannot be, the tests are skipped and say so.
.PHONY: test-slurm
test-slurm: $(DEV)
	@if ! command -v slurmctld >/dev/null && [ "$$(id -u)" = 0 ] \
	  && command -v apt-get >/dev/null; then \
	  echo "Installing slurm-wlm and munge ..."; \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq \
	    install -y --no-install-recommends slurm-wlm munge iproute2 \
	    >/dev/null || echo "They cannot be installed."; \
	fi
	@TF_ELASTIC_TEST_SLURM=1 $(BIN)/python -m pytest tests/slurm_test.py $(ARGS)

# The core of the tests on each release that is declared, each TensorFlow in an
# environment of its own under .venvs (about an hour, and 8 GB).
.PHONY: test-versions
test-versions:
	@$(PYTHON) -m tests.versions --jobs=$(JOBS) $(ARGS)
