"""
Every parameter of the operator and the sensor is checked, and refused by class, task and parameter.

What is wrong with a value, and what is said of it, is in ``tests/gate/test_conditions.py``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from tests.modes import STRIPE, WORKER, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

OPERATOR, SENSOR = FlokitTriggerSyncOperator, FlokitIntegrationSensor


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (OPERATOR, {"wait_for_completion": "true"}, "wait_for_completion is"),
        (OPERATOR, {"deferrable": None}, "deferrable is"),
        (OPERATOR, {"poll_interval": 0}, "poll_interval is"),
        (OPERATOR, {"timeout": "30"}, "timeout is"),
        (OPERATOR, {"start_timeout": -1}, "start_timeout is"),
        (OPERATOR, {"skip_if_synced_within": 5}, "skip_if_synced_within is"),
        (OPERATOR, {"skip_if_synced_within": timedelta(hours=-1)}, "skip_if_synced_within is"),
        (OPERATOR, {"integration_id": None}, "give exactly one of integration_id and integration_type"),
        (OPERATOR, {"integration_type": "stripe"}, "give exactly one of"),
        (SENSOR, {"deferrable": "true"}, "deferrable is"),
        (SENSOR, {"fail_on_disconnected": None}, "fail_on_disconnected is"),
        (SENSOR, {"start_from_trigger": 1}, "start_from_trigger is"),
        (SENSOR, {"start_timeout": timedelta(days=-1)}, "start_timeout is"),
        (SENSOR, {"integration_id": None}, "nothing to wait for: give integration_id, integration_type or receipt"),
        (SENSOR, {"integration_type": "stripe"}, "integration_type and integration_id exclude"),
        (SENSOR, {"integration_id": None, "receipt": {}, "integration_type": "a"}, "integration_type and receipt"),
    ],
)
def test_what_needs_no_rendering_is_refused_when_the_dag_is_read(kind: Any, given: dict[str, Any], says: str) -> None:
    """Airflow's import-error page shows nothing but the message: it names class, task and parameter."""
    with pytest.raises(FlokitArgumentError, match=f"{kind.__name__} 'my_task': {says}"):
        kind(task_id="my_task", **{"integration_id": STRIPE, **given})


@pytest.mark.parametrize(
    ("kind", "given", "name"),
    [
        (OPERATOR, {"integration_id": STRIPE, "start_timeout": 60}, "start_timeout"),
        (SENSOR, {"integration_id": STRIPE, "start_timeout": 60}, "start_timeout"),
        (SENSOR, {"receipt": "{{ r }}", "fail_on_disconnected": False}, "fail_on_disconnected"),
    ],
)
def test_a_setting_without_effect_is_warned_of(kind: Any, given: dict[str, Any], name: str) -> None:
    """The warning points at the DAG's own line."""
    with pytest.warns(UserWarning, match=f"{kind.__name__} 't': {name} has no effect") as warned:
        kind(task_id="t", **given)
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (OPERATOR, {"integration_id": STRIPE, "wait_for_completion": True, "start_timeout": 60}),
        (SENSOR, {"receipt": "{{ r }}", "start_timeout": 60}),
        (SENSOR, {"integration_id": STRIPE, "fail_on_disconnected": False}),
        (SENSOR, {"integration_id": [STRIPE], "receipt": "{{ r }}", "synced_after": "{{ t }}"}),
        (SENSOR, {"integration_id": "{{ a/b }}", "flokit_conn_id": "<< params.conn >>"}),
        (SENSOR, {"integration_id": STRIPE, "poke_interval": timedelta(seconds=5), "timeout": timedelta(hours=1)}),
    ],
)
def test_what_is_fine_passes_without_a_warning(kind: Any, given: dict[str, Any]) -> None:
    """Templated values are judged when they are rendered, not before."""
    assert kind(task_id="t", **given)


@pytest.mark.parametrize(
    ("kind", "name", "rendered", "says"),
    [
        (OPERATOR, "integration_id", "", "rendered to ''"),
        (OPERATOR, "integration_id", ["a", "b"], "expand"),
        (OPERATOR, "integration_type", "None", "None"),
        (OPERATOR, "flokit_conn_id", "", "''"),
        (SENSOR, "integration_id", "[]", "empty list"),
        (SENSOR, "integration_type", None, "None"),
        (SENSOR, "receipt", None, "the operator pushed no return value"),
        (SENSOR, "receipt", ("sync_id", "sync_1"), "sync is not mapped: use receipt=sync.output"),
        (SENSOR, "synced_after", "", "ISO 8601"),
        (SENSOR, "flokit_conn_id", None, "None"),
    ],
)
def test_what_a_template_rendered_to_is_refused_before_any_request(
    flokit: SimulatedFlokit, kind: Any, name: str, rendered: Any, says: str
) -> None:
    """A gate that lost what it waits for must fail, not open; no retry is spent on it."""
    beside = {"integration_id": STRIPE} if name in ("flokit_conn_id", "synced_after") else {}

    def make() -> Any:
        task = kind(task_id="t", **{name: "{{ x }}"}, **beside)
        setattr(task, name, rendered)
        return task

    ended = run(make, WORKER)
    assert ended.error == "FlokitArgumentError"
    assert ended.message.startswith(f"{kind.__name__} 't': {name}")
    assert says in ended.message
    assert issubclass(FlokitArgumentError, AirflowFailException)
    assert flokit.requests == []
