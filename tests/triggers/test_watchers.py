"""Asset watchers: one event for each sync, through outages and dead keys, sharing the poll of all waits."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitArgumentError, FlokitPermanentError
from airflow_provider_flokit.models import Integration
from airflow_provider_flokit.simulator import Fault
from airflow_provider_flokit.triggers._asset_events import Memory, compare
from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger
from tests.triggers.polls import LIST, STRIPE, deferred, fire, gets, more_polls, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit

TIMES = [f"2024-03-15T{hour}:00:00Z" for hour in range(12, 20)]
EMPTY_LIST = Fault.answer(200, b'{"integrations": []}')

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


async def told(flokit: Simulator, play: Callable[[], Awaitable[None]], *triggers: FlokitSyncedTrigger) -> list[Any]:
    """Run triggers as Airflow before 3.3 does, while something is played, and return all payloads in order."""
    events: list[Any] = []

    async def collect(trigger: FlokitSyncedTrigger) -> None:
        async for event in trigger.run():
            events.append(json.loads(json.dumps(event.payload)))  # noqa: PERF401 - kept also when it is cancelled

    tasks = [asyncio.create_task(collect(trigger)) for trigger in triggers]
    await seen(flokit)
    await play()
    await seen(flokit)
    assert not [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return events


# Which events a look makes


def state(status: str, hour: int | None, error_message: str | None = None) -> Integration:
    """Make an integration as it is seen at some moment."""
    time = None if hour is None else datetime(2024, 3, 15, hour, tzinfo=UTC)
    return Integration("int_a", "stripe", status, time, error_message)


@pytest.mark.parametrize(
    ("history", "events"),
    [
        ([state("connected", 13)], ()),
        ([state("error", 13, "bad")], ()),
        ([state("connected", 13), state("connected", 13)], ()),
        ([state("connected", 13), state("connected", 14)], ("synced",)),
        ([state("connected", None), state("connected", 13)], ("synced",)),
        ([state("connected", 13), state("syncing", 13)], ()),
        ([state("connected", 13), state("syncing", 14)], ("synced",)),
        ([state("connected", 13), state("paused", 14)], ("synced",)),
        ([state("connected", 13), state("connected", 12)], ()),
        ([state("connected", 13), state("connected", 12), state("connected", 13)], ()),
        ([state("connected", 13), state("connected", None), state("connected", 13)], ()),
        ([state("connected", 13), state("error", 13, "bad")], ("error",)),
        ([state("connected", 13), state("error", 13)], ("error",)),
        ([state("error", 13, "bad"), state("error", 13, "bad")], ()),
        ([state("error", 13, "bad"), state("error", 13, "worse")], ("error",)),
        ([state("error", 13, "bad"), state("syncing", 13), state("error", 13, "bad")], ("error",)),
        ([state("error", 13, "bad"), state("error", 14, "bad")], ("synced", "error")),
        ([state("connected", 14), state("error", 13, "bad")], ()),
        ([state("error", 13, "bad"), state("connected", 14)], ("synced",)),
        ([state("connected", 13), state("disconnected", 13)], ()),
    ],
    ids=lambda value: (
        " > ".join(f"{i.status} {i.last_synced_at:%H}" if i.last_synced_at else i.status for i in value)
        if isinstance(value, list)
        else "+".join(value) or "nothing"
    ),
)
@pytest.mark.parametrize("on", ["synced", "error", "any"])
def test_what_a_look_tells(history: list[Integration], events: tuple[str, ...], on: str) -> None:
    """
    The first look tells nothing; then each success and each new error once, and an older answer nothing.

    A watcher that asks for one kind gets no other, and a memory that went through the store makes the same events.
    """
    memory: Memory | None = None
    for now in history:
        memory, happened = compare(memory, now, on)
        memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))
    assert happened == tuple(event for event in events if on in (event, "any"))


@pytest.mark.parametrize("data", [None, "x", [], {"last_synced_at": "soon", "error": None}, {"error": "bad"}], ids=repr)
def test_what_is_no_memory_is_forgotten(data: object) -> None:
    """A store that was edited by hand makes a watcher begin anew, not fail."""
    assert Memory.from_json(data) is None


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
    ("arguments", "named"),
    [
        ({"integration_id": "a/b"}, "integration_id"),
        ({"integration_id": "{{ x }}"}, "integration_id"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"on": "success"}, "on"),
        ({"flokit_conn_id": ""}, "flokit_conn_id"),
    ],
    ids=repr,
)
def test_wrong_arguments_are_refused_when_the_dag_is_read(arguments: dict[str, Any], named: str) -> None:
    """The error names the class and the parameter."""
    with pytest.raises(FlokitArgumentError, match=f"^FlokitSyncedTrigger: {named} "):
        FlokitSyncedTrigger(**{"integration_id": STRIPE, **arguments})


@needs_airflow_3
def test_each_sync_makes_one_event(flokit: Simulator) -> None:
    """What was there before makes none; each move of last_synced_at makes one, with both times and the state."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        for moment in TIMES[1:4]:
            flokit.set_state(STRIPE, status="syncing")
            await seen(flokit)
            flokit.set_state(STRIPE, status="connected", last_synced_at=moment)
            await seen(flokit)

    events = asyncio.run(told(flokit, play, watcher()))
    assert [(e["event"], e["previous_synced_at"], e["last_synced_at"]) for e in events] == [
        ("synced", TIMES[n], TIMES[n + 1]) for n in range(3)
    ]
    assert [(e["integration_id"], e["integration"]["status"]) for e in events] == [(STRIPE, "connected")] * 3


