# Needs python3 (3.11 or newer) with venv, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written once everything is installed, so that a second make installs nothing.
STAMP := $(VENV)/.installed
EXTRAS := train,optuna,ray,service,otel,hub,defaults,test,lint

DEMO_ARGS ?= --recipe quick --space minilm-native --latency 4x --output demo-output
PYTEST_ARGS ?=
# Processes that share the tests, each in one thread, many of which wait for a server; 0 is pytest's own, which starts sooner.
JOBS ?= 3
BENCHMARKS ?= $(shell grep -l __main__ benchmarks/*.py)
STRESS ?= $(basename $(notdir $(shell grep -l __main__ tests/stress/*.py)))

.DEFAULT_GOAL := install
.PHONY: help install demo test stress lint wheel bench gpu clean

help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## create .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: install ## a budget in, a measured model out, on the embedded teacher and data
	$(BIN)/nas search $(DEMO_ARGS)

test: install ## every test, the slow ones too
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

stress: install ## attacks, kills and load, for hours; STRESS=chaos runs one of tests/stress
	@failed=; for script in $(STRESS); do echo "== $$script"; \
		$(BIN)/python -m "tests.stress.$$script" || failed="$$failed $$script"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

lint: install ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2

wheel: install ## dist/tailorbert-*.whl, to install elsewhere: the package is on no index
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/tailorbert-*.whl

bench: install ## every benchmark; BENCHMARKS=benchmarks/x.py runs one
	@set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python "$$script"; done

gpu: install ## the tests that need a CUDA device
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
		$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS); \
	else \
		echo "make gpu: no CUDA device here, nothing was run"; \
	fi

clean: ## remove .venv, caches and build folders; what runs produced stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
