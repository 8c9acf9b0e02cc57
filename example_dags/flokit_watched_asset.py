"""
Start when FloKit has synced, without a task that waits and without a time schedule.

The asset's watcher runs in the triggerer. It starts this DAG when `last_synced_at` of the integration has moved, also
if FloKit's own schedule, a person or another DAG started the sync. All watchers and waits on the same connection share
one request per interval. `load_warehouse` reads the asset event.

If several DAG files use an asset, it must have the same watchers in each of them: Airflow uses the file that it has
read last.

**Needed:** Airflow 3 (older versions have no asset watchers; there this file defines no DAG), the connection
`flokit_default` (a read-only API key is enough), and the id of your integration instead of `int_01hx4j7stripe`.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.assets.flokit import flokit_asset
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk import AssetWatcher

    stripe = flokit_asset(
        "int_01hx4j7stripe",
        watchers=[
            AssetWatcher(
                name="stripe_synced",
                trigger=FlokitSyncedTrigger(
                    integration_id="int_01hx4j7stripe",
                    poll_interval=30,  # seconds between looks at FloKit
                ),
            )
        ],
    )

    with DAG(
        dag_id="flokit_watched_asset",
        schedule=[stripe],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        tags=["flokit", "example"],
        doc_md=__doc__,
    ):

        @task
        def load_warehouse(triggering_asset_events: Any = None) -> int:
            """Load what has synced since the last run; a repeat for the same events changes nothing."""
            told = [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
            rows = [(each["integration_id"], each["last_synced_at"], each["integration"]["type"]) for each in told]
            with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
                warehouse.execute(
                    "CREATE TABLE IF NOT EXISTS watched_loads"
                    " (integration_id, synced_at, type, PRIMARY KEY (integration_id, synced_at))"
                )
                warehouse.executemany("INSERT OR REPLACE INTO watched_loads VALUES (?, ?, ?)", rows)
            return len(rows)

        load_warehouse()
