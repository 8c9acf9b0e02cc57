"""
Trigger a sync in one task and wait for it in another.

`sync_stripe` only asks FloKit for the sync, and ends at once. It returns a *receipt*: the sync's id, and the
integration's state before the sync. `stripe_synced` waits for exactly this sync, and `load_warehouse` runs after it.
The outcome is the same as with `wait_for_completion=True` in one task (see `flokit_gate`).

Use two tasks if other work can be done during the sync (here `prepare_tables`), or if the wait needs its own
retries, pool or timeout.

**Needed:** the connection `flokit_default` with a read-write API key, and the id of your integration.
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

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

with DAG(
    dag_id="flokit_two_tasks",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["flokit", "example"],
    doc_md=__doc__,
):
    sync = FlokitTriggerSyncOperator(task_id="sync_stripe", integration_id="int_01hx4j7stripe")

    synced = FlokitIntegrationSensor(
        task_id="stripe_synced",
        receipt=sync.output,
        deferrable=True,
        poke_interval=10,  # seconds between looks at FloKit
        timeout=3600,  # seconds until the wait gives up
    )

    @task
    def prepare_tables() -> None:
        """Do the work that does not need the data."""
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
            warehouse.execute(
                "CREATE TABLE IF NOT EXISTS loads"
                " (integration_id, synced_at, type, PRIMARY KEY (integration_id, synced_at))"
            )

    @task
    def load_warehouse(integration: Any) -> int:
        """Load what the sync brought; a repeat for the same sync changes nothing."""
        row = (integration["id"], integration["last_synced_at"], integration["type"])
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
            warehouse.execute("INSERT OR REPLACE INTO loads VALUES (?, ?, ?)", row)
        return 1

    sync >> prepare_tables() >> load_warehouse(synced.output)
