"""
One simulated integration: its state as a function of time.

Nothing runs in the background. Each sync's start and finish are known when it is asked for; :meth:`advance`
settles whatever has finished by the given moment. Moments are seconds since the epoch by the simulator's own
clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator.clock import moment
from airflow_provider_flokit.simulator.records import (
    IntegrationState,
    Sync,
    SyncOutcome,
    SyncRun,
    SyncTrigger,
    Timestamp,
    parse_timestamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DAY = 86_400.0

STATE_FIELDS = frozenset(
    {
        "type",
        "status",
        "last_synced_at",
        "error_message",
        "events_last_24h",
        "events_total",
        "earliest_event_at",
        "extra",
    }
)
"""The fields of an integration that a script or ``set_state`` may set."""


@dataclass(slots=True)
class Run:
    """
    A sync that was asked for.

    :param skew: seconds that the server's clock was ahead when it was asked for; its timestamps carry it.
    :param scripted: whether a script shows the outcome, not the time.
    """

    sync_id: str
    integration_id: str
    idempotency_key: str | None
    trigger: SyncTrigger
    sync: Sync
    requested: float
    start: float
    skew: float
    scripted: bool = False
    cancelled: float | None = None

    @property
    def finish(self) -> float:
        """The moment it ends, or ended."""
        return self.start + self.sync.duration if self.cancelled is None else self.cancelled

    def record(self, now: float) -> SyncRun:
        """
        Return how far it has come.

        :param now: the present moment.
        """
        started = self.start <= now and (self.cancelled is None or self.start <= self.cancelled)
        finished = self.finish <= now
        outcome: SyncOutcome
        if self.scripted:
            outcome, started, finished = "scripted", False, False
        elif self.cancelled is not None:
            outcome = "cancelled"
        elif finished:
            outcome = "succeeded" if self.sync.error is None else "failed"
        else:
            outcome = "running" if started else "waiting"
        return SyncRun(
            sync_id=self.sync_id,
            integration_id=self.integration_id,
            idempotency_key=self.idempotency_key,
            trigger=self.trigger,
            requested_at=moment(self.requested + self.skew),
            started_at=moment(self.start + self.skew) if started else None,
            finished_at=moment(self.finish + self.skew) if finished else None,
            error=self.sync.error if outcome == "failed" else None,
            outcome=outcome,
        )


@dataclass(slots=True)
class SimulatedIntegration:
    """
    An integration, its syncs and its scripts.

    :param sync: the shape of syncs asked for by POST when none is planned; None for the workspace's default.
    :param schedule_every: seconds between FloKit's own syncs; None for none.
    :param scheduled_sync: the shape of those; None for the workspace's default.
    :param next_tick: the moment of the next scheduled sync; infinite for none.
    :param script: states still to be shown, one per read.
    :param scripts_after_sync: scripts that wait for a POST each.
    """

    id: str
    type: str
    status: str = "connected"
    last_synced_at: Timestamp = None
    error_message: str | None = None
    events_last_24h: int = 0
    events_total: int = 0
    earliest_event_at: Timestamp = None
    extra: dict[str, Any] = field(default_factory=dict)
    sync: Sync | None = None
    schedule_every: float | None = None
    scheduled_sync: Sync | None = None
    next_tick: float = math.inf
    planned: deque[Sync] = field(default_factory=deque)
    script: deque[Mapping[str, Any]] = field(default_factory=deque)
    scripts_after_sync: deque[list[Mapping[str, Any]]] = field(default_factory=deque)
    active: deque[Run] = field(default_factory=deque)
    scripted_run: Run | None = None
    next_change: float = math.inf
    rendered: str | None = None
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def apply(self, fields: Mapping[str, Any]) -> None:
        """
        Set fields of the state.

        :param fields: any of :data:`STATE_FIELDS`; others are an error.
        """
        check_fields(fields)
        for name, value in fields.items():
            setattr(self, name, parse_timestamp(value) if name.endswith("_at") else value)
        if "events_last_24h" in fields:
            self._recent.clear()
        self.rendered = None

    def begin(self, run: Run) -> None:
        """
        Take a sync on: it runs after those that are waiting or running already.

        :param run: the sync; its start is put off to the end of the one before it.
        """
        if self.active:
            run.start = max(run.start, self.active[-1].finish)
        self.active.append(run)

    def schedule(self, every: float | None, now: float) -> None:
        """
        Set FloKit's own schedule; the first sync of it comes one period from now.

        :param every: seconds between syncs; None for none.
        :param now: the present moment.
        """
        if every is not None and not (math.isfinite(every) and every > 0):
            msg = f"schedule_every must be above 0 seconds, not {every!r}"
            raise ValueError(msg)
        self.schedule_every = every
        self.next_tick = math.inf if every is None else now + every

    def advance(self, now: float, start_scheduled: Callable[[SimulatedIntegration, float], Run]) -> None:
        """
        Settle what has finished, and start what the schedule asked for, in the order in which it happened.

        :param now: the present moment.
        :param start_scheduled: makes the run of a scheduled sync that is due at the given moment.
        """
        while True:
            finish = self.active[0].finish if self.active else math.inf
            if min(finish, self.next_tick) > now:
                break
            if finish <= self.next_tick:
                self._settle(self.active.popleft())
                continue
            due, self.next_tick = self.next_tick, self.next_tick + (self.schedule_every or math.inf)
            if not self.active:  # FloKit does not start a scheduled sync on top of one that runs
                self.begin(start_scheduled(self, due))
        run = self.active[0] if self.active else None
        self.next_change = min(
            self.next_tick, math.inf if run is None else run.start if run.start > now else run.finish
        )
        self.rendered = None

    def _settle(self, run: Run) -> None:
        if run.sync.error is not None:
            self.status, self.error_message = "error", run.sync.error
            return
        self.status, self.error_message = "connected", None
        self.last_synced_at = moment(run.finish + run.skew)
        self.events_total += run.sync.events
        self._recent.append((run.finish, run.sync.events))
        if self.earliest_event_at is None:
            self.earliest_event_at = self.last_synced_at

    def cancel(self, now: float) -> None:
        """
        End all syncs that are waiting or running, without an outcome.

        :param now: the present moment.
        """
        for run in self.active:
            run.cancelled = now
        self.active.clear()

    def state(self, now: float) -> IntegrationState:
        """
        Return what it looks like; :meth:`advance` to the same moment first.

        :param now: the present moment.
        """
        syncing = bool(self.active) and self.active[0].start <= now
        while self._recent and self._recent[0][0] <= now - DAY:
            self._recent.popleft()
        return IntegrationState(
            id=self.id,
            type=self.type,
            status="syncing" if syncing else self.status,
            last_synced_at=self.last_synced_at,
            error_message=None if syncing else self.error_message,
            events_last_24h=self.events_last_24h + sum(events for _, events in self._recent),
            events_total=self.events_total,
            earliest_event_at=self.earliest_event_at,
            extra=self.extra,
        )


def check_fields(fields: Mapping[str, Any]) -> None:
    """
    Refuse fields that no integration has, so that a typing mistake in a script does not pass for a state.

    :param fields: the fields of a state.
    """
    if unknown := sorted(set(fields) - STATE_FIELDS):
        msg = f"An integration has no {', '.join(unknown)}; it has {', '.join(sorted(STATE_FIELDS))}"
        raise ValueError(msg)
