"""
Connect two DAGs by an asset: one syncs, the other loads.

`flokit_asset_producer` starts a sync and waits for it. The integration's asset is the task's outlet, so a successful
sync makes an event of the asset, and a failed one does not. The event has the `sync_id`, `last_synced_at`,
`previous_synced_at` and the number of events that the sync has brought. `flokit_asset_consumer` is scheduled on the
asset and loads the data.

**Needed:** the connection `flokit_default` with a read-write API key, and the id of your integration instead of
`int_01hx4j7adapty`.
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
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

adapty = flokit_asset("int_01hx4j7adapty")

with DAG(
    dag_id="flokit_asset_producer",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["flokit", "example"],
    doc_md=__doc__,
):
    FlokitTriggerSyncOperator(
        task_id="sync_adapty",
        integration_id="int_01hx4j7adapty",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=10,  # seconds between looks at FloKit
        timeout=3600,  # seconds until the wait gives up
        outlets=[adapty],
    )

with DAG(
    dag_id="flokit_asset_consumer",
    schedule=[adapty],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["flokit", "example"],
    doc_md=__doc__,
):

    @task
    def load_warehouse(**context: Any) -> int:
        """Load what the syncs brought; a repeat for the same syncs changes nothing."""
        # Airflow 2 calls assets datasets.
        triggering = context["triggering_asset_events" if AIRFLOW_V_3_0_PLUS else "triggering_dataset_events"]
        told = [event.extra for events in triggering.values() for event in events]
        rows = [(each["integration_id"], each["sync_id"], each["events_brought"]) for each in told]
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
            warehouse.execute(
                "CREATE TABLE IF NOT EXISTS consumed (integration_id, sync_id, events, PRIMARY KEY (sync_id))"
            )
            warehouse.executemany("INSERT OR REPLACE INTO consumed VALUES (?, ?, ?)", rows)
        return len(rows)

    load_warehouse()
