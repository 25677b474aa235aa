# Everything a fresh machine needs: Python 3.11 or newer, a C and C++ compiler, make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format bench clean

demo: $(READY)  ## the main job: SmolLM2-135M through llama.cpp on the digits data
	$(BIN)/harness run

test: $(READY)  ## every test, with the real engine
	$(BIN)/python -m pytest

check: $(READY)  ## formatter, linter, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## timings of the harness itself and of the engine
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

# llama-cpp-python is compiled here; pip keeps the wheel, so only the first time takes minutes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[llama-cpp,hf,dev]' --constraint constraints.txt
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
