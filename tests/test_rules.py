"""
What users met in the field, each in every mode that it concerns: a sensor in a worker, rescheduled and deferred, and an
operator that waits by itself, in a worker and deferred. What takes a DAG is in test_taskflow, what takes a killed
worker in operators/test_retries.
"""

from __future__ import annotations

import math
import time
from collections import UserList
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat import connection as compat
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitConnectionNotFoundError, FlokitError
from airflow_provider_flokit.gate import wait as gate_wait
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.models import SyncReceipt
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import (
    ADAPTY,
    ADJUST,
    AFTER,
    BEFORE,
    DEFERRED,
    EACH_FORM,
    FORMS,
    LIST,
    RESCHEDULE,
    SENSORS,
    STRIPE,
    WORKER,
    TaskInstance,
    airflow_in,
    logged,
    looks,
    operate,
    sense,
    staged,
    sync_and_wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

RUNNING = Sync(duration=math.inf)  # until a test says how it ends


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which tasks and triggers log."""
    return logged(monkeypatch)


def succeed(flokit: SimulatedFlokit, moments: list[datetime] | None = None) -> Callable[[], object]:
    """Return what lets the integration show a success of this moment by FloKit's clock, and note it."""

    def act() -> None:
        moment = datetime.fromtimestamp(flokit.server_time(), tz=UTC)
        flokit.set_state(STRIPE, status="connected", error_message=None, last_synced_at=moment)
        if moments is not None:
            moments.append(moment)

    return act


# One look before a deferral


@pytest.mark.parametrize(
    ("prepare", "ends", "requests"),
    [
        (lambda flokit: None, "success", 1),
        (lambda flokit: flokit.set_state(STRIPE, status="error"), "FlokitSyncFailedError", 1),
        (lambda flokit: flokit.set_state(STRIPE, status="disconnected"), "FlokitDisconnectedError", 1),
        (lambda flokit: flokit.connect(api_key="fk_wrong_key"), "FlokitAuthenticationError", 1),
        (lambda flokit: flokit.remove_integration(STRIPE), "FlokitNotFoundError", 2),
        (lambda flokit: flokit.set_state(STRIPE, status="syncing"), "TaskDeferred", 1),
        (lambda flokit: flokit.fail(Fault.rate_limited(60), times=None), "TaskDeferred", 1),
        (lambda flokit: flokit.fail(503, times=None), "TaskDeferred", 1),
        (lambda flokit: flokit.fail(Fault.drop(), times=None), "TaskDeferred", 1),
        (lambda flokit: flokit.fail(Fault.answer(200, "html"), times=None), "TaskDeferred", 1),
    ],
    ids=["ready", "error", "disconnected", "wrong key", "unknown id", "syncing", "429", "503", "no answer", "no JSON"],
)
def test_a_deferrable_sensor_looks_once_before_it_defers(
    flokit: SimulatedFlokit, prepare: Any, ends: str, requests: int
) -> None:
    """Ready is a success at once, what can never be a failure at once; all else defers, and nothing is retried."""
    flokit.add_integration(STRIPE)
    prepare(flokit)
    sensor = FlokitIntegrationSensor(task_id="wait", deferrable=True, integration_id=STRIPE)
    try:
        ended = "success" if sensor.execute({"ti": TaskInstance(sensor)})["id"] == STRIPE else "another"
    except (FlokitError, TaskDeferred) as error:
        ended = type(error).__name__
    assert (ended, len(flokit.requests)) == (ends, requests)


# Whose success, whose failure


@FORMS
def test_a_later_syncs_failure_is_not_this_ones(
    flokit: SimulatedFlokit, told: list[str], form: tuple[str, str]
) -> None:
    """
    Sync A succeeds, and before the next poll another DAG's sync B starts and fails.

    A is ready, with a warning that the integration is in error by now; B fails.
    """
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, sync=RUNNING)
    receipts: list[Any] = []

    def request_b_which_fails() -> None:
        with FlokitHook() as hook:  # Airflow 2 runs operators in the main thread only
            before, started = hook.read(STRIPE), hook.start_sync(STRIPE, None)
        receipts.append(SyncReceipt(STRIPE, before.value, started.at, started.value).to_json())
        now = datetime.now(tz=UTC)
        flokit.set_state(STRIPE, status="error", error_message="B failed", last_synced_at=now)

    with staged(flokit, request_b_which_fails):
        seen = sync_and_wait(form).last_seen
    assert (seen["status"], seen["error_message"]) == ("error", "B failed")
    assert [line for line in told if line.startswith("WARNING") and "the latest one failed: B failed" in line]
    b_ended = sense(form[1], receipt=receipts[0])
    assert b_ended.error == "FlokitSyncFailedError"
    assert "B failed" in b_ended.message


