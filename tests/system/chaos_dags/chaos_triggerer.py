"""Hundreds of deferred waits of every kind, for the death of the triggerer."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

# How many of each kind: set by the suite, which counts on it.
COUNTS: dict[str, int] = json.loads(os.environ.get("CHAOS_COUNTS", '{"sync": 4, "watch": 4, "start": 2}'))
START_TIMEOUT = float(os.environ.get("CHAOS_START_TIMEOUT", "45"))


def ids(kind: str) -> list[str]:
    """Return the integrations of the mapped task of this name."""
    return [f"int_{kind}_{index}" for index in range(COUNTS[kind])]


with DAG(
    dag_id="chaos_triggerer",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_tasks=1000,
    default_args={"flokit_conn_id": "chaos_triggerer", "pool": "chaos_triggerer", "retries": 0},
):
    # Start a sync and wait for it.
    FlokitTriggerSyncOperator.partial(
        task_id="sync",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=2,
        timeout=900,
        start_timeout=START_TIMEOUT,
    ).expand(integration_id=ids("sync"))

    # Wait for FloKit's own syncs.
    FlokitIntegrationSensor.partial(
        task_id="watch",
        synced_after="{{ dag_run.conf['synced_after'] }}",
        deferrable=True,
        poke_interval=2,
        timeout=900,
    ).expand(integration_id=ids("watch"))

    # Start a sync; wait for it in another task.
    start = FlokitTriggerSyncOperator.partial(task_id="start").expand(integration_id=ids("start"))
    FlokitIntegrationSensor.partial(
        task_id="follow",
        deferrable=True,
        poke_interval=2,
        timeout=900,
        start_timeout=START_TIMEOUT,
    ).expand(receipt=start.output)
