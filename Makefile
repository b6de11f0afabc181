# Each target installs into $(VENV); runs go to runs/ (bench: benchmarks/out/), targets and model to ~/.cache/efface.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test test-all check bench packs strangers methods ablation recovery names clean

demo: $(READY)
	$(BIN)/efface erase smollm2-135m ancient-egypt --to runs/demo --overwrite
	@echo "open runs/demo/report.html"

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.bench

packs strangers methods ablation recovery: $(READY)
	$(BIN)/python -m benchmarks.tables $@

names: $(READY)
	$(BIN)/python -m benchmarks.names

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
