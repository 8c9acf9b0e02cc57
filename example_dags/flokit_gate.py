"""
Load only after the sync has succeeded.

`sync_stripe` asks FloKit to sync one integration and waits until **exactly this** sync has succeeded.
`load_warehouse` runs only then, so it never loads yesterday's data by accident. If the sync fails, the
load does not run, and the log of `sync_stripe` says why.

While it waits, the task is *deferred*: it needs no worker, even if the sync takes long.

**Needed:** the connection `flokit_default` with a read-write API key, and the id of your integration
instead of `int_01hx4j7stripe` (change the default of the parameter, or set it when you trigger the DAG).
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

# Stands for your warehouse: an SQLite file.
WAREHOUSE = os.environ.get("FLOKIT_DEMO_WAREHOUSE", str(Path(tempfile.gettempdir(), "flokit_warehouse.db")))

with DAG(
    dag_id="flokit_gate",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"integration_id": "int_01hx4j7stripe"},
    tags=["flokit", "example"],
    doc_md=__doc__,
):
    sync = FlokitTriggerSyncOperator(
        task_id="sync_stripe",
        integration_id="{{ params.integration_id }}",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=2,  # seconds between looks at FloKit; the default of 30 suits real syncs
        timeout=1800,  # seconds until the wait gives up
    )

    @task
    def load_warehouse(receipt: Any) -> int:
        """Load what the sync brought; a repeat for the same sync writes the same rows again."""
        # Imported when the task runs, so that Airflow reads the DAG file fast.
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        integration = FlokitHook().get_integration(receipt["integration_id"]).to_json()
        synced_at, stats = integration["last_synced_at"], integration["sync_stats"]
        rows = [(integration["id"], synced_at, *metric) for metric in stats.items()]
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse, warehouse:
            warehouse.execute(
                "CREATE TABLE IF NOT EXISTS integration_metrics"
                " (integration_id, synced_at, metric, value, PRIMARY KEY (integration_id, synced_at, metric))"
            )
            warehouse.executemany("INSERT OR REPLACE INTO integration_metrics VALUES (?, ?, ?, ?)", rows)
        return len(rows)

    # The receipt: the integration, the sync, and the integration's state before the sync.
    load_warehouse(sync.output)
