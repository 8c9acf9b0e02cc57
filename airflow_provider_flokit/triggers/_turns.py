"""Lets a crowd through a few at a time, so that it does not stop the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

AT_ONCE: Final = 20
"""Waits that do something in one round of the event loop; the others have their turn in the next ones."""


class Turns:
    """
    A queue in front of something that costs, found by :meth:`here`.

    A thousand triggers that start, or wake up, in the same round of the event loop would stop it for as long as all of
    them take together.
    """

    # A queue does not keep its event loop: the loop would never be forgotten here.
    _all: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[None]] = deque()

    @classmethod
    def here(cls) -> Turns:
        """Return the queue of the running event loop."""
        loop = asyncio.get_running_loop()
        turns = cls._all.get(loop)
        if turns is None:
            turns = cls._all[loop] = cls()
        return turns

    async def wait(self) -> None:
        """Wait for a turn: those who came first go first."""
        loop = asyncio.get_running_loop()
        if not self._queue:
            loop.call_soon(self._next_round)
        turn = loop.create_future()
        self._queue.append(turn)
        await turn

    def _next_round(self) -> None:
        for _ in range(min(AT_ONCE, len(self._queue))):
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._next_round)
