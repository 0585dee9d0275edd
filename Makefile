# Everything sets itself up: a machine needs python3 (3.11 or newer), make and a package index.
PYTHON ?= python3
BIN := .venv/bin
LATEST := .venv-latest/bin

# Hundreds of short processes import the same modules: they are compiled once, whatever the shell has set.
export PYTHONDONTWRITEBYTECODE =

# Tests wait more than they compute: more processes than cores.
WORKERS = 4
# The versions that are installed. LOCK= takes the newest that pyproject.toml allows.
LOCK = --constraint requirements-ci.txt

PYTEST = $(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: help dev demo lambda-demo picture docs test test-quick test-latest durations adversity fuzz conformance check format bench lock audit sbom clean

help:  ## Say what the targets do.
	@grep -hE '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv: .venv/complete  ## The virtual environment, with every extra.

# A file of its own says that the installation went through: one that was cut off is made again.
.venv/complete: pyproject.toml requirements-ci.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[dev]'
	@touch $@

dev: .venv  ## Three instances on an embedded Postgres, serving the example server.
	$(BIN)/tmcp-serverless dev examples/orders.py:handler --instances 3

demo: .venv  ## The same, with the official client driving it through every instance.
	$(BIN)/python -m examples.demo

lambda-demo: .venv  ## The zip that `sam build` makes, under an emulator of Lambda, and the official client on it.
	$(BIN)/python -m local.lambda_demo

picture: .venv  ## Record the demo as docs/demo.svg.
	$(BIN)/python -m docs.generate.picture

docs: .venv  ## Write docs/configuration.md and the overrides' types from the settings.
	$(BIN)/python -m docs.generate.configuration

test: .venv  ## Every test (ARGS='tests/cli -k dev': some; WORKERS=0: in one process).
	$(PYTEST) $(ARGS)

test-quick: .venv  ## The tests that need no database and start no process: a minute.
	$(PYTEST) --quick $(ARGS)

durations: .venv  ## Every test, and tests/durations.json written anew, which orders them.
	$(PYTEST) --record-durations

test-latest:  ## Every test on the newest releases of all it needs, in .venv-latest (PIP=--pre: the next ones too).
	$(PYTHON) -m venv .venv-latest
	$(LATEST)/pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager $(PIP) \
		--editable '.[dev]'
	@$(LATEST)/pip freeze --disable-pip-version-check | grep -iE '^(asyncpg|fastmcp|mcp|mangum|pydantic|starlette|uvicorn)='
	$(LATEST)/pytest $(ARGS)

adversity: .venv  ## Load while everything is being killed; SEED= repeats a run.
	$(BIN)/python -m tests.adversity $(ARGS)

fuzz: .venv  ## 100,000 inputs of any kind against three instances (ARGS='--inputs 2000 --seed 7').
	$(BIN)/python -m tests.fuzz $(ARGS)

conformance: .venv  ## The official conformance suite, in four settings (ARGS='--setting three').
	$(BIN)/python -m tests.conformance $(ARGS)

check: .venv  ## Format, lint, types, and the package's structure.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pytest -q -p no:xdist tests/test_structure.py tests/test_documents.py

format: .venv  ## Format and fix what can be fixed.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv  ## Measure, and write benchmarks/results.json (ARGS=--quick: see that it works).
	$(BIN)/python -m benchmarks $(ARGS)

lock: .venv  ## Write requirements-ci.txt: the newest versions that pyproject.toml allows.
	$(BIN)/python -m local.supply lock

audit: .venv  ## Known vulnerabilities of the locked versions, where the network has a database of them.
	$(BIN)/python -m local.supply audit

sbom: .venv  ## Write dist/sbom.cdx.json: what a container has, as a CycloneDX document.
	$(BIN)/python -m local.supply sbom

clean:  ## Remove what the targets made.
	rm -rf .venv .venv-latest .ruff_cache .pytest_cache .aws-sam dist build
