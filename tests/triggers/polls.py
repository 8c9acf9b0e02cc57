"""Counting polls, and waiting for what has to happen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_flokit.simulator import Simulator

LIST = "/v1/integrations"


def gets(flokit: Simulator, path: str = LIST) -> int:
    """Count the requests for the list, or for another path."""
    return sum(r.path == path for r in flokit.requests)


async def polls(flokit: Simulator, count: int, path: str = LIST) -> None:
    """Wait until the list, or another path, was asked for so often in all."""
    await until(lambda: gets(flokit, path) >= count)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what holds does not say so
            await asyncio.sleep(0.01)
