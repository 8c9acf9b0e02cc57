"""The shared poll: what it costs, what each wait sees of it, what ends a wait, and that nobody disturbs anybody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.api import attempts, retry
from airflow_provider_flokit.api.client import FlokitClient
from airflow_provider_flokit.gate import wait
from airflow_provider_flokit.gate.wait import Wait
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook
from airflow_provider_flokit.simulator import Fault, Simulator
from airflow_provider_flokit.triggers import _poller
from tests.triggers.polls import LIST, STRIPE, TriggerLogs, deferred, fire, gets, more_polls, polls, trigger, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator.pytest_plugin import SimulatedFlokit
    from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger

BEFORE, AFTER = "2024-03-15T12:00:00Z", "2024-03-15T13:00:00Z"
ERROR = {"status": "error", "error_message": "nightly", "last_synced_at": BEFORE}
AS_BEFORE = {"status": "connected", "error_message": None, "last_synced_at": BEFORE}
EMPTY_LIST = Fault.answer(200, b'{"integrations": []}')


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)
    monkeypatch.setattr(retry, "BACKOFF_CAP", 0.1)


def receipt(**baseline: Any) -> dict[str, Any]:
    """Make a receipt of a sync requested just now."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state = {"id": STRIPE, "type": "stripe", **AS_BEFORE, **baseline}
    return {"integration_id": STRIPE, "baseline": state, "triggered_at": now, "sync_id": "sync_1"}


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


def test_three_hundred_waits_make_one_request_per_interval(flokit: Simulator) -> None:
    """However many wait, there is one list per interval, and all of them end with the change."""
    for number in range(300):
        flokit.add_integration(f"int_{number}", status="syncing")

    async def main() -> list[dict[str, Any]]:
        waits = asyncio.create_task(gather(*(deferred(f"int_{n}", poll_interval=0.4) for n in range(300))))
        await polls(flokit, 1)
        began, before = time.monotonic(), gets(flokit)
        await polls(flokit, before + 5)
        assert gets(flokit) - before <= (time.monotonic() - began) / 0.4 + 1
        for number in range(300):
            flokit.set_state(f"int_{number}", status="connected")
        return await waits

    assert Counter(event["ending"] for event in asyncio.run(main())) == {"ready": 300}


