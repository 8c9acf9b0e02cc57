"""
A local FloKit API for the tests and the demo of this package, and for tests of your own DAGs.

It serves the documented API on loopback. It has a switch for everything that FloKit does not document, and it can
simulate faults. In a test::

    with Simulator() as sim:
        sim.add_integration("int_01hx4j7stripe", sync=Sync(start_delay=0.1, duration=0.2))
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", sim.connection_uri())

On the command line: ``python -m airflow_provider_flokit.simulator``.
"""

from __future__ import annotations

from airflow_provider_flokit.simulator.faults import Fault
from airflow_provider_flokit.simulator.integration import IntegrationState, Sync, SyncRun
from airflow_provider_flokit.simulator.server import RecordedRequest, Simulator

__all__ = ["Fault", "IntegrationState", "RecordedRequest", "Simulator", "Sync", "SyncRun"]
