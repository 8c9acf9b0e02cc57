"""
One poll for all waits on the same connection.

In one event loop, one ``GET /v1/integrations`` per interval serves all waits on a connection. The poller judges the
waits. A wait costs nothing while its integrations do not change, and it never sees a poll from before it joined.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import random
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from airflow_provider_flokit.api.retry import Backoff
from airflow_provider_flokit.errors import FlokitAPIError, FlokitError
from airflow_provider_flokit.gate.decision import depends_on_time
from airflow_provider_flokit.gate.wait import Wait
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, not_in_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator

    from airflow_provider_flokit.gate.snapshot import Snapshot
    from airflow_provider_flokit.gate.wait import Outcome
    from airflow_provider_flokit.models import Integration

log = logging.getLogger(__name__)

AT_ONCE: Final = 20
"""Waits that are served in one round of the event loop; the others follow in the next rounds."""

_SHORTEST: Final = 1.0
"""Least seconds between the beginnings of two polls, unless a shorter interval was asked for."""

_SINGLE_READS: Final = 4  # at once
_SINGLES_PATIENCE: Final = 30.0
"""Seconds that all single reads of a poll may take together."""


@dataclass(eq=False, slots=True)
class Place:
    """One wait's place at the poller, and the future of its outcome."""

    wait: Wait
    interval: float
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
        self._listeners: dict[asyncio.Queue[Snapshot | FlokitError], None] = {}
        self._snapshot: Snapshot | None = None
        self._trouble: FlokitError | None = None  # of the last poll
        self._backoff = Backoff()
        self._hurry = False  # poll now: a wait has had no look yet, or has reached its deadline
        self._began_at = -math.inf
        self._ring_at = math.inf  # when the next heartbeat or deadline is due

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

        The shortest interval of all waits counts. With ``hurry``, poll now: the wait has had no look yet.
        """
        wait.deadline = max(wait.deadline, time.monotonic())  # one look, also if it passed while no triggerer ran
        place = Place(wait, interval, contextvars.copy_context(), self._loop.create_future())
        self._places[place] = None
        self._ring_at = min(self._ring_at, wait.deadline, wait.heartbeat_at)
        self._hurry = self._hurry or hurry
        self._begin(interval, wait.conditions.ids)
        if (trouble := self._trouble) is not None and time.monotonic() < self._backoff.asked_until:
            self._act(place, lambda wait: wait.trouble(trouble))  # there is no poll to tell it
        return place

    def leave(self, place: Place) -> None:
        """Stop to judge a wait, whether it is over or not."""
        del self._places[place]
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
            if self._backoff.next_at < time.monotonic():
                self._backoff = Backoff()
            # In an empty context: with this task's context, the poller would log to this task's log.
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())

    def _end(self, interval: float, ids: Collection[str]) -> None:
        """Undo :meth:`_begin`; the last call stops the poller, which remembers when it may ask again."""
        self._ids.subtract(ids)
        self._intervals[interval or _SHORTEST] -= 1
        if not +self._intervals and self._task is not None:
            self._task.cancel()
            self._task = self._snapshot = None

    async def _run(self) -> None:
        async with FlokitAsyncHook(self.conn_id) as hook:
            while True:
                await self._sleep()
                self._began_at, self._hurry = time.monotonic(), False
                places = list(self._places)  # who joins later must not see this poll
                try:
                    await self._publish(await self._poll(hook), places)
                except FlokitError as error:
                    await self._failed(error, places)
                except Exception as error:  # a bug must not leave all waits without a poll
                    log.exception("Polling FloKit (connection %r) failed unexpectedly", self.conn_id)
                    await self._failed(FlokitAPIError(f"Polling FloKit failed: {type(error).__name__}."), places)

    async def _sleep(self) -> None:
        """Sleep until the next poll is due; serve the heartbeats and deadlines that come before it."""
        while True:
            self._wake.clear()
            now = time.monotonic()
            if self._ring_at <= now:
                self._ring(now)
            due = self._backoff.next_at
            if not self._backoff.failures:
                due = self._began_at + min(+self._intervals)
            if self._hurry:
                due = min(due, self._began_at + _SHORTEST)
            due = max(due, self._backoff.asked_until)
            if due <= now:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(due, self._ring_at) - now):
                    await self._wake.wait()

    def _ring(self, now: float) -> None:
        """Serve the heartbeats and deadlines that are due; as this looks at all waits, once a second is enough."""
        next_at = math.inf
        for place in self._places:
            wait = place.wait
            if wait.deadline > now:
                if wait.heartbeat_at <= now:
                    self._act(place, Wait.heartbeat)
                next_at = min(next_at, wait.deadline, wait.heartbeat_at)
            elif self._backoff.asked_until > now:
                self._act(place, Wait.timed_out)
            else:
                self._hurry = True
        self._ring_at = max(next_at, now + 1.0)

    async def _poll(self, hook: FlokitAsyncHook) -> Snapshot:
        """Read the list, then read what is not in it one by one, a few at once."""
        listed = await hook.observe(())
        wanted = [i for i, count in self._ids.items() if count > 0 and i not in listed.integrations]
        random.shuffle(wanted)  # else reads that hang would keep the same others from being read in each poll
        some, until = asyncio.Semaphore(_SINGLE_READS), self._loop.time() + _SINGLES_PATIENCE

        async def read(integration_id: str) -> Integration | FlokitError:
            try:
                async with asyncio.timeout_at(until), some:
                    return await hook.read_singly(integration_id)
            except TimeoutError:
                return not_in_time(integration_id, self.conn_id)
            except FlokitError as error:  # it hung: the others still get the list
                return error

        found = await asyncio.gather(*map(read, wanted))
        return listed.with_singles(dict(zip(wanted, found, strict=True)))

    async def _failed(self, error: FlokitError, places: list[Place]) -> None:
        """Tell all waits that a poll failed, and decide when to try again."""
        self._trouble, self._snapshot = error, None  # the next snapshot concerns everybody
        self._backoff.add(error)
        if isinstance(error, FlokitAPIError):
            places = list(self._places)  # it ends no wait, so who has joined since is told too

        def tell(wait: Wait) -> Outcome | None:
            return wait.trouble(error) or (wait.timed_out() if wait.deadline <= self._began_at else None)

        await self._serve(error, places, tell)

    async def _publish(self, snapshot: Snapshot, places: list[Place]) -> None:
        """Give a snapshot to the waits that it concerns."""
        before, self._snapshot = self._snapshot, snapshot
        everybody = before is None or before.malformed != snapshot.malformed
        changed = set() if before is None else snapshot.changed_since(before)
        self._trouble, self._backoff = None, Backoff()

        def is_concerned(place: Place) -> bool:
            wait, what = place.wait, place.wait.conditions
            if everybody or not place.looked or wait.deadline <= self._began_at:
                return True
            has_news = not changed.isdisjoint(what.ids) or not changed.isdisjoint(what.types)
            return has_news or any(map(depends_on_time, what.receipts.values()))

        concerned = [place for place in places if is_concerned(place)]
        for place in concerned:
            place.looked = True
        await self._serve(snapshot, concerned, lambda wait: wait.look(snapshot, last=wait.deadline <= self._began_at))

    async def _serve(
        self, result: Snapshot | FlokitError, places: Iterable[Place], act: Callable[[Wait], Outcome | None]
    ) -> None:
        """Serve the waits in small groups, so that the event loop can do other work in between; then the listeners."""
        for count, place in enumerate(places, 1):
            self._act(place, act)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        for queue in self._listeners:
            queue.put_nowait(result)

    @staticmethod
    def _act(place: Place, act: Callable[[Wait], Outcome | None]) -> None:
        """Do something for a wait in its task's logging context; its failure does not disturb other waits."""
        if place.future.done():
            return
        try:
            outcome = place.context.run(act, place.wait)
        except Exception as error:  # the trigger reports it
            place.future.set_exception(error)
        else:
            if outcome is not None:
                place.future.set_result(outcome)
