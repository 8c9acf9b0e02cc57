"""How syncs take their course: on their own, planned, scheduled, scripted."""

from __future__ import annotations

import pytest

from airflow_provider_flokit.simulator import ManualClock, Simulator, Sync

from .conftest import ID, Call, Read


def test_a_successful_sync(sim: Simulator, clock: ManualClock, read: Read, post: Call) -> None:
    """It reads as before, then syncing, then connected with the moment it finished and its events."""
    before = read()
    sync_id = post().json()["sync_id"]
    clock.advance(9)
    assert read() == before
    assert sim.syncs[0].outcome == "waiting"
    clock.advance(1)
    assert (read()["status"], read()["last_synced_at"]) == ("syncing", "2024-03-15T12:00:00Z")
    assert (sim.syncs[0].outcome, sim.syncs[0].finished_at) == ("running", None)
    clock.advance(20 + 3600)
    after = read()
    assert (after["status"], after["error_message"]) == ("connected", None)
    assert after["last_synced_at"] == "2024-03-15T13:00:30Z"
    assert after["sync_stats"]["events_total"] == before["sync_stats"]["events_total"] + 100
    run = sim.syncs[0]
    assert (run.sync_id, run.trigger, run.outcome, run.error) == (sync_id, "manual", "succeeded", None)
    assert [(at - run.requested_at).total_seconds() for at in (run.started_at, run.finished_at) if at] == [10, 30]


def test_a_failed_sync(sim: Simulator, clock: ManualClock, read: Read, post: Call) -> None:
    """It ends in error with its message, which stays until the next sync starts, and leaves last_synced_at alone."""
    sim.plan(ID, Sync(duration=1, error="No access"))
    post()
    clock.advance(1)
    assert (read()["status"], read()["error_message"]) == ("error", "No access")
    assert read()["last_synced_at"] == "2024-03-15T12:00:00Z"
    assert (sim.syncs[0].outcome, sim.syncs[0].error) == ("failed", "No access")
    post()
    clock.advance(9)
    assert read()["error_message"] == "No access"
    clock.advance(1)
    assert (read()["status"], read()["error_message"]) == ("syncing", None)


def test_planned_syncs_in_order_then_the_default(sim: Simulator, read: Read, post: Call) -> None:
    """Each started sync uses up one plan, then the integration's own shape counts; one without duration is not seen."""
    sim.set_state(ID, sync=Sync(duration=0, error="default"))
    sim.plan(ID, Sync(duration=0, error="first"), Sync(duration=0))
    seen = []
    for _ in range(3):
        post()
        seen.append((read()["status"], read()["error_message"]))
    assert seen == [("error", "first"), ("connected", None), ("error", "default")]


def test_a_sync_ends_when_it_is_told_to(sim: Simulator, clock: ManualClock, read: Read, post: Call) -> None:
    """One that would run for ever ends at once, and the one behind it goes on from there."""
    sim.when_running = "queue"
    sim.plan(ID, Sync(duration=float("inf"), error="enough"), Sync(duration=5))
    post()
    post()
    clock.advance(100)
    ended = sim.finish_sync(ID)
    assert ended is not None
    assert (ended.outcome, ended.error) == ("failed", "enough")
    assert read()["status"] == "syncing"
    clock.advance(5)
    assert (read()["status"], sim.finish_sync(ID)) == ("connected", None)


def test_the_list_keeps_up(sim: Simulator, clock: ManualClock, call: Call, post: Call) -> None:
    """The list, which is kept while nothing changes, shows every change by time, by hand or by a switch."""
    sim.add_integration("other")

    def statuses() -> list[str]:
        return [one["status"] for one in call("GET").json()["integrations"]]

    post()
    assert statuses() == ["connected", "connected"]
    clock.advance(10)
    assert statuses() == ["syncing", "connected"]
    sim.set_state("other", status="paused")
    assert statuses() == ["syncing", "paused"]
    clock.advance(20)
    assert statuses() == ["connected", "paused"]
    sim.no_error = "absent"
    assert "error_message" not in call("GET").json()["integrations"][0]
    sim.remove_integration("other")
    assert statuses() == ["connected"]


def test_schedule(sim: Simulator, clock: ManualClock, read: Read, post: Call) -> None:
    """FloKit's own syncs come every period, move last_synced_at, and skip a period in which one runs."""
    sim.set_state(ID, schedule_every=60, scheduled_sync=Sync(duration=5))
    clock.advance(60)
    assert read()["status"] == "syncing"
    clock.advance(5)
    assert read()["last_synced_at"] == "2024-03-15T13:01:05Z"
    clock.advance(40)
    post()
    clock.advance(20)  # the tick at 120 s finds the manual sync (115 s to 135 s) running
    assert [run.trigger for run in sim.syncs] == ["scheduled", "manual"]
    clock.advance(3600)
    assert [run.trigger for run in sim.syncs].count("scheduled") == 61
    sim.set_state(ID, schedule_every=None)
    clock.advance(3600)
    assert len(sim.syncs) == 62


def test_scheduled_sync_on_demand(sim: Simulator, clock: ManualClock, read: Read) -> None:
    """A scheduled sync can be had at any moment, without a POST."""
    run = sim.run_scheduled_sync(ID, Sync(duration=5, error="Broken"))
    assert (run.trigger, run.outcome, read()["status"]) == ("scheduled", "running", "syncing")
    clock.advance(5)
    assert (read()["status"], read()["error_message"]) == ("error", "Broken")


def test_scripts(sim: Simulator, call: Call, read: Read, post: Call) -> None:
    """Every read shows the next state and the last one stays; one for a sync begins after the POST."""
    sim.script_after_sync(ID, [{"status": "disconnected"}])
    sim.script(ID, [{"status": "syncing"}, {"status": "error", "error_message": "E"}, {"status": "connected"}])
    assert sim.integration(ID).status == "connected", "a look inside is no read"
    assert read()["status"] == "syncing"
    assert call("GET").json()["integrations"][0]["error_message"] == "E"
    assert [read()["status"] for _ in range(2)] == ["connected", "connected"]
    post()
    assert [run.outcome for run in sim.syncs] == ["scripted"]
    assert read()["status"] == "disconnected"


def test_set_state_ends_what_is_running(sim: Simulator, clock: ManualClock, read: Read, post: Call) -> None:
    """A status set by hand counts at once and for good; the sync is recorded as cancelled."""
    post()
    clock.advance(15)
    sim.set_state(ID, status="disconnected")
    clock.advance(100)
    assert (read()["status"], sim.syncs[0].outcome) == ("disconnected", "cancelled")


def test_free_states_types_and_fields(sim: Simulator, read: Read) -> None:
    """Any status, type, further field and even a malformed time can be shown."""
    shown = {"status": "paused", "type": "new_type", "last_synced_at": "not a time"}
    sim.set_state(ID, **shown, extra={"region": "eu"})
    assert read().items() >= {**shown, "region": "eu"}.items()


def test_wrong_calls_are_refused(sim: Simulator) -> None:
    """A typing mistake in a test is an error, not a state."""
    with pytest.raises(TypeError, match="stats"):
        sim.set_state(ID, stats="x")
    with pytest.raises(TypeError, match="sttus"):
        sim.script(ID, [{"sttus": "x"}])
    with pytest.raises(ValueError, match="already"):
        sim.add_integration(ID)
    with pytest.raises(KeyError, match="no integration none"):
        sim.plan("none", Sync())
    with pytest.raises(ValueError, match="schedule_every"):
        sim.set_state(ID, schedule_every=0)
