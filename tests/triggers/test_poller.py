"""The shared poll: what it costs, whom it wakes, and that nobody disturbs anybody."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit import api, retry
from airflow_provider_flokit.simulator import Fault, Simulator
from airflow_provider_flokit.triggers import _poller
from airflow_provider_flokit.triggers._poller import Poller
from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger
from airflow_provider_flokit.watch import Watch
from tests.triggers.polls import LIST, gets, polls
from tests.triggers.test_flokit import fire

if TYPE_CHECKING:
    import pytest

STRIPE = "int_01hx4j7stripe"
ERROR = {"status": "error", "error_message": "nightly", "last_synced_at": "2024-03-15T12:00:00Z"}


def trigger(integration_id: Any = STRIPE, **arguments: Any) -> FlokitIntegrationTrigger:
    """Make a trigger that polls quickly."""
    return FlokitIntegrationTrigger(integration_id=integration_id, **{"poll_interval": 0.1, "timeout": 5, **arguments})


def receipt(**baseline: Any) -> dict[str, Any]:
    """Make a receipt of a sync requested just now."""
    state = {
        "id": STRIPE,
        "type": "stripe",
        "status": "connected",
        "last_synced_at": "2024-03-15T12:00:00Z",
        **baseline,
    }
    return {
        "integration_id": STRIPE,
        "baseline": state,
        "triggered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


async def gather(*triggers: FlokitIntegrationTrigger, delay: float = 0.0) -> list[dict[str, Any]]:
    """Run triggers at the same time, the later ones starting a little later."""

    async def late(place: int, each: FlokitIntegrationTrigger) -> dict[str, Any]:
        await asyncio.sleep(delay * place)
        return await fire(each)

    return await asyncio.gather(*(late(place, each) for place, each in enumerate(triggers)))


def test_three_hundred_waits_make_one_request_per_interval(flokit: Simulator) -> None:
    """However many wait, there is one list per interval, and all of them end with the change."""
    for number in range(300):
        flokit.add_integration(f"int_{number}", status="syncing")

    async def main() -> list[dict[str, Any]]:
        waits = asyncio.create_task(gather(*(trigger(f"int_{n}", poll_interval=0.4) for n in range(300))))
        await polls(flokit, 1)
        began, before = time.monotonic(), gets(flokit)
        await polls(flokit, before + 6)
        assert gets(flokit) - before <= (time.monotonic() - began) / 0.4 + 1
        for number in range(300):
            flokit.set_state(f"int_{number}", status="connected")
        return await waits

    assert {event["ending"] for event in asyncio.run(main())} == {"ready"}


def test_only_those_concerned_are_woken(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing about its own integration changes, a wait does nothing."""
    woken: list[tuple[str, ...]] = []
    deliver = _poller.Waiter.deliver

    def counted(self: Any, *given: Any, **named: Any) -> None:
        woken.append(self.ids)
        deliver(self, *given, **named)

    monkeypatch.setattr(_poller.Waiter, "deliver", counted)
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, status="syncing")

    async def main() -> None:
        waits = asyncio.create_task(gather(trigger("int_a", poll_interval=0.05), trigger("int_b")))
        await polls(flokit, 6)
        flokit.set_state("int_a", status="error")
        await polls(flokit, 12)
        flokit.set_state("int_b", status="connected")
        await waits

    asyncio.run(main())
    assert sorted(woken) == [("int_a",), ("int_a",), ("int_b",), ("int_b",)]


