"""The operator and the sensor in DAGs as authors write them: outputs, mapping, groups, setups, teardowns, ``@task``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, PokeReturnValue, XComArg, chain, task, task_group, teardown

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Sync

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # Airflow's own machinery for running tasks in one process warns.
    pytest.mark.filterwarnings("default"),
]
STRIPE, ADJUST = "int_01hx4j7stripe", "int_01hx4j7adjust"


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
    """``.output`` is the sync_id, ``.output[key]`` the other XComs; both make the dependency by themselves."""
    with dag_of("outputs") as dag:
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        ready = FlokitIntegrationSensor(task_id="ready", receipt=sync.output["receipt"])

        @task
        def keep(sync_id: str, state: dict[str, Any]) -> None:
            seen.update(sync_id=sync_id, state=state)

        keep(sync.output, ready.output)
    assert dag.task_dict["ready"].upstream_task_ids == {"sync"}
    assert dag.task_dict["keep"].upstream_task_ids == {"sync", "ready"}
    assert both.run(dag).state == "success"
    assert seen["sync_id"] == both.syncs[0].sync_id
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
        ready = FlokitIntegrationSensor(task_id="ready", receipt=syncs.output["receipt"])

        @task
        def keep(sync_ids: Any, states: list[dict[str, Any]]) -> None:
            seen.update(sync_ids=list(sync_ids), states=states)

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
            FlokitIntegrationSensor(task_id="ready", receipt=sync.output["receipt"])

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


def test_mapping_over_receipts_is_for_task_groups() -> None:
    """Airflow itself maps over return values only; the error comes when the DAG is read, and the docs name the way."""
    with dag_of("unmappable"):
        syncs = FlokitTriggerSyncOperator.partial(task_id="sync").expand(integration_id=[STRIPE, ADJUST])
        ready = FlokitIntegrationSensor.partial(task_id="ready")
        with pytest.raises(ValueError, match="cannot map over XCom with custom key 'receipt'"):
            ready.expand(receipt=syncs.output["receipt"])
