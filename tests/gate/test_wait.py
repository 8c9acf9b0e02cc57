"""A wait in progress: what its log says, how it ends, what it sits out, and its end as an event."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.errors import (
    FlokitAmbiguousTypeError,
    FlokitArgumentError,
    FlokitAuthenticationError,
    FlokitConnectionNotFoundError,
    FlokitDisconnectedError,
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
from tests.gate.states import MESSAGE, at, receipt, snapshot, state

if TYPE_CHECKING:
    from airflow_provider_flokit.models import Integration

MINUTE = 60.0


class Story(logging.Handler):
    """A wait with a clock that a test moves, and what its log says."""

    def __init__(self) -> None:
        super().__init__()
        self.second = 0.0
        self.told: list[str] = []
        self._log = logging.Logger("wait")  # noqa: LOG001 - apart from everybody else's logging
        self._log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line."""
        self.told.append(f"{record.levelname} {record.getMessage()}")

    def news(self) -> list[str]:
        """Return what was logged since the last time."""
        told, self.told = self.told, []
        return told

    def wait(self, timeout: float = 3600.0, **given: Any) -> Wait:
        """Begin a wait, for int_1 unless something else is given."""
        names = ("elapsed", "execution_left", "answered", "announced")
        settings = {name: given.pop(name) for name in names if name in given}
        if not given.keys() & {"integration_id", "integration_type", "receipt"}:
            given["integration_id"] = "int_1"
        conditions = Conditions.of({"flokit_conn_id": "flokit_eu", **given}, owner="Sensor 'wait'")
        return Wait(conditions, self._log, timeout, **settings)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    """Return a place for a wait, its clock at second 0."""
    story = Story()
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


def named(name: str, text: str = "connected", kind: str = "stripe") -> Integration:
    """Return an integration of another id."""
    return state(text, name, kind)


# What the log says


def test_the_first_line_says_what_why_and_until_when(story: Story) -> None:
    """What is waited for with its condition, what is there now, and until when; once."""
    wait = story.wait(receipt=receipt(), synced_after="2024-03-15T11:30:00Z")
    wait.look(snapshot("syncing", second=0.5))
    (line,) = story.news()
    assert line == (
        "INFO Waiting for sync sync_1 of int_1, synced at or after 11:30:00 UTC, at most 1 h, until 13:00:00 UTC. "
        "Now: int_1 (stripe) is syncing, last synced 11:00:00 UTC (1 h ago)."
    )
    wait.look(snapshot("syncing", second=1))
    assert story.news() == []


def test_a_wait_that_was_announced_says_nothing_twice(story: Story) -> None:
    """A rescheduled poke and the triggerer go on with a wait whose beginning is in the log."""
    story.wait(announced=True).look(snapshot("syncing"))
    assert story.news() == []


def test_every_change_of_status_is_told(story: Story) -> None:
    """Nothing per look, one line per change."""
    wait = story.wait(receipt=receipt())
    for text in ("connected", "connected", "syncing", "syncing", "connected", "connected+1"):
        wait.look(snapshot(text))
    lines = story.news()
    assert len(lines) == 3
    assert lines[1].startswith("INFO int_1 (stripe) is syncing, and has not finished sync sync_1")
    assert lines[1].endswith("it was connected.")
    assert lines[2].startswith("INFO int_1 (stripe) is connected, but has not finished sync sync_1")


def test_an_unknown_status_is_warned_of_once(story: Story) -> None:
    """FloKit may add statuses; none of them is taken for a success."""
    wait = story.wait()
    for _ in range(3):
        assert wait.look(snapshot("paused")) is None
    (line,) = [line for line in story.news() if line.startswith("WARNING")]
    assert "'paused'" in line


