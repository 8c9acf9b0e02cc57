"""The sensor: what it waits for without and with receipts, one or several, and what its task shows."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import DEFERRED, RESCHEDULE, WORKER, End, TaskInstance, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

STRIPE, ADJUST, LIST = "int_01hx4j7stripe", "int_01hx4j7adjust", "/v1/integrations"
MODES = pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)


def sense(mode: str = WORKER, **arguments: Any) -> End:
    """Run the sensor."""
    arguments = {"poke_interval": 0.03, "timeout": 20, **arguments}
    modes = {"deferrable": mode == DEFERRED, "mode": "reschedule" if mode == RESCHEDULE else "poke"}
    return run(lambda: FlokitIntegrationSensor(task_id="wait", **modes, **arguments), mode)


def receipt_of(integration_id: str, **arguments: Any) -> dict[str, Any]:
    """Trigger a sync and return its receipt."""
    operator = FlokitTriggerSyncOperator(task_id="sync", integration_id=integration_id, **arguments)
    receipt: dict[str, Any] = run(lambda: operator, WORKER).value
    return receipt


def ids(ended: End) -> list[str]:
    """Return the ids of a list of states."""
    return [state["id"] for state in ended.value]


# What it waits for


@MODES
@pytest.mark.parametrize(
    ("status", "settings", "ends"),
    [
        ("connected", {}, "success"),
        ("error", {}, "FlokitSyncFailedError"),
        ("disconnected", {}, "FlokitDisconnectedError"),
        ("syncing", {"timeout": 0.2}, "AirflowSensorTimeout"),
        ("paused", {"timeout": 0.2}, "AirflowSensorTimeout"),
        ("disconnected", {"fail_on_disconnected": False, "timeout": 0.2}, "AirflowSensorTimeout"),
    ],
)
def test_without_a_receipt_the_present_status_decides(
    flokit: SimulatedFlokit, mode: str, status: str, settings: dict[str, Any], ends: str
) -> None:
    """The left column of the verdict's table."""
    flokit.add_integration(STRIPE, status=status)
    ended = sense(mode, integration_id=STRIPE, **settings)
    assert (ended.error or ended.state) == ends


@MODES
def test_a_disconnected_integration_may_be_waited_for(flokit: SimulatedFlokit, mode: str) -> None:
    """``fail_on_disconnected=False`` waits until it is connected again."""
    flokit.add_integration(STRIPE)
    flokit.script(STRIPE, [{"status": "disconnected"}] * 3 + [{"status": "connected"}])
    assert sense(mode, integration_id=STRIPE, fail_on_disconnected=False).state == "success"


@MODES
@pytest.mark.parametrize("as_text", [True, False])
def test_synced_after_waits_for_a_later_success(flokit: SimulatedFlokit, mode: str, as_text: bool) -> None:
    """An integration that is connected but has not synced since is not ready."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0.1, duration=0.1))
    moment = datetime.now(tz=UTC)
    receipt_of(STRIPE)
    ended = sense(mode, integration_id=STRIPE, synced_after=str(moment) if as_text else moment)
    assert ended.state == "success"
    assert datetime.fromisoformat(ended.value["last_synced_at"]) >= moment


@MODES
def test_a_receipt_and_a_time_have_both_to_be_met(flokit: SimulatedFlokit, mode: str) -> None:
    """The sync is done, but what it brought is not late enough: the next one's is."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    receipt = receipt_of(STRIPE)
    moment = datetime.now(tz=UTC) + timedelta(seconds=0.2)
    flokit.run_scheduled_sync(STRIPE, Sync(start_delay=0.3, duration=0))
    ended = sense(mode, receipt=receipt, synced_after=moment)
    assert datetime.fromisoformat(ended.value["last_synced_at"]) >= moment


@MODES
def test_several_are_ready_when_all_are_and_come_back_in_order(flokit: SimulatedFlokit, mode: str) -> None:
    """A list of ids gives a list of states, in the order asked for."""
    flokit.add_integration(STRIPE)
    flokit.add_integration(ADJUST, type="adjust")
    flokit.script(STRIPE, [{"status": "syncing"}] * 3 + [{"status": "connected"}])
    assert ids(sense(mode, integration_id=[STRIPE, ADJUST])) == [STRIPE, ADJUST]


