"""The trigger: its row, its event, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import types
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit import watch
from airflow_provider_flokit.deferral import BACKSTOP
from airflow_provider_flokit.simulator import Sync
from airflow_provider_flokit.triggers import _poller
from airflow_provider_flokit.triggers._poller import Poller
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"


async def fire(trigger: FlokitIntegrationTrigger) -> dict[str, Any]:
    """Run a trigger as the triggerer does and return its one event's payload."""
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = events[0]
    return payload


def test_the_row_rebuilds_the_trigger() -> None:
    """Everything the wait needs is in the serialised arguments, which are JSON."""
    trigger = FlokitIntegrationTrigger(
        integration_type=["stripe"],
        synced_after="2024-03-15T13:00:00Z",
        flokit_conn_id="c",
        poll_interval=1.0,
        timeout=2.0,
        deadline=3.0,
        start_timeout=4.0,
        fail_on_disconnected=False,
        tolerate_failures=True,
    )
    path, arguments = trigger.serialize()
    assert path == f"{FlokitIntegrationTrigger.__module__}.FlokitIntegrationTrigger"
    assert FlokitIntegrationTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def test_it_leaves_no_task_behind(flokit: Simulator) -> None:
    """The last waiter stops the poll, closes its session and is forgotten."""
    flokit.add_integration(STRIPE)

    async def main() -> set[asyncio.Task[Any]]:
        await fire(FlokitIntegrationTrigger(integration_id=STRIPE))
        await asyncio.sleep(0.05)
        assert Poller._all[asyncio.get_running_loop()] == {}
        return asyncio.all_tasks()

    assert len(asyncio.run(main())) == 1


def test_a_cancelled_trigger_leaves_no_task_behind(flokit: Simulator) -> None:
    """A task that is cleared while it is deferred stops its wait."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> set[asyncio.Task[Any]]:
        running = asyncio.create_task(fire(FlokitIntegrationTrigger(integration_id=STRIPE)))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.05)
        return asyncio.all_tasks()

    assert len(asyncio.run(main())) == 1


def test_a_deadline_that_passed_while_no_triggerer_lived_gets_one_look(flokit: Simulator) -> None:
    """A restarted triggerer that finds the sync done says so, however late."""
    flokit.add_integration(STRIPE)
    late = FlokitIntegrationTrigger(integration_id=STRIPE, deadline=time.time() - 60)
    assert asyncio.run(fire(late))["ending"] == "ready"
    flokit.set_state(STRIPE, status="syncing")
    assert asyncio.run(fire(late))["ending"] == "timed_out"


def test_a_wait_that_the_scheduler_started_keeps_its_deadline_through_restarts(flokit: Simulator) -> None:
    """Without a deadline of its own, the trigger reckons from when Airflow will end the deferral."""
    flokit.add_integration(STRIPE, status="syncing")
    trigger = FlokitIntegrationTrigger(integration_id=STRIPE, timeout=600, poll_interval=0.1)
    trigger.timeout_after = datetime.now(tz=UTC) + timedelta(seconds=BACKSTOP + 0.3)
    started = time.monotonic()
    event = asyncio.run(fire(trigger))
    assert event["ending"] == "timed_out"
    assert "within 600 s" in event["message"]
    assert time.monotonic() - started < 10


def test_the_last_look_sees_what_happened_since_the_last_poll(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long poll_interval does not make a sync that is done time out."""
    flokit.add_integration(STRIPE, sync=Sync(duration=0.15))
    flokit.script(STRIPE, [{"status": "syncing"}, {"status": "connected"}])
    monkeypatch.setattr(_poller, "HURRY", 0.5)
    trigger = FlokitIntegrationTrigger(integration_id=STRIPE, poll_interval=60, timeout=1.2)
    assert asyncio.run(fire(trigger))["ending"] == "ready"


def test_arguments_that_cannot_be_used_are_an_event_not_a_crash() -> None:
    """A trigger that raised would tell the user nothing but that it failed."""
    event = asyncio.run(fire(FlokitIntegrationTrigger(integration_id="a/b")))
    assert (event["ending"], event["error"]) == ("failed", "FlokitArgumentError")


def test_the_event_comes_no_sooner_than_the_scheduler_can_take_it(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that resumes too early could be taken for one that died."""
    monkeypatch.setattr(FlokitIntegrationTrigger, "SETTLE", 0.25)
    flokit.add_integration(STRIPE)
    trigger = FlokitIntegrationTrigger(integration_id=STRIPE, deadline=time.time() + 60)
    # The triggerer says which task a trigger is for.
    trigger.task_instance = types.SimpleNamespace(task_id="wait", task=None)
    started = time.monotonic()
    asyncio.run(fire(trigger))
    assert time.monotonic() - started >= 0.25


def test_an_old_error_is_recognised_at_start_timeout_without_waiting_for_a_poll(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changes at FloKit, and yet the verdict does when start_timeout is over."""
    flokit.configure(send_date=False)
    flokit.add_integration(STRIPE, status="error", error_message="old", last_synced_at="2024-03-15T12:00:00Z")
    baseline = {"id": STRIPE, "type": "stripe", "status": "error", "error_message": "old"}
    baseline["last_synced_at"] = "2024-03-15T12:00:00Z"
    receipt = {"integration_id": STRIPE, "baseline": baseline, "triggered_at": datetime.now(tz=UTC).isoformat()}
    monkeypatch.setattr(_poller, "HURRY", 0.5)
    trigger = FlokitIntegrationTrigger(receipt=receipt, poll_interval=60, start_timeout=0.3)
    started = time.monotonic()
    event = asyncio.run(fire(trigger))
    assert (event["ending"], event["error"]) == ("failed", "FlokitSyncFailedError")
    assert time.monotonic() - started < 5


def test_a_quiet_wait_says_now_and_then_that_it_goes_on(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change of status is logged once, then only a heartbeat with the elapsed time, not every poll."""
    assert watch.HEARTBEAT >= 60
    monkeypatch.setattr(watch, "HEARTBEAT", 0.8)
    # On Airflow 3 a trigger's log is one of structlog, which pytest does not see.
    monkeypatch.setattr(FlokitIntegrationTrigger, "log", logging.getLogger("trigger"))
    flokit.add_integration(STRIPE, status="syncing")
    trigger = FlokitIntegrationTrigger(integration_id=STRIPE, poll_interval=0.02, timeout=2)
    began = time.monotonic()
    with caplog.at_level(logging.INFO):
        asyncio.run(fire(trigger))
    told = [r.getMessage() for r in caplog.records if STRIPE in r.getMessage()]
    assert len([line for line in told if "is syncing" in line]) == 1
    heartbeats = len([line for line in told if "Still waiting" in line])
    assert 1 <= heartbeats <= (time.monotonic() - began) / 0.8
    assert len(flokit.requests) > 2 * heartbeats
