"""
How users call this package, for mypy: ``make lint`` checks this file, nothing runs it.

An ignored error is a promise too: a wrong call is found before the DAG is deployed, and mypy complains about an ignore
that is not needed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from airflow.providers.common.compat.sdk import DAG, chain, task

from airflow_provider_flokit.errors import FlokitError, FlokitSyncFailedError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.models import Integration, IntegrationStatus, SyncReceipt, SyncStats
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Simulator, Sync, SyncRun

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_flokit.simulator.dag_run import DagOutcome
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit


def hook() -> None:
    with FlokitHook("flokit_default") as hook:
        assert_type(hook, FlokitHook)
        assert_type(hook.list_integrations(), list[Integration])
        assert_type(hook.get_integration("int_01hx4j7stripe"), Integration)
        assert_type(hook.find_integration("stripe"), Integration)
        assert_type(hook.trigger_sync("int_01hx4j7stripe", idempotency_key="k"), str)
        assert_type(hook.test_connection(), tuple[bool, str])
    hook.get_integration(7)  # type: ignore[arg-type]
    hook.trigger_sync()  # type: ignore[call-arg]


async def async_hook() -> None:
    async with FlokitAsyncHook() as hook:
        assert_type(hook, FlokitAsyncHook)
        assert_type(await hook.list_integrations(), list[Integration])
        assert_type(await hook.get_integration("int_01hx4j7stripe"), Integration)
        assert_type(await hook.trigger_sync("int_01hx4j7stripe"), str)


def models(integration: Integration, receipt: SyncReceipt) -> None:
    assert_type(integration.status, IntegrationStatus | str)
    assert_type(integration.last_synced_at, datetime | None)
    assert_type(integration.sync_stats, SyncStats | None)
    assert_type(receipt.baseline, Integration)
    assert_type(receipt.sync_id, str | None)
    assert_type(SyncReceipt.from_json(receipt.to_json()), SyncReceipt)
    integration.status = "connected"  # type: ignore[misc]


def operator(context: Context) -> None:
    sync = FlokitTriggerSyncOperator(
        task_id="sync",
        integration_id="int_01hx4j7stripe",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=30,
        timeout=3600,
        skip_if_synced_within=timedelta(hours=1),
        retries=1,
    )
    assert_type(sync.execute(context), str | None)
    FlokitTriggerSyncOperator(task_id="sync", integration_id=7)  # type: ignore[arg-type]
    FlokitTriggerSyncOperator(task_id="sync", integration_type="stripe", skip_if_synced_within=3600)  # type: ignore[arg-type]
    FlokitTriggerSyncOperator("int_01hx4j7stripe")  # type: ignore[call-arg]


def dags() -> None:
    with DAG("warehouse", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id="int_01hx4j7stripe")
        synced = FlokitIntegrationSensor(
            task_id="synced", receipt=sync.output["receipt"], mode="reschedule", timeout=60
        )
        both = FlokitIntegrationSensor(
            task_id="both",
            integration_id=["int_01hx4j7stripe", "int_01hx4j7adjust"],
            synced_after=datetime(2026, 1, 1, tzinfo=UTC),
        )
        mapped = FlokitTriggerSyncOperator.partial(task_id="mapped").expand(integration_id=["int_01hx4j7stripe"])
        FlokitIntegrationSensor.partial(task_id="each").expand_kwargs([{"integration_type": "stripe"}])

        @task
        def load(states: Any) -> int:
            return len(states)

        chain(sync, synced, both, load(both.output))
        # Airflow's own types know no keys of a mapped task's output.
        load(mapped.output["integration"])  # type: ignore[index]
        FlokitIntegrationSensor(task_id="wrong", integration_id=7)  # type: ignore[arg-type]


def failures() -> None:
    try:
        FlokitHook().list_integrations()
    except FlokitSyncFailedError as error:
        assert_type(error, FlokitSyncFailedError)
    except FlokitError as error:
        assert_type(error, FlokitError)


def simulator(flokit: SimulatedFlokit, dag: DAG) -> None:
    flokit.add_integration(
        "int_01hx4j7stripe", type="stripe", status="error", sync=Sync(duration=1, error="bad secret")
    )
    flokit.plan("int_01hx4j7stripe", Sync(start_delay=1), Sync())
    flokit.connect("other", flokit.read_only_key, retry_limit=0)
    run: DagOutcome = flokit.run(dag, {"integration_id": "int_01hx4j7stripe"})
    assert_type(run.state, str)
    assert_type(run.states, dict[str, str])
    assert_type(run.reasons, dict[str, str])
    assert_type(flokit.syncs, list[SyncRun])
    flokit.add_integration("int_01hx4j7adjust", colour="red")  # type: ignore[call-arg]
    with Simulator(latency=0.1) as simulated:
        assert_type(simulated, Simulator)
