"""The attempts of one call, and making it from an event loop."""

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
"""Seconds after its timeout at which an attempt is given up: a resolver that hangs, headers that trickle."""


class Attempts:
    """
    The attempts of one call, and whether anybody still waits for them.

    :param retries: Attempts after the first; None for as many as the connection says.
    :param patience: Seconds that all pauses together may take; None for no limit.
    """

    def __init__(self, retries: int | None = None, patience: float | None = None) -> None:
        self.retries = retries
        self.patience = patience
        self.overdue_at = float("inf")
        """By the monotonic clock: when an attempt that has not come back by itself is as good as lost."""
        self._given_up = threading.Event()

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the call any more."""
        return self._given_up.is_set()

    def begin(self, timeout: float) -> None:
        """Note that an attempt begins, which should end by itself within its timeout; raise if nobody waits for it."""
        if self.given_up:
            raise FlokitError("This call was given up.")
        self.overdue_at = time.monotonic() + timeout + _OVERDUE

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt, not longer than somebody waits for it."""
        self.overdue_at = float("inf")
        self._given_up.wait(seconds)

    def give_up(self) -> None:
        """Let no further attempt begin."""
        self._given_up.set()


async def in_thread(call: Callable[[], T], attempts: Attempts, conn_id: str) -> T:
    """
    Make a call in a daemon thread of its own; a shared executor would hold up other calls and the end of the process.

    Its attempts are given up if this coroutine is cancelled, or if one of them does not come back.
    """
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # the caller's to judge
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
        attempts.give_up()
        future.cancel()
