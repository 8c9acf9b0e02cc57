"""DAGs that start when FloKit has synced, or failed to; each keeps what its asset events tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

if TYPE_CHECKING:
    from airflow.sdk import AssetWatcher as Watcher

CONN_ID = "chaos_watchers"
LOST = "chaos_watcher_lost"


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

    def watcher(
        name: str, integration_id: str, on: str = "synced", interval: float = 2, conn_id: str = CONN_ID
    ) -> Watcher:
        """Return a watcher."""
        trigger = FlokitSyncedTrigger(integration_id, flokit_conn_id=conn_id, poll_interval=interval, on=on)
        return AssetWatcher(name=name, trigger=trigger)

    for name in ("a", "b"):
        watched = flokit_asset(f"int_{name}", flokit_conn_id=CONN_ID, watchers=[watcher(name, f"int_{name}")])
        started_by(f"chaos_watch_{name}", watched)

    # A second asset of the same integration, watched twice: one trigger of its own, whose arguments differ from the
    # first asset's, so that each has a store.
    twice = Asset(name="chaos_a_twice", watchers=[watcher(name, "int_a", interval=3) for name in ("first", "second")])
    started_by("chaos_watch_a_twice", twice)

    failed = Asset(name="chaos_b_failed", watchers=[watcher("failed", "int_b", on="error")])
    started_by("chaos_watch_b_failed", failed)

    # For the stage with two triggerers.
    for name in ("c", "d"):
        lost = watcher(name, f"int_{name}", conn_id=LOST)
        started_by(f"chaos_watch_{name}", flokit_asset(f"int_{name}", flokit_conn_id=LOST, watchers=[lost]))
