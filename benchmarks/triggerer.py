"""An event loop that runs triggers as the triggerer does, and what it costs."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import greenback
from structlog.contextvars import bind_contextvars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow.triggers.base import BaseTrigger, TriggerEvent

TICK: Final = 0.001
"""Seconds that the ticker asks to sleep; what it oversleeps is how long the loop stood still."""


class Triggers:
    """Triggers that run, each in a task of its own, and the events they fired."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.events: list[TriggerEvent] = []
        self.fired_at = 0.0

    def start_at_once(self, build: Callable[[int], BaseTrigger], numbers: Iterable[int]) -> None:
        """
        Start triggers without letting any of them run in between.

        :param build: Builds the trigger of this number.
        :param numbers: Which.
        """
        for number in numbers:
            self._start(number, build(number))

    async def start(self, build: Callable[[int], BaseTrigger], numbers: Iterable[int], over: float = 0.0) -> None:
        """
        Start triggers as ``TriggerRunner.create_triggers`` does, which lets others run in between.

        :param build: Builds the trigger of this number.
        :param numbers: Which.
        :param over: Seconds over which to spread them; 0 for as fast as the triggerer would.
        """
        numbers = list(numbers)
        begin = time.monotonic()
        for place, number in enumerate(numbers):
            await asyncio.sleep(max(begin + over * place / len(numbers) - time.monotonic(), 0.0) if over else 0)
            trigger = build(number)
            await asyncio.sleep(0)
            self._start(number, trigger)

    def _start(self, number: int, trigger: BaseTrigger) -> None:
        self.tasks.append(asyncio.create_task(self._run(number, trigger), name=f"trigger {number}"))

    async def _run(self, number: int, trigger: BaseTrigger) -> None:
        """Run a trigger as ``TriggerRunner.run_trigger`` does: with a greenback portal and a log context of its own."""
        await greenback.ensure_portal()
        bind_contextvars(
            trigger_id=number, ti_id=None, dag_id=None, task_id=None, run_id=None, try_number=None, map_index=None
        )
        async for event in trigger.run():
            self.events.append(event)
            self.fired_at = time.monotonic()

    async def all_fired(self, timeout: float) -> bool:  # noqa: ASYNC109 - the caller says how long it is worth
        """
        Wait for all of them to fire.

        :param timeout: Seconds to wait at most.
        :return: whether they have
        """
        await asyncio.wait(self.tasks, timeout=timeout)
        return all(task.done() for task in self.tasks)

    async def cancel(self) -> None:
        """End them all."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
        self.events.clear()


class Ticker:
    """Measures how long the event loop stands still; an asynchronous context manager."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick(), name="ticker")
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(TICK)  # a stop that is still on ends here and is seen
        if self._task is not None:
            self._task.cancel()

    async def _tick(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.longest = max(self.longest, now - before - TICK)
            before = now


def measure_collections() -> list[float]:
    """
    Measure every garbage collection from now on; return the list that their seconds are added to.

    In processor time: a collection does not wait for anything, and other processes do not count.
    """
    seconds: list[float] = []
    began = 0.0

    def measure(phase: str, _: object) -> None:
        nonlocal began
        if phase == "start":
            began = time.thread_time()
        else:
            seconds.append(time.thread_time() - began)

    gc.callbacks.append(measure)
    return seconds


def memory() -> int:
    """Return the bytes of memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