def test_a_cancelled_wait_disturbs_no_other(flokit: Simulator) -> None:
    """The poll goes on for those who stay, also if the one who started it leaves."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> dict[str, Any]:
        first = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.15)
        first.cancel()
        await asyncio.sleep(0.15)
        flokit.set_state(STRIPE, status="connected")
        return await second

    assert asyncio.run(main())["ending"] == "ready"


def test_an_answer_older_than_the_baseline_is_no_failure(flokit: Simulator) -> None:
    """A wait that joins a running poll is not failed for an error from before its own sync was requested."""
    flokit.add_integration(STRIPE, **ERROR)
    flokit.add_integration("int_other", type="adjust", status="syncing")

    async def main() -> dict[str, Any]:
        other = asyncio.create_task(fire(trigger("int_other", poll_interval=0.3)))
        await asyncio.sleep(0.1)
        # FloKit recovers by itself, the operator reads that baseline and requests its sync, the trigger joins.
        flokit.set_state(STRIPE, status="connected", error_message=None)
        wait = asyncio.create_task(fire(trigger(None, receipt=receipt(), poll_interval=0.3)))
        await asyncio.sleep(0.5)
        flokit.set_state(STRIPE, last_synced_at="2024-03-15T13:00:00Z")
        event = await wait
        other.cancel()
        return event

    assert asyncio.run(main())["ending"] == "ready"


def test_a_syncing_from_before_the_request_is_not_taken_for_this_sync(flokit: Simulator) -> None:
    """A slow answer that was asked for before the wait joined says nothing about its sync."""
    flokit.add_integration(STRIPE, **{**ERROR, "status": "syncing"})
    flokit.fail(Fault.slow(0.4))

    async def main() -> dict[str, Any]:
        first = asyncio.create_task(fire(trigger("int_other", poll_interval=0.2)))
        await asyncio.sleep(0.2)
        flokit.set_state(STRIPE, **ERROR)
        wait = asyncio.create_task(fire(trigger(None, receipt=receipt(**ERROR), poll_interval=0.2)))
        await asyncio.sleep(0.7)
        flokit.set_state(STRIPE, status="connected", error_message=None, last_synced_at="2024-03-15T13:00:00Z")
        event = await wait
        first.cancel()
        return event

    flokit.add_integration("int_other", type="adjust", status="syncing")
    assert asyncio.run(main())["ending"] == "ready"


def test_a_failing_api_is_backed_off_from_once_for_all(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty waits whose recheck is due make no more requests than one: the backoff is the connection's."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.4)
    flokit.add_integration(STRIPE, **ERROR)

    async def main() -> None:
        waits = [trigger(None, receipt=receipt(**ERROR), start_timeout=1, timeout=2.5) for _ in range(20)]
        running = asyncio.create_task(gather(*waits))
        await asyncio.sleep(0.3)
        flokit.fail(503, times=None)
        flokit.clear_requests()
        await asyncio.sleep(2.0)
        running.cancel()

    asyncio.run(main())
    assert gets(flokit) <= 5


def test_retry_after_is_honoured_by_all(flokit: Simulator) -> None:
    """No wait asks before FloKit said, nor does its deadline make it."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.rate_limited(60), times=None)
    started = time.monotonic()
    events = asyncio.run(gather(*(trigger(timeout=0.3 + 0.1 * n) for n in range(5))))
    assert [event["ending"] for event in events] == ["timed_out"] * 5
    assert gets(flokit) == 1
    assert time.monotonic() - started < 3
    assert "HTTP 429" in events[0]["message"]


def test_a_failure_at_the_deadline_is_sat_out(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync is done, and the look at the deadline meets a passing fault: the wait ends ready, as in a worker."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.1)
    monkeypatch.setattr(_poller, "HURRY", 0.1)
    flokit.add_integration(STRIPE)
    flokit.script(STRIPE, [{"status": "syncing"}, {"status": "connected"}])
    flokit.fail(503, times=2, after=1)
    assert asyncio.run(fire(trigger(poll_interval=60, timeout=1.2)))["ending"] == "ready"


def test_many_deadlines_cost_few_polls(flokit: Simulator) -> None:
    """Waits that end one after another do not each force a poll of their own."""
    flokit.add_integration(STRIPE, status="syncing")
    events = asyncio.run(gather(*(trigger(poll_interval=1.0, timeout=0.2 * n + 0.1) for n in range(10))))
    assert {event["ending"] for event in events} == {"timed_out"}
    assert gets(flokit) <= 4


def test_a_permanent_failure_reaches_everyone_with_the_last_state(flokit: Simulator) -> None:
    """A key that dies ends every wait, each with what it had seen and its own name."""
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, status="syncing")
    flokit.fail(401, times=None, after=2)
    events = asyncio.run(gather(trigger("int_a"), trigger("int_b")))
    for name, event in zip(("int_a", "int_b"), events, strict=True):
        assert event["error"] == "FlokitAuthenticationError"
        assert name in event["message"]
        assert [state["id"] for state in event["integrations"]] == [name]


