# drivetl: every target makes what it needs; nothing is redone when nothing changed.
#   make setup   the environment in .venv        make demo   from nothing to a robustness report
#   make test    the test suite                  make lint   format, rules, types, architecture
#   make bench   what takes how long             make clean  remove the environment and what the demo wrote
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint bench format clean
.DELETE_ON_ERROR:

setup: $(READY)

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit("drivetl needs Python 3.11 or newer; say PYTHON=/path/to/python3.12 make ...") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(READY): pyproject.toml constraints.txt | $(BIN)/uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --constraint constraints.txt --editable '.[onnx,tensorboard]' --group dev
	@touch $@

demo: $(READY)
	$(BIN)/drivetl demo --out runs/demo

# One process per core, each with one thread: the tests' tensors are too small to gain from more. A file stays in one
# process, because its tests share fixtures.
test: $(READY)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python tools/benchmark.py all

clean:
	rm -rf $(VENV) runs/demo
