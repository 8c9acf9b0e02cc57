"""
What users met in the field, each in every mode that it concerns: a sensor in a worker, rescheduled and deferred, and an
operator that waits by itself, in a worker and deferred. What concerns the receipts of mapped tasks is in test_taskflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat import connection as compat
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitConnectionNotFoundError
from airflow_provider_flokit.gate import wait as gate_wait
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.models import SyncReceipt
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import Fault, Sync
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.modes import ABANDONED, DEFERRED, RESCHEDULE, WORKER, End, TaskInstance, airflow_in, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

STRIPE, ADJUST, ADAPTY = "int_01hx4j7stripe", "int_01hx4j7adjust", "int_01hx4j7adapty"
LIST = "/v1/integrations"
BEFORE, AFTER = "2024-03-15T12:00:00Z", "2024-03-15T13:00:00Z"

SENSORS = pytest.mark.parametrize("mode", [WORKER, RESCHEDULE, DEFERRED])
FORMS = pytest.mark.parametrize(
    "form",
    [("sensor", WORKER), ("sensor", RESCHEDULE), ("sensor", DEFERRED), ("operator", WORKER), ("operator", DEFERRED)],
    ids=" ".join,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which tasks and triggers log."""
    lines: list[str] = []
    log = logging.Logger("told")  # noqa: LOG001 - apart from everybody else's logging
    log.addFilter(lambda r: lines.append(f"{r.levelname} {r.getMessage()}"))  # type: ignore[arg-type,func-returns-value]
    for kind in (FlokitTriggerSyncOperator, FlokitIntegrationSensor, FlokitIntegrationTrigger):
        monkeypatch.setattr(kind, "log", log)
    return lines


def sense(mode: str, *, settle: float = 0.0, **arguments: Any) -> End:
    """Wait with a sensor."""
    arguments = {"poke_interval": 0.05, "timeout": 30, **arguments}
    modes = {"deferrable": mode in (DEFERRED, ABANDONED), "mode": "reschedule" if mode == RESCHEDULE else "poke"}
    return run(lambda: FlokitIntegrationSensor(task_id="wait", **modes, **arguments), mode, settle=settle)


def operate(mode: str = WORKER, *, integration_id: str = STRIPE, **arguments: Any) -> End:
    """Start a sync, and wait for it if asked to."""
    arguments = {"integration_id": integration_id, "poll_interval": 0.05, "timeout": 30, **arguments}
    return run(lambda: FlokitTriggerSyncOperator(task_id="sync", deferrable=mode == DEFERRED, **arguments), mode)


def receipt_of_another() -> dict[str, Any]:
    """Request a sync beside the running task; Airflow 2 runs operators in the main thread only."""
    with FlokitHook() as hook:
        before = hook.read(integration_id=STRIPE)
        started = hook.start_sync(STRIPE, None)
    return SyncReceipt(STRIPE, before.value, started.at, started.value).to_json()


def sync_and_wait(form: tuple[str, str], *, interval: float = 0.05, **settings: Any) -> End:
    """Start a sync and wait for it, as one task or as two."""
    kind, mode = form
    if kind == "operator":
        return operate(mode, wait_for_completion=True, poll_interval=interval, **settings)
    return sense(mode, receipt=operate().value, poke_interval=interval, **settings)


def last_state(ended: End) -> dict[str, Any]:
    """Return the integration as the wait saw it last."""
    assert ended.state == "success", ended.message
    state: dict[str, Any] = ended.xcoms.get("integration") or ended.value
    return state


@contextmanager
def staged(flokit: SimulatedFlokit, *acts: Callable[[], object]) -> Iterator[None]:
    """Do one thing after the other while the block waits, each when two looks have shown how it was before."""
    failures: list[BaseException] = []

    def play() -> None:
        try:
            for act in acts:
                until, seen = time.monotonic() + 25, looks(flokit)
                while looks(flokit) < seen + 2:
                    assert time.monotonic() < until, "nobody looks"
                    time.sleep(0.005)
                act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert failures == []


def looks(flokit: SimulatedFlokit, status: int | None = None) -> int:
    """Count the requests for the list, which waits alone make here; or its answers of one status."""
    return sum(r.path == LIST and status in (None, r.status) for r in flokit.requests)


def change(flokit: SimulatedFlokit, status: str, **state: Any) -> Callable[[], object]:
    """Return what lets the integration show another status."""
    return lambda: flokit.set_state(STRIPE, status=status, **state)


