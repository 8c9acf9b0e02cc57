"""Watchers on Airflow's own shared streams: what is saved when, and what a lost triggerer loses (nothing)."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_flokit.triggers import _asset_events
from tests.triggers.polls import LIST, STRIPE, in_a_loop, more_polls, until
from tests.triggers.test_watchers import TIMES, seen, watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

OTHER = "int_01hx4j7adjust"

shared_stream = pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")


class Database:
    """What outlives a triggerer: asset events, and the asset state store; values pass through JSON."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.store: dict[tuple[str, str], str] = {}
        self.away = ""
        self.writes = 0

    async def get(self, asset: str, key: str) -> Any:
        """Read from the store."""
        await self._answer()
        text = self.store.get((asset, key))
        return None if text is None else json.loads(text)

    async def set(self, asset: str, key: str, value: Any) -> None:
        """Write to the store."""
        await self._answer()
        assert value is not None
        self.writes += 1
        self.store[asset, key] = json.dumps(value)

    async def _answer(self) -> None:
        if self.away == "refuses":
            raise RuntimeError("the API server is away")
        if self.away == "hangs":
            await asyncio.Event().wait()

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
        self.waiting: list[tuple[dict[str, Any], int | None]] = []
        self._database = database
        self._ids = itertools.count()

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
                self.waiting.append((json.loads(json.dumps(event.payload)), seq))
                if self.persists:
                    asyncio.get_running_loop().call_soon(self.persist)
        finally:
            await self.manager.unsubscribe(trigger_id, key)

    def persist(self, *, confirm: bool = True) -> None:
        """Write the events to the database, and tell the streams so unless the triggerer dies before."""
        waiting, self.waiting = self.waiting, []
        self._database.events += [payload for payload, _ in waiting]
        if confirm:
            self.manager.confirm_persisted([seq for _, seq in waiting if seq is not None])


@asynccontextmanager
async def life(database: Database, **settings: Any) -> AsyncIterator[Triggerer]:
    """Let a triggerer live during the block, and then be killed: nothing is saved on its way out."""
    yield Triggerer(database, **settings)
    kept = dict(database.store)
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    database.store = kept


async def watch(flokit: Simulator, database: Database, *integration_ids: str) -> None:
    """Let a triggerer live that watches integrations, until it has seen how they are."""
    async with life(database) as triggerer:
        for name in integration_ids or (STRIPE,):
            triggerer.start(watcher(name))
        await more_polls(flokit, 4)


def synced(flokit: Simulator, number: int, integration_id: str = STRIPE) -> None:
    """Let an integration have synced."""
    flokit.set_state(integration_id, status="connected", last_synced_at=TIMES[number])


@pytest.fixture(autouse=True)
def _two_that_have_synced(flokit: Simulator) -> None:
    for name in (STRIPE, OTHER):
        flokit.add_integration(name, last_synced_at=TIMES[0])


def test_one_stream_for_all_watchers_of_a_connection() -> None:
    """The key holds what the poll depends on, and nothing else."""
    assert watcher().shared_stream_key() == watcher(OTHER, on="any").shared_stream_key()
    assert watcher(flokit_conn_id="other").shared_stream_key() != watcher().shared_stream_key()
    assert watcher(poll_interval=60).shared_stream_key() != watcher().shared_stream_key()


@in_a_loop
async def test_a_quiet_watcher_writes_nothing(flokit: Simulator, database: Database) -> None:
    """What has been seen is saved once at the beginning, so that the downtime after it is covered, and at changes."""
    for _ in range(2):
        await watch(flokit, database)
        assert (database.writes, database.events) == (1, [])


@in_a_loop
async def test_a_sync_while_no_triggerer_runs_is_told_once(flokit: Simulator, database: Database) -> None:
    """The next triggerer finds what the last one had seen."""
    await watch(flokit, database)
    synced(flokit, 1)
    for _ in range(3):
        await watch(flokit, database)
    assert database.told == [TIMES[1]]


@in_a_loop
async def test_a_triggerer_lost_after_the_event_does_not_repeat_it(flokit: Simulator, database: Database) -> None:
    """Once Airflow has confirmed the event, it is saved at once, before the next poll."""
    async with life(database) as triggerer:
        triggerer.start(watcher())
        await seen(flokit)
        flokit.fail(503, times=None, path=LIST, after=2)
        synced(flokit, 1)
        await until(lambda: TIMES[1] in "".join(database.store.values()))
    flokit.clear_faults()
    await watch(flokit, database)
    assert database.told == [TIMES[1]]


