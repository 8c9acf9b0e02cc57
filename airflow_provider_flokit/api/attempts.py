"""How an event loop makes a call: in a thread of its own, until the call ends or nobody waits for it any more."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_flokit.errors import FlokitError, FlokitUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_OVERDUE: Final = 5.0  # seconds after its timeout: a name server may hang, or headers come slowly


class Attempts:
    """The attempts of one call, and whether somebody still waits for it."""

    def __init__(self) -> None:
        self.overdue_at = math.inf  # monotonic time at which an attempt that has not ended is given up
        self.given_up = threading.Event()  # nobody waits for the call any more: no further attempt begins

    def begin(self, timeout: float) -> None:
        """Note that an attempt begins, which should end within its timeout; raise if nobody waits for the call."""
        if self.given_up.is_set():
            raise FlokitError("This call was given up.")
        self.overdue_at = time.monotonic() + timeout + _OVERDUE

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt; stop if nobody waits for the call any more."""
        self.overdue_at = math.inf
        self.given_up.wait(seconds)


ATTEMPTS: Final = contextvars.ContextVar[Attempts]("flokit_attempts")
"""Those of the call that an event loop makes in this thread; a worker has none."""


async def in_thread(call: Callable[[], T], conn_id: str) -> T:
    """Make a call in its own daemon thread; give it up if nobody awaits it any more, or if an attempt does not end."""
    # In a shared executor a slow call could block other calls and the end of the process.
    attempts = Attempts()
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        ATTEMPTS.set(attempts)
        try:
            answer.set_result(call())
        except BaseException as error:  # the caller decides what to do
            answer.set_exception(error)

    future = asyncio.wrap_future(answer)
    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="flokit-call", daemon=True).start()
    try:
        while not future.done():
            left = attempts.overdue_at - time.monotonic()
            if left <= 0:
                raise FlokitUnreachableError(
                    f"FloKit (connection {conn_id!r}) has not answered, and the request does not time out by itself. "
                    f"Check the connection's API URL (host), the network and its name servers."
                )
            await asyncio.wait([future], timeout=min(left, 1.0))
        return future.result()
    finally:
        attempts.given_up.set()
        future.cancel()
