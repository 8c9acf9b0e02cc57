"""Retries: how long the pauses are, what they repeat, and how the Test button fares with them."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.api.attempts import Attempts
from airflow_provider_flokit.errors import FlokitRateLimitError, FlokitServerError
from airflow_provider_flokit.simulator import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)


def test_pauses() -> None:
    """0.5, 1, 2 ... 30 s, less up to half of it at random; or from once to twice what FloKit asks for."""
    longest = [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [retry.delay(failures, 0.0) for failures in range(1, 9)] == longest
    assert [retry.delay(failures, 1.0) for failures in range(1, 9)] == [seconds / 2 for seconds in longest]
    assert retry.delay(10_000, 0.0) == 30
    assert [retry.delay(9, jitter, 20) for jitter in (0.0, 0.5, 1.0)] == [20, 30, 40]


def test_an_absurd_retry_after_is_believed_for_an_hour() -> None:
    """One wrong header must not stop an asset watcher, or all waits on a connection, for days."""
    backoff = retry.Backoff()
    assert 3600 <= backoff.add(FlokitRateLimitError("HTTP 429.", retry_after=86_400)) <= 7200
    assert backoff.asked_until <= time.monotonic() + 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
        ("0", 0),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOON - timedelta(seconds=90), usegmt=True), 0),
        ("soon", None),
        ("-5", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Retry-After is seconds, or a date that is measured by the server's clock; anything else is as good as none."""
    assert retry.parse_retry_after(value, NOON) == seconds


@pytest.mark.parametrize("limit", [0, 2, 4])
def test_retry_limit_is_the_number_of_retries(
    hook: BothHooks, sim: Simulator, connect: Callable[..., None], pauses: list[float], limit: int
) -> None:
    """A call makes one attempt and as many more; one failure less, and it succeeds."""
    connect(sim.url, retry_limit=limit)
    sim.fail(503, times=limit + 1)
    hook.failure(FlokitServerError, "list_integrations")
    assert (len(sim.requests), len(pauses)) == (limit + 1, limit)
    if limit:
        sim.fail(503, times=limit)
    assert len(hook("list_integrations")) == 3


def test_all_attempts_of_a_post_carry_one_idempotency_key(hook: BothHooks, sim: Simulator, pauses: list[float]) -> None:
    """However often a POST is sent, even if it has taken effect, it is one sync; another call has another key."""
    for fault in (Fault.drop_after(), Fault.answer(502), Fault.answer(200, "html")):
        sim.fail(fault)
    hook("trigger_sync", "int_1")
    keys = [request.idempotency_key for request in sim.requests]
    assert (len(keys), len(set(keys)), len(pauses)) == (4, 1, 3)
    hook("trigger_sync", "int_2")
    assert sim.requests[-1].idempotency_key not in {None, *keys}


def test_a_pause_is_really_taken(hook: BothHooks, sim: Simulator) -> None:
    """The second attempt comes no sooner than FloKit asked."""
    sim.fail(Fault.rate_limited(1))
    began = time.monotonic()
    hook("get_integration", "int_1")
    assert time.monotonic() - began >= 1
    assert [request.status for request in sim.requests] == [429, 200]


def test_a_pause_is_no_overdue_attempt() -> None:
    """It may take longer than any attempt does."""
    attempts = Attempts()
    attempts.begin(30)
    attempts.given_up.set()
    attempts.pause(300)
    assert attempts.overdue_at == math.inf


def test_a_call_gives_up_at_once_when_asked_for_more_than_five_minutes(
    hook: BothHooks, sim: Simulator, pauses: list[float]
) -> None:
    """It names the time, in the message and on the error."""
    sim.fail(Fault.rate_limited(301), times=None)
    error = hook.failure(FlokitRateLimitError, "trigger_sync", "int_1")
    assert "Try again in 301 s, as FloKit asks." in str(error)
    assert error.retry_after == 301
    assert (len(sim.requests), pauses) == (1, [])


@pytest.mark.parametrize(("asked", "attempts", "says"), [(30, 1, "in 30 s, as FloKit asks"), (None, 3, "later")])
def test_the_test_button_pauses_two_seconds_at_most(
    hook: BothHooks, sim: Simulator, pauses: list[float], asked: float | None, attempts: int, says: str
) -> None:
    """It makes the attempts that fit in, then says what FloKit asked for."""
    sim.fail(Fault.rate_limited(asked), times=None)
    ok, message = hook("test_connection")
    assert not ok
    assert f"HTTP 429: Too many requests. Try again {says}" in message
    assert sum(pauses) <= 2
    assert len(sim.requests) == len(pauses) + 1 >= attempts
