"""
A pytest fixture for tests of DAGs that talk to FloKit.

Enable it in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["airflow_provider_flokit.simulator.pytest_plugin"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.simulator.connection import ENVIRONMENT_VARIABLE
from airflow_provider_flokit.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def flokit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a FloKit simulator without integrations, and let the connection ``flokit_default`` lead to it."""
    with Simulator() as simulator:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, simulator.connection_uri())
        yield simulator
