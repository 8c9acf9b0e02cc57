"""Watchers on Airflow's own shared streams: what is saved when, and what a lost triggerer loses (nothing)."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.triggers import _asset_events
from tests.triggers.polls import LIST, STRIPE, gets, more_polls, until
from tests.triggers.test_watchers import TIMES, seen, watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

shared_stream = pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")


class Database:
    """What outlives a triggerer: asset events, and the asset state store; values pass through JSON."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.store: dict[tuple[str, str], str] = {}
        self.away = False
        self.writes = 0

    async def get(self, asset: str, key: str) -> Any:
        """Read from the store."""
        if self.away:
            raise RuntimeError("the API server is away")
        text = self.store.get((asset, key))
        return None if text is None else json.loads(text)

    async def set(self, asset: str, key: str, value: Any) -> None:
        """Write to the store."""
        if self.away:
            raise RuntimeError("the API server is away")
        assert value is not None
        self.writes += 1
        self.store[asset, key] = json.dumps(value)

    @property
    def told(self) -> list[str]:
        """The times of the events."""
        return [event["last_synced_at"] for event in self.events]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    """Let Airflow's own accessors speak to a database of the test's."""
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    database = Database()
    monkeypatch.setattr(AssetStateStoreAccessor, "aget", lambda self, key, _=None: database.get(self._name, key))
    monkeypatch.setattr(AssetStateStoreAccessor, "aset", lambda self, *item: database.set(self._name, *item))
    return database


class Triggerer:
    """Does what Airflow's triggerer does with event triggers: its own stream manager, and events persisted in turn."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.manager = shared_stream.SharedStreamManager(**settings)
        self.persists = True
        self._database = database
        self._ids = itertools.count()
        self._waiting: list[tuple[dict[str, Any], int | None]] = []

    def start(self, trigger: FlokitSyncedTrigger, *assets: str) -> asyncio.Task[None]:
        """Start a trigger that watches for some assets."""
        from airflow.sdk import Asset
        from airflow.sdk.execution_time.context import AssetStateStoreAccessors

        names = assets or (trigger.integration_id,)
        trigger.asset_state_store = AssetStateStoreAccessors(
            inlets=[Asset(name=name, uri=f"x-test://{name}") for name in names]
        )
        return asyncio.create_task(self._run(next(self._ids), trigger))

    async def _run(self, trigger_id: int, trigger: FlokitSyncedTrigger) -> None:
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=trigger_id, key=key)
                self._waiting.append((json.loads(json.dumps(event.payload)), seq))
                if self.persists:
                    asyncio.get_running_loop().call_soon(self.persist)
        finally:
            await self.manager.unsubscribe(trigger_id, key)

    def persist(self, *, confirm: bool = True) -> None:
        """Write the events to the database, and tell the streams so unless the triggerer dies before."""
        waiting, self._waiting = self._waiting, []
        self._database.events += [payload for payload, _ in waiting]
        if confirm:
            self.manager.confirm_persisted([seq for _, seq in waiting if seq is not None])


def live(database: Database, play: Callable[[Triggerer], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Let a triggerer live as long as something is played, and then be killed: nothing is saved on its way out."""

    async def main() -> None:
        await play(Triggerer(database, **settings))
        kept = dict(database.store)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.1)
        database.store = kept

    asyncio.run(main())


def synced(flokit: Simulator, number: int, integration_id: str = STRIPE) -> None:
    """Let an integration have synced."""
    flokit.set_state(integration_id, status="connected", last_synced_at=TIMES[number])


def watching(*triggers: FlokitSyncedTrigger) -> Callable[[Callable[[], Awaitable[None]]], Any]:
    """Return what plays something while triggers run."""

    def with_play(play: Callable[[], Awaitable[None]]) -> Callable[[Triggerer], Coroutine[Any, Any, None]]:
        async def life(triggerer: Triggerer) -> None:
            for trigger in triggers:
                triggerer.start(trigger)
            await play()

        return life

    return with_play


def test_one_stream_for_all_watchers_of_a_connection() -> None:
    """The key holds what the poll depends on, and nothing else."""
    assert watcher("int_a").shared_stream_key() == watcher("int_b", on="any").shared_stream_key()
    assert watcher(flokit_conn_id="other").shared_stream_key() != watcher().shared_stream_key()
    assert watcher(poll_interval=60).shared_stream_key() != watcher().shared_stream_key()


