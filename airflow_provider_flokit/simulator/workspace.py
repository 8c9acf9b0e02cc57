"""A FloKit workspace: its syncs, schedules and scripts, and what the API shows of them. No I/O."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Unpack

from airflow_provider_flokit.simulator.integration import DAY, SimulatedIntegration, check_fields
from airflow_provider_flokit.simulator.registry import Registry
from airflow_provider_flokit.simulator.rendering import integration_document, single_document, to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_flokit.simulator.clock import Clock
    from airflow_provider_flokit.simulator.records import Sync, SyncRun
    from airflow_provider_flokit.simulator.switches import SwitchValues


class Workspace(Registry):
    """
    The integrations of one workspace and everything that happens to them.

    :param sync: the shape of every sync for which nothing else was said; default ``Sync()``.
    :param clock: the present moment in seconds since the epoch; default the wall clock.
    :param switches: see :class:`~airflow_provider_flokit.simulator.switches.Switches`.
    """

    def __init__(self, *, sync: Sync | None = None, clock: Clock = time.time, **switches: Unpack[SwitchValues]) -> None:
        super().__init__(sync=sync, clock=clock, **switches)
        self._answered: dict[tuple[str, str], tuple[float, str]] = {}

    # Syncs

    @property
    def syncs(self) -> list[SyncRun]:
        """Every sync that was asked for, in that order, as far as it has come."""
        with self._lock:
            self._advance()
            now = self._clock()
            return [run.record(now) for run in self._runs]

    def plan(self, integration_id: str, *syncs: Sync) -> None:
        """
        Say how the next syncs triggered by POST go; each one that starts uses up one.

        :param integration_id: its id.
        :param syncs: their shapes, in order, after those planned before.
        """
        with self._lock:
            self._get(integration_id).planned.extend(syncs)

    def run_scheduled_sync(self, integration_id: str, sync: Sync | None = None) -> SyncRun:
        """
        Start one of FloKit's own syncs now (after those that are running).

        :param integration_id: its id.
        :param sync: its shape; default the integration's ``scheduled_sync``.
        """
        with self._lock:
            self._advance()
            integration, now = self._get(integration_id), self._clock()
            run = self._scheduled_run(integration, now, sync)
            integration.begin(run)
            self._touch(integration)
            return run.record(now)

    def script(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """
        Let each further read (of the list or of the integration) show the next state; the last one stays.

        :param integration_id: its id.
        :param states: fields to set, such as ``{"status": "syncing"}``; what a state does not name stays.
        """
        with self._lock:
            integration = self._get(integration_id)
            for state in states:
                check_fields(state)
            integration.script.clear()
            integration.script.extend(states)
            self._scripted.add(integration_id)

    def script_after_sync(self, integration_id: str, states: Sequence[Mapping[str, Any]]) -> None:
        """
        Like :meth:`script`, from the first read after the next POST, which then starts no timed sync.

        :param integration_id: its id.
        :param states: as for :meth:`script`. Several scripts are used up by one POST each.
        """
        with self._lock:
            for state in states:
                check_fields(state)
            self._get(integration_id).scripts_after_sync.append(list(states))

    # What the API does

    def read_list(self) -> tuple[bytes, str]:
        """Serve one read of the list: its body, and a summary in words."""
        with self._lock:
            self._advance()
            for integration_id in list(self._scripted):
                self._next_scene(self._integrations[integration_id])
            if self._list is None:
                now, statuses, parts = self._clock(), Counter[str](), []
                for integration in self._integrations.values():
                    state = integration.state(now)
                    statuses[state.status] += 1
                    if integration.rendered is None:
                        document = integration_document(state, self._switches)
                        integration.rendered = json.dumps(document, ensure_ascii=False)
                    parts.append(integration.rendered)
                counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
                self._list = (
                    f'{{"integrations": [{", ".join(parts)}]}}'.encode(),
                    f"{len(parts)} integrations: {counts}",
                )
            return self._list

    def read_one(self, integration_id: str) -> tuple[bytes, str] | None:
        """
        Serve one read of an integration: its body, and a summary in words; None for an unknown id.

        :param integration_id: its id.
        """
        with self._lock:
            self._advance()
            integration = self._integrations.get(integration_id)
            if integration is None:
                return None
            self._next_scene(integration)
            state = integration.state(self._clock())
            summary = state.status if state.error_message is None else f"{state.status}: {state.error_message}"
            return to_bytes(single_document(state, self._switches)), summary

    def request_sync(self, integration_id: str, idempotency_key: str | None) -> tuple[str | None, str] | None:
        """
        Serve one POST: the sync_id (None: refused, one is running) and a summary in words; None for an
        unknown id.

        :param integration_id: its id.
        :param idempotency_key: the request's ``Idempotency-Key``.
        """
        with self._lock:
            self._advance()
            integration, now = self._integrations.get(integration_id), self._clock()
            if integration is None:
                return None
            remembered = (integration_id, idempotency_key or "")
            if idempotency_key and self._switches.honour_idempotency_key:
                at, sync_id = self._answered.get(remembered, (-math.inf, ""))
                if now - at < DAY:
                    return sync_id, f"the same answer as before, {sync_id}: nothing new was started"
            current = integration.active[-1] if integration.active else integration.scripted_run
            if current is not None and self._switches.when_running == "conflict":
                return None, f"{current.sync_id} is running already"
            if current is not None and self._switches.when_running == "join":
                answer = current.sync_id, f"joined {current.sync_id}, which is running already"
            else:
                answer = self._start(integration, idempotency_key, now)
            if idempotency_key:
                self._answered[remembered] = now, answer[0]
            return answer

    # Inside

    def _start(self, integration: SimulatedIntegration, idempotency_key: str | None, now: float) -> tuple[str, str]:
        scripted = bool(integration.scripts_after_sync)
        if scripted:
            sync = integration.sync or self._default_sync
            self.script(integration.id, integration.scripts_after_sync.popleft())
        else:
            planned = integration.planned
            sync = planned.popleft() if planned else integration.sync or self._default_sync
        run = self._new_run(integration, "manual", sync, now, idempotency_key=idempotency_key, scripted=scripted)
        if scripted:
            integration.scripted_run = run
            return run.sync_id, f"started {run.sync_id}, as scripted"
        queued = bool(integration.active)
        integration.begin(run)
        self._touch(integration)
        return run.sync_id, f"{'queued' if queued else 'started'} {run.sync_id}"

    def _next_scene(self, integration: SimulatedIntegration) -> None:
        if integration.script:
            self._show(integration, integration.script.popleft())
            self._touch(integration)
        if not integration.script:
            integration.scripted_run = None
            self._scripted.discard(integration.id)
