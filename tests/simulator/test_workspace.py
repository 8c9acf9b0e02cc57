"""What becomes of integrations and syncs as time passes, and every switch for what the reference leaves open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

import pytest

from airflow_provider_flokit.simulator import Simulator, Sync

from .conftest import ID, LIST, ONE, SYNC, Call, Clock

Read: TypeAlias = Callable[..., Any]

HALF_PAST_TWO = datetime.fromisoformat("2024-03-15T14:30:00.25+02:00")


@pytest.fixture
def read(call: Call) -> Read:
    """Read fields of the integration."""
    return lambda *names: tuple(call("GET", ONE).json()["integration"][name] for name in names)


def test_a_successful_sync(sim: Simulator, clock: Clock, call: Call, read: Read) -> None:
    """It reads as before, then syncing, then connected with the moment it finished and its events."""
    call("POST", SYNC)
    clock.now += 9
    assert (*read("status"), sim.syncs[0].outcome) == ("connected", "waiting")
    clock.now += 1
    assert read("status", "last_synced_at") == ("syncing", "2024-03-15T12:00:00Z")
    assert (sim.syncs[0].outcome, sim.syncs[0].finished_at) == ("running", None)
    clock.now += 20 + 3600
    assert read("status", "last_synced_at") == ("connected", "2024-03-15T13:00:30Z")
    assert read("sync_stats")[0]["events_total"] == 1100
    (run,) = sim.syncs
    assert (run.trigger, run.outcome) == ("manual", "succeeded")
    assert run.finished_at is not None
    assert (run.finished_at - run.requested_at).total_seconds() == 30


def test_a_failed_sync(sim: Simulator, clock: Clock, call: Call, read: Read) -> None:
    """It ends in error with its message, which stays until the next sync starts, and leaves last_synced_at alone."""
    sim.plan(ID, Sync(duration=0, error="No access"))
    call("POST", SYNC)
    assert (sim.syncs[0].outcome, sim.syncs[0].error) == ("failed", "No access")
    call("POST", SYNC)
    shown = read("status", "error_message", "last_synced_at")
    assert shown == ("error", "No access", "2024-03-15T12:00:00Z")
    clock.now += 10
    assert read("status", "error_message") == ("syncing", None)


def test_schedule(sim: Simulator, clock: Clock, call: Call) -> None:
    """FloKit's own syncs come every period, move last_synced_at, and skip a period in which one runs."""
    sim.add_integration("own", schedule_every=60, sync=Sync(duration=5))
    clock.now += 65
    assert call("GET").json()["integrations"][1]["last_synced_at"] == "2024-03-15T13:01:05Z"
    clock.now += 50
    sim.plan("own", Sync(duration=20))
    call("POST", f"{LIST}/own/sync")
    clock.now += 20  # the tick at 120 s finds the manual sync (115 s to 135 s) running
    assert [run.trigger for run in sim.syncs] == ["scheduled", "manual"]
    clock.now += 3600
    assert [run.trigger for run in sim.syncs].count("scheduled") == 61


def test_scripts(sim: Simulator, call: Call, read: Read) -> None:
    """Every read, of the list too, shows the next state, and the last one stays."""
    sim.script(ID, [{"status": "syncing"}, {"status": "error", "error_message": "E"}, {"status": "connected"}])
    assert sim.integration(ID).status == "connected", "a look inside is no read"
    assert read("status") == ("syncing",)
    assert call("GET").json()["integrations"][0]["error_message"] == "E"
    assert read("status") == read("status") == ("connected",)


def test_set_state(sim: Simulator, clock: Clock, call: Call, read: Read) -> None:
    """Whatever is set counts at once and for good, malformed things too; a sync is cancelled by a status."""
    call("POST", SYNC)
    clock.now += 15
    sim.set_state(ID, status="paused", type="new", last_synced_at="not a time", extra={"region": "eu"})
    clock.now += 100
    assert read("status", "type", "last_synced_at", "region") == ("paused", "new", "not a time", "eu")
    assert sim.syncs[0].outcome == "cancelled"


# Switches


