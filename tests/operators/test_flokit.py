"""The operator: what it sends, what it returns, what it refuses, and how its wait ends in a worker and deferred."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitError, FlokitWaitTimeoutError
from airflow_provider_flokit.gate import wait
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.models import SyncReceipt
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.simulator import Fault, Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import ABANDONED, DEFERRED, WORKER, End, TaskInstance, TaskStateStore, event_of, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

STRIPE = "int_01hx4j7stripe"
BEFORE, AFTER = "2024-03-15T12:00:00Z", "2024-03-15T13:00:00Z"
SETTLE = FlokitIntegrationTrigger.SETTLE

in_each_mode = pytest.mark.parametrize("mode", [WORKER, DEFERRED])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)
    monkeypatch.setattr(FlokitIntegrationTrigger, "SETTLE", 0.0)


def operator(**arguments: Any) -> FlokitTriggerSyncOperator:
    """Make an operator that waits and polls quickly."""
    settings = {"integration_id": STRIPE, "wait_for_completion": True, "poll_interval": 0.03, "timeout": 30}
    return FlokitTriggerSyncOperator(task_id="sync", **{**settings, **arguments})


def operate(mode: str = WORKER, **arguments: Any) -> End:
    """Run the operator to its end."""
    return run(lambda: operator(**{"deferrable": mode != WORKER, **arguments}), mode)


def deferral(task: FlokitTriggerSyncOperator, **context: Any) -> TaskDeferred:
    """Execute a task that has to defer, and return how it did."""
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": TaskInstance(task), **context})
    return deferred.value


# What it sends and returns


def test_it_starts_one_sync_and_returns_its_receipt(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The return value is the receipt with the state from before the POST; who does not wait is told so."""
    monkeypatch.setattr(FlokitTriggerSyncOperator, "log", logging.getLogger("task"))
    flokit.add_integration(STRIPE, status="error", error_message="boom", last_synced_at=BEFORE)
    with caplog.at_level(logging.INFO):
        ended = operate(wait_for_completion=False)
    (sync,) = flokit.syncs
    assert list(ended.xcoms) == ["return_value"]
    receipt = SyncReceipt.from_json(ended.xcoms["return_value"])
    assert (receipt.sync_id, receipt.idempotency_key, receipt.skipped) == (sync.sync_id, sync.idempotency_key, False)
    assert (receipt.baseline.status, receipt.baseline.error_message) == ("error", "boom")
    assert [r.method for r in flokit.requests] == ["GET", "POST"]
    assert "Not waiting: the next task starts now" in caplog.text


@in_each_mode
def test_who_waits_also_leaves_the_final_state(flokit: SimulatedFlokit, mode: str) -> None:
    """The XCom "integration" is what the integration looked like at the end; the return value stays the receipt."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE)
    ended = operate(mode)
    assert ended.state == "success", ended.message
    assert ended.xcoms["return_value"]["sync_id"] == flokit.syncs[0].sync_id
    assert ended.xcoms["return_value"]["baseline"]["last_synced_at"] == BEFORE
    assert ended.xcoms["integration"]["status"] == "connected"
    assert ended.xcoms["integration"]["last_synced_at"] > BEFORE


@in_each_mode
def test_a_failed_sync_fails_the_task_and_leaves_the_final_state(flokit: SimulatedFlokit, mode: str) -> None:
    """The message names the integration, FloKit's own words and the sync."""
    flokit.add_integration(STRIPE, sync=Sync(error="bad signing secret"))
    ended = operate(mode)
    assert (ended.state, ended.error) == ("failed", "FlokitSyncFailedError")
    assert ended.message.startswith(f"{STRIPE} (stripe) is in error: bad signing secret")
    assert flokit.syncs[0].sync_id in ended.message
    assert ended.xcoms["integration"]["status"] == "error"


