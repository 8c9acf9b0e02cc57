"""
Start when FloKit has synced: nobody waits, nothing is scheduled by time.

The asset's watcher sees in the triggerer that `last_synced_at` of the integration has moved, and starts this DAG,
whoever started the sync: FloKit's own schedule, a person, another DAG. All watchers and waits on the same connection
share one request per interval. `load_warehouse` reads from the asset event what has happened.

An asset that several DAG files use has to have the same watchers in each of them: Airflow goes by the file that it has
read last.

**Needed:** Airflow 3 (older versions have no asset watchers; there this file defines no DAG), the connection
`flokit_default` (a read-only API key is enough), and an integration of yours instead of `int_01hx4j7stripe`.
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
            """Load what has synced since the last run; run again for the same events, it changes nothing."""
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
