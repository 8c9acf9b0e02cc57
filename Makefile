# Needs only make and a Python 3.11, 3.12 or 3.13; everything else is installed into .venv/.

AIRFLOW ?= 3.3
ARGS ?=
# Two at a time, each test file as a whole: most tests wait, and a file shares what is costly to set up.
PYTEST = pytest --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix test-lowest ui-test chaos bench lint docs dist clean

help:  ## Show this help
	@echo "airflow-provider-flokit"
	@awk -F ':.*## ' '/^[a-zA-Z0-9%._-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "AIRFLOW=2.11 chooses the Airflow of demo, test and chaos; ARGS='-k receipt --no-cov' is handed to pytest, ARGS='--only outage' to chaos."

demo:  ## See a DAG gate on a FloKit sync, in a real Airflow; UI=1: the FloKit page; FLOKIT_API_KEY set: list your integrations
	@.ci/airflow run $(AIRFLOW) python -m tests.system.demo$(if $(UI),_page)

test: lint  ## Lint, type-check and test with coverage, on the newest Airflow
	@.ci/airflow run $(AIRFLOW) $(PYTEST) --cov $(ARGS)

test-matrix:  ## Test on every supported Airflow, over the Pythons of this machine
	@.ci/airflow matrix $(PYTEST) $(ARGS)

test-lowest:  ## Test on the lowest versions that pyproject.toml allows, without whole Airflows
	@.ci/airflow run lowest $(PYTEST) -m 'not system' $(ARGS)

test-airflow-%:  ## Test on one Airflow, e.g. test-airflow-2.11
	@.ci/airflow run $* $(PYTEST) $(ARGS)

ui-test:  ## Use the FloKit page and Airflow's connection form in a headless Chromium, on Airflow 3.3, 3.1 (the page) and 2.11
	@.ci/airflow run --with ui 3.3 pytest tests/ui $(ARGS)
	@.ci/airflow run --with ui 3.1 pytest tests/ui/test_page.py $(ARGS)
	@.ci/airflow run --with ui 2.11 pytest tests/ui $(ARGS)

chaos:  ## Kill Airflow's processes, FloKit and its key under hundreds of waits: one table, all rows right
	@.ci/airflow run $(AIRFLOW) python -m tests.system.chaos $(ARGS)

bench:  ## Measure thousands of waits beside the peers' triggers: one table, one picture; ARGS=--quick for a short one
	@.ci/airflow run 3.3 python -m benchmarks $(ARGS)

lint:  ## Check style, format and types
	@.ci/airflow run $(AIRFLOW) ruff check .
	@.ci/airflow run $(AIRFLOW) ruff format --check .
	@.ci/airflow run $(AIRFLOW) mypy

docs:  ## Write the API reference, docs/api.md, from the docstrings
	@.ci/airflow run 3.3 python -m tests.docs.reference

dist:  ## Build sdist and wheel into dist/, check them, and try them in a clean environment
	@.ci/airflow run 3.3 python -m tests.system.distribution

clean:  ## Remove environments, caches and builds
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
