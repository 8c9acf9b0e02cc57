"""Running triggers, counting polls, and waiting for what has to happen."""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.triggers.flokit import FlokitIntegrationTrigger, FlokitSyncedTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from airflow_provider_flokit.simulator import Simulator

STRIPE = "int_01hx4j7stripe"
LIST = "/v1/integrations"
TIMES = [f"2024-03-15T{hour}:00:00Z" for hour in range(12, 20)]


def trigger(integration_id: Any = STRIPE, **arguments: Any) -> FlokitIntegrationTrigger:
    """Make a trigger that polls quickly, as the scheduler starts one: it had no look yet."""
    return FlokitIntegrationTrigger(integration_id=integration_id, **{"poll_interval": 0.1, "timeout": 60, **arguments})


def deferred(integration_id: Any = STRIPE, timeout: float = 60.0, **arguments: Any) -> FlokitIntegrationTrigger:
    """Make a trigger that polls quickly, as a worker defers it: it has looked before."""
    return trigger(integration_id, timeout=timeout, deadline=time.time() + timeout, **arguments)


def watcher(integration_id: str = STRIPE, **arguments: Any) -> FlokitSyncedTrigger:
    """Make a trigger that polls quickly, for an asset's watcher."""
    return FlokitSyncedTrigger(integration_id, **{"poll_interval": 0.05, **arguments})


async def fire(trigger: FlokitIntegrationTrigger) -> dict[str, Any]:
    """Run a trigger as the triggerer does and return its one event's payload."""
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = events[0]
    return payload


def start(trigger: FlokitIntegrationTrigger) -> asyncio.Task[dict[str, Any]]:
    """Run a trigger in a task of its own."""
    return asyncio.create_task(fire(trigger))


def gets(flokit: Simulator, path: str = LIST) -> int:
    """Count the requests for the list, or for another path."""
    return sum(r.path == path for r in flokit.requests)


async def polls(flokit: Simulator, count: int) -> None:
    """Wait until the list was asked for so often in all."""
    await until(lambda: gets(flokit) >= count)


async def more_polls(flokit: Simulator, count: int = 3) -> None:
    """Wait until the list was asked for so often from now on: all have seen the present state then."""
    await polls(flokit, gets(flokit) + count)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110 - what holds does not say so
            await asyncio.sleep(0.01)


class TriggerLogs(logging.Handler):
    """Keeps what triggers log, by the context that they log in, which tells the triggerer to whose log a line goes."""

    whose: ContextVar[str] = ContextVar("whose", default="nobody's")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(logging.INFO)
        self._lines: list[tuple[str, str]] = []
        log = logging.Logger("trigger")  # noqa: LOG001 - one of this test's own
        log.addHandler(self)
        monkeypatch.setattr(FlokitIntegrationTrigger, "log", log)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append((self.whose.get(), record.getMessage()))

    def of(self, name: str, part: str = "") -> list[str]:
        """Return the lines of one trigger that have some text in them."""
        return [line for whose, line in self._lines if whose == name and part in line]

    def start(self, name: str, trigger: FlokitIntegrationTrigger) -> asyncio.Task[dict[str, Any]]:
        """Run a trigger in a task and a context of its own."""

        async def run() -> dict[str, Any]:
            self.whose.set(name)
            return await fire(trigger)

        return asyncio.create_task(run())
