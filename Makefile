# Two commands do all: `make demo` and `make test`. Both set up `.venv` first; twice costs nothing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
# One thread for each test process: more threads than cores cost several times the work. A file stays in one process, which
# makes its runs once.
TEST_ENV := OMP_NUM_THREADS=1
PROCESSES ?= $(shell getconf _NPROCESSORS_ONLN)

PYTEST := $(TEST_ENV) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile

.PHONY: demo test slow check install format lint types layers docs bench results clean

demo: install
	$(BIN)/instar distill

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing instar, and what its tests need, into .venv: a minute or two, longer on a busy machine or a slow line."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	# Without what they depend on: torchvision's wheel is built for CUDA and would bring another torch, and timm asks for it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps timm torchvision
	rm -f .venv/installed-*
	touch $@

test: install
	$(PYTEST) -m "not slow"

slow: install
	$(PYTEST) -m slow

check: lint types layers docs test slow

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

layers: install
	$(BIN)/lint-imports

# A broken link, a public name without a page or an image that is missing fails.
docs: install
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet docs build/docs

bench: install
	$(BIN)/python -m benchmarks

results: install
	$(BIN)/python docs/make_results.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
