"""How long to wait before the next attempt: the same for single calls, waits in a worker and the shared poll."""

from __future__ import annotations

import math
import random
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from airflow_provider_flokit.models import as_utc

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_flokit.errors import FlokitError

BACKOFF_BASE: Final = 0.5  # the longest pause before the second attempt, in seconds
BACKOFF_CAP: Final = 30.0  # the longest pause between two attempts, unless Retry-After asks for more

RETRY_AFTER_LIMIT: Final = 300.0  # seconds; a call outside a wait gives up if Retry-After asks for more
LONGEST_PAUSE: Final = 3600.0  # the longest Retry-After believed: one wrong header must not stop a watcher for days


def delay(failures: int, jitter: float, retry_after: float = 0.0) -> float:
    """
    Return the seconds to wait after so many failures in a row, with a jitter from 0 to 1.

    Without ``Retry-After``: 0.5, 1, 2, 4 ... 30, minus a random part, up to half. With it: at random from once to twice
    ``Retry-After``, so that many clients do not come back at the same moment.
    """
    if retry_after:
        return retry_after * (1.0 + jitter)
    return min(BACKOFF_BASE * 2.0 ** min(failures - 1, 16), BACKOFF_CAP) * (1.0 - jitter / 2.0)


class Backoff:
    """The failures in a row, and when the next attempt may begin, in seconds of the monotonic clock."""

    failures = 0
    next_at = -math.inf
    asked_until = -math.inf  # as FloKit asked with Retry-After

    def add(self, error: FlokitError) -> float:
        """Count a failure, and return the seconds to wait before the next attempt."""
        self.failures += 1
        now, asked = time.monotonic(), min(error.retry_after or 0.0, LONGEST_PAUSE)
        pause = delay(self.failures, random.random(), asked)
        self.next_at, self.asked_until = now + pause, now + asked
        return pause


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, from seconds or a date; None if it is neither."""
    text = (value or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max((as_utc(parsedate_to_datetime(text)) - now).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return None
