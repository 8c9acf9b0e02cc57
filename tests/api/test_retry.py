"""Retries: how long the pauses are, what they repeat, and how the Test button and a crowd fare with them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.errors import FlokitRateLimitError, FlokitServerError
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook, FlokitHook
from airflow_provider_flokit.simulator import Fault, Sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator
    from tests.both_hooks import BothHooks

NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)
MINUTE = 5.0
"""Seconds that a minute of the rate limit takes in the test of the crowd."""


# The policy


def test_pauses_double_up_to_30_seconds() -> None:
    """Without Retry-After: 0.5, 1, 2 ... 30 s, less up to half of it at random."""
    longest = [retry.delay(failures, 0.0) for failures in range(1, 9)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [retry.delay(failures, 1.0) for failures in range(1, 9)] == [seconds / 2 for seconds in longest]
    assert retry.delay(10_000, 0.0) == 30


@pytest.mark.parametrize("asked", [1, 20, 300, 86400])
def test_pauses_that_flokit_asks_for_are_spread_to_twice_that(asked: float) -> None:
    """Nobody comes back earlier than asked, and a crowd does not come back as one."""
    assert retry.delay(1, 0.0, asked) == asked
    assert retry.delay(1, 0.5, asked) == 1.5 * asked
    assert retry.delay(9, 1.0, asked) == 2 * asked


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOON - timedelta(seconds=90), usegmt=True), 0),
        ("soon", None),
        ("-5", None),
        ("1e3", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Retry-After is seconds, or a date that is measured by the server's clock; anything else is as good as none."""
    assert retry.parse_retry_after(value, NOON) == seconds


# Calls


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


def test_all_attempts_of_a_post_carry_one_idempotency_key(
    hook: BothHooks, sim: Simulator, connect: Callable[..., None], pauses: list[float]
) -> None:
    """However often a POST is sent, it is one sync; another call has another key, one's own is sent as it is."""
    connect(sim.url)
    for fault in (Fault.drop(), Fault.answer(502), Fault.answer(200, "html")):
        sim.fail(fault)
    hook("trigger_sync", "int_1")
    keys = [request.idempotency_key for request in sim.requests]
    assert (len(keys), len(set(keys)), len(pauses)) == (4, 1, 3)
    hook("trigger_sync", "int_2")
    assert sim.requests[-1].idempotency_key not in {None, *keys}
    hook("trigger_sync", "int_2", "my key 1")
    assert sim.requests[-1].idempotency_key == "my key 1"


def test_a_call_that_is_asked_to_wait_a_second_is_back_within_two(
    hook: BothHooks, sim: Simulator, connect: Callable[..., None], pauses: list[float]
) -> None:
    """Retry-After: 1 is a pause of 1 to 2 s, each time anew."""
    connect(sim.url)
    sim.fail(Fault.rate_limited(1), times=4)
    assert len(hook("list_integrations")) == 3
    assert all(1 <= pause <= 2 for pause in pauses)
    assert len(set(pauses)) == 4


def test_a_pause_is_really_taken(hook: BothHooks, sim: Simulator, connect: Callable[..., None]) -> None:
    """The second attempt comes no sooner than FloKit asked."""
    connect(sim.url)
    sim.fail(Fault.rate_limited(1))
    began = time.monotonic()
    hook("get_integration", "int_1")
    assert time.monotonic() - began >= 1
    assert [request.status for request in sim.requests] == [429, 200]


def test_a_call_gives_up_at_once_when_asked_for_more_than_five_minutes(
    hook: BothHooks, sim: Simulator, connect: Callable[..., None], pauses: list[float]
) -> None:
    """It names the time, in the message and on the error."""
    connect(sim.url)
    sim.fail(Fault.rate_limited(3600), times=None)
    error = hook.failure(FlokitRateLimitError, "trigger_sync", "int_1")
    assert "Try again in 3600 s, as FloKit asks." in str(error)
    assert error.retry_after == 3600
    assert (len(sim.requests), pauses) == (1, [])


@pytest.mark.parametrize(("asked", "attempts", "says"), [(30, 1, "in 30 s, as FloKit asks"), (None, 3, "later")])
def test_the_test_button_pauses_two_seconds_at_most(
    hook: BothHooks,
    sim: Simulator,
    connect: Callable[..., None],
    pauses: list[float],
    asked: float | None,
    attempts: int,
    says: str,
) -> None:
    """It makes the attempts that fit in, then says what FloKit asked for."""
    connect(sim.url, retry_limit=100)
    sim.fail(Fault.rate_limited(asked), times=None)
    ok, message = hook("test_connection")
    assert not ok
    assert f"HTTP 429: Too many requests. Try again {says}" in message
    assert sum(pauses) <= 2
    assert len(sim.requests) == len(pauses) + 1 >= attempts


# A crowd


@pytest.mark.parametrize("kind", [FlokitHook, FlokitAsyncHook])
def test_fifty_callers_get_through_a_rate_limit_of_60_a_minute(
    flokit: Simulator, monkeypatch: pytest.MonkeyPatch, kind: type[FlokitHook | FlokitAsyncHook]
) -> None:
    """
    All start at once, read an integration and sync it, and none runs out of its four retries.

    A minute takes five seconds here. Retry-After has no fractions, so the simulator asks for whole seconds of it.
    """
    for name in ("BACKOFF_BASE", "BACKOFF_CAP"):
        monkeypatch.setattr(retry, name, getattr(retry, name) * MINUTE / 60)
    flokit.rate_limit = (60, MINUTE)
    for number in range(50):
        flokit.add_integration(f"int_{number}", sync=Sync(duration=0))
    # Airflow 2 imports much with the first connection: not in fifty threads at once, which its workers never are.
    FlokitHook().get_conn()

    def sync(number: int) -> str:
        with FlokitHook() as hook:
            hook.get_integration(f"int_{number}")
            return hook.trigger_sync(f"int_{number}")

    async def sync_all() -> list[str]:
        async def sync(number: int) -> str:
            async with FlokitAsyncHook() as hook:
                await hook.get_integration(f"int_{number}")
                return await hook.trigger_sync(f"int_{number}")

        return await asyncio.gather(*map(sync, range(50)))

    if kind is FlokitHook:
        with ThreadPoolExecutor(50) as workers:
            sync_ids = list(workers.map(sync, range(50)))
    else:
        sync_ids = asyncio.run(sync_all())
    assert len(set(sync_ids)) == len(flokit.syncs) == 50
    assert 429 in [request.status for request in flokit.requests]
