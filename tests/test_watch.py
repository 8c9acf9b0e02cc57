"""A wait in progress: what it remembers, how it ends, what it says, and when it looks again."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow.providers.common.compat.sdk as airflow_sdk
import pytest

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitAPIError,
    FlokitAuthenticationError,
    FlokitDisconnectedError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermissionError,
    FlokitRateLimitError,
    FlokitServerError,
    FlokitSyncFailedError,
    FlokitWaitTimeoutError,
)
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.models import Integration, IntegrationStatus, SyncReceipt
from airflow_provider_flokit.outcome import Ending, Outcome
from airflow_provider_flokit.simulator import Fault, Simulator
from airflow_provider_flokit.simulator.pytest_plugin import flokit
from airflow_provider_flokit.snapshot import Snapshot, Unread
from airflow_provider_flokit.wait import Wait
from airflow_provider_flokit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["flokit"]

# Airflow 2 imports the DAG's tables with the first connection otherwise, and warns of itself meanwhile.
assert airflow_sdk.DAG

BEFORE = datetime(2024, 3, 15, 12, tzinfo=UTC)
NOW = datetime(2024, 3, 15, 13, tzinfo=UTC)
AFTER = datetime(2024, 3, 15, 13, 5, tzinfo=UTC)
MESSAGE = "Token expired"


def one(
    integration_id: str = "int_1",
    status: str = "connected",
    last: datetime | None = BEFORE,
    message: str | None = None,
    kind: str = "stripe",
) -> Integration:
    """Return an integration in a state."""
    known = status in frozenset(map(str, IntegrationStatus))
    return Integration(integration_id, kind, IntegrationStatus(status) if known else status, last, message)


def snapshot(*integrations: Integration, at: datetime = NOW, **rest: Any) -> Snapshot:
    """Return the workspace at one moment."""
    return Snapshot(at, {i.id: i for i in integrations}, **rest)


def receipt(baseline: Integration, at: datetime = NOW) -> SyncReceipt:
    """Return a receipt of a sync that was requested when the integration looked like this."""
    return SyncReceipt(baseline.id, baseline, at, "sync_1", "key")


class Log(logging.Handler):
    """Log lines as ``LEVEL text``."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.Logger("watch")  # noqa: LOG001 - apart from everybody else's logging
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def log() -> Log:
    """Return a place for log lines."""
    return Log()


@pytest.fixture
def watch(log: Log) -> Callable[..., Watch]:
    """Make a watch, of int_1 unless something else is asked for."""

    def make(**given: Any) -> Watch:
        if not {"integration_id", "integration_type", "receipt"} & set(given):
            given["integration_id"] = "int_1"
        return Watch(Wait.of(flokit_conn_id="flokit_eu", **given), log.logger)

    return make


def failure(outcome: Outcome | None) -> FlokitError:
    """Return the exception of a failed outcome."""
    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    return outcome.exception()


# One integration


def test_ready(watch: Callable[..., Watch]) -> None:
    """What is ready ends the wait with its state."""
    assert watch().look(snapshot(one(), one("int_2"))) == Outcome(Ending.READY, (one(),))


@pytest.mark.parametrize("status", ["syncing", "paused"])
def test_not_ready_yet(watch: Callable[..., Watch], status: str) -> None:
    """What is neither ready nor failed lets the wait go on."""
    found = watch()
    assert found.look(snapshot(one(status=status))) is None
    assert found.recheck_after is None
    assert found.look(snapshot(one())) == Outcome(Ending.READY, (one(),))


def test_failed(watch: Callable[..., Watch]) -> None:
    """An error ends the wait with FloKit's message, the integration, the connection and what to do."""
    error = failure(watch().look(snapshot(one(status="error", message=MESSAGE))))
    assert type(error) is FlokitSyncFailedError
    assert str(error) == (
        "FloKit integration int_1 (stripe) is in error: Token expired (connection 'flokit_eu'). "
        "Mend the cause in FloKit, then run the task again."
    )


