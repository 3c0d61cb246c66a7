# Needs Python 3.10 or newer and the package index; everything else is installed
# into $(VENV) when missing, and again when the dependencies change.

# An interpreter that is named gets an environment of its own: PYTHON=python3.13.
PYTHON ?= python3
VENV ?= .venv$(patsubst %,-%,$(filter-out python3,$(notdir $(PYTHON))))
CONSTRAINTS ?= constraints.txt
PYTEST_ARGS ?= -n 2

RUN := $(VENV)/bin/python -m
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
DEMO := $(VENV)/.installed-plot

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest lint docs benchmark clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO)  ## train, extract, detect, tune and plot on scikit-learn's digits
	@mkdir -p demo_output
	$(VENV)/bin/python examples/quickstart.py demo_output

test: $(DEV)  ## every test and every documented example
	$(RUN) pytest -q $(PYTEST_ARGS)

test-oldest:  ## the same with the oldest dependencies that pyproject.toml allows
	$(MAKE) test VENV=$(VENV)-oldest CONSTRAINTS=constraints-oldest.txt

lint: $(DEV)  ## style, formatting, types and docstrings
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) numpydoc lint $$(find skood -name '*.py')

docs: $(DOCS)  ## the documentation, in docs/_build/html; warnings are errors
	$(RUN) sphinx -W --keep-going -q -b html docs docs/_build/html

benchmark: $(DEV)  ## quality and speed, into benchmark_output; QUICK=1 takes minutes
	$(VENV)/bin/python benchmarks/run.py $(if $(QUICK),--quick)

clean:  ## remove what the other targets made, the environment too
	rm -rf .venv .venv-* .ci/venv demo_output benchmark_output docs/_build docs/gallery
	rm -rf docs/generated docs/_api_tables.rst docs/_command_line.rst docs/_detectors.rst
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "installing skood[$*] into $(VENV)"
	$(RUN) pip install --quiet --disable-pip-version-check 'pip>=21.3'
	$(RUN) pip install --quiet --disable-pip-version-check \
		--editable '.[$*]' --constraint $(CONSTRAINTS)
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
