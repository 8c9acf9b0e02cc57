"""The trigger that only sleeps: the physical limit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SleepingTrigger(BaseTrigger):
    """
    Sleep again and again, and never fire.

    :param number: Which one it is.
    :param interval: Seconds to sleep.
    """

    def __init__(self, number: int, interval: float) -> None:
        super().__init__()
        self.number = number
        self.interval = interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return "benchmarks.sleeping.SleepingTrigger", {"number": self.number, "interval": self.interval}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep."""
        while self.interval:  # noqa: ASYNC110 - to sleep is all it is for
            await asyncio.sleep(self.interval)
        yield TriggerEvent(None)
