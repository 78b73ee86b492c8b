# `make demo` and `make test` need Python >= 3.11, make and a package index; everything else they install themselves.
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= demo
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format clean

help:      ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: $(STAMP)  ## create .venv and install the tested versions (once)

$(STAMP): pyproject.toml constraints.txt
	@echo "==> installing into $(VENV) (about 8 GB, two to five minutes; once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: $(STAMP)  ## shard, train and evaluate generated street scenes; prints the report's path
	@PATH="$(abspath $(BIN)):$$PATH" DEMO="$(DEMO)" bash benchmarks/demo.sh

test: $(STAMP)  ## all tests
	@echo "==> running the tests"
	@$(BIN)/python -m pytest -q

lint: $(STAMP)  ## ruff: lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(STAMP)  ## let ruff rewrite the files
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:     ## remove what demo and tests leave behind (not .venv)
	rm -rf $(DEMO) .pytest_cache .ruff_cache build *.egg-info
