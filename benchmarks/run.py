"""
One measurement in a fresh process: ``python -m benchmarks.run SUBJECT WAITS PHASES``; prints the figures as JSON.

The process has loaded what the triggerer loads and logs as the triggerer's does, to nowhere. The waits start spread
over one interval; then come, one after the other, as far as asked for:

- ``start``: the longest stop of the event loop while they start. Stops hold garbage collections, wherever they come.
- ``memory``: resident memory after the start less that before it, both after a garbage collection. One wait ran
  before, so that imports are not counted, and only then the jobs came to the upstream, so that what is kept of its
  answers is.
- ``cpu``: processor time of the process over two intervals, with nothing else running, and the requests that came.
- ``lag``: the longest stop of the event loop over two intervals.
- ``slow``: the same over one and a half intervals with one second of latency.
- ``change``: all jobs end; the time until the last trigger fired, and the longest stop meanwhile.
- ``burst``: all waits start at once; the longest stop until one and a half intervals later.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.files import allow_many_files
from benchmarks.subjects import INTERVAL, SUBJECTS, Subject
from benchmarks.triggerer import Ticker, Triggers, measure_collections, memory
from benchmarks.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Collection

LATENCY: Final = 0.05
SLOW: Final = 1.0
PHASES: Final = ("start", "memory", "cpu", "lag", "slow", "change", "burst")

Figures = dict[str, float]


async def measure(subject: Subject, waits: int, phases: Collection[str], upstream: Upstream) -> Figures:
    """
    Measure one subject that keeps its interval.

    :param subject: What.
    :param waits: How many waits.
    :param phases: Which of :data:`PHASES`.
    :param upstream: Its upstream, with no latency and no jobs yet.
    """
    figures: Figures = {}
    await _warm_up(subject, upstream)
    upstream.fill(waits)
    gc.collect()
    gc_seconds = measure_collections()
    before, triggers = memory(), Triggers()
    async with Ticker() as ticker:
        await triggers.start(subject.trigger, range(waits), over=INTERVAL)
        await asyncio.sleep(INTERVAL / 2)
    if "start" in phases:
        figures["lag_start"] = ticker.longest
    if "memory" in phases:
        gc.collect()
        figures["memory"] = (memory() - before) / waits
    if "cpu" in phases:
        requests, cpu = upstream.requests(), time.process_time()
        await asyncio.sleep(2 * INTERVAL)
        cpu = time.process_time() - cpu
        figures["requests"] = (upstream.requests() - requests) / 2
        figures["cpu"] = cpu / 2 / waits
    if "lag" in phases:
        requests, begin = upstream.requests(), time.monotonic()
        async with Ticker() as ticker:
            await asyncio.sleep(2 * INTERVAL)
        figures["lag"] = ticker.longest
        figures["rpm"] = (upstream.requests() - requests) / (time.monotonic() - begin) * 60
    if "slow" in phases:
        upstream.latency(SLOW)
        async with Ticker() as ticker:
            await asyncio.sleep(1.5 * INTERVAL)
        figures["lag_slow"] = ticker.longest
        upstream.latency(LATENCY)
        await asyncio.sleep(1.1 * SLOW)  # until no slow answer is on its way
    if triggers.events:
        raise RuntimeError(f"{subject.name}: {len(triggers.events)} fired before their time: {triggers.events[0]}")
    if "change" in phases and subject.name != "sleeping":
        figures |= await _change(upstream, triggers)
    if gc_seconds:
        figures["gc"] = max(gc_seconds)
    await triggers.cancel()
    upstream.fill(waits)
    gc.collect()
    if "burst" in phases:
        figures["lag_burst"] = await _burst(subject, waits, triggers)
    return figures


async def measure_stalling(subject: Subject, waits: int, upstream: Upstream) -> Figures:
    """
    Measure one subject whose polls stop the event loop: a round of all waits takes far longer than the interval.

    :param subject: What.
    :param waits: How many waits.
    :param upstream: Its upstream.
    """
    await _warm_up(subject, upstream)
    upstream.fill(waits)
    before, triggers = memory(), Triggers()
    async with Ticker() as start:
        triggers.start_at_once(subject.trigger, range(waits))
        await asyncio.sleep(INTERVAL)
    used, requests, cpu, begin = memory() - before, upstream.requests(), time.process_time(), time.monotonic()
    async with Ticker() as steady:
        await asyncio.sleep(INTERVAL)
    polls, seconds = upstream.requests() - requests, time.monotonic() - begin
    return {
        "memory": used / waits,
        "requests": polls / seconds * INTERVAL,
        "cpu": (time.process_time() - cpu) / polls,
        "lag": steady.longest,
        "lag_burst": start.longest,
        "rpm": polls / seconds * 60,
    }


async def _warm_up(subject: Subject, upstream: Upstream) -> None:
    """Load what the subject loads, before anything is measured."""
    upstream.fill(1)
    triggers = Triggers()
    async with Ticker():
        await triggers.start(subject.trigger, [0])
        await asyncio.to_thread(upstream.latency, LATENCY)
        await asyncio.sleep(1)
    if triggers.events:
        raise RuntimeError(f"{subject.name} fired before its time: {triggers.events[0]}")
    await triggers.cancel()


async def _change(upstream: Upstream, triggers: Triggers) -> Figures:
    figures = {}
    async with Ticker() as ticker:
        changed = await asyncio.to_thread(upstream.finish)
        if await triggers.all_fired(4 * INTERVAL):
            figures["latency"] = triggers.fired_at - changed
    return {**figures, "lag_change": ticker.longest}


async def _burst(subject: Subject, waits: int, triggers: Triggers) -> float:
    async with Ticker() as ticker:
        await triggers.start(subject.trigger, range(waits))
        await asyncio.sleep(1.5 * INTERVAL)
    return ticker.longest


def _become_triggerer(scratch: str) -> None:
    """Load what the triggerer loads and log as its process does, but to nowhere."""
    os.environ["AIRFLOW_HOME"] = scratch
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    import airflow.jobs.triggerer_job_runner  # noqa: F401
    from airflow.sdk.log import configure_logging

    nowhere = Path(os.devnull).open("wb", buffering=0)  # noqa: SIM115 - open as long as the process lives
    configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)
    logging.captureWarnings(capture=True)


def main(name: str, waits: int, phases: Collection[str]) -> Figures:
    """
    Measure, and return the figures.

    :param name: The subject's.
    :param waits: How many waits.
    :param phases: Which of :data:`PHASES`.
    """
    allow_many_files()
    subject = SUBJECTS[name]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, Upstream(name) as upstream:
        os.environ.update(subject.environment(upstream.port))
        _become_triggerer(scratch)
        if subject.waits_in_thread:
            return asyncio.run(measure_stalling(subject, waits, upstream))
        return asyncio.run(measure(subject, waits, phases, upstream))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3].split(","))) + "\n")
