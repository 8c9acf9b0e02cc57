"""DAGs that start when FloKit has synced, or failed to; each keeps what its asset events tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

CONN_ID = "chaos_watchers"
INTERVAL = 2.0
"""Seconds between polls."""

WATCHED = {
    "chaos_watch_a": ("int_a", "synced"),
    "chaos_watch_b": ("int_b", "synced"),
    "chaos_watch_b_error": ("int_b", "error"),
}
"""By DAG: the integration, and what is watched for."""

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk import AssetWatcher

    for dag_id, (integration_id, on) in WATCHED.items():
        trigger = FlokitSyncedTrigger(integration_id, flokit_conn_id=CONN_ID, poll_interval=INTERVAL, on=on)
        asset = flokit_asset(
            integration_id,
            flokit_conn_id=CONN_ID,
            name=f"{integration_id} {on}",
            extra={"on": on},
            watchers=[AssetWatcher(name=dag_id, trigger=trigger)],
        )
        with DAG(dag_id=dag_id, schedule=[asset], start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):

            @task
            def told(triggering_asset_events: Any) -> list[dict[str, Any]]:
                """Return the payloads."""
                return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

            told()
