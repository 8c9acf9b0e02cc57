"""The same wait comes to the same end in every mode: state, exception type, message and XComs."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_flokit.errors import FlokitError, FlokitSyncFailedError, FlokitWaitTimeoutError
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import (
    ABANDONED,
    AFTER,
    AIRFLOW_ENDS_A_DEFERRAL,
    BEFORE,
    EACH_FORM,
    RESCHEDULE,
    STRIPE,
    WORKER,
    End,
    TaskInstance,
    TaskStateStore,
    event_of,
    operate,
    sense,
    staged,
    sync_and_wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

KINDS = pytest.mark.parametrize("kind", [FlokitTriggerSyncOperator, FlokitIntegrationSensor])


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

    @property
    def forms(self) -> list[tuple[str, str]]:
        """The forms of a wait that have these settings."""
        for_the_sensor = {"soft_fail", "never_fail", "silent_fail"} & self.settings.keys()
        return [(kind, mode) for kind, mode in EACH_FORM if kind == "sensor" or not for_the_sensor]


SHORT = {"timeout": 0.3}
SCENARIOS = {
    "success": Scenario(AS_BEFORE, [AS_BEFORE, SYNCING, SYNCING, DONE], "success"),
    "failure": Scenario(AS_BEFORE, [SYNCING, FAILED], "FlokitSyncFailedError", "is in error: the new error"),
    "old error, then success": Scenario(IN_OLD_ERROR, [IN_OLD_ERROR, IN_OLD_ERROR, SYNCING, DONE], "success"),
    "old error, then another": Scenario(IN_OLD_ERROR, [IN_OLD_ERROR, FAILED], "FlokitSyncFailedError", "the new error"),
    "old error that never goes": Scenario(
        IN_OLD_ERROR, [IN_OLD_ERROR], "FlokitSyncFailedError", "the old error", {"start_timeout": 0}
    ),
    "sync unseen between two polls": Scenario(AS_BEFORE, [AS_BEFORE, DONE], "success"),
    "never synced before": Scenario(shows("connected", None), [shows("connected", None), DONE], "success"),
    "done, then in error": Scenario(AS_BEFORE, [SYNCING, shows("error", AFTER, "a later one")], "success"),
    "done, but syncing at the deadline": Scenario(AS_BEFORE, [shows("syncing", AFTER)], "success", settings=SHORT),
    "disconnected": Scenario(AS_BEFORE, [SYNCING, shows("disconnected")], "FlokitDisconnectedError", "is disconnected"),
    "unknown status": Scenario(AS_BEFORE, [shows("paused")], "timeout", "'paused'", SHORT),
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


def play(flokit: Simulator, scenario: Scenario, form: tuple[str, str]) -> End:
    """Start the scenario's sync and wait for it."""
    if flokit.integrations:
        flokit.remove_integration(STRIPE)
    flokit.add_integration(STRIPE, type="stripe", sync=Sync(start_delay=math.inf), **scenario.before)
    flokit.script(STRIPE, [scenario.before, *scenario.after])  # the baseline is the first read
    return sync_and_wait(form, **scenario.settings)


def same(ended: End) -> str:
    """Return the message without the number of the sync, which is another one in each run."""
    return re.sub(r"sync_sim\d+", "sync_x", ended.message)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_wait_ends_the_same_in_every_form(flokit: Simulator, name: str) -> None:
    """State, exception type, message and XComs are those of the scenario, whatever waits and in whatever mode."""
    scenario, messages = SCENARIOS[name], set()
    seen = {"id": STRIPE, "type": "stripe", **scenario.after[-1]}
    for form in scenario.forms:
        ended = play(flokit, scenario, form)
        is_sensor, succeeded = form[0] == "sensor", scenario.ends == "success"
        timeout = "AirflowSensorTimeout" if is_sensor else "FlokitWaitTimeoutError"
        error = {"success": "", "skipped": "AirflowSkipException", "timeout": timeout}.get(scenario.ends, scenario.ends)
        state = scenario.ends if scenario.ends in ("success", "skipped") else "failed"
        assert (form, ended.state, ended.error) == (form, state, error)
        assert scenario.says in ended.message
        messages.add(same(ended))
        if is_sensor:
            assert ended.xcoms == ({"return_value": seen} if succeeded else {}), form
        else:
            assert ended.xcoms["integration"] == seen, form
            assert (ended.value or {}).get("sync_id") == (flokit.syncs[-1].sync_id if succeeded else None)
    assert len(messages) == 1


# Deferrals


