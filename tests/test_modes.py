"""The same wait comes to the same end in every mode."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.errors import FlokitSyncFailedError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import ABANDONED, DEFERRED, RESCHEDULE, WORKER, End, TaskInstance, event_of, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"
BEFORE = "2024-03-15T12:00:00Z"
AFTER = "2024-03-15T13:00:00Z"
OLD_ERROR = "the old error"

CONNECTED_AS_BEFORE = {"status": "connected", "last_synced_at": BEFORE, "error_message": None}
SYNCING = {"status": "syncing", "last_synced_at": BEFORE, "error_message": None}
DONE = {"status": "connected", "last_synced_at": AFTER, "error_message": None}
FAILED = {"status": "error", "last_synced_at": BEFORE, "error_message": "the new error"}
IN_OLD_ERROR = {"status": "error", "last_synced_at": BEFORE, "error_message": OLD_ERROR}
DISCONNECTED = {"status": "disconnected", "last_synced_at": BEFORE, "error_message": None}
PAUSED = {"status": "paused", "last_synced_at": BEFORE, "error_message": None}


@dataclass(frozen=True)
class Scenario:
    """What FloKit shows before and after the POST, and how a wait for that sync must end."""

    before: dict[str, Any]
    after: list[dict[str, Any]]
    state: str
    sensor_error: str = ""
    operator_error: str = ""
    says: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


SYNC_FAILED = {"sensor_error": "FlokitSyncFailedError", "operator_error": "FlokitSyncFailedError"}
TIMED_OUT = {"sensor_error": "AirflowSensorTimeout", "operator_error": "FlokitWaitTimeoutError"}

SCENARIOS = {
    "success": Scenario(CONNECTED_AS_BEFORE, [CONNECTED_AS_BEFORE, SYNCING, SYNCING, DONE], "success"),
    "failure": Scenario(CONNECTED_AS_BEFORE, [SYNCING, FAILED], "failed", **SYNC_FAILED, says="the new error"),
    "old error, then success": Scenario(IN_OLD_ERROR, [IN_OLD_ERROR, IN_OLD_ERROR, SYNCING, DONE], "success"),
    "old error, then a new failure": Scenario(
        IN_OLD_ERROR, [IN_OLD_ERROR, IN_OLD_ERROR, FAILED], "failed", **SYNC_FAILED, says="the new error"
    ),
    "old error that never goes": Scenario(
        IN_OLD_ERROR, [IN_OLD_ERROR], "failed", **SYNC_FAILED, says=OLD_ERROR, settings={"start_timeout": 0}
    ),
    "slow start": Scenario(CONNECTED_AS_BEFORE, [CONNECTED_AS_BEFORE] * 8 + [SYNCING, DONE], "success"),
    "sync unseen between two polls": Scenario(CONNECTED_AS_BEFORE, [CONNECTED_AS_BEFORE, DONE], "success"),
    "never synced before": Scenario(
        {"status": "connected", "last_synced_at": None},
        [{"status": "connected", "last_synced_at": None}, DONE],
        "success",
    ),
    "disconnected": Scenario(
        CONNECTED_AS_BEFORE,
        [SYNCING, DISCONNECTED],
        "failed",
        sensor_error="FlokitDisconnectedError",
        operator_error="FlokitDisconnectedError",
        says="is disconnected",
    ),
    "unknown status, then success": Scenario(CONNECTED_AS_BEFORE, [PAUSED, PAUSED, DONE], "success"),
    "unknown status for ever": Scenario(
        CONNECTED_AS_BEFORE, [PAUSED], "failed", **TIMED_OUT, says="paused", settings={"timeout": 0.3}
    ),
    "timeout": Scenario(
        CONNECTED_AS_BEFORE, [SYNCING], "failed", **TIMED_OUT, says="within 0.3 s", settings={"timeout": 0.3}
    ),
    "still connected from last time": Scenario(
        CONNECTED_AS_BEFORE, [CONNECTED_AS_BEFORE], "failed", **TIMED_OUT, settings={"timeout": 0.3}
    ),
    "soft_fail, failure": Scenario(
        CONNECTED_AS_BEFORE,
        [SYNCING, FAILED],
        "skipped",
        sensor_error="AirflowSkipException",
        says="the new error",
        settings={"soft_fail": True},
    ),
    "soft_fail, timeout": Scenario(
        CONNECTED_AS_BEFORE,
        [SYNCING],
        "skipped",
        sensor_error="AirflowSkipException",
        says="within 0.3 s",
        settings={"soft_fail": True, "timeout": 0.3},
    ),
    "never_fail, failure": Scenario(
        CONNECTED_AS_BEFORE,
        [FAILED],
        "skipped",
        sensor_error="AirflowSkipException",
        says="the new error",
        settings={"never_fail": True},
    ),
    "silent_fail, failure and then success": Scenario(
        CONNECTED_AS_BEFORE, [FAILED, FAILED, SYNCING, DONE], "success", settings={"silent_fail": True}
    ),
}


def start(flokit: Simulator, scenario: Scenario) -> dict[str, Any]:
    """Trigger the scenario's sync and return the receipt."""
    flokit.add_integration(STRIPE, type="stripe", **scenario.before)
    flokit.script_after_sync(STRIPE, scenario.after)
    ended = run(lambda: FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE), WORKER)
    assert ended.state == "success"
    receipt: dict[str, Any] = ended.xcoms["receipt"]
    return receipt


