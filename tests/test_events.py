"""Which events a move makes, cell by cell, and over random histories. The expected outcomes are written by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.events import Event, Memory, checked_on, happened, latest, payload
from airflow_provider_flokit.models import Integration

EARLIER = datetime(2024, 3, 15, 12, tzinfo=UTC)
BEFORE = datetime(2024, 3, 15, 13, tzinfo=UTC)
AFTER = datetime(2024, 3, 15, 14, tzinfo=UTC)
SYNCED, ERROR = Event.SYNCED, Event.ERROR


def seen(status: str, last_synced_at: datetime | None, error_message: str | None = None) -> Integration:
    """Make an integration as it is seen at some moment."""
    return Integration("int_a", "stripe", status, last_synced_at, error_message)


def remembered(on: str, *history: Integration) -> Memory | None:
    """Return what a watcher remembers after it has seen these, in that order."""
    memory = None
    for each in history:
        memory = Memory.of(each, memory, on)
    return memory


CASES: dict[str, tuple[list[Integration], Integration, tuple[Event, ...]]] = {
    "first look": ([], seen("connected", AFTER), ()),
    "first look, in error": ([], seen("error", AFTER, "bad"), ()),
    "first look, never synced": ([], seen("connected", None), ()),
    "nothing changed": ([seen("connected", BEFORE)], seen("connected", BEFORE), ()),
    "synced": ([seen("connected", BEFORE)], seen("connected", AFTER), (SYNCED,)),
    "synced by a microsecond": (
        [seen("connected", BEFORE)],
        seen("connected", BEFORE + timedelta(microseconds=1)),
        (SYNCED,),
    ),
    "synced for the first time": ([seen("connected", None)], seen("connected", BEFORE), (SYNCED,)),
    "syncing": ([seen("connected", BEFORE)], seen("syncing", BEFORE), ()),
    "syncing, then synced": ([seen("connected", BEFORE), seen("syncing", BEFORE)], seen("connected", AFTER), (SYNCED,)),
    "synced, and syncing again": ([seen("connected", BEFORE)], seen("syncing", AFTER), (SYNCED,)),
    "synced, and disconnected": ([seen("connected", BEFORE)], seen("disconnected", AFTER), (SYNCED,)),
    "synced, with an unknown status": ([seen("connected", BEFORE)], seen("paused", AFTER), (SYNCED,)),
    "an older answer": ([seen("connected", BEFORE)], seen("connected", EARLIER), ()),
    "back from an older answer": (
        [seen("connected", BEFORE), seen("connected", EARLIER)],
        seen("connected", BEFORE),
        (),
    ),
    "back from none": ([seen("connected", BEFORE), seen("connected", None)], seen("connected", BEFORE), ()),
    "went into error": ([seen("connected", BEFORE)], seen("error", BEFORE, "bad"), (ERROR,)),
    "went into error without a word": ([seen("connected", BEFORE)], seen("error", BEFORE), (ERROR,)),
    "the same error": ([seen("error", BEFORE, "bad")], seen("error", BEFORE, "bad"), ()),
    "the same error without a word": ([seen("error", BEFORE)], seen("error", BEFORE), ()),
    "another error": ([seen("error", BEFORE, "bad")], seen("error", BEFORE, "worse"), (ERROR,)),
    "the same error after a sync": (
        [seen("error", BEFORE, "bad"), seen("syncing", BEFORE)],
        seen("error", BEFORE, "bad"),
        (ERROR,),
    ),
    "a success and the same error, unseen": (
        [seen("error", BEFORE, "bad")],
        seen("error", AFTER, "bad"),
        (SYNCED, ERROR),
    ),
    "a success and an error, unseen": ([seen("connected", BEFORE)], seen("error", AFTER, "bad"), (SYNCED, ERROR)),
    "an error in an older answer": ([seen("connected", AFTER)], seen("error", BEFORE, "bad"), ()),
    "an error in an answer without a time": ([seen("connected", AFTER)], seen("error", None, "bad"), ()),
    "the same error again after an older answer": (
        [seen("error", AFTER, "bad"), seen("connected", BEFORE)],
        seen("error", AFTER, "bad"),
        (),
    ),
    "out of error": ([seen("error", BEFORE, "bad")], seen("connected", AFTER), (SYNCED,)),
    "disconnected": ([seen("connected", BEFORE)], seen("disconnected", BEFORE), ()),
    "unknown status": ([seen("connected", BEFORE)], seen("paused", BEFORE), ()),
}


@pytest.mark.parametrize("on", ["synced", "error", "any"])
@pytest.mark.parametrize("name", CASES)
def test_table(name: str, on: str) -> None:
    """Each move makes exactly these events, and a watcher that asks for one kind gets no other."""
    history, now, events = CASES[name]
    wanted = {"synced": {SYNCED}, "error": {ERROR}, "any": {SYNCED, ERROR}}[on]
    assert happened(remembered(on, *history), now, on) == tuple(event for event in events if event in wanted)


def test_payload_tells_before_and_after() -> None:
    """The payload is JSON and holds the state, both times and the error."""
    before, now = remembered("any", seen("connected", BEFORE)), seen("error", AFTER, "bad")
    assert before is not None
    told = payload(ERROR, before, now)
    assert json.loads(json.dumps(told)) == told
    assert told == {
        "event": "error",
        "integration_id": "int_a",
        "last_synced_at": "2024-03-15T14:00:00Z",
        "previous_synced_at": "2024-03-15T13:00:00Z",
        "error_message": "bad",
        "integration": now.to_json(),
    }


def test_payload_of_a_first_success_has_no_time_before() -> None:
    """An integration that had never synced has no previous time."""
    assert payload(SYNCED, Memory(None, None), seen("connected", AFTER))["previous_synced_at"] is None


def test_a_watcher_of_syncs_remembers_no_errors() -> None:
    """What a watcher does not tell of makes nothing to save."""
    calm = remembered("synced", seen("connected", BEFORE))
    assert calm == remembered("synced", seen("connected", BEFORE), seen("error", BEFORE, "bad"))


@pytest.mark.parametrize("on", ["", "Synced", "all", None, 1, ["synced"]])
def test_on_is_one_of_three(on: object) -> None:
    """Anything else is refused when the DAG is parsed, naming the parameter."""
    with pytest.raises(FlokitArgumentError, match=r"^on is"):
        checked_on(on)


@pytest.mark.parametrize(
    "data", [None, 1, "x", [], {"last_synced_at": 3}, {"last_synced_at": "soon"}, {"error": 1}], ids=repr
)
def test_what_is_no_memory_is_forgotten(data: object) -> None:
    """A store that was edited by hand makes a watcher begin anew, not fail."""
    assert Memory.from_json(data) is None


def test_of_several_memories_the_latest_counts() -> None:
    """An asset that joined a watcher later does not make it repeat what it told the others."""
    old, new, failed = Memory(BEFORE, None), Memory(AFTER, None), Memory(AFTER, "bad")
    never = Memory(None, None)
    assert latest([]) is None
    assert latest([never]) is never
    assert latest([old, new, never]) is new
    assert latest([failed, new, old, never, never]) is failed


# Random histories

TIMES = st.none() | st.integers(0, 5).map(lambda hour: EARLIER + timedelta(hours=hour))
STATES = st.builds(
    seen,
    st.sampled_from(["connected", "syncing", "error", "disconnected", "paused"]),
    TIMES,
    st.sampled_from([None, "bad", "worse"]),
)
HISTORIES = st.lists(STATES, min_size=1, max_size=12)


def watch(history: list[Integration], on: str, *, forgetful: bool = False) -> list[tuple[Event, dict[str, Any]]]:
    """Return all that a watcher tells of a history; a forgetful one is restarted after every look."""
    memory: Memory | None = None
    told = []
    for now in history:
        for event in happened(memory, now, on):
            assert memory is not None
            told.append((event, payload(event, memory, now)))
        memory = Memory.of(now, memory, on)
        if forgetful:
            memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))
    return told


@given(HISTORIES)
def test_every_success_is_told_once(history: list[Integration]) -> None:
    """However answers go back and forth, the times told only rise, and the last told is the latest there was."""
    told = [datetime.fromisoformat(each["last_synced_at"]) for _, each in watch(history, "synced")]
    assert all(a < b for a, b in pairwise(told))
    later = [each.last_synced_at for each in history[1:] if each.last_synced_at is not None]
    first = history[0].last_synced_at
    risen = {time for time in later if first is None or time > first}
    assert set(told) <= risen
    assert (max(told) if told else None) == max(risen, default=None)


@given(HISTORIES)
def test_times_follow_one_another(history: list[Integration]) -> None:
    """Each event begins where the one before ended, so that no span of time is missed."""
    told = [each for _, each in watch(history, "synced")]
    for before, after in pairwise(told):
        assert after["previous_synced_at"] == before["last_synced_at"]


@given(HISTORIES)
def test_an_error_is_told_only_of_what_is_in_error(history: list[Integration]) -> None:
    """No error is told of anything else, and a quiet repetition of a state tells nothing."""
    assert {each["integration"]["status"] for _, each in watch(history, "error")} <= {"error"}
    assert not watch([history[0]] * 3, "any")


@given(HISTORIES, st.sampled_from(["synced", "error", "any"]))
def test_a_restart_changes_nothing(history: list[Integration], on: str) -> None:
    """A memory that went through the store makes the same events."""
    assert watch(history, on, forgetful=True) == watch(history, on)


@given(HISTORIES)
def test_any_is_both(history: list[Integration]) -> None:
    """A watcher of any event gets what the two others get, success before failure."""
    both = watch(history, "any")
    for kind in (SYNCED, ERROR):
        alone = watch(history, str(kind))
        assert [each["last_synced_at"] for event, each in both if event is kind] == [
            each["last_synced_at"] for _, each in alone
        ]