def test_failed_without_a_message(watch: Callable[..., Watch]) -> None:
    """An error without a message reads well too."""
    error = failure(watch().look(snapshot(one(status="error"))))
    assert str(error).startswith("FloKit integration int_1 (stripe) is in error (connection 'flokit_eu').")


def test_disconnected(watch: Callable[..., Watch]) -> None:
    """A disconnected integration is a class of its own, with its own advice."""
    error = failure(watch().look(snapshot(one(status="disconnected"))))
    assert type(error) is FlokitDisconnectedError
    assert str(error) == (
        "FloKit integration int_1 (stripe) is disconnected (connection 'flokit_eu'). "
        "Connect it again in FloKit, then run the task again."
    )


def test_disconnected_can_be_waited_for(watch: Callable[..., Watch]) -> None:
    """With fail_on_disconnected off the wait goes on until it is connected again."""
    found = watch(fail_on_disconnected=False)
    assert found.look(snapshot(one(status="disconnected"))) is None
    assert found.look(snapshot(one())) is not None


def test_disconnected_fails_with_a_receipt(watch: Callable[..., Watch]) -> None:
    """With a receipt disconnected fails, whatever fail_on_disconnected says."""
    found = watch(receipt=receipt(one()), fail_on_disconnected=False)
    assert type(failure(found.look(snapshot(one(status="disconnected"))))) is FlokitDisconnectedError


def test_synced_after(watch: Callable[..., Watch]) -> None:
    """With synced_after the last sync has to be late enough."""
    found = watch(synced_after=NOW)
    assert found.look(snapshot(one())) is None
    assert found.look(snapshot(one(last=AFTER))) == Outcome(Ending.READY, (one(last=AFTER),))


def test_tolerated_failure(watch: Callable[..., Watch], log: Log) -> None:
    """With tolerate_failures a failure is logged as an error and the wait goes on."""
    found = watch(tolerate_failures=True)
    assert found.look(snapshot(one(status="error", message=MESSAGE))) is None
    assert [line for line in log.lines if line.startswith("ERROR FloKit integration int_1 (stripe) is in error")]
    assert found.look(snapshot(one())) is not None


# With a receipt


def test_receipt_waits_for_its_sync(watch: Callable[..., Watch]) -> None:
    """Connected as before is not the end; connected with a later last_synced_at is."""
    found = watch(receipt=receipt(one()))
    assert found.look(snapshot(one())) is None
    assert found.look(snapshot(one(status="syncing"))) is None
    assert found.look(snapshot(one())) is None
    assert found.look(snapshot(one(last=AFTER))) == Outcome(Ending.READY, (one(last=AFTER),))


def test_old_error_is_forgiven_until_start_timeout(watch: Callable[..., Watch]) -> None:
    """The baseline's own error is forgiven by the server's clock, and the watch says when to look again."""
    old = one(status="error", message=MESSAGE)
    found = watch(receipt=receipt(old), start_timeout=60.0)
    assert found.look(snapshot(old, at=NOW + timedelta(seconds=20))) is None
    assert found.recheck_after == 40.0
    assert found.look(snapshot(old, at=NOW + timedelta(seconds=59.9))) is None
    error = failure(found.look(snapshot(old, at=NOW + timedelta(seconds=60))))
    assert "as before this sync, 60 s after it was requested: Token expired" in str(error)


def test_same_error_after_syncing_is_a_new_one(watch: Callable[..., Watch]) -> None:
    """Once syncing was seen, the very same error is this sync's."""
    old = one(status="error", message=MESSAGE)
    found = watch(receipt=receipt(old))
    assert found.look(snapshot(old)) is None
    assert found.look(snapshot(one(status="syncing"))) is None
    assert found.recheck_after is None
    assert type(failure(found.look(snapshot(old)))) is FlokitSyncFailedError


