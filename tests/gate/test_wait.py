"""A wait in progress: what its log says, how it ends, what it sits out, and its end as an event."""

from __future__ import annotations

import json
import logging
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import (
    FlokitAuthenticationError,
    FlokitConnectionNotFoundError,
    FlokitError,
    FlokitNotFoundError,
    FlokitPermissionError,
    FlokitRateLimitError,
    FlokitRequestError,
    FlokitServerError,
    FlokitSyncFailedError,
    FlokitUnreachableError,
    FlokitWaitTimeoutError,
)
from airflow_provider_flokit.gate import wait as module
from airflow_provider_flokit.gate.wait import Ending, Outcome, Wait
from tests.gate.states import begin, conditions, receipt, snapshot, state

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60.0
SYNCED_AFTER = "2024-03-15T11:30:00Z"
DOWN = FlokitServerError("HTTP 503.")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the clock of all waits; a test sets its ``second``."""
    clock = SimpleNamespace(second=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.second))
    return clock


@pytest.fixture
def news(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last time."""
    caplog.set_level(logging.INFO)

    def told() -> list[str]:
        lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return lines

    return told


def failure(outcome: Outcome | None, kind: type[FlokitError]) -> str:
    """Return the message of a failed outcome."""
    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    error = outcome.exception()
    assert type(error) is kind
    return str(error)


# What the log says


def test_the_first_line_says_what_why_and_until_when(news: Callable[[], list[str]]) -> None:
    """What is waited for with its condition, what is there now, and until when; once."""
    wait = begin(receipt=receipt(), synced_after=SYNCED_AFTER)
    for _ in range(2):
        wait.look(snapshot("syncing"))
    (line,) = news()
    assert line.startswith("INFO Waiting for sync sync_1 of int_1, synced at or after ")
    assert ":30:00 UTC. Now: int_1 (stripe) is syncing, last synced 11:00:00 UTC (1 h ago). " in line
    assert re.search(r" Waits at most 1 h, until \d\d:\d\d:\d\d UTC\.$", line)


def test_every_change_of_status_is_told(news: Callable[[], list[str]]) -> None:
    """Nothing per look, one line per change; an unknown status is warned of once."""
    wait = begin(receipt=receipt())
    for text in ("connected", "connected", "syncing", "syncing", "paused", "paused", "connected", "connected+1"):
        wait.look(snapshot(text))
    assert [line.partition(", ")[0] for line in news()[1:]] == [
        "INFO int_1 (stripe) was connected",
        "WARNING int_1 (stripe) has the unknown status 'paused'",
        "INFO int_1 (stripe) was paused",
    ]


def test_every_five_minutes_a_heartbeat_gives_the_reasons(
    clock: SimpleNamespace, news: Callable[[], list[str]]
) -> None:
    """How long it has lasted, and for each integration that is not ready why, and only for those."""
    wait = begin(integration_id=["int_1", "int_2", "int_3"], synced_after=SYNCED_AFTER)
    wait.look(snapshot("connected+1", state("syncing", "int_2"), state("connected", "int_3")))
    for clock.second in (0, 299, 300, 300):
        wait.heartbeat()
    _, line = news()
    assert line.startswith("INFO Still waiting after 5 min: int_2 (stripe) is syncing")
    assert "int_3 (stripe) is connected, but has to sync at or after 11:30:00 UTC, last synced 11:00:00 UTC" in line
    assert "int_1" not in line


def test_trouble_is_told_when_it_begins_and_when_it_is_over(
    clock: SimpleNamespace, news: Callable[[], list[str]]
) -> None:
    """At once and once, after the first line, and then by the heartbeat; another trouble is told anew."""
    wait = begin()
    for _ in range(3):
        wait.trouble(DOWN)
    wait.trouble(FlokitUnreachableError("no answer."))
    clock.second = 300
    wait.heartbeat()
    for _ in range(2):
        wait.look(snapshot("syncing"))
    first, *told, heartbeat, over = news()
    assert first.startswith("INFO Waiting for int_1")
    assert "Now: not known yet." in first
    assert told == ["WARNING HTTP 503. The wait goes on.", "WARNING no answer. The wait goes on."]
    assert heartbeat.endswith("FloKit cannot be asked: no answer.")
    assert over.startswith("INFO FloKit answers again: int_1 (stripe) is syncing")


# How it ends


