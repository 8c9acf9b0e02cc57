"""A wait in progress: what its log says, how it ends, what it sits out, and its end as an event."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

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
from airflow_provider_flokit.gate.conditions import Conditions
from airflow_provider_flokit.gate.wait import Ending, Outcome, Wait
from tests.gate.states import at, receipt, snapshot, state

MINUTE = 60.0
SYNCED_AFTER = "2024-03-15T11:30:00Z"


class Story:
    """A wait with a clock that a test moves, and what its log says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.second = 0.0
        self._caplog = caplog
        caplog.set_level(logging.INFO)

    def news(self) -> list[str]:
        """Return what was logged since the last time."""
        told = [f"{record.levelname} {record.getMessage()}" for record in self._caplog.records]
        self._caplog.clear()
        return told

    def wait(self, timeout: float = 3600.0, **given: Any) -> Wait:
        """Begin a wait, for int_1 unless something else is given."""
        names = ("elapsed", "execution_left", "answered")
        settings = {name: given.pop(name) for name in names if name in given}
        if not given.keys() & {"integration_id", "integration_type", "receipt"}:
            given["integration_id"] = "int_1"
        conditions = Conditions.of({"flokit_conn_id": "flokit_eu", **given}, owner="Sensor 'wait'")
        return Wait(conditions, logging.getLogger("wait"), timeout, **settings)


@pytest.fixture
def story(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Story:
    """Return a place for a wait, its clock at second 0."""
    story = Story(caplog)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: story.second))
    monkeypatch.setattr(module, "_utcnow", lambda: at(story.second))
    return story


def failure(outcome: Outcome | None, kind: type[FlokitError]) -> str:
    """Return the message of a failed outcome."""
    assert outcome is not None
    assert outcome.ending is Ending.FAILED
    error = outcome.exception()
    assert type(error) is kind
    return str(error)


def timeout(outcome: Outcome | None) -> str:
    """Return the message of an outcome whose time was over."""
    assert outcome is not None
    assert outcome.ending is Ending.TIMED_OUT
    return outcome.message


# What the log says


def test_the_first_line_says_what_why_and_until_when(story: Story) -> None:
    """What is waited for with its condition, what is there now, and until when; once."""
    wait = story.wait(receipt=receipt(), synced_after=SYNCED_AFTER)
    for _ in range(2):
        wait.look(snapshot("syncing"))
    (line,) = story.news()
    assert line == (
        "INFO Waiting for sync sync_1 of int_1, synced at or after 11:30:00 UTC, at most 1 h, until 13:00:00 UTC. "
        "Now: int_1 (stripe) is syncing, last synced 11:00:00 UTC (1 h ago)."
    )


def test_every_change_of_status_is_told(story: Story) -> None:
    """Nothing per look, one line per change; an unknown status is warned of once."""
    wait = story.wait(receipt=receipt())
    for text in ("connected", "connected", "syncing", "syncing", "paused", "paused", "connected", "connected+1"):
        wait.look(snapshot(text))
    _, *lines = [line.partition(", ")[0] for line in story.news()]
    assert lines == [
        "INFO int_1 (stripe) was connected",
        "WARNING int_1 (stripe) has the unknown status 'paused'",
        "INFO int_1 (stripe) was paused",
    ]


def test_every_five_minutes_a_heartbeat_gives_the_reasons(story: Story) -> None:
    """How long it has lasted, and for each integration that is not ready why, and only for those."""
    wait = story.wait(integration_id=["int_1", "int_2", "int_3"], synced_after=SYNCED_AFTER)
    wait.look(snapshot("connected+1", state("syncing", "int_2"), state("connected", "int_3")))
    story.news()
    for story.second in (0, 299, 300, 300):
        wait.heartbeat()
    (line,) = story.news()
    assert line.startswith("INFO Still waiting after 5 min: int_2 (stripe) is syncing")
    assert "int_3 (stripe) is connected, but has to sync at or after 11:30:00 UTC, last synced 11:00:00 UTC" in line
    assert "int_1" not in line


def test_trouble_is_told_when_it_begins_and_when_it_is_over(story: Story) -> None:
    """At once and once, in between by the heartbeat; another trouble is told anew."""
    wait = story.wait()
    wait.look(snapshot("syncing"))
    story.news()
    for _ in range(3):
        wait.trouble(FlokitServerError("HTTP 503."))
    wait.trouble(FlokitUnreachableError("no answer."))
    story.second = 300
    wait.heartbeat()
    for _ in range(2):
        wait.look(snapshot("syncing"))
    *told, heartbeat, over = story.news()
    assert told == ["WARNING HTTP 503. The wait goes on.", "WARNING no answer. The wait goes on."]
    assert heartbeat.endswith("FloKit cannot be asked: no answer.")
    assert over.startswith("INFO FloKit answers again: int_1 (stripe) is syncing")