def test_two_watchers_one_request_per_interval(flokit: Simulator, database: Database) -> None:
    """Watchers of two integrations, and one with a longer interval, share one poll; each gets its own events."""
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, last_synced_at=TIMES[0])

    async def play() -> None:
        await seen(flokit)
        began, before = time.monotonic(), gets(flokit)
        await seen(flokit)
        assert gets(flokit) - before <= (time.monotonic() - began) / 0.4 + 1
        synced(flokit, 1, "int_b")
        await seen(flokit)

    triggers = [watcher("int_a", poll_interval=0.4), watcher("int_b", poll_interval=0.4), watcher("int_a")]
    triggers[2].poll_interval = 60.0
    live(database, watching(*triggers)(play))
    assert [event["integration_id"] for event in database.events] == ["int_b"]


def test_a_quiet_watcher_writes_nothing(flokit: Simulator, database: Database) -> None:
    """What has been seen is saved once at the beginning, so that the downtime after it is covered, and at changes."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    live(database, watching(watcher())(lambda: more_polls(flokit, 8)))
    assert (database.writes, database.events) == (1, [])
    live(database, watching(watcher())(lambda: more_polls(flokit, 8)))
    assert (database.writes, database.events) == (1, [])


def test_a_sync_while_no_triggerer_runs_is_told_once(flokit: Simulator, database: Database) -> None:
    """The next triggerer finds what the last one had seen."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    live(database, watching(watcher())(lambda: seen(flokit)))
    synced(flokit, 1)
    for _ in range(3):
        live(database, watching(watcher())(lambda: seen(flokit)))
    assert database.told == [TIMES[1]]


def test_a_triggerer_lost_after_the_event_does_not_repeat_it(flokit: Simulator, database: Database) -> None:
    """Once Airflow has confirmed the event, it is saved at once, before the next poll."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        triggerer.start(watcher())
        await seen(flokit)
        flokit.fail(503, times=None, path=LIST, after=2)
        synced(flokit, 1)
        await until(lambda: database.told)
        await asyncio.sleep(0.05)

    live(database, life)
    flokit.clear_faults()
    live(database, watching(watcher())(lambda: more_polls(flokit, 4)))
    assert database.told == [TIMES[1]]


def test_a_triggerer_lost_before_the_event_is_stored_does_not_lose_it(flokit: Simulator, database: Database) -> None:
    """The event was made, but did not reach the database: the next triggerer makes it again."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        triggerer.persists = False
        triggerer.start(watcher())
        await seen(flokit)
        synced(flokit, 1)
        await until(lambda: triggerer._waiting)
        await more_polls(flokit, 4)

    live(database, life)
    assert database.told == []
    live(database, watching(watcher())(lambda: more_polls(flokit, 4)))
    assert database.told == [TIMES[1]]


