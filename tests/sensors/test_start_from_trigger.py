"""Starting the wait without a worker: where it is done, where not, and that the trigger gets everything."""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_flokit.errors import FlokitAuthenticationError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import TaskInstance, airflow_in

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

STRIPE = "int_01hx4j7stripe"
PLAIN = AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS
TEMPLATES = AIRFLOW_V_3_3_PLUS


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        ({"integration_id": STRIPE}, PLAIN),
        ({"integration_id": [STRIPE, "int_b"]}, PLAIN),
        ({"integration_id": STRIPE, "synced_after": datetime(2024, 3, 15, tzinfo=UTC)}, PLAIN),
        ({"integration_id": STRIPE, "synced_after": "{{ data_interval_end }}"}, TEMPLATES),
        ({"integration_id": ["{{ params.name }}"]}, TEMPLATES),
        ({"integration_id": STRIPE, "execution_timeout": timedelta(hours=1)}, False),
        ({"integration_id": "{{ ti.xcom_pull('x') }}"}, False),
        ({"integration_id": "{{ var.value.name }}"}, False),
        ({"integration_id": STRIPE, "flokit_conn_id": "{{ conn.x.login }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ logical_date | ts }}"}, TEMPLATES),
        ({"integration_id": "{{ dag_run.conf['id'] }}"}, TEMPLATES),
        ({"integration_id": "int_{{ params.name }}_{{ ds_nodash }}"}, TEMPLATES),
        ({"integration_id": STRIPE, "synced_after": "{{ dag_run.conf['at'] | default(ds) }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ prev_start_date_success }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ prev_data_interval_end_success }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ macros.ds_add(ds, 1) }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ a_macro_of_the_dag(ds) }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ ds | a_filter_of_the_dag }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{% if ds %}{{ ds | a_filter_of_the_dag }}{% endif %}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{% if ds is a_test_of_the_dag %}x{% endif %}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ task_state_store.get('x') }}"}, False),
        ({"integration_id": STRIPE, "synced_after": "{{ ds "}, False),
    ],
)
def test_it_starts_in_the_triggerer_where_that_can_render_its_arguments(
    arguments: dict[str, Any], started: bool
) -> None:
    """Elsewhere the worker defers, so deferrable is always on."""
    sensor = FlokitIntegrationSensor(task_id="wait", start_from_trigger=True, **arguments)
    assert sensor.start_from_trigger is started
    assert (sensor.start_trigger_args is not None) is started
    assert sensor.deferrable is True


def test_an_xcom_argument_is_left_to_a_worker() -> None:
    """The triggerer would get it unresolved."""
    with DAG("d", schedule=None):
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        sensor = FlokitIntegrationSensor(task_id="wait", receipt=sync.output, start_from_trigger=True)
    assert sensor.start_from_trigger is False


def test_nothing_is_set_on_the_class() -> None:
    """A mapped sensor would otherwise start with default arguments."""
    FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE, start_from_trigger=True)
    assert FlokitIntegrationSensor.start_trigger_args is None
    assert FlokitIntegrationSensor.start_from_trigger is False


@pytest.mark.skipif(not PLAIN, reason="Airflow 3.0 to 3.2 ignore start_from_trigger")
def test_a_naive_time_is_in_airflows_timezone() -> None:
    """The triggerer gets it as text, so its zone is settled when the DAG is read."""
    naive = datetime(2026, 3, 15, 6)  # noqa: DTZ001 - a naive one is what this is about
    with airflow_in("America/New_York"):
        sensor = FlokitIntegrationSensor(
            task_id="wait", integration_id=STRIPE, synced_after=naive, start_from_trigger=True
        )
    assert sensor.start_trigger_args.trigger_kwargs["synced_after"] == "2026-03-15T10:00:00+00:00"


@pytest.mark.skipif(not PLAIN, reason="Airflow 3.0 to 3.2 ignore start_from_trigger")
def test_the_trigger_started_by_the_scheduler_waits_as_the_deferred_one(flokit: SimulatedFlokit) -> None:
    """Same arguments, same event, same result; and a worker that runs it nevertheless defers."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = FlokitIntegrationSensor(
        task_id="wait", integration_id=[STRIPE], start_from_trigger=True, poke_interval=7, timeout=11, silent_fail=True
    )
    args = sensor.start_trigger_args
    module, _, name = args.trigger_cls.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**args.trigger_kwargs)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": TaskInstance(sensor)})
    unlike = {"deadline": None, "try_number": None}
    assert trigger.serialize()[1] == deferred.value.trigger.serialize()[1] | unlike
    assert deferred.value.timeout == args.timeout
    flokit.set_state(STRIPE, status="connected")

    async def event() -> Any:
        return (await anext(trigger.run())).payload

    (state,) = getattr(sensor, args.next_method)({}, event=asyncio.run(event()))
    assert state["id"] == STRIPE


@pytest.mark.skipif(not PLAIN, reason="Airflow 3.0 to 3.2 ignore start_from_trigger")
def test_a_wait_that_no_worker_began_fails_at_once_on_what_can_never_be(flokit: SimulatedFlokit) -> None:
    """Its first look is the triggerer's: a wrong key is final there."""
    flokit.add_integration(STRIPE)
    flokit.connect(api_key="fk_wrong_key")
    sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE, start_from_trigger=True)
    args = sensor.start_trigger_args
    trigger = FlokitIntegrationTrigger(**args.trigger_kwargs)

    async def event() -> Any:
        return (await anext(trigger.run())).payload

    with pytest.raises(FlokitAuthenticationError):
        getattr(sensor, args.next_method)({}, event=asyncio.run(event()))
