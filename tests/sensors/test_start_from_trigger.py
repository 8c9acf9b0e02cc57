"""Starting the wait without a worker: where it is done, where not, and that the trigger gets everything."""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from tests.modes import STRIPE, TaskInstance, airflow_in, first_event

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

PLAIN = AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS
TEMPLATES = AIRFLOW_V_3_3_PLUS
where_it_is_done = pytest.mark.skipif(not PLAIN, reason="Airflow 3.0 to 3.2 ignore start_from_trigger")


def sensor_of(**arguments: Any) -> FlokitIntegrationSensor:
    """Make a sensor that asks to be started in the triggerer."""
    return FlokitIntegrationSensor(task_id="wait", start_from_trigger=True, **arguments)


@pytest.mark.parametrize(
    ("arguments", "is_started"),
    [
        ({"integration_id": [STRIPE, "int_b"]}, PLAIN),
        ({"synced_after": datetime(2024, 3, 15, tzinfo=UTC)}, PLAIN),
        ({"synced_after": "{{ data_interval_end }}"}, TEMPLATES),
        ({"synced_after": "{{ logical_date | ts }}"}, TEMPLATES),
        ({"synced_after": "{{ dag_run.conf['at'] }}"}, TEMPLATES),
        ({"synced_after": "{{ params.year }}-01-01T{{ params.time }}"}, TEMPLATES),
        ({"synced_after": "{{ ti.xcom_pull('x') }}"}, False),
        ({"synced_after": "{{ task_state_store.get('x') }}"}, False),
        ({"synced_after": "{{ prev_start_date_success }}"}, False),
        ({"synced_after": "{{ macros.ds_add(ds, 1) }}"}, False),
        ({"synced_after": "{{ a_macro_of_the_dag(ds) }}"}, False),
        ({"synced_after": "{{ ds | a_filter_of_the_dag }}"}, False),
        ({"synced_after": "{% if ds %}{{ ds }}{% endif %}"}, False),
        ({"execution_timeout": timedelta(hours=1)}, False),
    ],
    ids=str,
)
def test_it_starts_in_the_triggerer_where_that_is_possible(arguments: dict[str, Any], is_started: bool) -> None:
    """
    Elsewhere the worker defers, so deferrable is always on.

    Only plain values of the run can be rendered in the triggerer: all else asks the supervisor of a task, which hangs
    there, or comes with the DAG, which is not there.
    """
    sensor = sensor_of(**{"integration_id": STRIPE, **arguments})
    assert sensor.start_from_trigger is is_started
    assert (sensor.start_trigger_args is not None) is is_started
    assert sensor.deferrable is True
    # A mapped sensor would start with the default arguments.
    assert FlokitIntegrationSensor.start_trigger_args is None


def test_an_xcom_argument_is_left_to_a_worker() -> None:
    """The triggerer would get it unresolved."""
    with DAG("d", schedule=None):
        sync = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE)
        sensor = sensor_of(receipt=sync.output)
    assert sensor.start_from_trigger is False


def test_native_objects_are_left_to_a_worker() -> None:
    """The triggerer renders to text, so a list would come out as its Python repr."""
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        assert sensor_of(integration_id="{{ params.ids }}").start_from_trigger is False
    if AIRFLOW_V_3_3_PLUS:
        sensor = sensor_of(integration_id="{{ params.ids }}", render_template_as_native_obj=True)
        assert sensor.start_from_trigger is False


@where_it_is_done
def test_a_naive_time_is_in_airflows_timezone() -> None:
    """The triggerer gets it as text, so its zone is settled when the DAG is read."""
    naive = datetime(2026, 3, 15, 6)  # noqa: DTZ001 - a naive one is what this is about
    with airflow_in("America/New_York"):
        args = sensor_of(integration_id=STRIPE, synced_after=naive).start_trigger_args
    assert args.trigger_kwargs["synced_after"] == "2026-03-15T10:00:00+00:00"


@where_it_is_done
def test_the_trigger_started_by_the_scheduler_waits_as_the_deferred_one(flokit: SimulatedFlokit) -> None:
    """Same arguments, same event, same result; and a worker that runs it nevertheless defers."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = sensor_of(integration_id=[STRIPE], poke_interval=7, timeout=30, silent_fail=True)
    args = sensor.start_trigger_args
    module, _, name = args.trigger_cls.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**args.trigger_kwargs)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": TaskInstance(sensor)})
    unlike = {"deadline": None, "try_number": None}
    assert trigger.serialize()[1] == deferred.value.trigger.serialize()[1] | unlike
    assert deferred.value.timeout == args.timeout
    flokit.set_state(STRIPE, status="connected")
    event = asyncio.run(first_event(trigger))
    (state,) = getattr(sensor, args.next_method)({}, event=event)
    assert state["id"] == STRIPE
