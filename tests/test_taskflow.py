"""The operator and the sensor in DAGs as authors write them: outputs, mapping, groups, setups, teardowns, ``@task``."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, PokeReturnValue, XComArg, chain, task, task_group, teardown

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # Airflow's own machinery for running tasks in one process warns.
    pytest.mark.filterwarnings("default"),
]
STRIPE, ADJUST, ADAPTY = "int_01hx4j7stripe", "int_01hx4j7adjust", "int_01hx4j7adapty"


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
    """One sync per integration that a ``@task`` lists; the next tasks get all outputs in order."""
    with dag_of("expand") as dag:

        @task
        def list_ids() -> list[str]:
            return [STRIPE, ADJUST]

        syncs = FlokitTriggerSyncOperator.partial(task_id="sync").expand(integration_id=list_ids())
        ready = FlokitIntegrationSensor(task_id="ready", receipt=syncs.output)

        @task
        def keep(receipts: Any, states: list[dict[str, Any]]) -> None:
            seen.update(sync_ids=[receipt["sync_id"] for receipt in receipts], states=states)

        keep(syncs.output, ready.output)
    assert both.run(dag).state == "success"
    # Airflow may run the two in any order.
    sync_ids = {sync.integration_id: sync.sync_id for sync in both.syncs}
    assert seen["sync_ids"] == [sync_ids[STRIPE], sync_ids[ADJUST]]
    assert [state["id"] for state in seen["states"]] == [STRIPE, ADJUST]


def test_expand_kwargs(both: SimulatedFlokit) -> None:
    """Settings that differ by integration come as one dict each, for the operator and the sensor."""
    with dag_of("expand_kwargs") as dag:
        FlokitTriggerSyncOperator.partial(task_id="sync", wait_for_completion=True).expand_kwargs(
            [
                {"integration_id": STRIPE, "timeout": 20.0},
                {"integration_type": "adjust", "skip_if_synced_within": timedelta(days=1)},
            ]
        )
        FlokitIntegrationSensor.partial(task_id="ready").expand_kwargs(
            [{"integration_id": STRIPE}, {"integration_type": "adjust", "fail_on_disconnected": False}]
        )
    run = both.run(dag)
    assert run.states == dict.fromkeys(("sync[0]", "sync[1]", "ready[0]", "ready[1]"), "success")
    assert [sync.integration_id for sync in both.syncs] == [STRIPE]


def test_mapped_task_group(both: SimulatedFlokit) -> None:
    """In a mapped task group each sensor waits for the sync of its own instance."""
    both.plan(ADJUST, Sync(duration=0.2, error="bad token"))
    with dag_of("groups") as dag:

        @task_group
        def source(integration_id: str) -> None:
            sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=integration_id)
            FlokitIntegrationSensor(task_id="ready", receipt=sync.output)

        source.expand(integration_id=[STRIPE, ADJUST])
    run = both.run(dag)
    assert run.states == {
        "source.sync[0]": "success",
        "source.sync[1]": "success",
        "source.ready[0]": "success",
        "source.ready[1]": "failed",
    }
    assert "bad token" in run.reasons["source.ready[1]"]


@pytest.mark.parametrize(("error", "expected"), [(None, "success"), ("bad secret", "upstream_failed")])
def test_setup_and_teardown(both: SimulatedFlokit, error: str | None, expected: str) -> None:
    """As a setup the sync holds back what it guards, and its teardown runs if it succeeded."""
    both.plan(STRIPE, Sync(duration=0.2, error=error))
    with dag_of("setup") as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE, wait_for_completion=True).as_setup()

        @task
        def load() -> None:
            pass

        @teardown
        def clean() -> None:
            pass

        sync >> load() >> clean().as_teardown(setups=sync)
    run = both.run(dag)
    assert run.states["load"] == expected
    assert run.states["clean"] == expected
    assert run.state == ("failed" if error else "success")


def test_a_sync_as_teardown(both: SimulatedFlokit) -> None:
    """As a teardown the sync is requested although the work before it failed, and does not change the run's state."""
    with dag_of("teardown") as dag:

        @task
        def work() -> None:
            raise ValueError("broken")

        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE).as_teardown()
        work() >> sync
    run = both.run(dag)
    assert (run.state, run.states) == ("failed", {"work": "failed", "sync": "success"})
    assert len(both.syncs) == 1


def test_chained_with_task_sensor_and_decorators(both: SimulatedFlokit, seen: dict[str, Any]) -> None:
    """Between a ``@task.sensor`` and a ``@task``, with ``chain``, each waits for the one before it."""
    with dag_of("chained") as dag:

        @task.sensor(poke_interval=0.05, timeout=5)
        def window_is_open() -> PokeReturnValue:
            return PokeReturnValue(is_done=True, xcom_value=STRIPE)

        integration_id = window_is_open()
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=integration_id, wait_for_completion=True)
        ready = FlokitIntegrationSensor(task_id="ready", integration_type=["stripe", "adjust"])

        @task
        def load(states: list[dict[str, Any]]) -> None:
            seen["states"] = states

        loaded = load(ready.output)
        chain(integration_id, sync, ready, loaded)
    assert isinstance(sync.output, XComArg)
    assert both.run(dag).state == "success"
    assert [state["type"] for state in seen["states"]] == ["stripe", "adjust"]
    assert [run.integration_id for run in both.syncs] == [STRIPE]


