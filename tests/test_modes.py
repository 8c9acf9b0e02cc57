"""The same wait comes to the same end in every mode: state, exception type, message and XComs."""

from __future__ import annotations

import math
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_flokit.errors import FlokitSyncFailedError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import ABANDONED, DEFERRED, RESCHEDULE, WORKER, End, TaskInstance, event_of, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"
BEFORE = "2024-03-15T12:00:00Z"
AFTER = "2024-03-15T13:00:00Z"


def shows(status: str, last: str | None = BEFORE, error: str | None = None) -> dict[str, Any]:
    """Return what FloKit shows."""
    return {"status": status, "last_synced_at": last, "error_message": error}


AS_BEFORE, SYNCING, DONE = shows("connected"), shows("syncing"), shows("connected", AFTER)
FAILED, IN_OLD_ERROR = shows("error", error="the new error"), shows("error", error="the old error")


@dataclass(frozen=True)
class Scenario:
    """What FloKit shows before and after the POST, and how a wait for that sync must end."""

    before: dict[str, Any]
    after: list[dict[str, Any]]
    ends: str
    says: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


SHORT = {"timeout": 0.3}
SCENARIOS = {
    "success": Scenario(AS_BEFORE, [AS_BEFORE, SYNCING, SYNCING, DONE], "success"),
    "failure": Scenario(AS_BEFORE, [SYNCING, FAILED], "FlokitSyncFailedError", "is in error: the new error"),
    "old error, then success": Scenario(IN_OLD_ERROR, [IN_OLD_ERROR, IN_OLD_ERROR, SYNCING, DONE], "success"),
    "old error, then another": Scenario(
        IN_OLD_ERROR, [IN_OLD_ERROR, IN_OLD_ERROR, FAILED], "FlokitSyncFailedError", "the new error"
    ),
    "old error that never goes": Scenario(
        IN_OLD_ERROR, [IN_OLD_ERROR], "FlokitSyncFailedError", "the old error", {"start_timeout": 0}
    ),
    "slow start": Scenario(AS_BEFORE, [AS_BEFORE] * 8 + [SYNCING, DONE], "success"),
    "sync unseen between two polls": Scenario(AS_BEFORE, [AS_BEFORE, DONE], "success"),
    "never synced before": Scenario(shows("connected", None), [shows("connected", None), DONE], "success"),
    "done, then in error": Scenario(AS_BEFORE, [SYNCING, shows("error", AFTER, "a later one")], "success"),
    "disconnected": Scenario(AS_BEFORE, [SYNCING, shows("disconnected")], "FlokitDisconnectedError", "is disconnected"),
    "unknown status, then success": Scenario(AS_BEFORE, [shows("paused"), shows("paused"), DONE], "success"),
    "unknown status for ever": Scenario(AS_BEFORE, [shows("paused")], "timeout", "'paused'", SHORT),
    "timeout": Scenario(AS_BEFORE, [SYNCING], "timeout", "not ready within 0.3 s", SHORT),
    "still connected from last time": Scenario(AS_BEFORE, [AS_BEFORE], "timeout", "has not finished sync", SHORT),
    "soft_fail, failure": Scenario(AS_BEFORE, [SYNCING, FAILED], "skipped", "the new error", {"soft_fail": True}),
    "soft_fail, failure at once": Scenario(AS_BEFORE, [FAILED], "skipped", "the new error", {"soft_fail": True}),
    "soft_fail, timeout": Scenario(AS_BEFORE, [SYNCING], "skipped", "within 0.3 s", {"soft_fail": True, **SHORT}),
    "never_fail, failure": Scenario(AS_BEFORE, [SYNCING, FAILED], "skipped", "the new error", {"never_fail": True}),
    "never_fail, timeout": Scenario(AS_BEFORE, [SYNCING], "skipped", "within 0.3 s", {"never_fail": True, **SHORT}),
    "silent_fail, failure and then success": Scenario(
        AS_BEFORE, [FAILED, FAILED, SYNCING, DONE], "success", settings={"silent_fail": True}
    ),
    "silent_fail, failure for ever": Scenario(
        AS_BEFORE, [FAILED], "timeout", "the new error", {"silent_fail": True, **SHORT}
    ),
}
FOR_THE_SENSOR_ALONE = {"soft_fail", "never_fail", "silent_fail"}
FOR_OPERATORS = [name for name, each in SCENARIOS.items() if not FOR_THE_SENSOR_ALONE & each.settings.keys()]


def prepare(flokit: Simulator, scenario: Scenario) -> None:
    """Let FloKit show the scenario, from its beginning."""
    if flokit.integrations:
        flokit.remove_integration(STRIPE)
    flokit.add_integration(STRIPE, type="stripe", sync=Sync(start_delay=math.inf), **scenario.before)
    flokit.script(STRIPE, [scenario.before, *scenario.after])  # the baseline is the first read


