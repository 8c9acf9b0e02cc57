"""The sensor: what it waits for without and with receipts, one or several, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import DEFERRED, WORKER, End, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE, ADJUST = "int_01hx4j7stripe", "int_01hx4j7adjust"
MODES = pytest.mark.parametrize("mode", [WORKER, DEFERRED])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)


def sense(mode: str = WORKER, **arguments: Any) -> End:
    """Run the sensor."""
    arguments = {"poke_interval": 0.03, "timeout": 5, "deferrable": mode == DEFERRED, **arguments}
    return run(lambda: FlokitIntegrationSensor(task_id="wait", **arguments), mode)


def receipt_of(integration_id: str, **arguments: Any) -> dict[str, Any]:
    """Trigger a sync and return its receipt."""
    operator = FlokitTriggerSyncOperator(task_id="sync", integration_id=integration_id, **arguments)
    receipt: dict[str, Any] = run(lambda: operator, WORKER).xcoms["receipt"]
    return receipt


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
    flokit: Simulator, mode: str, status: str, settings: dict[str, Any], ends: str
) -> None:
    """The left column of the verdict table."""
    flokit.add_integration(STRIPE, status=status)
    ended = sense(mode, integration_id=STRIPE, **settings)
    assert (ended.error or ended.state) == ends


@MODES
def test_a_disconnected_integration_may_be_waited_for(flokit: Simulator, mode: str) -> None:
    """fail_on_disconnected=False waits until it is connected again."""
    flokit.add_integration(STRIPE)
    flokit.script(STRIPE, [{"status": "disconnected"}] * 3 + [{"status": "connected"}])
    assert sense(mode, integration_id=STRIPE, fail_on_disconnected=False).state == "success"


@MODES
@pytest.mark.parametrize("as_text", [True, False])
def test_synced_after_waits_for_a_later_success(flokit: Simulator, mode: str, as_text: bool) -> None:
    """An integration that is connected but has not synced since is not ready."""
    flokit.add_integration(STRIPE)
    moment = datetime.now(tz=UTC)
    flokit.plan(STRIPE, Sync(start_delay=0.1, duration=0.1))
    receipt_of(STRIPE)
    ended = sense(mode, integration_id=STRIPE, synced_after=str(moment) if as_text else moment)
    assert ended.state == "success"
    assert datetime.fromisoformat(ended.xcoms["return_value"]["last_synced_at"]) >= moment


@MODES
def test_several_are_ready_when_all_are_and_come_back_in_order(flokit: Simulator, mode: str) -> None:
    """A list of ids gives a list of states, in the order asked for."""
    flokit.add_integration(STRIPE)
    flokit.add_integration(ADJUST, type="adjust")
    flokit.script(STRIPE, [{"status": "syncing"}] * 3 + [{"status": "connected"}])
    ended = sense(mode, integration_id=[STRIPE, ADJUST])
    assert [state["id"] for state in ended.xcoms["return_value"]] == [STRIPE, ADJUST]


@MODES
def test_several_fail_as_soon_as_one_does_naming_all_that_are_not_ready(flokit: Simulator, mode: str) -> None:
    """Every integration that is not ready is named, with why."""
    flokit.add_integration(STRIPE, status="error", error_message="bad secret")
    flokit.add_integration(ADJUST, type="adjust", status="syncing")
    flokit.add_integration("int_fine", type="warehouse")
    ended = sense(mode, integration_id=[STRIPE, ADJUST, "int_fine"])
    assert ended.error == "FlokitSyncFailedError"
    assert f"{STRIPE} (stripe) is in error: bad secret; {ADJUST} (adjust) is syncing" in ended.message
    assert "int_fine" not in ended.message


@MODES
def test_types_stand_for_their_one_integration(flokit: Simulator, mode: str) -> None:
    """A list of types gives a list of states."""
    flokit.add_integration(STRIPE, type="stripe")
    flokit.add_integration(ADJUST, type="adjust")
    ended = sense(mode, integration_type=["adjust", "stripe"])
    assert [state["id"] for state in ended.xcoms["return_value"]] == [ADJUST, STRIPE]


@MODES
@pytest.mark.parametrize(("count", "says"), [(0, "The workspace has"), (2, "int_0, int_1")])
def test_a_type_that_is_not_unique_is_refused_with_the_ids(flokit: Simulator, mode: str, count: int, says: str) -> None:
    """None or several of a type is a permanent error, in every mode."""
    flokit.add_integration(ADJUST, type="adjust")
    for number in range(count):
        flokit.add_integration(f"int_{number}", type="stripe")
    ended = sense(mode, integration_type="stripe")
    assert ended.error in ("FlokitNotFoundError", "FlokitAmbiguousTypeError")
    assert says in ended.message


@MODES
def test_an_unknown_id_is_read_singly_and_then_called_missing(flokit: Simulator, mode: str) -> None:
    """The list does not hold it, the single read answers 404: a permanent error that says what there is."""
    flokit.add_integration(STRIPE)
    ended = sense(mode, integration_id="int_unknown")
    assert ended.error == "FlokitNotFoundError"
    assert f"{STRIPE} (stripe)" in ended.message
    paths = [r.path for r in flokit.requests]
    # A triggerer's poll goes on meanwhile.
    assert paths[0] == "/v1/integrations"
    assert paths.count("/v1/integrations/int_unknown") == 1


@MODES
def test_receipts_of_several_syncs_are_waited_for_together(flokit: Simulator, mode: str) -> None:
    """A list of receipts, as a mapped operator gives."""
    for integration_id in (STRIPE, ADJUST):
        flokit.add_integration(integration_id, sync=Sync(start_delay=0.1, duration=0.1))
    receipts = [receipt_of(STRIPE), receipt_of(ADJUST)]
    ended = sense(mode, receipt=receipts)
    assert [state["id"] for state in ended.xcoms["return_value"]] == [STRIPE, ADJUST]
    assert all(sync.outcome == "succeeded" for sync in flokit.syncs)


@MODES
def test_a_receipt_of_a_skipped_sync_is_judged_by_the_status_alone(flokit: Simulator, mode: str) -> None:
    """Fresh data needed no sync, so there is none to wait for."""
    flokit.add_integration(STRIPE)
    receipt = receipt_of(STRIPE, skip_if_synced_within=timedelta(hours=2))
    assert receipt["skipped"] is True
    assert sense(mode, receipt=receipt).state == "success"


@pytest.mark.parametrize("form", [json.dumps, str], ids=["JSON text", "Python text"])
def test_a_receipt_may_arrive_as_text(flokit: Simulator, form: Any) -> None:
    """A template renders a dict to its text unless the DAG renders native objects."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    assert sense(receipt=form(receipt_of(STRIPE))).state == "success"


