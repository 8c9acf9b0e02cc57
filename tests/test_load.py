"""
Many tasks at once against a rate limit: 60 requests a minute, for 1,000 waits and 50 syncs.

A minute passes in five seconds here: the limit's window, the intervals and the pauses are shortened alike. Only
``Retry-After`` is not, as HTTP has none below a second; that is a fifth of a minute here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.hooks.flokit import FlokitAsyncHook
from tests.triggers.polls import LIST, deferred, fire, until

if TYPE_CHECKING:
    import pytest

    from airflow_provider_flokit.simulator import Simulator

MINUTE = 5.0
LIMIT = 60
WAITS = 1000
SYNCS = 50


async def sync(number: int) -> str:
    """Ask what an operator asks: for the baseline, and for a sync."""
    async with FlokitAsyncHook() as hook:
        baseline = await hook.get_integration(f"int_sync_{number}")
        return await hook.trigger_sync(baseline.id)


def test_a_crowd_ends_right_within_the_rate_limit(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every wait is ready, every sync was started once, and the limit was respected.

    The waits make two requests a minute together, and a refused request is repeated once or twice, not in a loop.
    """
    for name in ("BACKOFF_BASE", "BACKOFF_CAP"):
        monkeypatch.setattr(retry, name, getattr(retry, name) * MINUTE / 60)
    flokit.rate_limit = (LIMIT, MINUTE)
    for number in range(WAITS):
        flokit.add_integration(f"int_wait_{number}", status="syncing")
    for number in range(SYNCS):
        flokit.add_integration(f"int_sync_{number}")

    async def recover() -> None:
        await until(lambda: sum(r.status == 200 and r.path == LIST for r in flokit.requests) >= 3)
        for number in range(WAITS):
            flokit.set_state(f"int_wait_{number}", status="connected")

    async def main() -> tuple[list[dict[str, Any]], list[str]]:
        waits = (deferred(f"int_wait_{n}", poll_interval=MINUTE / 2, timeout=60 * MINUTE) for n in range(WAITS))
        events, sync_ids, _ = await asyncio.gather(
            asyncio.gather(*map(fire, waits)), asyncio.gather(*map(sync, range(SYNCS))), recover()
        )
        return events, sync_ids

    events, sync_ids = asyncio.run(main())
    assert Counter(event["ending"] for event in events) == {"ready": WAITS}
    assert sorted(sync_ids) == sorted(run.sync_id for run in flokit.syncs)
    assert len(set(sync_ids)) == SYNCS
    requests = flokit.requests
    minutes = (requests[-1].at - requests[0].at).total_seconds() / MINUTE
    refused = sum(r.status == 429 for r in requests)
    assert 0 < refused < len(requests) / 2
    assert len(requests) - refused <= LIMIT * (minutes + 1)
    polls = Counter(r.status for r in requests if r.path == LIST)
    assert max(polls.values()) <= 3 + 2 * minutes
