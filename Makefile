# `make repro` and `make test` do all the set-up; the README gives the plain commands behind them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
# DVC runs `python`: the environment's has to come first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro verify test test-slow test-all lint format bench requirements audit

repro: $(VENV)/.requirements
	dvc repro

# Computes the last commit's results from nothing, elsewhere, and compares them.
verify:
	@$(PYTHON) commands/verify.py

test: $(VENV)/.requirements-dev
	python -m pytest -n 2 -m "not slow"

# Those that run whole pipelines on larger tables, or many of them.
test-slow: $(VENV)/.requirements-dev
	python -m pytest -n 2 -m slow

# Both at once, which share what they prepare.
test-all: $(VENV)/.requirements-dev
	python -m pytest -n 2

lint: $(VENV)/.requirements-dev
	ruff check .
	ruff format --check .
	mypy

format: $(VENV)/.requirements-dev
	ruff check --fix .
	ruff format .

# Writes docs/benchmarks.md: takes an hour of a quiet machine, and 5 GB of temporary files.
# PARTS="parse models" measures some parts. TABLE=/somewhere/x.parquet measures the models on it too.
bench: $(VENV)/.requirements-bench
	python -m benchmarks $(PARTS) $(if $(TABLE),--table $(TABLE)) \
		$(if $(TENSORFLOW),--tensorflow $(TENSORFLOW))

# Pins what the .in files ask for, for every system and Python at once.
requirements: $(VENV)/.requirements-dev
	$(COMPILE) requirements.in --output-file requirements.txt
	$(COMPILE) requirements-cluster.in --output-file requirements-cluster.txt
	$(COMPILE) requirements-dev.in --output-file requirements-dev.txt
	$(COMPILE) benchmarks/requirements.in --output-file benchmarks/requirements.txt

# Asks an advisory database, on the internet, about each pinned version.
audit: $(VENV)/.requirements-dev
	uv tool run pip-audit==2.10.1 --disable-pip --require-hashes -r requirements.txt

$(VENV)/.requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, for example: make repro PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing requirements.txt in $(VENV), once; this takes about a minute."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.requirements-dev: $(VENV)/.requirements requirements-dev.txt
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/.requirements-bench: $(VENV)/.requirements benchmarks/requirements.txt
	@$(PIP_INSTALL) --require-hashes -r benchmarks/requirements.txt
	@touch $@
