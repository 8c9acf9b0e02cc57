"""
The shared poll: what it costs, what each wait sees of it, what ends a wait, and that nobody disturbs anybody.

That a thousand waits make one request per interval is in tests/test_load.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat import connection

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.gate.conditions import Conditions
from airflow_provider_flokit.gate.wait import Wait
from airflow_provider_flokit.simulator import Fault
from airflow_provider_flokit.triggers._poller import Poller
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from tests.transport_server import TransportServer, hang
from tests.triggers.polls import (
    LIST,
    STRIPE,
    TIMES,
    deferred,
    fire,
    gets,
    more_polls,
    polls,
    start,
    trigger,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit
    from tests.triggers.polls import TriggerLogs

AS_BEFORE = {"status": "connected", "error_message": None, "last_synced_at": TIMES[0]}
SELDOM: dict[str, Any] = {"poll_interval": 600, "timeout": 600}


async def gather(*triggers: FlokitIntegrationTrigger) -> list[dict[str, Any]]:
    """Run triggers at the same time."""
    return await asyncio.gather(*map(fire, triggers))


def looks(monkeypatch: pytest.MonkeyPatch, note: Callable[[Wait], None]) -> None:
    """Have every look of a wait noted."""
    look = Wait.look

    def noted(self: Wait, *given: Any, **named: Any) -> Any:
        note(self)
        return look(self, *given, **named)

    monkeypatch.setattr(Wait, "look", noted)


# What it costs


async def test_a_wait_of_which_nothing_changed_costs_nothing(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait judges its first answer, and then only what changed of its own integration."""
    looked: Counter[str] = Counter()
    looks(monkeypatch, lambda each: looked.update(each.conditions.ids or each.conditions.types))
    flokit.add_integration("int_a", status="syncing")
    flokit.add_integration("int_b", type="adjust", status="syncing")
    waits = asyncio.create_task(gather(deferred("int_a"), deferred(None, integration_type="adjust")))
    await polls(flokit, 6)
    assert looked == {"int_a": 1, "adjust": 1}
    flokit.set_state("int_a", status="connected")
    await more_polls(flokit)
    assert looked == {"int_a": 2, "adjust": 1}
    flokit.set_state("int_b", status="connected")
    await waits


async def test_no_interval_is_no_tight_loop(flokit: Simulator) -> None:
    """Airflow allows poke_interval=0; FloKit gets one request a second then."""
    flokit.add_integration(STRIPE, status="syncing")
    began = time.monotonic()
    wait = start(deferred(poll_interval=0))
    await polls(flokit, 2)
    assert time.monotonic() - began >= 1
    wait.cancel()


# What a wait sees


@pytest.mark.parametrize("old", [Fault.slow(0.5), replace(Fault.answer(401), delay_before=0.5)], ids=["answer", "401"])
async def test_a_wait_sees_only_polls_that_began_after_it_joined(flokit: Simulator, old: Fault) -> None:
    """What was under way says nothing about the sync that was requested since, nor of a key that was put right."""
    flokit.add_integration(STRIPE)
    flokit.add_integration("int_other", type="adjust", status="syncing")
    flokit.fail(old)
    other = start(deferred("int_other"))
    await polls(flokit, 1)
    flokit.set_state(STRIPE, status="syncing")
    wait = start(trigger())
    await more_polls(flokit)
    assert not wait.done()
    flokit.set_state(STRIPE, status="connected")
    assert (await wait)["ending"] == "ready"
    other.cancel()


@pytest.mark.parametrize("kind", [trigger, deferred], ids=["first look", "last look"])
async def test_a_look_that_is_wanted_now_is_a_new_poll_shared_with_others(flokit: Simulator, kind: Any) -> None:
    """Who had no look yet, or comes to the deadline, waits for nobody's long interval; one poll a second at most."""
    flokit.add_integration(STRIPE, status="error")
    flokit.add_integration("int_other", type="adjust", status="syncing")
    settings = SELDOM if kind is trigger else {**SELDOM, "timeout": 0.2}
    began = time.monotonic()
    other = start(deferred("int_other", **SELDOM))
    await polls(flokit, 1)
    flokit.set_state(STRIPE, **AS_BEFORE)
    events = await gather(*(kind(**settings) for _ in range(20)))
    assert {event["ending"] for event in events} == {"ready"}
    assert 2 <= gets(flokit) <= time.monotonic() - began + 1
    other.cancel()


