# Two commands on a fresh machine: `make quickstart` and `make test`. `make` alone lists the rest.
PYTHON ?= python3
VENV ?= .venv
# An extra package index for torch's CPU build, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# The published tables that some benchmarks replay (see benchmarks/README.md).
TABLES ?= ../shared/benchmarks
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt
export RAY_USAGE_STATS_ENABLED := 0
export XDG_RUNTIME_DIR ?= /tmp/runtime-$(shell id -u)

.PHONY: help install install-dev quickstart serve test test-fast test-types soak check bench audit docs browser clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.runtime: pyproject.toml constraints.txt
	@echo "creating $(VENV) and installing (about a minute on a fast line; torch is the large part) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "installing what the tests need ..."
	@$(PIP) -e '.[dev]'
	@touch $@

install: $(VENV)/.runtime ## the environment with the runtime packages
install-dev: $(VENV)/.dev ## the same with test and check tools

quickstart: install ## the example search on real data: a front, its references, report.html
	@$(BIN)/paretoformer search examples/quickstart.yaml --report report.html

serve: install ## API, pages and a coordinator on http://127.0.0.1:8765
	@$(BIN)/paretoformer serve

browser: # chromium for the browser tests: installed where that is allowed, explained where not
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; }; } || \
	  echo "chromium is missing: browser tests fail without it; on Debian: sudo apt-get install chromium"

test: install-dev browser ## the whole suite but for its long forms
	@mkdir -p -m 700 $(XDG_RUNTIME_DIR)
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not soak" tests

test-fast: install-dev ## three cases of every test, without slow and browser tests
	@mkdir -p -m 700 $(XDG_RUNTIME_DIR)
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not slow and not browser and not soak" --few 3 tests

test-types: install-dev ## three cases of every test with every call's types and shapes checked
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup --jaxtyping-packages=space,evaluators,beartype.beartype \
	  -m "not slow and not browser and not soak" --few 3 tests

soak: install-dev ## the long forms: 300 architectures of every preset, every variant of every mixer
	@PARETOFORMER_TEST_SAMPLES=300 $(BIN)/python -m pytest -q -n 2 --timeout 3600 tests/space/test_presets.py
	@$(BIN)/python -m benchmarks.gates_engine --gates G1 G3 G6 G8 G10
	@$(BIN)/python -m pytest -q -n 2 --timeout 3600 -m soak tests --deselect tests/search/test_gates.py \
	  --deselect tests/api/test_generated_requests.py

check: install-dev ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: install-dev ## every benchmark; results go to benchmarks/results
	@for name in number_formats space_speed proxy_passes own_device rungs multifidelity export_quantized; do \
	  echo $$name; $(BIN)/python -m benchmarks.$$name || exit 1; done
	@for name in proxies searchers latency_predictors surrogate; do \
	  echo $$name; $(BIN)/python -m benchmarks.$$name --data $(TABLES) --json benchmarks/results/$$name.json || exit 1; done

audit: install-dev ## known vulnerabilities of the versions in constraints.txt (asks pypi.org)
	@$(PIP) pip-audit
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

docs: install-dev ## rewrite the generated tables of docs/, check every page against the program
	@$(BIN)/python -P tests/test_docs_choices.py
	@$(BIN)/python -m pytest -q tests/test_docs*.py

clean: ## remove the environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