@KINDS
def test_every_setting_reaches_the_trigger(flokit: SimulatedFlokit, kind: Any) -> None:
    """Nothing the user set is lost on the way into the triggerer; the baseline travels with the receipt."""
    flokit.connect("other")
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(start_delay=math.inf))
    settings: dict[str, Any] = {"integration_id": STRIPE, "wait_for_completion": True, "poll_interval": 7}
    if kind is FlokitIntegrationSensor:
        settings = {"receipt": operate().value, "poke_interval": timedelta(seconds=7), "integration_id": STRIPE}
        settings |= {"synced_after": AFTER, "silent_fail": True}
    limits = {"timeout": timedelta(seconds=111), "start_timeout": 22, "execution_timeout": timedelta(seconds=99)}
    task = kind(task_id="t", flokit_conn_id="other", deferrable=True, **limits, **settings)
    now = datetime.now(tz=UTC)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": TaskInstance(task, try_number=3, start_date=now - timedelta(seconds=20))})
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_provider_flokit.triggers.flokit.FlokitIntegrationTrigger"
    assert arguments.pop("deadline") == pytest.approx(now.timestamp() + 111, abs=10)
    assert arguments.pop("execution_deadline") == pytest.approx(now.timestamp() - 20 + 99, abs=5)
    receipt = arguments.pop("receipt")
    assert (receipt["sync_id"], receipt["baseline"]["last_synced_at"]) == (flokit.syncs[0].sync_id, BEFORE)
    assert arguments == {
        "integration_id": None,  # the receipt names it
        "integration_type": None,
        "synced_after": "2024-03-15T13:00:00+00:00" if "synced_after" in settings else None,
        "flokit_conn_id": "other",
        "poll_interval": 7.0,
        "timeout": 111.0,
        "start_timeout": 22.0,
        "fail_on_disconnected": True,
        "tolerate_failures": "silent_fail" in settings,
        "try_number": 3,
    }
    # Airflow's own end of the deferral comes a margin after the trigger's.
    assert deferred.value.timeout > timedelta(seconds=111)


@pytest.mark.parametrize("name", ["timeout", "soft_fail, timeout", "success"])
def test_a_deferral_that_airflow_ends_is_looked_at_once_more(flokit: Simulator, name: str) -> None:
    """When no triggerer was alive to end the wait, the sensor ends as if one had been."""
    scenario = Scenario(AS_BEFORE, [SYNCING, DONE], "success") if name == "success" else SCENARIOS[name]
    ended = play(flokit, scenario, ("sensor", ABANDONED))
    in_a_worker = play(flokit, scenario, ("sensor", WORKER))
    assert (ended.state, ended.error, same(ended)) == (in_a_worker.state, in_a_worker.error, same(in_a_worker))


def test_an_operator_whose_deferral_airflow_ends_can_be_retried(flokit: Simulator) -> None:
    """Before Airflow 3.3 it has no receipt to look with: a clear error that asks for the triggerer."""
    ended = play(flokit, SCENARIOS["timeout"], ("operator", ABANDONED))
    assert ended.error == "FlokitWaitTimeoutError"
    assert ended.message.startswith("FlokitTriggerSyncOperator 'sync'")
    assert "does a triggerer run?" in ended.message
    assert not issubclass(FlokitWaitTimeoutError, AirflowFailException)


