# `make demo` and `make test` do all their set-up by themselves; the second time they only check that it stands.
PYTHON ?= python3
VENV := .venv
VENV3 := .venv-pymilvus3
BIN := $(VENV)/bin
BIN3 := $(VENV3)/bin
# The CPU build is enough for everything here, and a pinned version does not pull a GPU's libraries.
TORCH := torch==2.13.0
# Carries Qwen's real vocabulary, which the tests of exact token ids read; none of its code is run.
VOCABULARY := dashscope==2.0.2
PIP := -m pip install --quiet --disable-pip-version-check
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help demo test test-pymilvus3 test-infinity test-standalone lint format bench clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

$(VENV)/base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) --upgrade "pip>=25.1"
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) --editable ".[all]" --group milvus2
	@touch $@

$(VENV)/dev: $(VENV)/base
	$(BIN)/python $(PIP) --group dev
	$(BIN)/python $(PIP) --no-deps $(VOCABULARY)
	@touch $@

$(VENV3)/dev: pyproject.toml
	$(PYTHON) -m venv $(VENV3)
	$(BIN3)/python $(PIP) --upgrade "pip>=25.1"
	$(BIN3)/python $(PIP) $(TORCH)
	$(BIN3)/python $(PIP) --editable ".[local,milvus,langchain,cli]" --group milvus3 --group test
	@touch $@

demo: $(VENV)/base ## Ingest the demo corpus and ask three questions, offline
	$(BIN)/qwen3-rag demo

test: $(VENV)/dev ## Run all tests
	$(BIN)/python -m pytest

test-pymilvus3: $(VENV3)/dev ## Run the store and LangChain tests with pymilvus 3
	$(BIN3)/python -m pytest tests/integration tests/unit/langchain --ignore=tests/integration/llama_index \
		--ignore=tests/integration/serving --ignore=tests/integration/test_examples.py

$(VENV)-infinity/done:
	$(PYTHON) -m venv $(VENV)-infinity
	$(VENV)-infinity/bin/python $(PIP) $(TORCH) "infinity-emb[server,torch]==0.0.78"
	@touch $@

test-infinity: $(VENV)/dev $(VENV)-infinity/done ## Run the remote back ends against a real server, Infinity
	QWEN3_RAG_INFINITY=$(CURDIR)/$(VENV)-infinity/bin/infinity_emb $(BIN)/python -m pytest tests/remote_server

$(VENV)-standalone/done:
	$(PYTHON) -m venv $(VENV)-standalone
	$(VENV)-standalone/bin/python $(PIP) milvus==2.3.5
	@touch $@

test-standalone: $(VENV)/dev $(VENV)-standalone/done ## Run dense search against a real Milvus 2.3.5 (Linux, as root)
	unshare --net sh -c 'ip link set lo up && \
		QWEN3_RAG_MILVUS=$(CURDIR)/$(VENV)-standalone/bin/milvus-server $(BIN)/python -m pytest tests/integration/test_milvus_standalone.py'

lint: $(VENV)/dev ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev ## Format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev ## Measure the models beside the official ones, the ingest, and the chains (about an hour)
	$(BIN)/python tests/bench/bench.py
	$(BIN)/python tests/bench/ingest_bench.py
	$(BIN)/python tests/bench/chains_bench.py

clean: ## Remove the environments and caches
	rm -rf $(VENV) $(VENV3) $(VENV)-infinity $(VENV)-standalone .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
