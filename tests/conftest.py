"""
Every test run has an Airflow home of its own, in a folder that is gone afterwards.

Airflow reads its settings when it is first imported, so they are made here, on import: pytest imports this
file before any test. Nothing of the developer's own Airflow (settings, connections, variables) gets through.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.checkout import run
from tests.system import distribution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.distribution import Distributions

pytest_plugins = ["airflow_provider_flokit.simulator.pytest_plugin"]

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="flokit-tests-")).resolve()
(AIRFLOW_HOME / "dags").mkdir()

for _name in list(os.environ):
    if "AIRFLOW" in _name or _name.startswith("FLOKIT_"):
        del os.environ[_name]

os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
    "AIRFLOW__CORE__DAGS_FOLDER": str(AIRFLOW_HOME / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(AIRFLOW_HOME / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(AIRFLOW_HOME / "logs"),
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    # The simulator is on loopback: a proxy of the developer's must not get in between.
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "no_proxy": "127.0.0.1,localhost,::1",
}

# The same examples in every run: a gate that closes at random is none. HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options with which what is to be released is tested, instead of what is built for the tests."""
    parser.addoption("--distributions", type=Path, help="folder of the sdist and the wheel to test")
    parser.addoption("--installed", type=Path, help="Python of an environment that the wheel is installed in")


def pytest_configure(config: pytest.Config) -> None:
    """
    Load Airflow before any test does.

    On Airflow 2 this warns; inside a test that would be an error, and leave Airflow half imported without providers.
    What Airflow prints is dropped, as the process that hands out the tests to others would show it after the summary.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(importlib.import_module("airflow.providers.common.compat.sdk"), "DAG")  # noqa: B009
        importlib.import_module("airflow.providers_manager").ProvidersManager()
    sys.stdout.flush()
    config.pluginmanager.getplugin("capturemanager").read_global_capture()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the whole Airflows: what takes longest must not be left to one worker at the end."""
    items.sort(key=lambda item: item.get_closest_marker("system") is None)


def pytest_unconfigure() -> None:
    """Remove the run's Airflow home."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_deprecation_of_ours_passes() -> Iterator[None]:
    """Let what is ours fail on a deprecation, also in tests that let Airflow's own warnings pass."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.filterwarnings("error", category=category, module="airflow_provider_flokit|block$")
        yield


@pytest.fixture(scope="session")
def distributions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Return sdist and wheel: those that ``--distributions`` names, else new ones."""
    folder: Path | None = request.config.getoption("--distributions")
    return distribution.distributions_in(folder) if folder else distribution.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """Make the scratch metadata database and return its path; only tests that ask for it pay for it."""
    run(sys.executable, "-m", "airflow", "db", "migrate")
    return AIRFLOW_HOME / "airflow.db"
