"""Every switch: what the reference leaves open, and the conditions."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from airflow_provider_flokit.simulator import ManualClock, Simulator, Sync

from .conftest import ID, LIST, Call, Read


@pytest.mark.parametrize("wait", [0, 15])
def test_join(sim: Simulator, clock: ManualClock, post: Call, wait: float) -> None:
    """With ``join``, a POST while a sync waits or runs answers that sync's id."""
    first = post().json()
    clock.advance(wait)
    assert post().json() == first
    assert len(sim.syncs) == 1


def test_queue(sim: Simulator, clock: ManualClock, read: Read, post: Call) -> None:
    """With ``queue``, another sync runs after the present one."""
    sim.when_running = "queue"
    assert post().json() != post().json()
    clock.advance(30)
    assert (read()["status"], read()["last_synced_at"]) == ("syncing", "2024-03-15T13:00:30Z")
    clock.advance(20)
    assert (read()["status"], read()["last_synced_at"]) == ("connected", "2024-03-15T13:00:50Z")


def test_conflict(sim: Simulator, clock: ManualClock, post: Call) -> None:
    """With ``conflict``, a POST during a sync is a 409; after it, it is fine again."""
    sim.when_running = "conflict"
    assert [post().status_code for _ in range(2)] == [200, 409]
    assert len(sim.syncs) == 1
    clock.advance(30)
    assert post().status_code == 200


@pytest.mark.parametrize(("kind", "expected"), [("json", b'{"error"'), ("html", b"<html>"), ("empty", b"")])
def test_bodies_of_errors(sim: Simulator, call: Call, post: Call, kind: str, expected: bytes) -> None:
    """The 404 of an unknown id and the 409 have the chosen body."""
    sim.configure(when_running="conflict", conflict_body=kind, unknown_id_body=kind)
    post()
    for answer, status in ((call("GET", f"{LIST}/none"), 404), (post(), 409)):
        assert answer.status_code == status
        assert answer.content[: len(expected) or None] == expected


@pytest.mark.parametrize(("honoured", "syncs"), [(True, ["k1", "k2"]), (False, ["k1", "k1", "k2"])])
def test_idempotency_key(sim: Simulator, clock: ManualClock, post: Call, *, honoured: bool, syncs: list[str]) -> None:
    """Where it is honoured, a POST repeated with its key starts no other sync, even after the end of the first."""
    sim.honour_idempotency_key = honoured
    for key in ("k1", "k1", "k2"):
        post(key)
        clock.advance(100)
    assert [run.idempotency_key for run in sim.syncs] == syncs


@pytest.mark.parametrize("form", ["null", "absent"])
def test_what_is_not_there(sim: Simulator, read: Read, form: Any) -> None:
    """``last_synced_at`` and ``error_message`` that are not there are null or left out."""
    sim.set_state(ID, last_synced_at=None)
    sim.configure(never_synced=form, no_error=form)
    shown = {name: value for name, value in read().items() if name in ("last_synced_at", "error_message")}
    assert shown == ({"last_synced_at": None, "error_message": None} if form == "null" else {})


@pytest.mark.parametrize(
    ("form", "synced", "earliest"),
    [
        ("Z", "12:30:00.250000Z", "00:00:00Z"),
        ("seconds", "12:30:00Z", "00:00:00Z"),
        ("+00:00", "12:30:00.250000+00:00", "00:00:00+00:00"),
        ("fraction", "12:30:00.250000Z", "00:00:00.000000Z"),
        ("naive", "12:30:00.250000", "00:00:00"),
    ],
)
def test_timestamp_formats(sim: Simulator, read: Read, form: Any, synced: str, earliest: str) -> None:
    """Each format writes the same moment its own way, in the list and in the stats alike."""
    sim.set_state(ID, last_synced_at="2024-03-15T14:30:00.25+02:00", earliest_event_at="2024-03-15T00:00:00")
    sim.timestamp_format = form
    assert read()["last_synced_at"] == f"2024-03-15T{synced}"
    assert read()["sync_stats"]["earliest_event_at"] == f"2024-03-15T{earliest}"


def test_clock_skew(sim: Simulator, clock: ManualClock, call: Call, read: Read, post: Call) -> None:
    """The server's Date and its timestamps move together, while durations stay what they are."""
    sim.clock_skew = -7200
    post()
    clock.advance(30)
    assert read()["last_synced_at"] == "2024-03-15T11:00:30Z"
    assert parsedate_to_datetime(call("GET").headers["Date"]) == datetime(2024, 3, 15, 11, 0, 30, tzinfo=UTC)
    sim.send_date = False
    assert "Date" not in call("GET").headers


def test_latency(sim: Simulator, call: Call) -> None:
    """Every request takes that long before it is handled."""
    sim.latency = 0.1
    begin = time.perf_counter()
    assert call("GET").status_code == 200
    assert time.perf_counter() - begin >= 0.1


def test_rate_limit(sim: Simulator, clock: ManualClock, call: Call) -> None:
    """Beyond N requests per window there is a 429 whose Retry-After leads to the next window."""
    sim.rate_limit = (2, 10)
    clock.advance(1)
    assert [call("GET").status_code for _ in range(3)] == [200, 200, 429]
    clock.advance(4)
    assert call("GET").headers["Retry-After"] == "6"
    assert sim.rate_limited == 2
    clock.advance(6)
    assert call("GET").status_code == 200


def test_wrong_switches_are_refused(sim: Simulator) -> None:
    """A switch that there is not, or a position that it does not have, is an error."""
    with pytest.raises(ValueError, match="when_running must be one of join, queue, conflict"):
        sim.when_running = "never"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="no when_runs"):
        Simulator(when_runs="join")
    assert Simulator(when_running="queue", sync=Sync(duration=3)).when_running == "queue"
