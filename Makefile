# Two commands: `make demo` trains the default recipe, `make test` proves the rest. Both may be run again at any time.
#   make demo PYTHON=python3.12 VENV=~/zerosum     another interpreter, another place
# pip's own settings apply. On Linux without a GPU, torch's CPU build saves a download of some 2 GB: set
# PIP_EXTRA_INDEX_URL to the CPU index that PyTorch's own installation page names.
# Without make (Windows):  py -m venv .venv  &&  .venv\Scripts\pip install .  &&  .venv\Scripts\zerosum train digits

PYTHON ?= python3
VENV ?= .venv
DEMO ?= runs/demo

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.developed

.PHONY: demo test lint clean help
.DEFAULT_GOAL := help

help:
	@echo 'make demo    install into $(VENV), train a GAN on handwritten digits, say where the pictures are'
	@echo 'make test    install what the tests need, run them'
	@echo 'make lint    ruff and mypy'
	@echo 'make clean   remove $(VENV), caches and build products; runs/ stays'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo '$(PYTHON) is missing or older than 3.11: give one with make PYTHON=...' >&2; exit 2; }
	@echo 'Making $(VENV). The install that follows downloads some 300 MB for a processor build of torch (macOS,'
	@echo 'Windows) and up to 3 GB for the GPU build that Linux gets by default, from the package index that pip is'
	@echo 'set to, into $(VENV) and the cache of pip. Digits come with it; nothing else is fetched.'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	@touch $@

$(DEVELOPED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $(INSTALLED) $@

demo: $(INSTALLED)
	@if [ -e $(DEMO)/recipe.json ]; then $(BIN)/zerosum train --resume $(DEMO); \
	  else $(BIN)/zerosum train digits --out $(DEMO); fi
	@$(BIN)/zerosum sample $(DEMO) -n 64 --seed 7 --out $(DEMO)/demo.png > /dev/null
	@echo
	@echo 'report   $(DEMO)/report.html'
	@echo 'samples  $(DEMO)/demo.png'
	@echo 'film     $(DEMO)/film.mp4, $(DEMO)/film.gif'

test: $(DEVELOPED)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST)

lint: $(DEVELOPED)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
