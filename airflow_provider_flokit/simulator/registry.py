"""
The integrations of a simulated workspace, and what may be done to them directly. Pure state over a clock: no
I/O.

Every method is thread-safe: the server reads in its own thread while a test makes changes from another.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from airflow_provider_flokit.simulator.clock import Clock, moment
from airflow_provider_flokit.simulator.integration import Run, SimulatedIntegration, check_fields
from airflow_provider_flokit.simulator.records import IntegrationState, Sync, SyncTrigger, Timestamp
from airflow_provider_flokit.simulator.switches import SwitchBoard, Switches, SwitchValues

if TYPE_CHECKING:
    from collections.abc import Mapping


class IntegrationFields(TypedDict, total=False):
    """
    What can be said about an integration, in ``add_integration`` and ``set_state``.

    ``sync`` is the shape of syncs triggered by POST, ``schedule_every`` the seconds between FloKit's own
    syncs (None: none) and ``scheduled_sync`` the shape of those. ``extra`` holds further fields to be shown.
    The rest is as documented.
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


class Registry(SwitchBoard):
    """
    The integrations of one workspace, and what a test may do to them directly.

    :param sync: the shape of every sync for which nothing else was said; default ``Sync()``.
    :param clock: the present moment in seconds since the epoch; default the wall clock.
    :param switches: see :class:`~airflow_provider_flokit.simulator.switches.Switches`.
    """

    def __init__(self, *, sync: Sync | None = None, clock: Clock = time.time, **switches: Unpack[SwitchValues]) -> None:
        self._clock = clock
        self._default_sync = sync or Sync()
        self._switches = Switches(**switches)
        self._lock = threading.RLock()
        self._integrations: dict[str, SimulatedIntegration] = {}
        self._runs: list[Run] = []
        self._next_change = math.inf
        self._list: tuple[bytes, str] | None = None
        self._scripted: set[str] = set()

    @property
    def switches(self) -> Switches:
        """All switches as they stand."""
        return self._switches

    def configure(self, **switches: Unpack[SwitchValues]) -> None:
        """
        Set several switches at once.

        :param switches: see :class:`~airflow_provider_flokit.simulator.switches.Switches`.
        """
        self.set_switches(dict(switches))

    def set_switches(self, values: dict[str, Any]) -> None:
        """Set switches by name; :meth:`configure` is the typed form."""
        with self._lock:
            self._switches = dataclasses.replace(self._switches, **values)
            self._list = None
            for integration in self._integrations.values():
                integration.rendered = None

    def server_time(self) -> float:
        """Return the present moment by the server's clock, in seconds since the epoch."""
        return self._clock() + self._switches.clock_skew

    def add_integration(
        self,
        integration_id: str,
        type: str = "stripe",  # noqa: A002 - the field is called so
        **fields: Unpack[IntegrationFields],
    ) -> IntegrationState:
        """
        Add an integration and return its state.

        :param integration_id: its id, not used yet.
        :param type: any text; default ``stripe``.
        :param fields: the rest; by default ``connected`` and last synced an hour ago (an ``error`` has a
            message).
        """
        values: dict[str, Any] = {"status": "connected", "events_total": 1000, "extra": {}}
        with self._lock:
            if integration_id in self._integrations:
                msg = f"There is an integration {integration_id} already"
                raise ValueError(msg)
            server_now = moment(self.server_time()).replace(microsecond=0)
            values["last_synced_at"] = server_now - timedelta(hours=1)
            values["earliest_event_at"] = server_now - timedelta(days=30)
            if fields.get("status") == "error":
                values["error_message"] = "The last sync failed"
            integration = SimulatedIntegration(id=integration_id, type=type)
            self._change(integration, {**values, **fields})
            self._integrations[integration_id] = integration
            self._touch(integration)
            return self.integration(integration_id)

    def set_state(self, integration_id: str, **fields: Any) -> IntegrationState:
        """
        Set fields of an integration at once and return its state.

        :param integration_id: its id.
        :param fields: ``type`` and those of :class:`IntegrationFields`. A ``status`` cancels what is running.
        """
        with self._lock:
            self._advance()
            integration = self._get(integration_id)
            self._change(integration, fields)
            self._touch(integration)
            return self.integration(integration_id)

    def _change(self, integration: SimulatedIntegration, fields: Mapping[str, Any]) -> None:
        settings = {"sync", "schedule_every", "scheduled_sync"} & set(fields)
        state = {name: value for name, value in fields.items() if name not in settings}
        check_fields(state)
        if "schedule_every" in settings:
            integration.schedule(fields["schedule_every"], self._clock())
        for name in settings - {"schedule_every"}:
            setattr(integration, name, fields[name])
        self._show(integration, state)

    def _show(self, integration: SimulatedIntegration, state: Mapping[str, Any]) -> None:
        if "status" in state:
            integration.cancel(self._clock())
        integration.apply(state)

    def remove_integration(self, integration_id: str) -> None:
        """
        Remove an integration; from now on its id is unknown.

        :param integration_id: its id.
        """
        with self._lock:
            self._get(integration_id).cancel(self._clock())
            del self._integrations[integration_id]
            self._scripted.discard(integration_id)
            self._list = None

    def integration(self, integration_id: str) -> IntegrationState:
        """
        Return how an integration looks now, without that counting as a read.

        :param integration_id: its id; :class:`KeyError` when it is unknown.
        """
        with self._lock:
            self._advance()
            return self._get(integration_id).state(self._clock())

    @property
    def integrations(self) -> list[IntegrationState]:
        """How all integrations look now, without that counting as a read."""
        with self._lock:
            self._advance()
            now = self._clock()
            return [integration.state(now) for integration in self._integrations.values()]

    def _get(self, integration_id: str) -> SimulatedIntegration:
        try:
            return self._integrations[integration_id]
        except KeyError:
            msg = f"There is no integration {integration_id} in this workspace"
            raise KeyError(msg) from None

    def _touch(self, integration: SimulatedIntegration) -> None:
        integration.advance(self._clock(), self._scheduled_run)
        self._next_change = min(self._next_change, integration.next_change)
        self._list = None

    def _advance(self) -> None:
        now = self._clock()
        if now < self._next_change:
            return
        for integration in self._integrations.values():
            if integration.next_change <= now:
                integration.advance(now, self._scheduled_run)
        self._next_change = min((one.next_change for one in self._integrations.values()), default=math.inf)
        self._list = None

    def _new_run(
        self,
        integration: SimulatedIntegration,
        trigger: SyncTrigger,
        sync: Sync,
        requested: float,
        *,
        idempotency_key: str | None = None,
        scripted: bool = False,
    ) -> Run:
        run = Run(
            sync_id=f"sync_sim{len(self._runs) + 1:012d}",
            integration_id=integration.id,
            idempotency_key=idempotency_key,
            trigger=trigger,
            sync=sync,
            requested=requested,
            start=requested + sync.start_delay,
            skew=self._switches.clock_skew,
            scripted=scripted,
        )
        self._runs.append(run)
        return run

    def _scheduled_run(self, integration: SimulatedIntegration, due: float, sync: Sync | None = None) -> Run:
        sync = sync or integration.scheduled_sync or self._default_sync
        return self._new_run(integration, "scheduled", sync, due)
