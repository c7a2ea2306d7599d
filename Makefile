# Every target sets itself up: `make run` on a fresh clone is enough.
# HOST, PORT and every BERTH_* setting are read from the environment or given here: make run HOST=0.0.0.0 PORT=8080
# PYTHON=/path/to/python chooses the interpreter; pip's own PIP_* variables choose where packages come from.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check
APP := $(VENV)/.app-installed
DEV := $(VENV)/.dev-installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test check format bench docs clean

help:
	@echo "make run      serve on http://127.0.0.1:7860 (HOST, PORT, ARGS='--model_path org/name')"
	@echo "make test     all tests; ARGS='tests/core -k wire' for some"
	@echo "make check    formatting, lint, types"
	@echo "make format   rewrite to the project's formatting"
	@echo "make bench    start-up, health under load, embedding, generation; ARGS='--infinity DIR' beside infinity-emb"
	@echo "make docs     a copy of the API documentation that opens from disk, in docs/api"
	@echo "make setup    only install, into $(VENV)"
	@echo "make clean    remove $(VENV) and caches; never models or data"

setup: $(APP)

run: $(APP)
	$(PY) app.py $(ARGS)

test: $(DEV)
	@sh scripts/setup_postgres.sh
	@sh scripts/setup_browser.sh $(VENV); case $$? in \
	    0) $(PY) -m pytest $(ARGS) ;; \
	    3) $(PY) -m pytest -m "not browser" $(ARGS) ;; \
	    *) exit 1 ;; \
	esac

check: $(DEV)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(DEV)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(DEV)
	$(PY) -m bench.lifecycle
	$(PY) -m bench.health
	$(PY) -m bench.embedding $(ARGS)
	$(PY) -m bench.generation

docs: $(APP)
	$(PY) scripts/export_docs.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps, so that a second call costs nothing until a requirements file changes.
$(PY):
	sh scripts/setup_venv.sh $(VENV)

$(APP): requirements.txt constraints.txt | $(PY)
	$(PIP) -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt $(APP) | $(PY)
	$(PIP) -r requirements-dev.txt
	@touch $@
