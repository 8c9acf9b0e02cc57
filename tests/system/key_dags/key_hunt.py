"""Tasks that succeed, fail and wait in every mode, against a FloKit that repeats the key wherever it can."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

with DAG(dag_id="key_hunt", schedule=None, start_date=datetime(2024, 1, 1), catchup=False):  # noqa: DTZ001
    for mode, settings in {"worker": {"deferrable": False}, "deferred": {"deferrable": True}}.items():
        for name in ("well", "fails", "echo"):
            FlokitTriggerSyncOperator(
                task_id=f"sync_{name}_{mode}",
                integration_id=f"int_{name}_{mode}",
                wait_for_completion=True,
                poll_interval=1,
                timeout=60,
                **settings,
            )
    for mode, settings in {
        "worker": {"deferrable": False},
        "rescheduled": {"deferrable": False, "mode": "reschedule"},
        "deferred": {"deferrable": True},
        "from_trigger": {"start_from_trigger": True},
    }.items():
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
    def uses_the_hook() -> str:
        """Call the hook, and let its failure reach Airflow."""
        from airflow_provider_flokit.hooks.flokit import FlokitHook

        hook = FlokitHook()
        connected, message = hook.test_connection()
        if not connected:
            raise ValueError(message)
        hook.get_integration("int_echo_worker")
        return message

    uses_the_hook()
