# Everything a fresh machine needs: Python 3.11 or newer, a C and C++ compiler, make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# GCC before 13 drops the stores that fill AMX's tile configuration (seen with 12.2), and llama.cpp
# then dies of an illegal instruction on processors that have AMX.
AMX_OFF := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
IS_OLD_GCC := $(shell $(CC) -dumpfullversion 2>/dev/null | grep -E '^1[12]\.')
ifneq ($(and $(IS_OLD_GCC),$(filter x86_64,$(shell uname -m))),)
export CFLAGS += $(AMX_OFF)
export CXXFLAGS += $(AMX_OFF)
endif

.PHONY: demo test soak llama-server check format bench baseline clean

demo: $(VENV)/.demo  ## the main job: SmolLM2-135M through llama.cpp on the digits data
	$(BIN)/harness run

# Two processes: what a small machine has cores for. A file stays in one of them, with the engine, the
# wheel or the runs that its tests share, and what takes longest begins first: see `testpaths`.
PARALLEL := --numprocesses=2 --dist=loadfile --no-loadscope-reorder

# Where an engine cannot be installed, the tests themselves tell whether that may be: only for want
# of a wheel for this platform.
test: $(VENV)/.all  ## every test, with the real engines
	-$(BIN)/harness backends install vllm
	$(BIN)/python -m pytest $(PARALLEL)

# SOAK=full takes hours; SEED=N draws others.
soak: $(VENV)/.all  ## ten minutes of kills, damaged stores, malformed records, hostile templates
	SOAK=$(or $(SOAK),sample) SEED=$(or $(SEED),0) $(BIN)/python -m pytest tests/soak

llama-server: $(VENV)/.demo  ## llama.cpp's own server, built once into the cache: ten minutes on two cores
	$(BIN)/python -m backends.server.build_llama_server

check: $(VENV)/.all  ## formatter, linter, types, import rules, the CI workflow
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

format: $(VENV)/.all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Saved benchmarks, and the committed one of this kind of machine.
BENCHMARKS := results/benchmarks
KIND = $(eval KIND := $(shell $(BIN)/python tests/benchmarks/kind.py))$(KIND)
BASELINE = $(lastword $(sort $(wildcard $(BENCHMARKS)/*/*_baseline-$(KIND).json)))
LIMITS := accuracy:3pp,parse_rate:1pp,prefill_tokens_per_second:10%,decode_tokens_per_second:10%
MEASURE = $(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-storage=$(BENCHMARKS)

bench: $(VENV)/.all  ## timings of engines and harness; votes held to the baseline of this kind of machine
	-$(BIN)/harness backends install vllm
	$(if $(BASELINE),,@echo "no baseline of a machine such as this one ($(KIND)): make baseline")
	$(MEASURE) --benchmark-autosave \
		$(if $(BASELINE),--benchmark-compare=$(BASELINE) --harness-compare-fail=$(LIMITS))

baseline: $(VENV)/.all  ## the same, saved as the baseline of this kind of machine, to be committed
	-$(BIN)/harness backends install vllm
	$(MEASURE) --benchmark-save=baseline-$(KIND)

# llama-cpp-python is compiled here; pip keeps the wheel, so only the first time takes minutes. What
# pip says on stdout says when: it is put in few words. Its errors go to stderr, and are left alone.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the harness and llama.cpp into $(VENV)"
	@{ $(subst --quiet,--progress-bar off,$(INSTALL)) --editable '.[llama-cpp]'; echo "ended: $$?"; } \
	| while read -r line; do case "$$line" in \
		Downloading*MB*) echo "  $$line" ;; \
		*"Building wheel for llama"*started*) \
			echo "  compiling llama.cpp: about 5 minutes on two cores, and only this once" ;; \
		*"Building wheel for llama"*"still running"*) echo "  still compiling llama.cpp" ;; \
		*"Building wheel for llama"*finished*) echo "  llama.cpp is compiled" ;; \
		"ended: "*) exit "$${line#ended: }" ;; \
	esac; done
	@touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[llama-cpp,gemma,hf,embed,encoders,dev]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