def test_a_wait_of_which_nothing_changed_costs_nothing(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait judges its first answer, and then only what changed of its own integration."""
    looked: Counter[str] = Counter()
    looks(monkeypatch, lambda each: looked.update(each.conditions.ids or each.conditions.types))
    flokit.add_integration("int_a", status="syncing")
    flokit.add_integration("int_b", type="adjust", status="syncing")

    async def main() -> None:
        waits = asyncio.create_task(gather(deferred("int_a"), deferred(None, integration_type="adjust")))
        await polls(flokit, 6)
        assert looked == {"int_a": 1, "adjust": 1}
        flokit.set_state("int_a", status="connected")
        await more_polls(flokit, 5)
        assert looked == {"int_a": 2, "adjust": 1}
        flokit.set_state("int_b", status="connected")
        await waits

    asyncio.run(main())


def test_a_thousand_waits_end_in_batches_that_let_the_loop_breathe(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches every other task of the triggerer has its turn."""
    for number in range(1000):
        flokit.add_integration(f"int_{number}")
    turn = 0
    looked: Counter[int] = Counter()
    looks(monkeypatch, lambda _: looked.update([turn]))

    async def main() -> list[dict[str, Any]]:
        async def take_turns() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(take_turns())
        events = await gather(*(deferred(f"int_{number}") for number in range(1000)))
        other.cancel()
        return events

    assert Counter(event["ending"] for event in asyncio.run(main())) == {"ready": 1000}
    assert sum(looked.values()) == 1000
    assert max(looked.values()) <= _poller.AT_ONCE == 20
    assert gets(flokit) <= 2


def test_no_interval_is_no_tight_loop(flokit: Simulator) -> None:
    """Airflow allows poke_interval=0; FloKit gets one request a second then."""
    flokit.add_integration(STRIPE, status="syncing")
    began = time.monotonic()
    asyncio.run(fire(trigger(poll_interval=0, timeout=1.5)))
    assert gets(flokit) <= time.monotonic() - began + 2


# What a wait sees


@pytest.mark.parametrize(
    ("then", "baseline"),
    [(ERROR, {}), ({**ERROR, "status": "syncing"}, ERROR)],
    ids=["an error from before", "a sync from before"],
)
def test_a_wait_sees_only_polls_that_began_after_it_joined(
    flokit: Simulator, then: dict[str, Any], baseline: dict[str, Any]
) -> None:
    """An answer that was under way when the wait joined says nothing about the sync that was requested since."""
    flokit.add_integration(STRIPE, **then)
    flokit.add_integration("int_other", type="adjust", status="syncing")
    flokit.fail(Fault.slow(0.5))

    async def main() -> dict[str, Any]:
        other = asyncio.create_task(fire(deferred("int_other")))
        await polls(flokit, 1)
        # The operator reads this baseline and requests its sync, then the trigger joins; the answer is still old.
        flokit.set_state(STRIPE, **{**AS_BEFORE, **baseline})
        wait = asyncio.create_task(fire(deferred(None, receipt=receipt(**baseline))))
        await more_polls(flokit, 3)
        assert not wait.done()
        flokit.set_state(STRIPE, **{**AS_BEFORE, "last_synced_at": AFTER})
        event = await wait
        other.cancel()
        return event

    assert asyncio.run(main())["ending"] == "ready"


def test_a_wait_without_a_look_gets_a_poll_at_once_and_no_older_answer(flokit: Simulator) -> None:
    """Started without a worker it does not wait for somebody's long interval; what was polled before is not for it."""
    flokit.add_integration(STRIPE, status="error", error_message="old")
    flokit.add_integration("int_other", type="adjust", status="syncing")

    async def main() -> list[dict[str, Any]]:
        other = asyncio.create_task(fire(deferred("int_other", poll_interval=600, timeout=600)))
        await polls(flokit, 1)
        flokit.set_state(STRIPE, **AS_BEFORE)
        events = await gather(*(trigger(poll_interval=600, timeout=600) for _ in range(5)))
        other.cancel()
        return events

    assert {event["ending"] for event in asyncio.run(main())} == {"ready"}
    assert gets(flokit) == 2


def test_the_last_look_is_shared_at_most_one_a_second(flokit: Simulator) -> None:
    """Twenty deadlines within a second make a poll or two, not twenty, and each wait has its last look."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> list[dict[str, Any]]:
        return await gather(*(deferred(timeout=1.2 + 0.05 * n, poll_interval=600) for n in range(20)))

    began = time.monotonic()
    assert {event["ending"] for event in asyncio.run(main())} == {"timed_out"}
    assert 2 <= gets(flokit) <= time.monotonic() - began + 2


def test_each_poll_goes_by_the_connection_as_it_is_then(flokit: SimulatedFlokit) -> None:
    """A rotated key, and another host, are taken up in the middle of a wait."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> dict[str, Any]:
        wait = asyncio.create_task(fire(deferred()))
        await polls(flokit, 2)
        flokit.connect(api_key=flokit.rotate_key("fk_rw_new"))
        await more_polls(flokit, 3)
        assert flokit.requests[-1].status == 200
        assert not wait.done()
        with Simulator() as moved:
            moved.add_integration(STRIPE)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", moved.connection_uri())
                return await wait

    assert asyncio.run(main())["ending"] == "ready"


# Trouble


def test_trouble_is_told_to_each_wait_once_in_its_own_log_and_so_is_its_end(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The triggerer tells by the context to whose log a line goes; each wait's lines come in its own."""
    logs = TriggerLogs(monkeypatch)
    names = ("int_a", "int_b")
    for name in names:
        flokit.add_integration(name, status="syncing")

    async def main() -> None:
        waits = [asyncio.create_task(logs.fire(name, deferred(name))) for name in names]
        await polls(flokit, 2)
        flokit.fail(503, times=3)
        # Though nothing has changed of its integration, each is told that it is over.
        await until(lambda: all(logs.of(name, "answers again") for name in names))
        for name in names:
            flokit.set_state(name, status="connected")
        await asyncio.gather(*waits)

    asyncio.run(main())
    for name in names:
        told = [
            part for line in logs.of(name) for part in ("HTTP 503", "The wait goes on", "answers again") if part in line
        ]
        assert told == ["HTTP 503", "The wait goes on", "answers again"]
    assert logs.of("nobody's") == []


def test_a_wait_whose_api_fails_ends_at_its_deadline(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look more, without retries and without sitting out the backoff; the message has the last failure."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 600.0)
    monkeypatch.setattr(retry, "BACKOFF_CAP", 600.0)
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(503, times=None, after=1)
    began = time.monotonic()
    event = asyncio.run(fire(deferred(timeout=1.5)))
    assert event["ending"] == "timed_out"
    assert "is syncing" in event["message"]
    assert "HTTP 503" in event["message"]
    assert 2 <= gets(flokit) <= 3
    assert time.monotonic() - began < 20


def test_retry_after_is_honoured_by_all_also_at_the_deadline(flokit: Simulator) -> None:
    """When FloKit asks for a longer pause than is left, no further request is made, for nobody who joins either."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.rate_limited(600), times=None)

    async def main() -> list[dict[str, Any]]:
        waits = asyncio.create_task(gather(*(deferred(timeout=2.0 + 0.1 * n) for n in range(5))))
        await polls(flokit, 1)
        return [await fire(trigger(timeout=1.5)), *(await waits)]

    events = asyncio.run(main())
    assert {event["ending"] for event in events} == {"timed_out"}
    assert gets(flokit) == 1
    assert "HTTP 429" in events[1]["message"]


REFUSALS: dict[str, int] = {
    "FlokitAuthenticationError": 401,
    "FlokitPermissionError": 403,
    "FlokitNotFoundError": 404,
    "FlokitRequestError": 400,
}


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refusal_is_sat_out_by_who_was_answered_before(flokit: Simulator, error: str) -> None:
    """A deferred wait goes on over a dead key and over an odd 403, 404 or 400 of the list."""
    flokit.add_integration(STRIPE)
    flokit.fail(REFUSALS[error], path=LIST, times=4)
    assert asyncio.run(fire(deferred()))["ending"] == "ready"
    assert gets(flokit) == 5


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refusal_is_final_for_who_had_no_look_yet(flokit: Simulator, error: str) -> None:
    """Started without a worker, a wait with a wrong key fails at once; its first answer changes that."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(REFUSALS[error], path=LIST)
    event = asyncio.run(fire(trigger()))
    assert (event["ending"], event["error"]) == ("failed", error)
    assert gets(flokit) == 1
    flokit.fail(REFUSALS[error], path=LIST, after=1)

    async def main() -> dict[str, Any]:
        wait = asyncio.create_task(fire(trigger()))
        await more_polls(flokit, 4)
        flokit.set_state(STRIPE, status="connected")
        return await wait

    assert asyncio.run(main())["ending"] == "ready"


def test_nothing_but_refusals_for_fifteen_minutes_ends_a_wait(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails with the last refusal, and with what it had seen before, long before its deadline."""
    assert wait.PATIENCE == 900
    monkeypatch.setattr(wait, "PATIENCE", 0.5)
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(401, times=None, after=2)
    began = time.monotonic()
    event = asyncio.run(fire(deferred(timeout=600)))
    assert (event["ending"], event["error"]) == ("failed", "FlokitAuthenticationError")
    assert [state["status"] for state in event["integrations"]] == ["syncing"]
    assert gets(flokit) >= 4
    assert time.monotonic() - began < 60


def test_a_connection_that_cannot_be_looked_up_is_sat_out(
    flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secrets backend that is away looks like a connection that does not exist."""
    logs = TriggerLogs(monkeypatch)
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> dict[str, Any]:
        wait = asyncio.create_task(logs.fire("mine", deferred()))
        await polls(flokit, 2)
        monkeypatch.delenv("AIRFLOW_CONN_FLOKIT_DEFAULT")
        await until(lambda: logs.of("mine", "'flokit_default' is not defined"))
        flokit.connect()
        flokit.set_state(STRIPE, status="connected")
        return await wait

    assert asyncio.run(main())["ending"] == "ready"


def test_a_connection_that_stays_undefined_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once without a look before, else when patience is over; nobody waits an hour to hear of it."""
    monkeypatch.setattr(wait, "PATIENCE", 0.3)
    began = time.monotonic()
    for each in (trigger(flokit_conn_id="nowhere"), deferred(flokit_conn_id="nowhere", timeout=600)):
        event = asyncio.run(fire(each))
        assert (event["ending"], event["error"]) == ("failed", "FlokitConnectionNotFoundError")
        assert "'nowhere' is not defined" in event["message"]
    assert time.monotonic() - began < 60


def test_a_hung_request_is_given_up(flokit: SimulatedFlokit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not time out by itself (a resolver that hangs, say) holds no poll up for longer."""
    assert attempts._OVERDUE == 5
    monkeypatch.setattr(attempts, "_OVERDUE", 0.1)
    flokit.connect(timeout=0.2)
    flokit.add_integration(STRIPE)
    logs = TriggerLogs(monkeypatch)
    hung, ask = threading.Event(), FlokitClient._attempt

    def hang(self: FlokitClient, request: Any) -> Any:
        monkeypatch.setattr(FlokitClient, "_attempt", ask)
        hung.wait(60)
        return ask(self, request)

    monkeypatch.setattr(FlokitClient, "_attempt", hang)

    async def main() -> dict[str, Any]:
        async with asyncio.timeout(50):
            return await asyncio.create_task(logs.fire("mine", deferred()))

    try:
        assert asyncio.run(main())["ending"] == "ready"
    finally:
        hung.set()
    assert logs.of("mine", "does not time out by itself")


# What the list does not hold


def test_unlisted_ids_are_read_singly_a_few_at_once(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list with gaps hides nothing; ten ids are read within one poll, and not all at the same moment."""
    names = [f"int_{number}" for number in range(10)]
    for name in names:
        flokit.add_integration(name)
    flokit.fail(EMPTY_LIST, path=LIST, times=None)
    flokit.fail(Fault.slow(0.1), path=f"{LIST}/*", times=None)
    at_once, most, read = 0, 0, FlokitAsyncHook.read_singly

    async def counted(self: FlokitAsyncHook, integration_id: str) -> Any:
        nonlocal at_once, most
        at_once, most = at_once + 1, max(most, at_once + 1)
        try:
            return await read(self, integration_id)
        finally:
            at_once -= 1

    monkeypatch.setattr(FlokitAsyncHook, "read_singly", counted)
    events = asyncio.run(gather(*map(deferred, names)))
    assert {event["ending"] for event in events} == {"ready"}
    assert 1 < most < 10
    assert [gets(flokit, f"{LIST}/{name}") for name in names] == [gets(flokit)] * 10


def test_a_list_and_single_reads_make_a_whole(flokit: Simulator) -> None:
    """A wait for what is listed and what is not ends when both are ready."""
    listed = b'{"integrations": [{"id": "int_listed", "type": "adjust", "status": "connected"}]}'
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.answer(200, listed), path=LIST, times=None)

    async def main() -> dict[str, Any]:
        wait = asyncio.create_task(fire(deferred(["int_listed", STRIPE])))
        await more_polls(flokit, 3)
        assert not wait.done()
        flokit.set_state(STRIPE, status="connected")
        return await wait

    assert asyncio.run(main())["ending"] == "ready"


@pytest.mark.parametrize("start", [deferred, trigger])
def test_an_unknown_id_is_final_and_harms_no_other(flokit: Simulator, start: Any) -> None:
    """Not in the list and 404 when read singly: the one refusal that is about the integration itself."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> dict[str, Any]:
        other = asyncio.create_task(fire(deferred()))
        event = await fire(start("int_01hx4j7stirpe"))
        assert not other.done()
        flokit.set_state(STRIPE, status="connected")
        assert (await other)["ending"] == "ready"
        return event

    event = asyncio.run(main())
    assert (event["ending"], event["error"]) == ("failed", "FlokitNotFoundError")
    assert f"did you mean {STRIPE}?" in event["message"]


@pytest.mark.parametrize("fault", [503, 403, Fault.answer(503, b"", {"Retry-After": "3600"})], ids=str)
def test_a_single_read_that_fails_is_told_once_and_stops_no_other(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    """Its own wait goes on; the list is asked for and judged as ever."""
    logs = TriggerLogs(monkeypatch)
    flokit.add_integration(STRIPE, status="syncing")
    flokit.add_integration("int_unlisted")
    flokit.fail(fault, path=f"{LIST}/int_unlisted", times=5)
    listed = b'{"integrations": [{"id": "%s", "type": "stripe", "status": "connected"}]}' % STRIPE.encode()
    flokit.fail(Fault.answer(200, listed), path=LIST, times=None)

    async def main() -> list[dict[str, Any]]:
        unlisted = asyncio.create_task(logs.fire("unlisted", deferred("int_unlisted")))
        other = await logs.fire("listed", deferred())
        assert not unlisted.done()
        return [other, await unlisted]

    assert {event["ending"] for event in asyncio.run(main())} == {"ready"}
    assert len(logs.of("unlisted", "The wait goes on")) == 1
    assert len(logs.of("unlisted", "answers again")) == 1
    assert logs.of("listed", "The wait goes on") == []


def test_a_malformed_entry_harms_only_its_own_wait(flokit: Simulator) -> None:
    """One integration that FloKit describes wrongly does not stop the gates of all the others."""
    flokit.add_integration(STRIPE)
    flokit.add_integration("int_bad", type="adjust", last_synced_at="soon")
    good, bad = asyncio.run(gather(deferred(), deferred("int_bad", timeout=0.4)))
    assert good["ending"] == "ready"
    assert bad["ending"] == "timed_out"
    assert "'last_synced_at'" in bad["message"]


# Nobody disturbs anybody


def test_a_cancelled_wait_disturbs_no_other(flokit: Simulator) -> None:
    """The poll goes on for those who stay, also if the one who started it leaves."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> dict[str, Any]:
        first = asyncio.create_task(fire(deferred()))
        await polls(flokit, 1)
        second = asyncio.create_task(fire(deferred()))
        await more_polls(flokit, 2)
        first.cancel()
        await more_polls(flokit, 2)
        flokit.set_state(STRIPE, status="connected")
        return await second

    assert asyncio.run(main())["ending"] == "ready"


def test_a_wait_that_breaks_disturbs_no_other(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours while one wait is judged is raised in that trigger and no other."""
    flokit.add_integration("int_a", status="syncing")
    flokit.add_integration("int_b", status="syncing")

    def note(each: Wait) -> None:
        if each.conditions.ids == ("int_a",):
            raise KeyError("a bug")

    looks(monkeypatch, note)

    async def main() -> dict[str, Any]:
        other = asyncio.create_task(fire(deferred("int_b")))
        with pytest.raises(KeyError, match="a bug"):
            await fire(deferred("int_a"))
        flokit.set_state("int_b", status="connected")
        return await other

    assert asyncio.run(main())["ending"] == "ready"


def test_two_connections_do_not_delay_each_other(flokit: SimulatedFlokit) -> None:
    """Each connection has a poll of its own."""
    flokit.add_integration(STRIPE)
    flokit.connect("flokit_other", flokit.read_only_key)
    flokit.fail(Fault.slow(4))

    async def main() -> None:
        slow = asyncio.create_task(fire(deferred()))
        await polls(flokit, 1)
        assert (await fire(deferred(flokit_conn_id="flokit_other")))["ending"] == "ready"
        assert not slow.done()
        assert (await slow)["ending"] == "ready"

    asyncio.run(main())


def test_who_comes_when_the_last_has_just_left_is_served(flokit: Simulator) -> None:
    """The poll that stops with the last wait does not take the next one down with it."""
    flokit.add_integration(STRIPE)

    async def main() -> list[dict[str, Any]]:
        return [await fire(deferred()) for _ in range(5)]

    assert [event["ending"] for event in asyncio.run(main())] == ["ready"] * 5


def test_the_poll_stops_with_the_last_wait(flokit: Simulator) -> None:
    """No task and no poller is left, whether the waits ended or were cancelled."""
    for number in range(50):
        flokit.add_integration(f"int_{number}", status="connected" if number % 2 else "syncing")

    async def main() -> None:
        running = [asyncio.create_task(fire(deferred(f"int_{n}"))) for n in range(50)]
        await until(lambda: sum(each.done() for each in running) == 25)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(main())
