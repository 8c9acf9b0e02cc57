"""
Which failures are retried and how long to wait before the next attempt.

Pure: no I/O, no clock. Both transports and the shared poll follow this one policy: exponential backoff with
jitter, capped, and never earlier than the server's ``Retry-After`` asks. A 429 tells of a crowd, which is spread out:
coming back as one, it would meet the limit as one.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses that may be gone at the next attempt; every other refusal is final."""

BACKOFF_BASE: Final = 0.5
"""Seconds before the first repeat, on average three quarters of it."""

BACKOFF_CAP: Final = 30.0
"""Seconds between two attempts at most, unless ``Retry-After`` asks for more."""

SPREAD_CAP: Final = 60.0
"""Seconds over which attempts are spread at most after a 429; the usual window of a rate limit."""

RETRY_AFTER_LIMIT: Final = 300.0
"""Seconds of ``Retry-After`` that a call outside a wait accepts; it gives up at once when asked for more."""

RETRY_AFTER_CAP: Final = 3600.0
"""Seconds of ``Retry-After`` that are believed: an absurd one must not stop the poll of a connection for days."""

_LARGEST_EXPONENT: Final = 32
_SECONDS = re.compile(r"\d{1,18}")


def is_retried(status: int) -> bool:
    """
    Tell whether a request answered with this status is worth another attempt.

    :param status: HTTP status.
    """
    return status in RETRIED_STATUSES


def backoff(failures: int, jitter: float) -> float:
    """
    Return the seconds to wait after so many failures in a row: 0.5, 1, 2, 4 ... 30, less up to half of it.

    :param failures: Failures so far, at least 1.
    :param jitter: A random number from 0 to 1.
    """
    step = min(BACKOFF_BASE * 2.0 ** min(failures - 1, _LARGEST_EXPONENT), BACKOFF_CAP)
    return step * (1.0 - jitter / 2.0)


def crowd_spread(failures: int) -> float:
    """
    Return the seconds over which the attempts of a crowd of calls are spread after a 429: 8, then 60.

    With less, fifty calls at once would use up their few attempts on a limit of sixty a minute.

    :param failures: Failures so far, at least 1.
    """
    return min(BACKOFF_BASE * 16.0 ** min(failures, _LARGEST_EXPONENT), SPREAD_CAP)


def delay(failures: int, jitter: float, retry_after: float | None = None, spread: float = 0.0) -> float:
    """
    Return the seconds to wait before the next attempt.

    :param failures: Failures so far, at least 1.
    :param jitter: A random number from 0 to 1.
    :param retry_after: Seconds the server asked for, None if it did not.
    :param spread: Seconds after that over which the attempts of many are spread.
    """
    return max(backoff(failures, jitter), asked_pause(retry_after) + jitter * spread)


def asked_pause(retry_after: float | None) -> float:
    """
    Return the seconds to leave the server alone, as it asked, an hour at most.

    :param retry_after: Seconds the server asked for, None if it did not.
    """
    return min(retry_after or 0.0, RETRY_AFTER_CAP)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """
    Read a ``Retry-After`` header, seconds or an HTTP date (RFC 9110, 10.2.3).

    :param value: The header, None if there is none.
    :param now: The server's time, which a date is measured against.
    :return: seconds from now, never negative; None if the header is absent or means nothing
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        time = parsedate_to_datetime(text)
        return max(((time if time.tzinfo else time.replace(tzinfo=UTC)) - now).total_seconds(), 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
