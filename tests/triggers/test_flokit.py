"""The trigger: its row, its event, its deadlines, and what its log says."""

from __future__ import annotations

import inspect
import json
import time
import types
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit._airflow import BACKSTOP
from airflow_provider_flokit.errors import FlokitPermanentError
from airflow_provider_flokit.gate import wait
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger
from tests.triggers.polls import STRIPE, TIMES, TriggerLogs, deferred, fire, more_polls, start, trigger, until

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator


def test_the_row_rebuilds_the_trigger() -> None:
    """Everything the wait needs is in the serialised arguments, which are JSON."""
    settings: dict[str, Any] = {
        "integration_id": None,
        "integration_type": ["stripe"],
        "receipt": None,
        "synced_after": "2024-03-15T13:00:00Z",
        "flokit_conn_id": "c",
        "poll_interval": 1.0,
        "timeout": 2.0,
        "deadline": 3.0,
        "execution_deadline": 3.5,
        "start_timeout": 4.0,
        "fail_on_disconnected": False,
        "tolerate_failures": True,
        "try_number": 5,
    }
    assert set(settings) == set(inspect.signature(FlokitIntegrationTrigger).parameters), "one is forgotten"
    path, arguments = FlokitIntegrationTrigger(**settings).serialize()
    assert path == "airflow_provider_flokit.triggers.flokit.FlokitIntegrationTrigger"
    assert arguments == settings
    assert FlokitIntegrationTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


async def test_arguments_that_cannot_be_used_are_an_event_not_a_crash() -> None:
    """With start_from_trigger Airflow renders them in the triggerer; one that renders to nothing drops no condition."""
    started = trigger(synced_after="{{ data_interval_end }}")
    started.synced_after = ""
    event = await fire(started)
    assert (event["ending"], event["error"]) == ("failed", "FlokitArgumentError")
    assert event["message"].startswith("FlokitIntegrationTrigger: synced_after is ''")


async def test_a_deadline_that_passed_while_no_triggerer_lived_gets_one_look(flokit: Simulator) -> None:
    """A restarted triggerer that finds the sync done says so, however late."""
    flokit.add_integration(STRIPE)
    late = trigger(deadline=time.time() - 60)
    assert (await fire(late))["ending"] == "ready"
    flokit.set_state(STRIPE, status="syncing")
    assert (await fire(late))["ending"] == "timed_out"


async def test_a_wait_that_the_scheduler_started_keeps_its_deadline_through_restarts(flokit: Simulator) -> None:
    """Without a deadline of its own, the trigger reckons from when Airflow will end the deferral."""
    flokit.add_integration(STRIPE, status="syncing")
    started = trigger(timeout=600)
    started.timeout_after = datetime.now(tz=UTC) + timedelta(seconds=BACKSTOP + 0.3)
    event = await fire(started)
    assert event["ending"] == "timed_out"
    assert "within 10 min" in event["message"]


@pytest.mark.parametrize("by_a_worker", [True, False], ids=["deferred by a worker", "started by the scheduler"])
async def test_the_event_comes_no_sooner_than_the_scheduler_can_take_it(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, by_a_worker: bool
) -> None:
    """A task that resumes soon after its worker deferred it could be taken for one that died."""
    settle = 0.6 if by_a_worker else 60.0
    monkeypatch.setattr(FlokitIntegrationTrigger, "SETTLE", settle)
    flokit.add_integration(STRIPE)
    started = deferred() if by_a_worker else trigger()
    # The triggerer says which task a trigger is for.
    started.task_instance = types.SimpleNamespace(task_id="wait", task=None)
    began = time.monotonic()
    await fire(started)
    assert (time.monotonic() - began >= settle) is by_a_worker


async def test_a_verdict_that_changes_with_time_needs_no_change_at_flokit(flokit: Simulator) -> None:
    """The error of before the sync is recognised when start_timeout is over, though every answer is the same."""
    error = {"status": "error", "error_message": "old", "last_synced_at": TIMES[0]}
    flokit.add_integration(STRIPE, **error)
    receipt = {
        "integration_id": STRIPE,
        "baseline": {"id": STRIPE, "type": "stripe", **error},
        "triggered_at": datetime.now(tz=UTC).isoformat(),
    }
    waiting = start(deferred(None, receipt=receipt))
    await more_polls(flokit)
    assert not waiting.done()
    flokit.configure(clock_skew=400.0)
    event = await waiting
    assert (event["ending"], event["error"]) == ("failed", "FlokitSyncFailedError")
    assert event["receipt"] == receipt


async def test_a_quiet_wait_says_now_and_then_that_it_goes_on(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, logs: TriggerLogs
) -> None:
    """The beginning is logged once, then a heartbeat with the reason, not every poll."""
    monkeypatch.setattr(wait, "HEARTBEAT", 0.3)
    flokit.add_integration(STRIPE, status="syncing")
    began = time.monotonic()
    running = logs.start("mine", trigger(poll_interval=0.02))
    await until(lambda: len(logs.of("mine")) >= 3)
    running.cancel()
    beginning, *heartbeats = logs.of("mine")
    assert beginning.startswith(f"Waiting for {STRIPE}. Now: {STRIPE} is syncing")
    assert all(line.startswith("Still waiting after") and "is syncing" in line for line in heartbeats)
    assert len(heartbeats) <= (time.monotonic() - began) / 0.3


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 has asset watchers")
def test_airflow_2_says_that_watchers_need_a_later_one() -> None:
    """The module can be imported, the other trigger works, and this one says what to do."""
    with pytest.raises(FlokitPermanentError, match=r"needs Airflow 3.*FlokitIntegrationSensor"):
        FlokitSyncedTrigger(STRIPE)