def test_syncing_is_remembered_per_integration(watch: Callable[..., Watch]) -> None:
    """That one integration was syncing says nothing about another."""
    old = [one(i, "error", message=MESSAGE) for i in ("int_1", "int_2")]
    found = watch(receipt=[receipt(i) for i in old])
    assert found.look(snapshot(one("int_1", "syncing"), old[1])) is None
    assert found.look(snapshot(one("int_1", last=AFTER), old[1])) is None
    assert found.recheck_after == 300.0


def test_old_error_that_turned_into_another(watch: Callable[..., Watch]) -> None:
    """Another message is another error, even if syncing was never seen."""
    old = one(status="error", message=MESSAGE)
    error = failure(watch(receipt=receipt(old)).look(snapshot(one(status="error", message="Quota exceeded"))))
    assert "Quota exceeded" in str(error)


# Several integrations


def test_several_are_ready_when_all_are(watch: Callable[..., Watch]) -> None:
    """Several integrations are judged in one observation: ready when all are, in the order asked for."""
    found = watch(integration_id=["int_2", "int_1"])
    assert found.look(snapshot(one("int_1"), one("int_2", "syncing"))) is None
    assert found.look(snapshot(one("int_1", "syncing"), one("int_2"))) is None
    assert found.look(snapshot(one("int_1"), one("int_2"))) == Outcome(Ending.READY, (one("int_2"), one("int_1")))


def test_several_fail_as_soon_as_one_does(watch: Callable[..., Watch]) -> None:
    """The failure of one ends the wait, naming every one that is not ready and why, and only those."""
    found = watch(integration_id=["int_1", "int_2", "int_3", "int_4"])
    outcome = found.look(
        snapshot(
            one("int_1"), one("int_2", "syncing"), one("int_3", "error", message=MESSAGE), one("int_4", "disconnected")
        )
    )
    error = failure(outcome)
    assert type(error) is FlokitSyncFailedError
    assert str(error).startswith(
        "FloKit integration int_2 (stripe) is syncing; int_3 (stripe) is in error: Token expired; "
        "int_4 (stripe) is disconnected (connection 'flokit_eu')."
    )


def test_several_disconnected(watch: Callable[..., Watch]) -> None:
    """If all that failed are disconnected, so says the exception, even if others still sync."""
    found = watch(integration_id=["int_1", "int_2", "int_3"])
    error = failure(
        found.look(snapshot(one("int_1", "disconnected"), one("int_2", "disconnected"), one("int_3", "syncing")))
    )
    assert type(error) is FlokitDisconnectedError


def test_earliest_recheck_counts(watch: Callable[..., Watch]) -> None:
    """Of several old errors the one whose time is over first says when to look again."""
    old = [one(i, "error", message=MESSAGE) for i in ("int_1", "int_2")]
    found = watch(receipt=[receipt(old[0], NOW - timedelta(seconds=100)), receipt(old[1])])
    assert found.look(snapshot(*old)) is None
    assert found.recheck_after == 200.0


# What to wait for does not exist, or not once


def test_type(watch: Callable[..., Watch]) -> None:
    """A type stands for the one integration that has it."""
    ready = one("int_2", kind="adjust")
    assert watch(integration_type="adjust").look(snapshot(one(), ready)) == Outcome(Ending.READY, (ready,))


def test_ambiguous_type(watch: Callable[..., Watch]) -> None:
    """A type that several have is an error that lists their ids."""
    error = failure(
        watch(integration_type="stripe").look(snapshot(one("int_2"), one("int_1"), one("x", kind="adjust")))
    )
    assert type(error) is FlokitAmbiguousTypeError
    assert "2 FloKit integrations have the type 'stripe' (connection 'flokit_eu'): int_1, int_2." in str(error)


def test_type_that_none_has(watch: Callable[..., Watch]) -> None:
    """A type that none has is an error that lists what there is."""
    error = failure(watch(integration_type="adapty").look(snapshot(one("int_2", kind="adjust"), one())))
    assert type(error) is FlokitNotFoundError
    assert "int_1 (stripe), int_2 (adjust)" in str(error)


