"""DAGs that start when FloKit has synced, or failed to; each keeps what its asset events tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

WATCHERS, LOST = "chaos_watchers", "chaos_watcher_lost"


def started_by(dag_id: str, asset: Asset) -> None:
    """Define a DAG that an asset's events start."""
    with DAG(dag_id=dag_id, schedule=[asset], start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):

        @task
        def told(triggering_asset_events: Any) -> list[dict[str, Any]]:
            """Return the payloads."""
            return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

        told()


if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk import AssetWatcher

    def watcher(name: str, integration_id: str, conn_id: str = WATCHERS, **settings: Any) -> AssetWatcher:
        """Return a watcher."""
        settings = {"poll_interval": 2, **settings}
        trigger = FlokitSyncedTrigger(integration_id, flokit_conn_id=conn_id, **settings)
        return AssetWatcher(name=name, trigger=trigger)

    # c and d are for the stage with two triggerers.
    for name, conn_id in {"a": WATCHERS, "b": WATCHERS, "c": LOST, "d": LOST}.items():
        each = watcher(name, f"int_{name}", conn_id)
        started_by(f"chaos_watch_{name}", flokit_asset(f"int_{name}", flokit_conn_id=conn_id, watchers=[each]))

    # A second asset of the same integration, watched twice: one trigger of its own, whose arguments differ from the
    # first asset's, so that each has a store.
    twice = [watcher(name, "int_a", poll_interval=3) for name in ("first", "second")]
    started_by("chaos_watch_a_twice", Asset(name="chaos_a_twice", watchers=twice))

    failed = watcher("failed", "int_b", on="error")
    started_by("chaos_watch_b_failed", Asset(name="chaos_b_failed", watchers=[failed]))
