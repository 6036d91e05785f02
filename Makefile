# The chores of this project; `make` lists them. Needs make and a Python 3.11 or newer (PYTHON=… to name one).

PYTHON ?= python3
PYTEST = .venv/bin/python -m pytest
SPREAD = -n logical --maxprocesses 8
LOCK   = uv pip compile --quiet --no-header --universal --python-version 3.11 --generate-hashes \
         --no-emit-index-url --no-emit-find-links

# FORCE for an environment made in another place than this.
moved  = $(shell test ! -e $(1)/installed || test "$$(cat $(1)/installed)" = "$$(pwd)" || echo FORCE)

.DEFAULT_GOAL := help
.PHONY: FORCE help install run test test-all torture check format lock bench bench-full figures plots assets clean
FORCE:

help: ## list the chores
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

install: .venv/installed ## make .venv and install the locked dependencies (done by the other chores when needed)

# Made anew when the lock or the project's metadata changed, or the checkout was moved: a venv holds its own path.
.venv/installed: requirements-dev.lock pyproject.toml $(call moved,.venv)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "taxii_server needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1)." \
	         "Name another one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { \
	    rm -rf .venv; \
	    echo "$$($(PYTHON) --version) can't make a virtual environment. On Debian and Ubuntu the missing part is" \
	         "installed with: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the locked dependencies into .venv ..."
	@.venv/bin/python -m pip install -qq --no-input --disable-pip-version-check \
	    --only-binary :all: --require-hashes --requirement requirements-dev.lock
	@.venv/bin/python -m pip install -qq --no-input --disable-pip-version-check \
	    --no-index --no-build-isolation --no-deps --editable .
	@pwd > .venv/installed

run: .venv/installed ## start the demo on http://127.0.0.1:8000
	@.venv/bin/taxii-server demo

test: .venv/installed ## run the tests, slow ones left out (under five minutes)
	@$(PYTEST) $(SPREAD) -m "not slow"

# Real TAXII clients with many dependencies, which must not meet ours; their tests start them from here.
.venv-clients/installed: requirements-clients.lock $(call moved,.venv-clients) | .venv/installed
	@rm -rf .venv-clients
	@$(PYTHON) -m venv .venv-clients
	@echo "Installing TAXII clients for their tests into .venv-clients ..."
	@.venv-clients/bin/python -m pip install -qq --no-input --disable-pip-version-check \
	    --only-binary :all: --require-hashes --requirement requirements-clients.lock
	@pwd > .venv-clients/installed

test-all: .venv/installed .venv-clients/installed ## run what `make test` leaves out: slow tests, and the database tests on the system's PostgreSQL
	@$(PYTEST) $(SPREAD) -m slow
	@$(PYTEST) $(SPREAD) -m "not slow" --postgres=system tests/storage tests/operations tests/taxii

torture: .venv/installed ## kill workers, servers and PostgreSQL under load for MINUTES (10), by SEED: no poller may miss or repeat anything
	@.venv/bin/python -m tests.storm --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

check: .venv/installed ## lint, types, import contracts, OpenAPI documents, drift of the lock, of openapi/ and of the migrations
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m mypy
	@.venv/bin/lint-imports
	@.venv/bin/taxii-server openapi --check
	@$(PYTEST) -q tests/storage/test_migrations.py tests/packaging/test_locks.py tests/api/test_documents.py

format: .venv/installed ## format the code and mend what the linter can
	@.venv/bin/python -m ruff format .
	@.venv/bin/python -m ruff check --fix .

lock: ## choose new versions for the requirements*.lock files (needs uv)
	@$(LOCK) --upgrade --output-file requirements.lock pyproject.toml
	@$(LOCK) --upgrade --group build --output-file requirements-build.lock
	@$(LOCK) --upgrade --group clients --output-file requirements-clients.lock
	@$(LOCK) --upgrade --constraint requirements.lock --constraint requirements-build.lock \
	    --extra embedded --group dev --output-file requirements-dev.lock pyproject.toml

bench: .venv/installed ## measure the server beside PostgreSQL and a bare route (minutes)
	@.venv/bin/python -m benchmarks --json bench.json

bench-full: .venv/installed ## the same for longer, and OpenTAXII and medallion, which are installed into .bench, and with a million versions (forty minutes)
	@.venv/bin/python -m benchmarks --full --peers .bench --json bench.json
	@.venv/bin/python -m benchmarks.growth --json bench-growth.json

figures: .venv/installed ## measure anew what docs/performance.md shows, with VERSIONS (10000000), kept in the folder KEEP, and peers in PEERS (.bench): forty minutes on a machine with nothing else to do
	@.venv/bin/python -m benchmarks --peers $(or $(PEERS),.bench) --json docs/figures/bench.json
	@.venv/bin/python -m benchmarks.growth --versions $(or $(VERSIONS),10000000) $(if $(KEEP),--keep $(KEEP)) --json docs/figures/bench-growth.json
	@$(MAKE) --no-print-directory plots

plots: .venv/installed ## draw docs/figures, and write the tables of the documents that show them, from their JSON
	@.venv/bin/python -m benchmarks.plots

assets: ## copy the scripts of /docs and /redoc anew, in the versions of frontend/package-lock.json (needs npm)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	    && cp frontend/package.json frontend/package-lock.json "$$folder" \
	    && npm ci --prefix "$$folder" --ignore-scripts --legacy-peer-deps --no-audit --no-fund --loglevel=error \
	    && $(PYTHON) frontend/vendor.py "$$folder/node_modules"

clean: ## remove .venv, .venv-clients and what the tools left
	@rm -rf .venv .venv-clients .bench bench.json bench-growth.json build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests migrations examples -name __pycache__ -type d -prune -exec rm -rf {} +
