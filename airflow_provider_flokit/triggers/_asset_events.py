"""
Asset watchers: turn the poller's results into events.

A watcher compares each result with its memory. From Airflow 3.3 it saves its memory in the asset state store, as soon
as its events are in Airflow's database. If the triggerer is killed, an earlier save would lose events, and a later save
would repeat them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

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
"""The events for each value of a watcher's ``on``."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a watcher remembers: the latest success that it saw, and the error if the integration is in error."""

    last_synced_at: datetime | None
    error: str | None

    @classmethod
    def from_json(cls, data: object) -> Memory | None:
        """Read what :meth:`to_json` wrote; None if it is something else, e.g. edited by hand."""
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
    Return the new memory, and the events since the last look: a success before a failure.

    ``synced``: ``last_synced_at`` is later than in the memory. ``error``: the status is error, and the error is
    not the one in the memory, or a sync has succeeded in between. An answer that is older than the memory changes
    nothing. The first look, without a memory, makes no event.
    """
    error = shown(now.error_message or "") if now.status == IntegrationStatus.ERROR else None
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


class Watcher:
    """One watcher; its memory is in the asset state store, or, if it has none, ends with the triggerer."""

    def __init__(self, integration_id: str, conn_id: str, on: str, store: Any = None) -> None:
        self.integration_id = integration_id
        self.conn_id = conn_id
        self.on = on
        self.memory: Memory | None = None
        self._key = f"flokit/{on}/{conn_id}/{integration_id}"
        self._store = store
        self._saved: Memory | None = None
        self._begun = store is None
        self._troubles: dict[str, str] = {}

    async def look(self, result: Snapshot | FlokitError) -> list[dict[str, Any]]:
        """Compare the result of a poll with the memory, and return the payloads of the events in order."""
        try:
            now = self._find(result)
            if not self._begun:
                await self._begin()
        except FlokitError as error:
            self._tell("looking", str(error))
            return []
        self._tell("looking", "")
        before = self.memory
        self.memory, events = compare(before, now, self.on)
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

    async def save(self, memory: Memory | None) -> None:
        """Save a memory whose events are all in Airflow's database; if that fails, the next delivery tries again."""
        if self._store is None or memory is None or memory == self._saved:
            return
        try:
            await self._store.aset(self._key, memory.to_json())
        except Exception as error:  # Airflow would end all watchers of the connection
            self._tell("saving", f"what it has seen cannot be saved ({type(error).__name__}: {shown(error)})")
        else:
            self._tell("saving", "")
            self._saved = memory

    def _find(self, result: Snapshot | FlokitError) -> Integration:
        if isinstance(result, FlokitError):
            raise result
        return result.of_id(self.integration_id, self.conn_id)

    async def _begin(self) -> None:
        """Read the saved memory; if two assets share this trigger, Airflow refuses the store, so go on without it."""
        try:
            self.memory = self._saved = Memory.from_json(await self._store.aget(self._key))
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
            what = f"{type(error).__name__}: {shown(error)}"
            raise FlokitError(f"what it has seen before cannot be read ({what})") from error
        self._begun = True

    def _tell(self, doing: str, trouble: str) -> None:
        """Log a problem once for each cause, and when it is over."""
        who = f"The watcher of {self.integration_id} (connection {self.conn_id!r})"
        before, self._troubles[doing] = self._troubles.get(doing, ""), trouble
        if trouble and trouble != before:
            log.error("%s is stuck, and goes on trying: %s", who, trouble)
        elif before and not trouble:
            log.info("%s works again.", who)


@dataclass(slots=True)
class Delivery:
    """One result of the poll, and the memory that each watcher saves as soon as its events are in the database."""

    number: int
    result: Snapshot | FlokitError
    memories: dict[Watcher, Memory | None] = field(default_factory=dict)


class WorkspaceStream(SharedStreamProducer):
    """Sends every result of the shared poll to all watchers on a connection, in ack mode."""

    def __init__(self, conn_id: str, interval: float) -> None:
        self._conn_id = conn_id
        self._interval = interval
        self._sent = 0
        self._doubted = 0  # deliveries up to this number save nothing

    async def open_stream(self) -> AsyncIterator[tuple[Delivery, Delivery]]:
        """Yield each result twice: as the event, and as the item that :meth:`advance` gets back."""
        async for result in Poller.of(self._conn_id).results(self._interval):
            self._sent += 1
            delivery = Delivery(self._sent, result)
            yield delivery, delivery

    async def advance(self, batch: Sequence[Any]) -> None:
        """
        Save the watchers' memories after deliveries that all watchers have processed.

        If a watcher failed on a result, its events may not be in the database, and which watcher it was is not known.
        Then no delivery that was sent until now saves a memory; the next one, which a failed watcher never gets, does.
        """
        memories: dict[Watcher, Memory | None] = {}
        for delivery, outcome in batch:
            if not outcome.is_clean:
                self._doubted = self._sent
            elif delivery.number > self._doubted:
                memories |= delivery.memories
        for watcher, memory in memories.items():
            await watcher.save(memory)