async def test_a_poll_under_way_at_the_deadline_is_not_the_last_look(flokit: Simulator) -> None:
    """It began before the deadline, and so may have missed the success; one more look counts."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(replace(Fault.answer(503), delay_before=0.5))
    conditions = Conditions("flokit_default", (STRIPE,))
    wait = Wait(conditions, FlokitIntegrationTrigger.log, 600)
    poller = Poller.of("flokit_default")
    place = poller.join(wait, 0.1, hurry=True)
    await polls(flokit, 1)
    wait.deadline = time.monotonic()
    flokit.set_state(STRIPE, status="connected")
    assert (await place.future).ending == "ready"
    poller.leave(place)


async def test_single_reads_that_hang_hold_up_nobody_for_long(flokit: SimulatedFlokit) -> None:
    """Each ends with the connection's timeout, and the list is judged for the others."""
    flokit.connect(timeout=1)
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.slow(600), path="/v1/integrations/*", times=None)
    lost = [start(deferred(f"int_{number}")) for number in range(6)]
    wait = start(deferred())
    await polls(flokit, 2)
    flokit.set_state(STRIPE, status="connected")
    assert (await wait)["ending"] == "ready"
    for each in lost:
        each.cancel()


# Trouble


async def test_trouble_is_told_to_each_wait_once_in_its_own_log_and_so_is_its_end(
    flokit: Simulator, logs: TriggerLogs
) -> None:
    """The triggerer tells by the context to whose log a line goes; each wait's lines come in its own."""
    names = ("int_a", "int_b")
    for name in names:
        flokit.add_integration(name, status="syncing")
    waits = [logs.start(name, deferred(name)) for name in names]
    await polls(flokit, 2)
    flokit.fail(503, times=3)
    # Though nothing has changed of its integration, each is told that it is over.
    await until(lambda: all(logs.of(name, "answers again") for name in names))
    for name in names:
        flokit.set_state(name, status="connected")
    await asyncio.gather(*waits)
    for name in names:
        begins, ends, _ = logs.of(name)
        assert "HTTP 503" in begins
        assert f"FloKit answers again: {name} (stripe) is syncing" in ends
    assert logs.of("nobody's") == []


