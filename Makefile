# Every verb of this repository. `make help` lists them; .ci/run calls the same ones.
# Each target sets up what it needs: on a fresh machine `make test` alone is enough.

VENV ?= .venv
PYTHON ?= python3
# Workers of the test run. Each one keeps to a single thread, so more workers than cores only wait.
WORKERS ?= 2
# Flags for benchmarks/suite.py: --tiny (ci-long passes it), --peers, --quality, --only training softmax, --keep.
BENCH_FLAGS ?=

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AXE := $(VENV)/node_modules/axe-core/axe.min.js
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: install demo test doctest check ci-long bench bench-peers docs soak coverage mutation clean help

install: $(STAMP)  ## make .venv/ with every pinned dependency

# uv is several times faster than pip, but it ignores pip's settings: without a folder of wheels (or an index) named
# for it, it would take the CUDA build of torch. So uv is used only where PIP_FIND_LINKS names that folder.
# --compile-bytecode: otherwise every process compiles torch and scipy again where bytecode is not written.
# `python -m pip`, never bin/pip: a copied environment's bin/pip installs into the original.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@packages=(-c constraints.txt -e '.[ann,trees,sql,text,image,report,tune,serve,ray,onnx]' --group dev --group docs); \
	if [ -n "$${PIP_FIND_LINKS:-}" ] && [ -z "$${PIP_EXTRA_INDEX_URL:-}" ]; then \
	  $(BIN)/python -m pip install --quiet -c constraints.txt uv; \
	  export UV_FIND_LINKS="$$PIP_FIND_LINKS"; \
	  if [ -n "$${PIP_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="$$PIP_INDEX_URL"; fi; \
	  echo "installing with uv from $$UV_FIND_LINKS and the package index"; \
	  $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python "$${packages[@]}"; \
	else \
	  echo "installing with pip"; \
	  $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'; \
	  $(BIN)/python -m pip install --quiet "$${packages[@]}"; \
	fi
	@touch $@

# What the browser tests look for barriers with. Without npm, or without its registry, these tests are skipped visibly.
$(AXE): | $(STAMP)
	@npm install --silent --prefix $(VENV) --no-save --no-audit --no-fund --ignore-scripts --fetch-retries 0 axe-core@4.14.1 \
	  >/dev/null 2>&1 || echo "axe-core cannot be had from npm: tests of accessibility are skipped"

demo: $(STAMP)  ## train, check and save the bundled shop's models into .out/demo-run
	$(BIN)/towerkit demo --run .out/demo-run --overwrite

test: $(STAMP) $(AXE)  ## unit tests and the examples in docstrings
	HYPOTHESIS_PROFILE=ci $(PYTEST) -n $(WORKERS) --dist loadfile --doctest-modules src/towerkit tests

doctest: $(STAMP)  ## only the examples in docstrings
	$(PYTEST) --doctest-modules src/towerkit

# All of them run, so that one failing check does not hide the others.
CHECKS := 'ruff check .' 'ruff format --check .' mypy lint-imports \
  'python tools/check_docstrings.py src/towerkit' typos

check: $(STAMP)  ## style, types, floors, docstrings, spelling
	@failed=(); for check in $(CHECKS); do \
	  echo "== $$check"; $(BIN)/$$check || failed+=("$$check"); \
	done; \
	if [ $${#failed[@]} -gt 0 ]; then printf 'failed: %s\n' "$${failed[@]}" >&2; exit 1; fi

# The long tests come last, so that pytest's closing line ends the log. Exit code 5 means that no test is marked so.
ci-long: docs $(AXE)  ## docs, tiny benchmarks, tests marked long
	$(MAKE) bench BENCH_FLAGS=--tiny
	HYPOTHESIS_PROFILE=ci $(PYTEST) -m long || [ $$? -eq 5 ]

bench: $(STAMP)  ## every benchmarks/bench_*.py as JSON lines, then the table of figures to reach; needs no network
	@$(BIN)/python benchmarks/suite.py $(BENCH_FLAGS)

bench-peers: $(STAMP)  ## the same beside other libraries, each installed into an environment of its own
	@$(BIN)/python benchmarks/suite.py --peers $(BENCH_FLAGS)

# -E reads every page again: a page whose warning was told once would otherwise pass the second time.
docs: $(STAMP)  ## the pages, into _build/html; a warning is an error
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html -d _build/doctrees docs _build/html
	@echo "open _build/html/index.html"

soak: $(STAMP)  ## tests marked soak: hours of faults and random inputs
	HYPOTHESIS_PROFILE=soak $(PYTEST) -m soak --timeout 0 || [ $$? -eq 5 ]

# What must not break: each branch of it is taken by a test, and nine of ten changes in it are noticed by one.
KEPT := $(patsubst %,towerkit/%/,storage artifact metrics) $(patsubst %,towerkit/training/%.py,checkpoint snapshot history_file)
KEPT_TESTS := $(patsubst %,tests/%,storage artifact metrics) $(patsubst %,tests/training/test_%.py,checkpoint_folder history_file) tests/test_realignment.py tests/serving/test_stored.py

coverage: $(STAMP)  ## branches that tests take in what must not break; fails below 100
	HYPOTHESIS_PROFILE=ci $(PYTEST) -q --cov=towerkit --cov-branch --cov-report= $(KEPT_TESTS)
	$(BIN)/python -m coverage report --fail-under=100 --no-skip-covered \
	  --include="$$(printf '%s,' $(foreach part,$(KEPT),'*/$(part)*'))"

mutation: $(STAMP)  ## change 200 places of it at random and count the changes that tests notice; fails below 90
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutation.py --sample 200 --workers $(WORKERS)

clean:  ## remove outputs and caches; the environment stays
	rm -rf _build docs/reference dist .out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path './.*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
