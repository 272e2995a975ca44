# Every target sets up what it needs first: system packages, a virtual environment.
# On a machine without make: scripts/bootstrap.sh, then .venv/bin/flywheel-db demo

VENV := .venv
BIN := $(VENV)/bin
# For example: make test ARGS="tests/unit -k config"
ARGS :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install PostgreSQL, its extensions and the virtual environment, where missing
	@VENV=$(VENV) scripts/bootstrap.sh

demo: setup ## See it work: a private PostgreSQL, sample traces, what the validators found
	@$(BIN)/flywheel-db demo $(ARGS)

test: lint ## Lint, then run the whole test suite
	$(BIN)/python -m pytest -q -n auto $(ARGS)

lint: setup ## Check style, types and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## Measure, side by side, what the project promises
	$(BIN)/python -m bench $(ARGS)

docs: setup ## Generate the reference pages from COMMENTs and --help
	$(BIN)/python scripts/generate_docs.py $(ARGS)

clean: ## Delete the virtual environment and caches; the private server's data stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
