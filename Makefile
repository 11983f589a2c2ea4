# install, demo, test and ui need Python >= 3.11 and make, and nothing else.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LAKE := $(VENV)/ducklake

# The first interpreter that is new enough; override with `make PYTHON=/path/to/python3.12 install`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.PHONY: install ducklake demo test bench whole-night soak nights ui lint lock clean

install: $(STAMP)

$(STAMP): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with the venv module was found; install one, or set PYTHON=/path/to/it."; exit 2; }
	@test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the pinned packages into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# A second DuckDB with the extensions of a DuckLake, which PyPI has for that version only; the tests start it as a
# process of its own.
ducklake: $(LAKE)/.installed

$(LAKE)/.installed: requirements-ducklake.lock $(STAMP)
	@echo "Installing DuckDB with DuckLake into $(LAKE) ..."
	@rm -rf $(LAKE)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(LAKE) --requirement requirements-ducklake.lock
	@touch $@

demo: install
	@$(BIN)/batch-pipeline demo

ui: install
	@$(BIN)/batch-pipeline ui

test: install ducklake lint
	@$(BIN)/python -m pytest -n 3 --dist worksteal

# Whole nights with drawn faults and kills, on all cores; with CRASHES=1 also kill -9 at every boundary there is,
# with POSTGRES=1 on ledgers in Postgres.
SEEDS ?= 500
FIRST ?= 1
soak: install
	@$(BIN)/python -m batch_pipeline_tests.faults.soak --seeds $(SEEDS) --first $(FIRST) $(if $(CRASHES),--crashes) \
		$(if $(POSTGRES),--postgres)

# How fast: a floor script, the SDK's plain way, our stages, the whole command, on the same rows. See docs/performance.md.
# OPTIONS="--rows 100000 --shape long --json bench.json" and so on; --help lists them.
bench: install
	@$(BIN)/python -m batch_pipeline_tests.bench $(OPTIONS)

# Two million rows through `batch-pipeline run` to promotion, against the simulator; needs 20 GB of disk.
whole-night: install
	@$(BIN)/python -m batch_pipeline_tests.bench.whole_night $(OPTIONS)

# Ninety nights through the whole pipeline, with planted trouble: which check catches what, and when. See docs/nights.md.
nights: install
	@$(BIN)/python -m batch_pipeline_tests.nights $(OPTIONS)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Writes both lock files anew from pyproject.toml: names and versions only.
lock:
	@$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/python -m pip install --quiet uv
	@$(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-header \
		pyproject.toml --output-file requirements.lock
	@$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
		--constraint requirements.lock pyproject.toml --all-extras --group dev --output-file requirements-dev.lock
	@rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) data/state .pytest_cache .mypy_cache .ruff_cache .hypothesis
