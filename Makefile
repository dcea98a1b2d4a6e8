# `make` with one of these; CONTRIBUTING.md has the times. Uses .venv where there is one.
PYTHON := $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: test slow lint notebook bench docs
test:
	$(PYTHON) -m pytest -n auto
slow:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist worksteal -m "slow and not gpu"
lint:
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
notebook:
	$(PYTHON) -m tests.tools.notebook
bench:
	$(PYTHON) -m benchmarks
docs:
	$(PYTHON) -m mkdocs build --strict
