"""Asset watchers: one event for each sync, through outages and dead keys, sharing the poll of all waits."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitPermanentError
from airflow_provider_flokit.models import Integration
from airflow_provider_flokit.simulator import Fault
from airflow_provider_flokit.triggers._asset_events import Memory, compare
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger
from tests.triggers.polls import LIST, STRIPE, deferred, fire, gets, in_a_loop, more_polls, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

TIMES = [f"2024-03-15T{hour}:00:00Z" for hour in range(12, 20)]

needs_airflow_3 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)
    monkeypatch.setattr(retry, "BACKOFF_CAP", 0.1)


def watcher(integration_id: str = STRIPE, **arguments: Any) -> FlokitSyncedTrigger:
    """Make a trigger that polls quickly."""
    return FlokitSyncedTrigger(integration_id, **{"poll_interval": 0.05, **arguments})


async def seen(flokit: Simulator) -> None:
    """Wait until all have seen the present state: the answer to a request that was sent from now on."""
    await more_polls(flokit, 3)


@asynccontextmanager
async def told(flokit: Simulator, *triggers: FlokitSyncedTrigger) -> AsyncIterator[list[Any]]:
    """Collect what triggers, run as before Airflow 3.3, tell during the block; nothing is left of them."""
    events: list[Any] = []

    async def collect(trigger: FlokitSyncedTrigger) -> None:
        async for event in trigger.run():
            events.append(json.loads(json.dumps(event.payload)))  # noqa: PERF401 - kept also when it is cancelled

    tasks = [asyncio.create_task(collect(trigger)) for trigger in triggers]
    await seen(flokit)
    yield events
    await seen(flokit)
    assert not [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await until(lambda: len(asyncio.all_tasks()) == 1)


@needs_airflow_3
@in_a_loop
async def test_a_watcher_that_comes_later_has_its_own_interval(flokit: Simulator) -> None:
    """The poll is at the shortest interval asked for, from when that is asked."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    slow = asyncio.create_task(anext(watcher(poll_interval=600).run()))
    await until(lambda: gets(flokit) >= 1)
    quick = asyncio.create_task(anext(watcher().run()))
    await seen(flokit)
    flokit.set_state(STRIPE, last_synced_at=TIMES[1])
    assert (await quick).payload["last_synced_at"] == TIMES[1]
    slow.cancel()


# Which events a look makes


@pytest.mark.parametrize(
    ("history", "events"),
    [
        ("connected 13", ""),
        ("connected 13, connected 13", ""),
        ("connected 13, connected 14", "synced"),
        ("connected -, connected 13", "synced"),
        ("connected 13, syncing 14", "synced"),
        ("connected 13, connected 12, connected 13", ""),
        ("connected 13, connected -, connected 13", ""),
        ("connected 13, error 13 bad", "error"),
        ("error 13 bad, error 13 bad", ""),
        ("error 13 bad, error 13 worse", "error"),
        ("error 13 bad, syncing 13, error 13 bad", "error"),
        ("error 13 bad, error 14 bad", "synced error"),
        ("connected 14, error 13 bad", ""),
    ],
)
@pytest.mark.parametrize("on", ["synced", "error", "any"])
def test_what_the_last_look_tells(history: str, events: str, on: str) -> None:
    """The first look tells nothing; then each success and each new error once, to who asks; an older answer nothing."""
    memory: Memory | None = None
    for look in history.split(", "):
        status, hour, *message = look.split()
        last = None if hour == "-" else f"2024-03-15T{hour}:00:00Z"
        shown = {"status": status, "last_synced_at": last, "error_message": message[0] if message else None}
        memory, happened = compare(memory, Integration.from_json({"id": "int_a", "type": "stripe", **shown}), on)
        memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))  # as it goes through the store
    assert happened == tuple(event for event in events.split() if on in (event, "any"))


# The trigger


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="Airflow 3 has asset watchers")
def test_airflow_2_says_what_it_needs() -> None:
    """The module can be imported, the other trigger works, and this one says what to do."""
    with pytest.raises(FlokitPermanentError, match=r"needs Airflow 3.*FlokitIntegrationSensor"):
        FlokitSyncedTrigger(STRIPE)


