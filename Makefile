# `make up` starts the hub, `make test` tests it. Both need Python 3.11+, git and make, and install the rest themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TESTS ?= tests
# Seconds for `make fuzz`: as many for requests to a hub as for parsers.
FUZZ_SECONDS ?= 600
# Exports of an OSV database, for `make audit`; ONLINE=1 asks the network instead.
ADVISORIES ?= advisories
ONLINE ?=
# What the two cores bear: one process of tests for each.
JOBS ?= 2
SOURCES := src tests benchmarks examples tools

.DEFAULT_GOAL := help
.PHONY: help setup up test check bench soak fuzz audit sbom wheel console clean requirements screenshots

help:
	@echo 'make up [ARGS="--port 9000"]   start the hub (the first time: install, fetch the model)'
	@echo 'make test [TESTS=tests/core]   run the tests'
	@echo 'make check                     linters, types, import rules'
	@echo 'make setup                     install only'
	@echo 'make bench | soak | fuzz       speed against the peers | long runs | long fuzzing'
	@echo 'make audit [ADVISORIES=...]    known flaws of what is pinned, by a database that is here'
	@echo 'make sbom | wheel              list of components | reproducible package, into dist/'
	@echo 'make clean                     remove what was built'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] \
	    if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo 'No virtual environment could be made; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }

$(VENV)/.run: $(BIN)/python requirements/run.txt pyproject.toml
	@echo 'installing packages ...' >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@echo 'installing packages for the tests ...' >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test requirements/fuzz.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt || \
	    echo 'atheris could not be installed; inputs are changed blindly instead' >&2
	@touch $@

$(VENV)/.audit: $(VENV)/.run requirements/audit.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
	@touch $@

setup: $(VENV)/.run

# Without a page the hub still serves: an unreachable npm registry must not keep it from starting.
up: setup
	@$(BIN)/python tools/page.py build || echo 'starting without the page' >&2
	@exec $(BIN)/autoglm up --fetch $(ARGS)

console: setup
	@$(BIN)/python tools/page.py build

test: $(VENV)/.test console
	@$(BIN)/python tools/system.py chromium prometheus-alertmanager mosquitto
	@$(BIN)/python tools/page.py run test
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(TESTS)

check: $(VENV)/.test
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	@$(BIN)/python tools/page.py run check

bench: $(VENV)/.test console
	@$(BIN)/python tools/system.py wrk nginx gcc mosquitto
	@$(BIN)/python benchmarks/peers.py
	@for model in smollm2-135m qwen2.5-coder-0.5b; do $(BIN)/autoglm models pull $$model --data data || exit 1; done
	@for name in trust delivery truth mqtt mqtt_gate gateway added messages startup local intent scheduling faults scaling engine budgets routing \
	        routing_hub; do \
	    $(BIN)/python benchmarks/$$name.py --check --save || failed=1; done; \
	    $(BIN)/python -m benchmarks.plots; $(BIN)/python benchmarks/report.py; exit $${failed:-0}

soak: $(VENV)/.test
	@AUTOGLM_TEST_KILL_MESSAGES=200000 AUTOGLM_TEST_KILLS=50 AUTOGLM_TEST_RIGHTS=1000 $(BIN)/python -m pytest \
	    tests/gateway/test_nothing_lost.py tests/auth/test_rights_property.py

fuzz: $(VENV)/.fuzz
	@AUTOGLM_TEST_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -k fuzz $(TESTS)
	@PYTHONPATH=tests $(BIN)/python -m fuzzing.run --seconds $(FUZZ_SECONDS)

# Needs no network unless ONLINE=1, and says when nothing was checked: see tools/audit.py for its exit status.
audit: setup $(if $(ONLINE),$(VENV)/.audit)
	@$(BIN)/python -m tools.audit $(if $(ONLINE),--online,$(ADVISORIES))

sbom: $(VENV)/.audit
	@$(BIN)/python -m tools.sbom dist/sbom.cdx.json

wheel: setup
	@$(BIN)/python -m tools.wheel dist

# The pinned files name no index: pip takes the one that a machine is set up for.
requirements: $(VENV)/.test
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate pyproject.toml --extra local --group build -o requirements/run.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate pyproject.toml --extra local --extra encoder --extra otel --extra ray \
	    --extra broker --extra apprise --extra mcp --extra acme \
	    --group build --group test --group bench -o requirements/test.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate --group fuzz -c requirements/test.txt -o requirements/fuzz.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --no-annotate --group audit -c requirements/test.txt -o requirements/audit.txt

screenshots: $(VENV)/.test console
	@$(BIN)/python tools/screenshots.py

clean:
	rm -rf $(VENV) build dist web/node_modules src/autoglm/console/static .pytest_cache .mypy_cache .ruff_cache .hypothesis