def test_a_type_stands_for_its_one_integration(flokit: SimulatedFlokit) -> None:
    """integration_type finds the id; the receipt names it."""
    flokit.add_integration(STRIPE, type="stripe")
    flokit.add_integration("int_b", type="adjust")
    ended = operate(integration_id=None, integration_type="stripe")
    assert ended.xcoms["return_value"]["integration_id"] == STRIPE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"integration_id": "int_01hx4j7stirpe"}, f"did you mean {STRIPE}?"),
        ({"integration_id": None, "integration_type": "strip"}, "did you mean stripe?"),
        ({"integration_id": None, "integration_type": "adjust"}, "int_a, int_b"),
    ],
    ids=["unknown id", "unknown type", "ambiguous type"],
)
def test_what_cannot_be_found_is_told_with_what_comes_closest(
    flokit: SimulatedFlokit, arguments: dict[str, Any], says: str
) -> None:
    """A permanent error; nothing is synced."""
    flokit.add_integration(STRIPE, type="stripe")
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, type="adjust")
    ended = operate(**arguments)
    assert ended.state == "failed"
    assert says in ended.message
    assert "'flokit_default'" in ended.message
    assert flokit.syncs == []


def test_a_read_only_key_is_told_by_what_it_cannot_do(flokit: SimulatedFlokit) -> None:
    """403 on the POST: the message says which key is needed, and no try is spent on it."""
    flokit.add_integration(STRIPE)
    flokit.connect(api_key=flokit.read_only_key)
    ended = operate()
    assert ended.error == "FlokitPermissionError"
    assert "read-write key" in ended.message


@in_each_mode
def test_a_running_sync_is_attached_to(flokit: SimulatedFlokit, mode: str) -> None:
    """409: the receipt has no sync_id, and the wait ends with the sync that was running, at its first success."""
    flokit.add_integration(STRIPE)
    flokit.fail(409, method="POST")
    syncing = {"status": "syncing", "last_synced_at": BEFORE}
    flokit.script(STRIPE, [syncing, syncing, {"status": "connected", "last_synced_at": AFTER}])
    ended = operate(mode)
    assert ended.state == "success", ended.message
    assert (ended.xcoms["return_value"]["sync_id"], ended.xcoms["return_value"]["skipped"]) == (None, False)
    assert ended.xcoms["integration"]["last_synced_at"] == AFTER


def test_an_old_error_is_forgiven_from_the_409_on(flokit: SimulatedFlokit) -> None:
    """The baseline may be old by then: start_timeout counts from when FloKit told of the running sync."""
    flokit.when_running = "conflict"
    flokit.add_integration(STRIPE)
    flokit.run_scheduled_sync(STRIPE, Sync(duration=600))
    flokit.fail(Fault.slow(2, after_effect=False), method="POST")
    receipt = SyncReceipt.from_json(operate(wait_for_completion=False).xcoms["return_value"])
    assert receipt.triggered_at - flokit.requests[0].at > timedelta(seconds=1)


def test_an_answer_lost_after_the_request_took_effect_starts_no_second_sync(flokit: SimulatedFlokit) -> None:
    """The POST is repeated with the same Idempotency-Key."""
    flokit.add_integration(STRIPE)
    flokit.fail(Fault.drop_after(), method="POST")
    assert operate().state == "success"
    posts = [r for r in flokit.requests if r.method == "POST"]
    assert len(posts) == 2
    assert len({r.idempotency_key for r in posts}) == 1
    assert len(flokit.syncs) == 1


@pytest.mark.parametrize("waits", [True, False])
def test_fresh_data_is_not_synced_again(flokit: SimulatedFlokit, waits: bool) -> None:
    """skip_if_synced_within: no POST, a receipt that says so (mapping over it loses no item), one request."""
    flokit.add_integration(STRIPE)
    ended = operate(skip_if_synced_within=timedelta(hours=2), wait_for_completion=waits)
    assert ended.state == "success"
    assert ended.xcoms["return_value"]["skipped"] is True
    assert ended.xcoms["return_value"]["sync_id"] is None
    assert ("integration" in ended.xcoms) is waits
    assert [r.method for r in flokit.requests] == ["GET"]