@FORMS
def test_a_sync_that_is_queued_behind_another_is_waited_for(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """
    A sync was running when ours was requested; it ends, ours begins 10 s later, and polls come in between.

    Ready is only what has succeeded twice, or (rescheduled, it is not known how often) has been quiet for 30 s.
    """
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, status="syncing", sync=RUNNING)
    successes: list[datetime] = []
    acts: list[Callable[[], object]] = [
        succeed(flokit, successes),
        lambda: flokit.configure(clock_skew=10.0),
        lambda: flokit.set_state(STRIPE, status="syncing"),
        succeed(flokit, successes),
    ]
    if form[1] == RESCHEDULE:
        acts.append(lambda: flokit.configure(clock_skew=45.0))
    with staged(flokit, *acts):
        ended = sync_and_wait(form)
    assert datetime.fromisoformat(ended.last_seen["last_synced_at"]) == successes[1]


@FORMS
def test_behind_another_sync_a_single_success_counts_after_30_seconds(
    flokit: SimulatedFlokit, form: tuple[str, str]
) -> None:
    """FloKit joined the two: nothing has begun behind the success by then, by its own clock."""
    flokit.add_integration(STRIPE, status="syncing", sync=RUNNING)
    aged: list[bool] = []

    def age() -> None:
        aged.append(True)
        flokit.clock_skew = 32.0

    with staged(flokit, succeed(flokit), age):
        assert sync_and_wait(form).last_seen["status"] == "connected"
        assert aged == [True]


