"""A FloKit workspace: its integrations, and how the API shows them. No I/O. Every public method is thread-safe."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_flokit.simulator.integration import Integration, IntegrationState, Sync, SyncRun, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

POSITIONS = {
    "when_running": ("join", "queue", "conflict"),
    "error_body": ("json", "html", "empty"),
    "never_synced": ("null", "absent"),
    "timestamp_format": ("Z", "seconds", "+00:00", "naive"),
}
"""The switches that have named positions."""


class Workspace:
    """
    The integrations of one workspace, and a switch for everything that FloKit does not document.

    The switches are parameters; they are also attributes that can be set at any time.

    :param sync: how syncs go if their integration says nothing else; default ``Sync()``.
    :param clock: returns the present time in seconds since the epoch; default the wall clock.
    :param when_running: what a POST does while a sync waits or runs: ``join`` (default) answers with that sync's id,
        ``queue`` runs another sync after it, ``conflict`` answers 409.
    :param error_body: the body of 404, 409 and the rate limit's 429: ``json`` (default), ``html`` or ``empty``.
    :param honour_idempotency_key: whether a repeated POST with the same key gets the same answer and starts nothing;
        default True.
    :param never_synced: ``last_synced_at`` of an integration that has never synced: ``null`` (default) or ``absent``.
    :param timestamp_format: ``Z`` (default; with fractions of a second), ``seconds`` (``Z`` without them), ``+00:00``
        or ``naive``.
    :param clock_skew: seconds that the server's clock is ahead of ours (negative: behind); default 0. Raise it to let
        time pass.
    :param latency: seconds that every request takes before it is handled; default 0.
    :param rate_limit: ``(requests, seconds)``: requests allowed per window; more get 429 with ``Retry-After``; default
        None.
    """

    when_running: str = "join"
    error_body: str = "json"
    honour_idempotency_key: bool = True
    never_synced: str = "null"
    timestamp_format: str = "Z"
    clock_skew: float = 0.0
    latency: float = 0.0
    rate_limit: tuple[int, float] | None = None

    def __init__(self, *, sync: Sync | None = None, clock: Callable[[], float] = time.time, **switches: Any) -> None:
        self.sync = sync or Sync()
        self._clock = clock
        self._lock = threading.Condition()
        self._integrations: dict[str, Integration] = {}
        self._syncs: list[SyncRun] = []
        self._answered: dict[tuple[str, str], str] = {}
        self.configure(**switches)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse an unknown position of a switch: with a mistyped one, a test would prove nothing."""
        if name in POSITIONS and value not in POSITIONS[name]:
            raise ValueError(f"{name} must be one of {', '.join(POSITIONS[name])}, not {value!r}")
        super().__setattr__(name, value)

    def configure(self, **switches: Any) -> None:
        """Set several switches at once."""
        for name, value in switches.items():
            if name not in Workspace.__annotations__:
                raise TypeError(f"The simulator has no {name}; it has {', '.join(Workspace.__annotations__)}")
            setattr(self, name, value)

    def server_time(self) -> float:
        """Return the server time, in seconds since the epoch."""
        return self._clock() + self.clock_skew

    # For tests

    def add_integration(
        self,
        integration_id: str,
        type: str = "stripe",  # noqa: A002 - the name of the field
        *,
        sync: Sync | None = None,
        schedule_every: float | None = None,
        **fields: Any,
    ) -> None:
        """
        Add an integration.

        :param type: any text; default ``stripe``.
        :param sync: how its syncs go, except planned ones; default the workspace's ``sync``.
        :param schedule_every: seconds between the syncs that FloKit starts by itself; default never.
        :param fields: ``status``, ``last_synced_at``, ``error_message``, ``events_last_24h``, ``events_total``,
            ``earliest_event_at``, and ``extra``, a dict of further fields. By default the integration is ``connected``
            and last synced an hour ago. A time is a datetime, or a text that is sent unchanged.
        """
        with self._lock:
            if integration_id in self._integrations:
                raise ValueError(f"There is an integration {integration_id} already")
            every = math.inf if schedule_every is None else schedule_every
            if every <= 0:
                raise ValueError(f"schedule_every must be above 0 seconds, not {schedule_every!r}")
            now = moment(self.server_time()).replace(microsecond=0)
            usual = {
                "last_synced_at": now - timedelta(hours=1),
                "error_message": "The last sync failed" if fields.get("status") == "error" else None,
                "earliest_event_at": now - timedelta(days=30),
            }
            self._integrations[integration_id] = Integration(
                IntegrationState(integration_id, type, **{**usual, **fields}),
                sync or self.sync,
                self._syncs,
                every,
                self.server_time() + every,
            )

    def set_state(self, integration_id: str, **fields: Any) -> None:
        """
        Change an integration at once.

        :param fields: ``type`` and the fields of ``add_integration``. A ``status`` cancels syncs that wait or run.
        """
        with self._lock:
            self._get(integration_id).change(fields)

    def remove_integration(self, integration_id: str) -> None:
        """Remove an integration; from now on its id is unknown."""
        with self._lock:
            self._get(integration_id)
            del self._integrations[integration_id]

    def script(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """
        Let each further read (of the list or of the integration) show the next state; the last state stays.

        :param states: fields to set, such as ``{"status": "syncing"}``; other fields do not change.
        """
        with self._lock:
            integration = self._get(integration_id)
            for state in states:
                replace(integration.resting, **state)  # a mistyped field fails here, not in a read
            integration.script.clear()
            integration.script.extend(states)

    def plan(self, integration_id: str, *syncs: Sync) -> None:
        """Plan the next syncs that are triggered by POST, after those already planned; each start takes one."""
        with self._lock:
            self._get(integration_id).planned.extend(syncs)

    def run_scheduled_sync(self, integration_id: str, sync: Sync | None = None) -> SyncRun:
        """
        Start one of FloKit's own syncs now (after those that wait or run).

        :param sync: how it goes; default the integration's ``sync``.
        """
        with self._lock:
            integration = self._get(integration_id)
            run = integration.request_sync("scheduled", sync or integration.sync, self.server_time())
            integration.advance(self.server_time())
            return replace(run)

    def finish_sync(self, integration_id: str) -> SyncRun | None:
        """End the sync that waits or runs, now, with its planned result; None if there is none."""
        with self._lock:
            integration, now = self._get(integration_id), self.server_time()
            if not integration.active:
                return None
            run = integration.active[0]
            run.start, run.finish = min(run.start, now), now
            integration.advance(now)
            return replace(run)

    # The state, and what has happened

    def integration(self, integration_id: str) -> IntegrationState:
        """Return an integration's state now; this does not count as a read. KeyError for an unknown id."""
        with self._lock:
            return self._get(integration_id).state

    @property
    def integrations(self) -> list[IntegrationState]:
        """The states of all integrations now; this does not count as a read."""
        with self._lock:
            return [self.integration(integration_id) for integration_id in self._integrations]

    @property
    def syncs(self) -> list[SyncRun]:
        """Every sync that was requested, in order, with its progress."""
        with self._lock:
            for integration_id in self._integrations:
                self._get(integration_id)
            return [replace(run) for run in self._syncs]

    # For the API: each method returns the answer and a note in plain words

    def read_list(self) -> tuple[dict[str, Any], str]:
        """Serve a read of the list."""
        with self._lock:
            states = [self._read(integration_id) for integration_id in self._integrations]
            counts = Counter(state.status for state in states).items()
            summary = ", ".join(f"{count} {status}" for status, count in counts)
            return {"integrations": [self._document(state) for state in states]}, summary

    def read_one(self, integration_id: str) -> tuple[dict[str, Any], str]:
        """Serve a read of an integration; KeyError for an unknown id."""
        with self._lock:
            state = self._read(integration_id)
            stats = {
                "events_last_24h": state.events_last_24h,
                "events_total": state.events_total,
                "earliest_event_at": self._timestamp(state.earliest_event_at),
            }
            return {"integration": {**self._document(state), "sync_stats": stats}}, state.status

    def request_sync(self, integration_id: str, idempotency_key: str | None) -> tuple[str | None, str]:
        """Serve a POST: the sync_id; None if it is refused because a sync runs. KeyError for an unknown id."""
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
                sync = integration.planned.popleft() if integration.planned else integration.sync
                run = integration.request_sync("manual", sync, self.server_time(), idempotency_key)
                note = f"{'queued' if current else 'started'} {run.sync_id}"
            if idempotency_key:
                self._answered[key] = run.sync_id
            return run.sync_id, note

    def _get(self, integration_id: str) -> Integration:
        """Return an integration, brought up to date."""
        if integration_id not in self._integrations:
            raise KeyError(f"There is no integration {integration_id} in this workspace")
        integration = self._integrations[integration_id]
        integration.advance(self.server_time())
        return integration

    def _read(self, integration_id: str) -> IntegrationState:
        """Return the state that a read shows; this takes the next state of its script."""
        integration = self._get(integration_id)
        if integration.script:
            integration.change(integration.script.popleft())
        return integration.state

    def _document(self, state: IntegrationState) -> dict[str, Any]:
        """Return an integration as the list shows it."""
        document = {
            "id": state.id,
            "type": state.type,
            "status": state.status,
            "last_synced_at": self._timestamp(state.last_synced_at),
            "error_message": state.error_message,
            **state.extra,
        }
        if state.last_synced_at is None and self.never_synced == "absent":
            del document["last_synced_at"]
        return document

    def _timestamp(self, value: datetime | str | None) -> str | None:
        if not isinstance(value, datetime):
            return value
        utc = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        timespec = "seconds" if self.timestamp_format == "seconds" else "auto"
        zone = {"+00:00": "+00:00", "naive": ""}.get(self.timestamp_format, "Z")
        return utc.isoformat(timespec=timespec) + zone
