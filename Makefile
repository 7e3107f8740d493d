# Everything below needs Python 3.11 or newer, make and git, and sets up the rest in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test test-containers test-clusters mutation lint docs lock audit clean

demo: $(VENV)/.app
	$(BIN)/bids-parcellate-demo $(DEMO)

test: $(VENV)/.dev
	@echo "== running the tests"
	$(BIN)/coverage erase
	$(BIN)/pytest -n auto --dist loadfile --cov --cov-report=term

# Needs a Docker daemon. It makes the image once, and runs it.
test-containers: $(VENV)/.dev
	@echo "== running the tests of containers"
	$(BIN)/pytest -m container --durations 10 tests/containers

# Needs a running Slurm, and a Docker daemon for tasks that run the container.
test-clusters: $(VENV)/.dev
	@echo "== running the tests of clusters"
	$(BIN)/pytest -m slurm --durations 10 tests/clusters

# Takes half an hour: breaks the code on purpose, and counts what the tests find.
mutation: $(VENV)/.dev
	$(BIN)/python -m drills.mutation

lint: $(VENV)/.dev
	@echo "== lint"
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@echo "== types"
	$(BIN)/mypy
	@echo "== import contracts"
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.dev
	@echo "== documentation"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The versions that containers are made of: the newest for the Python of their base image.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.12 --generate-hashes \
	--custom-compile-command "make lock"

lock: $(VENV)/.uv
	$(LOCK) --extra fast --output-file requirements.lock pyproject.toml
	$(LOCK) --output-file containers/build.lock containers/build.in

# Needs the network: known weaknesses of what is locked are looked up. A package that is not found there is an error.
audit: $(VENV)/.uv
	$(BIN)/uv tool run pip-audit --strict --require-hashes --disable-pip -r requirements.lock -r containers/build.lock

$(VENV)/.uv:
	@echo "== making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.app: pyproject.toml $(VENV)/.uv
	@echo "== installing bids-parcellate"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[fast]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.app
	@echo "== installing what tests, lint and documentation need"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --group dev
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) site .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