def test_a_list_may_arrive_as_text(flokit: Simulator) -> None:
    """So may a list of ids."""
    flokit.add_integration(STRIPE)
    ended = sense(integration_id=f"['{STRIPE}']")
    assert [state["id"] for state in ended.xcoms["return_value"]] == [STRIPE]


@MODES
def test_a_wait_survives_an_api_that_is_down_for_a_while(flokit: Simulator, mode: str) -> None:
    """Transient failures while polling never end a wait."""
    flokit.add_integration(STRIPE)
    for fault in (Fault.answer(503), Fault.drop(), Fault.answer(200, "html"), Fault.rate_limited(0)):
        flokit.fail(fault)
    assert sense(mode, integration_id=STRIPE).state == "success"


@MODES
def test_an_api_that_stays_down_is_named_at_the_timeout(flokit: Simulator, mode: str) -> None:
    """A wait that never got an answer ends as a timeout that says why it knows nothing."""
    flokit.fail(503, times=None)
    ended = sense(mode, integration_id=STRIPE, timeout=0.2)
    assert ended.error == "AirflowSensorTimeout"
    assert "HTTP 503" in ended.message


@MODES
def test_a_read_only_key_is_enough_to_wait(flokit: Simulator, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Waiting only reads."""
    flokit.add_integration(STRIPE)
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri(flokit.read_only_key))
    assert sense(mode, integration_id=STRIPE).state == "success"


@MODES
def test_a_wrong_key_fails_at_once_and_without_the_key(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A 401 is final once the connection was read again."""
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri("fk_wrong_key"))
    ended = sense(mode, integration_id=STRIPE)
    assert ended.error == "FlokitAuthenticationError"
    assert "fk_wrong_key" not in ended.message
    assert len(flokit.requests) == 1


