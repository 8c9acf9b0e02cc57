"""Gates for integrations in every state that the FloKit page shows; some end, and nothing is loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.sdk import AssetWatcher

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

# Seconds between looks; so that what is typed at the demo's prompt shows soon.
OFTEN = 2.0
STRIPE, GOOGLE, BROKEN = "int_01hx4j7stripe", "int_01hx4j7google", "int_01hx4j7appsflyer"
COMMON: dict[str, Any] = {"start_date": datetime(2026, 1, 1, tzinfo=UTC), "catchup": False}


@task
def load() -> None:
    """Stand for what needs the data."""


with DAG(dag_id="warehouse", schedule=None, **COMMON):
    sync = FlokitTriggerSyncOperator(
        task_id="sync_stripe", integration_id=STRIPE, wait_for_completion=True, deferrable=True, poll_interval=OFTEN
    )
    sync >> load()

with DAG(dag_id="subscriptions", schedule=None, **COMMON):
    stripe = FlokitIntegrationSensor(
        task_id="wait_for_stripe", integration_id=STRIPE, mode="reschedule", poke_interval=OFTEN, timeout=6 * 3600
    )
    stripe >> load()

with DAG(dag_id="attribution", schedule=None, **COMMON):
    campaigns = FlokitIntegrationSensor.partial(
        task_id="wait_for_campaigns",
        integration_id="int_01hx4j7adjust",
        synced_after=datetime.now(UTC).replace(minute=0, second=0, microsecond=0),
        deferrable=True,
        poke_interval=OFTEN,
    ).expand(timeout=[3600.0, 3600.0, 3600.0])
    campaigns >> load()

with DAG(dag_id="marketing", schedule=None, **COMMON):
    FlokitIntegrationSensor(task_id="wait_for_appsflyer", integration_type="appsflyer", deferrable=True) >> load()

with DAG(dag_id="finance", schedule=None, **COMMON):
    google = FlokitIntegrationSensor(
        task_id="wait_for_google", integration_id=GOOGLE, synced_after="{{ dag_run.run_after }}", timeout=OFTEN
    )
    google >> load()

with DAG(dag_id="all_sources", schedule=None, **COMMON):
    sources = FlokitIntegrationSensor.partial(
        task_id="wait_for_source", map_index_template="{{ task.integration_id }}"
    ).expand(integration_id=[GOOGLE, BROKEN])
    sources >> load()

watcher = AssetWatcher(
    name="subscribers_synced",
    trigger=FlokitSyncedTrigger(integration_id="int_01hx4j7revenuecat", poll_interval=OFTEN),
)
subscribers = flokit_asset("int_01hx4j7revenuecat", name="subscribers", watchers=[watcher])

with DAG(dag_id="churn", schedule=[subscribers], **COMMON):
    load()