async def test_a_wait_whose_api_fails_ends_at_its_deadline(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look more, without retries and without sitting out the backoff; the message has the last failure."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 6000.0)
    monkeypatch.setattr(retry, "BACKOFF_CAP", 6000.0)
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(503, times=None)
    (event,) = await gather(deferred(timeout=1))
    assert event["ending"] == "timed_out"
    assert "HTTP 503" in event["message"]
    assert gets(flokit) <= 2


async def test_retry_after_is_honoured_by_all(flokit: Simulator) -> None:
    """No request before the pause is over, for who comes to his deadline, joins, or comes later; each is told why."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.rate_limited(600))
    waits = asyncio.create_task(gather(*(deferred(timeout=1.0 + 0.1 * n) for n in range(5))))
    await polls(flokit, 1)
    events = [await fire(trigger(timeout=0.5)), *await waits, await fire(deferred(timeout=0.3))]
    assert [(event["ending"], "HTTP 429" in event["message"]) for event in events] == [("timed_out", True)] * 7
    assert gets(flokit) == 1


async def test_a_refusal_is_final_for_who_had_no_look_yet(flokit: Simulator) -> None:
    """Started without a worker, a wait with a wrong key fails at once; its first answer changes that."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(401, path=LIST)
    event = await fire(trigger())
    assert (event["ending"], event["error"]) == ("failed", "FlokitAuthenticationError")
    flokit.fail(401, path=LIST, after=1)
    wait = start(trigger())
    await more_polls(flokit, 4)
    flokit.set_state(STRIPE, status="connected")
    assert (await wait)["ending"] == "ready"


# What the list does not hold


@pytest.mark.parametrize("fault", [503, 403, Fault.answer(503, headers={"Retry-After": "3600"})], ids=str)
async def test_what_the_list_does_not_hold_is_read_singly(flokit: Simulator, logs: TriggerLogs, fault: Any) -> None:
    """A single read that fails is told once and makes its own wait go on; the list is judged for others as ever."""
    flokit.add_integration("int_unlisted")
    flokit.fail(fault, path=f"{LIST}/int_unlisted", times=5)
    body = b'{"integrations": [{"id": "int_listed", "type": "adjust", "status": "connected"}]}'
    flokit.fail(Fault.answer(200, body), path=LIST, times=None)
    both = logs.start("both", deferred(["int_listed", "int_unlisted"]))
    listed = logs.start("listed", deferred("int_listed"))
    assert (await listed)["ending"] == "ready"
    assert not both.done()
    assert (await both)["ending"] == "ready"
    assert ["The wait goes on" in line for line in logs.of("both")] == [True, False]
    assert "answers again" in logs.of("both")[1]
    assert logs.of("listed") == []


async def test_a_wait_whose_time_is_over_sees_no_poll_from_before_it_joined(flokit: Simulator) -> None:
    """A restarted triggerer takes its waits up one after the other; a failure of the first poll ends none of them."""
    flokit.add_integration(STRIPE)
    flokit.latency = 0.5
    flokit.fail(503, path=LIST)
    first = start(trigger())
    await until(lambda: Poller.of("flokit_default")._began_at > 0)
    assert (await fire(trigger(deadline=time.time() - 60)))["ending"] == "ready"
    assert (await first)["ending"] == "ready"


async def test_a_poll_looks_up_the_airflow_connection_once(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many integrations it reads singly: a secrets backend may be slow."""
    look_up, looked_up = connection.get_async_connection, []

    async def count(*args: Any, **kwargs: Any) -> Any:
        looked_up.append(args)
        return await look_up(*args, **kwargs)

    monkeypatch.setattr(connection, "get_async_connection", count)
    ids = [f"int_{number}" for number in range(5)]
    for integration_id in ids:
        flokit.add_integration(integration_id, status="syncing")
    flokit.fail(Fault.answer(200, b'{"integrations": []}'), path=LIST, times=None)
    wait = start(deferred(ids))
    await until(lambda: gets(flokit, f"{LIST}/int_4") >= 2)
    assert len(looked_up) <= gets(flokit) + 1
    for integration_id in ids:
        flokit.set_state(integration_id, status="connected")
    assert (await wait)["ending"] == "ready"


async def test_an_unknown_id_is_final_and_harms_no_other(flokit: Simulator) -> None:
    """Not in the list and 404 when read singly: the one refusal that is about the integration itself."""
    flokit.add_integration(STRIPE, status="syncing")
    other = start(deferred())
    event = await fire(deferred("int_01hx4j7stirpe"))
    assert not other.done()
    flokit.set_state(STRIPE, status="connected")
    assert (await other)["ending"] == "ready"
    assert (event["ending"], event["error"]) == ("failed", "FlokitNotFoundError")
    assert f"did you mean {STRIPE}?" in event["message"]


async def test_a_malformed_entry_harms_only_its_own_wait(flokit: Simulator) -> None:
    """One integration that FloKit describes wrongly does not stop the gates of all the others."""
    flokit.add_integration(STRIPE)
    flokit.add_integration("int_bad", type="adjust", last_synced_at="soon")
    good, bad = await gather(deferred(), deferred("int_bad", timeout=0.4))
    assert good["ending"] == "ready"
    assert bad["ending"] == "timed_out"
    assert "'last_synced_at'" in bad["message"]


# Nobody disturbs anybody


@pytest.mark.parametrize("breaks", [False, True], ids=["cancelled", "broken"])
async def test_a_wait_that_is_cancelled_or_breaks_disturbs_no_other(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    """The poll goes on for those who stay, also if the one who started it leaves, or an error of ours ends it."""
    flokit.add_integration("int_a", status="syncing")
    flokit.add_integration("int_b", status="syncing")

    def note(each: Wait) -> None:
        if breaks and each.conditions.ids == ("int_a",):
            raise KeyError("a bug")

    looks(monkeypatch, note)
    first = start(deferred("int_a"))
    await polls(flokit, 1)
    second = start(deferred("int_b"))
    await more_polls(flokit, 2)
    first.cancel()
    with pytest.raises(KeyError if breaks else asyncio.CancelledError):
        await first
    await more_polls(flokit, 2)
    flokit.set_state("int_b", status="connected")
    assert (await second)["ending"] == "ready"


async def test_two_connections_do_not_delay_each_other(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has a poll of its own: one whose FloKit does not answer holds up no other."""
    flokit.add_integration(STRIPE)
    with TransportServer(hang) as silent:
        monkeypatch.setenv(
            "AIRFLOW_CONN_SILENT", f"flokit://:key@127.0.0.1:{silent.server_address[1]}/http?timeout=300"
        )
        stuck = start(deferred(flokit_conn_id="silent"))
        await until(lambda: silent.heads)
        assert (await fire(deferred()))["ending"] == "ready"
        assert not stuck.done()
        stuck.cancel()


async def test_the_poll_stops_with_the_last_wait_and_begins_anew(flokit: Simulator) -> None:
    """Nothing is left running, whether waits ended or were cancelled; who comes just then is served."""
    flokit.add_integration(STRIPE)
    flokit.add_integration("int_other", status="syncing")
    other = start(deferred("int_other"))
    events = [await fire(deferred())]
    other.cancel()
    await asyncio.wait([other])
    events += [await fire(deferred()) for _ in range(4)]
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert [event["ending"] for event in events] == ["ready"] * 5
