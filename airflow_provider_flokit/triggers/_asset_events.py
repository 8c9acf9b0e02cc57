"""
Asset watchers: from the poller's results to events, with a memory that outlives the triggerer.

A watcher compares each result with what it remembers. Where Airflow has an asset state store (3.3 and later), that is
saved there only once its events are known to be in Airflow's database: saved earlier, an event is lost with the
triggerer; later, repeated.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_flokit.errors import FlokitError, shown
from airflow_provider_flokit.models import IntegrationStatus, MalformedDataError, parse_time, timestamp
from airflow_provider_flokit.triggers._poller import Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.models import Integration

if AIRFLOW_V_3_3_PLUS:
    from airflow.triggers.shared_stream import SharedStreamProducer
else:
    SharedStreamProducer = object  # type: ignore[assignment, misc]

log = logging.getLogger(__name__)

WATCHED: Final = {"synced": ("synced",), "error": ("error",), "any": ("synced", "error")}
"""The events that each value of a watcher's ``on`` asks for."""

_STORE_PATIENCE: Final = 10.0
"""Seconds that the asset state store has to answer; the next poll asks again."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a watcher remembers: the latest success that it saw, and what is wrong if the integration is in error."""

    last_synced_at: datetime | None
    error: str | None

    @classmethod
    def from_json(cls, data: object) -> Memory | None:
        """Read what :meth:`to_json` wrote; None if it is something else, as a store may be edited by hand."""
        try:
            time, error = data["last_synced_at"], data["error"]  # type: ignore[index]
            return cls(None if time is None else parse_time(time), error)
        except (KeyError, TypeError, MalformedDataError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the memory as JSON values."""
        return {"last_synced_at": timestamp(self.last_synced_at), "error": self.error}


def compare(before: Memory | None, now: Integration, on: str) -> tuple[Memory, tuple[str, ...]]:
    """
    Return what to remember from now on, and what has happened since the last look, the success before the failure.

    ``synced``: ``last_synced_at`` has moved past what is remembered. ``error``: the status is error, and the error is
    another than the one remembered, or a sync has succeeded in between. An answer from before what is remembered
    changes nothing, and the first look only sets the mark.

    :param before: What is remembered; None at the first look.
    :param on: A key of :data:`WATCHED`; nothing else is remembered, so that nothing else needs saving.
    """
    error = None
    if now.status == IntegrationStatus.ERROR and "error" in WATCHED[on]:
        error = shown(now.error_message or "")
    memory = Memory(now.last_synced_at, error)
    if before is None:
        return memory, ()
    then = before.last_synced_at
    if then is not None and (now.last_synced_at is None or now.last_synced_at < then):
        return before, ()
    synced = now.last_synced_at != then
    failed = error is not None and (synced or error != before.error)
    happened = {"synced": synced, "error": failed}
    return memory, tuple(event for event in WATCHED[on] if happened[event])


def store_key(integration_id: str, conn_id: str, on: str) -> str:
    """Return the key under which a watcher's memory is in the asset state store."""
    return f"flokit/{on}/{conn_id}/{integration_id}"[:512]  # as long as Airflow allows


class Watcher:
    """
    One watcher at work.

    :param on: What to tell of: ``synced``, ``error`` or ``any``.
    :param store: The asset state store, where it remembers; None: nowhere, so that it begins anew with the triggerer.
    """

    def __init__(self, integration_id: str, conn_id: str, on: str, store: Any = None) -> None:
        self.integration_id = integration_id
        self.conn_id = conn_id
        self.on = on
        self._key = store_key(integration_id, conn_id, on)
        self._store = store
        self._memory: Memory | None = None
        self._saved: Memory | None = None
        self._begun = store is None
        self._troubles: dict[str, str] = {}

    async def look(self, result: Snapshot | FlokitError) -> list[dict[str, Any]]:
        """Compare what a poll brought with what is remembered, and return the payloads of what happened, in order."""
        try:
            now = self._found(result)
        except FlokitError as error:
            self._tell("looking", str(error))
            return []
        if not self._begun and not await self._begin():
            return []
        self._tell("looking", "")
        before = self._memory
        self._memory, events = compare(before, now, self.on)
        if before is None:
            log.info("Watching %s, last synced %s.", self.integration_id, timestamp(now.last_synced_at) or "never")
            return []
        state = now.to_json()
        return [
            {
                "event": event,
                "integration_id": now.id,
                "last_synced_at": state["last_synced_at"],
                "previous_synced_at": timestamp(before.last_synced_at),
                "error_message": state["error_message"],
                "integration": state,
            }
            for event in events
        ]

    @property
    def unsaved(self) -> Memory | None:
        """What is remembered and not saved yet."""
        return None if self._store is None or self._memory == self._saved else self._memory

    async def save(self, memory: Memory) -> bool:
        """Save what was :attr:`unsaved` when all events until then were in Airflow's database; tell whether it is."""
        if self._store is None or memory == self._saved:
            return True
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                await self._store.aset(self._key, memory.to_json())
        except Exception as error:  # Airflow would end all watchers of the connection
            self._tell("saving", f"what it has seen cannot be saved ({type(error).__name__}: {shown(error)})")
            return False
        self._tell("saving", "")
        self._saved = memory
        return True

    def _found(self, result: Snapshot | FlokitError) -> Integration:
        if isinstance(result, FlokitError):
            raise result
        return result.of_id(self.integration_id, self.conn_id)

    async def _begin(self) -> bool:
        """Read what was saved; without the store if two assets share this trigger, which its accessor refuses."""
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                self._memory = self._saved = Memory.from_json(await self._store.aget(self._key))
        except ValueError as error:
            log.warning(
                "The watcher of %s (connection %r) goes on without Airflow's asset state store, so what it has seen "
                "ends with the triggerer: %s. If two assets have the same trigger, let its arguments differ.",
                self.integration_id,
                self.conn_id,
                shown(error),
            )
            self._store = None
        except Exception as error:  # Airflow would restart the watcher every two seconds
            self._tell("looking", f"what it has seen before cannot be read ({type(error).__name__}: {shown(error)})")
            return False
        self._begun = True
        return True

    def _tell(self, doing: str, trouble: str) -> None:
        """Tell of what hinders the watcher at something, once for each cause, and when it is over."""
        who = f"The watcher of {self.integration_id} (connection {self.conn_id!r})"
        before = self._troubles.pop(doing, "")
        if trouble:
            self._troubles[doing] = trouble
        if trouble and trouble != before:
            log.error("%s is stuck, and goes on trying: %s", who, trouble)
        elif before and not trouble:
            log.info("%s works again.", who)


@dataclass(slots=True)
class Delivery:
    """One result of the poll on its way through the watchers, and what each wants saved once its events are safe."""

    number: int
    result: Snapshot | FlokitError
    saves: list[tuple[Watcher, Memory]] = field(default_factory=list)


class WorkspaceStream(SharedStreamProducer):
    """Brings every result of the shared poll to all watchers on a connection, in ack mode."""

    def __init__(self, conn_id: str, interval: float) -> None:
        self._conn_id = conn_id
        self._interval = interval
        self._sent = 0
        # By watcher: the deliveries up to this one save nothing for it.
        self._doubted: WeakKeyDictionary[Watcher, int] = WeakKeyDictionary()

    async def open_stream(self) -> AsyncIterator[tuple[Delivery, Delivery]]:
        """Yield each result, as the event and as what :meth:`advance` will get back."""
        async for result in Poller.of(self._conn_id).results(self._interval):
            self._sent += 1
            delivery = Delivery(self._sent, result)
            yield delivery, delivery

    async def advance(self, batch: Sequence[Any]) -> None:
        """
        Save what the watchers have seen.

        A watcher may have failed on a result, its events stored or not: then nothing of it is saved from those under
        way. Whoever goes on wants it saved with the next result again.

        :param batch: Deliveries that all watchers are done with, in order, each with its outcome.
        """
        latest: dict[Watcher, Memory] = {}
        for delivery, outcome in batch:
            for watcher, memory in delivery.saves:
                if not outcome.is_clean:
                    self._doubted[watcher] = self._sent
                    latest.pop(watcher, None)
                elif delivery.number > self._doubted.get(watcher, 0):
                    latest[watcher] = memory
        for watcher, memory in latest.items():
            # If the store is away, each would wait for it; the next result tries again.
            if not await watcher.save(memory):
                return
