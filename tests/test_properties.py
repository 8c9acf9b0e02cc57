"""
Random histories of an integration, seen by polls at random times, never make the gate lie.

A history is made first, as FloKit would make it: its own scheduled syncs, the one that was asked for, late starts,
failures. What the gate says is then compared with what really happened, not with how it came to say it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_flokit.models import Integration, IntegrationStatus, SyncReceipt
from airflow_provider_flokit.operators.flokit import FlokitTriggerSyncOperator
from airflow_provider_flokit.outcome import Ending, Outcome
from airflow_provider_flokit.sensors.flokit import FlokitIntegrationSensor
from airflow_provider_flokit.simulator import ManualClock, Simulator, Sync
from airflow_provider_flokit.snapshot import Snapshot
from airflow_provider_flokit.wait import Wait
from airflow_provider_flokit.watch import Watch
from tests.modes import RESCHEDULE, WORKER, TaskInstance, run

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = datetime(2024, 3, 15, tzinfo=UTC)
START_TIMEOUT = 60
LOG = logging.getLogger(__name__)
STRIPE = "int_01hx4j7stripe"


@dataclass(frozen=True)
class Run:
    """One sync: seconds from begin to end, and its error, None for a success."""

    begins: int
    ends: int
    error: str | None


@dataclass(frozen=True)
class History:
    """All syncs of an integration, one after the other; the request is at second 0."""

    first_success: int | None
    first_error: str | None
    runs: tuple[Run, ...]

    def at(self, second: int) -> Integration:
        """Return what FloKit shows at a second."""
        status, synced, error = IntegrationStatus.CONNECTED, self.first_success, self.first_error
        if error is not None:
            status = IntegrationStatus.ERROR
        for run_ in self.runs:
            if run_.begins <= second < run_.ends:
                return Integration(STRIPE, "stripe", IntegrationStatus.SYNCING, moment(synced), None)
            if run_.ends <= second:
                error = run_.error
                status = IntegrationStatus.CONNECTED if error is None else IntegrationStatus.ERROR
                synced = run_.ends if error is None else synced
        return Integration(STRIPE, "stripe", status, moment(synced), error)

    def ended(self, after: int, until: int) -> list[Run]:
        """Return the syncs that ended after one second and not later than another."""
        return [run_ for run_ in self.runs if after < run_.ends <= until]


def moment(second: int | None) -> datetime | None:
    """Return the server time of a second."""
    return None if second is None else EPOCH + timedelta(seconds=second)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Make up a history: syncs before and after the request, some of length 0, with few different errors."""
    errors = st.sampled_from([None, None, "a", "b"])
    first_success = draw(st.none() | st.integers(-500, -400))
    runs, now = [], -300
    for _ in range(draw(st.integers(0, 6))):
        begins = now + draw(st.integers(1, 120))
        ends = begins + draw(st.integers(0, 60))
        runs.append(Run(begins, ends, draw(errors)))
        now = ends
    return History(first_success, draw(errors), tuple(runs))


polls = st.lists(st.integers(1, 40), min_size=1, max_size=40)


def watch(history: History, gaps: list[int], restarts: set[int]) -> tuple[Outcome | None, list[int]]:
    """Poll a history at the given gaps; a restart forgets all but the receipt. Return outcome and poll times."""
    receipt = SyncReceipt(STRIPE, history.at(0), EPOCH, "sync_1", "key")
    wait = Wait.of(flokit_conn_id="c", receipt=receipt.to_json(), start_timeout=START_TIMEOUT)
    watching, now, times = Watch(wait, LOG), 0, []
    for count, gap in enumerate(gaps):
        if count in restarts:
            watching = Watch(wait, LOG)
        now += gap
        times.append(now)
        seen = Snapshot(EPOCH + timedelta(seconds=now), {STRIPE: history.at(now)})
        if (outcome := watching.look(seen)) is not None:
            return outcome, times
    return None, times


@settings(max_examples=500, deadline=None)
@given(histories(), polls, st.sets(st.integers(0, 39)))
def test_never_ready_without_a_success_after_the_baseline(
    history: History, gaps: list[int], restarts: set[int]
) -> None:
    """Ready means: a sync that ended after the baseline had succeeded when it was looked at."""
    outcome, times = watch(history, gaps, restarts)
    if outcome is not None and outcome.ending is Ending.READY:
        assert any(run_.error is None for run_ in history.ended(0, times[-1]))