@pytest.mark.parametrize("stored", [False, True], ids=["before the event is stored", "before that is confirmed"])
@in_a_loop
async def test_a_lost_triggerer_loses_no_event(flokit: Simulator, database: Database, stored: bool) -> None:
    """The next one makes it again: told twice, with the same last_synced_at, only if the first reached the database."""
    async with life(database) as triggerer:
        triggerer.persists = False
        triggerer.start(watcher())
        await seen(flokit)
        synced(flokit, 1)
        await until(lambda: triggerer.waiting)
        await more_polls(flokit, 4)
        if stored:
            triggerer.persist(confirm=False)
    await watch(flokit, database)
    assert database.told == [TIMES[1]] * (2 if stored else 1)


@in_a_loop
async def test_assets_that_share_a_trigger_go_on_without_the_store(
    flokit: Simulator, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow keeps one trigger row for equal triggers, and which asset is meant is not known: a warning says so."""
    async with life(database) as triggerer:
        running = triggerer.start(watcher(), "first", "second")
        await seen(flokit)
        synced(flokit, 1)
        await seen(flokit)
        assert not running.done()
    assert database.told == [TIMES[1]]
    assert database.store == {}
    (warning,) = [r.getMessage() for r in caplog.records if "without Airflow's asset state store" in r.getMessage()]
    assert STRIPE in warning
    assert "let its arguments differ" in warning


@in_a_loop
async def test_watchers_of_one_asset_do_not_mix(flokit: Simulator, database: Database) -> None:
    """Several integrations and several kinds of event on one asset are remembered apart."""
    for number in range(3):
        async with life(database) as triggerer:
            for trigger in (watcher(), watcher(OTHER), watcher(OTHER, on="error")):
                triggerer.start(trigger, "both")
            await more_polls(flokit, 4)
        if number == 0:
            synced(flokit, 1)
            flokit.set_state(OTHER, status="error", error_message="bad")
    events = {(event["integration_id"], event["event"]) for event in database.events}
    assert events == {(STRIPE, "synced"), (OTHER, "error")}
    assert len(database.events) == 2
    assert len(database.store) == 3


@in_a_loop
async def test_a_store_that_is_away_at_the_beginning_makes_no_false_event(
    flokit: Simulator, database: Database
) -> None:
    """Without what was seen before, nothing is told, and nothing ends; once it can be read, nothing is lost."""
    await watch(flokit, database)
    synced(flokit, 1)
    async with life(database) as triggerer:
        database.away = "refuses"
        running = triggerer.start(watcher())
        await more_polls(flokit, 4)
        assert database.told == []
        database.away = ""
        await seen(flokit)
        assert not running.done()
    assert database.told == [TIMES[1]]


@pytest.mark.parametrize("away", ["refuses", "hangs"])
@in_a_loop
async def test_a_store_that_is_away_later_ends_no_watcher(
    flokit: Simulator, database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """Events go on; what was seen is saved as soon as it can be; the trouble is told once, and once that it is over."""
    caplog.set_level(logging.INFO)
    if away == "hangs":
        monkeypatch.setattr(_asset_events, "_STORE_PATIENCE", 0.05)
    async with life(database) as triggerer:
        running = triggerer.start(watcher())
        await seen(flokit)
        database.away = away
        synced(flokit, 1)
        await until(lambda: "what it has seen cannot be saved" in caplog.text)
        await more_polls(flokit, 4)
        assert database.told == [TIMES[1]]
        database.away = ""
        await until(lambda: "works again." in caplog.text)
        assert not running.done()
    assert caplog.text.count("what it has seen cannot be saved") == 1
    assert caplog.text.count("works again.") == 1
    await watch(flokit, database)
    assert database.told == [TIMES[1]]


@in_a_loop
async def test_an_event_that_airflow_never_confirms_is_not_taken_for_told(
    flokit: Simulator, database: Database
) -> None:
    """Airflow fails that watcher and restarts it: it makes the event again; its neighbour is not disturbed."""
    async with life(database, ack_timeout=1.0) as triggerer:
        first, second = triggerer.start(watcher()), triggerer.start(watcher(OTHER))
        await seen(flokit)
        triggerer.persists = False
        synced(flokit, 1)
        with pytest.raises(shared_stream.AckTimeout):
            await first
        triggerer.persists = True
        triggerer.waiting.clear()
        synced(flokit, 2, OTHER)
        await until(lambda: database.events)
        assert not second.done()
    await watch(flokit, database, STRIPE, OTHER)
    assert [event["integration_id"] for event in database.events] == [OTHER, STRIPE]
    assert database.told == [TIMES[2], TIMES[1]]
