# demo and test set up all they need by themselves; see scripts/setup.py.
PYTHON := $(or $(shell command -v python3.11),$(shell command -v python3.12),python3)
BIN := .venv/bin
UV := .cache/uv/bin/uv
CODE := $(wildcard bridge testbed demo benchmarks scripts tests)

.PHONY: demo test test-slow lint format bench lock setup setup-demo setup-test setup-slow

demo: setup-demo
	@$(BIN)/python -m demo $(if $(ONCE),--once)

# Two at a time: much of a test is waiting for a server.
test: setup-test
	@$(BIN)/pytest -q --numprocesses 2

test-slow: setup-slow
	@$(BIN)/pytest -q -m slow

lint: setup-demo
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports

format: setup-demo
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

bench: setup-test
	@$(BIN)/python -m benchmarks

setup: setup-test

setup-demo: python
	@$(PYTHON) scripts/setup.py demo

setup-test: python
	@$(PYTHON) scripts/setup.py test

setup-slow: python
	@$(PYTHON) scripts/setup.py slow

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { apt-get update && apt-get install --yes python3 python3-venv; }

# Newest versions within the bounds of pyproject.toml, for every platform, with hashes and without addresses.
COMPILE := $(UV) pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes \
	--no-header --no-annotate
lock: $(UV)
	$(COMPILE) pyproject.toml --output-file requirements/bridge.lock
	$(COMPILE) pyproject.toml --extra testbed --extra dev --output-file requirements/dev.lock
	$(COMPILE) requirements/node.in --output-file requirements/node.lock
	$(COMPILE) requirements/fuzz.in --output-file requirements/fuzz.lock
	$(COMPILE) requirements/whisper.in --constraint requirements/dev.lock --output-file requirements/whisper.lock
	$(COMPILE) requirements/build.in --output-file requirements/build.lock
	$(COMPILE) requirements/synapse.in --output-file requirements/synapse.lock

$(UV):
	$(PYTHON) -m venv .cache/uv
	.cache/uv/bin/pip install --quiet uv