def test_an_id_that_cannot_be_read_singly_delays_no_other(flokit: Simulator) -> None:
    """A slow single read runs beside the polls."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.slow(6), path=f"{LIST}/int_gone", times=None)

    async def main() -> float:
        gone = asyncio.create_task(fire(trigger("int_gone", timeout=30)))
        wait = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.4)
        flokit.set_state(STRIPE, status="connected")
        changed = time.monotonic()
        assert (await wait)["ending"] == "ready"
        waited = time.monotonic() - changed
        assert (await gone)["error"] == "FlokitNotFoundError"
        return waited

    assert asyncio.run(main()) < 5


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Leave integrations out of the list that can be read singly."""
    parse = api.parse_list

    def without(body: bytes) -> Any:
        listed = [each for each in json.loads(body)["integrations"] if each["id"] not in hidden]
        return parse(json.dumps({"integrations": listed}).encode())

    monkeypatch.setattr(api, "parse_list", without)


def test_a_slow_single_read_delays_no_other_single_read(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each id that the list does not hold is read, and served, on its own."""
    hide(monkeypatch, "int_slow", "int_quick")
    for name in ("int_slow", "int_quick"):
        flokit.add_integration(name, status="syncing")
    flokit.fail(Fault.slow(10), path=f"{LIST}/int_slow", times=None)

    async def main() -> float:
        slow = asyncio.create_task(fire(trigger("int_slow", timeout=30)))
        quick = asyncio.create_task(fire(trigger("int_quick")))
        await asyncio.sleep(0.4)
        flokit.set_state("int_quick", status="connected")
        changed = time.monotonic()
        assert (await quick)["ending"] == "ready"
        waited = time.monotonic() - changed
        slow.cancel()
        return waited

    assert asyncio.run(main()) < 8


def test_a_list_and_single_reads_make_a_whole(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for what is listed and what is not ends when both are there, whichever comes last."""
    hide(monkeypatch, "int_hidden")

    async def main(first: str, last: str) -> float:
        for name in (STRIPE, "int_hidden"):
            flokit.set_state(name, status="syncing")
        wait = asyncio.create_task(fire(trigger([STRIPE, "int_hidden"])))
        await asyncio.sleep(0.4)
        flokit.set_state(first, status="connected")
        await asyncio.sleep(0.4)
        assert not wait.done()
        flokit.set_state(last, status="connected")
        changed = time.monotonic()
        assert (await wait)["ending"] == "ready"
        return time.monotonic() - changed

    for name in (STRIPE, "int_hidden"):
        flokit.add_integration(name, status="syncing")
    assert asyncio.run(main(STRIPE, "int_hidden")) < 1.0
    assert asyncio.run(main("int_hidden", STRIPE)) < 1.0


def test_a_single_read_that_is_to_come_back_later_does_not_stop_the_list(flokit: Simulator) -> None:
    """503 with Retry-After for one id is no reason to leave everybody else waiting; it is for the single reads."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.answer(503, b"", {"Retry-After": "3600"}), path=f"{LIST}/int_hidden", times=None)

    async def main() -> None:
        hidden = asyncio.create_task(fire(trigger("int_hidden")))
        wait = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.6)
        flokit.set_state(STRIPE, status="connected")
        assert (await asyncio.wait_for(wait, 2))["ending"] == "ready"
        hidden.cancel()

    asyncio.run(main())
    assert sum(r.path == f"{LIST}/int_hidden" for r in flokit.requests) == 1


def test_an_id_that_is_to_be_read_later_does_not_keep_another_from_being_read(flokit: Simulator) -> None:
    """503 with Retry-After for one id, 404 for the next, which is told at once."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.answer(503, b"", {"Retry-After": "3600"}), path=f"{LIST}/int_hidden", times=None)

    async def main() -> dict[str, Any]:
        hidden = asyncio.create_task(fire(trigger("int_hidden", timeout=60)))
        await asyncio.sleep(0.5)
        event = await fire(trigger("int_unknown", timeout=3))
        hidden.cancel()
        return event

    assert asyncio.run(main())["error"] == "FlokitNotFoundError"


def test_a_single_read_older_than_the_baseline_is_no_failure(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for before a wait joined is old for it also if a newer list came meanwhile."""
    hide(monkeypatch, STRIPE)
    flokit.add_integration(STRIPE, **ERROR)
    flokit.add_integration("int_other", status="syncing")
    flokit.fail(Fault.slow(0.6), path=f"{LIST}/{STRIPE}")

    async def main() -> dict[str, Any]:
        other = asyncio.create_task(fire(trigger("int_other")))
        before = asyncio.create_task(fire(trigger(tolerate_failures=True)))
        await asyncio.sleep(0.3)
        flokit.set_state(STRIPE, status="syncing", error_message=None)
        wait = asyncio.create_task(fire(trigger(None, receipt=receipt())))
        await asyncio.sleep(0.8)
        flokit.set_state(STRIPE, status="connected", last_synced_at="2024-03-15T13:00:00Z")
        event = await wait
        for each in (other, before):
            each.cancel()
        return event

    assert asyncio.run(main())["ending"] == "ready"


def test_a_single_read_that_changed_nothing_wakes_nobody(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that the list does not hold costs one request per poll, and its wait nothing while nothing changes."""
    hide(monkeypatch, STRIPE)
    flokit.add_integration(STRIPE, status="syncing")
    woken: list[Any] = []
    deliver = _poller.Waiter.deliver

    def counted(self: Any, *given: Any, **named: Any) -> None:
        woken.append(given)
        deliver(self, *given, **named)

    monkeypatch.setattr(_poller.Waiter, "deliver", counted)

    async def main() -> None:
        wait = asyncio.create_task(fire(trigger(poll_interval=0.05)))
        await polls(flokit, 6, f"{LIST}/{STRIPE}")
        flokit.set_state(STRIPE, status="connected")
        assert (await wait)["ending"] == "ready"

    asyncio.run(main())
    assert len(woken) == 2


def test_a_deadline_that_is_over_is_no_tight_loop(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that joins late, right after a poll, sleeps until the next answer instead of looking at the last again."""
    monkeypatch.setattr(_poller, "HURRY", 0.2)
    flokit.add_integration(STRIPE, status="syncing")
    looks: list[Any] = []
    look = Watch.look

    def counted(self: Watch, *given: Any, **named: Any) -> Any:
        looks.append(given)
        return look(self, *given, **named)

    monkeypatch.setattr(Watch, "look", counted)

    async def main() -> dict[str, Any]:
        first = asyncio.create_task(fire(trigger(poll_interval=1)))
        await asyncio.sleep(0.15)
        looks.clear()
        event = await fire(trigger(poll_interval=1, deadline=time.time() - 60))
        first.cancel()
        return event

    assert asyncio.run(main())["ending"] == "timed_out"
    assert len(looks) <= 2


def test_who_joins_is_served_by_the_connection_as_it_is_now(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Airflow connection came to mean another workspace while waits were running on the old one."""
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> dict[str, Any]:
        old = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.3)
        with Simulator() as other:
            other.add_integration("int_new")
            monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", other.connection_uri())
            event = await fire(trigger("int_new"))
            old.cancel()
            return event

    assert asyncio.run(main())["ending"] == "ready"


def test_a_host_that_is_mended_in_the_middle_of_a_wait_is_found(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing answers, the Airflow connection is read again before each attempt."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)
    flokit.add_integration(STRIPE)
    right = flokit.connection_uri()
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", '{"conn_type": "flokit", "password": "k", "host": "127.0.0.1:9"}')

    async def main() -> dict[str, Any]:
        wait = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.5)
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", right)
        return await wait

    assert asyncio.run(main())["ending"] == "ready"


def test_a_secrets_backend_that_blinks_ends_no_wait(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow calls a connection undefined that it cannot get; for some seconds that may pass."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)
    flokit.add_integration(STRIPE)
    uri = flokit.connection_uri()
    monkeypatch.delenv("AIRFLOW_CONN_FLOKIT_DEFAULT")

    async def main() -> dict[str, Any]:
        wait = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.5)
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", uri)
        return await wait

    assert asyncio.run(main())["ending"] == "ready"


def test_a_wait_outlives_a_secrets_backend_that_another_one_meets(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who joins has the connection read anew; while that fails, the poll goes on by what it was."""
    monkeypatch.setattr(_poller, "PATIENCE", 0.0)
    flokit.add_integration(STRIPE, status="syncing")

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        wait = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.4)
        monkeypatch.delenv("AIRFLOW_CONN_FLOKIT_DEFAULT")
        joined = asyncio.create_task(fire(trigger()))
        await asyncio.sleep(0.6)
        assert not wait.done()
        flokit.api_key = "fk_rw_rotated_meanwhile"
        await asyncio.sleep(0.4)
        assert not wait.done()
        flokit.set_state(STRIPE, status="connected")
        monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri())
        return await wait, await joined

    for event in asyncio.run(main()):
        assert event["ending"] == "ready"


def test_a_connection_that_stays_undefined_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits an hour to hear of a connection that does not exist."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.05)
    monkeypatch.setattr(_poller, "PATIENCE", 0.3)
    started = time.monotonic()
    event = asyncio.run(fire(trigger(flokit_conn_id="nowhere", timeout=60)))
    assert event["error"] == "FlokitConfigError"
    assert "'nowhere' is not defined" in event["message"]
    assert time.monotonic() - started < 10


def test_an_unlisted_id_may_turn_from_a_passing_failure_to_a_final_one(flokit: Simulator) -> None:
    """500 and then 403 on the single read: the wait ends with the second, not at its deadline."""
    flokit.fail(500, path=f"{LIST}/int_hidden", times=2)
    flokit.fail(403, path=f"{LIST}/int_hidden", times=None)
    started = time.monotonic()
    event = asyncio.run(fire(trigger("int_hidden")))
    assert event["error"] == "FlokitPermissionError"
    assert time.monotonic() - started < 3


def test_an_overdue_wait_for_an_unknown_id_is_told_so(flokit: Simulator) -> None:
    """It joins a poll under way that did not ask for its id, and still is not merely timed out."""
    flokit.add_integration(STRIPE, status="syncing")
    flokit.fail(Fault.slow(0.4))

    async def main() -> dict[str, Any]:
        first = asyncio.create_task(fire(trigger(poll_interval=1)))
        await asyncio.sleep(0.2)
        event = await fire(trigger("int_unknown", poll_interval=1, deadline=time.time() - 60))
        first.cancel()
        return event

    assert asyncio.run(main())["error"] == "FlokitNotFoundError"


def test_a_malformed_entry_harms_only_its_own_wait(flokit: Simulator) -> None:
    """One integration that FloKit describes wrongly does not stop the gates of all the others."""
    flokit.add_integration(STRIPE)
    flokit.add_integration("int_bad", type="adjust", last_synced_at="soon")
    good, bad = asyncio.run(gather(trigger(), trigger("int_bad", timeout=0.4)))
    assert good["ending"] == "ready"
    assert bad["ending"] == "timed_out"
    assert "int_bad" in bad["message"]


def test_two_connections_do_not_delay_each_other(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has a poll of its own."""
    flokit.add_integration(STRIPE)
    monkeypatch.setenv("AIRFLOW_CONN_FLOKIT_OTHER", flokit.connection_uri(flokit.read_only_key))
    flokit.fail(Fault.slow(4))

    async def main() -> None:
        slow = asyncio.create_task(fire(trigger(timeout=30)))
        await polls(flokit, 1)
        assert (await fire(trigger(flokit_conn_id="flokit_other")))["ending"] == "ready"
        assert not slow.done()
        assert (await slow)["ending"] == "ready"

    asyncio.run(main())


def test_no_interval_is_no_tight_loop(flokit: Simulator) -> None:
    """Airflow allows poke_interval=0; FloKit gets one request a second then."""
    flokit.add_integration(STRIPE, status="syncing")
    asyncio.run(fire(trigger(poll_interval=0, timeout=0.5)))
    assert gets(flokit) <= 2


def test_nothing_is_left_behind_after_a_crowd(flokit: Simulator) -> None:
    """No task, no poller, whatever way the waits ended."""
    for number in range(50):
        flokit.add_integration(f"int_{number}", status="connected" if number % 2 else "syncing")

    async def main() -> set[asyncio.Task[Any]]:
        running = [asyncio.create_task(fire(trigger(f"int_{n}"))) for n in range(50)]
        await asyncio.sleep(0.3)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert Poller._all[asyncio.get_running_loop()] == {}
        return asyncio.all_tasks()

    assert len(asyncio.run(main())) == 1
