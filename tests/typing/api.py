"""
How users call this package, for mypy: ``make lint`` checks this file, nothing runs it.

An ignored error is a promise too: a wrong call is found before the DAG is deployed, and mypy complains about an ignore
that is not needed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.sdk import AssetWatcher

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.models import Integration, IntegrationStatus
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


async def hooks() -> None:
    with FlokitHook("flokit_default") as hook:
        assert_type(hook.list_integrations(), list[Integration])
        integration = hook.get_integration("int_01hx4j7stripe")
        assert_type(integration.status, IntegrationStatus | str)
        assert_type(hook.trigger_sync("int_01hx4j7stripe", idempotency_key="k"), str)
        hook.get_integration(7)  # type: ignore[arg-type]
        integration.status = "connected"  # type: ignore[misc]
    async with FlokitAsyncHook() as async_hook:
        assert_type(await async_hook.find_integration("stripe"), Integration)
        assert_type(await async_hook.test_connection(), tuple[bool, str])


def tasks(context: Context) -> None:
    with DAG("tasks", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        sync = FlokitTriggerSyncOperator(
            task_id="sync", integration_id="int_01hx4j7stripe", skip_if_synced_within=timedelta(hours=1), retries=1
        )
        assert_type(sync.execute(context), dict[str, Any])
        FlokitIntegrationSensor(task_id="synced", receipt=sync.output, mode="reschedule", timeout=60)
        FlokitIntegrationSensor(
            task_id="both", integration_id=["int_a", "int_b"], synced_after=datetime(2026, 1, 1, tzinfo=UTC)
        )
        syncs = FlokitTriggerSyncOperator.partial(task_id="each").expand(integration_id=["int_a", "int_b"])
        FlokitIntegrationSensor.partial(task_id="ready").expand(receipt=syncs.output)
        trigger = FlokitSyncedTrigger("int_01hx4j7stripe", on="any")
        assert_type(flokit_asset("int_a", watchers=[AssetWatcher(name="synced", trigger=trigger)]), Asset)
    FlokitTriggerSyncOperator(task_id="sync", integration_id=7)  # type: ignore[arg-type]
    FlokitTriggerSyncOperator(task_id="sync", integration_type="stripe", skip_if_synced_within=3600)  # type: ignore[arg-type]
    FlokitIntegrationSensor(task_id="wrong", integration_id=7)  # type: ignore[arg-type]
