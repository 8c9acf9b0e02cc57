"""The time a simulator lives in: the wall clock, or one that a test moves by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]


class ManualClock:
    """
    A clock that stands still until it is told to move, so that a test can live a day in no time.

    :param start: the moment it shows first, in seconds since the epoch; default 2024-03-15T13:00:00Z.
    """

    def __init__(self, start: float = 1_710_507_600.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the present moment in seconds since the epoch."""
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> float:
        """
        Move the clock and return the new moment.

        :param seconds: how far, in seconds; a negative number moves it back.
        """
        with self._lock:
            self._now += seconds
            return self._now


def moment(seconds: float) -> datetime:
    """
    Return a moment as an aware UTC datetime.

    :param seconds: seconds since the epoch.
    """
    return datetime.fromtimestamp(seconds, UTC)
