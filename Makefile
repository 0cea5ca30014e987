# Thin verbs. Most set up .venv first, which happens only when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help setup bench test lint types perf gpu soak tables docs published clean

help:
	@echo "make setup    make .venv for development; the other targets do so themselves, except gpu and clean"
	@echo "make bench    run the main job on the embedded dataset, write results/ (ARGS='--seeds 0' passes flags on)"
	@echo "make test     run all tests              make lint    check style        make types   check types"
	@echo "make perf     time operations against their peers, keep the JSON under results/perf/"
	@echo "make gpu      on a machine with a GPU: all that only it can show, in nine minutes, and one table (docs/gpu.md)"
	@echo "make soak     try faults and bad input, hundreds of times, and count (ARGS='--kills 5 --inputs 50')"
	@echo "make tables   rebuild the tables of results/ from its run records"
	@echo "make published   all tables, figures and pages of results/published and docs/ from the records there"
	@echo "make docs     build these pages as a site that needs no network: site/index.html"
	@echo "make clean    remove the environment, site/ and caches; results stay"

setup: .venv/ready

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is missing or older than Python 3.11; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# The methods of `all` on the embedded dataset with seeds 0 1 2, which are the defaults, so that ARGS may say otherwise.
# Two runs at a time, one thread each: networks this small gain nothing from more threads.
bench: setup
	$(BIN)/python -m benchmark.run --jobs 2 $(ARGS)

# A test process for each core, up to eight, with one thread each. They start a hundred processes: bytecode is kept.
test: setup
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy benchmark methods datasets docs/templates docs/findings docs/datasets docs/site tests

perf: setup
	mkdir -p results/perf
	$(BIN)/python -m pytest tests/perf --override-ini 'addopts=--import-mode=importlib' -W default -rs \
	  --benchmark-quiet --benchmark-json results/perf/$$(date -u +%Y-%m-%dT%H%M%SZ).json $(ARGS)

# Sets nothing up: the machines that lend a GPU may have no network. A .venv that is there is used, unless PYTHON is given.
gpu:
	@$(if $(and $(filter file,$(origin PYTHON)),$(wildcard .venv/ready)),$(BIN)/python,$(PYTHON)) -m tests.gpu $(ARGS)

soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.soak $(ARGS)

tables: setup
	$(BIN)/python -m benchmark.tables $(ARGS)

# What builds the site is installed when it is first asked for: nothing else needs it.
docs: setup
	@$(BIN)/python -c 'import material' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

# All that the records of results/published say elsewhere: their tables and page, the documents' tables, README's pictures.
# A table of sada.md is made from the views of all seeds in mnist_m.
published: setup
	for runs in results/published/runs results/published/*/runs; do \
	  case $$runs in */mnist_m/*) views=;; *) views=--first-views;; esac; \
	  $(BIN)/python -m benchmark.tables --out $${runs%/runs} --pack $$views --plugin docs/findings/*.py || exit; done
	$(BIN)/python -m docs.site.tables
	$(BIN)/python -m docs.site.pictures

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