@pytest.mark.parametrize(
    ("position", "statuses", "finished"),
    [("join", [200, 200], [30]), ("queue", [200, 200], [30, 50]), ("conflict", [200, 409], [30])],
)
def test_when_running(
    sim: Simulator, clock: Clock, call: Call, position: str, statuses: list[int], finished: list[float]
) -> None:
    """A POST while a sync waits or runs joins it, is queued behind it, or is refused."""
    sim.when_running = position
    begin = clock.now
    assert [call("POST", SYNC).status_code for _ in range(2)] == statuses
    clock.now += 60
    assert [run.finished_at.timestamp() - begin for run in sim.syncs if run.finished_at] == finished


@pytest.mark.parametrize(("position", "expected"), [("json", b'{"error"'), ("html", b"<html>"), ("empty", b"")])
def test_error_body(sim: Simulator, call: Call, position: str, expected: bytes) -> None:
    """Errors whose body is not documented have the chosen one."""
    sim.configure(when_running="conflict", error_body=position, rate_limit=(3, 60))
    call("POST", SYNC)
    for answer, status in ((call("GET", f"{LIST}/none"), 404), (call("POST", SYNC), 409), (call("GET"), 429)):
        assert answer.status_code == status
        assert answer.content[: len(expected) or None] == expected


@pytest.mark.parametrize(("honoured", "syncs"), [(True, ["k1", "k2"]), (False, ["k1", "k1", "k2"])])
def test_idempotency_key(sim: Simulator, clock: Clock, call: Call, *, honoured: bool, syncs: list[str]) -> None:
    """Where it is honoured, a POST repeated with its key starts no other sync, even after the end of the first."""
    sim.honour_idempotency_key = honoured
    for key in ("k1", "k1", "k2"):
        call("POST", SYNC, headers={"Idempotency-Key": key})
        clock.now += 100
    assert [run.idempotency_key for run in sim.syncs] == syncs


@pytest.mark.parametrize(
    ("switch", "position", "synced_at", "shown"),
    [
        ("never_synced", "null", None, None),
        ("never_synced", "absent", None, "no such field"),
        ("timestamp_format", "Z", HALF_PAST_TWO, "2024-03-15T12:30:00.250000Z"),
        ("timestamp_format", "seconds", HALF_PAST_TWO, "2024-03-15T12:30:00Z"),
        ("timestamp_format", "+00:00", HALF_PAST_TWO, "2024-03-15T12:30:00.250000+00:00"),
        ("timestamp_format", "naive", HALF_PAST_TWO, "2024-03-15T12:30:00.250000"),
    ],
)
def test_how_a_time_is_shown(
    sim: Simulator, call: Call, switch: str, position: str, synced_at: datetime | None, shown: str | None
) -> None:
    """``last_synced_at`` has the chosen format, and that of an integration that never synced is null or left out."""
    sim.set_state(ID, last_synced_at=synced_at)
    sim.configure(**{switch: position})
    assert call("GET", ONE).json()["integration"].get("last_synced_at", "no such field") == shown


def test_clock_skew(sim: Simulator, clock: Clock, call: Call, read: Read) -> None:
    """The server's Date and its timestamps are behind together."""
    sim.clock_skew = -7200
    call("POST", SYNC)
    clock.now += 30
    assert read("last_synced_at") == ("2024-03-15T11:00:30Z",)
    assert parsedate_to_datetime(call("GET").headers["Date"]) == datetime(2024, 3, 15, 11, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda sim: sim.configure(when_runs="join"), "no when_runs"),
        (lambda sim: setattr(sim, "when_running", "never"), "when_running must be one of join, queue, conflict"),
        (lambda sim: sim.set_state(ID, stats="x"), "stats"),
        (lambda sim: sim.script(ID, [{"sttus": "x"}]), "sttus"),
        (lambda sim: sim.add_integration("other", schedule_every=0), "schedule_every"),
        (lambda sim: sim.plan("none", Sync()), "no integration none"),
    ],
)
def test_mistakes_are_refused(sim: Simulator, mistake: Callable[[Simulator], None], error: str) -> None:
    """A typing mistake in a test is an error, not a state."""
    with pytest.raises((TypeError, ValueError, KeyError), match=error):
        mistake(sim)
