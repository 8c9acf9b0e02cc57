"""
Asset watchers: from FloKit's answers to events, with a memory that outlives the triggerer.

A watcher compares each answer with what it remembers. Where Airflow has an asset state store, what it remembers is
saved there only once its events are known to be in Airflow's database, so that a lost triggerer loses none.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary

from airflow_provider_flokit.errors import FlokitError, shown
from airflow_provider_flokit.events import Memory, happened, latest, payload
from airflow_provider_flokit.api.retry import delay
from airflow_provider_flokit.triggers._poller import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_flokit.models import Integration
    from airflow_provider_flokit.gate.snapshot import Snapshot

log = logging.getLogger(__name__)

STORE_PATIENCE: Final = 10.0
"""Seconds that the asset state store has to answer; the next poll asks again."""

LATER: Final = 10.0
"""
How many times longer than after a passing failure the pause is after one that somebody has to mend (a wrong key, a
connection that is not defined): 5 s at first, 300 s at most.
"""

_LONG: Final = 3600.0
"""Seconds to wait for an answer before waiting for it again: as good as no limit."""

_KEY_LENGTH: Final = 512
"""Characters that a key of the asset state store may have."""


async def answers(conn_id: str, interval: float) -> AsyncIterator[Snapshot]:
    """
    Yield every answer of the poll that all waits and watchers on a connection share; never ends and never raises.

    :param conn_id: The Airflow connection.
    :param interval: Seconds between polls; the shortest one asked for on the connection counts.
    """
    pauses = _Pauses.of(conn_id)
    while True:
        with Poller.of(conn_id).listener(interval) as listener:
            while not isinstance(news := await listener.next(_LONG), FlokitError):
                if news is not None:
                    pauses.failures = 0
                    yield news
        await asyncio.sleep(pauses.next(conn_id, news))


class _Pauses:
    """When all watchers on a connection try again after a failure that ended their poll."""

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Pauses]]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.failures = 0
        self._until = 0.0

    @classmethod
    def of(cls, conn_id: str) -> _Pauses:
        return cls._all.setdefault(asyncio.get_running_loop(), {}).setdefault(conn_id, cls())

    def next(self, conn_id: str, error: FlokitError) -> float:
        """Return the seconds to sleep; the first of the watchers to ask chooses for all, and logs."""
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self.failures += 1
            pause = LATER * delay(self.failures, random.random())  # noqa: S311 - jitter
            self._until = now + pause
            log.error("Watching FloKit (connection %r) failed: %s Trying again in %.0f s.", conn_id, error, pause)
        return self._until - now


class Store:
    """
    What one watcher remembers, in the asset state store of Airflow 3.3 and later.

    :param accessors: The trigger's ``asset_state_store``.
    :param key: Tells this watcher from others of the same asset.
    """

    def __init__(self, accessors: Any, key: str) -> None:
        # One trigger serves all assets that declare the same one, and the accessor of all of them refuses to be used.
        each = [getattr(accessors, name, None) for name in ("_by_name", "_by_uri")]
        found = [asset for by in each if isinstance(by, dict) for asset in by.values()]
        self._assets: list[Any] = found or [accessors]
        self.key = key if len(key) <= _KEY_LENGTH else f"{key[: _KEY_LENGTH - 17]}#{hash_of(key)}"

    async def load(self) -> Memory | None:
        """
        Return what is remembered, None if nothing is.

        :raises Exception: whatever Airflow raises if the store cannot be asked
        """
        async with asyncio.timeout(STORE_PATIENCE):
            found = [Memory.from_json(await asset.aget(self.key)) for asset in self._assets]
        return latest([memory for memory in found if memory is not None])

    async def save(self, memory: Memory) -> None:
        """
        Remember.

        :param memory: What.
        :raises Exception: as :meth:`load`
        """
        async with asyncio.timeout(STORE_PATIENCE):
            for asset in self._assets:
                await asset.aset(self.key, memory.to_json())


def hash_of(text: str) -> str:
    """
    Return 16 characters that stand for a text, the same in every process.

    :param text: Any text.
    """
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Watcher:
    """
    One watcher at work.

    :param integration_id: The integration.
    :param conn_id: The Airflow connection.
    :param on: What to tell of: ``synced``, ``error`` or ``any``.
    :param store: Where it remembers; None: nowhere, so that it begins anew with the triggerer.
    """

    def __init__(self, integration_id: str, conn_id: str, on: str, store: Store | None = None) -> None:
        self.integration_id = integration_id
        self.conn_id = conn_id
        self.on = on
        self.memory: Memory | None = None
        self._store = store
        self._saved: Memory | None = None
        self._begun = store is None
        self._trouble = ""

    async def look(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """
        Compare an answer with what is remembered, and remember it.

        :param snapshot: The answer.
        :return: the payloads of the events that happened, in order
        """
        if not self._begun and not await self._begin():
            return []
        now = self._find(snapshot)
        if now is None:
            return []
        self._tell("")
        before, self.memory = self.memory, Memory.of(now, self.memory, self.on)
        if before is None:
            last = self.memory.last_synced_at
            log.info("Watching %s (%s), last synced: %s", now.id, shown(now.type), last or "never")
            return []
        return [payload(event, before, now) for event in happened(before, now, self.on)]

    @property
    def unsaved(self) -> Memory | None:
        """What is remembered and not saved yet."""
        return None if self._store is None or self.memory == self._saved else self.memory

    async def save(self, memory: Memory) -> bool:
        """
        Save what was remembered at some moment; all events until then must be in Airflow's database.

        :param memory: What :attr:`unsaved` said at that moment.
        :return: False if it could not be saved; it is :attr:`unsaved` still
        """
        if self._store is None or memory == self._saved:
            return True
        try:
            await self._store.save(memory)
        except Exception as error:  # noqa: BLE001 - Airflow would end all watchers of the connection
            self._tell(f"cannot save what it has seen ({type(error).__name__}: {shown(error)})")
            return False
        self._saved = memory
        return True

    async def _begin(self) -> bool:
        assert self._store is not None  # noqa: S101 - for mypy
        try:
            self.memory = self._saved = await self._store.load()
        except Exception as error:  # noqa: BLE001 - Airflow would restart the watcher every two seconds
            self._tell(f"cannot read what it has seen before ({type(error).__name__}: {shown(error)})")
            return False
        self._begun = True
        return True

    def _find(self, snapshot: Snapshot) -> Integration | None:
        if not snapshot.covers((self.integration_id,)):
            # Never awaited here: the saves of all watchers on the connection would wait for it too.
            poller = Poller.running(self.conn_id)
            single = None if poller is None else poller.single_read(self.integration_id)
            if single is None:
                return None
            snapshot = single
        if self.integration_id in snapshot.unread:
            self._tell(str(snapshot.unread[self.integration_id].error))
        elif self.integration_id not in snapshot.integrations:
            self._tell(f"FloKit has no such integration (connection {self.conn_id!r}, HTTP 404). Check the id")
        return snapshot.integrations.get(self.integration_id)

    def _tell(self, trouble: str) -> None:
        """Warn of what hinders the watcher, once; the next look tries again."""
        if trouble and trouble != self._trouble:
            log.warning("The watcher of %s: %s. It goes on trying.", self.integration_id, trouble.rstrip("."))
        self._trouble = trouble