def test_trouble_at_the_very_beginning_comes_after_the_first_line(story: Story) -> None:
    """Who reads of the trouble has read what is waited for."""
    story.wait().trouble(FlokitServerError("HTTP 503."))
    first, second = story.news()
    assert first.startswith("INFO Waiting for int_1")
    assert first.endswith("Now: not known yet.")
    assert "HTTP 503." in second


# How it ends


def test_a_failure_begins_with_what_failed(story: Story) -> None:
    """The first 100 characters say what failed and why; then comes what else was not ready."""
    there = [state("connected", "int_2"), state("error", "int_3"), state("disconnected", "int_4")]
    outcome = story.wait(integration_id=["int_1", "int_2", "int_3", "int_4"]).look(snapshot("syncing", *there))
    said = failure(outcome, FlokitSyncFailedError)
    assert said.startswith("int_3 (stripe) is in error: bad token; int_4 (stripe) is disconnected (connection")
    assert "Not ready either: int_1 (stripe) is syncing" in said
    assert "int_2" not in said


def test_a_failure_of_a_sync_names_the_sync_and_the_last_success(story: Story) -> None:
    """With a receipt: the sync_id, and how long ago the last success was."""
    said = failure(story.wait(receipt=receipt()).look(snapshot("new error")), FlokitSyncFailedError)
    assert said.startswith("int_1 (stripe) is in error: quota exceeded (connection 'flokit_eu', sync sync_1).")
    assert "Last synced: 11:00:00 UTC (1 h ago)" in said


def test_a_timeout_gives_the_reason_and_the_last_trouble(story: Story) -> None:
    """FloKit's own error message, the condition, the sync's id, the trouble with the API, and how long was waited."""
    wait = story.wait(timeout=5400, receipt=receipt("error"))
    assert wait.look(snapshot("error")) is None
    wait.trouble(FlokitServerError("HTTP 503: maintenance."))
    assert timeout(wait.timed_out()).startswith(
        "int_1 (stripe) is in error: bad token, but that is from before this sync; has not finished sync sync_1, "
        "last synced 11:00:00 UTC (1 h ago): not ready within 1 h 30 min (connection 'flokit_eu'). "
        "The last attempt to ask FloKit failed: HTTP 503: maintenance."
    )


def test_a_timeout_of_a_wait_that_was_never_answered_begins_with_the_trouble(story: Story) -> None:
    """What kept FloKit from answering is what one has to know."""
    wait = story.wait()
    wait.trouble(FlokitServerError("HTTP 503: maintenance."))
    assert timeout(wait.timed_out()).startswith("HTTP 503: maintenance. int_1: not ready within 1 h")


def test_an_execution_timeout_is_told_from_the_waits_own(story: Story) -> None:
    """The shorter of both is the deadline."""
    wait = story.wait(timeout=45, execution_left=8)
    assert wait.deadline == 8
    assert wait.timed_out().ending is Ending.EXECUTION_TIMED_OUT
    assert "execution_timeout" in wait.timed_out().message
    assert story.wait(timeout=45, execution_left=80).timed_out().ending is Ending.TIMED_OUT
    assert story.wait(timeout=45, elapsed=40).deadline == 5


def test_without_a_condition_the_present_counts(story: Story) -> None:
    """Several that have only to be connected are judged in one observation."""
    wait = story.wait(integration_id=["int_1", "int_2"])
    assert wait.look(snapshot("connected", state("syncing", "int_2"))) is None
    assert wait.look(snapshot("syncing", state("connected", "int_2"))) is None
    assert wait.look(snapshot("connected", state("connected", "int_2"))) is not None


def test_an_id_without_a_condition_of_its_own_is_never_done(story: Story) -> None:
    """Beside a receipt for another, its status alone decides, at every look."""
    wait = story.wait(integration_id=["int_1", "int_2"], receipt=receipt())
    assert wait.look(snapshot("connected", state("connected", "int_2"))) is None
    failure(wait.look(snapshot("connected+1", state("error", "int_2"))), FlokitSyncFailedError)


