"""Tasks that succeed, fail and wait in every mode, against a FloKit that repeats the key wherever it can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": False},
    "deferred": {"deferrable": True},
    "rescheduled": {"deferrable": False, "mode": "reschedule"},
    "from_trigger": {"start_from_trigger": True},
}

with DAG(dag_id="key_hunt", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), catchup=False):
    for mode in ("worker", "deferred"):
        for name in ("well", "fails", "echo"):
            FlokitTriggerSyncOperator(
                task_id=f"sync_{name}_{mode}",
                integration_id=f"int_{name}_{mode}",
                wait_for_completion=True,
                poll_interval=1,
                timeout=60,
                **MODES[mode],
            )
    for mode, settings in MODES.items():
        for name, integration_id in {"well": "int_ready", "fails": "int_broken", "times_out": "int_busy"}.items():
            FlokitIntegrationSensor(
                task_id=f"wait_{name}_{mode}",
                integration_id=integration_id,
                poke_interval=1,
                timeout=8 if name == "times_out" else 60,
                **settings,
            )
    FlokitIntegrationSensor(
        task_id="retried", integration_id="int_missing", retries=1, retry_delay=timedelta(seconds=1)
    )

    @task(retries=0)
    def uses_the_hook() -> None:
        """Call the hook, and let its failure reach Airflow."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        hook = FlokitHook()
        hook.test_connection()
        hook.get_integration("int_echo_worker")

    uses_the_hook()