def sensed(flokit: Simulator, scenario: Scenario, mode: str) -> End:
    """Start the scenario's sync and wait for it with the sensor."""
    prepare(flokit, scenario)
    receipt = run(lambda: FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE), WORKER).value

    def make() -> FlokitIntegrationSensor:
        return FlokitIntegrationSensor(
            task_id="wait",
            receipt=receipt,
            deferrable=mode in (DEFERRED, ABANDONED),
            mode="reschedule" if mode == RESCHEDULE else "poke",
            poke_interval=0.03,
            **{"timeout": 20, **scenario.settings},
        )

    return run(make, mode)


def operated(flokit: Simulator, scenario: Scenario, mode: str) -> End:
    """Start the scenario's sync and wait for it with the operator."""
    prepare(flokit, scenario)

    def make() -> FlokitTriggerSyncOperator:
        return FlokitTriggerSyncOperator(
            task_id="sync",
            integration_id=STRIPE,
            wait_for_completion=True,
            deferrable=mode in (DEFERRED, ABANDONED),
            poll_interval=0.03,
            **{"timeout": 20, **scenario.settings},
        )

    return run(make, mode)


def same(ended: End) -> str:
    """Return the message without the number of the sync, which is another one in each run."""
    return re.sub(r"sync_sim\d+", "sync_x", ended.message)


def assert_end(ended: End, scenario: Scenario, timeout: str) -> None:
    """Check state, exception and message."""
    assert ended.state == (scenario.ends if scenario.ends in ("success", "skipped") else "failed")
    assert ended.error == {"success": "", "skipped": "AirflowSkipException", "timeout": timeout}.get(
        scenario.ends, scenario.ends
    )
    assert scenario.says in ended.message


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_sensor_ends_the_same_in_every_mode(flokit: Simulator, name: str) -> None:
    """State, exception type, message and XComs are those of the scenario, whatever the mode."""
    scenario = SCENARIOS[name]
    ends = [sensed(flokit, scenario, mode) for mode in (WORKER, RESCHEDULE, DEFERRED)]
    for ended in ends:
        assert_end(ended, scenario, "AirflowSensorTimeout")
        expected = {"id": STRIPE, "type": "stripe", **scenario.after[-1]}
        assert ended.xcoms == ({"return_value": expected} if ended.state == "success" else {})
    assert len({same(ended) for ended in ends}) == 1


@pytest.mark.parametrize("name", FOR_OPERATORS)
def test_an_operator_ends_the_same_in_both_modes(flokit: Simulator, name: str) -> None:
    """State, exception type, message and XComs are those of the scenario, and the sensor's verdict is the same."""
    scenario = SCENARIOS[name]
    ends = [operated(flokit, scenario, mode) for mode in (WORKER, DEFERRED)]
    for ended, sync in zip(ends, flokit.syncs, strict=True):
        assert_end(ended, scenario, "FlokitWaitTimeoutError")
        assert ended.xcoms["integration"] == {"id": STRIPE, "type": "stripe", **scenario.after[-1]}
        assert (ended.value or {}).get("sync_id") == (sync.sync_id if ended.state == "success" else None)
    of_the_sensor = sensed(flokit, scenario, WORKER)
    assert len({same(ended) for ended in [*ends, of_the_sensor]}) == 1


# Airflow's own end of a deferral


@pytest.mark.parametrize("name", ["timeout", "soft_fail, timeout"])
def test_a_deferral_that_airflow_ends_is_the_same_timeout(flokit: Simulator, name: str) -> None:
    """When no triggerer was alive to end the wait, the sensor ends as if one had been."""
    scenario = SCENARIOS[name]
    ended = sensed(flokit, scenario, ABANDONED)
    assert_end(ended, scenario, "AirflowSensorTimeout")
    assert same(ended) == same(sensed(flokit, scenario, WORKER))


def test_a_sync_that_succeeded_while_no_triggerer_lived_is_a_success(flokit: Simulator) -> None:
    """A deferral that Airflow ended is looked at once more before it is called timed out."""
    assert sensed(flokit, Scenario(AS_BEFORE, [SYNCING, DONE], "success"), ABANDONED).state == "success"


def test_an_operator_whose_deferral_airflow_ends_can_be_retried(flokit: Simulator) -> None:
    """Without a store of receipts it cannot look again: a clear error that asks for the triggerer."""
    ended = operated(flokit, SCENARIOS["timeout"], ABANDONED)
    assert ended.error == "FlokitWaitTimeoutError"
    assert "FlokitTriggerSyncOperator 'sync'" in ended.message
    assert "triggerer" in ended.message


@pytest.mark.parametrize("over", [True, False])
def test_airflow_2_ends_a_deferral_for_an_execution_timeout(flokit: Simulator, over: bool) -> None:
    """There it counts while a task is deferred; whatever ended the deferral, it is told apart by the try's start."""
    flokit.add_integration(STRIPE)
    sensor = FlokitIntegrationSensor(
        task_id="wait", integration_id=STRIPE, deferrable=True, execution_timeout=timedelta(seconds=60), timeout=600
    )
    began = datetime.now(tz=UTC) - timedelta(seconds=61 if over else 0)
    context: Any = {"ti": TaskInstance(sensor, start_date=began)}
    with pytest.raises(AirflowTaskTimeout) if over else nullcontext():
        state = sensor.resume_execution("__fail__", {"error": "Trigger/execution timeout"}, context)
        assert state["id"] == STRIPE


