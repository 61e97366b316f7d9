# Every target runs from a fresh clone: it first makes .venv, which needs Python 3.11, git and an
# index to install from. ARGS goes to the program a target runs: make test ARGS="-k limits".

BIN := .venv/bin
SOURCES := src tests web $(wildcard benchmarks)
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

# The first of these that is new enough; make PYTHON=... takes another.
PYTHON ?= $(firstword $(foreach python,python3.11 python3,\
	$(shell $(python) -c 'import sys; sys.version_info >= (3, 11) and print("$(python)")' 2>/dev/null)))

# Two stamps, each written last, so that a set-up that was stopped half-way is done again.
# A new lock begins with an empty .venv, for what is installed to be what is locked; a change of
# pyproject.toml alone, which may hold no more than a setting of ruff, installs only ourselves.
LOCK_INSTALLED := .venv/.lock-installed
READY := .venv/.ready
# The browser's assets: without them /docs/api shows the plain reference, and nothing else is lost.
ASSETS := .venv/.assets

.DEFAULT_GOAL := help
.PHONY: help setup serve test check format docs lock bench clean

help:  ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY) $(ASSETS)  ## Make .venv, with what the lock file names and this project in it

serve: $(READY) $(ASSETS)  ## Run the server; ARGS="--port 9000" and the like go to `operator-api serve`
	@$(BIN)/operator-api serve $(ARGS)

test: $(READY) $(ASSETS)  ## Run the tests; ARGS="tests/test_house.py -n0" runs one file in one process
	@$(BIN)/pytest $(ARGS)

check: $(READY)  ## Check style, types, who imports whom, and what the package installs
	@echo "ruff check";  $(BIN)/ruff check $(SOURCES)
	@echo "ruff format"; $(BIN)/ruff format --check $(SOURCES)
	@echo "mypy";        $(BIN)/mypy $(SOURCES)
	@echo "lint-imports"; $(BIN)/lint-imports --no-logo
	@echo "packaging";   $(BIN)/pytest -q -n0 tests/test_packaging.py

format: $(READY)  ## Format the code, and fix what ruff can
	@$(BIN)/ruff check --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

docs: $(READY)  ## Make the pages of docs/reference that are made of tables
	@$(BIN)/python -m tests.docs.reference

# Each file is held to the pins of the one before, so that the three agree.
lock: $(LOCK_INSTALLED)  ## Make the lock files anew; ARGS=--upgrade takes the newest versions
	@$(COMPILE) $(ARGS) --output-file requirements/base.txt
	@$(COMPILE) $(ARGS) --extra server --constraint requirements/base.txt --output-file requirements/server.txt
	@$(COMPILE) $(ARGS) --extra server --group dev --constraint requirements/server.txt --output-file requirements/dev.txt
	@echo "requirements/ is up to date"

bench: $(READY)  ## Run the benchmarks; ARGS goes to `python -m benchmarks.run`
	@$(BIN)/python -m benchmarks.run $(ARGS)

clean:  ## Remove .venv and everything the tools left behind
	@rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(LOCK_INSTALLED): requirements/dev.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed, and neither python3.11 nor python3 is that." >&2; \
		echo "Install it, or name one: make setup PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi
	@echo "Setting up .venv with $(PYTHON)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(READY): $(LOCK_INSTALLED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(ASSETS): $(READY) web/assets.json web/fetch.py
	@$(BIN)/python web/fetch.py && touch $@ || echo "Without the browser's assets: /docs/api will show the plain reference"