def test_silent_fail_logs_a_failure_once_and_goes_on(story: Story) -> None:
    """A failure of a sync is told as an error, and the wait ends ready or by its timeout."""
    wait = story.wait(tolerate_failures=True)
    for _ in range(3):
        assert wait.look(snapshot("error")) is None
    (line,) = [line for line in story.news() if line.startswith("ERROR")]
    assert "bad token" in line
    assert wait.look(snapshot("connected")) is not None


def test_silent_fail_logs_a_failure_once_while_another_cannot_be_read(story: Story) -> None:
    """The same failure is no news."""
    wait = story.wait(integration_id=["int_1", "int_2"], tolerate_failures=True)
    wait.look(snapshot("syncing", state("error", "int_2")))
    story.news()
    for _ in range(3):
        wait.look(snapshot(state("error", "int_2"), unread={"int_1": FlokitServerError("HTTP 503.")}))
    assert [line.split()[0] for line in story.news()] == ["WARNING"]


def test_silent_fail_logs_a_failure_that_is_forgiven_no_longer(story: Story) -> None:
    """The integration is as it was; the verdict is not."""
    wait = story.wait(tolerate_failures=True, receipt=receipt("error"), start_timeout=60)
    assert wait.look(snapshot("error")) is None
    assert wait.look(snapshot("error", second=61)) is None
    assert [line.split()[0] for line in story.news()] == ["INFO", "ERROR"]


# What it sits out


REFUSALS = [
    FlokitAuthenticationError("HTTP 401."),
    FlokitPermissionError("HTTP 403."),
    FlokitNotFoundError("HTTP 404."),
    FlokitRequestError("HTTP 400."),
    FlokitConnectionNotFoundError("cannot be looked up."),
]
TROUBLES = [FlokitServerError("HTTP 503."), FlokitRateLimitError("HTTP 429."), FlokitUnreachableError("no answer.")]


@pytest.mark.parametrize("error", TROUBLES, ids=str)
def test_trouble_that_may_pass_never_ends_a_wait(story: Story, error: FlokitError) -> None:
    """From the first look to the deadline."""
    wait = story.wait()
    for story.second in (0, 100, 10_000):
        assert wait.trouble(error) is None


@pytest.mark.parametrize("error", REFUSALS, ids=str)
def test_a_wait_that_was_answered_sits_out_refusals_for_15_minutes(story: Story, error: FlokitError) -> None:
    """Somebody rotates the key and needs minutes to paste the new one; one that had no answer yet fails at once."""
    wait = story.wait()
    wait.look(snapshot("syncing"))
    for story.second in (1, 15 * MINUTE - 1):
        assert wait.trouble(error) is None
    story.second = 15 * MINUTE
    assert failure(wait.trouble(error), type(error)) == str(error)
    assert failure(story.wait().trouble(error), type(error)) == str(error)


def test_one_that_cannot_be_read_hides_no_failure_of_another(story: Story) -> None:
    """Failed as soon as one is; ready only when all were read, and a timeout tells what was known of each."""
    unread = {"int_2": FlokitServerError("HTTP 503.")}
    wait = story.wait(integration_id=["int_1", "int_2"])
    assert wait.look(snapshot("syncing", state("syncing", "int_2"))) is None
    assert wait.look(snapshot("connected", unread=unread)) is None
    assert "int_2 (stripe) is syncing" in timeout(wait.timed_out())
    failure(wait.look(snapshot("error", unread=unread)), FlokitSyncFailedError)


def test_a_refused_single_read_is_a_refusal(story: Story) -> None:
    """Final at the first look; sat out for 15 minutes by a wait that was answered before."""
    refused = snapshot(unread={"int_1": FlokitPermissionError("HTTP 403.")})
    failure(story.wait().look(refused), FlokitPermissionError)
    answered = story.wait(answered=True)
    assert answered.look(refused) is None
    story.second = 15 * MINUTE
    failure(answered.look(refused), FlokitPermissionError)


@pytest.mark.parametrize("good", ["answer", "trouble", "answer to another wait"])
def test_the_15_minutes_begin_anew(story: Story, good: str) -> None:
    """With an answer, and with a failure that may pass: there the API was not the one to refuse."""
    wait, error, told_at = story.wait(answered=True), REFUSALS[0], 0.0
    story.second = 10 * MINUTE
    if good == "answer":
        wait.look(snapshot("syncing"))
    elif good == "trouble":
        wait.trouble(FlokitServerError("HTTP 503."))
    else:
        told_at = story.second
    story.second = 25 * MINUTE - 1
    assert wait.trouble(error, told_at) is None
    story.second = 25 * MINUTE
    assert wait.trouble(error, told_at) is not None


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
