"""
Many tasks at once against a rate limit: 60 requests a minute, for 1,000 waits and 50 operators.

A minute passes in five seconds here: the limit's window, the intervals and the pauses are shortened alike. Only
``Retry-After`` is not, as HTTP has none below a second; that is a fifth of a minute here.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_flokit.api import retry
from airflow_provider_flokit.hooks.flokit import FlokitHook
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.simulator import Sync
from tests.modes import TaskInstance
from tests.triggers.polls import LIST, deferred, fire

if TYPE_CHECKING:
    from airflow_provider_flokit.simulator import Simulator

MINUTE = 5.0
LIMIT = 60
WAITS = 1000
OPERATORS = 50


@pytest.fixture(autouse=True)
def _five_second_minutes(flokit: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKOFF_BASE", "BACKOFF_CAP"):
        monkeypatch.setattr(retry, name, getattr(retry, name) * MINUTE / 60)
    # Airflow 2 imports much with the first connection: not in fifty threads at once, which its workers never are.
    assert FlokitHook().list_integrations() == []
    flokit.clear_requests()
    flokit.rate_limit = (LIMIT, MINUTE)
    for number in range(WAITS):
        flokit.add_integration(f"int_wait_{number}", status="syncing")
    for number in range(OPERATORS):
        flokit.add_integration(f"int_sync_{number}", sync=Sync(start_delay=MINUTE / 4, duration=MINUTE))


def _start_worker() -> None:
    """Make a thread a worker: Airflow 2 sets up only the thread that imports it, as its workers are processes."""
    if not AIRFLOW_V_3_0_PLUS:
        safeguard = importlib.import_module("airflow.models.baseoperator").ExecutorSafeguard
        safeguard._sentinel.callers = {}


async def operate(number: int, workers: ThreadPoolExecutor, *, deferrable: bool) -> str:
    """Run an operator to its end, in a worker, and between in the triggerer if it defers; return its sync_id."""
    loop = asyncio.get_running_loop()
    task = FlokitTriggerSyncOperator(
        task_id=f"sync_{number}",
        integration_id=f"int_sync_{number}",
        wait_for_completion=True,
        deferrable=deferrable,
        poll_interval=MINUTE / 2,
        timeout=60 * MINUTE,
    )
    context: Any = {"ti": TaskInstance(task)}

    def execute() -> Any:
        try:
            return task.execute(context)
        except TaskDeferred as deferral:
            return deferral

    result = await loop.run_in_executor(workers, execute)
    if isinstance(result, TaskDeferred):
        event = await fire(result.trigger)
        result = await loop.run_in_executor(workers, lambda: task.execute_complete(context, event))
    return str(result["sync_id"])


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in workers"])
def test_a_crowd_ends_right_within_the_rate_limit(flokit: Simulator, *, deferrable: bool) -> None:
    """
    Every wait is ready, every operator's sync succeeded and was started once, and the limit was respected.

    Beside the two requests of each operator, deferred waits make two a minute together, and a refused request is
    repeated once or twice, not in a loop. Waits in workers each make their own polls, which the limit slows down.
    """

    async def recover() -> None:
        while sum(r.status == 200 and r.path == LIST for r in flokit.requests) < 3:  # noqa: ASYNC110 - as in until()
            await asyncio.sleep(0.1)
        for number in range(WAITS):
            flokit.set_state(f"int_wait_{number}", status="connected")

    async def main() -> tuple[list[dict[str, Any]], list[str]]:
        with ThreadPoolExecutor(OPERATORS, initializer=_start_worker) as workers:
            waits = (deferred(f"int_wait_{n}", poll_interval=MINUTE / 2, timeout=60 * MINUTE) for n in range(WAITS))
            operators = (operate(number, workers, deferrable=deferrable) for number in range(OPERATORS))
            events, sync_ids, _ = await asyncio.gather(
                asyncio.gather(*map(fire, waits)), asyncio.gather(*operators), recover()
            )
        return events, sync_ids

    events, sync_ids = asyncio.run(main())
    assert Counter(event["ending"] for event in events) == {"ready": WAITS}
    assert sorted(sync_ids) == sorted(run.sync_id for run in flokit.syncs)
    assert len(set(sync_ids)) == OPERATORS
    requests = flokit.requests
    minutes = (requests[-1].at - requests[0].at).total_seconds() / MINUTE
    refused = sum(r.status == 429 for r in requests)
    assert 0 < refused < len(requests) / 2
    assert len(requests) - refused <= LIMIT * (minutes + 1)
    if deferrable:
        polls = Counter(r.status for r in requests if r.path == LIST)
        assert max(polls.values()) <= 3 + 2 * minutes
