"""
One poll for all waits on the same connection.

In one event loop, one ``GET /v1/integrations`` per interval serves all waits on a connection. The poller judges the
waits. A wait costs nothing while its integrations do not change, and it never sees a poll from before it joined.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import random
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitAPIError, FlokitError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator

    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.gate.wait import Outcome, Wait
    from airflow_provider_flokit.models import Integration

log = logging.getLogger(__name__)

AT_ONCE: Final = 20
"""Waits that are served in one round of the event loop; the others follow in the next rounds."""

_SHORTEST: Final = 1.0
"""Least seconds between the beginnings of two polls, unless a shorter interval was asked for."""

_LATE: Final = 5.0
"""Seconds past its deadline at which a wait ends without another look, if the last poll failed."""

_SINGLE_READS: Final = 4  # at once

_LONGEST_PAUSE: Final = 3600.0  # a very long Retry-After must not stop a watcher for days
_NEVER: Final = float("-inf")


@dataclass(eq=False, slots=True)
class Place:
    """One wait's place at the poller, and the future of its outcome."""

    wait: Wait
    interval: float
    joined_at: float
    context: contextvars.Context
    future: asyncio.Future[Outcome]
    looked: bool = False


class Poller:
    """
    Polls one connection for all its waits in one event loop; :meth:`of` returns it.

    It polls from the first wait or watcher to the last. If a poll fails, the poller tells every wait and tries again
    with backoff. Each wait decides whether the failure ends it.
    """

    _all: ClassVar[dict[asyncio.AbstractEventLoop, dict[str, Poller]]] = {}

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._intervals: Counter[float] = Counter()
        self._ids: Counter[str] = Counter()  # that a snapshot must have
        self._places: dict[Place, None] = {}  # in the order in which they joined
        self._timers: list[tuple[float, int, Place]] = []  # the next heartbeat, or the deadline
        self._numbers = itertools.count()
        self._listeners: dict[asyncio.Queue[Snapshot | FlokitError], None] = {}
        self._snapshot: Snapshot | None = None
        self._trouble: FlokitError | None = None
        self._failures = 0
        self._hurry = False  # poll now: a wait has had no look yet, or has reached its deadline
        self._began_at = self._backed_off_until = self._asked_to_pause_until = _NEVER
        self._good_at = 0.0

    @classmethod
    def of(cls, conn_id: str) -> Poller:
        """Return the poller of a connection in the running event loop; make one if there is none."""
        for loop in [loop for loop in cls._all if loop.is_closed()]:
            del cls._all[loop]
        pollers = cls._all.setdefault(asyncio.get_running_loop(), {})
        if conn_id not in pollers:
            pollers[conn_id] = cls(conn_id)
        return pollers[conn_id]

    def join(self, wait: Wait, interval: float, *, hurry: bool) -> Place:
        """
        Judge a wait until it is over. The caller awaits the future of the returned place, then calls :meth:`leave`.

        :param wait: The wait.
        :param interval: Seconds between polls; the shortest interval of all waits counts.
        :param hurry: Whether to poll now, because the wait has had no look yet.
        """
        place = Place(wait, interval, time.monotonic(), contextvars.copy_context(), self._loop.create_future())
        self._begin(interval, wait.conditions.ids)
        self._places[place] = None
        self._hurry = self._hurry or hurry
        self._set_timer(place)
        if (trouble := self._trouble) is not None and time.monotonic() < self._asked_to_pause_until:
            self._act(place, lambda: wait.trouble(trouble))  # there is no poll to tell it
        return place

    def leave(self, place: Place) -> None:
        """Stop to judge a wait, whether it is over or not."""
        self._places.pop(place, None)
        self._end(place.interval, place.wait.conditions.ids)

    async def results(self, interval: float) -> AsyncIterator[Snapshot | FlokitError]:
        """Yield the result of every poll, also if nothing changed; a slow reader gets only the latest."""
        queue: asyncio.Queue[Snapshot | FlokitError] = asyncio.Queue()
        self._begin(interval, ())
        self._listeners[queue] = None
        try:
            while True:
                result = await queue.get()
                while not queue.empty():
                    result = queue.get_nowait()
                yield result
        finally:
            del self._listeners[queue]
            self._end(interval, ())

    @contextmanager
    def reading(self, ids: Collection[str]) -> Iterator[None]:
        """Include integrations in every snapshot, also if they are not in the list."""
        self._ids.update(ids)
        try:
            yield
        finally:
            self._ids.subtract(ids)

    def _begin(self, interval: float, ids: Collection[str]) -> None:
        """Poll at this interval or a shorter one from now on; the first call starts the poller."""
        self._intervals[interval or _SHORTEST] += 1
        self._ids.update(ids)
        self._wake.set()
        if self._task is None:
            if self._backed_off_until < time.monotonic():
                self._failures = 0
            # In an empty context: with this task's context, the poller would log to this task's log.
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())
            self._task.add_done_callback(self._ended)

    def _end(self, interval: float, ids: Collection[str]) -> None:
        """Undo :meth:`_begin`; the last call stops the poller, which remembers when it may ask again."""
        self._ids.subtract(ids)
        self._intervals[interval or _SHORTEST] -= 1
        if not +self._intervals and self._task is not None:
            task, self._task, self._snapshot = self._task, None, None
            self._timers.clear()
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:
            return
        self._task = None
        for place in self._places:
            if not place.future.done():
                place.future.set_exception(FlokitError(f"The poll of FloKit (connection {self.conn_id!r}) broke."))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The poll of FloKit (connection %r) broke", self.conn_id, exc_info=error)

    async def _run(self) -> None:
        async with FlokitAsyncHook(self.conn_id) as hook:
            while True:
                await self._sleep()
                began, self._hurry = time.monotonic(), False
                self._began_at = began
                try:
                    snapshot = await self._poll(hook)
                except FlokitError as error:
                    await self._failed(error, began)
                except Exception as error:
                    log.exception("Polling FloKit (connection %r) failed unexpectedly", self.conn_id)
                    await self._failed(FlokitAPIError(f"Polling FloKit failed: {type(error).__name__}."), began)
                else:
                    await self._publish(snapshot, began)

    async def _sleep(self) -> None:
        """Sleep until the next poll; serve the heartbeats and deadlines that come before it."""
        while True:
            self._wake.clear()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                self._ring(heapq.heappop(self._timers)[2], now)
            due = self._backed_off_until
            if not self._failures:
                due = self._began_at + min(+self._intervals, default=_SHORTEST)
            if self._hurry:
                due = min(due, self._began_at + _SHORTEST)
            due = max(due, self._asked_to_pause_until)
            if due <= now:
                return
            until = min(due, self._timers[0][0]) if self._timers else due
            timer = self._loop.call_later(until - now, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    def _set_timer(self, place: Place) -> None:
        due = min(place.wait.deadline, place.wait.heartbeat_at)
        heapq.heappush(self._timers, (due, next(self._numbers), place))

    def _ring(self, place: Place, now: float) -> None:
        """Serve a wait's timer."""
        if place.future.done():
            return
        if place.wait.deadline > now:
            self._act(place, place.wait.heartbeat)
            self._set_timer(place)
        elif self._asked_to_pause_until > now:
            self._act(place, place.wait.timed_out)
        else:
            self._hurry = True

    async def _poll(self, hook: FlokitAsyncHook) -> Snapshot:
        """Read the list, then read what is not in it one by one, a few at once."""
        listed = await hook.observe(())
        wanted = [i for i, count in self._ids.items() if count > 0 and i not in listed.integrations]
        some = asyncio.Semaphore(_SINGLE_READS)

        async def read(integration_id: str) -> Integration | FlokitError | None:
            try:
                async with some:
                    return await hook.read_singly(integration_id)
            except FlokitError as error:  # it hung: the others still get the list
                return error

        found = await asyncio.gather(*map(read, wanted))
        return listed.with_singles(dict(zip(wanted, found, strict=True)))

    async def _failed(self, error: FlokitError, began: float) -> None:
        """Tell all waits that a poll failed, and decide when to try again."""
        now = time.monotonic()
        self._failures += 1
        asked = error.retry_after if isinstance(error, FlokitAPIError) else None
        pause = min(retry.delay(self._failures, random.random(), asked), _LONGEST_PAUSE)
        self._backed_off_until = now + pause
        self._asked_to_pause_until = now + min(asked or 0.0, _LONGEST_PAUSE)
        if isinstance(error, FlokitAPIError):
            self._good_at = now
        self._trouble = error

        def tell(place: Place) -> None:
            if place.joined_at > began:
                return
            wait = place.wait
            self._act(place, lambda: wait.trouble(error, self._good_at))
            late = time.monotonic() - wait.deadline
            # The poll was the last look if it began after the deadline, or ended long after it.
            if late >= 0 and (began >= wait.deadline or late > _LATE) and not place.future.done():
                self._act(place, wait.timed_out)

        await self._serve(error, list(self._places), tell)

    async def _publish(self, snapshot: Snapshot, began: float) -> None:
        """Give a snapshot to the waits that it concerns."""
        before, self._snapshot = self._snapshot, snapshot
        everybody = before is None or before.malformed != snapshot.malformed or self._trouble is not None
        changed = set() if before is None else snapshot.changed_since(before)
        self._trouble, self._failures, self._good_at = None, 0, time.monotonic()
        self._asked_to_pause_until = _NEVER

        def is_concerned(place: Place) -> bool:
            wait, what = place.wait, place.wait.conditions
            if place.joined_at > began:
                return False
            if everybody or not place.looked or wait.changes_with_time or wait.deadline <= began:
                return True
            return not changed.isdisjoint(what.ids) or not changed.isdisjoint(what.types)

        def look(place: Place) -> None:
            wait, place.looked = place.wait, True
            self._act(place, lambda: wait.look(snapshot, last=wait.deadline <= began))

        await self._serve(snapshot, filter(is_concerned, list(self._places)), look)

    async def _serve(
        self, result: Snapshot | FlokitError, places: Iterable[Place], serve: Callable[[Place], None]
    ) -> None:
        """Serve waits in batches, so that the event loop can do other work in between; then serve the listeners."""
        for count, place in enumerate(places, 1):
            if not place.future.done():
                serve(place)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        for queue in self._listeners:
            queue.put_nowait(result)

    @staticmethod
    def _act(place: Place, act: Callable[[], Outcome | None]) -> None:
        """Do something for a wait in its task's logging context; its failure does not disturb other waits."""
        try:
            outcome = place.context.run(act)
        except Exception as error:  # the trigger reports it
            place.future.set_exception(error)
        else:
            if outcome is not None:
                place.future.set_result(outcome)