@settings(max_examples=500, deadline=None)
@given(histories(), polls, st.sets(st.integers(0, 39)))
def test_never_failed_without_a_failure_to_see(history: History, gaps: list[int], restarts: set[int]) -> None:
    """Failed means: a sync that ended after the baseline had failed, or start_timeout was over and it was in error."""
    outcome, times = watch(history, gaps, restarts)
    if outcome is not None and outcome.ending is Ending.FAILED:
        now = times[-1]
        assert history.at(now).status == IntegrationStatus.ERROR
        assert any(run_.error is not None for run_ in history.ended(0, now)) or now >= START_TIMEOUT


@settings(max_examples=500, deadline=None)
@given(histories(), polls, st.sets(st.integers(0, 39)))
def test_always_an_end_once_the_history_settles(history: History, gaps: list[int], restarts: set[int]) -> None:
    """After the last sync, a look past start_timeout decides; it waits on only if nothing succeeded since."""
    settled = max([START_TIMEOUT, *(run_.ends for run_ in history.runs)]) + 1
    outcome, _ = watch(history, [*gaps, settled], restarts)
    last = history.at(settled + sum(gaps))
    succeeded = any(run_.error is None for run_ in history.ended(0, settled))
    if last.status == IntegrationStatus.ERROR or succeeded:
        assert outcome is not None


@contextmanager
def connected_to(flokit: Simulator) -> Iterator[None]:
    """Point the default connection at a simulator, for one example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_FLOKIT_DEFAULT", flokit.connection_uri())
        yield


syncs = st.builds(
    Sync,
    start_delay=st.integers(0, 30).map(float),
    duration=st.integers(0, 30).map(float),
    error=st.sampled_from([None, None, "the new error", "the old error"]),
)


@settings(max_examples=60, deadline=None)
@given(
    manual=syncs,
    own=st.lists(st.tuples(st.integers(0, 60), syncs), max_size=2),
    old_error=st.booleans(),
    gaps=st.lists(st.integers(1, 25), min_size=30, max_size=30),
)
def test_from_the_operator_to_the_verdict(
    manual: Sync, own: list[tuple[int, Sync]], old_error: bool, gaps: list[int]
) -> None:
    """Operator, HTTP, receipt, sensor: over random syncs of FloKit's own, the verdict is what really happened."""
    clock = ManualClock()
    with Simulator(clock=clock) as flokit, connected_to(flokit):
        before = {"status": "error", "error_message": "the old error"} if old_error else {}
        flokit.add_integration(STRIPE, **before)
        flokit.plan(STRIPE, manual)
        started = run(lambda: FlokitTriggerSyncOperator(task_id="sync", integration_id=STRIPE), WORKER)
        requested = datetime.fromtimestamp(clock(), tz=UTC)
        sensor = FlokitIntegrationSensor(
            task_id="wait", receipt=started.xcoms["receipt"], start_timeout=120, mode=RESCHEDULE
        )
        ready, failure, passed = False, None, 0
        todo = sorted(own, key=lambda each: each[0])
        for gap in gaps:
            for second in range(gap):
                while todo and todo[0][0] == passed + second:
                    flokit.run_scheduled_sync(STRIPE, todo.pop(0)[1])
                clock.advance(1)
            passed += gap
            try:
                ready = bool(sensor.poke({"ti": TaskInstance(sensor)}))
            except Exception as error:
                failure = type(error).__name__
            if ready or failure:
                break
        now = datetime.fromtimestamp(clock(), tz=UTC)
        ended = [s for s in flokit.syncs if s.finished_at is not None and requested <= s.finished_at <= now]
        assert failure in (None, "FlokitSyncFailedError")
        if ready:
            assert any(s.outcome == "succeeded" for s in ended)
        if failure:
            assert any(s.outcome == "failed" for s in ended) or (old_error and passed >= 120)
        if not ready and not failure:
            assert not any(s.outcome == "succeeded" for s in ended)
