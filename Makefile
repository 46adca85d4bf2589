# streamchar: every command a developer or operator needs, from a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := deploy/requirements.lock
KERNELS := $(wildcard streamchar/kernels/*.cpp streamchar/kernels/*.hpp streamchar/kernels/CMakeLists.txt)
# One thread per process for linear algebra: parallelism is by worker process.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

.PHONY: help setup demo test check truth chaos bench figures schemas docs lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(BIN)/.installed  ## create .venv with the pinned packages and build the kernels

$(BIN)/.prerequisites:
	@command -v $(PYTHON) >/dev/null || { echo "streamchar needs Python 3.11 or newer: '$(PYTHON)' was not found. Install it, or say: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "streamchar needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@command -v c++ >/dev/null || { echo "A C++17 compiler is needed to build the kernels. On Debian: apt-get install g++"; exit 1; }
	@printf '#include <Python.h>\n' | c++ -x c++ -fsyntax-only $$($(PYTHON) -c 'import sysconfig; print("-I" + sysconfig.get_paths()["include"])') - 2>/dev/null || { echo "Python's C headers are missing. On Debian: apt-get install python3-dev"; exit 1; }
	@echo "==> creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(BIN)/.packages: $(LOCK) $(BIN)/.prerequisites
	@echo "==> installing the pinned packages of $(LOCK)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK)
	@touch $@

$(BIN)/.installed: pyproject.toml $(KERNELS) $(BIN)/.packages
	@echo "==> building streamchar and its kernels"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## a whole simulated night in about a minute: camera, broker, service, live table
	$(BIN)/streamchar demo

check: setup  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check  ## everything a commit must pass, under 15 minutes on two cores
	$(BIN)/python -m pytest -m "not truth and not chaos and not bench"

truth: setup  ## long comparison with simulated truth and the reference task; prints the table
	$(BIN)/python -m pytest -m truth -s

chaos: setup  ## long fault injection; prints the tables; SEED=7 repeats the dice of an earlier run
	STREAMCHAR_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -m chaos -s

bench: setup  ## CPU seconds and memory against the peers
	$(BIN)/python -m tests.benchmarks

figures: setup  ## one figure per truth scene in .cache/figures, for looking at
	$(BIN)/python tests/science/figures.py

schemas: setup  ## regenerate schemas/ from streamchar.messages
	$(BIN)/python -m streamchar.messages.schemas schemas

docs: setup  ## regenerate what follows from the code: docs/metrics.md, docs/configuration.md, topics and dashboards in deploy/
	$(BIN)/python -m streamchar.monitor.documentation docs/metrics.md
	$(BIN)/python -m streamchar.cli.reference docs/configuration.md
	$(BIN)/python -m deploy.generate

lock: setup  ## resolve the pinned packages anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url --no-header --output-file $(LOCK) pyproject.toml

clean:  ## remove everything that was built or installed
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