def test_an_operator_with_its_receipt_in_the_store_looks_once_more(flokit: Simulator) -> None:
    """A sync that is done by then is a success; one that runs on is a timeout that the next try goes on from."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(duration=0), Sync(duration=math.inf))
    store = TaskStateStore()
    task = FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE, wait_for_completion=True, deferrable=True)
    context: Any = {"ti": TaskInstance(task, max_tries=1), "task_state_store": store}
    with pytest.raises(TaskDeferred):
        task.execute(context)
    receipt = task.resume_execution("__fail__", AIRFLOW_ENDS_A_DEFERRAL, context)
    assert receipt["sync_id"] == flokit.syncs[0].sync_id
    assert store == {}
    with pytest.raises(TaskDeferred):
        task.execute(context)
    with pytest.raises(FlokitWaitTimeoutError, match="is syncing"):
        task.resume_execution("__fail__", AIRFLOW_ENDS_A_DEFERRAL, context)
    assert store["flokit_receipt"]["receipt"]["sync_id"] == flokit.syncs[1].sync_id


@pytest.mark.parametrize(
    ("kind", "seconds", "over"),
    [
        (FlokitIntegrationSensor, 61, True),
        (FlokitTriggerSyncOperator, 61, True),
        (FlokitIntegrationSensor, 0, False),
    ],
)
def test_an_execution_timeout_that_passed_without_a_triggerer_is_no_timeout_of_the_wait(
    flokit: Simulator, kind: Any, seconds: float, over: bool
) -> None:
    """Airflow 3 does not count it while a task is deferred; it is told by the start of the try."""
    flokit.add_integration(STRIPE)
    task = kind(task_id="t", integration_id=STRIPE, execution_timeout=timedelta(seconds=60), timeout=600)
    context: Any = {"ti": TaskInstance(task, start_date=datetime.now(tz=UTC) - timedelta(seconds=seconds))}
    with pytest.raises(AirflowTaskTimeout) if over else nullcontext():
        assert task.resume_execution("__fail__", AIRFLOW_ENDS_A_DEFERRAL, context)["id"] == STRIPE


# Little time left


@pytest.mark.parametrize(
    "wait",
    [
        lambda: sense(RESCHEDULE, integration_id=STRIPE, synced_after=AFTER, settle=1000),
        lambda: sense(WORKER, deferrable=True, integration_id=STRIPE, synced_after=AFTER, settle=1000),
        lambda: operate(WORKER, deferrable=True, wait_for_completion=True, settle=1000),
        lambda: operate(
            WORKER,
            deferrable=True,
            wait_for_completion=True,
            timeout=9000,
            execution_timeout=timedelta(seconds=60),
            settle=1000,
        ),
    ],
    ids=["rescheduled sensor", "deferrable sensor", "deferrable operator", "execution_timeout"],
)
def test_a_wait_that_is_nearly_over_does_not_leave_the_worker(flokit: Simulator, wait: Callable[[], End]) -> None:
    """A task that would be back sooner than SETTLE polls on: a busy Airflow takes what is back at once for lost."""
    assert FlokitIntegrationTrigger.SETTLE == 10
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(start_delay=math.inf))
    with staged(flokit, lambda: flokit.set_state(STRIPE, last_synced_at=datetime.now(tz=UTC))):
        ended = wait()
    assert ended.state == "success", ended.message


# Tries and events


@KINDS
def test_the_event_of_an_earlier_try_is_not_taken_for_this_ones(flokit: Simulator, kind: Any) -> None:
    """
    Airflow 3.0 resumes a retry with the event that its failed try ended with: the retry begins anew instead.

    It has all of its execution_timeout again, although ``start_date`` is the earlier try's.
    """
    is_operator = kind is FlokitTriggerSyncOperator
    settings = {"wait_for_completion": True, "poll_interval": 0.03} if is_operator else {"poke_interval": 0.03}
    settings["execution_timeout"] = timedelta(hours=2)
    task = kind(task_id="t", integration_id=STRIPE, deferrable=True, **settings)
    context: Any = {"ti": TaskInstance(task, max_tries=1, start_date=datetime.now(tz=UTC) - timedelta(hours=1))}
    not_ready = "connected" if is_operator else "syncing"
    flokit.add_integration(STRIPE, status=not_ready, last_synced_at=BEFORE, sync=Sync(start_delay=math.inf))
    with pytest.raises(TaskDeferred) as first:
        task.execute(context)
    flokit.set_state(STRIPE, status="error")
    event = event_of(first.value)
    with pytest.raises(FlokitSyncFailedError):
        task.resume_execution("execute_complete", {"event": event}, context)
    context["ti"].try_number = 2
    flokit.set_state(STRIPE, status=not_ready)
    with pytest.raises(TaskDeferred) as second:
        task.resume_execution("execute_complete", {"event": event}, context)
    ends = [deferred.value.trigger.serialize()[1]["execution_deadline"] for deferred in (first, second)]
    assert ends[1] - ends[0] == pytest.approx(3600, abs=60)
    flokit.set_state(STRIPE, status="connected", last_synced_at=AFTER)
    assert task.resume_execution("execute_complete", {"event": event_of(second.value)}, context)


@KINDS
@pytest.mark.parametrize("event", [{"status": "success"}, None], ids=repr)
def test_an_event_that_is_not_ours_fails_loudly(kind: Any, event: Any) -> None:
    """A trigger's event is checked before it is believed."""
    task = kind(task_id="t", integration_id=STRIPE)
    with pytest.raises(FlokitError, match="not understood"):
        task.resume_execution("execute_complete", {"event": event}, {"ti": TaskInstance(task)})


@KINDS
def test_a_failure_of_the_triggerer_itself_is_none_of_ours(kind: Any) -> None:
    """If Airflow resumes a task because its trigger broke, the task fails as Airflow has it, not as a timeout."""
    task = kind(task_id="t", integration_id=STRIPE)
    with pytest.raises(Exception, match=r"Trigger failure") as error:
        task.resume_execution("__fail__", {"error": "Trigger failure"}, {"ti": TaskInstance(task)})
    assert type(error.value).__name__ == "TaskDeferralError"
