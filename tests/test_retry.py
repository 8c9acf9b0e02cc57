"""One retry policy: what is retried, how long the pauses are, and what Retry-After means."""

from __future__ import annotations

import heapq
import math
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit import retry
from airflow_provider_flokit.connection import DEFAULT_RETRY_LIMIT

NOW = datetime(2024, 3, 15, 13, tzinfo=UTC)


@pytest.mark.parametrize("status", [*map(int, HTTPStatus), 418, 299, 499, 520, 599, 0])
def test_retried_statuses(status: int) -> None:
    """429, 500, 502, 503 and 504 are retried, every other status is final."""
    assert retry.is_retried(status) is (status in {429, 500, 502, 503, 504})


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 16.0), (7, 30.0), (8, 30.0), (100, 30.0), (10**9, 30.0)],
)
def test_backoff_doubles_up_to_half_a_minute(failures: int, longest: float) -> None:
    """Pauses are 0.5, 1, 2, 4, 8, 16 and then 30 s, less up to half of it by jitter."""
    assert retry.backoff(failures, 0.0) == longest
    assert retry.backoff(failures, 0.5) == longest * 0.75
    assert retry.backoff(failures, 1.0) == longest / 2


@given(st.integers(min_value=1), st.floats(min_value=0, max_value=1))
def test_backoff_is_bounded(failures: int, jitter: float) -> None:
    """No number of failures makes a pause longer than the cap or shorter than a quarter of a second."""
    assert 0.25 <= retry.backoff(failures, jitter) <= 30.0


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(None, 2.0), (0.0, 2.0), (1.5, 2.0), (2.0, 2.0), (7.0, 7.0), (120.0, 120.0)]
)
def test_delay_is_never_earlier_than_asked(retry_after: float | None, expected: float) -> None:
    """Retry-After makes a pause longer than the backoff, never shorter, and is not capped by it."""
    assert retry.delay(3, 0.0, retry_after) == expected


@pytest.mark.parametrize(("failures", "longest"), [(1, 8.0), (2, 60.0), (3, 60.0), (10**9, 60.0)])
@pytest.mark.parametrize("retry_after", [None, 0.0, 7.0, 90.0])
def test_a_crowd_is_spread(failures: int, longest: float, retry_after: float | None) -> None:
    """A crowd comes within 8 s and then within a minute after what was asked for, never before it."""
    asked, spread = retry_after or 0.0, retry.crowd_spread(failures)
    assert spread == longest
    assert retry.delay(failures, 0.0, retry_after, spread) == max(asked, retry.backoff(failures, 0.0))
    assert retry.delay(failures, 1.0, retry_after, spread) == asked + longest


@pytest.mark.parametrize("seed", range(50))
def test_fifty_calls_at_once_get_through_a_bucket_of_tokens(seed: int) -> None:
    """
    A limit of sixty a minute that is refilled one by one asks for one second each time: the policy must spread them.

    Fifty operators read and then post at once, each with the default of four attempts after the first.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable
    tokens, at = 60.0, 0.0
    # When, which one, requests still to make, failures of the present one.
    agenda = [(chance.random(), number, 2, 0) for number in range(50)]
    heapq.heapify(agenda)
    exhausted = 0
    while agenda:
        now, number, left, failures = heapq.heappop(agenda)
        tokens, at = min(60.0, tokens + now - at), now
        if tokens >= 1:
            tokens -= 1
            if left > 1:
                heapq.heappush(agenda, (now + 0.1, number, left - 1, 0))
        elif failures == DEFAULT_RETRY_LIMIT:
            exhausted += 1
        else:
            pause = retry.delay(failures + 1, chance.random(), 1.0, retry.crowd_spread(failures + 1))
            heapq.heappush(agenda, (now + pause, number, left, failures + 1))
    assert exhausted == 0


def test_an_absurd_retry_after_counts_as_an_hour() -> None:
    """Neither a wait nor a watcher, which has no deadline, is stopped for days by one answer."""
    assert retry.delay(1, 0.0, 86400.0) == retry.asked_pause(86400.0) == 3600.0
    assert retry.asked_pause(3599.0) == 3599.0
    assert retry.asked_pause(None) == 0.0


def test_base_and_cap_are_looked_up_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests can make the pauses short."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.01)
    assert retry.backoff(1, 0.0) == 0.01
    assert retry.delay(2, 0.0) == 0.02


# Retry-After


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("120", 120.0),
        (" 30 ", 30.0),
        ("007", 7.0),
        ("86400", 86400.0),
        ("999999999999999999", 999999999999999999.0),
    ],
)
def test_retry_after_in_seconds(value: str, expected: float) -> None:
    """Retry-After may be a number of seconds."""
    assert retry.parse_retry_after(value, NOW) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Fri, 15 Mar 2024 13:01:30 GMT", 90.0),
        ("Fri, 15 Mar 2024 14:01:30 +0100", 90.0),
        ("Fri, 15 Mar 2024 13:01:30 -0000", 90.0),
        ("Friday, 15-Mar-24 13:01:30 GMT", 90.0),
        ("Fri Mar 15 13:01:30 2024", 90.0),
        ("Fri, 15 Mar 2024 13:00:00 GMT", 0.0),
        ("Fri, 15 Mar 2024 12:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_as_a_date(value: str, expected: float) -> None:
    """Retry-After may be an HTTP date in any of its forms, measured against the server's time, never negative."""
    assert retry.parse_retry_after(value, NOW) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "   ",
        "soon",
        "-1",
        "1.5",
        "1e3",
        "0x10",
        "1 minute",
        "inf",
        "nan",
        "9" * 30,
        "Fri, 99 Mar 2024 13:01:30 GMT",
        "Fri, 15 Mar 2024 99:01:30 GMT",
        "Fri, 15 Mar 20240 13:01:30 GMT",
        "2024-03-15T13:01:30Z",
        ", , ,",
        "\x00",
    ],
)
def test_meaningless_retry_after(value: str | None) -> None:
    """A Retry-After that is absent or that means nothing is none."""
    assert retry.parse_retry_after(value, NOW) is None


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - Hypothesis wants them naive
def test_any_http_date_counts(time: datetime) -> None:
    """Any HTTP date that HTTP can write gives the seconds until then, or 0 if it has passed."""
    time = time.replace(microsecond=0)
    asked = retry.parse_retry_after(format_datetime(time, usegmt=True), NOW)
    # A two-digit year means another century in the dates' old form, which years below 100 cannot be told from.
    if time.year >= 1000:
        assert asked == max((time - NOW).total_seconds(), 0.0)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{1,8} [A-Z+0-9-]{1,6}"))
def test_any_retry_after_is_survived(value: str) -> None:
    """Whatever text the header holds, the result is None or a finite number of seconds, 0 or more."""
    asked = retry.parse_retry_after(value, NOW + timedelta(days=1))
    assert asked is None or (math.isfinite(asked) and asked >= 0)
