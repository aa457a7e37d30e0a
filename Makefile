# Two commands do everything on a fresh machine: `make quickstart` and `make test`. Both make .venv once and reuse it.
# Without a GPU, PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" spares a download of CUDA libraries.

PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
RUN ?= runs/quickstart
HOURS ?= 2
MINUTES ?= 30
FILES ?= 300
WORKERS := --numprocesses=auto --maxprocesses=8 --dist=worksteal

.PHONY: quickstart test coverage soak lint setup audit fuzz

quickstart: .venv/run.stamp
	$(BIN)/trivd train moving-digits --preset quickstart --out $(RUN)
	$(BIN)/trivd evaluate $(RUN)
	$(BIN)/trivd report $(RUN) --beside moving-digits
	@echo "Open $(RUN)/index.html in a browser."

test: .venv/dev.stamp
	$(BIN)/pytest $(WORKERS)

coverage: .venv/dev.stamp
	$(BIN)/pytest $(WORKERS) --cov=trivd --cov-report=term:skip-covered

soak: .venv/dev.stamp
	TRIVD_TEST_KILLS=50 $(BIN)/pytest -m "soak or kills"
	$(BIN)/python -m benchmarks.scripts.soak --hours $(HOURS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pymarkdown scan $$(git ls-files '*.md')

setup: .venv/dev.stamp

audit: .venv/dev.stamp
	$(BIN)/python .ci/audit.py

fuzz: .venv/dev.stamp
	$(BIN)/python tests/fuzz/fuzz_encodings.py --files $(FILES)
	$(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES)

.venv/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_ARGS) --quiet -c constraints.txt -e .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	$(BIN)/pip install $(PIP_ARGS) --quiet -c constraints.txt -e ".[dev]"
	@touch $@
