"""A DAG author runs a whole DAG against the simulator with ``flokit.run(dag)``."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, task

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Sync

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # Airflow's own machinery for running tasks in one process warns.
    pytest.mark.filterwarnings("default"),
]
STRIPE, ADJUST = "int_01hx4j7stripe", "int_01hx4j7adjust"


def gate(*, deferrable: bool = False) -> DAG:
    """Return a DAG that loads what a sync brought in, and has a minute between two looks and an hour between tries."""
    with DAG(
        "gate",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 1, "retry_delay": timedelta(hours=1)},
        params={"integration": STRIPE},
    ) as dag:
        sync = FlokitTriggerSyncOperator(
            task_id="sync",
            integration_id="{{ params.integration }}",
            wait_for_completion=True,
            poll_interval=60,
            deferrable=deferrable,
        )

        @task
        def load(integration: dict[str, Any]) -> str:
            return str(integration["status"])

        load(sync.output["integration"])
    return dag


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_failing_sync_holds_the_load_back(flokit: SimulatedFlokit, *, deferrable: bool) -> None:
    """The states and FloKit's own words are told, after the retries, without waiting for them or for polls."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0.2, duration=1, error="bad secret"))
    run = flokit.run(gate(deferrable=deferrable))
    assert (run.state, run.states) == ("failed", {"sync": "failed", "load": "upstream_failed"})
    assert "is in error: bad secret" in run.reasons["sync"]
    assert len(flokit.syncs) == 2


def test_other_connections_and_mapped_tasks(flokit: SimulatedFlokit) -> None:
    """Another connection leads here too, with a key that may only read; each mapped instance has its state."""
    flokit.add_integration(STRIPE)
    flokit.add_integration(ADJUST, status="error", error_message="bad secret")
    flokit.connect("other", flokit.read_only_key, retry_limit=0)
    with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        FlokitIntegrationSensor.partial(
            task_id="ready", flokit_conn_id="other", retries=1, retry_delay=timedelta(hours=1)
        ).expand(integration_id=[STRIPE, ADJUST])
    run = flokit.run(dag)
    assert run.states == {"ready[0]": "success", "ready[1]": "failed"}
    assert list(run.reasons) == ["ready[1]"]
    assert "is in error: bad secret" in run.reasons["ready[1]"]
    assert [request.key for request in flokit.requests] == ["read-only"] * 3


def test_the_configuration_of_the_run(flokit: SimulatedFlokit) -> None:
    """It sets the DAG's params; a retry starts a new sync, and when that succeeds nothing is told of the try before."""
    flokit.add_integration(ADJUST)
    flokit.plan(ADJUST, Sync(error="bad secret"), Sync())
    run = flokit.run(gate(), {"integration": ADJUST})
    assert (run.state, run.states, run.reasons) == ("success", {"sync": "success", "load": "success"}, {})


def test_tasks_that_must_not_be_nested_run(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a call of ``execute`` by other code is forbidden, Airflow takes those of ``flokit.run`` for its own."""
    # Airflow looks the other way in its test mode, which these tests run in.
    monkeypatch.setattr(importlib.import_module(BaseOperator.__module__).ExecutorSafeguard, "test_mode", False)
    flokit.add_integration(STRIPE)
    with DAG(
        "strict",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"allow_nested_operators": False, "integration_id": STRIPE},
    ) as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", wait_for_completion=True, deferrable=True)
        sync >> FlokitIntegrationSensor(task_id="ready")
    assert flokit.run(dag).states == {"sync": "success", "ready": "success"}


def test_a_missing_database_is_made(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where Airflow's metadata database does not exist, it is made; if that fails, the reason is told."""
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    monkeypatch.setattr(settings, "engine", create_engine(f"sqlite:///{tmp_path}/none.db", poolclass=NullPool))
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/no/such/folder/none.db")
    with pytest.raises(RuntimeError, match="unable to open database file"):
        flokit.run(gate())
