"""The end of a wait travels as an event and comes back as the same outcome and the same exception."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit import errors
from airflow_provider_flokit.errors import (
    FlokitError,
    FlokitNotFoundError,
    FlokitRateLimitError,
    FlokitSyncFailedError,
    FlokitWaitTimeoutError,
)
from airflow_provider_flokit.models import Integration, IntegrationStatus
from airflow_provider_flokit.outcome import Ending, Outcome

STATES = (
    Integration("int_1", "stripe", IntegrationStatus.CONNECTED, datetime(2024, 3, 15, 12, tzinfo=UTC)),
    Integration("int_2", "adjust", "paused"),
)
READY = Outcome(Ending.READY, STATES)
FAILED = Outcome(Ending.FAILED, STATES, "int_1 is in error", "FlokitSyncFailedError")
TIMED_OUT = Outcome(Ending.TIMED_OUT, STATES[:1], "not ready within 60 s")
ERRORS = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, FlokitError)]


@pytest.mark.parametrize("outcome", [READY, FAILED, TIMED_OUT, Outcome(Ending.READY)], ids=lambda o: o.ending)
def test_event_round_trip(outcome: Outcome) -> None:
    """An outcome comes back equal from the event's JSON text."""
    assert Outcome.from_event(json.loads(json.dumps(outcome.to_event()))) == outcome


def test_event_is_plain_json() -> None:
    """The event holds nothing but JSON values, so that any serializer can carry it."""
    assert TIMED_OUT.to_event() == {
        "ending": "timed_out",
        "integrations": [
            {
                "id": "int_1",
                "type": "stripe",
                "status": "connected",
                "last_synced_at": "2024-03-15T12:00:00Z",
                "error_message": None,
            }
        ],
        "message": "not ready within 60 s",
        "error": "",
    }
    assert type(TIMED_OUT.to_event()["ending"]) is str


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_comes_back_as_itself(name: str) -> None:
    """A failure raises the same exception type with the same message, wherever the wait ran."""
    outcome = Outcome.of_error(getattr(errors, name)("what is wrong"), STATES)
    assert outcome == Outcome(Ending.FAILED, STATES, "what is wrong", name)
    error = Outcome.from_event(outcome.to_event()).exception()
    assert type(error) is getattr(errors, name)
    assert str(error) == "what is wrong"


def test_error_with_more_than_a_message() -> None:
    """What else an error knows does not get in the way."""
    error = Outcome.of_error(FlokitRateLimitError("slow down", retry_after=7.0)).exception()
    assert (type(error), str(error)) == (FlokitRateLimitError, "slow down")


def test_timeout_is_an_error_of_its_own() -> None:
    """A wait that ran out of time is told apart from one that failed."""
    error = TIMED_OUT.exception()
    assert (type(error), str(error)) == (FlokitWaitTimeoutError, "not ready within 60 s")


@pytest.mark.parametrize("name", ["", "ValueError", "AirflowException", "shown", "SHOWN_LENGTH", "__doc__", "\n"])
def test_unknown_error(name: str) -> None:
    """An error that is none of this package's is refused, when the event is read and when it is raised."""
    outcome = Outcome(Ending.FAILED, (), "x", name)
    with pytest.raises(FlokitError, match="unknown error"):
        outcome.exception()
    with pytest.raises(FlokitError, match="unknown error"):
        Outcome.from_event(outcome.to_event())


def _event(**changes: Any) -> dict[str, Any]:
    return {**FAILED.to_event(), **changes}


@pytest.mark.parametrize(
    "event",
    [
        None,
        True,
        5,
        "ready",
        [],
        {},
        {"status": "success"},
        *({name: item for name, item in _event().items() if name != missing} for missing in _event()),
        _event(ending="done"),
        _event(ending=None),
        _event(ending=[]),
        _event(integrations=None),
        _event(integrations=5),
        _event(integrations=[{}]),
        _event(integrations=["int_1"]),
    ],
)
def test_event_that_is_not_understood(event: object) -> None:
    """An event of another shape fails loudly and shows what came."""
    with pytest.raises(FlokitError, match="event that is not understood"):
        Outcome.from_event(event)


def test_shown_event_is_cut() -> None:
    """The message about a wrong event stays readable."""
    with pytest.raises(FlokitError) as caught:
        Outcome.from_event("x" * 100_000)
    assert len(str(caught.value)) < 1000


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["ending", "integrations", "message", "error"]) | st.text(), inner)
        ),
        max_leaves=8,
    )
)
def test_any_event_is_an_outcome_or_refused(event: object) -> None:
    """Whatever a trigger sends, reading it gives an outcome or a FlokitError."""
    try:
        outcome = Outcome.from_event(event)
    except FlokitError:
        return
    assert isinstance(outcome.ending, Ending)


def test_failures_keep_the_last_states() -> None:
    """The states are optional; a failure keeps those that were seen."""
    assert Outcome.of_error(FlokitNotFoundError("gone")).integrations == ()
    assert Outcome.of_error(FlokitSyncFailedError("bad"), STATES).integrations == STATES
