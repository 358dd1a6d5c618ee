# `make repro` and `make test` are all a new machine needs: Python >= 3.11, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test torture lint ui dashboard serve paper bench clean setup lock
.DEFAULT_GOAL := repro

repro: setup  ## the whole pipeline, to a promoted model
	dvc repro

test: setup lint  ## everything; `pytest -m "not slow"` is the two-minute part
	python -m pytest

# minutes of faults, e.g. make torture KILLS_S=3600 KILLS_SEED=7
torture: setup  ## kill every command at random steps, fuzz every input; prints the counts
	KILLS_S=$(or $(KILLS_S),600) $(if $(KILLS_SEED),KILLS_SEED=$(KILLS_SEED)) \
	    python -m pytest -m torture -n 0 -s -o faulthandler_timeout=0

lint: setup
	ruff check .
	ruff format --check .
	mypy

ui: setup  ## browse runs and models on 127.0.0.1:5000
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	    mlflow ui --host 127.0.0.1 --port 5000 --workers 1 \
	    --backend-store-uri "sqlite:///$(or $(PECULIAR_HOME),$(CURDIR))/mlruns/mlflow.db"

# e.g. make dashboard STORAGE=postgresql+psycopg://me@host/optuna
dashboard: setup  ## browse studies on 127.0.0.1:8080, also while they run
	optuna-dashboard --host 127.0.0.1 --port 8080 $(or $(STORAGE),$(or $(PECULIAR_HOME),$(CURDIR))/mlruns/optuna.journal)

# the other end: curl -d @images.json -H 'Content-Type: application/json' 127.0.0.1:5001/invocations
serve: setup  ## the champion on 127.0.0.1:5001: images in, distances and errors out
	peculiar serve --port 5001

# e.g. make paper GALAXIES=1000 SEEDS="4 5 6"; EPOCHS=1 to see it run, RESNET_EPOCHS=2 without a GPU,
# READING=paper for images as the paper seems to take them
paper: setup  ## Table A2: the paper's forty networks beside the published numbers
	python -m experiments.paper.table paper results/paper \
	    $(if $(GALAXIES),--galaxies $(GALAXIES)) $(if $(EPOCHS),--epochs $(EPOCHS)) \
	    $(if $(RESNET_EPOCHS),--resnet-epochs $(RESNET_EPOCHS)) \
	    $(if $(SEEDS),--seeds $(SEEDS)) $(if $(READING),--reading $(READING))

bench: setup  ## speed against what one would use instead, and the machine's limits
	python benchmarks/bench.py $(ARGS)

clean:  ## remove what the pipeline wrote; runs (mlruns/) and DVC's cache stay
	rm -rf data results .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The lock inside .venv is copied there last: an interrupted installation starts again, and
# comparing contents (not times) makes the check instant and right after a `git checkout`.
# The programs in .venv name its folder: in a clone that was moved or renamed they are installed again.
setup:
	@cmp -s requirements.lock .venv/requirements.lock \
	    && [ "$$(cat .venv/place 2>/dev/null)" = "$(CURDIR)" ] \
	    || $(MAKE) --no-print-directory .install

.PHONY: .install
.install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "peculiar needs Python >= 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > .venv/place
	cp requirements.lock .venv/requirements.lock

lock: setup  ## pin again what pyproject.toml asks for; no addresses are written
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --extra dev pyproject.toml --output-file requirements.lock
