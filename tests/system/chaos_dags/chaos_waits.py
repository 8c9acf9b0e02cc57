"""
The DAGs of the chaos cases.

A task waits for the integration ``int_TASK``, on the connection that is named after its DAG.
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


def dag(name: str, max_active_tasks: int = 100) -> DAG:
    """Make the DAG of a case."""
    return DAG(
        dag_id=name,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_tasks=max_active_tasks,
        default_args={"flokit_conn_id": name, "retries": 0, "retry_delay": timedelta(seconds=1)},
    )


def sync(task_id: str, **settings: Any) -> None:
    """Start a sync and wait for it, deferred unless told otherwise."""
    settings = {"deferrable": True, "poll_interval": 1, "timeout": 300, **settings}
    FlokitTriggerSyncOperator(task_id=task_id, integration_id=f"int_{task_id}", wait_for_completion=True, **settings)


def watch(task_id: str, **settings: Any) -> None:
    """Wait for one of FloKit's own syncs, deferred unless told otherwise."""
    settings = {"deferrable": True, "poke_interval": 1, "timeout": 300, "synced_after": AFTER, **settings}
    FlokitIntegrationSensor(task_id=task_id, **{"integration_id": f"int_{task_id}", **settings})


# Waits in every mode there is, for syncs that succeed and syncs that fail.
for name in ("chaos_outage", "chaos_rotation", "chaos_scheduler", "chaos_database", "chaos_replaced"):
    with dag(name):
        for how in ("good", "bad"):
            sync(f"sync_deferred_{how}")
            watch(f"watch_deferred_{how}")
        # Of those that wait in a worker.
        retries = 0 if name in ("chaos_outage", "chaos_rotation") else 2
        sync("sync_worker_good", deferrable=False, retries=retries)
        watch("watch_worker_good", deferrable=False, retries=retries)
        watch("watch_rescheduled_good", deferrable=False, mode="reschedule", poke_interval=12, retries=retries)

# Dozens and hundreds of deferred waits; few at once are started or resumed, as each takes a process.
for name, counts in MANY.items():
    ids = {kind: [f"int_{kind}_{index}" for index in range(count)] for kind, count in counts.items()}
    patient = {"deferrable": True, "timeout": 900}
    with dag(name, max_active_tasks=6):
        FlokitTriggerSyncOperator.partial(
            task_id="sync", wait_for_completion=True, poll_interval=2, start_timeout=45, **patient
        ).expand(integration_id=ids["sync"])
        FlokitIntegrationSensor.partial(task_id="watch", synced_after=AFTER, poke_interval=2, **patient).expand(
            integration_id=ids["watch"]
        )
        if "start" in ids:
            start = FlokitTriggerSyncOperator.partial(task_id="start").expand(integration_id=ids["start"])
            FlokitIntegrationSensor.partial(task_id="follow", poke_interval=2, start_timeout=45, **patient).expand(
                receipt=start.output
            )

with dag("chaos_before_post"):
    sync("lost_reading", retries=2)
    sync("lost_reading_worker", retries=2, deferrable=False)
    sync("lost_posting", retries=2)
    # Not before the POST has arrived, also where Celery tells at once that a process is lost.
    sync("lost_late", retries=2, retry_delay=timedelta(seconds=12))

with dag("chaos_after_post"):
    for name in ("still_running", "over_by_then"):
        sync(name, retries=2)
        sync(f"{name}_worker", retries=2, deferrable=False)

with dag("chaos_in_worker"):
    sync("still_running", retries=2, deferrable=False)
    sync("over_by_then", retries=2, deferrable=False)

with dag("chaos_failed_meanwhile"):
    sync("failed_posting", retries=3)
    sync("failed_waiting", retries=3, deferrable=False)

for name in ("chaos_honoured", "chaos_join", "chaos_queue", "chaos_conflict"):
    with dag(name):
        sync("good")
        sync("good_worker", deferrable=False)
        if name != "chaos_queue":
            sync("bad")
        if name == "chaos_honoured":
            sync("quick")

with dag("chaos_running"):
    sync("good")
    sync("good_worker", deferrable=False)
    sync("bad")

with dag("chaos_retries"):
    sync("failing", retries=2)
    sync("failing_worker", retries=2, deferrable=False)

with dag("chaos_slow"):
    sync("slow", retries=20, timeout=SHORT)
    sync("slow_worker", retries=20, timeout=SHORT, deferrable=False)

with dag("chaos_cleared"):
    sync("good")
    sync("good_worker", deferrable=False)
    sync("bad", retries=1)
    sync("bad_worker", deferrable=False)

with dag("chaos_timeout"):
    watch("late_watch", timeout=SHORT, retries=1)
    watch("late_watch_soft", timeout=SHORT, retries=1, soft_fail=True)
    watch("late_watch_worker", timeout=SHORT, retries=1, deferrable=False)
    sync("late_sync", timeout=SHORT)
    sync("late_sync_worker", timeout=SHORT, deferrable=False)

with dag("chaos_started"):
    watch("plain", start_from_trigger=True, synced_after=datetime(2026, 1, 1, tzinfo=UTC))
    for name in ("conf", "failing", "failing_after"):
        watch(name, start_from_trigger=True)
    watch("interval", start_from_trigger=True, synced_after="{{ data_interval_end }}")
    watch("id_of_conf", start_from_trigger=True, integration_id="{{ dag_run.conf['integration_id'] }}")
    # What the triggerer cannot render is rendered by a worker.
    watch("unrendered", start_from_trigger=True, synced_after="{{ ti.run_id and dag_run.conf['synced_after'] }}")
    watch("late", start_from_trigger=True, timeout=30, retries=1)
    watch("late_soft", start_from_trigger=True, timeout=30, retries=1, soft_fail=True)

# For the stage with Celery alone.
with dag("chaos_worker_killed"):
    sync("before", retries=1)
    sync("after", retries=1)

with dag("chaos_worker_killed_during"):
    # Not before the POST has arrived.
    sync("during", retries=1, retry_delay=timedelta(seconds=15), flokit_conn_id="chaos_worker_killed")

with dag("chaos_marked"):
    for name in ("marked", "good", "bad"):
        sync(name)
    sync("alone", flokit_conn_id="chaos_alone")
