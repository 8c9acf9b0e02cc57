"""The record of the requests that a simulator served."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator.records import RecordedRequest

LIMIT = 200_000
"""Requests that are kept; the oldest are forgotten beyond it, so that a simulator may run for weeks."""


class Journal:
    """
    Requests in the order of their arrival. Thread-safe.

    :param listener: called with each request once its answer is known, in the server's thread; default none.
    """

    def __init__(self, listener: Callable[[RecordedRequest], None] | None = None) -> None:
        self._entries: dict[int, RecordedRequest] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._listener = listener

    def open(self, request: RecordedRequest) -> int:
        """
        Record a request whose answer takes a while, and return its number.

        :param request: what is known so far.
        """
        with self._changed:
            number = next(self._numbers)
            self._entries[number] = request
            if len(self._entries) > LIMIT:
                del self._entries[next(iter(self._entries))]
            self._changed.notify_all()
        return number

    def settle(self, number: int | None, request: RecordedRequest) -> None:
        """
        Record the answer of a request, before it is sent.

        :param number: what :meth:`open` returned; None for a request not opened.
        :param request: all that is known.
        """
        if number is None:
            self.open(request)
        else:
            with self._changed:
                if number in self._entries:  # not cleared meanwhile
                    self._entries[number] = request
                    self._changed.notify_all()
        if self._listener is not None:
            self._listener(request)

    def requests(self) -> list[RecordedRequest]:
        """Return all recorded requests."""
        with self._changed:
            return list(self._entries.values())

    def clear(self) -> None:
        """Forget all requests."""
        with self._changed:
            self._entries.clear()

    def wait(self, count: int, timeout: float) -> list[RecordedRequest]:
        """
        Wait until there are that many requests and return them.

        :param count: how many at least.
        :param timeout: seconds until :class:`TimeoutError`.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._entries) >= count, deadline - time.monotonic()):
                msg = f"{len(self._entries)} of {count} requests came within {timeout:g} s"
                raise TimeoutError(msg)
            return list(self._entries.values())
