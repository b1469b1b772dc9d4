# What a person types. Everything is installed into .venv, nothing outside this folder is touched.
PYTHON ?= python3
PRESET ?= quickstart
DEMO_EXIT ?=
N ?= 200
# Files of tests at a time. More of them on few cores make waits too short.
JOBS ?= 2
TESTS ?= tests
BIN := .venv/bin
# The order of the files is that of tests/conftest.py: the longest begin first.
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo up test test-fast test-slow test-compose coverage images soak lint types format bench bench-api study clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: .venv/embedded  ## start everything, train PRESET (quickstart), show the result; DEMO_EXIT=1 stops then
	@$(BIN)/pmae demo --preset '$(PRESET)' $(if $(DEMO_EXIT),--exit)

up: .venv/embedded  ## start the service without a run
	@$(BIN)/pmae up

test: .venv/dev  ## run the tests, JOBS (2) files at a time
	$(PYTEST)

test-fast: .venv/dev  ## run the tests that start no server, browser or trainer, on SQLite: about two minutes
	$(PYTEST) -m 'not process and not slow and not compose and not gpu'

test-slow: .venv/dev  ## run the tests that take minutes
	$(PYTEST) -m slow

test-compose: .venv/dev  ## build the images and try a lab's deployment on this machine's Docker engine
	$(BIN)/python -m pytest -m compose tests/docker

coverage: .venv/dev  ## report the lines that TESTS (all of `make test`) run, in build/coverage/
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

images:  ## build the images, labelled with version and commit
	PMAE_COMMIT=$$(git rev-parse HEAD) docker compose build

soak: .venv/dev  ## break the service in every way on both databases, then under N (200) runs
	PMAE_FAULTS_LONG=1 $(BIN)/python -m pytest -m slow tests/faults
	$(BIN)/python -m tests.faults.soak --runs $(N)

lint: .venv/dev  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev  ## check types
	$(BIN)/mypy

format: .venv/dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev  ## measure the figures of docs/performance.md, or only those of NAME
	$(BIN)/python -m benchmarks.run $(NAME)

bench-api: .venv/dev .venv/mlflow/installed  ## measure the API beside MLflow and nginx (which is to be there)
	$(BIN)/python -m benchmarks.run api

study: .venv/dev  ## run the study of docs/study.md (hours), go on with one that was stopped
	$(BIN)/python -m benchmarks.study

clean:  ## remove the installation (not the state in var/)
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'pmae needs Python 3.11 or newer; PYTHON=/path/to/python3.11 make ... chooses one' >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/embedded: pyproject.toml constraints.txt | .venv/bin/python
	@echo 'installing into .venv (torch is large: this takes a few minutes, once)'
	$(PIP) install -c constraints.txt -e '.[embedded]'
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo 'installing into .venv, development tools included'
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ .venv/embedded

.venv/mlflow/installed: | .venv/bin/python
	$(PYTHON) -m venv .venv/mlflow
	.venv/mlflow/bin/pip --disable-pip-version-check --quiet install 'mlflow==3.17.2'
	@touch $@
