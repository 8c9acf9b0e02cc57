"""The attempts of one call, and how an event loop makes a call."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_flokit.errors import FlokitError, FlokitUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_OVERDUE: Final = 5.0
"""Seconds after its timeout at which an attempt is given up, e.g. if a name server hangs or headers come slowly."""


class Attempts:
    """
    The attempts of one call, and whether somebody still waits for it.

    :param retries: Attempts after the first; None: the connection's ``retry_limit``.
    :param patience: Seconds that all pauses together may take; default: no limit.
    """

    def __init__(self, retries: int | None = None, patience: float = float("inf")) -> None:
        self.retries = retries
        self.patience = patience
        self.overdue_at = float("inf")
        """Monotonic time at which an attempt that has not ended is given up."""
        self.given_up = threading.Event()
        """Set if nobody waits for the call any more: no further attempt begins."""

    def begin(self, timeout: float) -> None:
        """Note that an attempt begins, which should end within its timeout; raise if nobody waits for the call."""
        if self.given_up.is_set():
            raise FlokitError("This call was given up.")
        self.overdue_at = time.monotonic() + timeout + _OVERDUE

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt; stop if nobody waits for the call any more."""
        self.overdue_at = float("inf")
        self.given_up.wait(seconds)


async def in_thread(call: Callable[[], T], attempts: Attempts, conn_id: str) -> T:
    """
    Make a call in its own daemon thread; in a shared executor it could block other calls and the end of the process.

    The attempts are given up if this coroutine is cancelled, or if one of them does not end.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
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