# Deadlines


@pytest.mark.parametrize(
    ("wait", "mode"),
    [(sensed, WORKER), (sensed, RESCHEDULE), (sensed, DEFERRED), (operated, WORKER), (operated, DEFERRED)],
)
def test_a_wait_is_over_at_its_deadline_whatever_flokit_asks(flokit: Simulator, wait: Any, mode: str) -> None:
    """``Retry-After: 86400`` in the middle of a wait: it ends at its own deadline, and says why it knows no more."""
    flokit.fail(Fault.rate_limited(86400), path="/v1/integrations", after=1, times=None)
    scenario = Scenario(AS_BEFORE, [SYNCING], "timeout", settings={"timeout": 1.5})
    began = time.monotonic()
    ended = wait(flokit, scenario, mode)
    assert time.monotonic() - began < 20
    assert ended.error == ("AirflowSensorTimeout" if wait is sensed else "FlokitWaitTimeoutError")
    assert "HTTP 429" in ended.message
    assert "86400 s" in ended.message


@pytest.mark.parametrize("mode", [RESCHEDULE, DEFERRED])
def test_waits_that_are_nearly_over_do_not_leave_the_worker(flokit: Simulator, mode: str) -> None:
    """A task that would be back sooner than SETTLE polls on in the worker to its last look."""
    prepare(flokit, SCENARIOS["timeout"])
    sensor = FlokitIntegrationSensor(
        task_id="wait",
        integration_id=STRIPE,
        synced_after=AFTER,
        deferrable=mode == DEFERRED,
        mode="reschedule" if mode == RESCHEDULE else "poke",
        poke_interval=0.03,
        timeout=0.3,
    )
    ended = run(lambda: sensor, mode, settle=FlokitIntegrationTrigger.SETTLE)
    assert ended.error == "AirflowSensorTimeout"
    assert len(flokit.requests) > 2


# Tries


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_the_event_of_an_earlier_try_is_not_taken_for_this_ones(flokit: Simulator, kind: str) -> None:
    """Airflow 3.0 resumes a retry with the event that its failed try ended with: the retry begins anew instead."""
    flokit.add_integration(STRIPE, status="syncing" if kind == "sensor" else "connected")
    flokit.plan(STRIPE, Sync(error="bad secret"))

    def make() -> FlokitTriggerSyncOperator | FlokitIntegrationSensor:
        if kind == "operator":
            return FlokitTriggerSyncOperator(
                task_id="sync", integration_id=STRIPE, wait_for_completion=True, deferrable=True, poll_interval=0.03
            )
        return FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE, deferrable=True, poke_interval=0.03)

    ti = TaskInstance(make(), max_tries=1)
    context: Any = {"ti": ti}
    with pytest.raises(TaskDeferred) as first:
        ti.task.execute(context)
    if kind == "sensor":
        flokit.set_state(STRIPE, status="error")
    event = event_of(first.value)
    with pytest.raises(FlokitSyncFailedError):
        make().resume_execution("execute_complete", {"event": event}, context)
    ti.try_number = 2
    if kind == "sensor":
        flokit.set_state(STRIPE, status="syncing")
    with pytest.raises(TaskDeferred) as second:
        make().resume_execution("execute_complete", {"event": event}, context)
    if kind == "sensor":
        flokit.set_state(STRIPE, status="connected")
    make().resume_execution("execute_complete", {"event": event_of(second.value)}, context)


@pytest.mark.parametrize("kind", [FlokitTriggerSyncOperator, FlokitIntegrationSensor])
def test_a_failure_of_the_triggerer_itself_is_none_of_ours(kind: Any) -> None:
    """If Airflow resumes a task because its trigger broke, the task fails as Airflow has it, not as a timeout."""
    task = kind(task_id="t", integration_id=STRIPE)
    with pytest.raises(Exception, match=r"Trigger failure") as error:
        task.resume_execution("__fail__", {"error": "Trigger failure"}, {"ti": TaskInstance(task)})
    assert type(error.value).__name__ == "TaskDeferralError"


def test_the_deferral_ends_after_the_trigger_by_a_margin(flokit: Simulator) -> None:
    """The trigger keeps the deadline; Airflow's own end is for the case that no triggerer is alive to do so."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE, deferrable=True, timeout=600)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": TaskInstance(sensor)})
    assert deferred.value.timeout is not None
    assert deferred.value.timeout > timedelta(seconds=600)
    ends = deferred.value.trigger.serialize()[1]["deadline"]
    assert ends == pytest.approx(datetime.now(tz=UTC).timestamp() + 600, abs=10)
