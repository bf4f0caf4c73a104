# make demo   install what is needed and run the main job
# make test   install the rest (judges included, where apt may be used) and pass the tests
PYTHON ?= python3
VENV := .venv
# The build of torch for the processor; for a GPU: make TORCH="torch" (brings CUDA, several GB).
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test test-slow bench check audit judges clean

demo: $(VENV)/installed
	$(BIN)/hepatocast demo --out demo-out

test: $(VENV)/installed-dev judges check
	$(BIN)/pytest -m "not slow and not benchmark and not gpu"

test-slow: $(VENV)/installed-dev
	sh tests/install_judges.sh chromium buildah debootstrap $$(command -v npm >/dev/null || echo nodejs npm)
	$(BIN)/pytest -m "slow" --timeout 1800

bench: $(VENV)/installed-dev judges
	$(BIN)/pytest -m "benchmark" -s --timeout 1800

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Are dependencies known to be vulnerable? Asks PyPI's vulnerability service, and so needs the network: where
# that is not reached this fails and says so. It is no part of `make test`.
audit: $(VENV)/installed-dev
	$(BIN)/python tests/audit_dependencies.py

judges:
	sh tests/install_judges.sh

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) demo-out
