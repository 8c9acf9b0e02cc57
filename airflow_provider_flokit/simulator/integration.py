"""
An integration and its syncs. All times in seconds are server times since the epoch.

Nothing runs in the background: a request fixes when its sync starts and ends, and ``advance`` brings the integration
up to date.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Sync:
    """
    How long one sync takes, and how it ends.

    :param start_delay: seconds from the request until the status turns ``syncing``; default 0.
    :param duration: seconds in the status ``syncing``; default 0.1. With 0, no poll can see it; with ``math.inf``, it
        never ends by itself.
    :param error: the error message if it fails; default None: it succeeds.
    :param events: events that a successful sync adds to ``sync_stats``; default 100.
    """

    start_delay: float = 0.0
    duration: float = 0.1
    error: str | None = None
    events: int = 100


@dataclass(slots=True)
class SyncRun:
    """
    One sync that was requested, and its progress.

    :param start: when it starts or started, in seconds since the epoch.
    :param finish: when it ends or ended, in seconds since the epoch.
    :param outcome: ``cancelled`` if a status was set by hand before its end.
    """

    sync_id: str
    integration_id: str
    trigger: Literal["manual", "scheduled"]
    idempotency_key: str | None
    sync: Sync
    start: float
    finish: float
    requested_at: datetime
    finished_at: datetime | None = None
    error: str | None = None
    outcome: Literal["waiting", "running", "succeeded", "failed", "cancelled"] = "waiting"


@dataclass(frozen=True, slots=True)
class IntegrationState:
    """An integration at one moment. ``extra`` has further fields. If a time is a text, it is sent unchanged."""

    id: str
    type: str = "stripe"
    status: str = "connected"
    last_synced_at: datetime | str | None = None
    error_message: str | None = None
    events_last_24h: int = 0
    events_total: int = 1000
    earliest_event_at: datetime | str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Integration:
    """An integration of a workspace; ``runs`` has the syncs of all integrations of the workspace."""

    resting: IntegrationState
    sync: Sync
    runs: list[SyncRun]
    schedule_every: float = math.inf
    next_tick: float = math.inf
    planned: deque[Sync] = field(default_factory=deque)
    active: deque[SyncRun] = field(default_factory=deque)
    script: deque[Mapping[str, Any]] = field(default_factory=deque)

    @property
    def state(self) -> IntegrationState:
        """The state now: ``resting``, unless a sync runs."""
        if self.active and self.active[0].outcome == "running":
            return replace(self.resting, status="syncing", error_message=None)
        return self.resting

    def change(self, fields: Mapping[str, Any]) -> None:
        """Set fields of the state; a status cancels the syncs that wait or run."""
        self.resting = replace(self.resting, **fields)
        if "status" in fields:
            for run in self.active:
                run.outcome = "cancelled"
            self.active.clear()

    def request_sync(
        self, trigger: Literal["manual", "scheduled"], sync: Sync, at: float, key: str | None = None
    ) -> SyncRun:
        """Add a sync that runs after those that wait or run already."""
        start = at + sync.start_delay
        run = SyncRun(
            sync_id=f"sync_sim{len(self.runs) + 1:012d}",
            integration_id=self.resting.id,
            trigger=trigger,
            idempotency_key=key,
            sync=sync,
            start=start,
            finish=start + sync.duration,
            requested_at=moment(at),
        )
        self.runs.append(run)
        self.active.append(run)
        return run

    def advance(self, now: float) -> None:
        """Carry out everything that has happened until now, in order."""
        while min(finish := self.active[0].finish if self.active else math.inf, self.next_tick) <= now:
            if finish <= self.next_tick:
                self._finish_first()
                continue
            if not self.active:  # FloKit does not start a scheduled sync while another one runs
                self.request_sync("scheduled", self.sync, self.next_tick)
            self.next_tick += self.schedule_every
        if self.active and self.active[0].start <= now:
            self.active[0].outcome = "running"

    def _finish_first(self) -> None:
        run = self.active.popleft()
        run.finished_at = moment(run.finish)
        if self.active:
            following = self.active[0]
            following.start = max(following.start, run.finish)
            following.finish = following.start + following.sync.duration
        if run.sync.error is not None:
            run.outcome, run.error = "failed", run.sync.error
            self.resting = replace(self.resting, status="error", error_message=run.error)
            return
        run.outcome = "succeeded"
        self.resting = replace(
            self.resting,
            status="connected",
            error_message=None,
            last_synced_at=run.finished_at,
            events_last_24h=self.resting.events_last_24h + run.sync.events,
            events_total=self.resting.events_total + run.sync.events,
        )


def moment(seconds: float) -> datetime:
    """Return a moment as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)