@pytest.mark.parametrize(
    ("there", "listed"),
    [([one("int_2")], "The workspace has: int_2 (stripe)."), ([], "The workspace has: no integrations at all.")],
)
def test_missing_id(watch: Callable[..., Watch], there: list[Integration], listed: str) -> None:
    """An id that does not exist is an error that names it, the connection, the status and what there is."""
    error = failure(watch().look(snapshot(*there, missing=frozenset({"int_1"}))))
    assert type(error) is FlokitNotFoundError
    assert "FloKit has no integration int_1 (connection 'flokit_eu', HTTP 404)" in str(error)
    assert listed in str(error)


def test_removed_in_the_middle_of_a_wait(watch: Callable[..., Watch]) -> None:
    """An integration that vanishes ends the wait; the outcome keeps its last state."""
    found = watch()
    found.look(snapshot(one(status="syncing")))
    outcome = found.look(snapshot(missing=frozenset({"int_1"})))
    assert type(failure(outcome)) is FlokitNotFoundError
    assert outcome is not None
    assert outcome.integrations == (one(status="syncing"),)


def test_id_that_could_not_be_read(watch: Callable[..., Watch], log: Log) -> None:
    """If the API could not be asked about one, the wait goes on; if it may not be read at all, it ends."""
    found = watch(integration_id=["int_1", "int_2"])
    assert found.look(snapshot(one(), unread={"int_2": Unread(FlokitServerError("HTTP 500."))})) is None
    assert log.lines == ["WARNING HTTP 500. The wait goes on."]
    outcome = found.look(snapshot(one(), unread={"int_2": Unread(FlokitPermissionError("HTTP 403."))}))
    assert type(failure(outcome)) is FlokitPermissionError


# Trouble with the API


def test_trouble_is_told_once(watch: Callable[..., Watch], log: Log) -> None:
    """The same trouble is logged once, another one again, and the same one after things went well too."""
    found = watch()
    for text in ("A.", "A.", "B.", "B."):
        found.trouble(FlokitAPIError(text))
    assert log.lines == ["WARNING A. The wait goes on.", "WARNING B. The wait goes on."]
    found.look(snapshot(one(status="syncing")))
    found.trouble(FlokitAPIError("B."))
    assert log.lines[-1] == "WARNING B. The wait goes on."
    assert len(log.lines) == 4


def test_repeated_trouble_with_one_id_is_told_once(watch: Callable[..., Watch], log: Log) -> None:
    """That one id cannot be read is logged once, not with every look."""
    found = watch()
    for _ in range(3):
        assert found.look(snapshot(unread={"int_1": Unread(FlokitServerError("HTTP 500."))})) is None
    assert len(log.lines) == 1


@pytest.mark.parametrize(
    ("interval", "retry_after", "expected"), [(30.0, None, 30.0), (30.0, 10.0, 30.0), (30.0, 90.0, 90.0)]
)
def test_pause_after_trouble(
    watch: Callable[..., Watch], interval: float, retry_after: float | None, expected: float
) -> None:
    """After trouble the next look comes not before Retry-After, nor before the interval."""
    found = watch()
    found.trouble(FlokitAPIError("x", retry_after=retry_after))
    assert found.pause(interval) == expected


def test_pause_after_a_rate_limit(watch: Callable[..., Watch]) -> None:
    """After a 429 the looks of many are spread over their interval, so that not all come back as one."""
    found = watch()
    found.trouble(FlokitRateLimitError("x", retry_after=90.0))
    pauses = [found.pause(30.0) for _ in range(100)]
    assert 90.0 <= min(pauses) < 100.0
    assert 110.0 < max(pauses) <= 120.0


@pytest.mark.parametrize(
    ("interval", "left", "expected"), [(30.0, 10.0, 10.0), (30.0, 100.0, 30.0), (30.0, 0.01, 1.0), (0.5, 0.01, 0.5)]
)
def test_pause_until_the_verdict_can_change(
    watch: Callable[..., Watch], interval: float, left: float, expected: float
) -> None:
    """An old error is looked at again as soon as its time is over, but not in a hurry."""
    old = one(status="error", message=MESSAGE)
    found = watch(receipt=receipt(old))
    found.look(snapshot(old, at=NOW + timedelta(seconds=300 - left)))
    assert found.pause(interval) == pytest.approx(expected)