def test_a_failure_begins_with_what_failed() -> None:
    """The first 100 characters say what failed and why; then comes what else was not ready, and the last success."""
    there = [state("connected", "int_2"), state("new error", "int_3"), state("disconnected", "int_4")]
    names = ["int_1", "int_2", "int_3", "int_4"]
    wait = begin(integration_id=names, receipt=[receipt(integration_id="int_3")])
    said = failure(wait.look(snapshot("syncing", *there)), FlokitSyncFailedError)
    assert said.startswith("int_3 (stripe) is in error: quota exceeded; int_4 (stripe) is disconnected (connection")
    assert "(connection 'flokit_eu', sync sync_1). Last synced: int_3 11:00:00 UTC (1 h ago), int_4 11:00" in said
    assert "Not ready either: int_1 (stripe) is syncing" in said
    assert "int_2" not in said


def test_a_timeout_gives_the_reason_and_the_last_trouble() -> None:
    """FloKit's own error message, the condition, the sync's id, how long was waited, and the trouble with the API."""
    wait = begin(timeout=5400, receipt=receipt("error"))
    wait.trouble(DOWN)
    # It was never answered: what kept FloKit from answering is what one has to know.
    assert wait.timed_out().message.startswith("HTTP 503. sync sync_1 of int_1: not ready within 1 h 30 min (conn")
    assert wait.look(snapshot("error")) is None
    wait.trouble(DOWN)
    assert wait.timed_out().message.startswith(
        "int_1 (stripe) is in error: bad token, but that is from before this sync; has not finished sync sync_1, "
        "last synced 11:00:00 UTC (1 h ago): not ready within 1 h 30 min (connection 'flokit_eu'). "
        "The last attempt to ask FloKit failed: HTTP 503."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (5400, "1 h 30 min"), (7 * 86400, "7 days"), (2 * 86400 + 3600 + 1, "2 days 1 h")],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    """The two largest units tell enough."""
    assert f"not ready within {text} (connection" in begin(timeout=seconds).timed_out().message


def test_lists_are_cut_at_ten() -> None:
    """A workspace of hundreds does not fill the log."""
    assert "n8, n9 and 94 more: not" in begin(integration_id=[f"n{i}" for i in range(104)]).timed_out().message
    assert "n8, n9: not" in begin(integration_id=[f"n{i}" for i in range(10)]).timed_out().message


@pytest.mark.usefixtures("clock")
def test_an_execution_timeout_is_told_from_the_waits_own() -> None:
    """The shorter of both is the deadline."""

    def wait(**times: Any) -> Wait:
        return Wait(conditions(), logging.getLogger("wait"), 45, **times)

    assert wait(execution_left=8).deadline == 8
    assert wait(execution_left=8).timed_out().ending is Ending.EXECUTION_TIMED_OUT
    assert "execution_timeout" in wait(execution_left=8).timed_out().message
    assert wait(execution_left=80).timed_out().ending is Ending.TIMED_OUT
    assert wait(elapsed=40).deadline == 5


def test_what_has_no_condition_is_never_done() -> None:
    """Alone or beside a receipt for another, its present status alone decides, at every look."""
    wait = begin(integration_id=["int_1", "int_2"], receipt=receipt())
    assert wait.look(snapshot("connected", state("connected", "int_2"))) is None
    assert wait.look(snapshot("connected+1", state("syncing", "int_2"))) is None
    failure(wait.look(snapshot("syncing+1", state("error", "int_2"))), FlokitSyncFailedError)


def test_silent_fail_logs_a_failure_once_and_goes_on(news: Callable[[], list[str]]) -> None:
    """Told as an error once it is no longer forgiven, and not again while another integration cannot be read."""
    names = ["int_1", "int_2"]
    wait = begin(integration_id=names, receipt=receipt("error"), start_timeout=60, tolerate_failures=True)
    other = state("connected", "int_2")
    for second in (20, 61, 62):
        assert wait.look(snapshot("error", other, second=second)) is None
    for second in (63, 64):
        assert wait.look(snapshot("error", second=second, unread={"int_2": DOWN})) is None
    assert wait.look(snapshot("connected+1", other, second=65)) is not None
    begins, failed, unread, _, _ = news()
    assert [line.split()[0] for line in (begins, failed, unread)] == ["INFO", "ERROR", "WARNING"]
    assert "bad token" in failed


def test_a_heartbeat_makes_nothing_done(clock: SimpleNamespace) -> None:
    """It explains the state that was last seen, which says nothing about a sync that has begun since."""
    wait = begin(receipt=receipt("syncing"))
    assert wait.look(snapshot("connected+2", second=31.99999)) is None
    clock.second = 300
    wait.heartbeat()  # by now that success is 30 s old
    assert wait.look(snapshot("syncing+2", second=320)) is None


# What it sits out


