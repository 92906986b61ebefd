# Each command sets up what it needs: a virtual environment in .venv, made anew only when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/digits
TIMM_TESTS := .timm-tests
CLIENTS := .venv-clients
# One worker a core, up to what fits in memory; each computes on one thread.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-timm test-clients check table clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.demo

# Written last by a training run: its presence means the run is complete.
$(RUN)/config.json: $(VENV)/.demo
	$(BIN)/mlpzoo train digits --out $(RUN)

demo: $(RUN)/config.json ## watch a Mixer learn real handwriting, then read image files
	$(BIN)/mlpzoo predict --checkpoint $(RUN) $(RUN)/samples/*.png
	@echo "pictures: $(RUN)/predictions.png and $(RUN)/token_mixing.png; to train again: make clean-demo demo"

.PHONY: clean-demo
clean-demo: ## forget the demo's run
	rm -rf $(RUN)

test: $(VENV)/.dev ## the default tests, some 16 minutes on two cores
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow and not gpu' $(PYTEST_ARGS)

test-all: $(VENV)/.dev ## every test this machine can run
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

# timm ships its own tests in its source distribution only.
$(TIMM_TESTS)/pyproject.toml: $(VENV)/.dev
	rm -rf $(TIMM_TESTS) && mkdir $(TIMM_TESTS)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary timm -d $(TIMM_TESTS) \
		timm==$$($(BIN)/python -c 'import timm; print(timm.__version__)')
	tar -xzf $(TIMM_TESTS)/timm-*.tar.gz -C $(TIMM_TESTS) --strip-components 1

test-timm: $(TIMM_TESTS)/pyproject.toml ## timm's own model tests over our names; MODELS='b16 or s32' for some
	PYTHONPATH=tests $(BIN)/python -m pytest -p timm_suite -c $< --rootdir $(TIMM_TESTS) -q \
		-k '$(or $(MODELS),_)' $(TIMM_TESTS)/tests/test_models.py

$(CLIENTS)/.installed: pyproject.toml tests/clients/requirements.txt
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -r tests/clients/requirements.txt
	@touch $@

test-clients: $(CLIENTS)/.installed ## our networks inside transformers, smp, effdet, mmdet and mmseg; an environment of 7 GB
	$(CLIENTS)/bin/python -m pytest tests/clients $(PYTEST_ARGS)

check: $(VENV)/.dev ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

table: $(VENV)/.dev ## write the tables of models anew from the registry; TABLE_ARGS=--all to measure all again
	$(BIN)/python -m docs.make_table $(TABLE_ARGS)

clean: ## remove everything made here
	rm -rf $(VENV) $(CLIENTS) runs $(TIMM_TESTS) .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
