"""Every switch: what the reference leaves open, and the conditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from airflow_provider_flokit.simulator import ManualClock, Simulator, Sync

from .conftest import ID, Call

Read = Callable[[], dict[str, Any]]


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
    assert [run.outcome for run in sim.syncs] == ["succeeded", "succeeded"]


@pytest.mark.parametrize(("kind", "expected"), [("json", b'{"error"'), ("html", b"<html>"), ("empty", b"")])
def test_conflict(sim: Simulator, clock: ManualClock, post: Call, kind: Any, expected: bytes) -> None:
    """With ``conflict``, a POST during a sync is a 409 with the chosen body; after it, it is fine again."""
    sim.configure(when_running="conflict", conflict_body=kind)
    post()
    answer = post()
    assert answer.status_code == 409
    assert answer.content[: len(expected) or None] == expected
    assert len(sim.syncs) == 1
    clock.advance(30)
    assert post().status_code == 200


def test_idempotency_key_honoured(sim: Simulator, clock: ManualClock, post: Call) -> None:
    """The same key gets the same answer for 24 hours, even after that sync's end; another key does not."""
    sim.when_running = "conflict"
    first = post("k1").json()
    assert post("k1").json() == first
    clock.advance(86_399)
    assert post("k1").json() == first
    assert len(sim.syncs) == 1
    clock.advance(1)
    assert post("k1").json() != first
    clock.advance(100)
    assert post("k2").status_code == 200
    assert [run.idempotency_key for run in sim.syncs] == ["k1", "k1", "k2"]


def test_idempotency_key_ignored(sim: Simulator, clock: ManualClock, post: Call) -> None:
    """Switched off, a repeated POST starts another sync."""
    sim.honour_idempotency_key = False
    post("k1")
    clock.advance(100)
    post("k1")
    assert len(sim.syncs) == 2


@pytest.mark.parametrize("form", ["null", "absent"])
def test_never_synced(sim: Simulator, read: Read, form: Any) -> None:
    """``last_synced_at`` and ``error_message`` that are not there are null or left out."""
    sim.set_state(ID, last_synced_at=None)
    sim.configure(never_synced=form, no_error=form)
    document = read()
    assert [document.get(name, "absent") for name in ("last_synced_at", "error_message")] == [
        None if form == "null" else "absent"
    ] * 2


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("Z", "2024-03-15T12:30:00.250000Z"),
        ("seconds", "2024-03-15T12:30:00Z"),
        ("+00:00", "2024-03-15T12:30:00.250000+00:00"),
        ("fraction", "2024-03-15T12:30:00.250000Z"),
        ("naive", "2024-03-15T12:30:00.250000"),
    ],
)
def test_timestamp_formats(sim: Simulator, read: Read, form: Any, expected: str) -> None:
    """Each format writes the same moment its own way, in the list and in the stats alike."""
    sim.set_state(ID, last_synced_at="2024-03-15T14:30:00.25+02:00", earliest_event_at="2024-01-01T00:00:00")
    read()
    sim.timestamp_format = form
    assert read()["last_synced_at"] == expected
    earliest = {"fraction": "2024-01-01T00:00:00.000000Z", "+00:00": "2024-01-01T00:00:00+00:00"}
    assert read()["sync_stats"]["earliest_event_at"] == earliest.get(
        form, f"2024-01-01T00:00:00{'Z' * (form != 'naive')}"
    )


@pytest.mark.parametrize(("kind", "expected"), [("json", b'{"error"'), ("html", b"<html>"), ("empty", b"")])
def test_unknown_id_body(sim: Simulator, call: Call, kind: Any, expected: bytes) -> None:
    """The 404 of an unknown id has the chosen body."""
    sim.unknown_id_body = kind
    answer = call("GET", "/v1/integrations/none")
    assert answer.status_code == 404
    assert answer.content[: len(expected) or None] == expected


def test_clock_skew(sim: Simulator, clock: ManualClock, call: Call, read: Read, post: Call) -> None:
    """The server's Date and its timestamps move together, while durations stay what they are."""
    sim.clock_skew = -7200
    post()
    clock.advance(30)
    assert read()["last_synced_at"] == "2024-03-15T11:00:30Z"
    assert parsedate_to_datetime(call("GET").headers["Date"]) == datetime(2024, 3, 15, 11, 0, 30, tzinfo=UTC)
    assert sim.add_integration("new").last_synced_at == datetime(2024, 3, 15, 10, 0, 30, tzinfo=UTC)


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


@pytest.mark.parametrize(
    "wrong", [{"when_running": "never"}, {"latency": -1}, {"rate_limit": (0, 1)}, {"timestamp_format": "x"}]
)
def test_wrong_positions_are_refused(sim: Simulator, wrong: Any) -> None:
    """A position that a switch does not have is an error and changes nothing."""
    before = sim.switches
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sim.configure(**wrong)
    assert sim.switches == before


def test_switches_at_construction() -> None:
    """Switches and the default sync can be given when the simulator is made."""
    sim = Simulator(when_running="queue", rate_limit=(5, 1), sync=Sync(duration=3))
    assert (sim.when_running, sim.rate_limit) == ("queue", (5, 1.0))
