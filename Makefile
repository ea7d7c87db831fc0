# `make demo PYTHON=python3.12 VENV=/tmp/longrun` works too.
PYTHON ?= python3.11
VENV ?= .venv
PY = $(VENV)/bin/python
READY = $(VENV)/.ready
DEV = $(VENV)/.dev
TESTS = $(PY) -m pytest -n 2 --dist loadfile
QUICK = $(addprefix tests/, project/test_imports.py project/test_project_files.py project/test_contract.py \
    pe/test_pe_properties.py pe/test_reference_absolute.py pe/test_reference_bias.py pe/test_reference_rotary.py \
    model/test_whole_life.py model/test_golden.py model/test_loss.py data/test_data_windows.py evaluation/test_eval.py)

.DEFAULT_GOAL := help
.PHONY: help demo quick test check stress table gallery bench clean
.SILENT:

help: ## show this list
	grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## train several schemes, measure them to 16 times their length, write runs/demo/report.html
	$(PY) train.py -m experiment=demo
	$(PY) -m scripts.report runs/demo --out runs/demo

quick: $(DEV) ## in under a minute: one scheme of each kind through everything
	$(PY) -m ruff check .
	$(TESTS) --quick $(QUICK)

test: $(DEV) ## the linter and the default test suite
	$(PY) -m ruff check .
	$(TESTS)

check: $(DEV) ## what a change must pass: formatting, linter, types, tests
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m pyright --pythonpath $(PY)
	$(TESTS)

stress: $(DEV) ## the long tests: faults injected by the hundred
	$(PY) -m pytest -m "slow or stress" --timeout 3600

table: $(READY) ## renew the list of schemes in README.md and docs/schemes.md
	$(PY) -m scripts.schemes --write README.md docs/schemes.md

gallery: $(READY) ## pictures of every scheme
	$(PY) -m scripts.gallery

bench: $(READY) ## speed and memory of every scheme
	$(PY) -m scripts.bench

clean: ## remove the environment and the caches; runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis longrun.egg-info build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Built once; again when a dependency changes. pip says nothing unless it fails.
PIP = $(PY) -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt

$(READY): pyproject.toml constraints.txt
	echo "installing into $(VENV) (once; a few minutes without a cache)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(DEV): $(READY)
	$(PIP) -e ".[dev,conformance]"
	touch $@
