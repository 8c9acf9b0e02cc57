"""
One poll for every wait on the same connection.

However many triggers of one event loop wait on one connection, one ``GET /v1/integrations`` per interval serves them
all. A waiter is woken when something about its own integrations changed; while nothing changes it costs nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from typing import TYPE_CHECKING, ClassVar, Final
from weakref import WeakKeyDictionary

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import (
    FlokitAPIError,
    FlokitConfigError,
    FlokitError,
    FlokitRateLimitError,
    FlokitUnreachableError,
    shown,
)
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook
from airflow_provider_flokit.triggers._turns import AT_ONCE
from airflow_provider_flokit.triggers._unlisted import Unlisted
from airflow_provider_flokit.triggers._waiter import Waiter
from airflow_provider_flokit.triggers._waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_flokit.gate.snapshot import Snapshot

log = logging.getLogger(__name__)

FRESH: Final = 1.0
"""Seconds for which an answer serves a new waiter at once."""

HURRY: Final = 5.0
"""
Seconds at least between a poll and one that comes before its time, for a waiter whose deadline has come; or the
interval, if that is shorter. It bounds what many different deadlines cost.
"""

ZERO_INTERVAL: Final = 1.0
"""Seconds between polls for who asked for none."""

PATIENCE: Final = 10.0
"""Seconds for which a connection that is not defined may be one whose secrets backend does not answer."""

LONG_PATIENCE: Final = 300.0
"""The same for a connection that was defined when the poll began."""

_SINGLE_READS: Final = 4
"""Single reads under way at once, for ids that the list does not hold."""


class Poller:
    """
    Polls one connection for all its waiters in one event loop; found by :meth:`of`.

    It starts with its first waiter and stops with its last. Failures that may pass are retried with backoff, once for
    all waiters, and end no wait; a failure for good is handed to every waiter.

    :param conn_id: The Airflow connection.
    """

    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]]] = WeakKeyDictionary()

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.trouble: FlokitAPIError | None = None
        self.undefined: FlokitConfigError | None = None
        self._loop = asyncio.get_running_loop()
        self._waiters = Waiters()
        self._unserved: dict[Waiter, None] = {}
        self._snapshot: Snapshot | None = None
        self._asked_at = 0.0  # when the present or last poll began
        self._snapshot_asked_at = 0.0  # when the poll that brought the snapshot began
        self._answered_at = 0.0
        self._not_before = 0.0  # no poll until then: backoff, or FloKit asked for it
        self._failures = 0
        self._hurried = False
        self._nudge = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._joined = False  # somebody, since the Airflow connection was read
        self._outdated = False  # it could not be read anew
        self._undefined_since = 0.0
        self._unlisted = Unlisted()
        self._wanted: set[str] = set()  # single reads for the next poll, beside those of the waiters' own ids
        self._no_read_before: dict[str, float] = {}  # no single read of an id until then: FloKit asked for it
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._single_reads = asyncio.Semaphore(_SINGLE_READS)

    @classmethod
    def of(cls, conn_id: str) -> Poller:
        """
        Return the poller of a connection in the running event loop, a new one if there is none.

        :param conn_id: The Airflow connection.
        """
        pollers = cls._all.setdefault(asyncio.get_running_loop(), {})
        poller = pollers.get(conn_id)
        if poller is None:
            poller = pollers[conn_id] = cls(conn_id)
        return poller

    def waiter(self, ids: Iterable[str], types: Iterable[str], interval: float) -> Waiter:
        """
        Make a waiter; it joins when it is entered.

        :param ids: Integration ids that matter to it.
        :param types: Integration types that matter to it.
        :param interval: Seconds between polls; the shortest one of all waiters counts.
        """
        return Waiter(self, tuple(ids), tuple(types), interval if interval > 0 else ZERO_INTERVAL)

    def listener(self, interval: float) -> Waiter:
        """
        Make a waiter that is served with every answer; it joins when it is entered.

        :param interval: As for :meth:`waiter`.
        """
        return Waiter(self, (), (), interval if interval > 0 else ZERO_INTERVAL, every=True)

    @classmethod
    def running(cls, conn_id: str) -> Poller | None:
        """
        Return the poller of a connection in the running event loop, None if there is none.

        :param conn_id: The Airflow connection.
        """
        return cls._all.get(asyncio.get_running_loop(), {}).get(conn_id)

    def single_read(self, name: str) -> Snapshot | None:
        """
        Return the last single read of an id that the list does not hold; there is one with the next poll.

        :param name: The id.
        :return: None if there was none yet
        """
        self._wanted.add(name)
        self._unlisted.unchecked.add(name)
        return self._unlisted.last(name)

    def add(self, waiter: Waiter) -> None:
        """
        Let a waiter join.

        :param waiter: Served at once if an answer is fresh, else by the next.
        """
        waiter.joined_at = self._loop.time()
        self._joined = True
        shortest = self._waiters.shortest_interval
        self._waiters.add(waiter)
        self._unlisted.unchecked.update(waiter.ids)
        if self._task is None:
            self._asked_at = waiter.joined_at
            # In a clean context: inherited, the log of every wait would go to the log of this one's task.
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())
            self._task.add_done_callback(self._ended)
        elif shortest is not None and waiter.interval < shortest:
            self._nudge.set()
        self._unserved[waiter] = None
        self._serve_if_fresh(waiter)

    def remove(self, waiter: Waiter) -> None:
        """
        Let a waiter leave; the last one stops the poll.

        :param waiter: One that joined.
        """
        self._waiters.remove(waiter)
        self._unserved.pop(waiter, None)
        if not self._waiters:
            self._forget()
            self._stop_reading()
            if self._task is not None:
                self._task.cancel()

    def refresh(self, waiter: Waiter, patience: float) -> bool:
        """
        Serve a waiter with the present state, by a poll before its time if need be; backoff is never cut short.

        :param waiter: One that joined.
        :param patience: Seconds that it will wait.
        :return: False if no poll can come within its patience
        """
        self._unserved[waiter] = None
        # What was asked for before it joined it has seen already.
        if self._snapshot_asked_at >= waiter.joined_at and self._serve_if_fresh(waiter):
            return True
        if self._not_before - self._loop.time() > patience:
            return False
        self._hurried = True
        self._nudge.set()
        return True

    def _serve_if_fresh(self, waiter: Waiter) -> bool:
        snapshot = self._snapshot
        if snapshot is None or self._loop.time() - self._answered_at >= FRESH or not snapshot.covers(waiter.ids):
            return False
        self._serve(waiter, snapshot, self._snapshot_asked_at)
        return True

    def _serve(self, waiter: Waiter, snapshot: Snapshot, asked_at: float) -> None:
        """Hand a snapshot to a waiter; if it was asked for before the waiter joined, the next one will be too."""
        stale = asked_at < waiter.joined_at
        if not stale:
            self._unserved.pop(waiter, None)
        waiter.deliver(snapshot, stale=stale)

    def _serve_whole(self, waiter: Waiter, listed: Snapshot) -> None:
        """Serve a waiter with the present list and what was read singly, if that is all it waits for."""
        whole, since = self._unlisted.added_to(listed, waiter.ids)
        if whole.covers(waiter.ids):
            self._serve(waiter, whole, min(since, self._snapshot_asked_at))

    async def _run(self) -> None:
        async with FlokitAsyncHook(self.conn_id) as hook:
            while True:
                self._nudge.clear()
                self._hurried = False
                self._asked_at = self._loop.time()
                try:
                    await self._renew(hook)
                    snapshot = await hook.observe(())
                except FlokitAPIError as error:
                    self.undefined = None
                    self._failed(error)
                except FlokitError as error:
                    if not self._may_pass(error):
                        await self._end(error)
                        return
                    self._failed(FlokitAPIError(str(error)))
                except Exception as error:
                    log.exception("Polling FloKit (connection %r) failed unexpectedly", self.conn_id)
                    self._failed(
                        FlokitAPIError(f"Polling FloKit (connection {self.conn_id!r}) failed: {type(error).__name__}.")
                    )
                else:
                    await self._publish(snapshot)
                    self._read_singly(hook, snapshot)
                await self._sleep()

    async def _renew(self, hook: FlokitAsyncHook) -> None:
        """
        Re-read the Airflow connection if it may be another one for who joined, or if it leads nowhere.

        While it cannot be looked up, it stays what it was: that is no reason to end the waits that it serves.
        """
        if not self._joined and not isinstance(self.trouble, FlokitUnreachableError):
            return
        try:
            await hook.renew()
        except FlokitConfigError as error:
            if self._snapshot is None or not error.undefined:
                raise
            if not self._outdated:
                log.warning("%s Going on with what it was.", error)
            self._outdated = True
        else:
            self._joined = self._outdated = False

    def _may_pass(self, error: FlokitError) -> bool:
        """Tell whether to wait for a connection that is not defined: maybe its secrets backend does not answer."""
        if not (isinstance(error, FlokitConfigError) and error.undefined):
            return False
        if self.undefined is None:
            self._undefined_since = self._loop.time()
        self.undefined = error
        patience = PATIENCE if self._snapshot is None else LONG_PATIENCE
        return self._loop.time() - self._undefined_since < patience

    async def _sleep(self) -> None:
        while True:
            interval = self._waiters.shortest_interval or 0.0
            if self._hurried:
                interval = min(interval, HURRY)
            left = max(self._asked_at + interval, self._not_before) - self._loop.time()
            if left <= 0:
                return
            self._nudge.clear()
            timer = self._loop.call_later(left, self._nudge.set)
            try:
                await self._nudge.wait()
            finally:
                timer.cancel()

    def _failed(self, error: FlokitAPIError) -> None:
        self._failures += 1
        pause = retry.delay(self._failures, random.random(), error.retry_after)  # noqa: S311 - jitter
        self._not_before = self._loop.time() + pause
        # The backoff is the pace now, not the interval.
        self._hurried = True
        if self.trouble is None or str(self.trouble) != str(error):
            log.warning("%s Trying again in %.1f s.", error, pause)
        self.trouble = error

    async def _publish(self, snapshot: Snapshot) -> None:
        if self.trouble is not None:
            log.info("FloKit (connection %r) answers again", self.conn_id)
        self.trouble, self.undefined, self._failures = None, None, 0
        before, self._snapshot = self._snapshot, snapshot
        self._answered_at, self._snapshot_asked_at = self._loop.time(), self._asked_at
        self._hurried = False
        concerned: dict[Waiter, None] = dict.fromkeys(w for w in self._unserved if snapshot.covers(w.ids))
        concerned.update(self._waiters.concerned(before, snapshot))
        for count, waiter in enumerate(concerned, 1):
            self._serve_whole(waiter, snapshot)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _read_singly(self, hook: FlokitAsyncHook, listed: Snapshot) -> None:
        """Read what the list does not hold, beside the polls: a slow answer to one is no delay for the others."""
        wanted = {*self._waiters.ids, *self._wanted} if self._wanted else self._waiters.ids
        self._wanted.clear()
        now = self._loop.time()
        self._no_read_before = {name: until for name, until in self._no_read_before.items() if until > now}
        for name in self._unlisted.update(listed, wanted):
            if name not in self._reading and name not in self._no_read_before:
                read = self._read_one(hook, name)
                self._reading[name] = self._loop.create_task(read, context=contextvars.Context())

    async def _read_one(self, hook: FlokitAsyncHook, name: str) -> None:
        try:
            async with self._single_reads:
                asked_at = self._loop.time()
                found = await hook.read_unlisted(name)
        except Exception:
            log.exception("Reading %s (connection %r) failed unexpectedly", shown(name), self.conn_id)
            return
        finally:
            del self._reading[name]
        if name in found.unread and isinstance(error := found.unread[name].error, FlokitAPIError):
            pause_over = self._loop.time() + retry.asked_pause(error.retry_after)
            self._no_read_before[name] = pause_over
            if isinstance(error, FlokitRateLimitError):
                self._not_before = max(self._not_before, pause_over)
                self.trouble = error
        changed = self._unlisted.note(name, found, asked_at)
        for count, waiter in enumerate(self._waiters.for_id(name), 1):
            if (changed or waiter in self._unserved) and self._snapshot is not None:
                self._serve_whole(waiter, self._snapshot)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _end(self, error: FlokitError) -> None:
        self._forget()
        self._stop_reading()
        for count, waiter in enumerate(self._waiters.everyone(), 1):
            waiter.deliver(error)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._forget()
        self._stop_reading()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The poll of FloKit (connection %r) broke", self.conn_id, exc_info=error)
            for waiter in self._waiters.everyone():
                waiter.deliver(FlokitError(f"The poll of FloKit (connection {self.conn_id!r}) broke: {error!r}"))

    def _stop_reading(self) -> None:
        for read in list(self._reading.values()):
            read.cancel()

    def _forget(self) -> None:
        pollers = self._all.get(self._loop, {})
        if pollers.get(self.conn_id) is self:
            del pollers[self.conn_id]
