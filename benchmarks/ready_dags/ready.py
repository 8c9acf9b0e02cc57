"""A gate whose integration is ready already, and a task that asks FloKit once by itself."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

START = datetime(2026, 1, 1, tzinfo=UTC)

with DAG("ready_sensor", schedule=None, start_date=START):
    FlokitIntegrationSensor(task_id="measured", integration_id="int_ready", deferrable=True)

with DAG("ready_request", schedule=None, start_date=START):

    @task(task_id="measured")
    def ask() -> str:
        """Make one request, as a task of one's own would."""
        import requests

        url, key = os.environ["READY_URL"], os.environ["READY_KEY"]
        answer = requests.get(f"{url}/v1/integrations", headers={"Authorization": f"Bearer {key}"}, timeout=30)
        return str(answer.json()["integrations"][0]["status"])

    ask()