@pytest.mark.parametrize(
    ("state", "within"),
    [({}, timedelta(minutes=30)), ({"status": "error"}, timedelta(hours=2))],
    ids=["stale", "in error"],
)
def test_only_fresh_and_connected_data_saves_the_sync(
    flokit: SimulatedFlokit, state: dict[str, Any], within: timedelta
) -> None:
    """An hour-old success is not within 30 minutes, and an integration in error is never fresh."""
    flokit.add_integration(STRIPE, **state)
    operate(skip_if_synced_within=within, wait_for_completion=False)
    assert len(flokit.syncs) == 1


def test_freshness_goes_by_the_servers_clock(flokit: SimulatedFlokit) -> None:
    """A server whose clock is a day off is asked what time it is."""
    flokit.clock_skew = -86_400.0
    flokit.add_integration(STRIPE, last_synced_at=datetime.fromtimestamp(flokit.server_time() - 50 * 60, tz=UTC))
    assert operate(skip_if_synced_within=timedelta(hours=1)).xcoms["return_value"]["skipped"] is True


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"integration_id": None}, "integration_id"),
        ({"integration_type": "stripe"}, "integration_type"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"timeout": float("nan")}, "timeout"),
        ({"start_timeout": None}, "start_timeout"),
        ({"skip_if_synced_within": 3600}, "skip_if_synced_within"),
        ({"wait_for_completion": "yes"}, "wait_for_completion"),
        ({"deferrable": 1}, "deferrable"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_dag_is_read(arguments: dict[str, Any], names: str) -> None:
    """The error names the class, the task and the parameter: Airflow's import-error page shows nothing else."""
    with pytest.raises(FlokitArgumentError, match=rf"^FlokitTriggerSyncOperator 'sync': .*{names}"):
        operator(**arguments)


def test_a_setting_without_effect_is_warned_of() -> None:
    """start_timeout says something about waiting only."""
    with pytest.warns(UserWarning, match="FlokitTriggerSyncOperator 'sync': start_timeout has no effect"):
        operator(wait_for_completion=False, start_timeout=10)


@pytest.mark.parametrize("rendered", [None, 5, "", "None", "a/b", "../x", "a\nb", ["a", "b"], '["a", "b"]', "{{ x }}"])
def test_an_id_that_cannot_be_one_is_refused_before_any_request(flokit: SimulatedFlokit, rendered: Any) -> None:
    """A template may render to anything, also to nothing and to the text of a list."""

    def make() -> FlokitTriggerSyncOperator:
        task = operator(integration_id="{{ template }}")
        task.integration_id = rendered
        return task

    ended = run(make, WORKER)
    assert (ended.state, ended.error) == ("failed", "FlokitArgumentError")
    assert ended.message.startswith("FlokitTriggerSyncOperator 'sync': integration_id")
    assert flokit.requests == []


@pytest.mark.parametrize("event", [{"status": "success"}, None, {"ending": "failed", "error": "SystemExit"}])
def test_an_event_that_is_not_ours_fails_loudly(event: Any) -> None:
    """A trigger's event is checked before it is believed."""
    task = operator()
    with pytest.raises(FlokitError, match="not understood"):
        task.resume_execution("execute_complete", {"event": event}, {"ti": TaskInstance(task)})


# The wait in a worker


def test_a_wait_survives_an_api_that_is_down_for_a_while(flokit: SimulatedFlokit) -> None:
    """Transient failures while polling never end a wait."""
    flokit.add_integration(STRIPE)
    flokit.fail(503, method="GET", times=4, after=1)
    flokit.fail(Fault.drop(), method="GET", times=2, after=1)
    flokit.fail(Fault.answer(200, "html"), method="GET", times=2, after=1)
    assert operate().state == "success"


def rotate_after_the_post(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the key die as soon as the sync is started."""
    start = FlokitHook.start_sync

    def start_then_rotate(self: FlokitHook, *given: Any) -> Any:
        answer = start(self, *given)
        flokit.rotate_key("fk_rw_new")
        return answer

    monkeypatch.setattr(FlokitHook, "start_sync", start_then_rotate)


@in_each_mode
def test_a_key_rotated_during_the_wait_is_waited_for(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """After the POST a 401 is sat out: somebody needs minutes to paste the new key into the connection."""
    flokit.add_integration(STRIPE)
    rotate_after_the_post(flokit, monkeypatch)

    def paste_the_new_key() -> None:
        while [r.status for r in flokit.requests].count(401) < 3:
            time.sleep(0.01)
        flokit.connect(api_key="fk_rw_new")

    somebody = threading.Thread(target=paste_the_new_key, daemon=True)
    somebody.start()
    ended = operate(mode)
    assert ended.state == "success", ended.message


@in_each_mode
def test_a_key_that_stays_wrong_ends_the_wait_when_patience_is_over(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Nothing but refusals for 15 minutes is final, with the last refusal."""
    assert wait.PATIENCE == 900
    monkeypatch.setattr(wait, "PATIENCE", 0.3)
    flokit.add_integration(STRIPE)
    rotate_after_the_post(flokit, monkeypatch)
    ended = operate(mode, timeout=600)
    assert (ended.state, ended.error) == ("failed", "FlokitAuthenticationError")
    assert [r.status for r in flokit.requests].count(401) >= 2


@in_each_mode
def test_a_wait_that_runs_out_of_time_says_why_it_was_not_ready(flokit: SimulatedFlokit, mode: str) -> None:
    """The message has the verdict's reason and the time it was given; a retry may mend it."""
    flokit.add_integration(STRIPE, sync=Sync(duration=600))
    ended = operate(mode, timeout=1.5)
    assert (ended.state, ended.error) == ("failed", "FlokitWaitTimeoutError")
    assert f"{STRIPE} (stripe) is syncing" in ended.message
    assert "not ready within 2 s" in ended.message
    assert not issubclass(FlokitWaitTimeoutError, AirflowFailException)
    assert ended.xcoms["integration"]["status"] == "syncing"


# Deferral


def test_every_setting_reaches_the_trigger(flokit: SimulatedFlokit) -> None:
    """poll_interval, timeout, start_timeout, the connection, the deadlines and the try are those of the task."""
    flokit.connect("other")
    flokit.add_integration(STRIPE)
    began = time.time()
    task = operator(
        flokit_conn_id="other",
        deferrable=True,
        poll_interval=7.0,
        timeout=111.0,
        start_timeout=22.0,
        execution_timeout=timedelta(seconds=99),
    )
    deferred = deferral(task, ti=TaskInstance(task, try_number=3))
    _, arguments = deferred.trigger.serialize()
    expected = {"poll_interval": 7.0, "timeout": 111.0, "start_timeout": 22.0, "flokit_conn_id": "other"}
    assert {name: arguments[name] for name in expected} == expected
    assert arguments["receipt"]["sync_id"] == flokit.syncs[0].sync_id
    assert arguments["deadline"] == pytest.approx(began + 111, abs=10)
    assert arguments["execution_deadline"] == pytest.approx(began + 99, abs=10)
    assert arguments["try_number"] == 3
    # Airflow's own end of the deferral comes a margin after the trigger's.
    assert deferred.timeout > timedelta(seconds=111)


@pytest.mark.parametrize("short", [{"timeout": 9}, {"execution_timeout": timedelta(seconds=9)}], ids=repr)
def test_with_little_time_left_it_polls_on_in_the_worker(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, short: dict[str, Any]
) -> None:
    """A task that resumes sooner than SETTLE after it deferred may be taken for one that died."""
    assert SETTLE == 10
    monkeypatch.setattr(FlokitIntegrationTrigger, "SETTLE", SETTLE)
    flokit.add_integration(STRIPE)
    task = operator(deferrable=True, **short)
    assert task.execute({"ti": TaskInstance(task)})["sync_id"] == flokit.syncs[0].sync_id


def test_execution_timeout_ends_a_deferred_wait_measured_from_the_start_of_the_try(flokit: SimulatedFlokit) -> None:
    """It ends as AirflowTaskTimeout, which is retried; the retry has its time again, measured from its own start."""
    flokit.add_integration(STRIPE, sync=Sync(duration=600))
    task = operator(deferrable=True, timeout=600, execution_timeout=timedelta(minutes=2))
    first = TaskInstance(task)
    first.start_date = datetime.now(tz=UTC) - timedelta(seconds=116)
    began = time.monotonic()
    deferred = deferral(task, ti=first)
    event = event_of(deferred)
    assert time.monotonic() - began < 60
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout"):
        task.resume_execution("execute_complete", {"event": event}, {"ti": first})
    second = TaskInstance(task, try_number=2)
    second.start_date = datetime.now(tz=UTC)
    left = deferral(task, ti=second).trigger.serialize()[1]["execution_deadline"] - time.time()
    assert left == pytest.approx(120, abs=10)


def test_an_event_of_an_earlier_try_starts_anew(flokit: SimulatedFlokit) -> None:
    """Airflow 3.0 resumes a retry with the event of the try that failed: it is not taken for the new one's."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(error="boom"), Sync())
    task = operator(deferrable=True)
    event = event_of(deferral(task))
    assert (event["ending"], event["try_number"]) == ("failed", 1)
    context: Any = {"ti": TaskInstance(task, try_number=2)}
    with pytest.raises(TaskDeferred) as again:
        task.resume_execution("execute_complete", {"event": event}, context)
    second = event_of(again.value)
    receipt = task.resume_execution("execute_complete", {"event": second}, context)
    assert receipt["sync_id"] == flokit.syncs[1].sync_id


# Airflow ends the deferral, as no triggerer is alive to do so


def test_without_a_receipt_at_hand_it_fails_retryably(flokit: SimulatedFlokit) -> None:
    """Before Airflow 3.3 nothing is kept: the message asks for the triggerer."""
    flokit.add_integration(STRIPE)
    ended = operate(ABANDONED)
    assert ended.error == "FlokitWaitTimeoutError"
    assert "does a triggerer run?" in ended.message


def test_with_the_receipt_in_the_store_it_looks_once_more(flokit: SimulatedFlokit) -> None:
    """A sync that is done by then is a success; one that runs on is a timeout that the next try goes on from."""
    flokit.add_integration(STRIPE)
    flokit.plan(STRIPE, Sync(duration=0), Sync(duration=600))
    ended_by_airflow: dict[str, Any] = {"error": "Trigger timeout"}
    store, task = TaskStateStore(), operator(deferrable=True)
    context: Any = {"ti": TaskInstance(task, max_tries=1), "task_state_store": store}
    deferral(task, **context)
    assert task.resume_execution("__fail__", ended_by_airflow, context)["sync_id"] == flokit.syncs[0].sync_id
    assert store.values == {}
    deferral(task, **context)
    with pytest.raises(FlokitWaitTimeoutError, match="is syncing"):
        task.resume_execution("__fail__", ended_by_airflow, context)
    assert json.loads(store.values["flokit_receipt"])["receipt"]["sync_id"] == flokit.syncs[1].sync_id


def test_an_execution_timeout_that_airflow_enforces_is_told_as_such(flokit: SimulatedFlokit) -> None:
    """Airflow 2.11 ends a deferral for execution_timeout by itself; the task fails as in a worker."""
    flokit.add_integration(STRIPE)
    task = operator(deferrable=True, timeout=600, execution_timeout=timedelta(minutes=2))
    ti = TaskInstance(task)
    ti.start_date = datetime.now(tz=UTC) - timedelta(minutes=3)
    with pytest.raises(AirflowTaskTimeout):
        task.resume_execution("__fail__", {"error": "Trigger/execution timeout"}, {"ti": ti})
