# Everything here sets up what it needs: a virtual environment in .venv, with the versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Compiled files are kept even where the environment says otherwise: tests start many processes.
export PYTHONDONTWRITEBYTECODE :=
# Long tests go to whichever process is free; only slow tests use the plugin of schemathesis, which takes seconds to load.
FAST := $(BIN)/python -m pytest -n 2 -q --dist worksteal -p no:schemathesis
# Shapes and types are checked in every call of the layers that compute: `make check` does, `make test` is quicker.
SHAPES := --jaxtyping-packages=$(shell echo $(addprefix lmm4rec.,core distributed nn toyshop data encoders recommenders \
	encoding features evaluation coldstart training serving) | tr ' ' ','),beartype.beartype
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: demo test slow check docs format conf bench setup clean

demo: setup           ## eight models on the built-in toy shop: one table, one page of images
	$(BIN)/lmm4rec demo

test: setup           ## the fast test suite: two minutes of two cores
	$(FAST)

slow: setup           ## the slow tests: browsers, kills, several processes, a plugin installed by pip, notebooks
	$(BIN)/python -m pytest -n 2 -q -m slow

check: setup          ## format, lint, types, import layers, documentation, fast and long tests: run it before each commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DOCS)
	$(FAST) $(SHAPES) -m "not slow and not gpu and not network"

docs: setup           ## the documentation site, in site/; a broken link or an unknown reference fails
	$(DOCS)

format: setup         ## format, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

conf: setup           ## the comments of the conf files, written from the signatures
	$(BIN)/python -m lmm4rec.experiments.conf.comments conf/*.conf conf/studies/*.conf

bench: setup          ## the benchmarks; each writes a JSON file to benchmarks/results
	for benchmark in benchmarks/[a-z]*.py; do $(BIN)/python $$benchmark || exit 1; done

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

clean:                ## the virtual environment, the runs and the built site
	rm -rf .venv runs site
