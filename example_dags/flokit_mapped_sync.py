"""
Sync many integrations in parallel, with two mapped tasks.

`sync` has one task instance per integration; each asks FloKit for a sync. `synced` waits for these syncs: each
instance waits for the sync of its receipt, and has its own log, retries and outcome. All of them wait
deferred, and the triggerer asks FloKit **once** per interval for all of them together.
`load_warehouse` runs when all syncs have succeeded.

An integration that synced within the last 15 minutes is not synced again (`skip_if_synced_within`); its
receipt says so, and the wait for it ends at once.

**Needed:** the connection `flokit_default` with a read-write API key, and the ids of your integrations.
The list can also come from a task, for instance one that calls `FlokitHook().list_integrations()`.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

with DAG(
    dag_id="flokit_mapped_sync",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["flokit", "example"],
    doc_md=__doc__,
):
    sync = FlokitTriggerSyncOperator.partial(
        task_id="sync",
        skip_if_synced_within=timedelta(minutes=15),
        map_index_template="{{ task.integration_id }}",  # the UI shows the id instead of a number
    ).expand(integration_id=["int_01hx4j7revenuecat", "int_01hx4j7appsflyer", "int_01hx4j7stripe"])

    synced = FlokitIntegrationSensor.partial(
        task_id="synced",
        deferrable=True,
        poke_interval=10,  # seconds between looks at FloKit
        timeout=3600,  # seconds until a wait gives up
        map_index_template="{{ task.receipt['integration_id'] }}",
    ).expand(receipt=sync.output)

    @task
    def load_warehouse(integrations: Any) -> int:
        """Load what the syncs brought; a repeat for the same syncs changes nothing."""
        rows = [(each["id"], each["last_synced_at"], each["type"]) for each in integrations]
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
            warehouse.execute(
                "CREATE TABLE IF NOT EXISTS loads"
                " (integration_id, synced_at, type, PRIMARY KEY (integration_id, synced_at))"
            )
            warehouse.executemany("INSERT OR REPLACE INTO loads VALUES (?, ?, ?)", rows)
        return len(rows)

    load_warehouse(synced.output)