def succeed(flokit: SimulatedFlokit, moments: list[datetime] | None = None) -> Callable[[], object]:
    """Return what lets the integration show a success of this moment by FloKit's clock, and note it."""

    def act() -> None:
        moment = datetime.fromtimestamp(flokit.server_time(), tz=UTC)
        flokit.set_state(STRIPE, status="connected", last_synced_at=moment)
        if moments is not None:
            moments.append(moment)

    return act


# One look before a deferral


def first_look(**arguments: Any) -> Any:
    """Execute a deferrable sensor once, and return its value."""
    sensor = FlokitIntegrationSensor(task_id="wait", deferrable=True, integration_id=STRIPE, **arguments)
    return sensor.execute({"ti": TaskInstance(sensor)})


def test_what_is_ready_already_does_not_defer(flokit: SimulatedFlokit) -> None:
    """Success at once, with one request."""
    flokit.add_integration(STRIPE)
    assert first_look()["id"] == STRIPE
    assert [r.path for r in flokit.requests] == [LIST]


@pytest.mark.parametrize(
    ("prepare", "error", "requests"),
    [
        (
            lambda flokit: flokit.set_state(STRIPE, status="error", error_message="bad secret"),
            "FlokitSyncFailedError",
            1,
        ),
        (lambda flokit: flokit.set_state(STRIPE, status="disconnected"), "FlokitDisconnectedError", 1),
        (lambda flokit: flokit.connect(api_key="fk_wrong_key"), "FlokitAuthenticationError", 1),
        (lambda flokit: flokit.remove_integration(STRIPE), "FlokitNotFoundError", 2),
    ],
    ids=["error", "disconnected", "wrong key", "unknown id"],
)
def test_what_can_never_be_fails_at_once(flokit: SimulatedFlokit, prepare: Any, error: str, requests: int) -> None:
    """It does not defer, and does not ask again."""
    flokit.add_integration(STRIPE)
    prepare(flokit)
    with pytest.raises(Exception, match=STRIPE if error != "FlokitAuthenticationError" else "401") as failure:
        first_look()
    assert type(failure.value).__name__ == error
    assert "fk_wrong_key" not in str(failure.value)
    assert len(flokit.requests) == requests


@pytest.mark.parametrize(
    "fault", [Fault.rate_limited(60), Fault.answer(503), Fault.drop(), Fault.answer(200, "html")], ids=lambda f: f.name
)
def test_a_first_look_that_cannot_be_answered_defers(flokit: SimulatedFlokit, fault: Fault) -> None:
    """429, 5xx, no answer, no JSON: the triggerer goes on, and nothing is retried before that."""
    flokit.add_integration(STRIPE)
    flokit.fail(fault, times=None)
    with pytest.raises(TaskDeferred):
        first_look()
    assert len(flokit.requests) == 1


# Whose success, whose failure


@FORMS
def test_a_later_syncs_failure_is_not_this_ones(
    flokit: SimulatedFlokit, told: list[str], form: tuple[str, str]
) -> None:
    """
    Sync A succeeds, and before the next poll another DAG's sync B starts and fails.

    A is ready, with a warning that the integration is in error by now; B fails.
    """
    flokit.configure(when_running="queue")
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0, duration=600))
    of_b: list[Any] = []

    def request_b_which_fails() -> None:
        of_b.append(receipt_of_another())
        now = datetime.now(tz=UTC)
        flokit.set_state(STRIPE, status="error", error_message="B failed", last_synced_at=now)

    with staged(flokit, request_b_which_fails):
        ended = last_state(sync_and_wait(form))
    assert (ended["status"], ended["error_message"]) == ("error", "B failed")
    assert [line for line in told if line.startswith("WARNING") and "the latest one failed: B failed" in line]
    b_ended = sense(form[1], receipt=of_b[0])
    assert b_ended.error == "FlokitSyncFailedError"
    assert "B failed" in b_ended.message