def test_default_args() -> None:
    """A DAG's ``default_args`` reach both, the task's own arguments win, and what is required may come from there."""
    shared = {
        "flokit_conn_id": "other",
        "deferrable": True,
        "integration_id": STRIPE,
        "start_timeout": 60,
        "poll_interval": 5,
        "poke_interval": 7,
        "retries": 2,
    }
    with dag_of("defaults", default_args=shared):
        sync = FlokitTriggerSyncOperator(task_id="sync", start_timeout=10)
        ready = FlokitIntegrationSensor(task_id="ready", deferrable=False)
    assert (sync.flokit_conn_id, sync.deferrable, sync.integration_id) == ("other", True, STRIPE)
    assert (sync.start_timeout, sync.poll_interval, sync.retries) == (10.0, 5.0, 2)
    assert (ready.flokit_conn_id, ready.deferrable, ready.integration_id) == ("other", False, STRIPE)
    assert (ready.start_timeout, ready.poke_interval, ready.retries) == (60.0, 7.0, 2)


def _finish_once_refused(flokit: SimulatedFlokit) -> None:
    while not any(request.status == 409 for request in flokit.requests):
        time.sleep(0.05)
    flokit.finish_sync(ADJUST)


@pytest.mark.parametrize("conflict", [False, True])
def test_expand_over_receipts(both: SimulatedFlokit, conflict: bool) -> None:
    """``.expand(receipt=sync.output)`` makes one sensor per sync, for fresh and attached ones too."""
    if conflict:
        both.configure(when_running="conflict")
        both.run_scheduled_sync(ADJUST, Sync(start_delay=0, duration=math.inf))
        threading.Thread(target=_finish_once_refused, args=(both,), daemon=True).start()
    both.plan(ADJUST, Sync(duration=0.2, error="bad token"))
    with dag_of("receipts") as dag:
        syncs = FlokitTriggerSyncOperator.partial(task_id="sync").expand_kwargs(
            [{"integration_id": STRIPE, "skip_if_synced_within": timedelta(days=1)}, {"integration_id": ADJUST}]
        )
        FlokitIntegrationSensor.partial(task_id="ready").expand(receipt=syncs.output)
    run = both.run(dag)
    assert [run.states[f"ready[{index}]"] for index in (0, 1)] == ["success", "success" if conflict else "failed"]
    if not conflict:
        assert run.reasons["ready[1]"].startswith(f"{ADJUST} (adjust) is in error: bad token")


@pytest.mark.parametrize(
    "template", ["{{ ti.xcom_pull('sync') | tojson }}", "{{ ti.xcom_pull(task_ids='sync') }}"], ids=["JSON", "native"]
)
def test_a_receipt_may_come_from_a_template(both: SimulatedFlokit, template: str) -> None:
    """As JSON text, or as it is where the DAG renders native objects."""
    native = "tojson" not in template
    with dag_of("templates", render_template_as_native_obj=native) as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        sync >> FlokitIntegrationSensor(task_id="ready", receipt=template)
    assert both.run(dag).state == "success"


def test_a_receipt_that_a_template_made_a_python_text_of_is_refused(both: SimulatedFlokit) -> None:
    """The reason names what to write instead."""
    with dag_of("python_text") as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        sync >> FlokitIntegrationSensor(task_id="ready", receipt="{{ ti.xcom_pull('sync') }}")
    run = both.run(dag)
    assert run.states["ready"] == "failed"
    assert "receipt=sync.output" in run.reasons["ready"]


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


def test_every_mapped_sync_hands_on_its_receipt(both: SimulatedFlokit) -> None:
    """Three mapped syncs, one of them fresh, are three loads: the return value is never None."""
    both.add_integration(ADAPTY, type="adapty")
    names, loaded = [STRIPE, ADJUST, ADAPTY], []
    both.set_state(STRIPE, last_synced_at=datetime.now(tz=UTC))
    with dag_of("three") as dag:
        sync = FlokitTriggerSyncOperator.partial(task_id="sync", skip_if_synced_within=timedelta(minutes=30)).expand(
            integration_id=names
        )

        @task
        def load(x: Any) -> None:
            loaded.append(x["integration_id"])

        load.expand(x=sync.output)
    assert both.run(dag).states == {f"{name}[{number}]": "success" for name in ("sync", "load") for number in range(3)}
    assert sorted(loaded) == sorted(names)
    assert sorted(run.integration_id for run in both.syncs) == sorted([ADJUST, ADAPTY])
