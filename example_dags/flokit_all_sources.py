"""
Start when **all** sources have synced: one asset for each of three integrations, each with its watcher.

Airflow starts a run when every asset has had an event since the last run began. For a run after each single sync, write
`schedule=(revenuecat | appsflyer | stripe)`.

**Needed:** Airflow 3 (older versions have no asset watchers; there this file defines no DAG), the connection
`flokit_default` (a read-only API key is enough), and the ids of your integrations.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk import AssetWatcher

    def watched(integration_id: str) -> Asset:
        """Return the asset of an integration, with a watcher."""
        trigger = FlokitSyncedTrigger(integration_id=integration_id, poll_interval=30)
        return flokit_asset(integration_id, watchers=[AssetWatcher(name=integration_id, trigger=trigger)])

    with DAG(
        dag_id="flokit_all_sources",
        schedule=[watched("int_01hx4j7revenuecat"), watched("int_01hx4j7appsflyer"), watched("int_01hx4j7stripe")],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        tags=["flokit", "example"],
        doc_md=__doc__,
    ):

        @task
        def load_warehouse(triggering_asset_events: Any = None) -> int:
            """Load all sources in one transaction; a repeat for the same events changes nothing."""
            told = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
            rows = [(each["integration_id"], each["last_synced_at"], each["integration"]["type"]) for each in told]
            with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
                warehouse.execute(
                    "CREATE TABLE IF NOT EXISTS all_sources_loads"
                    " (integration_id, synced_at, type, PRIMARY KEY (integration_id, synced_at))"
                )
                warehouse.executemany("INSERT OR REPLACE INTO all_sources_loads VALUES (?, ?, ?)", rows)
            return len(rows)

        load_warehouse()
