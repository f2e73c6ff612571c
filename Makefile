# `make run` needs Python 3.11 and nothing else; `make test` the same, and Chromium or npm for the browser tests.
# PYTHON: the interpreter. PORT: where `run` serves, and `cluster` its first node. LIVE=1: the demo on the default timings.
# ARGS: for pytest, the benchmarks, a chaos run, or the outages.
PYTHON ?= python3
PORT ?= 8000
LIVE ?=
ARGS ?=
# Tests of real processes wait most of the time, so several files run at once.
PARALLEL ?= -n 4 --dist loadgroup

VENV := .venv
BIN := $(VENV)/bin
SETUP := PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup

# A deployment as the docs describe it: TLS ends at a proxy, and nothing is left at the defaults of a checkout.
DEPLOYED := SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
	ALLOWED_HOSTS=console.example.org CSRF_TRUSTED_ORIGINS=https://console.example.org DEBUG=0

.DEFAULT_GOAL := help
.PHONY: help install run cluster test newest bench chaos outages check format lock browser pgbouncer clean

help:
	@echo "make run      serve the demo on http://127.0.0.1:$(PORT) (PORT=…, LIVE=1)"
	@echo "make cluster  the same on PostgreSQL, Valkey and three nodes, from http://127.0.0.1:$(PORT) on (PORT=…, LIVE=1)"
	@echo "make test     install everything and run all tests (ARGS='-k …')"
	@echo "make newest   unit, integration and property tests on Python >= 3.13 and the newest Django"
	@echo "make bench    what the middleware costs, side by side with none (ARGS='handshakes --server daphne')"
	@echo "make chaos    break a small cluster in many ways, and judge what it makes of it (ARGS='--seed 7')"
	@echo "make outages  one outage of the database after another, and what clients notice (ARGS='--only failover --seconds 10')"
	@echo "make check    format, lint, types, import contracts, migrations, deploy check"
	@echo "make install  only make $(VENV), with everything"
	@echo "make format   format and fix what can be fixed"
	@echo "make browser  obtain Chromium for the browser tests"
	@echo "make pgbouncer  obtain PgBouncer for the tests that put it before PostgreSQL"
	@echo "make lock     lock the dependencies anew (ARGS=--upgrade to take the newest)"

install:
	@$(SETUP) requirements-dev.lock

run:
	@$(SETUP) requirements.lock
	@$(BIN)/python manage.py migrate --no-input --verbosity 0
	@exec $(BIN)/python manage.py demo --port $(PORT) $(if $(filter-out 0,$(LIVE)),--live)

cluster: install
	@exec $(BIN)/python manage.py cluster --port $(PORT) $(if $(filter-out 0,$(LIVE)),--live)

test: install browser pgbouncer
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# The other end of the matrix: the newest Python and Django that are locked. Where none is installed, it says so.
newest: install
	@for newest in python3.14 python3.13 "$$(pyenv root 2>/dev/null)"/versions/3.1[3-9]*/bin/python3 ""; do \
		"$$newest" -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null && break; done; \
	test -n "$$newest" || { echo "No Python 3.13 or newer here: the newest leg is skipped."; test -z "$$CI"; exit; }; \
	PYTHON="$$newest" VENV=.venv-newest sh scripts/setup requirements-dev.lock && \
	.venv-newest/bin/python -m pytest $(PARALLEL) tests/house tests/unit tests/integration tests/property $(ARGS)

bench: install
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: install
	@$(BIN)/python -m tests.chaos $(ARGS)

outages: install pgbouncer
	@$(BIN)/python -m tests.outages $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	DATABASE_URL=sqlite://:memory: $(BIN)/python manage.py makemigrations --check --dry-run
	$(DEPLOYED) $(BIN)/python manage.py check --deploy --fail-level WARNING

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

browser:
	@sh scripts/browser

pgbouncer:
	@sh scripts/pgbouncer

# One lock for every platform and Python: 3.11 gets Django 5.2 and 3.12 gets 6.1. No index address is written.
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --fork-strategy requires-python \
	--generate-hashes --no-annotate --custom-compile-command "make lock" $(ARGS)
lock: install
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --group dev --constraints requirements.lock --output-file requirements-dev.lock
	@$(SETUP) requirements-dev.lock

clean:
	rm -rf $(VENV) .browser .pgbouncer .mypy_cache .ruff_cache .pytest_cache .import_linter_cache tests/artifacts