@MODES
def test_several_fail_as_soon_as_one_does(flokit: SimulatedFlokit, mode: str) -> None:
    """The failed one is named first, then what else is not ready."""
    flokit.add_integration("int_fine", type="warehouse")
    flokit.add_integration(ADJUST, type="adjust", status="syncing")
    flokit.add_integration(STRIPE, status="error", error_message="bad secret")
    ended = sense(mode, integration_id=["int_fine", ADJUST, STRIPE])
    assert ended.error == "FlokitSyncFailedError"
    assert ended.message.startswith(f"{STRIPE} (stripe) is in error: bad secret")
    assert f"{ADJUST} (adjust) is syncing" in ended.message
    assert "int_fine" not in ended.message


@MODES
def test_types_stand_for_their_one_integration(flokit: SimulatedFlokit, mode: str) -> None:
    """A list of types gives a list of states."""
    flokit.add_integration(STRIPE, type="stripe")
    flokit.add_integration(ADJUST, type="adjust")
    assert ids(sense(mode, integration_type=["adjust", "stripe"])) == [ADJUST, STRIPE]
    assert sense(mode, integration_type="stripe").value["id"] == STRIPE


@MODES
@pytest.mark.parametrize(
    ("count", "error", "says"),
    [(0, "FlokitNotFoundError", "adjust"), (2, "FlokitAmbiguousTypeError", "int_0, int_1")],
)
def test_a_type_that_is_not_unique_is_refused(
    flokit: SimulatedFlokit, mode: str, count: int, error: str, says: str
) -> None:
    """None or several of a type is a permanent error that says what there is."""
    flokit.add_integration(ADJUST, type="adjust")
    for number in range(count):
        flokit.add_integration(f"int_{number}", type="stripe")
    ended = sense(mode, integration_type="stripe")
    assert ended.error == error
    assert says in ended.message


def test_poke_by_itself_says_not_yet_ready_or_raises(flokit: SimulatedFlokit) -> None:
    """``poke()`` works as that of any sensor, outside ``execute()`` too."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE)
    assert not sensor.poke({})
    flokit.set_state(STRIPE, status="connected")
    assert sensor.poke({}).xcom_value["id"] == STRIPE


# The API


@MODES
def test_a_wait_survives_an_api_that_is_down_for_a_while(flokit: SimulatedFlokit, mode: str) -> None:
    """Transient failures while polling never end a wait."""
    flokit.add_integration(STRIPE)
    for fault in (Fault.answer(503), Fault.drop(), Fault.answer(200, "html"), Fault.rate_limited(0)):
        flokit.fail(fault)
    assert sense(mode, integration_id=STRIPE).state == "success"


@MODES
def test_an_integration_that_the_list_does_not_hold_is_read_singly(flokit: SimulatedFlokit, mode: str) -> None:
    """The list may lag behind: the single read decides."""
    flokit.add_integration(STRIPE)
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), path=LIST, times=None)
    assert sense(mode, integration_id=STRIPE).state == "success"


def test_a_read_only_key_is_enough_to_wait(flokit: SimulatedFlokit) -> None:
    """Waiting only reads."""
    flokit.add_integration(STRIPE)
    flokit.connect(api_key=flokit.read_only_key)
    assert sense(integration_id=STRIPE).state == "success"


def test_many_integrations_take_one_request_per_look(flokit: SimulatedFlokit) -> None:
    """All are judged in one observation."""
    names = [f"int_{number}" for number in range(30)]
    for name in names:
        flokit.add_integration(name)
    assert ids(sense(integration_id=names)) == names
    assert [r.path for r in flokit.requests] == [LIST]


# The task


def test_every_setting_reaches_the_trigger(flokit: SimulatedFlokit) -> None:
    """Nothing the user set is lost on the way into the triggerer."""
    flokit.connect("other")
    flokit.add_integration(STRIPE, last_synced_at="2024-03-15T12:00:00Z")
    sensor = FlokitIntegrationSensor(
        task_id="wait",
        integration_id=[STRIPE],
        synced_after="2024-03-15T13:00:00Z",
        flokit_conn_id="other",
        deferrable=True,
        poke_interval=timedelta(seconds=7),
        timeout=timedelta(seconds=111),
        fail_on_disconnected=False,
        silent_fail=True,
        execution_timeout=timedelta(seconds=55),
    )
    ti = TaskInstance(sensor, try_number=3)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": ti})
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_flokit.triggers.flokit.FlokitIntegrationTrigger"
    assert arguments.pop("deadline") == pytest.approx(ti.start_date.timestamp() + 111, abs=5)
    assert arguments.pop("execution_deadline") == pytest.approx(ti.start_date.timestamp() + 55, abs=5)
    assert arguments == {
        "integration_id": [STRIPE],
        "integration_type": None,
        "receipt": None,
        "synced_after": "2024-03-15T13:00:00+00:00",
        "flokit_conn_id": "other",
        "poll_interval": 7.0,
        "timeout": 111.0,
        "start_timeout": 300.0,
        "fail_on_disconnected": False,
        "tolerate_failures": True,
        "try_number": 3,
    }


def test_the_receipt_and_its_settings_reach_the_trigger(flokit: SimulatedFlokit) -> None:
    """The baseline travels with the receipt, and is never read again."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=60))
    receipt = receipt_of(STRIPE)
    sensor = FlokitIntegrationSensor(task_id="wait", receipt=receipt, deferrable=True, start_timeout=22)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": TaskInstance(sensor)})
    arguments = deferred.value.trigger.serialize()[1]
    assert (arguments["receipt"], arguments["integration_id"]) == (receipt, None)
    assert arguments["start_timeout"] == 22


