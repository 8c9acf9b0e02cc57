"""Asset watchers: one event for each sync, through outages and dead keys, sharing the poll of all waits."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.errors import FlokitArgumentError
from airflow_provider_flokit.simulator import Fault
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger
from tests.triggers.polls import LIST, STRIPE, TIMES, deferred, gets, more_polls, polls, start, until, watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")


@asynccontextmanager
async def told(flokit: Simulator, *triggers: FlokitSyncedTrigger) -> AsyncIterator[list[Any]]:
    """Collect what triggers, run as before Airflow 3.3, tell during the block; nothing is left of them."""
    events: list[Any] = []

    async def collect(trigger: FlokitSyncedTrigger) -> None:
        async for event in trigger.run():
            events.append(json.loads(json.dumps(event.payload)))  # noqa: PERF401 - kept also when it is cancelled

    tasks = [asyncio.create_task(collect(trigger)) for trigger in triggers]
    await more_polls(flokit)
    yield events
    await more_polls(flokit)
    assert not [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await until(lambda: len(asyncio.all_tasks()) == 1)


# The trigger


def test_the_row_rebuilds_the_trigger() -> None:
    """The arguments in the trigger table are JSON, the class is found where the documentation says."""
    trigger = watcher(flokit_conn_id="c", poll_interval=timedelta(minutes=1), on="any")
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_flokit.triggers.flokit.FlokitSyncedTrigger"
    assert arguments == {"integration_id": STRIPE, "flokit_conn_id": "c", "poll_interval": 60.0, "on": "any"}
    assert FlokitSyncedTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@pytest.mark.parametrize(
    "wrong", [{"integration_id": "a/b"}, {"poll_interval": 0}, {"on": "success"}, {"flokit_conn_id": ""}], ids=repr
)
def test_wrong_arguments_are_refused_when_the_dag_is_read(wrong: dict[str, Any]) -> None:
    """The error names the class and the parameter."""
    with pytest.raises(FlokitArgumentError, match=f"^FlokitSyncedTrigger: {next(iter(wrong))} "):
        FlokitSyncedTrigger(**{"integration_id": STRIPE, **wrong})


# Its events

HISTORY = [
    ("error", None, "bad", ""),
    ("error", None, "worse", "error"),
    ("connected", 3, None, "synced"),
    ("connected", 4, None, "synced"),
    ("syncing", 4, None, ""),
    ("syncing", 5, None, "synced"),
    ("error", 5, "bad", "error"),
    ("syncing", 5, None, ""),
    ("error", 5, "bad", "error"),
    ("error", 6, "bad", "synced error"),
    ("connected", 2, None, ""),
    ("error", 2, "bad", ""),
    ("connected", None, None, ""),
    ("connected", 6, None, ""),
]
"""Status, success and error of an integration one after the other, and the events that each makes."""


async def test_each_success_and_each_new_error_make_one_event(flokit: Simulator) -> None:
    """To who asks for it, a success before a failure; what was there before makes none, nor does an older answer."""
    flokit.add_integration(STRIPE)
    expected: dict[str, list[str]] = {"synced": [], "error": [], "any": []}
    got: dict[str, list[str]] = {"synced": [], "error": [], "any": []}

    async def collect(on: str) -> None:
        async for event in watcher(on=on).run():
            got[on].append(event.payload["event"])

    tasks: list[asyncio.Task[None]] = []
    for status, number, message, events in HISTORY:
        last = None if number is None else TIMES[number]
        flokit.set_state(STRIPE, status=status, last_synced_at=last, error_message=message)
        tasks = tasks or [asyncio.create_task(collect(on)) for on in got]
        await more_polls(flokit)
        for on, those in expected.items():
            those += [event for event in events.split() if on in (event, "any")]
        assert got == expected


async def test_an_event_has_all_that_is_known(flokit: Simulator) -> None:
    """Both times, FloKit's message and the state."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    async with told(flokit, watcher(on="any")) as events:
        flokit.set_state(STRIPE, status="error", last_synced_at=TIMES[1], error_message="bad signing secret")
    state = {"id": STRIPE, "type": "stripe", "status": "error", "last_synced_at": TIMES[1]}
    state["error_message"] = "bad signing secret"
    times = {"previous_synced_at": TIMES[0], "last_synced_at": TIMES[1]}
    beside = {"integration_id": STRIPE, **times, "error_message": "bad signing secret", "integration": state}
    assert events == [{"event": "synced", **beside}, {"event": "error", **beside}]


# The poll


async def test_a_watcher_that_comes_later_has_its_own_interval(flokit: Simulator) -> None:
    """The poll is at the shortest interval asked for, from when that is asked."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    slow = asyncio.create_task(anext(watcher(poll_interval=600).run()))
    await polls(flokit, 1)
    quick = asyncio.create_task(anext(watcher().run()))
    await more_polls(flokit)
    flokit.set_state(STRIPE, last_synced_at=TIMES[1])
    assert (await quick).payload["last_synced_at"] == TIMES[1]
    slow.cancel()


async def test_watchers_and_waits_share_one_poll(flokit: Simulator) -> None:
    """Two watchers and a task's wait on one connection make one request per interval together."""
    for name in ("int_a", "int_b", "int_c"):
        flokit.add_integration(name, last_synced_at=TIMES[0], status="syncing")
    async with told(flokit, watcher("int_a", poll_interval=0.3), watcher("int_b", poll_interval=5)) as events:
        wait = start(deferred("int_c", poll_interval=0.3))
        began, before = time.monotonic(), gets(flokit)
        await more_polls(flokit)
        assert gets(flokit) - before <= (time.monotonic() - began) / 0.3 + 1
        flokit.set_state("int_a", last_synced_at=TIMES[1])
        flokit.set_state("int_c", status="connected")
        assert (await wait)["ending"] == "ready"
    assert [each["integration_id"] for each in events] == ["int_a"]


async def test_what_stops_a_watcher_is_told_once_per_cause_as_an_error_and_so_is_its_end(
    flokit: SimulatedFlokit, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be there before its integration, and ends for nothing; nobody else would notice that it sees nothing."""
    caplog.set_level(logging.INFO)
    async with told(flokit, watcher()) as events:
        flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
        await more_polls(flokit)
        flokit.fail(503, times=3)
        await more_polls(flokit)
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


async def test_an_integration_that_the_list_does_not_hold_is_read_singly(flokit: Simulator) -> None:
    """A list with gaps hides no sync; two watchers share the read."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), path=LIST, times=None)
    async with told(flokit, watcher(), watcher()) as events:
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
    assert [each["last_synced_at"] for each in events] == [TIMES[1]] * 2
    assert gets(flokit, f"{LIST}/{STRIPE}") <= gets(flokit)