def sensed(flokit: Simulator, scenario: Scenario, mode: str, monkeypatch: pytest.MonkeyPatch) -> End:
    """Wait for the scenario's sync with the sensor."""
    receipt = start(flokit, scenario)

    def make() -> FlokitIntegrationSensor:
        return FlokitIntegrationSensor(
            task_id="wait",
            receipt=receipt,
            deferrable=mode in (DEFERRED, ABANDONED),
            mode="reschedule" if mode == RESCHEDULE else "poke",
            poke_interval=0.03,
            **{"timeout": 10, **scenario.settings},
        )

    return run(make, mode, monkeypatch)


def operated(flokit: Simulator, scenario: Scenario, mode: str) -> End:
    """Trigger the scenario's sync and wait for it with the operator."""
    flokit.add_integration(STRIPE, type="stripe", **scenario.before)
    flokit.script_after_sync(STRIPE, scenario.after)

    def make() -> FlokitTriggerSyncOperator:
        return FlokitTriggerSyncOperator(
            task_id="sync",
            integration_id=STRIPE,
            wait_for_completion=True,
            deferrable=mode in (DEFERRED, ABANDONED),
            poll_interval=0.03,
            **{"timeout": 10, **scenario.settings},
        )

    return run(make, mode)


FOR_SENSOR = list(SCENARIOS)
FOR_OPERATOR = [
    name
    for name, scenario in SCENARIOS.items()
    if not {"soft_fail", "never_fail", "silent_fail"} & scenario.settings.keys()
]


@pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED])
@pytest.mark.parametrize("name", FOR_SENSOR)
def test_a_sensor_ends_the_same_in_every_mode(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """State, exception type, message and XComs are those of the scenario, whatever the mode."""
    scenario = SCENARIOS[name]
    ended = sensed(flokit, scenario, mode, monkeypatch)
    assert (ended.state, ended.error) == (scenario.state, scenario.sensor_error)
    assert scenario.says in ended.message
    assert ended.message == expected_message(name)
    expected = {"return_value": {"id": STRIPE, "type": "stripe", **DONE}} if scenario.state == "success" else {}
    assert ended.xcoms == expected


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
@pytest.mark.parametrize("name", FOR_OPERATOR)
def test_an_operator_ends_the_same_in_every_mode(flokit: Simulator, name: str, mode: str) -> None:
    """State, exception type, message and XComs are those of the scenario, and the sensor's verdict is the same."""
    scenario = SCENARIOS[name]
    ended = operated(flokit, scenario, mode)
    assert (ended.state, ended.error) == (scenario.state, scenario.operator_error)
    assert ended.message == expected_message(name)
    last = {"id": STRIPE, "type": "stripe", **scenario.after[-1]}
    assert ended.xcoms["integration"] == last | {"error_message": last.get("error_message")}
    (sync,) = flokit.syncs
    assert ended.xcoms["receipt"]["sync_id"] == sync.sync_id
    assert ended.xcoms.get("return_value") == (sync.sync_id if scenario.state == "success" else None)


@pytest.mark.parametrize("name", ["timeout", "soft_fail, timeout"])
def test_a_deferral_that_airflow_ends_is_the_same_timeout(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """When no triggerer was alive to end the wait, the task ends as if one had been."""
    scenario = SCENARIOS[name]
    ended = sensed(flokit, scenario, ABANDONED, monkeypatch)
    assert (ended.state, ended.error) == (scenario.state, scenario.sensor_error)
    assert ended.message == expected_message(name)


def test_an_operator_whose_deferral_airflow_ends_times_out_alike(flokit: Simulator) -> None:
    """The operator's timeout is its own, clear error, also when Airflow ended the deferral."""
    ended = operated(flokit, SCENARIOS["timeout"], ABANDONED)
    assert (ended.error, ended.message) == ("FlokitWaitTimeoutError", expected_message("timeout"))


def test_a_sync_that_succeeded_while_no_triggerer_lived_is_a_success(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deferral that Airflow ended is looked at once more before it is called timed out."""
    scenario = Scenario(CONNECTED_AS_BEFORE, [DONE], "success")
    assert sensed(flokit, scenario, ABANDONED, monkeypatch).state == "success"


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("of", ["sensor", "operator"])
def test_an_execution_timeout_counts_for_a_deferral_on_airflow_2_only(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, of: str, over: bool
) -> None:
    """There the shorter of both ends it; from Airflow 3 on the wait's own timeout does, and one last look decides."""
    limit = {"execution_timeout": timedelta(seconds=1 if over else 60)}
    scenario = Scenario(CONNECTED_AS_BEFORE, [DONE], "success", settings=limit)
    if of == "sensor":
        ended = sensed(flokit, scenario, ABANDONED, monkeypatch)
    else:
        ended = operated(flokit, scenario, ABANDONED)
    if over and not AIRFLOW_V_3_0_PLUS:
        assert (ended.state, ended.error) == ("failed", "AirflowTaskTimeout")
    else:
        assert ended.state == "success"


@pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED])
@pytest.mark.parametrize("of", ["sensor", "operator"])
def test_a_wait_is_over_at_its_deadline_whatever_flokit_asks(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, of: str, mode: str
) -> None:
    """``Retry-After: 86400`` in the middle of a wait: it ends at its own deadline, and says why it knows no more."""
    if (of, mode) == ("operator", RESCHEDULE):
        mode = ABANDONED
    flokit.fail(Fault.rate_limited(86400), path="/v1/integrations", after=1, times=None)
    scenario = Scenario(CONNECTED_AS_BEFORE, [SYNCING], "failed", **TIMED_OUT, settings={"timeout": 1.5})
    began = time.monotonic()
    ended = sensed(flokit, scenario, mode, monkeypatch) if of == "sensor" else operated(flokit, scenario, mode)
    assert time.monotonic() - began < 20
    assert ended.error == (scenario.sensor_error if of == "sensor" else scenario.operator_error)
    if mode != ABANDONED:
        assert "HTTP 429: Too many requests. Try again in 86400 s, as FloKit asks." in ended.message
    assert sum(r.status == 429 for r in flokit.requests) <= 2


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_the_event_of_an_earlier_try_is_not_taken_for_this_ones(flokit: Simulator, kind: str) -> None:
    """Airflow 3.0 resumes a retry with the event that its failed try ended with: the retry begins anew instead."""
    flokit.add_integration(STRIPE, type="stripe", status="error" if kind == "sensor" else "connected")
    flokit.plan(STRIPE, Sync(error="bad secret"))

    def make() -> FlokitTriggerSyncOperator | FlokitIntegrationSensor:
        if kind == "operator":
            return FlokitTriggerSyncOperator(
                task_id="sync", integration_id=STRIPE, wait_for_completion=True, deferrable=True, poll_interval=0.03
            )
        return FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE, deferrable=True)

    ti = TaskInstance(make(), max_tries=1)
    context: Any = {"ti": ti}
    with pytest.raises(TaskDeferred) as first:
        ti.task.execute(context)
    event = event_of(first.value)
    with pytest.raises(FlokitSyncFailedError):
        make().resume_execution("execute_complete", {"event": event}, context)
    ti.try_number = 2
    with pytest.raises(TaskDeferred) as second:
        make().resume_execution("execute_complete", {"event": event}, context)
    if kind == "sensor":
        flokit.set_state(STRIPE, status="connected")
    make().resume_execution("execute_complete", {"event": event_of(second.value)}, context)


def expected_message(name: str) -> str:
    """Return the one message of a scenario; every mode has to give it to the letter."""
    conn = "(connection 'flokit_default')"
    mend = "Mend the cause in FloKit, then run the task again."
    look = "Look at the integration in FloKit, or give the wait more time with timeout."
    last = "last synced: 2024-03-15T12:00:00+00:00."
    failed = f"FloKit integration {STRIPE} (stripe) is in error: the new error {conn}. {mend}"
    timed_out = f"FloKit integration {STRIPE} {conn} not ready within 0.3 s. Last seen: {STRIPE} (stripe) is"
    return {
        "failure": failed,
        "old error, then a new failure": failed,
        "soft_fail, failure": failed,
        "never_fail, failure": failed,
        "old error that never goes": (
            f"FloKit integration {STRIPE} (stripe) is in error, as before this sync, 0 s after it was requested: "
            f"the old error {conn}. {mend}"
        ),
        "disconnected": (
            f"FloKit integration {STRIPE} (stripe) is disconnected {conn}. Connect it again in FloKit, then run the "
            f"task again."
        ),
        "unknown status for ever": f"{timed_out} paused, {last} {look}",
        "timeout": f"{timed_out} syncing, {last} {look}",
        "soft_fail, timeout": f"{timed_out} syncing, {last} {look}",
        "still connected from last time": f"{timed_out} connected, {last} {look}",
    }.get(name, "")
