"""
The DAGs of the small chaos cases.

A task waits for the integration ``int_TASK``, on the connection that is named after its case.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

BEGAN = datetime.fromisoformat(os.environ.get("CHAOS_BEGAN", "2026-01-01T00:00:00+00:00"))
# Longer than SETTLE, or a wait would not be deferred at all.
SHORT = 12
AFTER = "{{ dag_run.conf['synced_after'] }}"


def dag(case: str) -> DAG:
    """Make the DAG of a case."""
    return DAG(
        dag_id=case,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_tasks=100,
        default_args={"flokit_conn_id": case, "retries": 0, "retry_delay": timedelta(seconds=1)},
    )


def sync(task_id: str, **settings: Any) -> None:
    """Start a sync and wait for it, deferred unless told otherwise."""
    settings = {"deferrable": True, "poll_interval": 1, "timeout": 300, **settings}
    FlokitTriggerSyncOperator(task_id=task_id, integration_id=f"int_{task_id}", wait_for_completion=True, **settings)


def watch(task_id: str, **settings: Any) -> None:
    """Wait for one of FloKit's own syncs, deferred unless told otherwise."""
    settings = {"deferrable": True, "poke_interval": 1, "timeout": 300, "synced_after": AFTER, **settings}
    FlokitIntegrationSensor(task_id=task_id, **{"integration_id": f"int_{task_id}", **settings})


def all_modes(retries: int = 0) -> None:
    """
    Wait in every mode there is, for syncs that succeed and syncs that fail.

    :param retries: Retries of those that wait in a worker.
    """
    for how in ("good", "bad"):
        sync(f"sync_deferred_{how}")
        watch(f"watch_deferred_{how}")
    sync("sync_worker_good", deferrable=False, retries=retries)
    watch("watch_worker_good", deferrable=False, retries=retries)
    watch("watch_rescheduled_good", deferrable=False, mode="reschedule", poke_interval=12, retries=retries)


with dag("chaos_before_post"):
    sync("lost_reading", retries=2)
    sync("lost_reading_worker", retries=2, deferrable=False)
    sync("lost_posting", retries=2)
    # Not before the POST has arrived, also where Celery tells at once that a process is lost.
    sync("lost_late", retries=2, retry_delay=timedelta(seconds=12))

with dag("chaos_after_post"):
    sync("still_running", retries=2)
    sync("still_running_worker", retries=2, deferrable=False)
    sync("over_by_then", retries=2)
    sync("over_by_then_worker", retries=2, deferrable=False)

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

with dag("chaos_scheduler"):
    all_modes(retries=2)

with dag("chaos_outage"):
    all_modes()

with dag("chaos_rotation"):
    all_modes()

# For the stage with Celery alone.
for name in ("chaos_database", "chaos_replaced"):
    with dag(name):
        all_modes(retries=2)

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
    watch("plain", start_from_trigger=True, synced_after=BEGAN)
    for name in ("conf", "failing", "failing_after"):
        watch(name, start_from_trigger=True)
    watch("interval", start_from_trigger=True, synced_after="{{ data_interval_end }}")
    watch("id_of_conf", start_from_trigger=True, integration_id="{{ dag_run.conf['integration_id'] }}")
    # What the triggerer cannot render is rendered by a worker.
    watch("unrendered", start_from_trigger=True, synced_after="{{ ti.run_id and dag_run.conf['synced_after'] }}")
    watch("late", start_from_trigger=True, timeout=30, retries=1)
    watch("late_soft", start_from_trigger=True, timeout=30, retries=1, soft_fail=True)
