"""The operator and the sensor in DAGs as authors write them: outputs, mapping, templates, ``@task``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import ADAPTY, ADJUST, STRIPE

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # Airflow's own machinery for running tasks in one process warns.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def seen() -> dict[str, Any]:
    """Return where the DAGs' own tasks, which run in this process, put what they were given."""
    return {}


@pytest.fixture
def both(flokit: SimulatedFlokit) -> SimulatedFlokit:
    """Return a simulator with two integrations."""
    flokit.add_integration(STRIPE, type="stripe")
    flokit.add_integration(ADJUST, type="adjust")
    return flokit


def dag_of(name: str, **settings: Any) -> DAG:
    """Return an empty DAG."""
    return DAG(name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **settings)


def test_outputs_go_to_tasks_and_sensors(both: SimulatedFlokit, seen: dict[str, Any]) -> None:
    """``.output`` is the receipt, or the sensor's state; it makes the dependency by itself."""
    with dag_of("outputs") as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        ready = FlokitIntegrationSensor(task_id="ready", receipt=sync.output)

        @task
        def keep(receipt: dict[str, Any], state: dict[str, Any]) -> None:
            seen.update(receipt=receipt, state=state)

        keep(sync.output, ready.output)
    assert dag.task_dict["ready"].upstream_task_ids == {"sync"}
    assert dag.task_dict["keep"].upstream_task_ids == {"sync", "ready"}
    assert both.run(dag).state == "success"
    assert seen["receipt"]["sync_id"] == both.syncs[0].sync_id
    assert seen["state"]["id"] == STRIPE


def test_every_templated_value_may_come_from_a_task(both: SimulatedFlokit) -> None:
    """Ids, types, a time and the connection that other tasks return are read before the task runs."""
    both.connect("other")
    with dag_of("values") as dag:

        @task(multiple_outputs=True)
        def config() -> dict[str, str]:
            return {"id": STRIPE, "type": "adjust", "since": "2020-01-01T00:00:00Z", "conn_id": "other"}

        given = config()
        FlokitTriggerSyncOperator(
            task_id="sync", integration_type=given["type"], flokit_conn_id=given["conn_id"], wait_for_completion=True
        ) >> FlokitIntegrationSensor(
            task_id="ready",
            integration_id=[given["id"], ADJUST],
            synced_after=given["since"],
            flokit_conn_id=given["conn_id"],
        )
        FlokitIntegrationSensor(task_id="of_type", integration_type=given["type"])
    assert dag.task_dict["of_type"].upstream_task_ids == {"config"}
    assert both.run(dag).state == "success"
    assert [sync.integration_id for sync in both.syncs] == [ADJUST]


def test_expand_over_a_tasks_result(both: SimulatedFlokit, seen: dict[str, Any]) -> None:
    """
    One sync per integration that a ``@task`` lists, one of them fresh: each hands on its receipt, which is never None.

    One sensor that gets them all gives all states in that order; a task that is mapped over them runs for each.
    """
    both.add_integration(ADAPTY, type="adapty")
    both.set_state(STRIPE, last_synced_at=datetime.now(tz=UTC))
    names, loaded = [STRIPE, ADJUST, ADAPTY], []
    with dag_of("expand") as dag:

        @task
        def list_ids() -> list[str]:
            return names

        syncs = FlokitTriggerSyncOperator.partial(task_id="sync", skip_if_synced_within=timedelta(minutes=30)).expand(
            integration_id=list_ids()
        )
        ready = FlokitIntegrationSensor(task_id="ready", receipt=syncs.output)

        @task
        def keep(states: list[dict[str, Any]]) -> None:
            seen["ids"] = [state["id"] for state in states]

        @task
        def load(receipt: Any) -> None:
            loaded.append(receipt["integration_id"])

        keep(ready.output)
        load.expand(receipt=syncs.output)
    assert both.run(dag).state == "success"
    assert sorted(sync.integration_id for sync in both.syncs) == sorted([ADJUST, ADAPTY])
    assert seen["ids"] == names
    assert sorted(loaded) == sorted(names)