@FORMS
def test_a_running_sync_that_was_attached_to_is_ours(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """The POST was answered 409: the end of the running sync is ours, at once."""
    flokit.when_running = "conflict"
    flokit.add_integration(STRIPE)
    flokit.run_scheduled_sync(STRIPE, RUNNING)
    before: list[int] = []
    with staged(flokit, lambda: (succeed(flokit)(), before.append(looks(flokit)))):
        ended = sync_and_wait(form)
    assert ended.last_seen["status"] == "connected"
    assert looks(flokit) - before[0] <= 3
    assert form[0] == "sensor" or ended.value["sync_id"] is None
    assert len(flokit.syncs) == 1


@FORMS
def test_the_failure_of_the_sync_before_ours_is_not_ours(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """A sync runs at the baseline and fails, ours is queued behind it and succeeds."""
    flokit.when_running = "queue"
    flokit.add_integration(STRIPE, status="syncing", sync=RUNNING)
    acts = [
        lambda: flokit.set_state(STRIPE, status="error", error_message="theirs"),
        lambda: flokit.set_state(STRIPE, status="syncing", error_message=None),
        succeed(flokit),
        lambda: flokit.configure(clock_skew=32.0),
    ]
    with staged(flokit, *acts):
        assert sync_and_wait(form).last_seen["status"] == "connected"


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_what_was_ready_once_stays_so(flokit: SimulatedFlokit, mode: str) -> None:
    """Three integrations with ``synced_after`` that sync again and again, never all quiet in one look."""
    names = [STRIPE, ADJUST, ADAPTY]
    for number, name in enumerate(names):
        flokit.add_integration(name, last_synced_at=AFTER)
        turns = [{"status": "connected" if turn % 3 == number else "syncing"} for turn in range(12)]
        flokit.script(name, [*turns, {"status": "syncing"}])
    assert sense(mode, integration_id=names, synced_after=BEFORE).state == "success"
    assert looks(flokit) <= 5  # not at the deadline only


@SENSORS
def test_fresh_data_is_ready_whatever_happens_next(flokit: SimulatedFlokit, mode: str) -> None:
    """A fresh (skipped) receipt whose integration begins to sync before the sensor looks; ``synced_after`` counts."""
    flokit.add_integration(STRIPE)
    receipt = operate(skip_if_synced_within=timedelta(hours=2)).value
    for status in ("syncing", "error"):
        flokit.set_state(STRIPE, status=status)
        flokit.clear_requests()
        assert sense(mode, receipt=receipt).last_seen["status"] == status
        assert len(flokit.requests) == 1
    flokit.set_state(STRIPE, status="connected")
    late = sense(mode, receipt=receipt, synced_after=datetime.now(tz=UTC), timeout=0.3)
    assert late.error == "AirflowSensorTimeout"


@SENSORS
def test_of_two_receipts_for_one_integration_the_later_one_counts(flokit: SimulatedFlokit, mode: str) -> None:
    """A mapped sync that names an integration twice."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    first = operate().value
    flokit.clock_skew = 2.0  # FloKit's Date, by which they are told apart, has seconds
    flokit.plan(STRIPE, RUNNING)
    second = operate().value
    with staged(flokit, lambda: flokit.finish_sync(STRIPE)):
        (state,) = sense(mode, receipt=[second, first]).value
    assert datetime.fromisoformat(state["last_synced_at"]) == flokit.syncs[1].finished_at


@SENSORS
def test_a_naive_time_is_in_airflows_default_timezone(flokit: SimulatedFlokit, mode: str) -> None:
    """``default_timezone=America/New_York``: 6:00 is 10:00Z; a sync of 07:00Z is three hours early."""
    flokit.add_integration(STRIPE, last_synced_at="2026-03-15T07:00:00Z")
    naive = datetime(2026, 3, 15, 6, 0)  # noqa: DTZ001 - a naive one is what this is about
    with airflow_in("America/New_York"):
        for moment in (naive, naive.isoformat()):
            early = sense(mode, integration_id=STRIPE, synced_after=moment, timeout=0.3)
            assert early.error == "AirflowSensorTimeout"
        flokit.set_state(STRIPE, last_synced_at="2026-03-15T10:00:00Z")
        assert sense(mode, integration_id=STRIPE, synced_after=naive).state == "success"


# An API that refuses, or cannot be asked


@FORMS
def test_what_may_pass_in_the_middle_of_a_wait_is_sat_out(
    flokit: SimulatedFlokit, told: list[str], form: tuple[str, str]
) -> None:
    """An API that is down for a while, and one odd 404 (HTML), 403 or 400 of the list."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE, sync=Sync(start_delay=math.inf))
    done = {"status": "connected", "last_synced_at": AFTER}
    flokit.script(STRIPE, [{"status": "connected"}, {"status": "syncing"}, done])
    html = [Fault.answer(200, "html"), Fault.answer(404, "html")]
    for fault in (503, Fault.drop(), Fault.rate_limited(0), *html, 403, 400):
        flokit.fail(fault, path=LIST, after=1)
    assert sync_and_wait(form).last_seen["last_synced_at"] == AFTER
    for status in (404, 403, 400):
        assert len([line for line in told if f"HTTP {status}" in line and "The wait goes on" in line]) == 1
    assert form[1] == RESCHEDULE or any("answers again" in line for line in told)


@FORMS
def test_a_rotated_key_is_sat_out_until_the_new_one_is_there(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """The key is rotated in the middle of a wait, the connection is updated some refusals later."""
    flokit.add_integration(STRIPE, sync=RUNNING)
    with staged(flokit, flokit.rotate_key, flokit.connect, succeed(flokit)):
        assert sync_and_wait(form).last_seen["status"] == "connected"
    assert looks(flokit, 401) >= 2


@pytest.mark.parametrize("form", [form for form in EACH_FORM if form[1] != RESCHEDULE], ids=" ".join)
def test_nothing_but_refusals_for_15_minutes_is_a_failure(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, form: tuple[str, str]
) -> None:
    """With the last refusal; here it is 0.5 s. It comes before the wait's own deadline."""
    assert gate_wait.PATIENCE == 15 * 60
    monkeypatch.setattr(gate_wait, "PATIENCE", 0.5)
    flokit.add_integration(STRIPE, sync=RUNNING)
    with staged(flokit, flokit.rotate_key):
        ended = sync_and_wait(form)
    assert ended.error == "FlokitAuthenticationError"
    assert "HTTP 401" in ended.message
    assert looks(flokit, 401) >= 2


def test_a_deferred_wait_sits_out_a_secrets_backend_that_is_away(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """The first two look-ups of the connection in the triggerer fail."""
    flokit.add_integration(STRIPE, status="syncing")
    look_up, failures = compat.get_async_connection, [1, 2]

    async def away(conn_id: str, **kwargs: Any) -> Any:
        if failures:
            failures.pop()
            raise RuntimeError("the secrets backend is away")
        flokit.set_state(STRIPE, status="connected")
        return await look_up(conn_id, **kwargs)

    monkeypatch.setattr(compat, "get_async_connection", away)
    assert sense(DEFERRED, integration_id=STRIPE).state == "success"
    assert failures == []
    assert sum("cannot be looked up (RuntimeError)" in line for line in told) == 1


@SENSORS
def test_a_connection_that_is_not_found_at_the_first_look_fails(flokit: SimulatedFlokit, mode: str) -> None:
    """With an error that a retry may mend, as a secrets backend that is away looks just the same."""
    ended = sense(mode, integration_id=STRIPE, flokit_conn_id="nowhere")
    assert ended.error == "FlokitConnectionNotFoundError"
    assert "'nowhere' is not defined" in ended.message
    assert not issubclass(FlokitConnectionNotFoundError, AirflowFailException)


@FORMS
@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault.answer(503), "HTTP 503"), (Fault.answer(401), "HTTP 401"), (Fault.rate_limited(86400), "86400 s")],
    ids=["503", "every look is refused", "Retry-After of a day"],
)
def test_a_wait_with_a_failing_api_ends_at_its_deadline(
    flokit: SimulatedFlokit, form: tuple[str, str], fault: Fault, says: str
) -> None:
    """One look more at the deadline, without retries: it goes on for no pause, and says why it knows no more."""
    flokit.add_integration(STRIPE, sync=RUNNING)
    flokit.fail(fault, path=LIST, times=None, after=form[0] == "sensor")  # an operator's POST was answered
    ended = sync_and_wait(form, interval=60, timeout=1)
    assert ended.error == ("AirflowSensorTimeout" if form[0] == "sensor" else "FlokitWaitTimeoutError")
    assert says in ended.message
    if form[1] == DEFERRED:  # the triggerer's poll tries again with growing pauses: 0.05 s, 0.1 s, 0.2 s ...
        assert looks(flokit) <= 12
    else:  # the first look and the last, which a Retry-After forbids
        assert looks(flokit) <= 2


# Airflow's own races and limits


@pytest.mark.parametrize(
    ("settings", "elapsed", "pause"),
    [
        ({"poke_interval": 60}, 100, 60),
        ({"poke_interval": 60, "exponential_backoff": True}, 100, 160),
        ({"poke_interval": 60, "exponential_backoff": True, "max_wait": timedelta(seconds=120)}, 100, 120),
        ({"poke_interval": 1}, None, FlokitIntegrationTrigger.SETTLE),
        ({"poke_interval": 20, "timeout": 22}, 20, None),
    ],
    ids=["poke_interval", "exponential_backoff", "max_wait", "no sooner than SETTLE", "no sooner than its deadline"],
)
def test_when_a_rescheduled_sensor_comes_back(
    flokit: SimulatedFlokit,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    elapsed: float | None,
    pause: float | None,
) -> None:
    """
    exponential_backoff adds what has elapsed of the wait, bounded by max_wait; SETTLE is the least.

    With ``poke_interval=20``, ``timeout=22``, the second poke would be back 2 s later: it stays in the worker.
    """
    flokit.add_integration(STRIPE, status="syncing")
    now = datetime.now(tz=UTC)
    first = None if elapsed is None else now - timedelta(seconds=elapsed)
    monkeypatch.setattr("airflow_provider_flokit.sensors.flokit.first_poke_at", lambda *_: first)
    sensor = FlokitIntegrationSensor(
        task_id="wait", integration_id=STRIPE, mode="reschedule", **{"timeout": 3600, **settings}
    )
    with pytest.raises(AirflowSensorTimeout if pause is None else AirflowRescheduleException) as ended:
        sensor.execute({"ti": TaskInstance(sensor)})
    if isinstance(ended.value, AirflowRescheduleException):
        assert 0 <= (ended.value.reschedule_date - now).total_seconds() - (pause or 0) <= 15


@pytest.mark.parametrize(
    "wait",
    [
        lambda **limit: sense(DEFERRED, integration_id=STRIPE, soft_fail=True, **limit),
        lambda **limit: operate(DEFERRED, wait_for_completion=True, **limit),
    ],
    ids=["sensor", "operator"],
)
def test_an_execution_timeout_ends_a_deferred_wait(flokit: SimulatedFlokit, wait: Any) -> None:
    """``timeout=45, execution_timeout=8 s``, here 2 s: it ends as in a worker, and is no skip."""
    flokit.add_integration(STRIPE, status="syncing", sync=RUNNING)
    began = time.monotonic()
    ended = wait(timeout=45, execution_timeout=timedelta(seconds=2))
    assert (ended.state, ended.error) == ("failed", "AirflowTaskTimeout")
    assert "execution_timeout" in ended.message
    assert time.monotonic() - began >= 2


# Receipts of mapped tasks


def test_sixty_mapped_receipts_are_read_at_once(flokit: SimulatedFlokit) -> None:
    """As one slice: item by item Airflow would ask its API server once for each."""
    flokit.add_integration(STRIPE)
    receipt = operate(skip_if_synced_within=timedelta(hours=2)).value

    asked: list[Any] = []

    class Outputs(UserList[Any]):
        """The outputs of a mapped task, as Airflow hands them over: a sequence that is no list."""

        def __getitem__(self, key: Any) -> Any:
            asked.append(key)
            return self.data[key]

    sensor = FlokitIntegrationSensor(task_id="wait", receipt="{{ outputs }}")
    sensor.receipt = Outputs([receipt] * 60)
    sensor.render_template_fields({})
    assert asked == [slice(None, None, None)]
    assert sensor.execute({"ti": TaskInstance(sensor)})[0]["id"] == STRIPE