def test_pause_is_the_interval(watch: Callable[..., Watch]) -> None:
    """Otherwise the next look comes after the interval that the user asked for."""
    found = watch()
    found.look(snapshot(one(status="syncing")))
    assert found.pause(12.5) == 12.5


# What is told


def test_changes_are_logged_once(watch: Callable[..., Watch], log: Log) -> None:
    """Every change of status is logged, not every poll."""
    found = watch()
    for status in ("syncing", "syncing", "paused", "paused", "syncing", "connected"):
        found.look(snapshot(one(status=status)))
    assert log.lines == [
        "INFO int_1 (stripe) is syncing (last synced: 2024-03-15T12:00:00+00:00)",
        "WARNING int_1 (stripe) has the unknown status 'paused' (last synced: 2024-03-15T12:00:00+00:00)",
        "INFO int_1 (stripe) is syncing (last synced: 2024-03-15T12:00:00+00:00)",
        "INFO int_1 (stripe) is connected (last synced: 2024-03-15T12:00:00+00:00)",
    ]


def test_never_synced_is_told(watch: Callable[..., Watch], log: Log) -> None:
    """An integration that never synced says so."""
    watch().look(snapshot(one(status="syncing", last=None)))
    assert log.lines == ["INFO int_1 (stripe) is syncing (last synced: never)"]


