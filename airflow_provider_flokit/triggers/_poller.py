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
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final, Self
from weakref import WeakKeyDictionary

from airflow_provider_flokit import retry
from airflow_provider_flokit.errors import FlokitAPIError, FlokitError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from airflow_provider_flokit.api import Snapshot
    from airflow_provider_flokit.models import Integration

log = logging.getLogger(__name__)

FRESH: Final = 1.0
"""Seconds for which an answer serves a new waiter at once."""

_BATCH: Final = 100
"""Waiters woken before the event loop gets to run something else."""


class Waiter:
    """
    One wait's place at a poller; a context manager that leaves the poller at its end.

    :param poller: The poller.
    :param ids: Integration ids that matter to this wait.
    :param types: Integration types that matter to it.
    :param interval: Seconds between polls that it asks for.
    """

    __slots__ = ("_future", "_inbox", "_poller", "ids", "interval", "types")

    def __init__(self, poller: Poller, ids: tuple[str, ...], types: tuple[str, ...], interval: float) -> None:
        self.ids = ids
        self.types = types
        self.interval = interval
        self._poller = poller
        self._inbox: Snapshot | FlokitError | None = None
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Join the poller."""
        self._poller.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the poller."""
        self._poller.remove(self)

    @property
    def trouble(self) -> FlokitAPIError | None:
        """Why the last poll failed; None if it did not."""
        return self._poller.trouble

    async def next(self, timeout: float) -> Snapshot | FlokitError | None:  # noqa: ASYNC109 - a sleep, not a guard
        """
        Wait for news of this wait's integrations.

        :param timeout: Seconds to wait at most.
        :return: a snapshot; the error that ended the poll for good; None if there was no news in time
        """
        if self._inbox is None:
            loop = asyncio.get_running_loop()
            self._future = loop.create_future()
            timer = loop.call_later(max(timeout, 0.0), self._wake)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        news, self._inbox = self._inbox, None
        return news

    async def refreshed(self, timeout: float) -> Snapshot | FlokitError | None:  # noqa: ASYNC109 - as above
        """
        Get the present state even if nothing changed; a new poll serves all that ask at the same time.

        :param timeout: Seconds to wait at most.
        :return: as :meth:`next`
        """
        self._poller.refresh(self)
        return await self.next(timeout)

    def deliver(self, news: Snapshot | FlokitError) -> None:
        """
        Take news and wake up.

        :param news: A snapshot, or the error that ended the poll for good.
        """
        self._inbox = news
        self._wake()

    def give_up(self) -> None:
        """Wake up without news: the poll that was asked for failed."""
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


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
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[str, dict[Waiter, None]] = {}
        self._by_type: dict[str, dict[Waiter, None]] = {}
        self._unserved: dict[Waiter, None] = {}
        self._refreshing: dict[Waiter, None] = {}
        self._intervals: Counter[float] = Counter()
        self._snapshot: Snapshot | None = None
        self._answered_at = 0.0
        self._started_at = 0.0
        self._backoff = 0.0
        self._failures = 0
        self._hurried = False
        self._nudge = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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
        return Waiter(self, tuple(ids), tuple(types), interval)

    def add(self, waiter: Waiter) -> None:
        """
        Let a waiter join.

        :param waiter: Served at once if an answer is fresh, else by the next.
        """
        for name in waiter.ids:
            self._by_id.setdefault(name, {})[waiter] = None
        for name in waiter.types:
            self._by_type.setdefault(name, {})[waiter] = None
        shortest = min(self._intervals, default=None)
        self._intervals[waiter.interval] += 1
        if self._task is None:
            # In a clean context: inherited, the log of every wait would go to the log of this one's task.
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())
            self._task.add_done_callback(self._ended)
        self._serve_or_queue(waiter)
        if shortest is not None and waiter.interval < shortest:
            self._nudge.set()

    def remove(self, waiter: Waiter) -> None:
        """
        Let a waiter leave; the last one stops the poll.

        :param waiter: One that joined.
        """
        for index, names in ((self._by_id, waiter.ids), (self._by_type, waiter.types)):
            for name in names:
                waiters = index.get(name, {})
                waiters.pop(waiter, None)
                if not waiters:
                    index.pop(name, None)
        self._unserved.pop(waiter, None)
        self._refreshing.pop(waiter, None)
        self._intervals[waiter.interval] -= 1
        self._intervals += Counter()
        if not self._intervals:
            self._forget()
            if self._task is not None:
                self._task.cancel()

    def refresh(self, waiter: Waiter) -> None:
        """
        Serve a waiter with the present state; polls anew unless the last answer is fresh or FloKit asked to wait.

        :param waiter: One that joined.
        """
        if self._serve_or_queue(waiter):
            return
        if self.trouble is not None and self.trouble.retry_after:
            waiter.give_up()
            return
        self._refreshing[waiter] = None
        self._hurried = True
        self._nudge.set()

    def _serve_or_queue(self, waiter: Waiter) -> bool:
        snapshot = self._snapshot
        fresh = self._loop.time() - self._answered_at < FRESH
        if snapshot is not None and fresh and snapshot.covers(waiter.ids):
            waiter.deliver(snapshot)
            return True
        self._unserved[waiter] = None
        return False

    async def _run(self) -> None:
        async with FlokitAsyncHook(self.conn_id) as hook:
            while True:
                self._nudge.clear()
                self._hurried = False
                self._started_at = self._loop.time()
                try:
                    snapshot = await hook.observe(tuple(self._by_id))
                except FlokitAPIError as error:
                    self._failed(error)
                except FlokitError as error:
                    await self._end(error)
                    return
                except Exception as error:
                    log.exception("Polling FloKit (connection %r) failed unexpectedly", self.conn_id)
                    self._failed(
                        FlokitAPIError(f"Polling FloKit (connection {self.conn_id!r}) failed: {type(error).__name__}.")
                    )
                else:
                    await self._publish(snapshot)
                await self._sleep()

    async def _sleep(self) -> None:
        while not self._hurried:
            interval = self._backoff or min(self._intervals, default=0.0)
            left = self._started_at + interval - self._loop.time()
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
        self._backoff = self._loop.time() - self._started_at + pause
        if self.trouble is None or str(self.trouble) != str(error):
            log.warning("%s Trying again in %.1f s.", error, pause)
        self.trouble = error
        self._give_up_refreshing()

    def _give_up_refreshing(self) -> None:
        refreshing, self._refreshing = self._refreshing, {}
        self._hurried = False
        for waiter in refreshing:
            waiter.give_up()

    async def _publish(self, snapshot: Snapshot) -> None:
        if self.trouble is not None:
            log.info("FloKit (connection %r) answers again", self.conn_id)
        self.trouble, self._failures, self._backoff = None, 0, 0.0
        before, self._snapshot = self._snapshot, snapshot
        self._answered_at = self._loop.time()
        concerned: dict[Waiter, None] = {}
        if before is not None:
            for integration_id, kinds in _changes(before, snapshot):
                concerned.update(self._by_id.get(integration_id, {}))
                for kind in kinds:
                    concerned.update(self._by_type.get(kind, {}))
        unserved, self._unserved = self._unserved, {}
        for waiter in unserved:
            if snapshot.covers(waiter.ids):
                concerned[waiter] = None
                self._refreshing.pop(waiter, None)
            else:
                self._unserved[waiter] = None
        self._give_up_refreshing()
        await self._deliver(concerned, snapshot)

    async def _end(self, error: FlokitError) -> None:
        self._forget()
        await self._deliver(self._everyone(), error)

    def _everyone(self) -> dict[Waiter, None]:
        everyone: dict[Waiter, None] = {}
        for waiters in (*self._by_id.values(), *self._by_type.values()):
            everyone.update(waiters)
        return everyone

    async def _deliver(self, waiters: dict[Waiter, None], news: Snapshot | FlokitError) -> None:
        for count, waiter in enumerate(waiters, 1):
            waiter.deliver(news)
            if count % _BATCH == 0:
                await asyncio.sleep(0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._forget()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The poll of FloKit (connection %r) broke", self.conn_id, exc_info=error)
            for waiter in self._everyone():
                waiter.deliver(FlokitError(f"The poll of FloKit (connection {self.conn_id!r}) broke: {error!r}"))

    def _forget(self) -> None:
        pollers = self._all.get(self._loop, {})
        if pollers.get(self.conn_id) is self:
            del pollers[self.conn_id]


def _changes(before: Snapshot, now: Snapshot) -> Iterable[tuple[str, set[str]]]:
    """Yield the ids of which something changed, with the types they had and have."""
    for integration_id in before.integrations.keys() | now.integrations.keys():
        old: Integration | None = before.integrations.get(integration_id)
        new: Integration | None = now.integrations.get(integration_id)
        if old is not new and old != new:
            yield integration_id, {i.type for i in (old, new) if i is not None}
    for integration_id in now.missing - before.missing:
        yield integration_id, set()
    for integration_id in now.unread.keys() - before.unread.keys():
        yield integration_id, set()