@needs_airflow_3
def test_errors_are_told_to_who_asks(flokit: Simulator) -> None:
    """Going into error is an event for "error" and "any", with FloKit's message, and none for "synced"."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        flokit.set_state(STRIPE, status="error", error_message="bad signing secret")
        await seen(flokit)
        flokit.set_state(STRIPE, status="connected", error_message=None, last_synced_at=TIMES[1])

    for on, events in {"synced": ["synced"], "error": ["error"], "any": ["error", "synced"]}.items():
        flokit.set_state(STRIPE, status="connected", error_message=None, last_synced_at=TIMES[0])
        payloads = asyncio.run(told(flokit, play, watcher(on=on)))
        assert [each["event"] for each in payloads] == events
        assert {each["error_message"] for each in payloads if each["event"] == "error"} <= {"bad signing secret"}


@needs_airflow_3
def test_watchers_and_waits_share_one_poll(flokit: Simulator) -> None:
    """Two watchers and a task's wait on one connection make one request per interval together."""
    for name in ("int_a", "int_b", "int_c"):
        flokit.add_integration(name, last_synced_at=TIMES[0], status="syncing")

    async def main() -> list[Any]:
        wait = asyncio.create_task(fire(deferred("int_c", poll_interval=0.4)))

        async def play() -> None:
            began, before = time.monotonic(), gets(flokit)
            await more_polls(flokit, 3)
            assert gets(flokit) - before <= (time.monotonic() - began) / 0.4 + 1
            flokit.set_state("int_a", last_synced_at=TIMES[1])
            flokit.set_state("int_c", status="connected")
            assert (await wait)["ending"] == "ready"

        triggers = [watcher("int_a", poll_interval=0.4), watcher("int_b", poll_interval=5)]
        return await told(flokit, play, *triggers)

    assert [each["integration_id"] for each in asyncio.run(main())] == ["int_a"]


@needs_airflow_3
def test_an_outage_makes_no_event_and_ends_no_watcher(flokit: Simulator) -> None:
    """Failures of every kind are sat out; what happened meanwhile is told once afterwards."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        for fault in (503, 404, Fault.answer(200, "html"), Fault.drop()):
            flokit.fail(fault, times=2)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await more_polls(flokit, 9)

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]


@needs_airflow_3
def test_what_stops_a_watcher_is_told_once_per_cause_as_an_error_and_so_is_its_end(
    flokit: SimulatedFlokit, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else notices a watcher that sees nothing: the log names the integration, the connection and the cause."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    caplog.set_level(logging.INFO)

    async def play() -> None:
        flokit.fail(503, times=3)
        await more_polls(flokit, 3)
        key = flokit.rotate_key("fk_rw_new")
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await more_polls(flokit, 4)
        flokit.connect(api_key=key)

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]
    records = [r for r in caplog.records if f"The watcher of {STRIPE} (connection 'flokit_default')" in r.getMessage()]
    causes = [r.getMessage().partition("HTTP ")[2][:3] for r in records if r.levelno == logging.ERROR]
    assert causes == ["503", "401"]
    assert records[-1].getMessage().endswith("works again.")
    assert "fk_rw" not in caplog.text


@needs_airflow_3
def test_an_integration_that_the_list_does_not_hold_is_read_singly(flokit: Simulator) -> None:
    """A list with gaps hides no sync; two watchers share the read, and it ends with them."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    flokit.add_integration("int_other", last_synced_at=TIMES[0])
    flokit.fail(EMPTY_LIST, method="GET", path=LIST, times=None)

    async def play() -> None:
        others = [asyncio.create_task(anext(watcher("int_other").run())) for _ in range(2)]
        await seen(flokit)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await seen(flokit)
        assert gets(flokit, f"{LIST}/int_other") <= gets(flokit)
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await seen(flokit)
        before = gets(flokit, f"{LIST}/int_other")
        await seen(flokit)
        assert gets(flokit, f"{LIST}/int_other") == before > 0

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]


@needs_airflow_3
def test_an_unknown_id_is_told_once_and_watched_from_when_it_comes(
    flokit: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher may be there before its integration."""
    caplog.set_level(logging.INFO)

    async def play() -> None:
        await seen(flokit)
        flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
        await seen(flokit)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])

    events = asyncio.run(told(flokit, play, watcher()))
    assert [each["last_synced_at"] for each in events] == [TIMES[1]]
    assert len([r for r in caplog.records if "no integration of the id" in r.getMessage()]) == 1
    assert caplog.text.count("works again.") == 1


@needs_airflow_3
def test_a_malformed_entry_is_no_event(flokit: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """A time that is none is told and waited out."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        flokit.set_state(STRIPE, last_synced_at="soon")
        await seen(flokit)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])

    events = asyncio.run(told(flokit, play, watcher()))
    assert [each["last_synced_at"] for each in events] == [TIMES[1]]
    assert "'last_synced_at'" in caplog.text


@needs_airflow_3
def test_the_key_is_in_no_event(flokit: SimulatedFlokit) -> None:
    """An API that echoes the key into its error message does not get it into Airflow's database."""
    flokit.rotate_key("fk_rw_very_secret")
    flokit.connect(api_key="fk_rw_very_secret")
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        flokit.set_state(STRIPE, status="error", error_message="key fk_rw_very_secret was refused")

    (event,) = asyncio.run(told(flokit, play, watcher(on="error")))
    assert event["error_message"] == "key *** was refused"
    assert "fk_rw_very_secret" not in json.dumps(event)


@needs_airflow_3
def test_a_watcher_that_ends_leaves_nothing_behind(flokit: Simulator) -> None:
    """A DAG that is paused stops its watcher's poll."""
    flokit.add_integration(STRIPE)

    async def main() -> None:
        await told(flokit, lambda: seen(flokit), watcher(), watcher("int_b"))
        await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(main())
