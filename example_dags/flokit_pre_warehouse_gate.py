"""
Start the nightly load only after every source has synced.

FloKit syncs the integrations on its own schedule; this DAG triggers no sync. `sources_ready` waits
until all of them are `connected` **and** have synced since the end of the data interval, so that the
load sees the whole day. If one of them is in error and has not synced since, the wait fails at once. The
message names it, with FloKit's own message.

This gate is for scheduled runs. On Airflow 3, the data interval of a manual run ends when it is started,
so the gate waits for the next sync; docs/recipes.md says what to write instead.

While it waits, the task is *deferred* and needs no worker.

**Needed:** the connection `flokit_default` (a read-only API key is enough), and the ids of your integrations.
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

from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

with DAG(
    dag_id="flokit_pre_warehouse_gate",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["flokit", "example"],
    doc_md=__doc__,
):
    ready = FlokitIntegrationSensor(
        task_id="sources_ready",
        integration_id=["int_01hx4j7revenuecat", "int_01hx4j7appsflyer", "int_01hx4j7stripe"],
        synced_after="{{ data_interval_end }}",
        deferrable=True,
        poke_interval=60,  # seconds between looks at FloKit
        timeout=8 * 3600,  # seconds: FloKit syncs a warehouse about every six hours
    )

    @task
    def load_warehouse(integrations: Any) -> int:
        """Load all sources in one transaction; a repeat for the same syncs changes nothing."""
        rows = [(each["id"], each["last_synced_at"], each["type"]) for each in integrations]
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
            warehouse.execute(
                "CREATE TABLE IF NOT EXISTS loads"
                " (integration_id, synced_at, type, PRIMARY KEY (integration_id, synced_at))"
            )
            warehouse.executemany("INSERT OR REPLACE INTO loads VALUES (?, ?, ?)", rows)
        return len(rows)

    load_warehouse(ready.output)