@MODES
def test_a_missing_connection_is_named(mode: str) -> None:
    """An undefined connection is a permanent error that says what to do, not a lookup failure."""
    ended = sense(mode, integration_id=STRIPE, flokit_conn_id="nowhere")
    assert ended.error == "FlokitConfigError"
    assert "'nowhere' is not defined" in ended.message


def test_every_setting_reaches_the_trigger() -> None:
    """Nothing the user set is lost on the way into the triggerer."""
    sensor = FlokitIntegrationSensor(
        task_id="wait",
        integration_id=[STRIPE],
        synced_after="2024-03-15T13:00:00Z",
        flokit_conn_id="other",
        deferrable=True,
        poke_interval=timedelta(seconds=7),
        timeout=timedelta(seconds=111),
        start_timeout=22,
        fail_on_disconnected=False,
        silent_fail=True,
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_flokit.triggers.flokit.FlokitIntegrationTrigger"
    assert arguments.pop("deadline") == pytest.approx(datetime.now(tz=UTC).timestamp() + 111, abs=5)
    assert arguments == {
        "integration_id": [STRIPE],
        "integration_type": None,
        "receipt": None,
        "synced_after": "2024-03-15T13:00:00+00:00",
        "flokit_conn_id": "other",
        "poll_interval": 7.0,
        "timeout": 111.0,
        "start_timeout": 22.0,
        "fail_on_disconnected": False,
        "tolerate_failures": True,
        "try_number": None,
    }


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, "integration_id, integration_type or receipt"),
        ({"integration_id": STRIPE, "integration_type": "stripe"}, "not both"),
        ({"integration_id": STRIPE, "start_timeout": -1}, "start_timeout"),
        ({"integration_id": STRIPE, "fail_on_disconnected": None}, "fail_on_disconnected"),
        ({"integration_id": STRIPE, "deferrable": "no"}, "deferrable"),
    ],
)
def test_a_wrong_argument_fails_at_parse_time_by_name(arguments: dict[str, Any], names: str) -> None:
    """What can be known while the DAG is parsed is refused there."""
    with pytest.raises(FlokitArgumentError, match=names):
        FlokitIntegrationSensor(task_id="t", **arguments)


@MODES
@pytest.mark.parametrize(
    ("name", "rendered"),
    [
        ("integration_id", None),
        ("integration_id", ""),
        ("integration_id", []),
        ("integration_id", "[]"),
        ("integration_id", ["a", None]),
        ("integration_id", "a/b"),
        ("integration_type", "None"),
        ("integration_type", 5),
        ("receipt", None),
        ("receipt", "None"),
        ("receipt", {"sync_id": "x"}),
        ("receipt", []),
        ("synced_after", None),
        ("synced_after", ""),
        ("synced_after", "None"),
        ("synced_after", "yesterday"),
    ],
)
def test_a_template_that_renders_to_nothing_never_drops_a_condition(
    flokit: Simulator, mode: str, name: str, rendered: Any
) -> None:
    """A gate that lost what it waits for must fail, not open."""
    flokit.add_integration(STRIPE)

    def make() -> FlokitIntegrationSensor:
        given = (
            {name: "{{ template }}"} if name != "synced_after" else {"integration_id": STRIPE, name: "{{ template }}"}
        )
        sensor = FlokitIntegrationSensor(task_id="wait", deferrable=mode == DEFERRED, **given)
        setattr(sensor, name, rendered)
        return sensor

    ended = run(make, mode)
    assert ended.error == "FlokitArgumentError"
    assert name in ended.message
    assert flokit.requests == []


def test_templates_are_rendered() -> None:
    """All fields that say what to wait for are templated."""
    with DAG("d", schedule=None):
        sensor = FlokitIntegrationSensor(
            task_id="wait", integration_id=["{{ name }}"], synced_after="{{ moment }}", flokit_conn_id="{{ conn }}"
        )
    sensor.render_template_fields({"name": STRIPE, "moment": "2024-03-15T13:00:00Z", "conn": "c"})
    assert (sensor.integration_id, sensor.synced_after, sensor.flokit_conn_id) == (
        [STRIPE],
        "2024-03-15T13:00:00Z",
        "c",
    )


def test_poke_by_itself_says_not_yet_ready_or_raises(flokit: Simulator) -> None:
    """poke() works as that of any sensor, outside execute() too."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE)
    assert not sensor.poke({})
    flokit.set_state(STRIPE, status="connected")
    assert sensor.poke({})
