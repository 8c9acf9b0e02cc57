"""The operator: what it sends, what it remembers, what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitError
from airflow_provider_flokit.models import SyncReceipt
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.simulator import Fault, Sync
from tests.modes import WORKER, End, run

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)


def operate(**arguments: Any) -> End:
    """Run the operator in a worker."""
    arguments = {"integration_id": STRIPE, "poll_interval": 0.03, **arguments}
    return run(lambda: FlokitTriggerSyncOperator(task_id="sync", **arguments), WORKER)


def test_it_starts_one_sync_and_leaves_a_receipt(flokit: Simulator) -> None:
    """The return value is the sync_id; the receipt holds the state from before the POST."""
    before = flokit.add_integration(STRIPE, status="error", error_message="boom", last_synced_at="2024-03-15T12:00:00Z")
    ended = operate()
    (sync,) = flokit.syncs
    assert ended.xcoms["return_value"] == sync.sync_id
    receipt = SyncReceipt.from_json(ended.xcoms["receipt"])
    assert (receipt.sync_id, receipt.idempotency_key) == (sync.sync_id, sync.idempotency_key)
    assert (receipt.baseline.status, receipt.baseline.error_message) == (before.status, "boom")
    assert "integration" not in ended.xcoms
    assert [r.method for r in flokit.requests] == ["GET", "POST"]


def test_a_type_stands_for_its_one_integration(flokit: Simulator) -> None:
    """integration_type finds the id; the receipt names it."""
    flokit.add_integration(STRIPE, type="stripe")
    flokit.add_integration("int_b", type="adjust")
    ended = operate(integration_id=None, integration_type="stripe")
    assert ended.xcoms["receipt"]["integration_id"] == STRIPE


@pytest.mark.parametrize(("found", "says"), [(0, "int_other (adjust)"), (2, "int_0, int_1")])
def test_a_type_that_is_not_unique_is_refused_with_the_ids(flokit: Simulator, found: int, says: str) -> None:
    """None or several of a type: a permanent error that lists the ids, and nothing is synced."""
    flokit.add_integration("int_other", type="adjust")
    for number in range(found):
        flokit.add_integration(f"int_{number}", type="stripe")
    ended = operate(integration_id=None, integration_type="stripe")
    assert ended.state == "failed"
    assert says in ended.message
    assert flokit.syncs == []


def test_a_running_sync_is_attached_to(flokit: Simulator) -> None:
    """409: the receipt has no sync_id, and the wait ends with the sync that was running."""
    flokit.configure(when_running="conflict")
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0.5, duration=2))
    operate()
    ended = operate(wait_for_completion=True)
    assert ended.state == "success"
    assert ended.xcoms["receipt"]["sync_id"] is None
    assert "return_value" not in ended.xcoms
    assert len(flokit.syncs) == 1


def test_an_old_error_is_forgiven_from_the_409_on(flokit: Simulator) -> None:
    """The baseline may be old by then: the running sync has start_timeout from when FloKit told of it."""
    flokit.configure(when_running="conflict")
    flokit.add_integration(STRIPE, status="error", error_message="nightly", sync=Sync(start_delay=8, duration=0.1))
    operate()
    flokit.fail(Fault.slow(5, after_effect=False), method="POST")
    ended = operate(wait_for_completion=True, start_timeout=4.5)
    assert ended.state == "success"
    assert len(flokit.syncs) == 1


def test_an_answer_lost_after_the_request_took_effect_starts_no_second_sync(flokit: Simulator) -> None:
    """The POST is repeated with the same Idempotency-Key."""
    flokit.add_integration(STRIPE)
    flokit.fail(Fault.drop_after(), method="POST")
    ended = operate(wait_for_completion=True)
    assert ended.state == "success"
    posts = [r for r in flokit.requests if r.method == "POST"]
    assert len(posts) == 2
    assert len({r.idempotency_key for r in posts}) == 1
    assert len(flokit.syncs) == 1


def test_fresh_data_is_not_synced_again(flokit: Simulator) -> None:
    """skip_if_synced_within: no POST, a receipt that says so, and with waiting the present state."""
    flokit.add_integration(STRIPE)
    ended = operate(skip_if_synced_within=timedelta(hours=2), wait_for_completion=True)
    assert ended.state == "success"
    assert ended.xcoms["receipt"]["skipped"] is True
    assert ended.xcoms["integration"]["status"] == "connected"
    assert "return_value" not in ended.xcoms
    assert [r.method for r in flokit.requests] == ["GET"]


@pytest.mark.parametrize(
    ("state", "within"),
    [({}, timedelta(minutes=30)), ({"status": "error"}, timedelta(hours=2))],
    ids=["stale", "in error"],
)
def test_only_fresh_and_connected_data_saves_the_sync(
    flokit: Simulator, state: dict[str, Any], within: timedelta
) -> None:
    """An hour-old success is not within 30 minutes, and an integration in error is never fresh."""
    flokit.add_integration(STRIPE, **state)
    operate(skip_if_synced_within=within)
    assert len(flokit.syncs) == 1


def test_freshness_goes_by_the_servers_clock(flokit: Simulator) -> None:
    """A server whose clock is a day off is asked what time it is."""
    flokit.configure(clock_skew=-86_400.0)
    flokit.add_integration(STRIPE, last_synced_at=datetime.fromtimestamp(flokit.server_time() - 50 * 60, tz=UTC))
    assert operate(skip_if_synced_within=timedelta(hours=1)).xcoms["receipt"]["skipped"] is True


def test_a_wait_survives_an_api_that_is_down_for_a_while(flokit: Simulator) -> None:
    """Transient failures while polling never end a wait."""
    flokit.add_integration(STRIPE)
    flokit.fail(503, method="GET", times=4, after=1)
    flokit.fail(Fault.drop(), method="GET", times=2, after=1)
    flokit.fail(Fault.answer(200, "html"), method="GET", times=2, after=1)
    assert operate(wait_for_completion=True).state == "success"


def test_a_rotated_key_is_read_anew_in_the_middle_of_a_wait(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 during the wait re-reads the Airflow connection before it is final."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=0.2, duration=0.2))
    reads = iter([flokit.connection_uri(), flokit.connection_uri("fk_new")])
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", next(reads))
    task = FlokitTriggerSyncOperator(task_id="t", integration_id=STRIPE, wait_for_completion=True, poll_interval=0.05)
    start = type(task)._started

    def start_then_rotate(self: Any, *given: Any) -> SyncReceipt:
        receipt: SyncReceipt = start(self, *given)
        flokit.rotate_key("fk_new")
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", next(reads))
        return receipt

    monkeypatch.setattr(FlokitTriggerSyncOperator, "_started", start_then_rotate)
    assert run(lambda: task, WORKER).state == "success"
    assert [r.status for r in flokit.requests].count(401) == 1


def test_a_key_that_stays_wrong_ends_the_wait(flokit: Simulator) -> None:
    """The same key after a 401 is final: no retry can mend it."""
    flokit.add_integration(STRIPE, sync=Sync(start_delay=5))
    flokit.fail(401, method="GET", times=None, after=1)
    ended = operate(wait_for_completion=True)
    assert ended.error == "FlokitAuthenticationError"
    assert [r.status for r in flokit.requests].count(401) == 1


def test_every_setting_reaches_the_trigger(flokit: Simulator) -> None:
    """poll_interval, timeout, start_timeout and the connection are those of the operator."""
    flokit.add_integration(STRIPE)
    task = FlokitTriggerSyncOperator(
        task_id="sync",
        integration_id=STRIPE,
        wait_for_completion=True,
        deferrable=True,
        poll_interval=7.0,
        timeout=111.0,
        start_timeout=22.0,
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": _NoTI()})
    _, arguments = deferred.value.trigger.serialize()
    assert (arguments["poll_interval"], arguments["timeout"], arguments["start_timeout"]) == (7.0, 111.0, 22.0)
    assert arguments["flokit_conn_id"] == "flokit_default"
    assert deferred.value.timeout > timedelta(seconds=111)


class _NoTI:
    def xcom_push(self, key: str, value: Any) -> None:
        """Forget it."""


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"integration_id": None}, "integration_id"),
        ({"integration_type": "stripe"}, "integration_type"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": "30"}, "poll_interval"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"start_timeout": None}, "start_timeout"),
        ({"skip_if_synced_within": 3600}, "skip_if_synced_within"),
        ({"wait_for_completion": "yes"}, "wait_for_completion"),
        ({"deferrable": 1}, "deferrable"),
    ],
)
def test_a_wrong_argument_fails_at_parse_time_by_name(arguments: dict[str, Any], names: str) -> None:
    """What can be known while the DAG is parsed is refused there, naming the parameter."""
    with pytest.raises(FlokitArgumentError, match=names) as refused:
        FlokitTriggerSyncOperator(task_id="t", **{"integration_id": STRIPE, **arguments})
    assert isinstance(refused.value, AirflowFailException)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    "rendered", [None, 5, "", "None", "a/b", "../x", "a?b", "a#b", "a\nb", ["a"], "['a']", '["a"]', '{"a":1}']
)
def test_an_id_that_cannot_be_one_is_refused_before_any_request(flokit: Simulator, rendered: Any) -> None:
    """A template may render to anything, also to nothing and to the text of a list."""

    def make() -> FlokitTriggerSyncOperator:
        task = FlokitTriggerSyncOperator(task_id="sync", integration_id="{{ template }}")
        task.integration_id = rendered
        return task

    ended = run(make, WORKER)
    assert (ended.state, ended.error) == ("failed", "FlokitArgumentError")
    assert "integration_id" in ended.message
    assert flokit.requests == []


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        ({"key": "read_only"}, "read-write key"),
        ({"key": "wrong"}, "Put a valid API key"),
        ({"key": ""}, "API Key (password) is empty"),
        ({"port": 1}, "connection refused"),
        ({"integration_id": "int_unknown"}, "Check the integration's id"),
    ],
    ids=["read-only key", "wrong key", "empty key", "wrong host", "unknown id"],
)
def test_one_clear_message_for_each_common_mistake(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], says: str
) -> None:
    """The message names the connection and says what to do."""
    flokit.add_integration(STRIPE)
    key = {"read_only": flokit.read_only_key, "wrong": "fk_wrong"}.get(
        connection.get("key", "-"), connection.get("key")
    )
    key = flokit.api_key if key is None else key
    fields = {
        "conn_type": "flokit",
        "password": key,
        "host": f"http://127.0.0.1:{connection.get('port', flokit.port)}",
        "extra": {"retry_limit": 0},
    }
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", json.dumps(fields))
    ended = operate(integration_id=connection.get("integration_id", STRIPE))
    assert says in ended.message
    assert "'flokit_default'" in ended.message
    assert key == "" or key not in ended.message


def test_an_event_that_is_not_ours_fails_loudly() -> None:
    """A trigger's event is checked before it is believed."""
    task = FlokitTriggerSyncOperator(task_id="t", integration_id=STRIPE)
    with pytest.raises(FlokitError, match="not understood"):
        task.execute_complete({}, {"status": "success"})
