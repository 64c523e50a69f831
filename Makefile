# Everything happens in .venv; nothing but Python 3.11+ and make is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
NOTEBOOK ?= notebooks/01_train_mobilenetv2.ipynb

# TensorBoard loads TensorFlow, which prints notes about graphics cards.
QUIET_BOARD := import crackclf; crackclf.train; from tensorboard.main import run_main; run_main()

# In the shell's hands, which knows blanks and quotes in a name.
export DATA NOTEBOOK

.PHONY: help run lab board docs dist test test-all check clean

help:
	@echo "make run [DATA=folder]  train, test and save a model in the notebook, top to bottom"
	@echo "make lab                open the notebooks in JupyterLab"
	@echo "make board              TensorBoard over logs/"
	@echo "make docs               the documentation as a site, in site/"
	@echo "make dist               source and wheel, in dist/"
	@echo "make test               lint, types and tests"
	@echo "make test-all           the extras, and the tests that need them"

run: .venv/notebook
	@case "$$DATA" in "~/"*) DATA="$$HOME/$${DATA#??}" ;; esac; \
	case "$$DATA" in "" | /*) ;; *) DATA="$$PWD/$$DATA" ;; esac; \
	if [ -n "$$DATA" ]; then export CRACKCLF_DATA="$$DATA"; fi; \
	exec $(BIN)/python notebooks/run.py "$$NOTEBOOK"

lab: .venv/notebook
	$(BIN)/jupyter lab --notebook-dir notebooks

board: .venv/notebook
	@$(BIN)/python -c "$(QUIET_BOARD)" --logdir logs --load_fast=false

docs: .venv/dev
	$(BIN)/mkdocs build --strict

dist: .venv/dev
	$(BIN)/hatchling build

test: check
	$(BIN)/python -m pytest -m "not extras" -n logical --maxprocesses 4 --dist worksteal

test-all: .venv/extras
	$(BIN)/python -m pytest -m extras -n logical --maxprocesses 4 --dist worksteal

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

.venv/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and 'crackclf needs Python 3.11 to 3.13, for which TensorFlow has wheels; name one: make PYTHON=python3.13')"
	$(PYTHON) -m venv .venv

# Each extra is installed once, and again whenever pyproject.toml changes.
.venv/notebook .venv/dev: .venv/%: pyproject.toml | .venv/bin/python
	@echo "Installing crackclf[$*] and what it needs into .venv: 2.6 GB for notebook (TensorFlow,"
	@echo "JupyterLab), 3.1 GB for dev. It takes minutes; pip shows each download."
	$(BIN)/python -m pip install --no-compile --disable-pip-version-check --editable ".[$*]"
	touch $@

.venv/extras: .venv/dev
	@echo "Installing the extras into .venv: 6 GB more, most of it PyTorch."
	$(BIN)/python -m pip install --no-compile --disable-pip-version-check --editable ".[dev,app,export,heic,torch]" playwright
	touch $@

clean:
	rm -rf .venv
