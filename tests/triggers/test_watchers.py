"""Asset watchers: one event for each sync, through outages, lost triggerers and a store that is away."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.errors import FlokitArgumentError, FlokitPermanentError
from airflow_provider_flokit.simulator import Fault
from airflow_provider_flokit.triggers import _watcher
from airflow_provider_flokit.triggers._poller import Poller
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger
from tests.triggers.polls import LIST, gets, polls, until
from tests.triggers.test_flokit import fire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"
TIMES = [f"2024-03-15T{hour}:00:00Z" for hour in range(12, 20)]

needs_airflow_3 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no asset watchers")


def watcher(integration_id: str = STRIPE, **arguments: Any) -> FlokitSyncedTrigger:
    """Make a trigger that polls quickly."""
    return FlokitSyncedTrigger(integration_id, **{"poll_interval": 0.05, **arguments})


async def polled(flokit: Simulator, times: int = 2) -> None:
    """Wait until the watchers have seen the present state: the answer to a request that was sent from now on."""
    await polls(flokit, gets(flokit) + times)
    await asyncio.sleep(0.03)


async def told(flokit: Simulator, play: Callable[[], Awaitable[None]], *triggers: FlokitSyncedTrigger) -> list[Any]:
    """Run triggers as Airflow before 3.3 does, while something is played, and return all payloads in order."""
    events: list[Any] = []

    async def collect(trigger: FlokitSyncedTrigger) -> None:
        async for event in trigger.run():
            events.append(json.loads(json.dumps(event.payload)))  # noqa: PERF401 - kept also when it is cancelled

    tasks = [asyncio.create_task(collect(trigger)) for trigger in triggers]
    await polled(flokit)
    await play()
    await polled(flokit)
    assert not [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.05)
    return events


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
        ({"integration_id": ""}, "integration_id"),
        ({"integration_id": "a/b"}, "integration_id"),
        ({"integration_id": ["a"]}, "integration_id"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": "30"}, "poll_interval"),
        ({"on": "success"}, "on"),
        ({"flokit_conn_id": ""}, "flokit_conn_id"),
        ({"flokit_conn_id": None}, "flokit_conn_id"),
        ({"integration_id": "{{x}}"}, "integration_id"),
        ({"flokit_conn_id": "{{ var.value.conn }}"}, "flokit_conn_id"),
    ],
    ids=repr,
)
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any], named: str) -> None:
    """The error names the parameter."""
    with pytest.raises(FlokitArgumentError, match=f"^{named} "):
        FlokitSyncedTrigger(**{"integration_id": STRIPE, **arguments})


@needs_airflow_3
def test_each_sync_makes_one_event(flokit: Simulator) -> None:
    """What was there before makes none; each move of last_synced_at makes one, with both times and the state."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        for moment in TIMES[1:4]:
            flokit.set_state(STRIPE, status="syncing")
            await polled(flokit)
            flokit.set_state(STRIPE, status="connected", last_synced_at=moment)
            await polled(flokit)

    events = asyncio.run(told(flokit, play, watcher()))
    assert [(e["event"], e["previous_synced_at"], e["last_synced_at"]) for e in events] == [
        ("synced", TIMES[n], TIMES[n + 1]) for n in range(3)
    ]
    assert [e["integration"]["status"] for e in events] == ["connected"] * 3


@needs_airflow_3
def test_errors_are_told_to_who_asks(flokit: Simulator) -> None:
    """Going into error is an event for "error" and "any", with FloKit's message, and none for "synced"."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        flokit.set_state(STRIPE, status="error", error_message="bad signing secret")
        await polled(flokit)
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
        wait = asyncio.create_task(fire(FlokitIntegrationTrigger(integration_id="int_c", poll_interval=0.4)))

        async def play() -> None:
            began, before = time.monotonic(), gets(flokit)
            await polled(flokit, 3)
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
        for fault in (503, Fault.answer(200, b'{"data": []}'), Fault.drop()):
            flokit.fail(fault)
            await polled(flokit)
        flokit.outage()
        await polled(flokit)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await asyncio.sleep(0.1)
        flokit.clear_faults()

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]


@needs_airflow_3
def test_a_dead_key_is_tried_again_later_and_a_new_one_taken_up(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a person has to mend does not end the watcher; the pauses grow, and the log says what to do."""
    assert _watcher.LATER >= 10
    monkeypatch.setattr(_watcher, "LATER", 0.2)
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        key = flokit.rotate_key()
        before = len(flokit.requests)
        await asyncio.sleep(1.0)
        assert 2 <= len(flokit.requests) - before <= 12
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_json(key))

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]
    assert "HTTP 401" in caplog.text
    assert flokit.api_key not in caplog.text