def test_default_args() -> None:
    """A DAG's ``default_args`` reach both, the task's own arguments win, and what is required may come from there."""
    shared = {"flokit_conn_id": "other", "deferrable": True, "integration_id": STRIPE, "poke_interval": 7, "retries": 2}
    with dag_of("defaults", default_args=shared):
        sync = FlokitTriggerSyncOperator(task_id="sync", flokit_conn_id="its_own")
        ready = FlokitIntegrationSensor(task_id="ready", deferrable=False)
    assert (sync.flokit_conn_id, sync.deferrable, sync.integration_id, sync.retries) == ("its_own", True, STRIPE, 2)
    assert (ready.flokit_conn_id, ready.deferrable, ready.integration_id) == ("other", False, STRIPE)
    assert (ready.poke_interval, ready.retries) == (7.0, 2)


def test_expand_over_receipts(both: SimulatedFlokit) -> None:
    """``.expand(receipt=sync.output)`` makes one sensor per sync: for a fresh one, one attached to, one that fails."""
    both.add_integration(ADAPTY, type="adapty")
    both.fail(409, method="POST", path=f"*/{ADJUST}/sync")
    attached = {"status": "connected", "last_synced_at": datetime.now(tz=UTC)}
    both.script(ADJUST, [{"status": "syncing"}] * 3 + [attached])
    both.plan(ADAPTY, Sync(duration=0.2, error="bad token"))
    with dag_of("receipts") as dag:
        syncs = FlokitTriggerSyncOperator.partial(task_id="sync").expand_kwargs(
            [
                {"integration_id": STRIPE, "skip_if_synced_within": timedelta(days=1)},
                {"integration_id": ADJUST},
                {"integration_id": ADAPTY},
            ]
        )
        FlokitIntegrationSensor.partial(task_id="ready").expand(receipt=syncs.output)
    run = both.run(dag)
    assert [run.states[f"ready[{index}]"] for index in range(3)] == ["success", "success", "failed"]
    assert run.reasons["ready[2]"].startswith(f"{ADAPTY} is in error: bad token")
    assert [sync.integration_id for sync in both.syncs] == [ADAPTY]


@pytest.mark.parametrize(
    ("template", "native", "says"),
    [
        ("{{ ti.xcom_pull('sync') | tojson }}", False, ""),
        ("{{ ti.xcom_pull('sync') }}", True, ""),
        ("{{ ti.xcom_pull('sync') }}", False, "receipt=sync.output"),
    ],
    ids=["JSON", "native", "Python text"],
)
def test_a_receipt_may_come_from_a_template(both: SimulatedFlokit, template: str, native: bool, says: str) -> None:
    """As JSON text, or as it is where the DAG renders native objects; for a Python text one is told what to write."""
    with dag_of("templates", render_template_as_native_obj=native) as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        sync >> FlokitIntegrationSensor(task_id="ready", receipt=template)
    run = both.run(dag)
    assert run.states["ready"] == ("failed" if says else "success")
    assert says in run.reasons.get("ready", "")


def test_a_rescheduled_sensor_goes_on_with_its_wait(both: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each poke finds in Airflow when the first one was; the timeout counts from there."""
    monkeypatch.setattr(FlokitIntegrationTrigger, "SETTLE", 0.0)
    both.set_state(STRIPE, status="syncing")
    both.script(STRIPE, [{"status": "syncing"}] * 3 + [{"status": "connected"}])
    both.set_state(ADJUST, status="syncing")
    with dag_of("rescheduled") as dag:
        FlokitIntegrationSensor(task_id="ready", integration_id=STRIPE, mode="reschedule", timeout=60)
        FlokitIntegrationSensor(task_id="late", integration_id=ADJUST, mode="reschedule", timeout=1)
    run = both.run(dag)
    assert run.states == {"ready": "success", "late": "failed"}
    assert "not ready within 1 s" in run.reasons["late"]


def test_expand_over_a_task_that_is_not_mapped(both: SimulatedFlokit) -> None:
    """Airflow makes pairs of the receipt; each says how it is written."""
    with dag_of("not_mapped") as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        FlokitIntegrationSensor.partial(task_id="wait").expand(receipt=sync.output)
    outcome = both.run(dag)
    assert outcome.state == "failed"
    reasons = [text for name, text in outcome.reasons.items() if name.startswith("wait[")]
    assert len(reasons) == 6
    assert all("sync is not mapped: use receipt=sync.output" in reason for reason in reasons)