def test_every_five_minutes_a_heartbeat_gives_the_reasons(story: Story) -> None:
    """How long it has lasted, and for each integration that is not ready why, and only for those."""
    wait = story.wait(integration_id=["int_1", "int_2", "int_3"], synced_after="2024-03-15T11:30:00Z")
    wait.look(snapshot("connected+1", named("int_2", "syncing"), named("int_3"), second=20))
    story.news()
    for second in (0, 200, 299):
        story.second = second
        wait.heartbeat()
    assert story.news() == []
    story.second = 300
    wait.heartbeat()
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
    assert story.news() == ["WARNING HTTP 503. The wait goes on."]
    wait.trouble(FlokitUnreachableError("no answer."))
    assert story.news() == ["WARNING no answer. The wait goes on."]
    story.second = 300
    wait.heartbeat()
    assert "no answer." in story.news()[0]
    wait.look(snapshot("syncing"))
    wait.look(snapshot("syncing"))
    (over,) = story.news()
    assert over.startswith("INFO FloKit answers again: int_1 (stripe) is syncing")


def test_trouble_at_the_very_beginning_comes_after_the_first_line(story: Story) -> None:
    """Who reads of the trouble has read what is waited for."""
    story.wait().trouble(FlokitServerError("HTTP 503."))
    first, second = story.news()
    assert "Waiting for int_1" in first
    assert "not known yet" in first
    assert "HTTP 503." in second


def test_ready_with_a_warning(story: Story) -> None:
    """That the sync succeeded and that a later one failed is both told."""
    outcome = story.wait(receipt=receipt()).look(snapshot("new error+1"))
    assert outcome == Outcome(Ending.READY, (state("new error+1"),))
    assert story.news()[-1].startswith("WARNING int_1 (stripe): a sync that began after the request succeeded at")


# How it ends


def test_a_failure_begins_with_what_failed(story: Story) -> None:
    """The first 100 characters say what failed and why; then comes what else was not ready."""
    ids = ["int_1", "int_2", "int_3", "int_4"]
    outcome = story.wait(integration_id=ids).look(
        snapshot("syncing", named("int_2"), named("int_3", "error"), named("int_4", "disconnected"))
    )
    said = failure(outcome, FlokitSyncFailedError)
    assert said.startswith(f"int_3 (stripe) is in error: {MESSAGE}; int_4 (stripe) is disconnected (connection")
    assert "Not ready either: int_1 (stripe) is syncing" in said
    assert "int_2" not in said
    assert "'flokit_eu'" in said


def test_a_failure_of_a_sync_names_the_sync_and_the_last_success(story: Story) -> None:
    """With a receipt: the sync_id, and how long ago the last success was."""
    said = failure(story.wait(receipt=receipt()).look(snapshot("new error")), FlokitSyncFailedError)
    assert said.startswith("int_1 (stripe) is in error: quota exceeded (connection 'flokit_eu', sync sync_1).")
    assert "Last synced: 11:00:00 UTC (1 h ago)" in said


def test_only_disconnected_integrations_are_a_class_of_their_own(story: Story) -> None:
    """Nothing will sync until somebody connects them again, which the message says."""
    found = story.wait(integration_id=["int_1", "int_2"])
    said = failure(found.look(snapshot("disconnected", named("int_2", "syncing"))), FlokitDisconnectedError)
    assert "Connect it again in FloKit" in said


@pytest.mark.parametrize(
    ("given", "there", "says"),
    [
        (
            {"synced_after": "2024-03-15T11:30:00Z"},
            "connected",
            ["at or after 11:30:00 UTC", "last synced 11:00:00 UTC"],
        ),
        ({"receipt": receipt()}, "syncing", ["sync_1", "is syncing"]),
        ({"receipt": receipt("error")}, "error", ["in error: bad token", "before this sync"]),
        ({"integration_id": ["int_1"]}, "paused", ["'paused'"]),
    ],
)
def test_a_timeout_gives_the_reason(story: Story, given: dict[str, Any], there: str, says: list[str]) -> None:
    """The condition, the sync's id, FloKit's own error message, and how long was waited."""
    wait = story.wait(timeout=5400, **given)
    assert wait.look(snapshot(there)) is None
    outcome = wait.look(snapshot(there), last=True)
    assert outcome is not None
    assert outcome.ending is Ending.TIMED_OUT
    assert outcome.message.startswith("int_1 (stripe) ")
    assert [text for text in [*says, "not ready within 1 h 30 min", "flokit_eu"] if text not in outcome.message] == []


def test_a_timeout_gives_the_last_trouble_with_the_api(story: Story) -> None:
    """Also if nothing was ever seen."""
    wait = story.wait()
    wait.trouble(FlokitServerError("HTTP 503: maintenance."))
    said = wait.timed_out().message
    assert said.startswith("HTTP 503: maintenance. int_1: not ready within 1 h")


