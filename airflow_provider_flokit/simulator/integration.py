"""An integration of a simulated workspace, its syncs, and how a test describes them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SyncTrigger: TypeAlias = Literal["manual", "scheduled"]
SyncOutcome: TypeAlias = Literal["waiting", "running", "succeeded", "failed", "cancelled", "scripted"]
Timestamp: TypeAlias = datetime | str | None
"""A time as it is handed in. A text that is no ISO 8601 time is sent to clients as it stands."""


@dataclass(frozen=True, slots=True)
class Sync:
    """
    How long one sync takes, and how it ends.

    :param start_delay: seconds from the request until the status turns ``syncing``; default 0.
    :param duration: seconds that it reads ``syncing``; default 0.1. With 0 no poll can ever see it, with
        ``math.inf`` it never ends by itself.
    :param error: the error message it fails with; default None, it succeeds.
    :param events: events that a successful sync adds to ``sync_stats``; default 100.
    """

    start_delay: float = 0.0
    duration: float = 0.1
    error: str | None = None
    events: int = 100


@dataclass(slots=True, kw_only=True)
class SyncRun:
    """
    One sync that was asked for, as far as it has come. Its times are the server's (with ``clock_skew``).

    :param outcome: ``waiting`` (asked for, not started), ``running``, ``succeeded``, ``failed``, ``cancelled`` (by
        ``set_state`` or a removal) or ``scripted`` (a script shows its outcome, not the time).
    :param start: when it starts, or started, in seconds since the epoch by the simulator's clock.
    :param finish: when it ends, or ended, likewise.
    """

    sync_id: str
    integration_id: str
    idempotency_key: str | None
    trigger: SyncTrigger
    requested_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    outcome: SyncOutcome = "waiting"
    sync: Sync
    start: float
    finish: float


class IntegrationFields(TypedDict, total=False):
    """
    What can be said about an integration.

    ``sync`` is the shape of syncs triggered by POST, ``schedule_every`` the seconds between FloKit's own syncs (None:
    none) and ``scheduled_sync`` the shape of those. ``extra`` holds further fields. The rest is as documented.
    """

    status: str
    last_synced_at: Timestamp
    error_message: str | None
    events_last_24h: int
    events_total: int
    earliest_event_at: Timestamp
    extra: dict[str, Any]
    sync: Sync | None
    schedule_every: float | None
    scheduled_sync: Sync | None


@dataclass(frozen=True, slots=True)
class IntegrationState:
    """What an integration looks like at one moment."""

    id: str
    type: str = "stripe"
    status: str = "connected"
    last_synced_at: Timestamp = None
    error_message: str | None = None
    events_last_24h: int = 0
    events_total: int = 1000
    earliest_event_at: Timestamp = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Integration:
    """
    An integration with its syncs.

    :param resting: what it looks like while no sync runs.
    :param planned: shapes of the next syncs triggered by POST.
    :param active: syncs that wait or run, in order.
    :param script: states still to be shown, one per read.
    :param scripts_after_sync: scripts that wait for a POST each.
    """

    resting: IntegrationState
    sync: Sync | None = None
    scheduled_sync: Sync | None = None
    schedule_every: float | None = None
    next_tick: float = math.inf
    planned: deque[Sync] = field(default_factory=deque)
    active: deque[SyncRun] = field(default_factory=deque)
    script: deque[Mapping[str, Any]] = field(default_factory=deque)
    scripts_after_sync: deque[Sequence[Mapping[str, Any]]] = field(default_factory=deque)

    @property
    def is_syncing(self) -> bool:
        """Whether a sync has started and not ended yet."""
        return bool(self.active) and self.active[0].outcome == "running"

    @property
    def state(self) -> IntegrationState:
        """What it looks like."""
        return replace(self.resting, status="syncing", error_message=None) if self.is_syncing else self.resting

    @property
    def finish(self) -> float:
        """When the first of its syncs ends."""
        return self.active[0].finish if self.active else math.inf

    @property
    def next_change(self) -> float:
        """Until when it looks as it does."""
        start = self.active[0].start if self.active and not self.is_syncing else math.inf
        return -math.inf if self.script else min(start, self.finish, self.next_tick)

    def change(self, fields: Mapping[str, Any], now: float) -> None:
        """Set fields of the state, the schedule, or the shapes of syncs."""
        state = dict(fields)
        if "schedule_every" in state:
            every = state.pop("schedule_every")
            if every is not None and every <= 0:
                raise ValueError(f"schedule_every must be above 0 seconds, not {every!r}")
            self.schedule_every, self.next_tick = every, now + (every or math.inf)
        for name in {"sync", "scheduled_sync"} & set(state):
            setattr(self, name, state.pop(name))
        for name in {"last_synced_at", "earliest_event_at"} & set(state):
            state[name] = parse_timestamp(state[name])
        self.resting = replace(self.resting, **state)

    def check(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Refuse a mistyped field when a script is written, not when it is read."""
        for state in states:
            replace(self.resting, **state)


def moment(seconds: float) -> datetime:
    """Return a moment as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def parse_timestamp(value: Timestamp) -> Timestamp:
    """Return an aware UTC datetime where there is one to be had; a naive time is taken as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