@needs_airflow_3
def test_the_row_rebuilds_the_trigger() -> None:
    """The arguments in the trigger table are JSON, the class is found where the documentation says."""
    trigger = FlokitSyncedTrigger(integration_id=STRIPE, flokit_conn_id="c", poll_interval=3, on="any")
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_flokit.triggers.flokit.FlokitSyncedTrigger"
    assert arguments == {"integration_id": STRIPE, "flokit_conn_id": "c", "poll_interval": 3.0, "on": "any"}
    assert FlokitSyncedTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@needs_airflow_3
@pytest.mark.parametrize(
    "wrong", [{"integration_id": "a/b"}, {"poll_interval": 0}, {"on": "success"}, {"flokit_conn_id": ""}], ids=repr
)
def test_wrong_arguments_are_refused_when_the_dag_is_read(wrong: dict[str, Any]) -> None:
    """The error names the class and the parameter."""
    with pytest.raises(FlokitArgumentError, match=f"^FlokitSyncedTrigger: {next(iter(wrong))} "):
        FlokitSyncedTrigger(**{"integration_id": STRIPE, **wrong})


@needs_airflow_3
@in_a_loop
async def test_each_sync_and_each_error_make_one_event(flokit: Simulator) -> None:
    """With both times, FloKit's message and the state; what was there before makes none."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    async with told(flokit, watcher(on="any")) as events:
        for state in (
            {"status": "syncing"},
            {"status": "connected", "last_synced_at": TIMES[1]},
            {"status": "error", "error_message": "bad signing secret"},
        ):
            flokit.set_state(STRIPE, **state)
            await seen(flokit)
    synced, error = events
    assert (synced["event"], synced["previous_synced_at"], synced["last_synced_at"]) == ("synced", TIMES[0], TIMES[1])
    assert (synced["integration_id"], synced["integration"]["status"]) == (STRIPE, "connected")
    assert (error["event"], error["error_message"]) == ("error", "bad signing secret")


@needs_airflow_3
@in_a_loop
async def test_watchers_and_waits_share_one_poll(flokit: Simulator) -> None:
    """Two watchers and a task's wait on one connection make one request per interval together."""
    for name in ("int_a", "int_b", "int_c"):
        flokit.add_integration(name, last_synced_at=TIMES[0], status="syncing")
    async with told(flokit, watcher("int_a", poll_interval=0.3), watcher("int_b", poll_interval=5)) as events:
        wait = asyncio.create_task(fire(deferred("int_c", poll_interval=0.3)))
        began, before = time.monotonic(), gets(flokit)
        await more_polls(flokit, 3)
        assert gets(flokit) - before <= (time.monotonic() - began) / 0.3 + 1
        flokit.set_state("int_a", last_synced_at=TIMES[1])
        flokit.set_state("int_c", status="connected")
        assert (await wait)["ending"] == "ready"
    assert [each["integration_id"] for each in events] == ["int_a"]


@needs_airflow_3
@in_a_loop
async def test_what_stops_a_watcher_is_told_once_per_cause_as_an_error_and_so_is_its_end(
    flokit: SimulatedFlokit, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be there before its integration, and ends for nothing; nobody else would notice that it sees nothing."""
    caplog.set_level(logging.INFO)
    async with told(flokit, watcher()) as events:
        flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
        await seen(flokit)
        flokit.fail(503, times=3)
        await more_polls(flokit, 3)
        key = flokit.rotate_key("fk_rw_new")
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await more_polls(flokit, 4)
        flokit.connect(api_key=key)
    assert [each["last_synced_at"] for each in events] == [TIMES[1]]
    records = [r for r in caplog.records if f"The watcher of {STRIPE} (connection 'flokit_default')" in r.getMessage()]
    causes = [r.getMessage() for r in records if r.levelno == logging.ERROR]
    assert len(causes) == 3
    assert all(cause in text for cause, text in zip(["no integration of the id", "503", "401"], causes, strict=True))
    assert records[-1].getMessage().endswith("works again.")


@needs_airflow_3
@in_a_loop
async def test_an_integration_that_the_list_does_not_hold_is_read_singly(flokit: Simulator) -> None:
    """A list with gaps hides no sync; two watchers share the read."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), path=LIST, times=None)
    async with told(flokit, watcher(), watcher()) as events:
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
    assert [each["last_synced_at"] for each in events] == [TIMES[1]] * 2
    assert gets(flokit, f"{LIST}/{STRIPE}") <= gets(flokit)
