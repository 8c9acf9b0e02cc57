"""
How users call this package, for mypy: ``make lint`` checks this file, nothing runs it.

An ignored error is a promise too: a wrong call is found before the DAG is deployed, and mypy complains about an ignore
that is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from airflow.providers.common.compat.sdk import (
    DAG,
    Asset,
    BaseOperator,
    PokeReturnValue,
    TaskGroup,
    chain,
    task,
    task_group,
    teardown,
)
from airflow.sdk import AssetWatcher
from airflow.triggers.base import TriggerEvent

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.errors import FlokitError, FlokitSyncFailedError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.models import Integration, IntegrationStatus, SyncReceipt, SyncStats
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Simulator, Sync, SyncRun
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger

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


def outputs() -> None:
    with DAG("outputs", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id="int_01hx4j7stripe")
        synced = FlokitIntegrationSensor(
            task_id="synced", receipt=sync.output["receipt"], mode="reschedule", timeout=60
        )

        # Airflow declares that a task is called with what its function is called with, and it is called with outputs:
        # so the README leaves the parameter open.
        @task
        def load(integration) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

        @task
        def load_state(state: dict[str, Any]) -> None: ...

        load(sync.output["integration"])
        load(synced.output)
        load_state(sync.output["integration"])  # type: ignore[arg-type]


def values_of_other_tasks() -> None:
    @task
    def kind() -> str:
        return "stripe"

    @task.sensor(poke_interval=60)
    def configured() -> PokeReturnValue:
        return PokeReturnValue(is_done=True, xcom_value="int_01hx4j7stripe")

    with DAG("values", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        source = BaseOperator(task_id="source")
        sync = FlokitTriggerSyncOperator(
            task_id="sync", integration_id=configured(), flokit_conn_id=source.output, wait_for_completion=True
        )
        chain(sync, FlokitTriggerSyncOperator(task_id="by_type", integration_type=kind()))
        FlokitIntegrationSensor(
            task_id="synced",
            integration_id=["int_01hx4j7stripe", source.output],
            synced_after=source.output,
            flokit_conn_id=source.output,
        )
        FlokitIntegrationSensor(task_id="synced_type", integration_type=source.output, synced_after="{{ ds }}")
        # When the task runs, it is what Airflow has resolved.
        assert_type(sync.integration_id, str | None)
        assert_type(sync.flokit_conn_id, str)


def mapped() -> None:
    with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        ids = FlokitTriggerSyncOperator(task_id="ids", integration_id="int_01hx4j7stripe").output
        syncs = FlokitTriggerSyncOperator.partial(task_id="sync", retries=1).expand(integration_id=ids)
        FlokitIntegrationSensor(task_id="synced", receipt=syncs.output["receipt"])
        each = FlokitTriggerSyncOperator.partial(task_id="each").expand_kwargs([{"integration_type": "stripe"}])
        FlokitIntegrationSensor.partial(task_id="ready").expand(integration_id=["int_01hx4j7stripe", each.output])
        FlokitIntegrationSensor.partial(task_id="listed").expand_kwargs([{"integration_type": ["stripe", "adjust"]}])
        FlokitTriggerSyncOperator.partial(task_id="wrong").expand(integration_id=7)  # type: ignore[arg-type]


def groups() -> None:
    @task_group
    def source(integration_id: str) -> None:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=integration_id)
        FlokitIntegrationSensor(task_id="synced", receipt=sync.output["receipt"])

    with DAG("groups", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        source("int_01hx4j7stripe")
        source.expand(integration_id=["int_01hx4j7stripe"])
        with TaskGroup("more") as more:
            ready = FlokitIntegrationSensor(task_id="ready", integration_type="stripe", task_group=more)
        more >> ready


def setup_and_teardown() -> None:
    @task
    def load() -> None: ...

    @teardown
    def clean() -> None: ...

    with DAG("guarded", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        fresh = FlokitTriggerSyncOperator(task_id="fresh", integration_id="int_01hx4j7stripe")
        # Airflow's: not typed.
        fresh.as_setup() >> load() >> clean().as_teardown(setups=fresh)  # type: ignore[no-untyped-call]
        after = FlokitTriggerSyncOperator(task_id="after", integration_id="int_01hx4j7stripe")
        with after.as_teardown(setups=fresh):
            FlokitIntegrationSensor(task_id="guarded", receipt=after.output["receipt"])


def sensor() -> None:
    FlokitIntegrationSensor(
        task_id="both",
        integration_id=["int_01hx4j7stripe", "int_01hx4j7adjust"],
        synced_after=datetime(2026, 1, 1, tzinfo=UTC),
        deferrable=True,
        default_args={"retries": 1},
    )
    FlokitIntegrationSensor(task_id="wrong", integration_id=7)  # type: ignore[arg-type]
    FlokitIntegrationSensor(task_id="wrong", integration_id="int_01hx4j7stripe", synced_after=7)  # type: ignore[arg-type]


def assets() -> None:
    asset = flokit_asset("int_01hx4j7stripe", flokit_conn_id="other", name="stripe", extra={"team": "data"})
    assert_type(asset, Asset)
    watched = flokit_asset(
        "int_01hx4j7stripe",
        watchers=[AssetWatcher(name="stripe", trigger=FlokitSyncedTrigger(integration_id="int_01hx4j7stripe"))],
    )
    with DAG("consumer", schedule=[watched], start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        FlokitTriggerSyncOperator(task_id="sync", integration_id="int_01hx4j7stripe", outlets=[asset])
    flokit_asset(["int_01hx4j7stripe"])  # type: ignore[arg-type]


def triggers() -> None:
    FlokitSyncedTrigger(integration_id="int_01hx4j7stripe", flokit_conn_id="other", poll_interval=10, on="any")
    waiting = FlokitIntegrationTrigger(integration_id=["int_01hx4j7stripe"], timeout=60)
    assert_type(waiting.serialize(), tuple[str, dict[str, Any]])
    assert_type(waiting.run(), AsyncIterator[TriggerEvent])
    FlokitSyncedTrigger()  # type: ignore[call-arg]
    FlokitIntegrationTrigger(integration_id=7)  # type: ignore[arg-type]


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