def test_an_execution_timeout_is_told_from_the_waits_own(story: Story) -> None:
    """The shorter of both is the deadline."""
    wait = story.wait(timeout=45, execution_left=8)
    assert wait.deadline == 8
    assert wait.timed_out().ending is Ending.EXECUTION_TIMED_OUT
    assert "execution_timeout" in wait.timed_out().message
    assert story.wait(timeout=45, execution_left=80).timed_out().ending is Ending.TIMED_OUT
    assert story.wait(timeout=45, elapsed=40).deadline == 5


def test_what_was_ready_once_stays_so(story: Story) -> None:
    """Many that sync often need not be quiet at the same moment."""
    ids = ["int_1", "int_2", "int_3"]
    wait = story.wait(integration_id=ids, synced_after="2024-03-15T11:30:00Z")
    quiet, busy = "connected+1", "syncing+1"
    for turn in range(2):
        states = [named(name, quiet if turn == number else busy) for number, name in enumerate(ids)]
        assert wait.look(snapshot(*states)) is None
    outcome = wait.look(snapshot(named("int_1", "error+1"), named("int_2", busy), named("int_3", quiet)))
    assert outcome is not None
    assert outcome.ending is Ending.READY


def test_without_a_condition_the_present_counts(story: Story) -> None:
    """Several that have only to be connected are judged in one observation."""
    wait = story.wait(integration_id=["int_1", "int_2"])
    assert wait.look(snapshot("connected", named("int_2", "syncing"))) is None
    assert wait.look(snapshot("syncing", named("int_2"))) is None
    assert wait.look(snapshot("connected", named("int_2"))) is not None


def test_silent_fail_logs_a_failure_once_and_goes_on(story: Story) -> None:
    """A failure of a sync is told as an error, and the wait ends ready or by its timeout."""
    wait = story.wait(tolerate_failures=True)
    for _ in range(3):
        assert wait.look(snapshot("error")) is None
    (line,) = [line for line in story.news() if line.startswith("ERROR")]
    assert MESSAGE in line
    assert wait.look(snapshot("connected")) is not None


def test_an_integration_that_does_not_exist_ends_the_wait(story: Story) -> None:
    """Also one that vanishes in the middle; the outcome keeps its last state."""
    wait = story.wait(answered=True)
    wait.look(snapshot("syncing"))
    outcome = wait.look(snapshot(named("int_2"), missing=frozenset({"int_1"})))
    assert "int_2" in failure(outcome, FlokitNotFoundError)
    assert outcome is not None
    assert outcome.integrations == (state("syncing"),)
    several = story.wait(integration_type="stripe").look(snapshot("connected", named("int_2")))
    assert "int_1, int_2" in failure(several, FlokitAmbiguousTypeError)


def test_an_integration_that_cannot_be_read_is_trouble(story: Story) -> None:
    """What the list does not hold and a single read could not tell is waited for."""
    wait = story.wait(integration_id=["int_1", "int_2"])
    unread = snapshot("connected", unread={"int_2": FlokitServerError("HTTP 500.")})
    assert wait.look(unread) is None
    assert story.news()[-1] == "WARNING HTTP 500. The wait goes on."
    outcome = wait.look(unread, last=True)
    assert outcome is not None
    assert outcome.ending is Ending.TIMED_OUT


# What it sits out


REFUSALS = [
    FlokitAuthenticationError("HTTP 401."),
    FlokitPermissionError("HTTP 403."),
    FlokitNotFoundError("HTTP 404."),
    FlokitRequestError("HTTP 400."),
    FlokitConnectionNotFoundError("cannot be looked up."),
]
TROUBLES = [FlokitServerError("HTTP 503."), FlokitRateLimitError("HTTP 429."), FlokitUnreachableError("no answer.")]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda e: type(e).__name__)
def test_a_refusal_at_the_first_look_is_final(story: Story, error: FlokitError) -> None:
    """What can never be is told at once."""
    assert failure(story.wait().trouble(error), type(error)) == str(error)


