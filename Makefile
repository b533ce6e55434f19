# The two commands of the README are `make serve` and `make test`; both do all set-up on a fresh Debian-like machine
# with Python 3.11 and make. PYTHON=... says which Python; otherwise the first one that can is taken.
SHELL := /bin/bash
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
DATA ?= data
BIND ?= 127.0.0.1:8080
DEMO ?= .demo
# More processes than cores: much of the time the tests wait for servers. Whole files, because many share a server.
SIDE_BY_SIDE := -n 5 --dist loadfile --no-loadscope-reorder
# Fork bombs and memory hogs in sandboxes want the machine for themselves.
ALONE := tests/security/test_container_builds.py tests/functional/test_container_projects.py tests/functional/test_container_deployments.py tests/contract/test_container_platform.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev dev-packages clients old-pips serve test lint tests-made-ready tests-side-by-side format campaign demo demo-down pictures bench lock clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make setup      install Entrepot into .venv (the command is .venv/bin/entrepot)
setup: $(VENV)/.installed
$(VENV)/.installed: requirements.lock pyproject.toml
	./tools/find-python $(VENV) $(PYTHON)
	./tools/install-python $(VENV) requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q config hooks registry storage
	./tools/system-packages serve
	touch $@

## make serve      run a server on $(BIND) with its data in ./$(DATA)
serve: setup
	$(BIN)/entrepot serve --data $(DATA) --bind $(BIND)

setup-dev: $(VENV)/.installed-dev
$(VENV)/.installed-dev: requirements-dev.lock requirements-clients.lock tests/harness/old-pips.txt $(VENV)/.installed
	$(MAKE) --no-print-directory -j3 dev-packages clients old-pips
	./tools/system-packages test
	touch $@

dev-packages: $(VENV)/.installed
	./tools/install-python $(VENV) requirements-dev.lock

clients: $(VENV)/.installed
	test -x $(VENV)/clients/bin/python || $(BIN)/python -m venv $(VENV)/clients
	./tools/install-python $(VENV)/clients requirements-clients.lock

old-pips: $(VENV)/.installed
	./tools/old-pips $(VENV) tests/harness/old-pips.txt

## make lint       ruff, mypy, import floors
lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## make test       everything: lint, then all tests (real clients, PostgreSQL, Chromium, sandbox)
# One process makes the tests ready to run (pytest rewrites their assertions, 15 s of work); else each of those side by
# side does so for itself. For that they have to be written down, whatever is set. Lint needs one process for a minute, in
# which most tests wait for their servers.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup-dev
	$(MAKE) --no-print-directory -j2 lint tests-side-by-side
	$(BIN)/python -m pytest -q $(ALONE) $(PYTEST_ARGS)

tests-made-ready: setup-dev
	$(BIN)/python -m pytest -q --collect-only > $(VENV)/collected || { tail -n 200 $(VENV)/collected; exit 1; }

tests-side-by-side: tests-made-ready
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) --durations=15 $(addprefix --ignore=,$(ALONE)) $(PYTEST_ARGS)

## make campaign   the long fault campaigns, and what takes longest of the other tests
campaign: setup-dev
	ENTREPOT_CAMPAIGN=long $(BIN)/python -m pytest -q -m "campaign or long" $(PYTEST_ARGS)

## make demo       the grand tour's demo in $(DEMO): a server, HAProxy, six machines, a git repository
demo: setup
	./tools/system-packages demo
	$(BIN)/python tools/demo.py up --home $(DEMO)

## make demo-down  end it, and remove $(DEMO)
demo-down: setup
	$(BIN)/python tools/demo.py down --home $(DEMO)

## make pictures   play the grand tour and photograph the main pages into docs/pictures
pictures: setup-dev
	$(BIN)/python tools/screenshots.py

## make bench      measure beside pypiserver, devpi-server, proxpi, Verdaccio and nginx
bench: setup-dev
	$(BIN)/python bench/run.py

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup-dev
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml --group build --group dev -o requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --python-version 3.11 --group pyproject.toml:clients -o requirements-clients.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
