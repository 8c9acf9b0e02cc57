"""
A FloKit workspace: what happens to its integrations as time passes, and what the API shows of that. No I/O.

Nothing runs in the background: when a sync starts and ends is known as soon as it is asked for, and whoever looks
settles what has happened by then. Every method is thread-safe.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Unpack, get_args, get_origin, get_type_hints

from airflow_provider_flokit.simulator.faults import BodyKind  # noqa: TC001 - read by get_type_hints
from airflow_provider_flokit.simulator.integration import (
    Integration,
    IntegrationFields,
    IntegrationState,
    Sync,
    SyncRun,
    SyncTrigger,
    Timestamp,
    moment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Clock: TypeAlias = Callable[[], float]


class ManualClock:
    """
    A clock that stands still until it is told to move, so that a test can live a day in no time.

    :param start: the moment it shows first, in seconds since the epoch; default 2024-03-15T13:00:00Z.
    """

    def __init__(self, start: float = 1_710_507_600.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the present moment."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self._now += seconds


class Workspace:
    """
    The integrations of one workspace, and a switch for everything that FloKit's reference leaves open.

    The switches are parameters, and attributes that can be set at any time.

    :param sync: the shape of every sync for which nothing else was said; default ``Sync()``.
    :param clock: the present moment in seconds since the epoch; default the wall clock.
    :param when_running: what a POST does while a sync waits or runs: ``join`` (default) answers that sync's id,
        ``queue`` runs another one after it, ``conflict`` answers 409.
    :param conflict_body: the body of that 409: ``json`` (default), ``html`` or ``empty``.
    :param unknown_id_body: the body of the 404 for an unknown id, likewise.
    :param honour_idempotency_key: whether a repeated POST with the same key gets the same answer and starts nothing;
        default True.
    :param never_synced: ``last_synced_at`` of an integration that never synced: ``null`` (default) or ``absent``.
    :param no_error: ``error_message`` where there is none: ``null`` (default, as documented) or ``absent``.
    :param timestamp_format: ``Z`` (default; with a fraction where there is one), ``seconds`` (``Z``, fractions cut
        off), ``+00:00``, ``fraction`` (always) or ``naive``.
    :param send_date: whether answers carry a ``Date`` header; default True.
    :param clock_skew: seconds the server's clock is ahead (negative: behind) of ours; default 0. It moves ``Date`` and
        the timestamps of syncs, never their durations.
    :param latency: seconds that every request takes before it is handled; default 0.
    :param rate_limit: ``(requests, seconds)`` allowed per window; beyond them 429 with ``Retry-After``; default None.
    """

    when_running: Literal["join", "queue", "conflict"] = "join"
    conflict_body: BodyKind = "json"
    unknown_id_body: BodyKind = "json"
    honour_idempotency_key: bool = True
    never_synced: Literal["null", "absent"] = "null"
    no_error: Literal["null", "absent"] = "null"
    timestamp_format: Literal["Z", "+00:00", "fraction", "naive", "seconds"] = "Z"
    send_date: bool = True
    clock_skew: float = 0.0
    latency: float = 0.0
    rate_limit: tuple[int, float] | None = None

    def __init__(self, *, sync: Sync | None = None, clock: Clock = time.time, **switches: Any) -> None:
        self.sync = sync or Sync()
        self._clock = clock
        self._lock = threading.RLock()
        self._integrations: dict[str, Integration] = {}
        self._syncs: list[SyncRun] = []
        self._answered: dict[tuple[str, str], str] = {}
        self._list = (b"", "")
        self._list_until = -math.inf
        self.configure(**switches)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a position that a switch does not have."""
        if name in _POSITIONS:
            if value not in _POSITIONS[name]:
                raise ValueError(f"{name} must be one of {', '.join(_POSITIONS[name])}, not {value!r}")
            self._list_until = -math.inf
        super().__setattr__(name, value)

    def configure(self, **switches: Any) -> None:
        """Set several switches at once."""
        for name, value in switches.items():
            if name not in Workspace.__annotations__:
                raise TypeError(f"The simulator has no {name}; it has {', '.join(Workspace.__annotations__)}")
            setattr(self, name, value)

    def server_time(self) -> float:
        """Return the present moment by the server's clock, in seconds since the epoch."""
        return self._clock() + self.clock_skew

    # Integrations

    def add_integration(
        self,
        integration_id: str,
        type: str = "stripe",  # noqa: A002 - the field is called so
        **fields: Unpack[IntegrationFields],
    ) -> IntegrationState:
        """
        Add an integration and return its state.

        :param type: any text; default ``stripe``.
        :param fields: the rest; by default ``connected`` and last synced an hour ago (an ``error`` has a message).
        """
        with self._lock:
            if integration_id in self._integrations:
                raise ValueError(f"There is an integration {integration_id} already")
            now = moment(self.server_time()).replace(microsecond=0)
            resting = IntegrationState(
                integration_id,
                type,
                last_synced_at=now - timedelta(hours=1),
                error_message="The last sync failed" if fields.get("status") == "error" else None,
                earliest_event_at=now - timedelta(days=30),
            )
            integration = Integration(resting)
            self._change(integration, fields)
            self._integrations[integration_id] = integration
            return integration.state

    def set_state(self, integration_id: str, **fields: Any) -> IntegrationState:
        """
        Set fields of an integration at once and return its state.

        :param fields: ``type`` and those of ``add_integration``. A ``status`` cancels what is running.
        """
        with self._lock:
            integration = self._get(integration_id)
            self._change(integration, fields)
            return integration.state

    def remove_integration(self, integration_id: str) -> None:
        """Remove an integration; from now on its id is unknown."""
        with self._lock:
            self._cancel(self._get(integration_id))
            del self._integrations[integration_id]

    def integration(self, integration_id: str) -> IntegrationState:
        """Return how an integration looks now, without that counting as a read; KeyError for an unknown id."""
        with self._lock:
            return self._get(integration_id).state

    @property
    def integrations(self) -> list[IntegrationState]:
        """How all integrations look now, without that counting as a read."""
        with self._lock:
            return [self.integration(integration_id) for integration_id in self._integrations]

    def script(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """
        Let each further read (of the list or of the integration) show the next state; the last one stays.

        :param states: fields to set, such as ``{"status": "syncing"}``; what a state does not name stays.
        """
        with self._lock:
            integration = self._get(integration_id)
            integration.check(states)
            integration.script.clear()
            integration.script.extend(states)
            self._list_until = -math.inf

    def script_after_sync(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """
        Like :meth:`script`, from the first read after the next POST, which then starts no timed sync.

        :param states: as for :meth:`script`. Several scripts are used up by one POST each.
        """
        with self._lock:
            integration = self._get(integration_id)
            integration.check(states)
            integration.scripts_after_sync.append(states)

    # Syncs

    @property
    def syncs(self) -> list[SyncRun]:
        """Every sync that was asked for, in that order, as far as it has come."""
        with self._lock:
            for integration in self._integrations.values():
                self._advance(integration)
            return [replace(run) for run in self._syncs]

    def plan(self, integration_id: str, *syncs: Sync) -> None:
        """Say how the next syncs triggered by POST go, after those planned before; each one that starts uses up one."""
        with self._lock:
            self._get(integration_id).planned.extend(syncs)

    def run_scheduled_sync(self, integration_id: str, sync: Sync | None = None) -> SyncRun:
        """
        Start one of FloKit's own syncs now (after those that are running).

        :param sync: its shape; default the integration's ``scheduled_sync``.
        """
        with self._lock:
            integration = self._get(integration_id)
            run = self._begin(integration, "scheduled", sync or integration.scheduled_sync or self.sync, self._clock())
            self._advance(integration)
            return replace(run)

    def finish_sync(self, integration_id: str) -> SyncRun | None:
        """End the sync that waits or runs, now, as it would have ended; None when there is none."""
        with self._lock:
            integration, now = self._get(integration_id), self._clock()
            if not integration.active:
                return None
            run = integration.active[0]
            run.start, run.finish = min(run.start, now), now
            self._list_until = -math.inf
            self._advance(integration)
            return replace(run)

    # What the API does

    def read_list(self) -> tuple[bytes, str]:
        """Serve one read of the list: its body, and a summary for the record. It is kept while nothing changes."""
        with self._lock:
            if self._clock() >= self._list_until:
                states = [self._read(integration) for integration in self._integrations.values()]
                documents = [self._document(state) for state in states]
                body = json.dumps({"integrations": documents}, ensure_ascii=False).encode()
                counts = Counter(state.status for state in states).items()
                summary = ", ".join(f"{count} {status}" for status, count in counts)
                self._list = body, f"{len(states)} integrations: {summary}"
                self._list_until = min((each.next_change for each in self._integrations.values()), default=math.inf)
            return self._list

    def read_one(self, integration_id: str) -> tuple[bytes, str]:
        """Serve one read of an integration, likewise; KeyError for an unknown id."""
        with self._lock:
            state = self._read(self._get(integration_id))
            stats = {
                "events_last_24h": state.events_last_24h,
                "events_total": state.events_total,
                "earliest_event_at": self._timestamp(state.earliest_event_at),
            }
            document = {"integration": {**self._document(state), "sync_stats": stats}}
            summary = state.status if state.error_message is None else f"{state.status}: {state.error_message}"
            return json.dumps(document, ensure_ascii=False).encode(), summary

    def request_sync(self, integration_id: str, idempotency_key: str | None) -> tuple[str | None, str]:
        """Serve one POST: the sync_id (None: refused, one is running) and a summary; KeyError for an unknown id."""
        with self._lock:
            integration = self._get(integration_id)
            key = (integration_id, idempotency_key or "")
            if self.honour_idempotency_key and key in self._answered:
                return self._answered[key], f"the same answer as before, {self._answered[key]}: nothing new was started"
            current = integration.active[-1] if integration.active else None
            if current is not None and self.when_running == "conflict":
                return None, f"{current.sync_id} is running already"
            if current is not None and self.when_running == "join":
                run, note = current, f"joined {current.sync_id}, which is running already"
            else:
                run = self._start(integration, idempotency_key)
                note = f"{'queued' if current else 'started'} {run.sync_id}"
            if idempotency_key:
                self._answered[key] = run.sync_id
            return run.sync_id, note

    # Inside

    def _get(self, integration_id: str) -> Integration:
        if integration_id not in self._integrations:
            raise KeyError(f"There is no integration {integration_id} in this workspace")
        integration = self._integrations[integration_id]
        self._advance(integration)
        return integration

    def _change(self, integration: Integration, fields: Mapping[str, Any]) -> None:
        integration.change(fields, self._clock())
        if "status" in fields:
            self._cancel(integration)
        self._list_until = -math.inf

    def _cancel(self, integration: Integration) -> None:
        for run in integration.active:
            run.outcome, run.finished_at = "cancelled", moment(self.server_time())
        integration.active.clear()
        self._list_until = -math.inf

    def _start(self, integration: Integration, idempotency_key: str | None) -> SyncRun:
        if not integration.scripts_after_sync:
            sync = integration.planned.popleft() if integration.planned else integration.sync or self.sync
            return self._begin(integration, "manual", sync, self._clock(), idempotency_key)
        self.script(integration.resting.id, integration.scripts_after_sync.popleft())
        run = self._begin(integration, "manual", self.sync, self._clock(), idempotency_key)
        integration.active.remove(run)
        run.outcome = "scripted"
        return run

    def _begin(
        self, integration: Integration, trigger: SyncTrigger, sync: Sync, requested: float, key: str | None = None
    ) -> SyncRun:
        start = requested + sync.start_delay
        run = SyncRun(
            sync_id=f"sync_sim{len(self._syncs) + 1:012d}",
            integration_id=integration.resting.id,
            idempotency_key=key,
            trigger=trigger,
            requested_at=moment(requested + self.clock_skew),
            sync=sync,
            start=start,
            finish=start + sync.duration,
        )
        self._syncs.append(run)
        integration.active.append(run)
        self._list_until = -math.inf
        return run

    def _advance(self, integration: Integration) -> None:
        """Settle what has happened by now, in the order in which it happened."""
        now = self._clock()
        while min(integration.finish, integration.next_tick) <= now:
            if integration.finish <= integration.next_tick:
                self._settle(integration)
                continue
            due = integration.next_tick
            integration.next_tick += integration.schedule_every or math.inf
            if not integration.active:  # FloKit does not start a scheduled sync on top of one that runs
                self._begin(integration, "scheduled", integration.scheduled_sync or self.sync, due)
        if integration.active and integration.active[0].start <= now:
            run = integration.active[0]
            run.outcome, run.started_at = "running", moment(run.start + self.clock_skew)

    def _settle(self, integration: Integration) -> None:
        """End the first active sync as its shape says."""
        run, before = integration.active.popleft(), integration.resting
        if integration.active:
            following = integration.active[0]
            following.start = max(following.start, run.finish)
            following.finish = following.start + following.sync.duration
        run.started_at = moment(run.start + self.clock_skew)
        run.finished_at = moment(run.finish + self.clock_skew)
        if run.sync.error is not None:
            run.outcome, run.error = "failed", run.sync.error
            integration.resting = replace(before, status="error", error_message=run.error)
            return
        run.outcome = "succeeded"
        integration.resting = replace(
            before,
            status="connected",
            error_message=None,
            last_synced_at=run.finished_at,
            events_last_24h=before.events_last_24h + run.sync.events,
            events_total=before.events_total + run.sync.events,
            earliest_event_at=before.earliest_event_at or run.finished_at,
        )

    def _read(self, integration: Integration) -> IntegrationState:
        """Return the state that a read shows, the next one of its script included."""
        self._advance(integration)
        if integration.script:
            self._change(integration, integration.script.popleft())
        return integration.state

    def _document(self, state: IntegrationState) -> dict[str, Any]:
        """Return an integration as the list shows it."""
        document: dict[str, Any] = {"id": state.id, "type": state.type, "status": state.status}
        if state.last_synced_at is not None or self.never_synced == "null":
            document["last_synced_at"] = self._timestamp(state.last_synced_at)
        if state.error_message is not None or self.no_error == "null":
            document["error_message"] = state.error_message
        return {**document, **state.extra}

    def _timestamp(self, value: Timestamp) -> str | None:
        if not isinstance(value, datetime):
            return value
        timespec = {"fraction": "microseconds", "seconds": "seconds"}.get(self.timestamp_format, "auto")
        zone = {"naive": "", "+00:00": "+00:00"}.get(self.timestamp_format, "Z")
        return value.replace(tzinfo=None).isoformat(timespec=timespec) + zone


_POSITIONS: Final = {
    name: get_args(kind) for name, kind in get_type_hints(Workspace).items() if get_origin(kind) is Literal
}