@pytest.mark.parametrize("error", TROUBLES, ids=lambda e: type(e).__name__)
def test_trouble_that_may_pass_never_ends_a_wait(story: Story, error: FlokitError) -> None:
    """From the first look to the deadline."""
    wait = story.wait()
    for story.second in (0, 100, 10_000):
        assert wait.trouble(error) is None


@pytest.mark.parametrize("error", REFUSALS, ids=lambda e: type(e).__name__)
def test_a_wait_that_was_answered_sits_out_refusals_for_15_minutes(story: Story, error: FlokitError) -> None:
    """Somebody rotates the key and needs minutes to paste the new one; then the last refusal is the failure."""
    wait = story.wait()
    wait.look(snapshot("syncing"))
    for story.second in (1, 5 * MINUTE, 15 * MINUTE - 1):
        assert wait.trouble(error) is None
    story.second = 15 * MINUTE
    assert failure(wait.trouble(error), type(error)) == str(error)


@pytest.mark.parametrize("good", ["answer", "trouble", "answer to another wait"])
def test_the_15_minutes_begin_anew(story: Story, good: str) -> None:
    """With an answer, and with a failure that may pass: there the API was not the one to refuse."""
    wait, error, told_at = story.wait(answered=True), REFUSALS[0], 0.0
    story.second = 10 * MINUTE
    assert wait.trouble(error) is None
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
    "outcome",
    [
        Outcome(Ending.READY, (state("connected+1"), named("int_2", "paused"))),
        Outcome(Ending.FAILED, (state("error"),), "it failed", "FlokitSyncFailedError"),
        Outcome(Ending.TIMED_OUT, (), "not ready within 60 s"),
        Outcome(Ending.EXECUTION_TIMED_OUT, (state("syncing never"),), "not ready"),
    ],
    ids=lambda outcome: outcome.ending,
)
def test_an_outcome_travels_through_json(outcome: Outcome) -> None:
    """What the trigger found is what the task is told."""
    assert Outcome.from_event(json.loads(json.dumps(outcome.to_event()))) == outcome


@pytest.mark.parametrize(
    ("error", "kind"),
    [("FlokitSyncFailedError", FlokitSyncFailedError), ("FlokitArgumentError", FlokitArgumentError)],
)
def test_a_failure_is_raised_as_what_it_was(error: str, kind: type[FlokitError]) -> None:
    """The class decides whether Airflow retries, so it goes through the event."""
    assert failure(Outcome(Ending.FAILED, message="why", error=error), kind) == "why"


def test_a_timeout_is_an_error_of_its_own() -> None:
    """An operator that ran out of time is told from a sync that failed."""
    assert type(Outcome(Ending.TIMED_OUT, message="late").exception()) is FlokitWaitTimeoutError


GOOD = Outcome(Ending.READY, (state("connected"),)).to_event()


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        "ready",
        {**GOOD, "ending": "over"},
        {**GOOD, "integrations": [{"id": "a"}]},
        {name: value for name, value in GOOD.items() if name != "message"},
    ],
)
def test_an_unknown_event_fails_loudly(event: Any) -> None:
    """Nothing that is not ours passes for a success."""
    with pytest.raises(FlokitError, match="The trigger sent an event"):
        Outcome.from_event(event)


def test_an_id_without_a_condition_of_its_own_is_never_done(story: Story) -> None:
    """Beside a receipt for another, its status alone decides, at every look."""
    wait = story.wait(integration_id=["int_1", "int_2"], receipt=receipt())
    assert wait.look(snapshot("connected", state("connected", "int_2"))) is None
    outcome = wait.look(snapshot("connected+1", state("error", "int_2")))
    assert outcome is not None
    assert (outcome.ending, outcome.error) == (Ending.FAILED, "FlokitSyncFailedError")


@pytest.mark.parametrize("answered", [False, True])
def test_a_refused_single_read_is_a_refusal(story: Story, answered: bool) -> None:
    """Final at the first look; sat out for 15 minutes by a wait that was answered before."""
    wait = story.wait(answered=answered)
    refused = snapshot(unread={"int_1": FlokitPermissionError("HTTP 403.")})
    if answered:
        assert wait.look(refused) is None
        story.second = 901
    outcome = wait.look(refused)
    assert outcome is not None
    assert (outcome.ending, outcome.error) == (Ending.FAILED, "FlokitPermissionError")
