"""What a person sees of gates in Airflow's own pages: their logs, which do not wrap, a mapped gate, wrong arguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.system.local_airflow import LocalAirflow
    from tests.ui.conftest import Picture, Visit

STRIPE, GOOGLE, APPSFLYER = "int_01hx4j7stripe", "int_01hx4j7google", "int_01hx4j7appsflyer"
WRONG_DAG = """
from airflow.sdk import DAG
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor

with DAG("wrong"):
    {task}
"""


@pytest.mark.parametrize(
    ("name", "gate", "beginning"),
    [
        ("waiting", ("warehouse", "sync_stripe"), f"{STRIPE} was connected, now is syncing, and has not finished"),
        ("failed", ("marketing", "wait_for_appsflyer"), f"FlokitSyncFailedError: {APPSFLYER} is in error: Apps"),
        ("timeout", ("finance", "wait_for_google"), f"AirflowSensorTimeout: {GOOGLE} (google_play) is connected, but"),
    ],
)
def test_log(visit_task: Visit, picture: Picture, name: str, gate: tuple[str, str], beginning: str) -> None:
    """A line of a gate's log begins with the integration, and why it waits or has failed: only 80 characters show."""
    page = visit_task(*gate)
    lines = page.locator("[data-testid^=virtualized-item] .event")
    expect(lines.filter(has_text=re.compile(f"^{re.escape(beginning)}"))).to_be_visible()
    picture(page, f"log-{name}")


def test_mapped_gate(visit_task: Visit, picture: Picture) -> None:
    """With a ``map_index_template``, the instances of a mapped gate are named after their integrations."""
    page = visit_task("all_sources", "wait_for_source/mapped")
    for integration, state in ((GOOGLE, "Success"), (APPSFLYER, "Failed")):
        expect(page.get_by_role("row").filter(has_text=integration)).to_contain_text(state)
    picture(page, "mapped-gate")


def test_wrong_arguments(visit: Visit, stage: LocalAirflow, picture: Picture) -> None:
    """Airflow's page of import errors names the class, the task and the parameter, and says what to do."""
    dags = Path(stage.env["AIRFLOW__CORE__DAGS_FOLDER"])
    for name, task in (
        ("operator", "FlokitTriggerSyncOperator(task_id='sync', integration_id='int_a', poll_interval=0)"),
        ("sensor", "FlokitIntegrationSensor(task_id='gate', integration_id='int_a', integration_type='stripe')"),
    ):
        (dags / f"wrong_{name}.py").write_text(WRONG_DAG.format(task=task))
    stage.wait_for(lambda: len(stage.query("SELECT 1 FROM import_error")) == 2, "Airflow has read the DAGs")
    page = visit("/")
    page.get_by_role("button", name="Dag Import Errors").click()
    for name in ("operator", "sensor"):
        page.get_by_role("button", name=f"wrong_{name}.py").click()
    errors = page.get_by_role("dialog")
    expect(errors).to_contain_text("FlokitTriggerSyncOperator 'sync': poll_interval is 0: give a number of seconds")
    expect(errors).to_contain_text("FlokitIntegrationSensor 'gate': integration_type and integration_id exclude")
    picture(page, "import-errors", 1000)