def test_templates_are_rendered() -> None:
    """All fields that say what to wait for are templated."""
    with DAG("d", schedule=None):
        sensor = FlokitIntegrationSensor(
            task_id="wait", integration_id=["{{ name }}"], synced_after="{{ moment }}", flokit_conn_id="{{ conn }}"
        )
    sensor.render_template_fields({"name": STRIPE, "moment": "2024-03-15T13:00:00Z", "conn": "c"})
    rendered = (sensor.integration_id, sensor.synced_after, sensor.flokit_conn_id)
    assert rendered == ([STRIPE], "2024-03-15T13:00:00Z", "c")


@pytest.mark.parametrize(
    ("settings", "pause"),
    [
        ({}, 60),
        ({"exponential_backoff": True}, 160),
        ({"exponential_backoff": True, "max_wait": timedelta(seconds=120)}, 120),
    ],
)
def test_exponential_backoff_stretches_the_pokes(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], pause: float
) -> None:
    """By as long as the wait has lasted, here 100 s; ``max_wait`` bounds it."""
    flokit.add_integration(STRIPE, status="syncing")
    now = datetime.now(tz=UTC)
    monkeypatch.setattr("airflow_provider_flokit.sensors.flokit.first_poke_at", lambda *_: now - timedelta(seconds=100))
    sensor = FlokitIntegrationSensor(
        task_id="wait", integration_id=STRIPE, mode="reschedule", poke_interval=60, timeout=3600, **settings
    )
    with pytest.raises(AirflowRescheduleException) as again:
        sensor.execute({"ti": TaskInstance(sensor)})
    assert (again.value.reschedule_date - now).total_seconds() == pytest.approx(pause, abs=15)


@MODES
def test_the_log_tells_the_story_in_a_few_lines(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """What is waited for, each change of status, and the end; nothing per look, nothing twice."""
    flokit.add_integration(STRIPE, last_synced_at="2024-03-15T12:00:00Z")
    states = [{"status": "syncing"}] * 3 + [{"status": "paused"}] * 3 + [{"status": "connected"}]
    flokit.script(STRIPE, states)
    lines: list[str] = []
    log = logging.Logger("story")  # noqa: LOG001 - apart from everybody else's logging
    log.addFilter(lambda record: lines.append(record.getMessage()))  # type: ignore[arg-type,func-returns-value]
    monkeypatch.setattr(FlokitIntegrationSensor, "log", log)
    assert sense(mode, integration_id=STRIPE).state == "success"
    beginning, *middle, end = lines
    assert beginning.startswith(f"Waiting for {STRIPE}, at most 20 s, until ")
    assert f"Now: {STRIPE} (stripe) is syncing, last synced 2024-03-15 12:00:00 UTC" in beginning
    assert end == f"Ready: {STRIPE}."
    if mode == WORKER:
        expected = ["has the unknown status 'paused'", "is connected; it was paused"]
    elif mode == RESCHEDULE:  # each poke says why it goes on
        middle = [line for line in middle if line.startswith("Still waiting after ")]
        expected = ["is syncing"] * 2 + ["'paused'"] * 3
    else:  # what happened meanwhile is in the triggerer's part of the log
        expected = []
    assert len(middle) == len(expected)
    assert all(words in line for words, line in zip(expected, middle, strict=True))
