# Needs only make and a Python from 3.11 on; everything else is installed into .venv/.

# The newest that noxfile.py knows.
AIRFLOW ?= ${shell sed -n 's/^    "\([0-9.]*\)": (.*/\1/p' noxfile.py | tail -1}
export ARGS ?=
NOX = .venv/tools/bin/nox
IN = $(NOX) -s "airflow($(AIRFLOW))" --

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix test-lowest ui-test chaos bench lint docs dist clean

help:  ## Show this help
	@echo "airflow-provider-flokit"
	@awk -F ':.*## ' '/^[a-zA-Z0-9%._-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "AIRFLOW=2.11 chooses the Airflow of demo, test and chaos; ARGS='-k receipt --no-cov' is handed to pytest, ARGS='--only outage' to chaos."

# nox and uv, in an environment of their own.
$(NOX): Makefile
	@python=$$(for p in python3 python python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done); \
	[ "$$python" ] || { echo "No Python from 3.11 on is here (on Debian and Ubuntu, install python3-venv too)."; exit 1; }; \
	rm -rf .venv/tools && $$python -m venv .venv/tools && .venv/tools/bin/pip install -q nox==2026.10.20 uv==0.13.9
	@touch $@

demo: $(NOX)  ## See a DAG gate on a FloKit sync, in a real Airflow; UI=1: the FloKit page; FLOKIT_API_KEY set: list your integrations
	@$(IN) python -m tests.system.demo$(if $(UI),_page)

test: $(NOX)  ## Lint, type-check and test with coverage, on the newest Airflow
	@$(NOX) -s "airflow($(AIRFLOW))"

test-matrix: $(NOX)  ## Test on every supported Airflow, over the Pythons of this machine
	@$(NOX) -s airflow

test-lowest: $(NOX)  ## Test on the lowest versions that pyproject.toml allows, without whole Airflows
	@$(NOX) -s lowest

test-airflow-%: $(NOX)  ## Test on one Airflow, e.g. test-airflow-2.11
	@$(NOX) -s "airflow($*)"

lint: $(NOX)  ## Check style, format and types
	@ARGS=--lint-only $(NOX) -s "airflow($(AIRFLOW))"

ui-test: $(NOX)  ## Use the FloKit page, the connection form and Airflow's pages of gates in a headless Chromium, on the newest Airflow, 3.1 (the page) and 2.11
	@env GROUPS="dev ui" $(NOX) -s "airflow($(AIRFLOW))" -- pytest tests/ui $(ARGS)
	@env GROUPS="dev ui" $(NOX) -s "airflow(3.1)" -- pytest tests/ui/test_page.py $(ARGS)
	@env GROUPS="dev ui" $(NOX) -s "airflow(2.11)" -- pytest tests/ui $(ARGS)

chaos: $(NOX)  ## Kill Airflow's processes, FloKit and its key under hundreds of waits: one table; STAGE=celery: with PostgreSQL, Celery, two triggerers
	@$(if $(STAGE),env GROUPS="dev $(filter celery,$(STAGE))") $(IN) python -m tests.system.chaos $(if $(STAGE),--stage $(STAGE)) $(ARGS)

bench: $(NOX)  ## Measure thousands of waits beside the peers' triggers: one table, one picture; ARGS=--quick for a short one
	@$(IN) python -m benchmarks $(ARGS)

docs: $(NOX)  ## Build the documentation as a site, with the API reference, into build/docs/
	@$(NOX) -s docs

dist: $(NOX)  ## Build sdist and wheel into dist/, check them, and try them in a clean environment
	@$(IN) python -m tests.system.distribution

clean:  ## Remove environments, caches and builds
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
