# Everything runs in .venv, which the first command makes; nothing else of the machine is touched.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# All that the tests need; as a variable, for a comma would end the argument of a call.
ALL := .[dev,docs,report,lab]

# uv, where this machine has it, installs in a tenth of the time; where it fails, pip is asked.
UV := $(shell command -v uv 2>/dev/null)
install = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python $(1) || )$(BIN)/pip install --quiet --disable-pip-version-check $(1)

.DEFAULT_GOAL := help
.PHONY: help demo check test coverage nightly mutants lint docs site screenshots sheet pythons reliability bench scale notebooks sample clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

demo: $(VENV)/ready            ## simulated server -> sync -> metrics -> demo/report.html
	$(BIN)/cdpanalytics demo --directory demo

check: lint            ## style, types, layers, and each test that is not slow: four minutes on two cores
	HYPOTHESIS_PROFILE=check $(BIN)/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder \
		-m "not slow and not browser"

test: $(VENV)/ready-dev            ## every test but those of the night
	$(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

coverage: $(VENV)/ready-dev            ## the same, and which lines no test runs: it takes half as long again
	$(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

nightly: $(VENV)/ready-dev            ## the laws and the oracle on 10,000 random fleets each; the long tests at their full size
	@# Where Java is, the recipe for Spark is tried too.
	if command -v java >/dev/null; then $(call install,'pyspark>=4.0'); fi
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -n auto \
		tests/metrics tests/cli/test_fuzz.py tests/test_soak.py tests/test_synchronize.py tests/test_crash.py \
		tests/test_many_doors.py tests/test_many.py tests/execution tests/browser tests/server/test_faults.py tests/cli/test_terminal.py \
		tests/test_notebooks.py tests/archive/test_object_store.py tests/archive/test_damage.py \
		tests/test_selection.py

# Which ones; all take hours: make mutants OF='cdpanalytics.metrics.ranking*'
OF ?=

mutants: $(VENV)/ready-dev            ## do the tests notice when a metric is changed by one token
	$(call install,'mutmut>=3.3')
	HYPOTHESIS_PROFILE=mutants PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mutmut run $(if $(OF),'$(OF)')
	$(BIN)/mutmut results | grep -v 'not checked' || true

lint: $(VENV)/ready-dev            ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/ready-dev            ## write definitions and pictures of docs/ from the docstrings
	$(BIN)/python docs/fill.py

site: $(VENV)/ready-dev            ## the guide as HTML, in build/site
	$(BIN)/python -m sphinx -W --keep-going -q docs build/site

screenshots: $(VENV)/ready-dev            ## take the pictures of docs/ anew, in a real browser
	CDPANALYTICS_WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/browser/test_screenshots.py

sheet: $(VENV)/ready-dev            ## each view of the explorer, light and dark, narrow and wide, on one sheet: build/sheet.png
	mkdir -p build/sheet
	CDPANALYTICS_CONTACT_SHEET=$(CURDIR)/build/sheet $(BIN)/python -m pytest -q tests/browser/test_lab.py -k each_view
	$(BIN)/python docs/sheet.py build/sheet build/sheet.png

# The Pythons of `make pythons`; those that this machine lacks are left out.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3.15

pythons: $(VENV)/ready-dev            ## build the wheel, and run the demo from it with each Python of this machine
	rm -rf build/pythons && $(BIN)/python -m build --wheel --no-isolation --outdir build/pythons
	for python in $(PYTHONS); do \
		$$python -c 'import ensurepip' 2>/dev/null || { echo "$$python: not on this machine"; continue; }; \
		$$python -m venv --clear build/pythons/venv && \
		build/pythons/venv/bin/pip install --quiet --disable-pip-version-check build/pythons/*.whl && \
		build/pythons/venv/bin/cdpanalytics demo --directory build/pythons/$$python --vms 8 --days 3 || exit 1; \
	done

reliability: $(VENV)/ready-dev            ## write the fault matrix of docs/reliability.md from the tests
	CDPANALYTICS_WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/server/test_faults.py

# How many sessions; 10 million need 8 GB. `make bench SIZES=10000,1000000` takes half as long.
SIZES ?= 10000,1000000,10000000

bench: $(VENV)/ready-dev            ## figures beside their peers, written to docs/performance.md
	$(call install,--editable '.[bench]')
	$(BIN)/python benchmarks/imports.py --output docs/performance/imports.json
	$(BIN)/python benchmarks/parsing.py --output docs/performance/parsing.json
	$(BIN)/python benchmarks/explorer.py --output docs/performance/explorer.json
	$(BIN)/python benchmarks/sync.py --output docs/performance/sync.json
	$(BIN)/python benchmarks/reconciling.py --output docs/performance/reconciling.json
	$(BIN)/python benchmarks/reading.py --output docs/performance/reading.json
	$(BIN)/python benchmarks/waiting.py --output docs/performance/waiting.json
	$(BIN)/python benchmarks/metrics.py --sizes $(SIZES) --output docs/performance/metrics.json
	$(BIN)/python docs/fill.py

scale: $(VENV)/ready-dev            ## what archives of 100 thousand to 100 million sessions take: 10 minutes, 8 GB of disk
	$(BIN)/python benchmarks/scale.py 100_000 1_000_000 10_000_000 100_000_000 --memory 2GB \
		--output docs/performance/scale.json --curve docs/performance/scale.svg
	$(BIN)/python docs/fill.py

sample: $(VENV)/ready            ## make data/sample anew, from a simulated estate
	$(BIN)/python data/make_sample.py

notebooks: $(VENV)/ready-dev            ## run each notebook from top to bottom
	$(BIN)/python -m pytest tests/test_notebooks.py

clean:            ## forget the environment and what was made
	rm -rf $(VENV) demo dist build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants

$(VENV)/ready: pyproject.toml | $(VENV)/bin/pip
	$(call install,--editable .)
	@touch $@

$(VENV)/ready-dev: pyproject.toml | $(VENV)/bin/pip
	$(call install,--editable '$(ALL)')
	@touch $@ $(VENV)/ready

# Debian keeps the part of venv that brings pip in a package of its own.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; installing python3-venv" >&2; \
		if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq python3-venv; \
		else sudo apt-get update -qq && sudo apt-get install -y -qq python3-venv; fi; }
	$(PYTHON) -m venv $(VENV)
	@# The pip of Python 3.11 takes twice as long to choose the versions of all that the tests need.
	$(if $(UV),,-$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip)