@needs_airflow_3
def test_an_integration_that_the_list_does_not_hold_is_read_singly(flokit: Simulator) -> None:
    """A list with gaps hides no sync."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), method="GET", path=LIST, times=None)

    async def play() -> None:
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await polled(flokit)

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]


@needs_airflow_3
def test_single_reads_for_watchers_are_shared_and_delay_nobody(flokit: Simulator) -> None:
    """Three watchers of an id that the list does not hold read it once per poll, and a slow read holds up no other."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    flokit.fail(Fault.slow(1.0), path=f"{LIST}/int_unlisted", times=None)

    async def play() -> None:
        others = [asyncio.create_task(anext(watcher("int_unlisted").run())) for _ in range(3)]
        await polled(flokit, 4)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])
        await polled(flokit, 4)
        for each in others:
            each.cancel()

    assert [each["last_synced_at"] for each in asyncio.run(told(flokit, play, watcher()))] == [TIMES[1]]
    assert sum(r.path == f"{LIST}/int_unlisted" for r in flokit.requests) <= 3


@needs_airflow_3
def test_a_single_read_ends_with_its_watcher(flokit: Simulator) -> None:
    """The poll that other watchers keep going does not read for ever what nobody watches any more."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    def reads() -> int:
        return sum(r.path == f"{LIST}/int_unlisted" for r in flokit.requests)

    async def play() -> None:
        other = asyncio.create_task(anext(watcher("int_unlisted").run()))
        await polled(flokit, 4)
        assert reads() > 1
        other.cancel()
        await polled(flokit, 2)
        before = reads()
        await polled(flokit, 4)
        assert reads() == before

    asyncio.run(told(flokit, play, watcher()))


@needs_airflow_3
def test_watchers_back_off_from_a_wrong_key_together(flokit: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Fifty watchers on one connection make one request and one log line of it, not fifty."""
    flokit.fail(401, times=None)

    async def main() -> None:
        watching = [asyncio.create_task(anext(watcher(f"int_{n}").run())) for n in range(50)]
        await until(lambda: any("Watching FloKit" in r.getMessage() for r in caplog.records))
        await asyncio.sleep(0.5)
        for each in watching:
            each.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    asyncio.run(main())
    assert len([r for r in caplog.records if "Watching FloKit" in r.getMessage()]) == 1
    assert len(flokit.requests) <= 3


@needs_airflow_3
def test_the_key_is_in_no_event(flokit: Simulator) -> None:
    """An API that echoes the key into its error message does not get it into Airflow's database."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        flokit.set_state(STRIPE, status="error", error_message=f"key {flokit.api_key} was refused")

    (event,) = asyncio.run(told(flokit, play, watcher(on="error")))
    assert event["error_message"].endswith("was refused")
    assert flokit.api_key not in json.dumps(event)


@needs_airflow_3
def test_an_unknown_id_is_warned_of_once_and_watched_from_when_it_comes(
    flokit: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher may be there before its integration."""

    async def play() -> None:
        await polled(flokit, 4)
        flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
        await polled(flokit)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])

    with caplog.at_level(logging.WARNING):
        events = asyncio.run(told(flokit, play, watcher()))
    assert [each["last_synced_at"] for each in events] == [TIMES[1]]
    assert len([r for r in caplog.records if "no such integration" in r.getMessage()]) == 1


@needs_airflow_3
def test_a_malformed_entry_is_no_event(flokit: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """A time that is none is warned of and waited out."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def play() -> None:
        flokit.set_state(STRIPE, last_synced_at="soon")
        await polled(flokit)
        flokit.set_state(STRIPE, last_synced_at=TIMES[1])

    events = asyncio.run(told(flokit, play, watcher()))
    assert [each["last_synced_at"] for each in events] == [TIMES[1]]
    assert "'last_synced_at'" in caplog.text


@needs_airflow_3
def test_a_watcher_that_ends_leaves_nothing_behind(flokit: Simulator) -> None:
    """A DAG that is paused stops its watcher's poll."""
    flokit.add_integration(STRIPE)

    async def main() -> set[asyncio.Task[Any]]:
        await told(flokit, lambda: polled(flokit), watcher(), watcher("int_b"))
        assert Poller._all[asyncio.get_running_loop()] == {}
        return asyncio.all_tasks()

    assert len(asyncio.run(main())) == 1
