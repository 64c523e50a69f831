# Everything happens in .venv; nothing but Python 3.11+ and make is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
NOTEBOOK ?= notebooks/01_train_mobilenetv2.ipynb

# In the shell's hands, which knows blanks and quotes in a name.
export DATA NOTEBOOK

.PHONY: help run lab board test check clean

help:
	@echo "make run [DATA=folder]  train, test and save a model in the notebook, top to bottom"
	@echo "make lab                open the notebooks in JupyterLab"
	@echo "make board              TensorBoard over logs/"
	@echo "make test               lint, types and tests"

run: .venv/notebook
	@case "$$DATA" in "~/"*) DATA="$$HOME/$${DATA#??}" ;; esac; \
	case "$$DATA" in "" | /*) ;; *) DATA="$$PWD/$$DATA" ;; esac; \
	if [ -n "$$DATA" ]; then export CRACKCLF_DATA="$$DATA"; fi; \
	exec $(BIN)/python notebooks/run.py "$$NOTEBOOK"

lab: .venv/notebook
	$(BIN)/jupyter lab --notebook-dir notebooks

board: .venv/notebook
	$(BIN)/tensorboard --logdir logs

test: check
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'crackclf needs Python 3.11 or newer; name one: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv

# Each extra is installed once, and again whenever pyproject.toml changes.
.venv/notebook .venv/dev: .venv/%: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv
