"""
A pytest fixture for tests of DAGs that talk to FloKit.

Enable it in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["airflow_provider_flokit.simulator.pytest_plugin"]

and take the fixture ``flokit``, a :class:`SimulatedFlokit`, in a test::

    from airflow_provider_flokit.simulator import Sync
    from warehouse import dag


    def test_a_failed_sync_holds_the_load_back(flokit):
        flokit.add_integration("int_01hx4j7stripe", sync=Sync(start_delay=0.5, duration=1, error="bad secret"))
        run = flokit.run(dag)
        assert run.states == {"sync_stripe": "failed", "load": "upstream_failed"}
        assert "bad secret" in run.reasons["sync_stripe"]

Running DAGs writes to Airflow's metadata database, that of ``AIRFLOW_HOME``; give your tests one of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_flokit.simulator.dag_run import DagOutcome


class SimulatedFlokit(Simulator):
    """A FloKit simulator that Airflow connections lead to, and that can run a DAG against itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch

    def connect(self, conn_id: str = "flokit_default", api_key: str | None = None, **extra: Any) -> None:
        """
        Let an Airflow connection lead to this simulator until the end of the test.

        :param conn_id: the connection; ``flokit_default`` is connected from the beginning.
        :param api_key: default the read-write key. :attr:`read_only_key` is the other valid one.
        :param extra: the connection's extra, such as ``retry_limit=0``.
        """
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", self.connection_uri(api_key, **extra))

    def run(self, dag: Any, conf: Mapping[str, Any] | None = None) -> DagOutcome:
        """
        Run a DAG to its end, in this process, and tell how each task ended.

        Tasks of this package look every 0.05 s, whatever their poll interval is, and retries come without delay.

        :param dag: the DAG.
        :param conf: the run's configuration, which also sets its params; default none.
        """
        from airflow_provider_flokit.simulator.dag_run import run_dag  # it alone needs Airflow

        return run_dag(dag, conf)


@pytest.fixture
def flokit(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedFlokit]:
    """Run a FloKit simulator without integrations, and let the connection ``flokit_default`` lead to it."""
    with SimulatedFlokit(monkeypatch) as simulator:
        simulator.connect()
        yield simulator