REFUSALS = [
    FlokitAuthenticationError("HTTP 401."),
    FlokitPermissionError("HTTP 403."),
    FlokitNotFoundError("HTTP 404."),
    FlokitRequestError("HTTP 400."),
    FlokitConnectionNotFoundError("cannot be looked up."),
]
TROUBLES = [DOWN, FlokitRateLimitError("HTTP 429."), FlokitUnreachableError("no answer.")]


@pytest.mark.parametrize("error", TROUBLES, ids=str)
def test_trouble_that_may_pass_never_ends_a_wait(clock: SimpleNamespace, error: FlokitError) -> None:
    """From the first look to the deadline."""
    wait = begin()
    for clock.second in (0, 100, 10_000):
        assert wait.trouble(error) is None


@pytest.mark.parametrize("error", REFUSALS, ids=str)
def test_a_wait_that_was_answered_sits_out_refusals_for_15_minutes(clock: SimpleNamespace, error: FlokitError) -> None:
    """Somebody rotates the key and needs minutes to paste the new one; one that had no answer yet fails at once."""
    assert failure(begin().trouble(error), type(error)) == str(error)
    wait = begin()
    wait.look(snapshot("syncing"))
    begins = clock.second = 60 * MINUTE  # however long nothing changed, so that nobody told the wait of an answer
    assert wait.trouble(error) is None
    clock.second = begins + 15 * MINUTE - 1
    assert wait.trouble(error) is None
    clock.second = begins + 15 * MINUTE
    assert failure(wait.trouble(error), type(error)) == str(error)


@pytest.mark.parametrize("good", ["answer", "trouble"])
def test_the_15_minutes_begin_anew(clock: SimpleNamespace, good: str) -> None:
    """After an answer, and with a failure that may pass: there the API was not the one to refuse."""
    wait, error = begin(answered=True), REFUSALS[0]
    wait.trouble(error)
    clock.second = 10 * MINUTE
    if good == "answer":
        wait.look(snapshot("syncing"))
    else:
        wait.trouble(DOWN)
    wait.trouble(error)
    clock.second = 25 * MINUTE - 1
    assert wait.trouble(error) is None
    clock.second = 25 * MINUTE
    assert wait.trouble(error) is not None


def test_one_that_cannot_be_read_hides_no_failure_of_another() -> None:
    """Failed as soon as one is; ready only when all were read, and a timeout tells what was known of each."""
    wait = begin(integration_id=["int_1", "int_2"])
    assert wait.look(snapshot("syncing", state("syncing", "int_2"))) is None
    assert wait.look(snapshot("connected", unread={"int_2": DOWN})) is None
    assert "int_2 (stripe) is syncing" in wait.timed_out().message
    failure(wait.look(snapshot("error", unread={"int_2": DOWN})), FlokitSyncFailedError)


def test_a_refused_single_read_is_a_refusal(clock: SimpleNamespace) -> None:
    """Final at the first look; sat out for 15 minutes by a wait that was answered before."""
    refused = snapshot(unread={"int_1": FlokitPermissionError("HTTP 403.")})
    failure(begin().look(refused), FlokitPermissionError)
    answered = begin(answered=True)
    clock.second = 60 * MINUTE
    assert answered.look(refused) is None
    clock.second = 75 * MINUTE
    failure(answered.look(refused), FlokitPermissionError)


# The end as an event


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome(Ending.READY, (state("connected+1"), state("paused", "int_2"))), None),
        (Outcome(Ending.FAILED, (state("error"),), "it failed", "FlokitSyncFailedError"), FlokitSyncFailedError),
        (Outcome(Ending.TIMED_OUT, (), "not ready within 60 s"), FlokitWaitTimeoutError),
        (Outcome(Ending.EXECUTION_TIMED_OUT, (state("syncing never"),), "not ready"), None),
    ],
    ids=["ready", "failed", "timed out", "execution timed out"],
)
def test_an_outcome_travels_through_json(outcome: Outcome, kind: type[FlokitError] | None) -> None:
    """What the trigger found is what the task is told; the class decides whether Airflow retries."""
    came = Outcome.from_event(json.loads(json.dumps(outcome.to_event())))
    assert came == outcome
    assert kind is None or type(came.exception()) is kind


GOOD = Outcome(Ending.READY, (state("connected"),)).to_event()


@pytest.mark.parametrize("event", [None, {}, {**GOOD, "ending": "over"}, {**GOOD, "integrations": [{"id": "a"}]}])
def test_an_unknown_event_fails_loudly(event: Any) -> None:
    """Nothing that is not ours passes for a success."""
    with pytest.raises(FlokitError, match="The trigger sent an event"):
        Outcome.from_event(event)