def test_a_repeated_event_can_be_told(flokit: Simulator, database: Database) -> None:
    """Lost between the database and its confirmation, an event comes twice, with the same last_synced_at."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        triggerer.persists = False
        triggerer.start(watcher())
        await seen(flokit)
        synced(flokit, 1)
        await until(lambda: triggerer._waiting)
        triggerer.persist(confirm=False)

    live(database, life)
    live(database, watching(watcher())(lambda: more_polls(flokit, 4)))
    assert database.told == [TIMES[1]] * 2
    assert database.events[0] == database.events[1]


def test_assets_that_share_a_trigger_go_on_without_the_store(
    flokit: Simulator, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow keeps one trigger row for equal triggers, and which asset is meant is not known: a warning says so."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        running = triggerer.start(watcher(), "first", "second")
        await seen(flokit)
        synced(flokit, 1)
        await seen(flokit)
        assert not running.done()

    live(database, life)
    assert database.told == [TIMES[1]]
    assert database.store == {}
    (warning,) = [r.getMessage() for r in caplog.records if "without Airflow's asset state store" in r.getMessage()]
    assert STRIPE in warning
    assert "let its arguments differ" in warning


def test_watchers_of_one_asset_do_not_mix(flokit: Simulator, database: Database) -> None:
    """Several integrations and several kinds of event on one asset are remembered apart."""
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        for trigger in (watcher("int_a"), watcher("int_b"), watcher("int_b", on="error")):
            triggerer.start(trigger, "both")
        await more_polls(flokit, 4)

    live(database, life)
    assert len(database.store) == 3
    synced(flokit, 1, "int_a")
    flokit.set_state("int_b", status="error", error_message="bad")
    live(database, life)
    live(database, life)
    assert sorted((event["integration_id"], event["event"]) for event in database.events) == [
        ("int_a", "synced"),
        ("int_b", "error"),
    ]


def test_a_store_that_is_away_at_the_beginning_makes_no_false_event(flokit: Simulator, database: Database) -> None:
    """Without what was seen before, nothing is told, and nothing ends; once it can be read, nothing is lost."""
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])
    live(database, watching(watcher())(lambda: seen(flokit)))
    synced(flokit, 1)

    async def life(triggerer: Triggerer) -> None:
        database.away = True
        running = triggerer.start(watcher())
        await more_polls(flokit, 4)
        assert database.told == []
        database.away = False
        await seen(flokit)
        assert not running.done()

    live(database, life)
    assert database.told == [TIMES[1]]


def test_a_store_that_is_away_later_ends_no_watcher(
    flokit: Simulator, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Events go on; what was seen is saved as soon as it can be; the trouble is told once, and once that it is over."""
    caplog.set_level(logging.INFO)
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        running = triggerer.start(watcher())
        await seen(flokit)
        database.away = True
        synced(flokit, 1)
        await more_polls(flokit, 5)
        assert database.told == [TIMES[1]]
        assert caplog.text.count("works again.") == 0
        database.away = False
        await seen(flokit)
        assert not running.done()

    live(database, life)
    assert caplog.text.count("what it has seen cannot be saved (RuntimeError: the API server is away)") == 1
    assert caplog.text.count("works again.") == 1
    live(database, watching(watcher())(lambda: seen(flokit)))
    assert database.told == [TIMES[1]]


def test_a_store_that_does_not_answer_holds_nothing_up_for_long(
    flokit: Simulator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer that shuts down must not hang on it."""
    assert _asset_events._STORE_PATIENCE == 10
    monkeypatch.setattr(_asset_events, "_STORE_PATIENCE", 0.05)
    flokit.add_integration(STRIPE, last_synced_at=TIMES[0])

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(database, "set", never)

    async def play() -> None:
        await seen(flokit)
        synced(flokit, 1)
        await more_polls(flokit, 4)

    live(database, watching(watcher())(play))
    assert database.told == [TIMES[1]]


def test_an_event_that_airflow_never_confirms_is_not_taken_for_told(flokit: Simulator, database: Database) -> None:
    """Airflow fails that watcher and restarts it: it makes the event again; its neighbour is not disturbed."""
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, last_synced_at=TIMES[0])

    async def life(triggerer: Triggerer) -> None:
        first, second = triggerer.start(watcher("int_a")), triggerer.start(watcher("int_b"))
        await seen(flokit)
        triggerer.persists = False
        synced(flokit, 1, "int_a")
        with pytest.raises(shared_stream.AckTimeout):
            await first
        triggerer.persists = True
        triggerer._waiting.clear()
        synced(flokit, 2, "int_b")
        await seen(flokit)
        assert not second.done()
        assert [event["integration_id"] for event in database.events] == ["int_b"]

    live(database, life, ack_timeout=0.3)
    live(database, watching(watcher("int_a"), watcher("int_b"))(lambda: more_polls(flokit, 4)))
    assert [(event["integration_id"], event["last_synced_at"]) for event in database.events] == [
        ("int_b", TIMES[2]),
        ("int_a", TIMES[1]),
    ]


def test_a_watcher_that_comes_later_gets_the_present_state(flokit: Simulator, database: Database) -> None:
    """After a restart the watchers come one by one; none has to wait for a change to learn what it missed."""
    for name in ("int_a", "int_b"):
        flokit.add_integration(name, last_synced_at=TIMES[0])
    live(database, watching(watcher("int_a"), watcher("int_b"))(lambda: seen(flokit)))
    synced(flokit, 1, "int_b")

    async def life(triggerer: Triggerer) -> None:
        triggerer.start(watcher("int_a"))
        await more_polls(flokit, 4)
        triggerer.start(watcher("int_b"))
        await seen(flokit)

    live(database, life)
    assert database.told == [TIMES[1]]
