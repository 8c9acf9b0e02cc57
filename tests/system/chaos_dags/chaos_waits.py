"""
The DAGs of the chaos cases.

A task waits for the integration ``int_TASK``, on the connection that is named after its DAG: in a worker if its name
ends so, else in the triggerer.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

# How many waits of each kind in which DAG: set by the suite, which counts on it.
MANY: dict[str, dict[str, int]] = json.loads(os.environ.get("CHAOS_MANY", "{}"))
# Longer than SETTLE, or a wait would not be deferred at all.
SHORT = 12
AFTER = "{{ dag_run.conf['synced_after'] }}"


def dag(name: str, max_active_tasks: int = 100, **defaults: Any) -> DAG:
    """Make the DAG of a case."""
    return DAG(
        dag_id=name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_tasks=max_active_tasks,
        default_args={"flokit_conn_id": name, "retry_delay": timedelta(seconds=1), "timeout": 300, **defaults},
    )


def sync(*names: str, **settings: Any) -> None:
    """Start syncs and wait for them."""
    for name in names:
        FlokitTriggerSyncOperator(
            task_id=name,
            integration_id=f"int_{name}",
            wait_for_completion=True,
            deferrable=not name.endswith("_worker"),
            poll_interval=1,
            **settings,
        )


def watch(*names: str, **settings: Any) -> None:
    """Wait for FloKit's own syncs."""
    for name in names:
        usual = {"integration_id": f"int_{name}", "synced_after": AFTER, "poke_interval": 1}
        usual["deferrable"] = not name.endswith(("_worker", "_rescheduled"))
        FlokitIntegrationSensor(task_id=name, **{**usual, **settings})


# Waits in every mode there is, for syncs that succeed and syncs that fail.
for conn_id in ("chaos_outage", "chaos_rotation", "chaos_scheduler", "chaos_database", "chaos_replaced"):
    with dag(conn_id):
        sync("sync_good", "sync_bad")
        watch("watch_good", "watch_bad")
        # Of those that wait in a worker.
        retries = 0 if conn_id in ("chaos_outage", "chaos_rotation") else 2
        sync("sync_worker", retries=retries)
        watch("watch_worker", retries=retries)
        watch("watch_rescheduled", mode="reschedule", poke_interval=12, retries=retries)

# Dozens and hundreds of deferred waits; few at once are started or resumed, as each takes a process.
for conn_id, counts in MANY.items():
    ids = {kind: [f"int_{kind}_{index}" for index in range(count)] for kind, count in counts.items()}
    with dag(conn_id, max_active_tasks=6, deferrable=True, timeout=900, poll_interval=2, poke_interval=2):
        FlokitTriggerSyncOperator.partial(task_id="sync", wait_for_completion=True, start_timeout=45).expand(
            integration_id=ids["sync"]
        )
        FlokitIntegrationSensor.partial(task_id="watch", synced_after=AFTER).expand(integration_id=ids["watch"])
        if "start" in ids:
            start = FlokitTriggerSyncOperator.partial(task_id="start").expand(integration_id=ids["start"])
            FlokitIntegrationSensor.partial(task_id="follow", start_timeout=45).expand(receipt=start.output)

with dag("chaos_before_post", retries=2):
    sync("reading", "reading_worker", "posting")
    # Not before the POST has arrived, also where Celery tells at once that a process is lost.
    sync("late", retry_delay=timedelta(seconds=12))

with dag("chaos_after_post", retries=2):
    sync("still_running", "still_running_worker", "over", "over_worker")

with dag("chaos_in_worker", retries=2):
    sync("still_running_worker", "over_worker")

with dag("chaos_failed_meanwhile", retries=3):
    sync("posting", "waiting_worker")

for conn_id in ("chaos_honoured", "chaos_join", "chaos_queue", "chaos_conflict"):
    with dag(conn_id):
        sync("good", "good_worker")
        if conn_id != "chaos_queue":
            sync("bad")
        if conn_id == "chaos_honoured":
            sync("quick")

with dag("chaos_running"):
    sync("good", "good_worker", "bad")

with dag("chaos_retries", retries=2):
    sync("deferred", "in_worker")

with dag("chaos_slow", retries=20, timeout=SHORT):
    sync("deferred", "in_worker")

with dag("chaos_cleared"):
    sync("good", "good_worker", "failing_worker")
    sync("failing", retries=1)

with dag("chaos_timeout", timeout=SHORT):
    watch("watch", "watch_worker", retries=1)
    watch("watch_soft", retries=1, soft_fail=True)
    sync("sync", "sync_worker")

with dag("chaos_started", start_from_trigger=True):
    watch("plain", synced_after=datetime(2026, 1, 1, tzinfo=UTC))
    watch("conf", "bad", "bad_after")
    watch("interval", synced_after="{{ data_interval_end }}")
    watch("id_of_conf", integration_id="{{ dag_run.conf['integration_id'] }}")
    # What the triggerer cannot render is rendered by a worker.
    watch("unrendered", synced_after="{{ ti.run_id and dag_run.conf['synced_after'] }}")
    watch("late", timeout=30, retries=1)
    watch("late_soft", timeout=30, retries=1, soft_fail=True)

# For the stage with Celery alone.
with dag("chaos_worker_killed", retries=1):
    sync("reading", "posted")
    # Not before the POST has arrived.
    sync("posting", retry_delay=timedelta(seconds=15))

with dag("chaos_marked"):
    sync("marked", "good", "bad")

with dag("chaos_alone"):
    sync("marked")
