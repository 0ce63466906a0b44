# Every target sets up what it needs: Python 3.11 or newer is all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check bench serve lock sbom advisories clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one by make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## Run the main job on a small clinic and a Salesforce twin: no server, a minute or two
	$(BIN)/hub demo

test: $(READY) ## Run all tests; those that need a server skip where it is missing
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(READY) ## Format, lint, types and layers, in seconds
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY) ## Measure beside what users would otherwise pick
	$(BIN)/python -m bench

serve: $(READY) ## Answer the API on this machine, with one worker
	$(BIN)/hub serve

lock: ## Pin every dependency anew, with hashes and without addresses
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.lock

sbom: $(READY) ## List all parts of the lock as CycloneDX, in sbom.json
	$(BIN)/python -m hub.cli.parts requirements.lock > sbom.json

advisories: ## Ask PyPI which parts of the lock have known faults; needs the network, so it is no part of check
	uvx pip-audit --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off

clean: ## Remove what the other targets made
	rm -rf $(VENV) .hub .mypy_cache .ruff_cache .pytest_cache .hypothesis .hub-demo