def test_heartbeat(watch: Callable[..., Watch], log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat tells now and then how long the wait has lasted and what was seen last."""
    now = time.monotonic()
    monkeypatch.setattr("airflow_provider_flokit.watch.time", SimpleNamespace(monotonic=lambda: now))
    found = watch()
    found.heartbeat_if_due()
    assert log.lines == []
    now += 300.4
    found.heartbeat_if_due()
    found.heartbeat_if_due()
    found.look(snapshot(one(status="syncing")))
    now += 300
    found.heartbeat_if_due()
    assert log.lines[0] == "INFO Still waiting for FloKit integration int_1 after 300 s (nothing seen yet)"
    assert log.lines[-1] == "INFO Still waiting for FloKit integration int_1 after 600 s (int_1: syncing)"
    assert len(log.lines) == 3


def test_timed_out(watch: Callable[..., Watch]) -> None:
    """A wait that runs out of time tells what went wrong last, or what was seen last, and what to do."""
    found = watch()
    assert found.timed_out(60.0) == Outcome(
        Ending.TIMED_OUT,
        (),
        "FloKit integration int_1 (connection 'flokit_eu') not ready within 60 s. "
        "Look at the integration in FloKit, or give the wait more time with timeout.",
    )
    found.look(snapshot(one(status="syncing")))
    found.trouble(FlokitAPIError("HTTP 500."))
    outcome = found.timed_out(0.5)
    assert outcome.integrations == (one(status="syncing"),)
    assert ("not ready within 0.5 s. The last attempt to ask failed: HTTP 500. Look at") in outcome.message
    found.look(snapshot(one(status="syncing")))
    assert (
        "not ready within 0.5 s. Last seen: int_1 (stripe) is syncing, last synced: 2024-03-15T12:00:00+00:00. Look at"
    ) in found.timed_out(0.5).message
    assert type(outcome.exception()) is FlokitWaitTimeoutError


def test_texts_from_outside_stay_on_their_line(watch: Callable[..., Watch], log: Log) -> None:
    """What FloKit says cannot forge log lines or flood them."""
    nasty = one(status="sync\ning\x1b", kind="x\ny", message="z" * 10_000)
    found = watch()
    found.look(snapshot(nasty))
    found.next_heartbeat = 0.0
    found.heartbeat_if_due()
    error = failure(found.look(snapshot(one(status="error", message="line\n" * 5000))))
    for text in (*log.lines, found.timed_out(1.0).message, str(error)):
        assert "\n" not in text
        assert "\x1b" not in text
        assert len(text) < 1500


# Through a hook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, flokit: Simulator) -> FlokitHook:
    """Return a hook for the simulator, which does not wait between attempts."""
    monkeypatch.setattr("airflow_provider_flokit.retry.BACKOFF_BASE", 0.001)
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri(retry_limit=2))
    return FlokitHook()


def test_ask(watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator) -> None:
    """Asking reads the list once and judges it."""
    flokit.add_integration("int_1", status="syncing")
    found = watch()
    assert found.ask(hook) is None
    flokit.set_state("int_1", status="connected")
    outcome = found.ask(hook)
    assert outcome is not None
    assert outcome.ending is Ending.READY
    assert [request.path for request in flokit.requests] == ["/v1/integrations"] * 2


def test_ask_survives_trouble(watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator, log: Log) -> None:
    """That the API cannot be asked never ends a wait; it is not even repeated until the next look."""
    flokit.add_integration("int_1")
    flokit.fail(503, times=1)
    found = watch()
    assert found.ask(hook) is None
    assert len(flokit.requests) == 1
    assert "HTTP 503" in log.lines[0]
    assert found.ask(hook) is not None


def test_ask_with_retries(watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator) -> None:
    """Where retries are asked for, they are made at once."""
    flokit.add_integration("int_1")
    flokit.fail(503, times=2)
    assert watch().ask(hook, retries=2) is not None
    assert len(flokit.requests) == 3


def test_ask_ends_with_what_no_retry_mends(watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator) -> None:
    """A dead key ends the wait."""
    flokit.add_integration("int_1")
    flokit.rotate_key()
    assert type(failure(watch().ask(hook))) is FlokitAuthenticationError


def test_ask_at_the_end_after_trouble(watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator) -> None:
    """If the last attempt to ask failed, the end asks once more, with retries, before it gives up."""
    flokit.add_integration("int_1", status="syncing")
    found = watch()
    found.ask(hook)
    flokit.fail(503, times=3)
    found.ask(hook)
    flokit.set_state("int_1", status="connected")
    outcome = found.ask_at_the_end(hook, 60.0)
    assert outcome.ending is Ending.READY
    assert len(flokit.requests) == 5


def test_ask_at_the_end_before_anything_was_seen(
    watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator
) -> None:
    """A wait that never looked does so at the end; if that does not help, it has timed out."""
    flokit.add_integration("int_1", status="syncing")
    outcome = watch().ask_at_the_end(hook, 60.0)
    assert outcome.ending is Ending.TIMED_OUT
    assert "int_1 (stripe) is syncing" in outcome.message
    flokit.outage()
    outcome = watch().ask_at_the_end(hook, 60.0)
    assert outcome.ending is Ending.TIMED_OUT
    assert "The last attempt to ask failed" in outcome.message


def test_no_question_at_the_end_of_a_good_look(
    watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator
) -> None:
    """If the last look went well, the end asks nothing more."""
    flokit.add_integration("int_1", status="syncing")
    found = watch()
    found.ask(hook)
    assert found.ask_at_the_end(hook, 60.0).ending is Ending.TIMED_OUT
    assert len(flokit.requests) == 1


def test_unlisted_id_is_read_singly(watch: Callable[..., Watch], hook: FlokitHook, flokit: Simulator) -> None:
    """An id that the list does not hold is read singly before it is called missing."""
    flokit.add_integration("int_1")
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), path="/v1/integrations", times=None)
    outcome = watch().ask(hook)
    assert outcome is not None
    assert outcome.ending is Ending.READY
    assert [request.path for request in flokit.requests] == ["/v1/integrations", "/v1/integrations/int_1"]
    assert type(failure(watch(integration_id="int_9").ask(hook))) is FlokitNotFoundError
