# `make demo` and `make test` need Python >= 3.11, make and a package index; everything else they install themselves.
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= demo
SEED   ?= 0
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LAST   := $(DEMO)/run/checkpoints/last.pt

.DEFAULT_GOAL := help
.PHONY: help install demo test gpu-check lint format clean

# `make gpu-check PYTHON=python3` uses that interpreter as it is, without .venv, network or Ray
ifneq ($(filter command environment,$(origin PYTHON)),)
GPU_PYTHON := $(PYTHON)
else
GPU_PYTHON := $(BIN)/python
gpu-check: $(STAMP)
endif

help:      ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

install: $(STAMP)  ## create .venv and install the tested versions (once)

$(STAMP): pyproject.toml constraints.txt
	@echo "==> installing into $(VENV) (about 8 GB, two to five minutes; once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@

# Every command below is one that a user types; each does only what is missing, so the demo can be stopped and run again.
demo: $(STAMP)  ## shard, train and evaluate generated street scenes; prints the report's path
	@echo "==> 1/4 generating labelled street scenes, and sharding them with superpixels"
	$(BIN)/vice-prep scenes $(DEMO)/pictures --seed $(SEED)
	$(BIN)/vice-prep shard $(DEMO)/pictures/train $(DEMO)/shards/train --dataset scenes --split train --regions slic:12
	$(BIN)/vice-prep shard $(DEMO)/pictures/val $(DEMO)/shards/val --dataset scenes --split val --regions slic:12
	@echo "==> 2/4 a frozen encoder's vectors of all regions, once; then training, without the scenes' labels, to see what it saw"
	$(BIN)/vice-eval embed timm/tf_efficientnet_lite0 $(DEMO)/shards/train $(DEMO)/vectors --weights packaged --regions slic:12 --scale 2
	$(BIN)/vice-train launch scenes-demo --shards $(DEMO)/shards/train --run-dir $(DEMO)/run teacher=$(DEMO)/vectors
	@echo "==> 3/4 evaluating next to the frozen encoder, the network at step 0 and raw colour"
	$(BIN)/vice-eval all $(LAST) --train $(DEMO)/shards/train --val $(DEMO)/shards/val --run-dir $(DEMO)/eval --k 27 --pixels-per-picture 100 --memory-size 4000
	$(BIN)/vice-eval atlas $(LAST) --val $(DEMO)/shards/val --run-dir $(DEMO)/eval
	$(BIN)/vice-eval regions $(DEMO)/shards/val --run-dir $(DEMO)/eval
	@echo "==> 4/4 writing the report"
	@$(BIN)/vice-eval report $(DEMO)/eval --output $(DEMO)/report.html
	@echo "==> done: open $(abspath $(DEMO))/report.html"

test: $(STAMP)  ## all tests
	@echo "==> running the tests"
	@$(BIN)/python -m pytest -q -m "not alone" --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	@echo "==> running those that rest on the clock"
	@$(BIN)/python -m pytest -q -m alone

gpu-check: ## all checks and benchmarks that need an NVIDIA GPU; leaves gpu-check/DATE.md
	$(GPU_PYTHON) benchmarks/gpu_check.py

lint: $(STAMP)  ## ruff: lint and format check
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(STAMP)  ## let ruff rewrite the files
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:     ## remove what demo and tests leave behind (not .venv)
	rm -rf $(DEMO) gpu-check .pytest_cache .ruff_cache build *.egg-info
