"""Dozens of deferred waits for each case of the stage with Celery that needs them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

# How many of each kind in which DAG: set by the suite, which counts on it.
MANY: dict[str, dict[str, int]] = json.loads(os.environ.get("CHAOS_MANY", "{}"))

for name, counts in MANY.items():
    with DAG(
        dag_id=name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_tasks=1000,
        default_args={"flokit_conn_id": name, "retries": 0},
    ):
        FlokitTriggerSyncOperator.partial(
            task_id="sync", wait_for_completion=True, deferrable=True, poll_interval=2, timeout=900
        ).expand(integration_id=[f"int_sync_{index}" for index in range(counts["sync"])])

        FlokitIntegrationSensor.partial(
            task_id="watch",
            synced_after="{{ dag_run.conf['synced_after'] }}",
            deferrable=True,
            poke_interval=2,
            timeout=900,
        ).expand(integration_id=[f"int_watch_{index}" for index in range(counts["watch"])])
