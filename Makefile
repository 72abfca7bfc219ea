# Each target does its own set-up in .venv: slow once, quick after that. Needs Python 3.11 or newer and nothing else.
#   make live ARGS="--port 9000"      options of `interplay live` and so on go through ARGS
.DEFAULT_GOAL := help
.PHONY: help live test fast lint types bench train examples clean
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/ready-live: pyproject.toml scripts/setup
	@scripts/setup live

.venv/ready-dev: pyproject.toml scripts/setup
	@scripts/setup dev

live: .venv/ready-live ## talk to it: serves the page and prints its address
	@$(BIN)/interplay live $(ARGS)

test: .venv/ready-dev ## all tests (browser tests need Chromium, and say so)
	@$(BIN)/python -m pytest -q $(ARGS)

fast: .venv/ready-dev ## the tests that take seconds
	@$(BIN)/python -m pytest -q -m "not slow and not browser" $(ARGS)

lint: .venv/ready-dev ## ruff
	@$(BIN)/ruff check .

types: .venv/ready-dev ## pyright
	@$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/ready-dev ## the measured table of the README
	@mkdir -p out
	@$(BIN)/interplay bench timespeak cuespeak --voices held-out --n 100 --json out/bench.json $(ARGS)

train: .venv/ready-dev ## train the shipped model again, from nothing, on this machine
	@$(BIN)/interplay train runs/nano.toml $(ARGS)

examples: .venv/ready-dev ## make the example recordings again
	@$(BIN)/python examples/make.py

clean: ## forget the set-up and everything built
	rm -rf .venv build dist out *.egg-info .pytest_cache .ruff_cache
