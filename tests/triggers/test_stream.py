"""Watchers on Airflow's own shared streams: what is saved when, and what a lost triggerer loses (nothing)."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.triggers.polls import STRIPE, TIMES, more_polls, until, watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_flokit.simulator import Simulator
    from airflow_provider_flokit.triggers.flokit import FlokitSyncedTrigger

OTHER = "int_01hx4j7adjust"

shared_stream = pytest.importorskip("airflow.triggers.shared_stream", reason="shared streams came with Airflow 3.3")


class Database:
    """What outlives a triggerer: asset events, and an asset's state store; values pass through JSON."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.store: dict[str, str] = {}
        self.is_away = False
        self.writes = 0

    async def aget(self, key: str) -> Any:
        """Read from the store."""
        self._answer()
        return json.loads(self.store.get(key, "null"))

    async def aset(self, key: str, value: Any) -> None:
        """Write to the store."""
        self._answer()
        self.writes += 1
        self.store[key] = json.dumps(value)

    def _answer(self) -> None:
        if self.is_away:
            raise RuntimeError("the API server is away")

    def has_saved(self, time: str) -> bool:
        """Tell whether a watcher has saved that it has seen a success."""
        return time in "".join(self.store.values())

    @property
    def told(self) -> list[str]:
        """The times of the events."""
        return [event["last_synced_at"] for event in self.events]


@pytest.fixture
def database() -> Database:
    """Return an empty database."""
    return Database()


class Triggerer:
    """Does what Airflow's triggerer does with event triggers: its own stream manager, and events persisted in turn."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.manager = shared_stream.SharedStreamManager(**settings)
        self.persists = True
        self.waiting: list[tuple[dict[str, Any], int | None]] = []
        self._database = database
        self._ids = itertools.count()

    def start(self, trigger: FlokitSyncedTrigger, store: Any = None) -> asyncio.Task[None]:
        """Start a trigger, with the database's store for its asset or another one."""
        trigger.asset_state_store = store or self._database
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


async def test_a_sync_while_no_triggerer_runs_is_told_once(flokit: Simulator, database: Database) -> None:
    """What a watcher sees first, and each change, is saved once, for the next triggerer to find."""
    for _ in range(2):
        await watch(flokit, database)
        assert (database.writes, database.told) == (1, [])
    synced(flokit, 1)
    for _ in range(2):
        await watch(flokit, database)
        assert (database.writes, database.told) == (2, [TIMES[1]])


@pytest.mark.parametrize(
    ("killed", "times"),
    [("before the event is stored", 1), ("before Airflow has confirmed it", 2), ("after that", 1)],
)
async def test_a_lost_triggerer_loses_no_event(flokit: Simulator, database: Database, killed: str, times: int) -> None:
    """The next one makes the event again unless that was confirmed: a repeated one has the same last_synced_at."""
    async with life(database) as triggerer:
        triggerer.persists = False
        triggerer.start(watcher())
        await more_polls(flokit)
        synced(flokit, 1)
        await until(lambda: triggerer.waiting)
        await more_polls(flokit, 4)
        if killed == "before Airflow has confirmed it":
            triggerer.persist(confirm=False)
        elif killed == "after that":
            triggerer.persist()
            await until(lambda: database.has_saved(TIMES[1]))
    await watch(flokit, database)
    assert database.told == [TIMES[1]] * times


async def test_assets_that_share_a_trigger_go_on_without_the_store(
    flokit: Simulator, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow keeps one trigger row for equal triggers, and which asset is meant is not known: a warning says so."""
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    assets = [Asset(name=name, uri=f"x-test://{name}") for name in ("first", "second")]
    async with life(database) as triggerer:
        running = triggerer.start(watcher(), AssetStateStoreAccessors(inlets=assets))
        await more_polls(flokit)
        synced(flokit, 1)
        await more_polls(flokit)
        assert not running.done()
    assert database.told == [TIMES[1]]
    (warning,) = [r.getMessage() for r in caplog.records if "without Airflow's asset state store" in r.getMessage()]
    assert STRIPE in warning
    assert "let its arguments differ" in warning


async def test_watchers_of_one_asset_do_not_mix(flokit: Simulator, database: Database) -> None:
    """Several integrations and several kinds of event on one asset are remembered apart."""
    for number in range(3):
        async with life(database) as triggerer:
            for trigger in (watcher(), watcher(OTHER), watcher(OTHER, on="error")):
                triggerer.start(trigger)
            await more_polls(flokit, 4)
        if number == 0:
            synced(flokit, 1)
            flokit.set_state(OTHER, status="error", error_message="bad")
    events = sorted((event["integration_id"], event["event"]) for event in database.events)
    assert events == [(OTHER, "error"), (STRIPE, "synced")]
    assert len(database.store) == 3


async def test_a_store_that_is_away_ends_no_watcher(
    flokit: Simulator, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Before it can be read, nothing is told; later, events go on, and what was seen is saved as soon as it can be.

    The trouble is told once, and so is its end.
    """
    caplog.set_level(logging.INFO)
    await watch(flokit, database)
    synced(flokit, 1)
    async with life(database) as triggerer:
        database.is_away = True
        running = triggerer.start(watcher())
        await until(lambda: "what it has seen before cannot be read" in caplog.text)
        await more_polls(flokit)
        assert database.told == []
        database.is_away = False
        await until(lambda: database.has_saved(TIMES[1]))
        database.is_away = True
        synced(flokit, 2)
        await until(lambda: "what it has seen cannot be saved" in caplog.text)
        await more_polls(flokit)
        assert database.told == [TIMES[1], TIMES[2]]
        database.is_away = False
        await until(lambda: caplog.text.count("works again.") == 2)
        assert not running.done()
    assert caplog.text.count("is stuck") == 2
    await watch(flokit, database)
    assert database.told == [TIMES[1], TIMES[2]]


async def test_an_event_that_airflow_never_confirms_is_not_taken_for_told(
    flokit: Simulator, database: Database
) -> None:
    """Airflow fails that watcher and restarts it: it makes the event again; its neighbour is not disturbed."""
    async with life(database, ack_timeout=1.0) as triggerer:
        first, second = triggerer.start(watcher()), triggerer.start(watcher(OTHER))
        await more_polls(flokit)
        triggerer.persists = False
        synced(flokit, 1)
        with pytest.raises(shared_stream.AckTimeout):
            await first
        triggerer.persists = True
        triggerer.waiting.clear()
        synced(flokit, 2, OTHER)
        await until(lambda: database.has_saved(TIMES[2]))
        assert not second.done()
    await watch(flokit, database, STRIPE, OTHER)
    assert [event["integration_id"] for event in database.events] == [OTHER, STRIPE]
    assert database.told == [TIMES[2], TIMES[1]]