@FORMS
def test_a_sync_that_is_queued_behind_another_is_waited_for(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """
    A sync was running when ours was requested; it ends, ours begins 10 s later, and polls come in between.

    Ready is only what has succeeded twice, or (rescheduled, it is not known how often) has been quiet for 30 s.
    """
    flokit.configure(when_running="queue")
    flokit.add_integration(STRIPE, status="syncing", sync=Sync(start_delay=600))
    successes: list[datetime] = []
    acts = [
        succeed(flokit, successes),
        lambda: flokit.configure(clock_skew=10.0),
        change(flokit, "syncing"),
        succeed(flokit, successes),
    ]
    if form[1] == RESCHEDULE:
        acts.append(lambda: flokit.configure(clock_skew=45.0))
    with staged(flokit, *acts):
        ended = last_state(sync_and_wait(form, timeout=20))
    assert datetime.fromisoformat(ended["last_synced_at"]) == successes[1]


@FORMS
def test_behind_another_sync_a_single_success_counts_after_30_seconds(
    flokit: SimulatedFlokit, form: tuple[str, str]
) -> None:
    """FloKit joined the two: nothing has begun behind the success by then, by its own clock."""
    flokit.add_integration(STRIPE, status="syncing", sync=Sync(start_delay=600))
    aged: list[bool] = []

    def age() -> None:
        aged.append(True)
        flokit.configure(clock_skew=32.0)

    with staged(flokit, succeed(flokit), age):
        assert last_state(sync_and_wait(form, timeout=20))["status"] == "connected"
        assert aged == [True]


@FORMS
def test_a_running_sync_that_was_attached_to_is_ours(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """The POST was answered 409: the end of the running sync is ours, at once."""
    flokit.configure(when_running="conflict")
    flokit.add_integration(STRIPE)
    flokit.run_scheduled_sync(STRIPE, Sync(start_delay=0, duration=600))
    with staged(flokit, succeed(flokit)):
        assert last_state(sync_and_wait(form, timeout=20))["status"] == "connected"
    assert len(flokit.syncs) == 1


@FORMS
def test_the_failure_of_the_sync_before_ours_is_not_ours(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """A sync runs at the baseline and fails, ours is queued behind it and succeeds."""
    flokit.configure(when_running="queue")
    flokit.add_integration(STRIPE, status="syncing", sync=Sync(start_delay=600))
    acts = [
        change(flokit, "error", error_message="theirs"),
        change(flokit, "syncing", error_message=None),
        succeed(flokit),
        lambda: flokit.configure(clock_skew=32.0),
    ]
    with staged(flokit, *acts):
        assert last_state(sync_and_wait(form))["status"] == "connected"


@FORMS
def test_a_sync_that_is_done_is_ready_at_the_deadline(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """Our sync is done, but FloKit is syncing again whenever one looks."""
    flokit.add_integration(STRIPE, last_synced_at=BEFORE)
    flokit.script(STRIPE, [{"status": "connected"}, {"status": "syncing", "last_synced_at": AFTER}])
    began = time.monotonic()
    assert last_state(sync_and_wait(form, timeout=0.6))["last_synced_at"] == AFTER
    assert time.monotonic() - began >= 0.6


@SENSORS
@pytest.mark.parametrize("status", ["error", "disconnected"])
def test_data_that_is_there_is_ready_though_the_integration_is_in_error(
    flokit: SimulatedFlokit, told: list[str], mode: str, status: str
) -> None:
    """``synced_after`` was reached yesterday, today the integration is in error: a backfill goes on, with a warning."""
    flokit.add_integration(STRIPE, status=status, last_synced_at=AFTER)
    assert last_state(sense(mode, integration_id=STRIPE, synced_after=BEFORE))["status"] == status
    assert [line for line in told if line.startswith("WARNING") and "the data is there" in line]
    assert sense(mode, integration_id=STRIPE, synced_after="2024-03-15T14:00:00Z").state == "failed"


@pytest.mark.parametrize("mode", [WORKER, DEFERRED])
def test_what_was_ready_once_stays_so(flokit: SimulatedFlokit, mode: str) -> None:
    """Three integrations that sync again and again, never all quiet in one look."""
    names = [STRIPE, ADJUST, ADAPTY]
    for number, name in enumerate(names):
        flokit.add_integration(name, last_synced_at=AFTER)
        turns = [{"status": "connected" if turn % 3 == number else "syncing"} for turn in range(12)]
        flokit.script(name, [*turns, {"status": "syncing"}])
    ended = sense(mode, integration_id=names, synced_after=BEFORE, timeout=20)
    assert ended.state == "success"
    assert looks(flokit, 200) <= 5


@SENSORS
def test_fresh_data_is_ready_whatever_happens_next(flokit: SimulatedFlokit, mode: str) -> None:
    """A fresh (skipped) receipt whose integration begins to sync before the sensor looks; ``synced_after`` counts."""
    flokit.add_integration(STRIPE)
    receipt = operate(skip_if_synced_within=timedelta(hours=2)).value
    assert (receipt["skipped"], receipt["sync_id"]) == (True, None)
    for status in ("syncing", "error", "disconnected", "paused"):
        flokit.set_state(STRIPE, status=status)
        flokit.clear_requests()
        assert last_state(sense(mode, receipt=receipt))["status"] == status
        assert len(flokit.requests) == 1
    flokit.set_state(STRIPE, status="connected")
    late = sense(mode, receipt=receipt, synced_after=datetime.now(tz=UTC), timeout=0.3)
    assert late.error == "AirflowSensorTimeout"


@SENSORS
def test_of_two_receipts_for_one_integration_the_later_one_counts(flokit: SimulatedFlokit, mode: str) -> None:
    """A mapped sync that names an integration twice."""
    flokit.configure(when_running="queue")
    flokit.add_integration(STRIPE, sync=Sync(duration=0))
    first = operate().value
    flokit.configure(clock_skew=2.0)  # FloKit's Date, by which they are told apart, has seconds
    flokit.plan(STRIPE, Sync(start_delay=0.3, duration=0.1))
    second = operate().value
    (state,) = sense(mode, receipt=[second, first]).value
    assert datetime.fromisoformat(state["last_synced_at"]) == flokit.syncs[-1].finished_at


@SENSORS
def test_a_naive_time_is_in_airflows_default_timezone(flokit: SimulatedFlokit, mode: str) -> None:
    """``default_timezone=America/New_York``: 6:00 is 10:00Z; a sync of 07:00Z is three hours early."""
    flokit.add_integration(STRIPE, last_synced_at="2026-03-15T07:00:00Z")
    naive = datetime(2026, 3, 15, 6, 0)  # noqa: DTZ001 - a naive one is what this is about
    with airflow_in("America/New_York"):
        for moment in (naive, naive.isoformat()):
            early = sense(mode, integration_id=STRIPE, synced_after=moment, timeout=0.3)
            assert early.error == "AirflowSensorTimeout"
            assert "at or after 2026-03-15 10:00:00 UTC" in early.message.replace("15 Mar", "2026-03-15")
        flokit.set_state(STRIPE, last_synced_at="2026-03-15T10:00:00Z")
        assert sense(mode, integration_id=STRIPE, synced_after=naive).state == "success"


# An API that refuses, or cannot be asked


@FORMS
@pytest.mark.parametrize("fault", [404, 403, 400], ids="HTTP {}".format)
def test_an_odd_refusal_in_the_middle_of_a_wait_is_sat_out(
    flokit: SimulatedFlokit, told: list[str], form: tuple[str, str], fault: int
) -> None:
    """One odd 404 (HTML), 403 or 400 of the list."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0, duration=600))
    flokit.fail(Fault.answer(fault, "html" if fault == 404 else "json"), path=LIST, after=1)
    with staged(flokit, succeed(flokit)):
        assert last_state(sync_and_wait(form))["status"] == "connected"
    assert len([line for line in told if f"HTTP {fault}" in line and "The wait goes on" in line]) == 1
    assert form[1] == RESCHEDULE or any("answers again" in line for line in told)


@FORMS
def test_a_rotated_key_is_sat_out_until_the_new_one_is_there(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """The key is rotated in the middle of a wait, the connection is updated some refusals later."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0, duration=600))

    with staged(flokit, flokit.rotate_key, flokit.connect, succeed(flokit)):
        assert last_state(sync_and_wait(form))["status"] == "connected"
    assert looks(flokit, 401) >= 2


@pytest.mark.parametrize(
    "form",
    [("sensor", WORKER), ("sensor", DEFERRED), ("operator", WORKER), ("operator", DEFERRED)],
    ids=" ".join,
)
def test_nothing_but_refusals_for_15_minutes_is_a_failure(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch, form: tuple[str, str]
) -> None:
    """With the last refusal; here it is 0.5 s. It comes before the wait's own deadline."""
    monkeypatch.setattr(gate_wait, "PATIENCE", 0.5)
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0, duration=600))
    with staged(flokit, flokit.rotate_key):
        ended = sync_and_wait(form)
    assert ended.error == "FlokitAuthenticationError"
    assert "HTTP 401" in ended.message
    assert looks(flokit, 401) >= 2


@FORMS
def test_a_wait_whose_every_look_is_refused_ends_at_its_deadline_at_the_latest(
    flokit: SimulatedFlokit, form: tuple[str, str]
) -> None:
    """As a timeout that tells of the refusals."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0, duration=600))
    with staged(flokit, flokit.rotate_key):
        ended = sync_and_wait(form, timeout=2.5)
    assert ended.error in ("AirflowSensorTimeout", "FlokitWaitTimeoutError")
    assert "HTTP 401" in ended.message


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
    assert flokit.requests == []


@FORMS
def test_a_wait_with_a_failing_api_ends_at_its_deadline(flokit: SimulatedFlokit, form: tuple[str, str]) -> None:
    """One look more at the deadline, without retries: it does not go on for their time."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0, duration=600))
    flokit.fail(Fault.answer(503), path=LIST, times=None)
    ended = sync_and_wait(form, interval=60, timeout=1)
    assert ended.error in ("AirflowSensorTimeout", "FlokitWaitTimeoutError")
    assert "HTTP 503" in ended.message
    if form[1] == DEFERRED:  # the triggerer's poll tries again with growing pauses: 0.05 s, 0.1 s, 0.2 s ...
        assert looks(flokit) <= 12
    else:  # the first look and the last
        assert looks(flokit) == 2


# Airflow's own races and limits


def test_a_rescheduled_sensor_does_not_come_back_too_soon(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``poke_interval=20``, ``timeout=22``, here a tenth of it, with SETTLE.

    The second poke would be back 2 s later for its last look: it stays in the worker instead.
    """
    flokit.add_integration(STRIPE, status="syncing")
    began = time.monotonic()
    ended = sense(RESCHEDULE, integration_id=STRIPE, poke_interval=2.0, timeout=2.2, settle=1.0)
    assert ended.error == "AirflowSensorTimeout"
    assert time.monotonic() - began >= 2.2
    assert len([trace for trace in ended.traces if isinstance(trace, AirflowRescheduleException)]) == 1
    # Nor does a short interval bring it back sooner than SETTLE.
    sensor = FlokitIntegrationSensor(task_id="wait", integration_id=STRIPE, mode="reschedule", poke_interval=1)
    monkeypatch.setattr("airflow_provider_flokit.sensors.flokit.first_poke_at", lambda *_: None)
    now = datetime.now(tz=UTC)
    with pytest.raises(AirflowRescheduleException) as again:
        sensor.execute({"ti": TaskInstance(sensor)})
    assert again.value.reschedule_date >= now + timedelta(seconds=FlokitIntegrationTrigger.SETTLE)


@pytest.mark.parametrize("kind", ["sensor", "operator"])
def test_an_execution_timeout_ends_a_deferred_wait(flokit: SimulatedFlokit, kind: str) -> None:
    """``timeout=45, execution_timeout=8 s``, here 0.8 s; it is no skip, and a retry has all of it again."""
    flokit.add_integration(STRIPE, status="syncing", sync=Sync(start_delay=0, duration=600))
    limit = {"execution_timeout": timedelta(seconds=0.8), "timeout": 45}
    for _ in range(2):  # a try, and its retry
        began = time.monotonic()
        if kind == "sensor":
            ended = sense(DEFERRED, integration_id=STRIPE, soft_fail=True, **limit)
        else:
            ended = operate(DEFERRED, wait_for_completion=True, **limit)
        assert (ended.state, ended.error) == ("failed", "AirflowTaskTimeout")
        assert "execution_timeout" in ended.message
        assert 0.8 <= time.monotonic() - began < 40


def test_an_execution_timeout_is_measured_from_the_start_of_the_try(flokit: SimulatedFlokit) -> None:
    """A try that began 20 s ago has that much less, however long its deferral has lasted."""
    flokit.add_integration(STRIPE, status="syncing")
    sensor = FlokitIntegrationSensor(
        task_id="wait", integration_id=STRIPE, deferrable=True, execution_timeout=timedelta(seconds=80), timeout=450
    )
    ti = TaskInstance(sensor, start_date=datetime.now(tz=UTC) - timedelta(seconds=20))
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"ti": ti})
    ends = deferred.value.trigger.serialize()[1]["execution_deadline"]
    assert ends == pytest.approx(ti.start_date.timestamp() + 80, abs=5)


# Receipts of mapped tasks


def test_sixty_mapped_receipts_are_read_at_once(flokit: SimulatedFlokit) -> None:
    """As one slice: item by item Airflow would ask its API server once for each."""
    flokit.add_integration(STRIPE)
    receipt = operate(skip_if_synced_within=timedelta(hours=2)).value

    class Lazy(Sequence[Any]):
        """The outputs of a mapped task, as Airflow hands them over."""

        def __init__(self) -> None:
            self.asked: list[Any] = []

        def __getitem__(self, key: int | slice) -> Any:
            self.asked.append(key)
            if isinstance(key, int) and key >= len(self):
                raise IndexError(key)
            return [receipt] * 60 if isinstance(key, slice) else receipt

        def __len__(self) -> int:
            return 60

    outputs = Lazy()
    sensor = FlokitIntegrationSensor(task_id="wait", receipt="{{ outputs }}")
    sensor.receipt = outputs
    sensor.render_template_fields({})
    assert sensor.receipt == [receipt] * 60
    assert outputs.asked == [slice(None, None, None)]
    assert sensor.execute({"ti": TaskInstance(sensor)})[0]["id"] == STRIPE
